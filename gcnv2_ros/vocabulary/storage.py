# SPDX-License-Identifier: Apache-2.0
"""Vocabulary files: text, text packed with xz, or binary."""

from __future__ import annotations

import lzma
from pathlib import Path

from ..files import atomic_path
from .binary_format import is_binary, read_binary, write_binary
from .text_format import read_text, write_text
from .tree import Vocabulary, VocabularyError

_XZ_MAGIC = b"\xfd7zXZ\x00"
_SUFFIXES = (".txt", ".txt.xz", ".bin")


def load_vocabulary(path: str | Path) -> Vocabulary:
    """Read a vocabulary; what the file is (text, text packed with xz, binary) its first bytes tell.

    Raises
    ------
    VocabularyError
        If the file cannot be read or is no valid vocabulary; the sentence names file and line.
    """
    try:
        with Path(path).open("rb") as stream:
            beginning = stream.read(8)
            stream.seek(0)
            if is_binary(beginning):
                return read_binary(stream.read(), path)
            if beginning.startswith(_XZ_MAGIC):
                with lzma.open(stream) as unpacked:
                    return read_text(unpacked, path)
            return read_text(stream, path)
    except OSError as error:
        raise VocabularyError(f"cannot read the vocabulary {path}: {error.strerror or error}") from error
    except (lzma.LZMAError, EOFError) as error:
        raise VocabularyError(f"{path} is a broken xz file ({error}); it may be cut off") from error


def save_vocabulary(vocabulary: Vocabulary, path: str | Path) -> None:
    """Write a vocabulary in the form that the name asks for: ``.txt``, ``.txt.xz`` or ``.bin``.

    Raises
    ------
    VocabularyError
        If the name asks for none of them, or the file cannot be written.
    """
    check_name(path)
    name = Path(path).name
    try:
        with atomic_path(path) as temporary:
            if name.endswith(".xz"):
                with lzma.open(temporary, "wb") as packed:
                    write_text(vocabulary, packed)
            else:
                with temporary.open("wb") as stream:
                    (write_binary if name.endswith(".bin") else write_text)(vocabulary, stream)
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
