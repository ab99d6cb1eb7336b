# SPDX-License-Identifier: Apache-2.0
"""Loop closure: a place seen long before is recognised by its words, verified by geometry, and the drift spread out.

Candidates are scored against what neighbouring images score (Galvez-Lopez, Tardos, "Bags of Binary Words for Fast Place
Recognition in Image Sequences", T-RO 2012, section V-A). The pose graph joins keyframes that see the same points, as
ORB-SLAM's essential graph does (Mur-Artal, Montiel, Tardos, "ORB-SLAM", T-RO 2015, section VII).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import invert_pose, transform_points
from ..matching import match_pairs
from ..vocabulary import l1_scores, shared_nodes
from .bundle import require_gtsam
from .keyframes import Keyframe, KeyframeMap
from .localisation import NEAR_SHARE, Localisation, Localiser
from .options import OdometryOptions
from .pose import Pinhole

# A candidate must look at least so much like the keyframe as the most similar keyframe around does.
_LEAST_SHARE_OF_SCORE = 0.3
# Candidates that are verified, the likeliest ones, and neighbours of the keyframe that are asked whether they agree.
_CANDIDATES = 3
_WITNESSES = 4
# Share of the recognised points that a witness must send to where the keyframe sees them.
_LEAST_AGREEMENT = 0.5

_ROUNDS = 50


class LoopCloser:
    """Recognises places and corrects the map.

    Parameters
    ----------
    world
        The map.
    localiser
        Of the same map.
    pinhole, options
        Intrinsics, noise and settings.
    """

    def __init__(self, world: KeyframeMap, localiser: Localiser, pinhole: Pinhole, options: OdometryOptions) -> None:
        self._map = world
        self._localiser = localiser
        self._pinhole = pinhole
        self._options = options

    def close(self, keyframe: Keyframe) -> bool:
        """Look for the place of the newest keyframe among the old ones; where it is found, correct the whole map.

        Poses and positions change, and points that turn out to be the same are merged.

        Parameters
        ----------
        keyframe
            In the map already; without words it closes no loop.

        Returns
        -------
        bool
            Whether a loop was closed.
        """
        if keyframe.words is None:
            return False
        around = self._around(keyframe)
        for candidate in self._candidates(keyframe, around):
            group = self._group(candidate)
            found = self._recognised(keyframe, candidate, group)
            if found is not None and self._confirmed(keyframe, found, around, candidate, group):
                self._correct(keyframe, candidate, found)
                self._merge(keyframe, found)
                return True
        return False

    def _around(self, keyframe: Keyframe) -> list[Keyframe]:
        """Keyframes that are held by the same points as `keyframe` is, directly or through one of them."""
        neighbours = self._map.neighbours(keyframe.points[keyframe.seen], self._options.window)
        shared = self._map.shared(self._map.points_of(neighbours))
        return [
            other
            for other, count in zip(self._map.keyframes, shared)
            if count >= self._options.min_inliers or other is self._map.keyframes[-2]
        ]

    def _candidates(self, keyframe: Keyframe, around: list[Keyframe]) -> list[Keyframe]:
        """Keyframes elsewhere that look like `keyframe`, the likeliest first."""
        if keyframe.words is None:
            return []
        near = {id(other) for other in around}
        near_words = [other.words for other in around if other is not keyframe and other.words is not None]
        elsewhere = [other for other in self._map.keyframes if id(other) not in near and other.words is not None]
        if not near_words or not elsewhere:
            return []
        least = _LEAST_SHARE_OF_SCORE * l1_scores(keyframe.words, near_words).max()
        scores = l1_scores(keyframe.words, [other.words for other in elsewhere if other.words is not None])
        order = np.argsort(-scores, kind="stable")[:_CANDIDATES]
        return [elsewhere[index] for index in order if scores[index] > 0 and scores[index] >= least]

    def _group(self, candidate: Keyframe) -> NDArray[np.intp]:
        """Points that a candidate and its neighbours see."""
        return self._map.points_of(self._map.neighbours(candidate.points[candidate.seen], self._options.window))

    def _recognised(self, keyframe: Keyframe, candidate: Keyframe, group: NDArray[np.intp]) -> Localisation | None:
        """Where `keyframe` is by the points of a candidate's place; None if they do not speak for any pose."""
        if keyframe.words is None or candidate.words is None:
            return None
        features, others = keyframe.observation.features, candidate.observation.features
        own, theirs = shared_nodes(keyframe.words, candidate.words)
        known = candidate.points[theirs] >= 0
        matches = match_pairs(
            features.descriptors,
            others.descriptors,
            own[known],
            theirs[known],
            metric=features.metric,
            ratio=self._options.ratio,
            max_distance=self._localiser.max_distance(features),
        )
        points = candidate.points[matches.index_b]
        return self._localiser.solve(keyframe.observation, group, matches.index_a, points)

    def _confirmed(
        self,
        keyframe: Keyframe,
        found: Localisation,
        around: list[Keyframe],
        candidate: Keyframe,
        group: NDArray[np.intp],
    ) -> bool:
        """Whether a neighbour of `keyframe`, recognised on its own, says the same of where `keyframe` is."""
        pixels = keyframe.observation.pixels[found.keypoints]
        near = NEAR_SHARE * self._options.search_radius
        witnesses = [
            other
            for other in self._map.neighbours(keyframe.points[keyframe.seen], len(around))
            if other is not keyframe
        ]
        for witness in witnesses[:_WITNESSES]:
            seen = self._recognised(witness, candidate, group)
            if seen is None:
                continue
            pose = seen.pose @ invert_pose(witness.pose) @ keyframe.pose
            expected = self._pinhole.project(transform_points(invert_pose(pose), self._map.positions[found.points]))
            agree = np.linalg.norm(expected - pixels, axis=1) <= near
            if agree.mean() >= _LEAST_AGREEMENT:
                return True
        return False

    def _correct(self, keyframe: Keyframe, candidate: Keyframe, found: Localisation) -> None:
        """Optimise the pose graph with the loop in it; points follow the first keyframe that sees them."""
        gtsam = require_gtsam()
        keyframes = self._map.keyframes
        number = {id(other): index for index, other in enumerate(keyframes)}
        graph, start = gtsam.NonlinearFactorGraph(), gtsam.Values()
        for index, other in enumerate(keyframes):
            start.insert(index, gtsam.Pose3(other.pose))
        graph.add(gtsam.NonlinearEqualityPose3(0, gtsam.Pose3(keyframes[0].pose)))

        def join(first: int, second: int, motion: NDArray[np.float64], points: int) -> None:
            noise = self._noise(gtsam, keyframes[second], points)
            graph.add(gtsam.BetweenFactorPose3(first, second, gtsam.Pose3(motion), noise))

        for index, other in enumerate(keyframes[1:], 1):
            shared = self._map.shared(other.points[other.seen])[:index]
            strong = set(np.flatnonzero(shared >= self._options.min_inliers).tolist())
            # Every keyframe hangs on one before it, however few points they share.
            for before in strong | {int(shared.argmax()) if shared.any() else index - 1}:
                join(before, index, invert_pose(keyframes[before].pose) @ other.pose, max(int(shared[before]), 1))
        motion = invert_pose(candidate.pose) @ found.pose
        join(number[id(candidate)], number[id(keyframe)], motion, len(found.points))

        parameters = gtsam.LevenbergMarquardtParams()
        parameters.setMaxIterations(_ROUNDS)
        refined = gtsam.LevenbergMarquardtOptimizer(graph, start, parameters).optimize()
        moved = np.zeros(len(self._map.positions), bool)
        for index, other in enumerate(keyframes):
            drifted, other.pose = other.pose, np.array(refined.atPose3(index).matrix())
            own = other.points[other.seen]
            own = own[~moved[own]]
            moved[own] = True
            change = other.pose @ invert_pose(drifted)
            self._map.positions[own] = transform_points(change, self._map.positions[own])

    def _merge(self, keyframe: Keyframe, found: Localisation) -> None:
        """Let all keyframes see the old points where `keyframe` saw new ones of the same place."""
        merged = np.arange(len(self._map.positions))
        new = keyframe.points[found.keypoints]
        twice = new >= 0
        merged[new[twice]] = found.points[twice]
        keyframe.points[found.keypoints[~twice]] = found.points[~twice]
        self._map.descriptors[found.points] = keyframe.observation.features.descriptors[found.keypoints]
        for other in self._map.keyframes:
            seen = other.seen
            points = merged[other.points[seen]]
            # A keyframe that sees both keeps the old point's own keypoint.
            both = (points != other.points[seen]) & np.isin(points, other.points[seen])
            other.points[seen] = np.where(both, -1, points)

    def _noise(self, gtsam: Any, keyframe: Keyframe, points: int) -> Any:
        """Of a motion that so many points measured: a pixel's angle, and a pixel's width at their usual depth."""
        depth = keyframe.observation.depth
        known = depth[np.isfinite(depth)]
        angle = self._pinhole.pixel_sigma / self._pinhole.fx / np.sqrt(points)
        width = angle * (float(np.median(known)) if len(known) else 1.0)
        return gtsam.noiseModel.Diagonal.Sigmas(np.repeat([angle, width], 3))
