# SPDX-License-Identifier: Apache-2.0
"""Several frontends on one sequence: every score of the protocol, and each frontend's difference from the reference.

The primary score is the relative pose of pairs of frames (`pose`). Odometry is a gate, not a ranking: its error
misranks features, and what was not tracked counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from ..camera import Camera
from ..errors import GCNv2Error
from ..features import Features
from ..matching import match
from ..sequences import Frame
from ..sequences import Sequence as FrameSequence
from .benchmark import correct_share, pose_difference, summarise_poses
from .bootstrap import Interval
from .correspondence import GAP, score_frames, spread_pairs
from .frontends import Frontend
from .homography import HomographyScores, SyntheticOptions, score_pair, synthetic_pair
from .jackknife import (
    BLOCK_FRAMES,
    FEWEST_FRAME_BLOCKS,
    FramePairs,
    difference_of_pairs,
    summarise_pairs,
    touched_blocks,
)
from .odometry_runs import OdometryRow, Run, run_odometry_once, summarise_runs
from .pose import GAPS, PoseResult, score_measured_pairs
from .recording import STAGES, Progress, Recording, record

ROLLS = tuple(range(0, 181, 15))
ROW_TOLERANCE = 2.0

_EPIPOLAR_PIXELS = 1.5
_FEWEST_FOR_EPIPOLAR = 15
_JUDGED_PAIRS = 24
_ROLLED_FRAMES = 4
_STEREO_FRAMES = 30


@dataclass(frozen=True)
class ComparisonOptions:
    """What is run.

    Attributes
    ----------
    max_keypoints
        Budget an image, of every frontend.
    frames
        At most so many of each sequence; None: all.
    reference
        Label of the frontend to which differences are given.
    odometry
        Whether the odometry is run.
    runs
        Runs of the odometry; run k starts k frames later. The odometry itself is deterministic: the spread over its
        runs is what the choice of the first frame changes.
    """

    max_keypoints: int = 1000
    frames: int | None = None
    reference: str = "orb"
    odometry: bool = True
    runs: int = 3


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of one sequence.

    Attributes
    ----------
    recording
        The features.
    scores
        By label: plain values for JSON.
    runs
        Of the odometry, by label.
    odometry_note
        Why there is no odometry, or an empty text.
    systems
        Runs of other SLAM systems on the same frames, by name.
    """

    recording: Recording
    scores: dict[str, dict[str, Any]]
    runs: dict[str, list[Run]] = field(default_factory=dict)
    odometry_note: str = ""
    systems: dict[str, Run] = field(default_factory=dict)

    def odometry_rows(self) -> list[OdometryRow]:
        """The frontends' runs of the odometry, and other systems, a line each."""
        rows = [OdometryRow.of_frontend(label, self.scores[label]["odometry"]) for label in self.runs]
        return rows + [OdometryRow.of_system(name, run) for name, run in self.systems.items()]

    def values(self) -> dict[str, Any]:
        """The whole comparison as plain values for JSON."""
        recording = self.recording
        return {
            "frames": len(recording.stamps_ns),
            "seconds": float(recording.stamps_ns[-1] - recording.stamps_ns[0]) / 1e9,
            "image_size": list(recording.image_size),
            "depth": recording.depth_source,
            "ground_truth": recording.has_truth,
            "notes": recording.notes + ([self.odometry_note] if self.odometry_note else []),
            "frontends": self.scores,
            "systems": {name: run.values() for name, run in self.systems.items()},
        }


def compare(
    sequence: FrameSequence,
    frontends: Sequence[Frontend],
    options: ComparisonOptions,
    *,
    progress: Callable[[str], Progress] | None = None,
) -> Comparison:
    """Run all frontends on a sequence and score them.

    Scores for which the sequence lacks something are left out, and the recording's notes say so.

    Parameters
    ----------
    sequence
        What they are compared on.
    frontends
        With the reference among them, or differences are left out.
    options
        What is run.
    progress
        Makes, for the name of a stage, a function to be called with what is done and its total.

    Raises
    ------
    EvaluationError
        If the sequence cannot be evaluated at all; see `record`.
    """
    stage = progress or (lambda name: lambda done, total: None)
    total = len(sequence) if options.frames is None else min(options.frames, len(sequence))
    pairs = spread_pairs(total, _JUDGED_PAIRS, min(GAP, max(total - 1, 1)))
    rolled = np.unique(np.linspace(0, total - 1, min(_ROLLED_FRAMES, total)).astype(int)).tolist()
    recording = record(
        sequence,
        frontends,
        max_keypoints=options.max_keypoints,
        frames=options.frames,
        keep=[index for pair in pairs for index in pair] + rolled,
        progress=stage("extract"),
    )
    known = [pair for pair in pairs if all(recording.frames[index].has_truth for index in pair)]
    poses: dict[str, list[PoseResult]] = {}
    judged: dict[str, dict[str, list[float]]] = {}
    scores: dict[str, dict[str, Any]] = {}
    report = stage("score")
    for number, frontend in enumerate(frontends):
        label = frontend.label
        features = recording.features[label]
        entry: dict[str, Any] = {
            "keypoints": float(np.median([len(found) for found in features])),
            "milliseconds": _milliseconds(recording, label),
            "matching": match_statistics(features, pairs),
        }
        if recording.camera is not None and recording.has_truth and recording.depth_source != "none":
            poses[label] = score_measured_pairs(features, recording.poses, recording.camera)
            if poses[label]:
                entry["pose"] = {
                    **summarise_poses(poses[label]),
                    "matches": float(np.median([result.matches for result in poses[label]])),
                    "inlier ratio": _inlier_ratio(poses[label]),
                }
        if known and recording.camera is not None:
            judged[label] = _judge(recording, label, known, recording.camera)
            entry["correspondence"] = {name: summarise_pairs(values, known) for name, values in judged[label].items()}
            entry["correspondence"]["pairs"] = len(known)
        if label in recording.right:
            entry["stereo"] = stereo_statistics(features, recording.right[label])
        entry["roll"] = _roll_scores(frontend, options.max_keypoints, [recording.frames[index] for index in rolled])
        scores[label] = entry
        report(number + 1, len(frontends))
    if poses and not any(poses.values()):
        recording.notes.append(_too_few_frames(recording))
    _add_differences(scores, poses, judged, known, options.reference)
    recording.notes.extend(_blocks_notes(scores, touched_blocks(known)))
    comparison = Comparison(recording, scores)
    if options.odometry:
        comparison = _with_odometry(comparison, options, stage)
    return comparison


def verdict(difference: dict[str, float] | Interval | None) -> str:
    """``better``, ``worse``, or ``tie`` where the 95% interval of a difference holds zero; empty without one."""
    if difference is None:
        return ""
    low, high = (difference.low, difference.high) if isinstance(difference, Interval) else (
        difference["low"], difference["high"],
    )  # fmt: skip
    return "better" if low > 0 else "worse" if high < 0 else "tie"


def match_statistics(features: Sequence[Features], pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Medians over pairs of frames: mutual matches, and the share of them that one epipolar geometry explains."""
    counts, ratios = [], []
    for first, second in pairs:
        matches = match(features[first], features[second])
        counts.append(len(matches))
        if len(matches) < _FEWEST_FOR_EPIPOLAR:
            ratios.append(0.0)
            continue
        _, inliers = cv2.findFundamentalMat(
            features[first].uv[matches.index_a], features[second].uv[matches.index_b],
            cv2.USAC_MAGSAC, _EPIPOLAR_PIXELS, 0.999, 2000,
        )  # fmt: skip
        ratios.append(0.0 if inliers is None else float(np.mean(inliers)))
    return {
        "pairs": len(pairs),
        "matches": float(np.median(counts)) if counts else 0.0,
        "inlier ratio": float(np.median(ratios)) if ratios else 0.0,
    }


def stereo_statistics(left: Sequence[Features], right: Sequence[Features]) -> dict[str, float]:
    """Of rectified pairs: share of mutual matches in the same row with a positive disparity, and their number.

    The same row means within `ROW_TOLERANCE` pixels.
    """
    indices = np.unique(np.linspace(0, len(left) - 1, min(len(left), _STEREO_FRAMES)).astype(int))
    shares, counts, measured = [], [], []
    for index in indices:
        matches = match(left[index], right[index])
        difference = left[index].uv[matches.index_a] - right[index].uv[matches.index_b]
        good = (np.abs(difference[:, 1]) < ROW_TOLERANCE) & (difference[:, 0] > 0)
        shares.append(float(good.mean()) if len(good) else 0.0)
        counts.append(int(good.sum()))
        measured.append(int(np.isfinite(left[index].depth).sum()))
    return {
        "pairs": len(indices),
        "row share": float(np.mean(shares)),
        "row matches": float(np.median(counts)),
        "with depth": float(np.median(measured)),
    }


def _milliseconds(recording: Recording, label: str) -> dict[str, float]:
    seconds = 1e3 * recording.seconds[label]
    total = seconds.sum(axis=1)
    return {
        **{stage: float(np.median(seconds[:, number])) for number, stage in enumerate(STAGES)},
        "total": float(np.median(total)),
        "p95": float(np.percentile(total, 95)),
    }


def _inlier_ratio(results: Sequence[PoseResult]) -> float:
    return float(np.median([result.inliers / result.matches if result.matches else 0.0 for result in results]))


def _judge(
    recording: Recording, label: str, pairs: Sequence[tuple[int, int]], camera: Camera
) -> dict[str, list[float]]:
    """Repeatability and matching accuracy of pairs whose geometry is known."""
    values: dict[str, list[float]] = {"MMA@3": [], "MMA@5": [], "repeatability@3": [], "matching share": []}
    for first, second in pairs:
        features = recording.features[label][first], recording.features[label][second]
        score = score_frames(features, recording.frames[first], recording.frames[second], camera)
        values["MMA@3"].append(score.accuracy[0])
        values["MMA@5"].append(score.accuracy[1])
        values["repeatability@3"].append(score.repeatability)
        values["matching share"].append(score.accuracy[0] * score.judged / score.keypoints if score.keypoints else 0.0)
    return values


def _roll_scores(frontend: Frontend, budget: int, frames: Sequence[Frame]) -> dict[str, Any]:
    """Matching under roll alone, of frames of the sequence turned about their middle."""
    scores: dict[int, list[HomographyScores]] = {roll: [] for roll in ROLLS}
    with frontend.create(budget) as extractor:
        for frame in frames:
            options = SyntheticOptions(size=(frame.gray.shape[1], frame.gray.shape[0]))
            upright = extractor.extract(frame.gray)
            for roll in ROLLS:
                rng = np.random.default_rng([8, frame.index])
                pair = synthetic_pair(frame.gray, rng, options, name=str(frame.index), roll=roll)
                turned = extractor.extract(pair.second)
                scores[roll].append(score_pair(upright, turned, pair.homography, draws=0))
    return {
        str(roll): {
            "matching share": float(np.mean([correct_share(score) for score in made])),
            "MMA@3": float(np.mean([score.accuracy[0] for score in made])),
        }
        for roll, made in scores.items()
    }


def _add_differences(
    scores: dict[str, dict[str, Any]],
    poses: dict[str, list[PoseResult]],
    judged: dict[str, dict[str, list[float]]],
    pairs: FramePairs,
    reference: str,
) -> None:
    if reference not in scores:
        return
    for label, entry in scores.items():
        if label == reference:
            continue
        if "pose" in entry and (pose := pose_difference(poses[label], poses[reference])):
            entry["pose"]["difference"] = pose
        if "correspondence" in entry:
            found = {
                name: difference_of_pairs(values, judged[reference][name], pairs)
                for name, values in judged[label].items()
            }
            if known := {name: vars(interval) for name, interval in found.items() if interval is not None}:
                entry["correspondence"]["difference"] = known


def _too_few_frames(recording: Recording) -> str:
    """Why there is no relative pose, although the sequence has all that it takes."""
    known = sum(pose is not None for pose in recording.poses)
    return (
        f"{known} frames with ground truth are too few for pairs {', '.join(map(str, GAPS))} frames apart: relative "
        "pose is left out"
    )


def _blocks_notes(scores: dict[str, dict[str, Any]], judged_blocks: int) -> list[str]:
    """Which differences have no interval, and why; the pairs are the same of all frontends."""
    entry = next(iter(scores.values()))
    counts = {
        "relative pose": entry["pose"]["blocks"] if "pose" in entry else None,
        "repeatability and accuracy": judged_blocks if "correspondence" in entry else None,
    }
    return [
        f"no intervals of differences in {name}: the pairs with ground truth touch only {count} of the "
        f"{FEWEST_FRAME_BLOCKS} blocks of {BLOCK_FRAMES} frames that are needed"
        for name, count in counts.items()
        if count is not None and count < FEWEST_FRAME_BLOCKS
    ]


def _with_odometry(comparison: Comparison, options: ComparisonOptions, stage: Callable[[str], Progress]) -> Comparison:
    recording = comparison.recording
    if recording.camera is None or recording.depth_source == "none":
        return comparison
    runs: dict[str, list[Run]] = {}
    report = stage("odometry")
    total = options.runs * len(recording.features)
    try:
        for label in recording.features:
            runs[label] = []
            for start in range(min(options.runs, len(recording.stamps_ns) - 1)):
                runs[label].append(run_odometry_once(recording, label, start))
                report(len(runs) * options.runs - options.runs + start + 1, total)
    except GCNv2Error as error:
        note = f"no odometry: {error}"
        return Comparison(recording, comparison.scores, odometry_note=note, systems=comparison.systems)
    for label, made in runs.items():
        comparison.scores[label]["odometry"] = summarise_runs(
            made, runs.get(options.reference), label, options.reference
        )
    return Comparison(recording, comparison.scores, runs, systems=comparison.systems)
