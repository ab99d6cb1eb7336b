# SPDX-License-Identifier: Apache-2.0
"""The map: keyframes, the points that they see, and which keyframes see the same points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..features import DESCRIPTOR_BYTES, Features
from ..geometry import transform_points
from ..vocabulary import BagOfWords
from .pose import Pinhole


@dataclass(frozen=True, eq=False)
class Observation:
    """Keypoints of one image as the odometry uses them.

    Attributes
    ----------
    features
        Those with a viewing ray.
    pixels
        float64 (N, 2), of the pinhole without lens distortion.
    depth
        float64 (N,), metres, NaN unknown.
    """

    features: Features
    pixels: NDArray[np.float64]
    depth: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(eq=False)
class Keyframe:
    """An image that stays in the map; its pose and its points change when they are refined.

    Attributes
    ----------
    observation
        Its keypoints.
    pose
        float64 (4, 4), optical frame to world.
    points
        intp (N,), number of the map's point that each keypoint sees; -1: none.
    words
        For place recognition, where a vocabulary is given.
    """

    observation: Observation
    pose: NDArray[np.float64]
    points: NDArray[np.intp]
    words: BagOfWords | None = None

    @property
    def seen(self) -> NDArray[np.intp]:
        """Positions of the keypoints that see a point, intp, ascending."""
        return np.flatnonzero(self.points >= 0)


class KeyframeMap:
    """Keyframes in the order of time, and points as arrays over their numbers.

    Attributes
    ----------
    keyframes
        The oldest first.
    positions
        float64 (P, 3), world.
    descriptors
        (P, D), of each point's latest observation. Their kind is that of the first keyframe's.
    """

    def __init__(self, pinhole: Pinhole) -> None:
        self._pinhole = pinhole
        self.keyframes: list[Keyframe] = []
        self.positions: NDArray[np.float64] = np.zeros((0, 3))
        self.descriptors: NDArray = np.zeros((0, DESCRIPTOR_BYTES), np.uint8)

    def add(self, keyframe: Keyframe) -> None:
        """Add a keyframe; its keypoints that see no point yet and have depth become new points."""
        observation = keyframe.observation
        if not self.keyframes:
            self.descriptors = observation.features.descriptors[:0]
        old = keyframe.seen
        self.descriptors[keyframe.points[old]] = observation.features.descriptors[old]
        new = np.flatnonzero((keyframe.points < 0) & np.isfinite(observation.depth))
        keyframe.points[new] = len(self.positions) + np.arange(len(new))
        local = self._pinhole.backproject(observation.pixels[new], observation.depth[new])
        self.positions = np.concatenate([self.positions, transform_points(keyframe.pose, local)])
        self.descriptors = np.concatenate([self.descriptors, observation.features.descriptors[new]])
        self.keyframes.append(keyframe)

    def points_of(self, keyframes: Sequence[Keyframe]) -> NDArray[np.intp]:
        """Numbers of the points that any of the keyframes sees, ascending, each once."""
        seen = [keyframe.points[keyframe.seen] for keyframe in keyframes]
        return np.unique(np.concatenate([np.zeros(0, np.intp), *seen]))

    def shared(self, points: NDArray[np.intp]) -> NDArray[np.intp]:
        """How many of `points` each keyframe sees, intp (K,)."""
        wanted = np.zeros(len(self.positions), bool)
        wanted[points] = True
        return np.array([wanted[keyframe.points[keyframe.seen]].sum() for keyframe in self.keyframes], np.intp)

    def neighbours(self, points: NDArray[np.intp], count: int) -> list[Keyframe]:
        """Up to `count` keyframes that see the most of `points`, the best first, among equals the newest."""
        shared = self.shared(points)
        newest_first = np.arange(len(shared))[::-1]
        order = newest_first[np.argsort(-shared[newest_first], kind="stable")]
        return [self.keyframes[index] for index in order[:count] if shared[index]]

    def forget_oldest(self) -> None:
        """Drop the oldest keyframe, and all points that no keyframe sees."""
        del self.keyframes[0]
        kept = self.points_of(self.keyframes)
        number = np.full(len(self.positions) + 1, -1, np.intp)
        number[kept] = np.arange(len(kept))
        for keyframe in self.keyframes:
            keyframe.points = number[keyframe.points]
        self.positions, self.descriptors = self.positions[kept], self.descriptors[kept]
