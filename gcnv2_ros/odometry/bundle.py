# SPDX-License-Identifier: Apache-2.0
"""Local bundle adjustment: keyframes and the points that they see, refined together by GTSAM.

Depth enters as ORB-SLAM2 has it (Mur-Artal, Tardos, "ORB-SLAM2", T-RO 2017, section III-A): as the column in a right
image that a virtual stereo pair would have taken, with the baseline at which a column's noise is the depth's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import invert_pose, transform_points
from ..libraries import import_library
from .keyframes import Keyframe, KeyframeMap
from .pose import CHI_SQUARE_2, Pinhole, agreeing

_CHI_SQUARE_3 = 7.815
_ROUNDS = 5
_RELATIVE_TOLERANCE = 1e-4


def require_gtsam() -> Any:
    """The module gtsam.

    Raises
    ------
    MissingDependencyError, LibraryError
        If it is not installed, or is and cannot be imported.
    """
    return import_library("gtsam", "odometry", "pip install gtsam")


def adjust(world: KeyframeMap, window: Sequence[Keyframe], around: Sequence[Keyframe], pinhole: Pinhole) -> None:
    """Refine the poses of `window` and the points it sees, in place; then drop observations that do not agree.

    Parameters
    ----------
    world
        The map that all keyframes belong to.
    window
        Keyframes to refine.
    around
        Keyframes that see the same points and hold still. Where there is none, the first of the window holds still.
    pinhole
        Intrinsics and noise.
    """
    gtsam = require_gtsam()
    fixed = list(around) or [window[0]]
    free = [keyframe for keyframe in window if keyframe is not fixed[0]]
    if not free:
        return
    involved = [*fixed, *free]
    counts = np.zeros(len(world.positions), np.intp)
    for keyframe in involved:
        counts[keyframe.points[keyframe.seen]] += 1
    seen_by_window = np.zeros(len(world.positions), bool)
    seen_by_window[world.points_of(window)] = True
    # A point that one keyframe alone sees holds nothing; it follows its keyframe below.
    adjusted = seen_by_window & (counts > 1)

    calibration, graph = _Calibration(gtsam, pinhole), gtsam.NonlinearFactorGraph()
    start = gtsam.Values()
    pose_key = {id(keyframe): gtsam.symbol("x", number) for number, keyframe in enumerate(involved)}
    point_key = {int(point): gtsam.symbol("l", int(point)) for point in np.flatnonzero(adjusted)}
    for number, keyframe in enumerate(involved):
        pose, key = gtsam.Pose3(keyframe.pose), pose_key[id(keyframe)]
        start.insert(key, pose)
        if number < len(fixed):
            graph.add(gtsam.NonlinearEqualityPose3(key, pose))
        used = keyframe.seen
        used = used[adjusted[keyframe.points[used]]]
        calibration.add_factors(graph, key, point_key, keyframe, used)
    for point, key in point_key.items():
        start.insert(key, world.positions[point])

    parameters = gtsam.LevenbergMarquardtParams()
    parameters.setMaxIterations(_ROUNDS)
    parameters.setRelativeErrorTol(_RELATIVE_TOLERANCE)
    refined = gtsam.LevenbergMarquardtOptimizer(graph, start, parameters).optimize()

    before = [keyframe.pose for keyframe in free]
    for keyframe in free:
        keyframe.pose = np.array(refined.atPose3(pose_key[id(keyframe)]).matrix())
    for point, key in point_key.items():
        world.positions[point] = refined.atPoint3(key)
    for keyframe, pose in zip(free, before):
        alone = keyframe.points[keyframe.seen]
        alone = alone[counts[alone] == 1]
        world.positions[alone] = transform_points(keyframe.pose @ invert_pose(pose), world.positions[alone])
    for keyframe in free:
        seen = keyframe.seen
        agree = agreeing(
            invert_pose(keyframe.pose),
            world.positions[keyframe.points[seen]],
            keyframe.observation.pixels[seen],
            pinhole,
        )
        keyframe.points[seen[~agree]] = -1


class _Calibration:
    """The factors of one camera: reprojection with depth as a virtual right column, or without."""

    def __init__(self, gtsam: Any, pinhole: Pinhole) -> None:
        self._gtsam = gtsam
        # The disparity, a difference of two columns, has sqrt(2) times the noise of one.
        self._baseline = math.sqrt(2.0) * pinhole.pixel_sigma / (pinhole.fx * pinhole.inverse_depth_sigma)
        self._fx = pinhole.fx
        self._mono = gtsam.Cal3_S2(pinhole.fx, pinhole.fy, 0.0, pinhole.cx, pinhole.cy)
        self._stereo = gtsam.Cal3_S2Stereo(pinhole.fx, pinhole.fy, 0.0, pinhole.cx, pinhole.cy, self._baseline)
        self._mono_noise = self._robust(2, CHI_SQUARE_2, pinhole.pixel_sigma)
        self._stereo_noise = self._robust(3, _CHI_SQUARE_3, pinhole.pixel_sigma)

    def add_factors(
        self, graph: Any, key: int, point_key: dict[int, int], keyframe: Keyframe, used: NDArray[np.intp]
    ) -> None:
        """Add a factor for each keypoint of a keyframe in `used`."""
        gtsam = self._gtsam
        pixels, depth = keyframe.observation.pixels[used], keyframe.observation.depth[used]
        right = pixels[:, 0] - self._fx * self._baseline / depth
        for (u, v), right_u, point in zip(pixels.tolist(), right.tolist(), keyframe.points[used].tolist()):
            landmark = point_key[point]
            if math.isfinite(right_u):
                measured = gtsam.StereoPoint2(u, right_u, v)
                factor = gtsam.GenericStereoFactor3D(
                    measured, self._stereo_noise, key, landmark, self._stereo, False, False
                )
            else:
                factor = gtsam.GenericProjectionFactorCal3_S2(
                    np.array([u, v]), self._mono_noise, key, landmark, self._mono, False, False
                )
            graph.add(factor)

    def _robust(self, dimension: int, chi_square: float, sigma: float) -> Any:
        noise = self._gtsam.noiseModel
        huber = noise.mEstimator.Huber.Create(math.sqrt(chi_square))
        return noise.Robust.Create(huber, noise.Isotropic.Sigma(dimension, sigma))
