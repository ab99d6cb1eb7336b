# SPDX-License-Identifier: Apache-2.0
"""Training a vocabulary: k-majority clustering, level by level, and weights from how rare a word is.

Galvez-Lopez, Tardos, "Bags of Binary Words for Fast Place Recognition in Image Sequences", T-RO 2012, section III;
Grana, Borghesani, Manfredi, Cucchiara, "A Fast Approach for Integrating ORB Descriptors in the Bag of Words Model",
2013 (k-majority); Arthur, Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..features import DESCRIPTOR_BITS, DESCRIPTOR_BYTES
from ..hamming import Words, as_words, distances, nearest
from .tree import LEVELS_UP, MAX_BRANCHING, MAX_DEPTH, Vocabulary, VocabularyError, check_descriptors

# The clusters of real descriptors settle well before; a cycle among equally good partitions must end somewhere.
_MAX_ITERATIONS = 50

# Descriptors whose bits are counted at a time: as float32 they take 8 MB.
_BLOCK = 8192


def train_vocabulary(
    images: Sequence[NDArray[np.uint8]], *, branching: int = 10, depth: int = 5, seed: int = 0
) -> Vocabulary:
    """Train a vocabulary from the descriptors of images.

    Parameters
    ----------
    images
        For each image its descriptors, uint8 (M, 32); M may be 0.
    branching
        Children of a node, k, 2-20; fewer where a node has fewer different descriptors.
    depth
        Levels, L, 1-10: at most k^L words.
    seed
        Of the choice of first centres; the same images and seed give the same vocabulary.

    Returns
    -------
    Vocabulary
        L1 scores, TF-IDF weights ln(images / images with the word). Siblings are together, then depth comes first.

    Raises
    ------
    VocabularyError
        If an argument is out of its range, or fewer than two images have descriptors.
    """
    check_shape(branching, depth)
    for descriptors in images:
        check_descriptors(descriptors)
    counts = [len(descriptors) for descriptors in images]
    if sum(count > 0 for count in counts) < 2:
        raise VocabularyError(
            f"a vocabulary is trained from at least two images with descriptors, "
            f"got {sum(count > 0 for count in counts)} of {len(counts)}"
        )
    descriptors = np.concatenate(images)
    parent, centres, leaf = _grow(descriptors, branching, depth, np.random.default_rng(seed))
    image = np.repeat(np.arange(len(counts)), counts)
    # Each pair of word and image once.
    pairs = np.unique(leaf.astype(np.int64) * len(counts) + image)
    images_with = np.bincount(pairs // len(counts), minlength=len(parent))
    weights = np.zeros(len(parent), np.float32)
    words = images_with > 0
    weights[words] = np.log(len(counts) / images_with[words])
    return Vocabulary(branching, depth, parent, centres, weights)


def check_shape(branching: int, depth: int) -> None:
    """Refuse a tree that `train_vocabulary` does not make.

    Raises
    ------
    VocabularyError
        With the argument that is out of its range.
    """
    if not 2 <= branching <= MAX_BRANCHING:
        raise VocabularyError(f"the branching factor must be from 2 to {MAX_BRANCHING}, got {branching}")
    if not 1 <= depth <= MAX_DEPTH:
        raise VocabularyError(f"the depth must be from 1 to {MAX_DEPTH}, got {depth}")


def k_majority(
    descriptors: NDArray[np.uint8], count: int, generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Cluster binary descriptors: each centre holds the bits that most of its descriptors have (a tie gives 1).

    Centres begin with k-means++: a descriptor is drawn with a probability proportional to its Hamming distance, which
    is the squared Euclidean one of bits, to the nearest centre drawn before.

    Parameters
    ----------
    descriptors
        uint8 (N, 32), N at least 1.
    count
        Clusters wanted.
    generator
        Of random numbers.

    Returns
    -------
    tuple of numpy.ndarray
        uint8 (K, 32) centres, all different, and intp (N,) the nearest centre of each descriptor. K is less than
        `count` where there are fewer different descriptors, or where a cluster ran empty.
    """
    if len(descriptors) <= count:
        # Most groups of the lowest level: each different descriptor is a cluster of its own.
        first: dict[bytes, int] = {}
        label = np.array([first.setdefault(row.tobytes(), len(first)) for row in descriptors], np.intp)
        return np.frombuffer(b"".join(first), np.uint8).reshape(-1, DESCRIPTOR_BYTES), label
    columns = np.ascontiguousarray(as_words(descriptors).T)
    centres = np.ascontiguousarray(descriptors[_seeds(columns, count, generator)])
    count = len(centres)
    ones = np.zeros((count, DESCRIPTOR_BITS), np.int64)
    label = np.full(len(descriptors), count, np.intp)
    for _ in range(_MAX_ITERATIONS):
        previous, label = label, nearest(columns, as_words(centres).T)
        moved = np.flatnonzero(label != previous)
        if len(moved) == 0:
            break
        # Only what moved is counted anew: after the first few rounds that is little.
        ones += _change_of_ones(descriptors, moved, label, previous, count)
        size = np.bincount(label, minlength=count)[:, None]
        centres = np.where(size > 0, np.packbits(2 * ones >= size, axis=1), centres)
    else:
        label = nearest(columns, as_words(centres).T)
    used, label = np.unique(label, return_inverse=True)
    return centres[used], label


def _grow(
    descriptors: NDArray[np.uint8], branching: int, depth: int, generator: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int32]]:
    """Parents, centres and, for each descriptor, the leaf that its look-up ends at."""
    parents = [np.array([-1], np.int32)]
    centres = [np.zeros((1, DESCRIPTOR_BYTES), np.uint8)]
    leaf = np.zeros(len(descriptors), np.int32)
    nodes = 1
    pending = [(0, 0, np.arange(len(descriptors)))]
    while pending:
        node, level, members = pending.pop()
        group = descriptors[members]
        # A group of equal descriptors is a word, but not so high that a tracker finds no node above it.
        if level == depth or (level >= max(depth - LEVELS_UP, 1) and bool((group == group[0]).all())):
            leaf[members] = node
            continue
        found, label = k_majority(group, branching, generator)
        parents.append(np.full(len(found), node, np.int32))
        centres.append(found)
        by_label = np.split(members[np.argsort(label, kind="stable")], np.cumsum(np.bincount(label))[:-1])
        # The last is taken first.
        pending += [(nodes + child, level + 1, by_label[child]) for child in reversed(range(len(found)))]
        nodes += len(found)
    return np.concatenate(parents), np.concatenate(centres), leaf


def _seeds(columns: Words, count: int, generator: np.random.Generator) -> list[int]:
    """Positions of up to `count` different descriptors, drawn as k-means++ does."""
    total = columns.shape[1]
    chosen = [int(generator.random() * total)]
    apart = distances(columns, columns[:, chosen])[0]
    while len(chosen) < count and apart.any():
        cumulative = np.cumsum(apart, dtype=np.int64)
        chosen.append(int(np.searchsorted(cumulative, int(generator.random() * cumulative[-1]), side="right")))
        apart = np.minimum(apart, distances(columns, columns[:, chosen[-1:]])[0])
    return chosen


def _change_of_ones(
    descriptors: NDArray[np.uint8],
    moved: NDArray[np.intp],
    label: NDArray[np.intp],
    previous: NDArray[np.intp],
    count: int,
) -> NDArray[np.int64]:
    """By how much the moved descriptors change each cluster's number of ones, int64 (count, 256).

    The cluster number `count` stands for none.
    """
    change = np.zeros((count, DESCRIPTOR_BITS), np.int64)
    for start in range(0, len(moved), _BLOCK):
        rows = moved[start : start + _BLOCK]
        member = np.zeros((count + 1, len(rows)), np.float32)
        member[label[rows], np.arange(len(rows))] = 1.0
        member[previous[rows], np.arange(len(rows))] = -1.0
        bits = np.unpackbits(descriptors[rows], axis=1).astype(np.float32)
        # Sums of a few thousand ones are exact in float32.
        change += (member[:count] @ bits).astype(np.int64)
    return change
