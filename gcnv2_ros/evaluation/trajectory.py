# SPDX-License-Identifier: Apache-2.0
"""Errors of a trajectory against ground truth, through evo, and trajectories as TUM files that evo reads.

Grupp, "evo: Python package for the evaluation of odometry and SLAM", 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import atomic_path
from ..libraries import import_library

RPE_FRAMES = 10
"""Frames over which the relative pose error is taken, over all pairs that far apart."""

_FEWEST_POSES = 3


@dataclass(frozen=True, eq=False)
class TrajectoryScores:
    """How well one run went; what was not tracked counts in `tracked_share` and `losses`.

    Attributes
    ----------
    frames, tracked
        Number of frames, and of those with a pose.
    losses
        How often tracking was lost after it had been there.
    ate
        Absolute trajectory error: RMS distance in metres over the tracked frames, after SE(3) alignment (Umeyama, no
        scale). None without ground truth, with fewer than three tracked frames, or where the motion is too little to
        align.
    rpe_translation, rpe_rotation
        RMS relative pose error over `RPE_FRAMES` tracked frames, metres and degrees; None as `ate`.
    about_mean
        RMS distance of the positions from their mean in metres: the drift of a camera that stands still.
    path_length
        Of the ground truth in metres; None without.
    seconds
        float64 (K,) times since the first frame of the tracked frames that have ground truth.
    errors
        float64 (K,) distance of each from the truth in metres, after alignment.
    aligned, truth
        float64 (K, 3) positions after alignment, and the true ones.
    """

    frames: int
    tracked: int
    losses: int
    ate: float | None
    rpe_translation: float | None
    rpe_rotation: float | None
    about_mean: float | None
    path_length: float | None
    seconds: NDArray[np.float64]
    errors: NDArray[np.float64]
    aligned: NDArray[np.float64]
    truth: NDArray[np.float64]

    @property
    def tracked_share(self) -> float:
        """Tracked frames by all frames."""
        return self.tracked / self.frames if self.frames else 0.0

    def values(self) -> dict[str, Any]:
        """The scores without the arrays, for JSON."""
        names = ("frames", "tracked", "losses", "ate", "rpe_translation", "rpe_rotation", "about_mean", "path_length")
        return {"tracked_share": self.tracked_share, **{name: getattr(self, name) for name in names}}


def check_evo() -> None:
    """Make sure that trajectories can be scored and written.

    Raises
    ------
    MissingDependencyError
        If evo is not installed.
    """
    import_library("evo", "the error of a trajectory", "pip install evo")


def score_trajectory(
    stamps_ns: NDArray[np.int64],
    poses: NDArray[np.float64],
    truth: NDArray[np.float64],
) -> TrajectoryScores:
    """Score a run.

    Parameters
    ----------
    stamps_ns
        int64 (N,), ascending.
    poses
        float64 (N, 4, 4), camera to an arbitrary world, NaN where not tracked.
    truth
        float64 (N, 4, 4), camera to world at the same times, NaN unknown.

    Raises
    ------
    MissingDependencyError
        If evo is not installed.
    """
    tracked, known = _complete(poses), _complete(truth)
    both = tracked & known
    losses = int(np.count_nonzero(tracked[:-1] & ~tracked[1:]))
    seconds = (stamps_ns - stamps_ns[0]) / 1e9 if len(stamps_ns) else np.zeros(0)
    positions = poses[tracked, :3, 3]
    about_mean = (
        float(np.sqrt(np.mean(np.sum((positions - positions.mean(axis=0)) ** 2, axis=1)))) if tracked.any() else None
    )
    length = float(np.linalg.norm(np.diff(truth[known, :3, 3], axis=0), axis=1).sum()) if known.sum() > 1 else None
    ate = rpe_translation = rpe_rotation = None
    aligned = positions[:0]
    errors = np.zeros(0)
    if both.sum() >= _FEWEST_POSES:
        result = _evo_errors(stamps_ns[both], poses[both], truth[both])
        if result is not None:
            ate, rpe_translation, rpe_rotation, aligned, errors = result
    used = both if len(aligned) else np.zeros_like(both)
    return TrajectoryScores(
        frames=len(stamps_ns),
        tracked=int(tracked.sum()),
        losses=losses,
        ate=ate,
        rpe_translation=rpe_translation,
        rpe_rotation=rpe_rotation,
        about_mean=about_mean,
        path_length=length,
        seconds=seconds[used],
        errors=errors,
        aligned=aligned,
        truth=truth[used, :3, 3],
    )


def write_tum(path: Path, stamps_ns: NDArray[np.int64], poses: NDArray[np.float64]) -> None:
    """Write a trajectory as ``t x y z qx qy qz qw`` a line, seconds and metres; frames without a pose are left out.

    Parameters
    ----------
    path
        File to write.
    stamps_ns
        int64 (N,).
    poses
        float64 (N, 4, 4), NaN where there is none.
    """
    tracked = _complete(poses)
    # Nanoseconds as they are: a float of seconds since 1970 holds no more than tenths of a microsecond.
    stamps = [f"{stamp // 10**9}.{stamp % 10**9:09d}" for stamp in stamps_ns[tracked].tolist()]
    rows = []
    if tracked.any():
        trajectory = _evo_trajectory(stamps_ns[tracked], poses[tracked])
        quaternions = np.roll(trajectory.orientations_quat_wxyz, -1, axis=1)
        rows = np.column_stack([trajectory.positions_xyz, quaternions]).tolist()
    with atomic_path(path) as temporary:
        lines = (f"{stamp} " + " ".join(f"{value:.12g}" for value in row) for stamp, row in zip(stamps, rows))
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def _complete(poses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which poses (N, 4, 4) have no NaN."""
    return np.asarray(np.isfinite(poses).all(axis=(1, 2)))


def _evo_errors(
    stamps_ns: NDArray[np.int64], poses: NDArray[np.float64], truth: NDArray[np.float64]
) -> tuple[float, float | None, float | None, NDArray[np.float64], NDArray[np.float64]] | None:
    """ATE, RPE of both kinds, aligned positions and their errors; None where alignment is impossible."""
    check_evo()
    from evo.core import metrics
    from evo.core.geometry import GeometryException

    reference, estimate = _evo_trajectory(stamps_ns, truth), _evo_trajectory(stamps_ns, poses)
    rpe: list[float | None] = []
    for relation in (metrics.PoseRelation.translation_part, metrics.PoseRelation.rotation_angle_deg):
        if len(stamps_ns) <= RPE_FRAMES:
            rpe.append(None)
            continue
        metric = metrics.RPE(relation, delta=RPE_FRAMES, delta_unit=metrics.Unit.frames, all_pairs=True)
        metric.process_data((reference, estimate))
        rpe.append(float(metric.get_statistic(metrics.StatisticsType.rmse)))
    try:
        estimate.align(reference)
    except GeometryException:
        return None
    absolute = metrics.APE(metrics.PoseRelation.translation_part)
    absolute.process_data((reference, estimate))
    return (
        float(absolute.get_statistic(metrics.StatisticsType.rmse)),
        rpe[0],
        rpe[1],
        np.asarray(estimate.positions_xyz),
        np.asarray(absolute.error),
    )


def _evo_trajectory(stamps_ns: NDArray[np.int64], poses: NDArray[np.float64]) -> Any:
    check_evo()
    from evo.core.trajectory import PoseTrajectory3D

    return PoseTrajectory3D(poses_se3=list(poses), timestamps=stamps_ns / 1e9)
