# SPDX-License-Identifier: Apache-2.0
"""Comparing images by their words: bag of words, direct index, L1 score.

Galvez-Lopez, Tardos, "Bags of Binary Words for Fast Place Recognition in Image Sequences", T-RO 2012, sections III, IV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .tree import LEVELS_UP, Scoring, Vocabulary, VocabularyError, Weighting


@dataclass(frozen=True, eq=False)
class BagOfWords:
    """The words of one image; W may be 0.

    Attributes
    ----------
    words
        int32 (W,), ascending.
    weights
        float64 (W,), positive, of sum 1.
    direct_index
        For each node some levels above the words, the positions of its descriptors, intp, ascending: descriptors of
        two images are worth comparing where they share a node.
    """

    words: NDArray[np.int32]
    weights: NDArray[np.float64]
    direct_index: dict[int, NDArray[np.intp]]

    def __len__(self) -> int:
        return len(self.words)


def check_scoring(vocabulary: Vocabulary) -> None:
    """Refuse a vocabulary that was made for scores that are not computed here.

    Raises
    ------
    VocabularyError
        With the scoring that it asks for.
    """
    if vocabulary.scoring is not Scoring.L1_NORM:
        raise VocabularyError(
            f"the vocabulary asks for the scoring {vocabulary.scoring.name}; only {Scoring.L1_NORM.name} is computed"
        )


def bag_of_words(vocabulary: Vocabulary, descriptors: NDArray[np.uint8], *, levels_up: int = LEVELS_UP) -> BagOfWords:
    """Describe an image by its words. Words of weight 0 are left out, of the direct index too.

    Parameters
    ----------
    vocabulary
        Made for L1 scores.
    descriptors
        uint8 (N, 32).
    levels_up
        How far above the words the nodes of the direct index lie.

    Raises
    ------
    VocabularyError
        If the vocabulary asks for another score, or as `Vocabulary.look_up`.
    """
    check_scoring(vocabulary)
    found, nodes = vocabulary.look_up(descriptors, levels_up=levels_up)
    counted = np.flatnonzero(vocabulary.weights[vocabulary.node_of_word[found]] > 0)
    words, occurrences = np.unique(found[counted], return_counts=True)
    weights = vocabulary.weights[vocabulary.node_of_word[words]].astype(np.float64)
    if vocabulary.weighting in (Weighting.TF_IDF, Weighting.TF):
        weights = weights * occurrences
    if len(weights):
        weights = weights / weights.sum()
    by_node = counted[np.argsort(nodes[counted], kind="stable")]
    distinct, first = np.unique(nodes[by_node], return_index=True)
    direct_index = dict(zip(distinct.tolist(), np.split(by_node, first[1:])))
    return BagOfWords(words, weights, direct_index)


def shared_nodes(a: BagOfWords, b: BagOfWords) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All pairs of descriptors of two images that the direct index files under one node, as positions in each."""
    nodes = [node for node in a.direct_index if node in b.direct_index]
    none = np.zeros(0, np.intp)
    first = [np.repeat(a.direct_index[node], len(b.direct_index[node])) for node in nodes]
    second = [np.tile(b.direct_index[node], len(a.direct_index[node])) for node in nodes]
    return np.concatenate([none, *first]), np.concatenate([none, *second])


def l1_score(a: BagOfWords, b: BagOfWords) -> float:
    """Similarity of two images in [0, 1]: 1 - |a - b| / 2 in the L1 norm; 0 with an empty bag."""
    return float(l1_scores(a, [b])[0])


def l1_scores(query: BagOfWords, bags: Sequence[BagOfWords]) -> NDArray[np.float64]:
    """`l1_score` of one image with each of many, float64 (len(bags),)."""
    if len(query) == 0 or len(bags) == 0:
        return np.zeros(len(bags))
    words = np.concatenate([bag.words for bag in bags])
    weights = np.concatenate([bag.weights for bag in bags])
    owner = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
    position = np.minimum(np.searchsorted(query.words, words), len(query) - 1)
    # Weights are positive and of sum 1, so what the two have in common is what their difference lacks.
    common = np.where(query.words[position] == words, np.minimum(query.weights[position], weights), 0.0)
    scores: NDArray[np.float64] = np.bincount(owner, common, minlength=len(bags)).astype(np.float64)
    return scores
