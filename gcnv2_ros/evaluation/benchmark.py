# SPDX-License-Identifier: Apache-2.0
"""All feature scores of several frontends in one run: homographies, relative pose, roll, tilt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..sequences import Sequence as FrameSequence
from .bootstrap import summarise
from .frontends import Frontend, check_frontends_differ
from .homography import HomographyPair, HomographyScores, score_pairs
from .jackknife import difference_of_pairs, touched_blocks
from .pose import PoseResult, frames_to_score, score_pose_pairs

REFERENCE = "orb"
ROLL, TILT = "roll ", "tilt "
"""What the names of results begin with that are of one angle."""


@dataclass(frozen=True)
class BenchmarkData:
    """What the frontends are run on; empty parts are left out of the results.

    Attributes
    ----------
    homographies
        Sets of homography pairs by name.
    rolls, tilts
        Pairs that differ by a roll alone, and by a tilt alone, by the angle in degrees.
    sequence
        An RGB-D sequence with ground truth, or None.
    """

    homographies: dict[str, list[HomographyPair]]
    rolls: dict[int, list[HomographyPair]]
    tilts: dict[int, list[HomographyPair]]
    sequence: FrameSequence | None


def run_benchmark(
    frontends: Sequence[Frontend],
    data: BenchmarkData,
    *,
    budgets: Sequence[int],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Score every frontend with every keypoint budget.

    Parameters
    ----------
    frontends
        What is compared, with labels that differ. Differences are given to the frontend ``orb`` where it is among
        them.
    data
        What it is compared on.
    budgets
        Keypoints an image.
    say
        Called with a line of progress.

    Returns
    -------
    dict
        ``{budget: {label: {set: {score: {mean, low, high, blocks}}}}}``, plain values for JSON. Scores are shares in
        [0, 1]; whole pictures are drawn for their intervals, see `gcnv2_ros.evaluation.bootstrap.summarise`. Beside
        them is ``keypoints``, the median over pairs or, of ``pose``, frames.

    Raises
    ------
    EvaluationError
        If two frontends have the same label, or no relative pose can be judged on the sequence.
    """
    check_frontends_differ(frontends)
    results: dict[str, Any] = {}
    frames = frames_to_score(data.sequence) if data.sequence is not None else []
    camera = data.sequence.camera if data.sequence is not None else None
    for budget in budgets:
        by_label: dict[str, Any] = {}
        poses: dict[str, list[PoseResult]] = {}
        for frontend in frontends:
            say(f"{frontend.label}, {budget} keypoints")
            entry: dict[str, Any] = {}
            with frontend.create(budget) as extractor:
                for name, pairs in data.homographies.items():
                    entry[name] = summarise_homographies(pairs, score_pairs(extractor.extract, pairs))
                for kind, by_angle in ((ROLL, data.rolls), (TILT, data.tilts)):
                    for angle, pairs in by_angle.items():
                        scores = score_pairs(extractor.extract, pairs, draws=0)
                        pictures = [pair.picture for pair in pairs]
                        entry[f"{kind}{angle}"] = {
                            "keypoints": _median_keypoints(scores),
                            "matching share": summarise([correct_share(score) for score in scores], pictures),
                            "MMA@3": summarise([score.accuracy[0] for score in scores], pictures),
                        }
                if camera is not None:
                    features = [extractor.extract(frame.gray) for frame in frames]
                    poses[frontend.label] = score_pose_pairs(features, frames, camera)
                    entry["pose"] = summarise_poses(poses[frontend.label])
                    entry["pose"]["keypoints"] = float(np.median([len(found) for found in features]))
            by_label[frontend.label] = entry
        if REFERENCE in poses:
            for label, ours in poses.items():
                if difference := pose_difference(ours, poses[REFERENCE]):
                    by_label[label]["pose"]["difference from orb"] = difference
        results[str(budget)] = by_label
    return results


def correct_share(score: HomographyScores) -> float:
    """Correct matches (within 3 px) as a share of the keypoints: what is left to a backend."""
    return score.accuracy[0] * score.matches / score.keypoints if score.keypoints else 0.0


def summarise_homographies(pairs: Sequence[HomographyPair], scores: Sequence[HomographyScores]) -> dict[str, Any]:
    """Means over pairs with intervals over their pictures, and the median number of keypoints."""
    values = {
        "MMA@3": [score.accuracy[0] for score in scores],
        "MMA@5": [score.accuracy[1] for score in scores],
        "repeatability@3": [score.repeatability for score in scores],
        "matching share": [correct_share(score) for score in scores],
        "homography@3": [score.homography_share(3) for score in scores],
        "homography@5": [score.homography_share(5) for score in scores],
    }
    pictures = [pair.picture for pair in pairs]
    return {
        "keypoints": _median_keypoints(scores),
        **{name: summarise(of_pairs, pictures) for name, of_pairs in values.items()},
    }


def summarise_poses(results: Sequence[PoseResult]) -> dict[str, Any]:
    """Pairs, the blocks of frames that they touch, success, area under the curve, and success by gap and by roll."""
    summary: dict[str, Any] = {
        "pairs": len(results),
        "blocks": touched_blocks(frames_of_pairs(results)),
        "success": float(np.mean([result.success for result in results])),
        "area": float(np.mean([result.area for result in results])),
        "inliers": float(np.median([result.inliers for result in results])),
        "by gap": {},
        "by roll": {},
    }
    for gap in sorted({result.gap for result in results}):
        summary["by gap"][str(gap)] = float(np.mean([result.success for result in results if result.gap == gap]))
    for low in range(0, 180, 15):
        # The last class holds its end too, or pairs that are upside down would be in none.
        inside = [result.success for result in results if min(result.roll // 15 * 15, 165) == low]
        if inside:
            summary["by roll"][f"{low}-{low + 15}"] = {"pairs": len(inside), "success": float(np.mean(inside))}
    return summary


def frames_of_pairs(results: Sequence[PoseResult]) -> list[tuple[int, int]]:
    """The indices of both frames of each pair."""
    return [(result.start, result.start + result.gap) for result in results]


def pose_difference(ours: Sequence[PoseResult], theirs: Sequence[PoseResult]) -> dict[str, Any]:
    """Difference in success and area on the same pairs, with 95% intervals by jackknife over blocks of frames.

    Empty where the pairs touch too few blocks, see `gcnv2_ros.evaluation.jackknife.interval_of_pairs`.
    """
    differences = {}
    for score in ("success", "area"):
        difference = difference_of_pairs(
            [getattr(result, score) for result in ours],
            [getattr(result, score) for result in theirs],
            frames_of_pairs(ours),
        )
        if difference is not None:
            differences[score] = vars(difference)
    return differences


def _median_keypoints(scores: Sequence[HomographyScores]) -> float:
    return float(np.median([score.keypoints for score in scores]))
