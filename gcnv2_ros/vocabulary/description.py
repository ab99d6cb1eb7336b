# SPDX-License-Identifier: Apache-2.0
"""Which descriptors a vocabulary belongs to and what it was made from: a JSON file beside it, ``FILE.json``.

Words mean nothing to the descriptors of other weights, and nothing in the vocabulary's own format tells whose they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ..files import atomic_write, sha256_of
from .tree import VocabularyError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class VocabularyDescription:
    """What is known of a vocabulary.

    Attributes
    ----------
    sha256
        Of the vocabulary's file.
    model, weights_sha256
        The network and the weights that made the descriptors; no weights for ORB.
    input_sizes
        Inputs of the network, ``640x480``; ``image`` where it was the image's own size.
    max_keypoints
        Most keypoints of an image.
    images, descriptors
        How many there were.
    sources
        Name, number of images and terms of each folder; terms are the packages and licences that its ``corpus.json``
        names, and empty where there is none.
    branching, depth, seed
        Arguments of `train_vocabulary`.
    words
        Number of words.
    """

    sha256: str
    model: str
    weights_sha256: str | None
    input_sizes: tuple[str, ...]
    max_keypoints: int
    images: int
    descriptors: int
    sources: tuple[Mapping[str, Any], ...]
    branching: int
    depth: int
    seed: int
    words: int


def description_path(vocabulary: str | Path) -> Path:
    """The name of the description of a vocabulary's file."""
    return Path(f"{vocabulary}.json")


def save_description(description: VocabularyDescription, vocabulary: str | Path) -> None:
    """Write the description beside the vocabulary's file."""
    document = {"schema_version": SCHEMA_VERSION, **asdict(description)}
    atomic_write(description_path(vocabulary), json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def load_description(vocabulary: str | Path) -> VocabularyDescription | None:
    """The description beside a vocabulary's file; None if there is none.

    Raises
    ------
    VocabularyError
        If it cannot be read, or is of another file than that which lies there.
    """
    path = description_path(vocabulary)
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"schema_version is not {SCHEMA_VERSION}")
        document["input_sizes"], document["sources"] = tuple(document["input_sizes"]), tuple(document["sources"])
        description = VocabularyDescription(**document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VocabularyError(
            f"{path} is no description of a vocabulary ({error}); train the vocabulary anew, or delete the description "
            "to use the vocabulary unchecked"
        ) from error
    try:
        digest = sha256_of(vocabulary)
    except OSError as error:
        raise VocabularyError(f"cannot read the vocabulary {vocabulary}: {error.strerror or error}") from error
    if digest != description.sha256:
        raise VocabularyError(
            f"{path} describes another file than {vocabulary}: SHA-256 {digest}, expected {description.sha256}; train "
            "or convert the vocabulary anew, or delete the description to use the vocabulary unchecked"
        )
    return description


def terms_of(source: str | Path) -> dict[str, Any]:
    """Packages and licences of the pictures in a folder, as its ``corpus.json`` names them; empty without one."""
    path = Path(source) / "corpus.json"
    if not path.is_file():
        return {}
    try:
        packages: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["packages"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VocabularyError(f"{path} does not name the packages that the pictures are from: {error}") from error
    return packages


def shipped_vocabularies() -> tuple[str, ...]:
    """Names of the networks for which the package ships a vocabulary."""
    data = resources.files(__package__) / "data"
    return tuple(sorted(file.name.removesuffix(".bin.xz") for file in data.iterdir() if file.name.endswith(".bin.xz")))


def shipped_vocabulary(model: str, weights_sha256: str | None) -> Path:
    """The vocabulary that the package ships for a network.

    Parameters
    ----------
    model
        Name of the network.
    weights_sha256
        Of the weights whose descriptors it is wanted for; None: those that the package ships.

    Raises
    ------
    VocabularyError
        If there is none, or it belongs to other weights.
    """
    package = resources.files(__package__)
    path = Path(str(package / "data" / f"{model}.bin.xz"))
    description = load_description(path)
    if description is None:
        shipped = ", ".join(shipped_vocabularies()) or "none"
        raise VocabularyError(
            f"the package ships no vocabulary for {model} (shipped: {shipped}); train one with "
            "`gcnv2 vocab train` and give its file"
        )
    check_weights(path, description, _shipped_weights(model) if weights_sha256 is None else weights_sha256)
    return path


def check_weights(path: str | Path, description: VocabularyDescription, weights_sha256: str) -> None:
    """Refuse a vocabulary that belongs to other weights.

    Raises
    ------
    VocabularyError
        With both weights.
    """
    if description.weights_sha256 != weights_sha256:
        owner = description.model
        if description.weights_sha256 is not None:
            owner = f"the weights {description.weights_sha256} of {owner}"
        raise VocabularyError(
            f"the vocabulary {path} belongs to {owner}, not to {weights_sha256}: the words of other descriptors mean "
            "nothing; train one with these weights (`gcnv2 vocab train`)"
        )


def _shipped_weights(model: str) -> str:
    """SHA-256 of the weights that the package ships, from their list: importing `gcnv2_ros.weights` takes torch."""
    path = Path(str(resources.files("gcnv2_ros") / "weights" / "data" / "manifest.json"))
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["weights"][model]["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VocabularyError(f"{path} does not name weights of {model}; reinstall the package") from error
