# SPDX-License-Identifier: Apache-2.0
"""What the odometry gives: the result of one frame, and the trajectory of a sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TrackResult:
    """What became of one frame.

    Attributes
    ----------
    stamp_ns
        Time of the frame in nanoseconds.
    pose
        float64 (4, 4), optical frame to world; the world is the optical frame of the first keyframe. None when lost.
    tracked
        Whether there is a pose.
    matches
        Points of the map that were matched with keypoints.
    inliers
        Those that agree with the pose. Of a keyframe all points that it sees once it is in the map: those that agree
        after the refinement, and the new ones that it has made; of the first one there are none yet.
    keyframe
        Whether the frame became a keyframe.
    loop
        Whether it closed a loop: the map was corrected, and the pose is in the corrected one.
    """

    stamp_ns: int
    pose: NDArray[np.float64] | None
    tracked: bool
    matches: int
    inliers: int
    keyframe: bool
    loop: bool = False


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of a sequence.

    Attributes
    ----------
    stamps_ns
        int64 (N,).
    poses
        float64 (N, 4, 4), optical frame to world, NaN where lost. Each pose hangs on its reference keyframe as that
        was refined and corrected in the end, which is what other SLAM systems save; `results` has the poses as they
        were when the frame came.
    tracked
        bool (N,).
    results
        One for each frame.
    """

    stamps_ns: NDArray[np.int64]
    poses: NDArray[np.float64]
    tracked: NDArray[np.bool_]
    results: tuple[TrackResult, ...]

    def __len__(self) -> int:
        return len(self.stamps_ns)
