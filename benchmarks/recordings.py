# SPDX-License-Identifier: Apache-2.0
"""Play recordings to the node and report what it answers: frames, keypoints, depth.

The node is a process of its own and is given every frame (`queue: all`), slowly enough that none is lost. Recordings
with depth images are played to `mode: rgbd`, where the depth of every keypoint is compared with that of the image it
came from; those with a right image to `mode: stereo`, where the depth of what stays where it was is compared between
successive frames, which says something only of a camera that stands still.

    python benchmarks/recordings.py tum_fr1_rpy_clip -p tracking:=true
    python benchmarks/recordings.py euroc_v101_clip -p rectify:=true --frames 40
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcnv2_ros.depth import sample_depth
from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.features import Features
from gcnv2_ros.files import atomic_write
from gcnv2_ros.matching import match
from gcnv2_ros.ros.demonstration import run_demonstration
from gcnv2_ros.sequences import Frame, Sequence, SequenceError, open_sequence

# Pixels by which a keypoint of a camera that stands still may move between two frames.
_STILL = 1.0


def mode_of(sequence: Sequence, frame: Frame) -> str:
    """The mode for what a recording holds.

    Raises
    ------
    SequenceError
        If there is nothing to take depth from.
    """
    if frame.depth is not None:
        return "rgbd"
    if frame.right is not None:
        return "stereo"
    raise SequenceError(f"{sequence.name} has neither depth images nor a right camera")


def percentiles(values: NDArray[np.floating], *levels: float) -> list[float]:
    """`numpy.percentile` of each level; NaN where there is no value."""
    return np.percentile(values, levels).tolist() if len(values) else [float("nan")] * len(levels)


def against_depth_images(frames: SequenceOf[Frame], features: dict[int, Features]) -> dict[str, Any]:
    """How often the depth image has a value at a keypoint, and how far the keypoint's depth is from that value."""
    present, errors = [], []
    for frame in frames:
        if frame.depth is None or frame.index not in features:
            continue
        found = features[frame.index]
        # The pixel's own value, whatever lies around it.
        value = sample_depth(frame.depth, found.uv, found.image_size, edge=np.inf)
        present.append(np.isfinite(value))
        errors.append(np.abs(found.depth - value)[np.isfinite(found.depth)])
    (largest,) = percentiles(np.concatenate(errors), 100)
    return {
        "depth image has a value": float(np.concatenate(present).mean()),
        "largest difference from it (m)": largest,
    }


def between_frames(features: dict[int, Features]) -> dict[str, Any]:
    """How much the depth of keypoints that match, and stay where they were, differs from frame to frame."""
    differences = []
    for index in sorted(features):
        if index + 1 not in features:
            continue
        first, second = features[index], features[index + 1]
        matches = match(first, second)
        a, b = matches.index_a, matches.index_b
        still = np.linalg.norm(first.uv[a] - second.uv[b], axis=1) <= _STILL
        depth_a, depth_b = first.depth[a[still]], second.depth[b[still]]
        known = np.isfinite(depth_a) & np.isfinite(depth_b)
        differences.append(np.abs(depth_b - depth_a)[known] / depth_a[known])
    relative = np.concatenate(differences) if differences else np.zeros(0)
    median, p99 = percentiles(relative, 50, 99)
    return {"depth difference, median": median, "depth difference, p99": p99, "compared": len(relative)}


def measure(sequence: Sequence, frames: list[Frame], *, parameters: SequenceOf[str], rate: float) -> dict[str, Any]:
    """Play `frames` to the node with `parameters`, ``NAME:=VALUE``, and summarise what it published."""
    mode = mode_of(sequence, frames[0])
    given = dict(parameter.split(":=", 1) for parameter in parameters)
    played = run_demonstration(
        sequence,
        frames,
        parameters={"mode": mode, "queue": "all", "queue_limit": len(frames), **given},
        rate=rate,
        reliability="reliable",
        say=lambda text: print(text, file=sys.stderr),
    )
    features = played.features
    if not features:
        raise GCNv2Error(f"the node answered none of {len(frames)} frames of {sequence.name}")
    depths = np.concatenate([found.depth for found in features.values()])
    report = {
        "frames": len(frames),
        "answered": len(features),
        "keypoints, median": float(np.median([len(found) for found in features.values()])),
        "with depth": float(np.isfinite(depths).mean()),
        "depth, 5% and 95% (m)": percentiles(depths[np.isfinite(depths)], 5, 95),
    }
    return report | (against_depth_images(frames, features) if mode == "rgbd" else between_frames(features))


def main(arguments: SequenceOf[str] | None = None) -> int:
    """Run, print the figures, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequence", metavar="SEQUENCE", help="as for gcnv2 replay")
    parser.add_argument("--frames", type=int, default=None, help="at most so many (default: all)")
    parser.add_argument("--rate", type=float, default=0.1, help="speed relative to the stamps (default: 0.1)")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME:=VALUE", help="of the node; may be repeated"
    )
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    chosen = parser.parse_args(arguments)
    if chosen.rate <= 0 or (chosen.frames is not None and chosen.frames < 1):
        parser.error("--rate and --frames must be positive")
    if not all(":=" in parameter for parameter in chosen.parameter):
        parser.error("a parameter is written as NAME:=VALUE")
    try:
        sequence = open_sequence(chosen.sequence)
        count = len(sequence) if chosen.frames is None else min(chosen.frames, len(sequence))
        frames = [sequence[index] for index in range(count)]
        figures = measure(sequence, frames, parameters=chosen.parameter, rate=chosen.rate)
    except GCNv2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = {"date": time.strftime("%Y-%m-%d"), "sequence": sequence.name, "parameters": chosen.parameter, **figures}
    for name, value in report.items():
        print(f"{name:<34}{value:.4g}" if isinstance(value, float) else f"{name:<34}{value}")
    if chosen.out is not None:
        atomic_write(chosen.out, json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
