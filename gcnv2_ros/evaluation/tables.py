# SPDX-License-Identifier: Apache-2.0
"""Benchmark results as Markdown tables and as a plot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..files import atomic_path
from ..libraries import import_library
from .benchmark import ROLL, TILT
from .bootstrap import FEWEST_BLOCKS
from .jackknife import BLOCK_FRAMES, FEWEST_FRAME_BLOCKS


def markdown_tables(results: dict[str, Any]) -> str:
    """Render the results of `run_benchmark`; one table a keypoint budget and kind of data."""
    parts = []
    for budget, by_label in results.items():
        first = next(iter(by_label.values()))
        for name in _sets(first):
            scores = [score for score in first[name] if score != "keypoints"]
            rows = [
                [
                    label,
                    f"{entry[name]['keypoints']:.0f}",
                    *(_mean_with_half_width(entry[name][score]) for score in scores),
                ]
                for label, entry in by_label.items()
            ]
            pictures = first[name][scores[0]]["blocks"]
            enough = pictures >= FEWEST_BLOCKS
            brackets = " (in brackets: half of the 95% interval)" if enough else ""
            parts.append(f"**{name}, {budget} keypoints**{brackets}\n")
            parts.append(markdown_table(["frontend", "keypoints", *scores], rows))
            if not enough:
                parts.append(
                    f"No intervals: the pairs show only {pictures} of the {FEWEST_BLOCKS} pictures that are needed.\n"
                )
        for kind, score in ((ROLL, "matching share"), (TILT, "matching share"), (TILT, "MMA@3")):
            if angles := _by_angle(first, kind, score):
                rows = [
                    [label, *(f"{mean:.2f}" for mean in _by_angle(entry, kind, score).values())]
                    for label, entry in by_label.items()
                ]
                parts.append(f"**{score} against {kind}in degrees, {budget} keypoints**\n")
                parts.append(markdown_table(["frontend", *map(str, angles)], rows))
        if all("pose" in entry for entry in by_label.values()):
            rows = [_pose_row(label, entry["pose"]) for label, entry in by_label.items()]
            heading = [
                "frontend",
                "success",
                "difference from ORB [95%]",
                "area",
                "difference from ORB [95%]",
                "keypoints",
                "inliers",
            ]
            pairs = first["pose"]["pairs"]
            parts.append(f"**relative pose, {pairs} frame pairs, {budget} keypoints**\n")
            parts.append(markdown_table(heading, rows))
            if first["pose"]["blocks"] < FEWEST_FRAME_BLOCKS:
                parts.append(
                    f"No intervals of differences: the pairs touch only {first['pose']['blocks']} of the "
                    f"{FEWEST_FRAME_BLOCKS} blocks of {BLOCK_FRAMES} frames that are needed.\n"
                )
    return "\n".join(parts)


def _sets(entry: dict[str, Any]) -> list[str]:
    """The names of the sets of homography pairs among one frontend's results."""
    return [name for name in entry if not name.startswith((ROLL, TILT)) and name != "pose"]


def _by_angle(entry: dict[str, Any], kind: str, score: str) -> dict[int, float]:
    """Among one frontend's results the means of a score under `ROLL` or `TILT`, by the angle in degrees."""
    return {
        int(name.removeprefix(kind)): scores[score]["mean"] for name, scores in entry.items() if name.startswith(kind)
    }


def _pose_row(label: str, pose: dict[str, Any]) -> list[str]:
    difference = pose.get("difference from orb")
    texts = ["", ""]
    if difference:
        texts = [
            f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" for d in (difference["success"], difference["area"])
        ]
    return [
        label,
        f"{pose['success']:.3f}",
        texts[0],
        f"{pose['area']:.3f}",
        texts[1],
        f"{pose['keypoints']:.0f}",
        f"{pose['inliers']:.0f}",
    ]


def _mean_with_half_width(score: dict[str, Any]) -> str:
    """A mean with half of its interval in brackets, where it has one."""
    return f"{score['mean']:.3f}" + (f" ({(score['high'] - score['low']) / 2:.3f})" if score["low"] is not None else "")


def _reach(score: dict[str, Any]) -> tuple[float, float]:
    """How far a mean's interval reaches down and up; NaN, of which nothing is drawn, where it has none."""
    if score["low"] is None:
        return math.nan, math.nan
    return score["mean"] - score["low"], score["high"] - score["mean"]


def markdown_table(heading: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; every row has as many cells as the heading."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def plot_results(results: dict[str, Any], path: Path) -> None:
    """Plot MMA@3 of each set, and matching share against roll and tilt, for the largest keypoint budget.

    Raises
    ------
    MissingDependencyError, LibraryError
        If matplotlib is not installed, or is and cannot be imported.
    """
    matplotlib = import_library("matplotlib", "plotting the benchmark", "pip install matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    budget, by_label = max(results.items(), key=lambda item: int(item[0]))
    first = next(iter(by_label.values()))
    sets = _sets(first)
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.2), gridspec_kw={"width_ratios": [1.2, 1, 0.7]})
    width = 0.8 / max(len(by_label), 1)
    for number, (label, entry) in enumerate(by_label.items()):
        places = [place + (number - (len(by_label) - 1) / 2) * width for place in range(len(sets))]
        means = [entry[name]["MMA@3"]["mean"] for name in sets]
        errors = list(zip(*(_reach(entry[name]["MMA@3"]) for name in sets))) or None
        axes[0].bar(places, means, width, yerr=errors, capsize=2, label=label)
        for axis, kind in zip(axes[1:], (ROLL, TILT)):
            shares = _by_angle(entry, kind, "matching share")
            axis.plot(list(shares), list(shares.values()), marker=".", label=label)
    axes[0].set_xticks(range(len(sets)), sets)
    axes[0].set_ylabel("share of mutual matches within 3 px")
    axes[0].set_ylim(0, 1)
    for axis, kind, ticks in zip(axes[1:], (ROLL, TILT), (range(0, 181, 30), range(0, 76, 15))):
        axis.set_xlabel(f"{kind}of the camera, degrees")
        axis.set_ylabel("correct matches / keypoints")
        axis.set_xticks(ticks)
        axis.set_ylim(bottom=0)
    for axis in axes:
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.suptitle(f"{budget} keypoints; bars: 95% intervals, where there are enough pictures for one")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)
