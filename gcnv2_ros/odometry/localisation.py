# SPDX-License-Identifier: Apache-2.0
"""Where a camera is in the map: match points with keypoints, solve for the pose, match again near it, refine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..features import Features
from ..geometry import invert_pose, transform_points
from ..matching import match_descriptors, match_near
from .keyframes import KeyframeMap, Observation
from .options import OdometryOptions
from .pose import Pinhole, agreeing, ransac_pose, refine_pose

# After a pose is known roughly, points are looked for within this share of the search radius.
NEAR_SHARE = 0.25

# Fewer points leave a choice of poses; what is matched near one of them means nothing.
_LEAST_AGREEING = 4


@dataclass(frozen=True, eq=False)
class Localisation:
    """A pose, and the points of the map that speak for it.

    Attributes
    ----------
    pose
        float64 (4, 4), optical frame to world.
    keypoints, points
        intp (M,), positions of keypoints and numbers of the map's points that agree with the pose.
    matches
        Points that were matched, the agreeing ones among them.
    """

    pose: NDArray[np.float64]
    keypoints: NDArray[np.intp]
    points: NDArray[np.intp]
    matches: int


class Localiser:
    """Finds cameras in a map.

    Parameters
    ----------
    world
        The map; it may change between calls.
    pinhole, options
        Intrinsics and settings.
    """

    def __init__(self, world: KeyframeMap, pinhole: Pinhole, options: OdometryOptions) -> None:
        self._map = world
        self._pinhole = pinhole
        self._options = options

    def max_distance(self, features: Features) -> float | None:
        """Largest distance of matching descriptors; None: no limit."""
        return self._options.max_hamming_distance if features.metric == "hamming" else None

    def near(
        self, observation: Observation, points: NDArray[np.intp], predicted: NDArray[np.float64]
    ) -> Localisation | None:
        """Match `points` near where the predicted pose (world to optical frame) sends them, and solve."""
        matched = self._match_near(observation, points, predicted, self._options.search_radius)
        return self.solve(observation, points, *matched)

    def anywhere(self, observation: Observation, points: NDArray[np.intp]) -> Localisation | None:
        """Match `points` by their descriptors alone, and solve."""
        features = observation.features
        matches = match_descriptors(
            self._map.descriptors[points],
            features.descriptors,
            metric=features.metric,
            ratio=self._options.ratio,
            max_distance=self.max_distance(features),
        )
        return self.solve(observation, points, matches.index_b, points[matches.index_a])

    def solve(
        self,
        observation: Observation,
        candidates: NDArray[np.intp],
        keypoints: NDArray[np.intp],
        points: NDArray[np.intp],
    ) -> Localisation | None:
        """The pose from matches of `keypoints` and `points`; then `candidates` are matched near, and it is refined.

        None where fewer than `OdometryOptions.min_inliers` points agree.
        """
        if len(points) < self._options.min_inliers:
            return None
        pose = ransac_pose(self._map.positions[points], observation.pixels[keypoints], self._pinhole)
        if pose is None:
            return None
        agree = agreeing(pose, self._map.positions[points], observation.pixels[keypoints], self._pinhole)
        if agree.sum() < _LEAST_AGREEING:
            return None
        pose = self._refined(observation, pose, keypoints[agree], points[agree])
        if pose is None:
            return None
        near = NEAR_SHARE * self._options.search_radius
        keypoints, points = self._match_near(observation, candidates, pose, near)
        for _ in range(2):
            agree = agreeing(pose, self._map.positions[points], observation.pixels[keypoints], self._pinhole)
            if agree.sum() < self._options.min_inliers:
                return None
            pose = self._refined(observation, pose, keypoints[agree], points[agree])
            if pose is None:
                return None
        return Localisation(invert_pose(pose), keypoints[agree], points[agree], len(points))

    def _match_near(
        self, observation: Observation, points: NDArray[np.intp], pose: NDArray[np.float64], radius: float
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Keypoints and the points that they match, near where `pose` (world to optical frame) sends the points."""
        expected = self._pinhole.project(transform_points(pose, self._map.positions[points]))
        margin = (
            (observation.pixels.min(0) - radius, observation.pixels.max(0) + radius) if len(observation) else (0, 0)
        )
        visible = ((expected >= margin[0]) & (expected <= margin[1])).all(axis=1)
        points, expected = points[visible], expected[visible]
        features = observation.features
        matches = match_near(
            self._map.descriptors[points],
            expected,
            features.descriptors,
            observation.pixels,
            metric=features.metric,
            radius=radius,
            ratio=self._options.ratio,
            max_distance=self.max_distance(features),
        )
        return matches.index_b, points[matches.index_a]

    def _refined(
        self,
        observation: Observation,
        pose: NDArray[np.float64],
        keypoints: NDArray[np.intp],
        points: NDArray[np.intp],
    ) -> NDArray[np.float64] | None:
        return refine_pose(
            pose,
            self._map.positions[points],
            observation.pixels[keypoints],
            observation.depth[keypoints],
            self._pinhole,
        )
