# SPDX-License-Identifier: Apache-2.0
"""What an evaluation leaves behind: tables for the terminal, JSON, trajectories that evo reads, the report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_write
from .comparison import Comparison, verdict
from .odometry_runs import OdometryRow
from .report import write_report
from .tables import markdown_table
from .trajectory import write_tum

FORMAT_VERSION = 1


def write_outputs(folder: Path, comparisons: Sequence[Comparison], settings: Mapping[str, Any]) -> list[Path]:
    """Write ``evaluation.json``, ``report.html`` and, a folder a sequence, the trajectories; returns the paths.

    Trajectories are TUM files: ``ground_truth.txt``, ``FRONTEND.txt`` of the odometry's first run,
    ``FRONTEND.run1.txt`` and so on of the others, and ``SYSTEM.txt``.

    Parameters
    ----------
    folder
        Made if it is missing.
    comparisons
        One a sequence.
    settings
        As `write_report` takes them; written to the JSON too.
    """
    written = []
    sequences: dict[str, Any] = {}
    for number, comparison in enumerate(comparisons):
        name = comparison.recording.name
        name = name if name not in sequences else f"{name} {number + 1}"
        sequences[name] = comparison.values()
        written += _write_trajectories(folder / "trajectories" / _file_name(name), comparison)
    record = {"version": FORMAT_VERSION, **settings, "sequences": sequences}
    atomic_write(folder / "evaluation.json", json.dumps(record, indent=1))
    write_report(folder / "report.html", comparisons, settings)
    return [folder / "report.html", folder / "evaluation.json", *written]


def text_tables(comparison: Comparison, reference: str) -> str:
    """The scores of one sequence as tables for the terminal."""
    recording = comparison.recording
    parts = [f"== {recording.name}: {len(recording.stamps_ns)} frames"]
    scores = comparison.scores
    poses = {label: entry["pose"] for label, entry in scores.items() if "pose" in entry}
    if poses:
        rows = [
            [
                label,
                f"{pose['success']:.3f}",
                _difference(pose.get("difference", {}).get("success")),
                f"{pose['area']:.3f}",
                f"{pose['matches']:.0f}",
                f"{pose['inlier ratio']:.2f}",
            ]
            for label, pose in poses.items()
        ]
        pairs = next(iter(poses.values()))["pairs"]
        parts.append(f"relative pose of {pairs} frame pairs (the primary score)")
        parts.append(
            markdown_table(["frontend", "success", f"minus {reference} [95%]", "area", "matches", "inlier ratio"], rows)
        )
    heading = ["frontend", "keypoints", "matches", "epipolar inliers", "ms", "matching at roll 0, 90, 180"]
    judged = all("correspondence" in entry for entry in scores.values())
    stereo = all("stereo" in entry for entry in scores.values())
    rows = []
    for label, entry in scores.items():
        row = [
            label,
            f"{entry['keypoints']:.0f}",
            f"{entry['matching']['matches']:.0f}",
            f"{entry['matching']['inlier ratio']:.2f}",
            f"{entry['milliseconds']['total']:.1f}",
            ", ".join(f"{entry['roll'][roll]['matching share']:.2f}" for roll in ("0", "90", "180")),
        ]
        if judged:
            row += [f"{entry['correspondence'][name]['mean']:.3f}" for name in ("repeatability@3", "MMA@3")]
        if stereo:
            row.append(f"{entry['stereo']['row share']:.2f} ({entry['stereo']['row matches']:.0f})")
        rows.append(row)
    heading += ["repeatability@3", "MMA@3"] * judged + ["stereo: same row"] * stereo
    parts += ["keypoints and matches", markdown_table(heading, rows)]
    rows = [_odometry_row(row) for row in comparison.odometry_rows()]
    if rows:
        heading = ["", "tracked", "losses", "ATE, m", f"minus {reference}", "RPE, m", "RPE, deg"]
        parts += ["odometry (a gate, not a ranking)", markdown_table(heading, rows)]
    if comparison.odometry_note:
        parts.append(comparison.odometry_note)
    return "\n\n".join(parts)


def _odometry_row(row: OdometryRow) -> list[str]:
    ate = row.ate or {}
    change = ""
    if "difference" in ate:
        change = f"{ate['difference']:+.4f}"
        if "spread" in ate:
            change += f" ({'exceeds' if ate['exceeds spread'] else 'within'} the spread)"
    rotation = _mean(row.rpe_rotation, 4 if row.matches is None else 3)
    drift = [_mean(row.ate), change, _mean(row.rpe_translation), rotation]
    return [row.name, f"{row.tracked_share:.3f}", row.losses, *drift]


def _difference(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return ""
    return f"{interval['mean']:+.3f} [{interval['low']:+.3f}, {interval['high']:+.3f}] {verdict(dict(interval))}"


def _mean(summary: Mapping[str, Any] | None, digits: int = 4) -> str:
    return "-" if summary is None else f"{summary['mean']:.{digits}f}"


def _write_trajectories(folder: Path, comparison: Comparison) -> list[Path]:
    paths = []
    recording = comparison.recording
    if not comparison.runs and not comparison.systems:
        return []
    if recording.has_truth:
        paths.append(folder / "ground_truth.txt")
        write_tum(paths[-1], recording.stamps_ns, recording.truth)
    for label, runs in comparison.runs.items():
        for number, run in enumerate(runs):
            paths.append(folder / (_file_name(label) + (f".run{number}" if number else "") + ".txt"))
            write_tum(paths[-1], run.stamps_ns, run.poses)
    for name, run in comparison.systems.items():
        paths.append(folder / f"{_file_name(name)}.txt")
        write_tum(paths[-1], run.stamps_ns, run.poses)
    return paths


def _file_name(label: str) -> str:
    return re.sub(r"[^\w.@+-]", "_", label)
