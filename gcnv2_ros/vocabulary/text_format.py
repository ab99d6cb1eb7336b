# SPDX-License-Identifier: Apache-2.0
"""DBoW2's text format, as ORB-SLAM2, ORB-SLAM3 and their forks load it (the format of ``ORBvoc.txt``).

Line 1 is ``k L scoring weighting``; each further line is a node, ``parent leaf b0 ... b31 weight``, the root excluded.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ..features import DESCRIPTOR_BYTES
from .tree import Vocabulary, VocabularyError, check_header

_TOKENS = DESCRIPTOR_BYTES + 3
_BYTE_OF = {str(value).encode(): value for value in range(256)}
_FLAGS = (b"0", b"1")
_LARGEST_WEIGHT = float(np.finfo(np.float32).max)
_BLOCK = 4096
# More are no number of a node; int() refuses thousands of them with an error of its own.
_MOST_DIGITS = 18


def read_text(lines: Iterable[bytes], path: str | Path) -> Vocabulary:
    """Read the text format.

    Parameters
    ----------
    lines
        Of the file, such as an open binary stream. Blank ones are skipped.
    path
        For messages.

    Raises
    ------
    VocabularyError
        If a line is not of the format or the nodes form no tree; the sentence names file and line.
    """
    rows = ((number, line.split()) for number, line in enumerate(lines, start=1) if line.strip())
    first = next(rows, None)
    if first is None:
        raise VocabularyError(f"{path} is empty; a vocabulary begins with the line 'k L scoring weighting'")
    header = _header(first, path)
    parent, weights = array("i", [-1]), array("d", [0.0])
    descriptors, flags = bytearray(DESCRIPTOR_BYTES), bytearray(1)
    line_of = array("q", [first[0]])
    for number, tokens in rows:
        where = f"{path}, line {number}"
        if len(tokens) != _TOKENS:
            raise VocabularyError(
                f"{where}: a node has {_TOKENS} values (parent, leaf, {DESCRIPTOR_BYTES} bytes, weight), "
                f"found {len(tokens)}; the file may be cut off"
            )
        above, flag, weight = tokens[0], tokens[1], tokens[-1]
        if not _is_number(above) or int(above) >= len(parent):
            raise VocabularyError(
                f"{where}: the parent must be one of the nodes before, 0 to {len(parent) - 1}, got {_shown(above)}"
            )
        if flag not in _FLAGS:
            raise VocabularyError(f"{where}: the leaf flag must be 0 or 1, got {_shown(flag)}")
        try:
            descriptors += bytes(map(_BYTE_OF.__getitem__, tokens[2:-1]))
        except KeyError as error:
            raise VocabularyError(
                f"{where}: a descriptor's bytes must be numbers from 0 to 255, got {_shown(error.args[0])}"
            ) from None
        weights.append(_weight(weight, where))
        parent.append(int(above))
        flags += flag
        line_of.append(number)
    if len(parent) == 1:
        raise VocabularyError(f"{path} has a first line, but no node follows it")
    try:
        vocabulary = Vocabulary(
            header[0],
            header[1],
            np.frombuffer(parent, np.dtype("i")),
            np.frombuffer(descriptors, np.uint8).reshape(-1, DESCRIPTOR_BYTES),
            np.frombuffer(weights).astype(np.float32),
            *check_header(*header),
        )
    except VocabularyError as error:
        where = f"{path}" if error.node is None else f"{path}, line {line_of[error.node]}"
        raise VocabularyError(f"{where}: {error}", node=error.node) from error
    node = first_wrong_flag(vocabulary, np.frombuffer(flags, np.uint8) == ord("1"))
    if node is not None:
        raise VocabularyError(
            f"{path}, line {line_of[node]}: node {node} has the leaf flag {chr(flags[node])}, "
            f"but {'no node has' if flags[node] == ord('0') else 'another node has'} it for a parent",
            node=node,
        )
    return vocabulary


def write_text(vocabulary: Vocabulary, stream: IO[bytes]) -> None:
    """Write the text format.

    There is no line break after the last line: the loaders of ORB-SLAM would take an empty line for one more node.
    """
    header = (vocabulary.branching, vocabulary.depth, vocabulary.scoring, vocabulary.weighting)
    stream.write(" ".join(str(int(value)) for value in header).encode())
    for lines in _node_lines(vocabulary):
        stream.write(lines.encode())


def first_wrong_flag(vocabulary: Vocabulary, flagged: np.ndarray) -> int | None:
    """The first node, the root apart, whose leaf flag (bool (N,)) is not what the tree says; None if all agree."""
    wrong = flagged[1:] != (vocabulary.word_of_node[1:] >= 0)
    return int(wrong.argmax()) + 1 if wrong.any() else None


def _node_lines(vocabulary: Vocabulary) -> Iterator[str]:
    """Blocks of lines, each with a line break before it."""
    names = [str(value) for value in range(256)]
    leaf = (vocabulary.word_of_node >= 0).astype(int)
    for start in range(1, len(vocabulary.parent), _BLOCK):
        block = slice(start, start + _BLOCK)
        rows = zip(
            vocabulary.parent[block].tolist(),
            leaf[block].tolist(),
            vocabulary.descriptors[block].tolist(),
            vocabulary.weights[block],
        )
        yield "".join(
            f"\n{above} {flag} {' '.join([names[byte] for byte in descriptor])} {_number(weight)}"
            for above, flag, descriptor, weight in rows
        )


def _number(weight: np.float32) -> str:
    """The fewest digits that give the same float32 again."""
    return "0" if weight == 0 else str(weight)


def _weight(token: bytes, where: str) -> float:
    try:
        value = float(token)
    except ValueError:
        value = math.nan
    # Underscores between digits are Python's way of writing numbers, and no other loader's.
    if not 0 <= value <= _LARGEST_WEIGHT or b"_" in token:
        raise VocabularyError(
            f"{where}: the weight must be a number from 0 to {_LARGEST_WEIGHT:.3g}, got {_shown(token)}"
        )
    return value


def _header(row: tuple[int, list[bytes]], path: str | Path) -> list[int]:
    number, tokens = row
    where = f"{path}, line {number}"
    if len(tokens) != 4 or not all(map(_is_number, tokens)):
        raise VocabularyError(
            f"{where}: a vocabulary begins with four numbers, 'k L scoring weighting' (such as '10 6 0 0'), "
            f"got {_shown(b' '.join(tokens))}"
        )
    values = [int(token) for token in tokens]
    try:
        check_header(*values)
    except VocabularyError as error:
        raise VocabularyError(f"{where}: {error}") from error
    return values


def _is_number(token: bytes) -> bool:
    return token.isdigit() and len(token) <= _MOST_DIGITS


def _shown(token: bytes) -> str:
    """A token for a message, of bounded length."""
    text = token.decode("ascii", "backslashreplace")
    return repr(text if len(text) <= 40 else text[:40] + "...")
