# SPDX-License-Identifier: Apache-2.0
"""Vocabulary files: text or binary, as they are or packed with xz."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import IO

from ..files import atomic_path
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
    if str(source) == DEFAULT_SOURCE:
        path = shipped_vocabulary(model, weights_sha256)
    else:
        path = Path(source).expanduser()
        if weights_sha256 is not None and (description := load_description(path)) is not None:
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
    check_name(path)
    name = Path(path).name
    try:
        with atomic_path(path) as temporary:
            write = write_binary if name.removesuffix(".xz").endswith(".bin") else write_text
            packed = name.endswith(".xz")
            with lzma.open(temporary, "wb") if packed else temporary.open("wb") as stream:
                write(vocabulary, stream)
    except OSError as error:
        raise VocabularyError(f"cannot write the vocabulary {path}: {error.strerror or error}") from error


def check_name(path: str | Path) -> None:
    """Refuse a name that asks for no form of vocabulary, before the work that would be lost.

    Raises
    ------
    VocabularyError
        With the endings that there are.
    """
    if not Path(path).name.endswith(_SUFFIXES):
        raise VocabularyError(f"a vocabulary file ends in {', '.join(_SUFFIXES)}; got {path}")
