# SPDX-License-Identifier: Apache-2.0
"""Vocabulary: a tree of binary descriptors whose leaves are words, and the look-up of descriptors in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from ..errors import GCNv2Error
from ..features import DESCRIPTOR_BYTES
from ..hamming import WORDS, as_words, count_bits

# The trackers that load vocabularies group the features of an image by the node that lies so far above the leaves.
LEVELS_UP = 4

MAX_BRANCHING = 20
MAX_DEPTH = 10

# Descriptors looked up at a time: bounds the memory to a few megabytes.
_BLOCK = 4096


class VocabularyError(GCNv2Error):
    """A vocabulary that cannot be read, built or used.

    Attributes
    ----------
    node
        Id of the node that is wrong; None where it is no single one.
    """

    def __init__(self, message: str, *, node: int | None = None) -> None:
        super().__init__(message)
        self.node = node


class Scoring(IntEnum):
    """How two bags of words are compared, numbered as in the files."""

    L1_NORM = 0
    L2_NORM = 1
    CHI_SQUARE = 2
    KL = 3
    BHATTACHARYYA = 4
    DOT_PRODUCT = 5


class Weighting(IntEnum):
    """What a word counts for in a bag, numbered as in the files."""

    TF_IDF = 0
    TF = 1
    IDF = 2
    BINARY = 3


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A hierarchical vocabulary of 256-bit descriptors.

    Node 0 is the root. Every other node comes after its parent; the order is that of the file, for ids count in it.
    A node without children is a word, and words are numbered in the order of their nodes.

    Attributes
    ----------
    branching
        Most children of a node, k, 0-20.
    depth
        Levels below the root, L, 1-10. Leaves lie at depths from L - 4 to L.
    parent
        int32 (N,), the root's is -1.
    descriptors
        uint8 (N, 32), the root's is not used.
    weights
        float32 (N,), ln(images / images with the word) for words and 0 for other nodes; a word of weight 0 is ignored.
    scoring, weighting
        What the vocabulary was made for.
    node_of_word
        int32 (W,), ascending; made by the constructor, as the next.
    word_of_node
        int32 (N,), -1 for nodes that are no words.

    Raises
    ------
    VocabularyError
        If the arrays do not form such a tree.
    """

    branching: int
    depth: int
    parent: NDArray[np.int32]
    descriptors: NDArray[np.uint8]
    weights: NDArray[np.float32]
    scoring: Scoring = Scoring.L1_NORM
    weighting: Weighting = Weighting.TF_IDF
    node_of_word: NDArray[np.int32] = field(init=False, repr=False)
    word_of_node: NDArray[np.int32] = field(init=False, repr=False)
    _children: NDArray[np.int32] = field(init=False, repr=False)
    _first_child: NDArray[np.int32] = field(init=False, repr=False)
    _child_count: NDArray[np.int32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        scoring, weighting = check_header(self.branching, self.depth, self.scoring, self.weighting)
        set_field(self, "scoring", scoring)
        set_field(self, "weighting", weighting)
        parent = np.ascontiguousarray(self.parent, np.int32)
        descriptors = np.ascontiguousarray(self.descriptors)
        weights = np.ascontiguousarray(self.weights, np.float32)
        count = len(parent)
        if descriptors.shape != (count, DESCRIPTOR_BYTES) or descriptors.dtype != np.uint8:
            raise VocabularyError(
                f"descriptors must be uint8 ({count}, {DESCRIPTOR_BYTES}) to go with parent, "
                f"got {descriptors.dtype} {descriptors.shape}"
            )
        if parent.ndim != 1 or weights.shape != (count,):
            raise VocabularyError(
                f"parent and weights must be of one length, got shapes {parent.shape} and {weights.shape}"
            )
        child_count = _check_tree(self.branching, self.depth, parent, weights)
        leaf = child_count == 0
        word_of_node = np.where(leaf, np.cumsum(leaf) - 1, -1).astype(np.int32)
        set_field(self, "parent", parent)
        set_field(self, "descriptors", descriptors)
        set_field(self, "weights", weights)
        set_field(self, "node_of_word", np.flatnonzero(leaf).astype(np.int32))
        set_field(self, "word_of_node", word_of_node)
        set_field(self, "_children", np.argsort(parent[1:], kind="stable").astype(np.int32) + 1)
        set_field(self, "_first_child", (np.cumsum(child_count) - child_count).astype(np.int32))
        set_field(self, "_child_count", child_count.astype(np.int32))

    def __len__(self) -> int:
        """Number of words."""
        return len(self.node_of_word)

    def look_up(
        self, descriptors: NDArray[np.uint8], *, levels_up: int = LEVELS_UP
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The word of each descriptor, and the node above it that the direct index files it under.

        From the root on, the nearest child is taken until a node has none; among equally near ones the first.

        Parameters
        ----------
        descriptors
            uint8 (M, 32).
        levels_up
            The node's depth is that of the vocabulary less this, and 0 (the root) at least.

        Returns
        -------
        tuple of numpy.ndarray
            int32 (M,) words and int32 (M,) nodes. A word less deep than the node should be stands for the node itself.

        Raises
        ------
        VocabularyError
            If `descriptors` is of another shape or type, or `levels_up` is negative.
        """
        check_descriptors(descriptors)
        if levels_up < 0:
            raise VocabularyError(f"levels_up must not be negative, got {levels_up}")
        leaves = np.zeros(len(descriptors), np.int32)
        nodes = np.zeros(len(descriptors), np.int32)
        words = as_words(descriptors)
        for start in range(0, len(descriptors), _BLOCK):
            block = slice(start, start + _BLOCK)
            leaves[block], nodes[block] = self._descend(words[block], max(self.depth - levels_up, 0))
        return self.word_of_node[leaves], nodes

    def _descend(self, words: NDArray[np.uint64], node_depth: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Leaves of a block of descriptors, and the nodes passed at `node_depth`."""
        node_words = as_words(self.descriptors)
        slots = np.arange(self.branching, dtype=np.int32)
        current = np.zeros(len(words), np.int32)
        passed = current.copy()
        for depth in range(1, self.depth + 1):
            inner = np.flatnonzero(self._child_count[current])
            above = current[inner]
            # Empty slots repeat the last child, which then never wins against itself: the first of equals does.
            slot = np.minimum(slots, self._child_count[above, None] - 1)
            children = self._children[self._first_child[above, None] + slot]
            apart = count_bits(node_words[children] ^ words[inner, None, :])
            closest = apart.sum(axis=2, dtype=np.uint16).argmin(axis=1)
            current[inner] = children[np.arange(len(inner)), closest]
            if depth <= node_depth:
                passed = current.copy()
        return current, passed


def check_header(branching: int, depth: int, scoring: int, weighting: int) -> tuple[Scoring, Weighting]:
    """Check the four numbers that a file begins with.

    Raises
    ------
    VocabularyError
        If one is out of its range.
    """
    for name, value, lowest, highest in (
        ("the branching factor k", branching, 0, MAX_BRANCHING),
        ("the depth L", depth, 1, MAX_DEPTH),
        ("the scoring", scoring, 0, max(Scoring)),
        ("the weighting", weighting, 0, max(Weighting)),
    ):
        if not lowest <= value <= highest:
            raise VocabularyError(f"{name} must be from {lowest} to {int(highest)}, got {int(value)}")
    return Scoring(scoring), Weighting(weighting)


def check_descriptors(descriptors: NDArray) -> None:
    """Refuse what is not uint8 (M, 32).

    Raises
    ------
    VocabularyError
        With the shape and type met.
    """
    if descriptors.dtype != np.uint8 or descriptors.ndim != 2 or descriptors.shape[1] != 8 * WORDS:
        raise VocabularyError(
            f"a vocabulary takes binary descriptors, uint8 (N, {DESCRIPTOR_BYTES}), "
            f"got {descriptors.dtype} {descriptors.shape}"
        )


def _check_tree(
    branching: int, depth: int, parent: NDArray[np.int32], weights: NDArray[np.float32]
) -> NDArray[np.intp]:
    """Check that the nodes form the tree that `Vocabulary` describes; the number of children of each, intp (N,)."""
    count = len(parent)
    if count < 2 or parent[0] != -1:
        raise VocabularyError("a vocabulary needs a root with the parent -1 and at least one more node")
    most = sum(branching**level for level in range(depth + 1))
    if count > most:
        raise VocabularyError(f"{count} nodes with the root are more than k = {branching}, L = {depth} allow ({most})")

    def refuse(wrong: NDArray[np.bool_], sentence: str) -> None:
        if wrong.any():
            node = int(wrong.argmax())
            raise VocabularyError(f"node {node} (parent {parent[node]}, weight {weights[node]}) {sentence}", node=node)

    ids = np.arange(count)
    refuse((ids > 0) & ((parent < 0) | (parent >= ids)), "must come after its parent")
    refuse(~np.isfinite(weights) | (weights < 0), "must have a finite weight that is not negative")
    child_count = np.bincount(parent[1:], minlength=count)
    refuse(child_count > branching, f"has more than k = {branching} children")
    depth_of = np.zeros(count, np.int8)
    ancestor = parent
    for _ in range(depth + 1):
        depth_of += ancestor >= 0
        ancestor = np.where(ancestor >= 0, parent[ancestor], -1)
    refuse(depth_of > depth, f"lies deeper than L = {depth}")
    refuse(
        (child_count == 0) & (depth_of < depth - LEVELS_UP),
        f"is a word at a depth below L - {LEVELS_UP} = {depth - LEVELS_UP}, "
        "where trackers that look up nodes would find none",
    )
    return child_count
