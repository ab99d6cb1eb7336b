# SPDX-License-Identifier: Apache-2.0
"""Which keyframes a lost camera may be looking at, and the words that tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..features import DESCRIPTOR_BYTES, Features
from ..hamming import nearest_of_many
from ..matching import match_descriptors
from ..vocabulary import BagOfWords, Vocabulary, bag_of_words, l1_scores
from .keyframes import Keyframe, KeyframeMap

DESCRIPTORS_WITH_WORDS = ("hamming", DESCRIPTOR_BYTES)
"""`Features.kind` of the descriptors that vocabularies are made of."""

# Without a vocabulary the strongest keypoints alone are compared with the points of the whole map.
_VOTERS = 200


def words_of(vocabulary: Vocabulary | None, features: Features) -> BagOfWords | None:
    """The words of an image; None without a vocabulary, and of other descriptors than it is made of."""
    if vocabulary is None or features.kind != DESCRIPTORS_WITH_WORDS:
        return None
    # Descriptors of two images are compared under a node of the first level: a tenth of all pairs, nearly all matches.
    return bag_of_words(vocabulary, np.asarray(features.descriptors, np.uint8), levels_up=vocabulary.depth - 1)


def likely_keyframes(
    world: KeyframeMap, features: Features, vocabulary: Vocabulary | None, count: int, max_distance: float | None
) -> list[Keyframe]:
    """Up to `count` keyframes that may show what `features` show, the likeliest first.

    With a vocabulary they are ranked by their words; without one by how many of their points are the nearest to one of
    the strongest keypoints, among all points of the map.
    """
    if len(features) == 0:
        return []
    words = words_of(vocabulary, features)
    if words is not None:
        bags = [keyframe.words for keyframe in world.keyframes if keyframe.words is not None]
        scores = l1_scores(words, bags)
        order = np.argsort(-scores, kind="stable")[:count]
        return [world.keyframes[index] for index in order if scores[index] > 0]
    return world.neighbours(_nearest_points(world, features, max_distance), count)


def _nearest_points(world: KeyframeMap, features: Features, max_distance: float | None) -> NDArray[np.intp]:
    """Numbers of the map's points that are the nearest to one of the strongest features, ascending, each once."""
    strongest = features.descriptors[:_VOTERS]
    if features.metric == "hamming":
        # Matching would unpack every bit of the whole map.
        points, bits = nearest_of_many(np.asarray(strongest, np.uint8), world.descriptors)
        return np.unique(points if max_distance is None else points[bits <= max_distance])
    matches = match_descriptors(
        strongest, world.descriptors, metric=features.metric, mutual=False, max_distance=max_distance
    )
    return np.unique(matches.index_b)
