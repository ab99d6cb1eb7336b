# SPDX-License-Identifier: Apache-2.0
"""Which keyframes a lost camera may be looking at, and the words that tell."""

from __future__ import annotations

import numpy as np

from ..features import Features
from ..matching import match_descriptors
from ..vocabulary import BagOfWords, Vocabulary, bag_of_words, l1_scores
from .keyframes import Keyframe, KeyframeMap

# Without a vocabulary the strongest keypoints alone are compared with the points of the whole map.
_VOTERS = 200


def words_of(vocabulary: Vocabulary | None, features: Features) -> BagOfWords | None:
    """The words of an image; None without a vocabulary, and of float descriptors, which have no words."""
    if vocabulary is None or features.metric != "hamming":
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
    matches = match_descriptors(
        features.descriptors[:_VOTERS],
        world.descriptors,
        metric=features.metric,
        mutual=False,
        max_distance=max_distance,
    )
    return world.neighbours(np.unique(matches.index_b), count)
