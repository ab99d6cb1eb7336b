# SPDX-License-Identifier: Apache-2.0
"""Vocabulary files: text or binary, as they are or packed with xz."""

from __future__ import annotations

import lzma
import tempfile
from pathlib import Path
from typing import IO

from ..files import atomic_path, check_file, user_path
from .binary_format import is_binary, read_binary, write_binary
from .description import check_weights, load_description, shipped_vocabulary
from .text_format import read_text, write_text
from .tree import Vocabulary, VocabularyError

DEFAULT_SOURCE = "default"

_XZ_MAGIC = b"\xfd7zXZ\x00"
_SUFFIXES = (".txt", ".txt.xz", ".bin", ".bin.xz")


def load_vocabulary(source: str | Path, *, model: str = "gcnv2_tiny", weights_sha256: str | None = None) -> Vocabulary:
    """Read a vocabulary; what the file is (text or binary, packed with xz or not) its first bytes tell.

    Parameters
    ----------
    source
        The file, or ``"default"`` for the one that the package ships for `model`.
    model
        Name of the network; only for ``"default"``.
    weights_sha256
        Of the weights whose descriptors the vocabulary is wanted for, as `ModelInfo` has it. A vocabulary that says
        that it belongs to others is refused. None: not checked, and for ``"default"`` the weights that are shipped.

    Raises
    ------
    VocabularyError
        If the file cannot be read, is no valid vocabulary, or belongs to other weights; the sentence names file and
        line.
    """
    path = vocabulary_path(source, model=model, weights_sha256=weights_sha256)
    is_file = str(source) != DEFAULT_SOURCE
    if is_file and weights_sha256 is not None and (description := load_description(path)) is not None:
        check_weights(path, description, weights_sha256)
    try:
        with path.open("rb") as stream:
            if stream.read(len(_XZ_MAGIC)) != _XZ_MAGIC:
                return _read(stream, path)
            stream.seek(0)
            with lzma.open(stream) as unpacked:
                return _read(unpacked, path)
    except OSError as error:
        raise VocabularyError(f"cannot read the vocabulary {path}: {error.strerror or error}") from error
    except (lzma.LZMAError, EOFError) as error:
        raise VocabularyError(f"{path} is a broken xz file ({error}); it may be cut off") from error


def vocabulary_path(source: str | Path, *, model: str = "gcnv2_tiny", weights_sha256: str | None = None) -> Path:
    """The file that `load_vocabulary` reads for the same arguments.

    Raises
    ------
    VocabularyError
        If the package ships none for them, or there is no home folder of the name that `source` begins with.
    """
    if str(source) == DEFAULT_SOURCE:
        return shipped_vocabulary(model, weights_sha256)
    return user_path(source, VocabularyError)


def check_model(source: str | Path, model: str) -> None:
    """Refuse a vocabulary that says that it is of another model's descriptors: ORB's have no weights to tell by.

    Raises
    ------
    VocabularyError
        With both models.
    """
    path = vocabulary_path(source, model=model)
    description = load_description(path)
    if description is not None and description.model != model:
        raise VocabularyError(
            f"the vocabulary {path} belongs to descriptors of {description.model}, not to those of {model}: the words "
            "of other descriptors mean nothing; train one with this model (`gcnv2 vocab train`)"
        )


def _read(stream: IO[bytes], path: Path) -> Vocabulary:
    stream.seek(0)
    beginning = stream.read(8)
    stream.seek(0)
    return read_binary(stream.read(), path) if is_binary(beginning) else read_text(stream, path)


def save_vocabulary(vocabulary: Vocabulary, path: str | Path) -> None:
    """Write a vocabulary in the form that the name asks for: ``.txt`` or ``.bin``, with ``.xz`` packed.

    Raises
    ------
    VocabularyError
        If the name asks for none of them, or the file cannot be written.
    """
    _check_name(path)
    name = Path(path).name
    try:
        with atomic_path(path) as temporary:
            write = write_binary if name.removesuffix(".xz").endswith(".bin") else write_text
            packed = name.endswith(".xz")
            with lzma.open(temporary, "wb") if packed else temporary.open("wb") as stream:
                write(vocabulary, stream)
    except OSError as error:
        raise VocabularyError(f"cannot write the vocabulary {path}: {error.strerror or error}") from error


def check_target(path: str | Path) -> None:
    """Refuse a file that no vocabulary can be written to, before the work that would be lost.

    Raises
    ------
    VocabularyError
        If its name asks for no form of vocabulary, or nothing can be written there.
    """
    _check_name(path)
    target = Path(path)
    try:
        check_file(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise VocabularyError(f"cannot write the vocabulary {path}: {error.strerror or error}") from error


def _check_name(path: str | Path) -> None:
    if not Path(path).name.endswith(_SUFFIXES):
        raise VocabularyError(f"a vocabulary file ends in {', '.join(_SUFFIXES)}; got {path}")
