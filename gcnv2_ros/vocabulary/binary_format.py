# SPDX-License-Identifier: Apache-2.0
"""The binary format that some forks of ORB-SLAM2 load, GCNv2's among them; all little-endian.

Header: uint32 nodes (root included), uint32 bytes a node (41), int32 k, L, scoring, weighting. Then each node but the
root: uint32 parent, 32 bytes, float32 weight, uint8 leaf.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

import numpy as np

from ..features import DESCRIPTOR_BYTES
from .text_format import first_wrong_flag
from .tree import Vocabulary, VocabularyError, check_header

_HEADER = struct.Struct("<2I4i")
_NODE = np.dtype([("parent", "<u4"), ("descriptor", "u1", DESCRIPTOR_BYTES), ("weight", "<f4"), ("leaf", "u1")])


def is_binary(beginning: bytes) -> bool:
    """Whether a file that begins so (8 bytes or more) is of the binary format."""
    return beginning[4:8] == struct.pack("<I", _NODE.itemsize)


def read_binary(content: bytes, path: str | Path) -> Vocabulary:
    """Read the binary format.

    Parameters
    ----------
    content
        Of the file.
    path
        For messages.

    Raises
    ------
    VocabularyError
        If the content is not of the format; the sentence names file and node.
    """
    if len(content) < _HEADER.size:
        raise VocabularyError(f"{path} has {len(content)} bytes, the header of a binary vocabulary {_HEADER.size}")
    count, record, *header = _HEADER.unpack_from(content)
    if record != _NODE.itemsize:
        raise VocabularyError(
            f"{path} has {record} bytes a node, expected {_NODE.itemsize}; it is no vocabulary of "
            f"{DESCRIPTOR_BYTES}-byte descriptors"
        )
    expected = _HEADER.size + _NODE.itemsize * max(count - 1, 0)
    if len(content) != expected:
        raise VocabularyError(
            f"{path} has {len(content)} bytes where its {count} nodes take {expected}; it may be cut off"
        )
    nodes = np.frombuffer(content, _NODE, offset=_HEADER.size)
    wrong = (nodes["parent"] > np.arange(len(nodes))) | (nodes["leaf"] > 1)
    if wrong.any():
        node = int(wrong.argmax())
        raise VocabularyError(
            f"{path}, node {node + 1}: the parent must be a node before and the leaf flag 0 or 1, "
            f"got {nodes['parent'][node]} and {nodes['leaf'][node]}",
            node=node + 1,
        )
    try:
        vocabulary = Vocabulary(
            header[0],
            header[1],
            np.concatenate([[-1], nodes["parent"].astype(np.int32)]),
            np.concatenate([np.zeros((1, DESCRIPTOR_BYTES), np.uint8), nodes["descriptor"]]),
            np.concatenate([[0.0], nodes["weight"]]),
            *check_header(*header),
        )
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}", node=error.node) from error
    node_or_none = first_wrong_flag(vocabulary, np.concatenate([[False], nodes["leaf"] == 1]))
    if node_or_none is not None:
        raise VocabularyError(
            f"{path}, node {node_or_none}: the leaf flag is {nodes['leaf'][node_or_none - 1]}, but the node has "
            f"{'no children' if vocabulary.word_of_node[node_or_none] >= 0 else 'children'}",
            node=node_or_none,
        )
    return vocabulary


def write_binary(vocabulary: Vocabulary, stream: IO[bytes]) -> None:
    """Write the binary format."""
    nodes = np.empty(len(vocabulary.parent) - 1, _NODE)
    nodes["parent"] = vocabulary.parent[1:]
    nodes["descriptor"] = vocabulary.descriptors[1:]
    nodes["weight"] = vocabulary.weights[1:]
    nodes["leaf"] = vocabulary.word_of_node[1:] >= 0
    header = (vocabulary.branching, vocabulary.depth, vocabulary.scoring, vocabulary.weighting)
    stream.write(_HEADER.pack(len(vocabulary.parent), _NODE.itemsize, *header))
    stream.write(nodes.tobytes())
