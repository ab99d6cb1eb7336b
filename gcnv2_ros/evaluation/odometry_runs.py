# SPDX-License-Identifier: Apache-2.0
"""Runs of the odometry on the features of a recording, and what several of them say together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import GCNv2Error
from .recording import Recording
from .trajectory import TrajectoryScores, score_trajectory


@dataclass(frozen=True, eq=False)
class Run:
    """One run of an odometry or of a whole SLAM system: its poses (N, 4, 4), NaN where lost, and their scores."""

    label: str
    stamps_ns: np.ndarray
    poses: np.ndarray
    scores: TrajectoryScores
    milliseconds: float
    matches: float | None = None
    inliers: float | None = None

    def values(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.scores.values(),
            "milliseconds a frame": self.milliseconds,
            "matches": self.matches,
            "inliers": self.inliers,
        }


@dataclass(frozen=True)
class OdometryRow:
    """One line of a table: a frontend over its runs of the odometry, or the one run of a SLAM system of its own.

    Attributes
    ----------
    name
        Of the frontend or the system.
    tracked_share
        Tracked frames by all frames.
    losses
        Of a frontend the mean, to one digit.
    ate, about_mean, rpe_translation, rpe_rotation
        ``mean`` and, of a frontend, what else `summarise_runs` says; None where unknown.
    milliseconds
        A frame.
    inliers, matches
        Of the odometry on a frontend's features; a system does not tell.
    """

    name: str
    tracked_share: float
    losses: str
    ate: Mapping[str, Any] | None
    about_mean: Mapping[str, Any] | None
    rpe_translation: Mapping[str, Any] | None
    rpe_rotation: Mapping[str, Any] | None
    milliseconds: float
    inliers: float | None = None
    matches: float | None = None

    @classmethod
    def of_frontend(cls, label: str, summary: Mapping[str, Any]) -> OdometryRow:
        """From what `summarise_runs` returned."""
        return cls(
            name=label,
            tracked_share=summary["tracked_share"]["mean"],
            losses=f"{summary['losses']['mean']:.1f}",
            ate=summary["ate"],
            about_mean=summary["about_mean"],
            rpe_translation=summary["rpe_translation"],
            rpe_rotation=summary["rpe_rotation"],
            milliseconds=summary["milliseconds a frame"],
            inliers=float(np.mean([run["inliers"] for run in summary["runs"]])),
            matches=float(np.mean([run["matches"] for run in summary["runs"]])),
        )

    @classmethod
    def of_system(cls, name: str, run: Run) -> OdometryRow:
        """From the run of a system of its own."""
        scores = run.scores

        def figure(value: float | None) -> dict[str, float] | None:
            return None if value is None else {"mean": value}

        return cls(
            name=name,
            tracked_share=scores.tracked_share,
            losses=str(scores.losses),
            ate=figure(scores.ate),
            about_mean=figure(scores.about_mean),
            rpe_translation=figure(scores.rpe_translation),
            rpe_rotation=figure(scores.rpe_rotation),
            milliseconds=run.milliseconds,
        )


def run_odometry_once(recording: Recording, label: str, start: int = 0) -> Run:
    """Run the odometry on the features of one frontend, from the frame `start`.

    Raises
    ------
    GCNv2Error
        If the odometry cannot run, such as for a library that is missing.
    """
    from ..odometry import OdometryOptions, run_odometry

    camera = recording.camera
    if camera is None:
        raise GCNv2Error(f"{recording.name} has no calibration, which the odometry needs")
    settings = OdometryOptions()
    if recording.depth_source == "stereo" and recording.baseline:
        # A disparity is good to about half a pixel.
        settings = OdometryOptions(inverse_depth_sigma=0.5 / (camera.fx * recording.baseline))
    stamps = recording.stamps_ns[start:]
    began = time.perf_counter()
    trajectory = run_odometry(zip(stamps.tolist(), recording.features[label][start:]), camera, settings)
    milliseconds = 1e3 * (time.perf_counter() - began) / len(stamps)
    # The inliers of a keyframe count the points that it adds.
    tracked = [result for result in trajectory.results if result.tracked and not result.keyframe]
    return Run(
        label=label,
        stamps_ns=stamps,
        poses=trajectory.poses,
        scores=score_trajectory(stamps, trajectory.poses, recording.truth[start:]),
        milliseconds=milliseconds,
        matches=float(np.median([result.matches for result in tracked])) if tracked else 0.0,
        inliers=float(np.median([result.inliers for result in tracked])) if tracked else 0.0,
    )


def summarise_runs(runs: Sequence[Run], reference: Sequence[Run] | None, label: str, against: str) -> dict[str, Any]:
    """Means over runs with their lowest and highest, and whether the difference from the reference exceeds the spread.

    The spread is the larger of both frontends' ranges over their runs; one run has none, and then there is no verdict.
    """
    summary: dict[str, Any] = {"runs": [run.values() for run in runs]}
    for name in ("ate", "rpe_translation", "rpe_rotation", "tracked_share", "about_mean", "losses"):
        values = _values(runs, name)
        if not values:
            summary[name] = None
            continue
        summary[name] = {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}
        theirs = _values(reference, name) if reference and label != against else []
        if theirs:
            difference = float(np.mean(values) - np.mean(theirs))
            summary[name]["difference"] = difference
            if min(len(values), len(theirs)) > 1:
                spread = max(max(values) - min(values), max(theirs) - min(theirs))
                summary[name]["spread"] = spread
                summary[name]["exceeds spread"] = abs(difference) > spread
    summary["milliseconds a frame"] = float(np.mean([run.milliseconds for run in runs]))
    return summary


def _values(runs: Sequence[Run], name: str) -> list[float]:
    values = [getattr(run.scores, name) for run in runs]
    # A mean over the runs that went well would leave out those that did not.
    return [] if any(value is None for value in values) else [float(value) for value in values]
