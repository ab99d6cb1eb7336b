# SPDX-License-Identifier: Apache-2.0
"""What upright alignment is worth: matches by roll on rolled photographs, relative pose on sequences that roll.

    python benchmarks/upright.py --pictures PHOTOS --room --tum tum_fr1_rpy_clip --out upright.json

Photographs are rolled by rendering and change in brightness, blur and noise; the share of keypoints with a correct
match (within 3 px) is taken without alignment, with the true roll, and with a roll that is off by a normal error. On
sequences pairs of frames count as solved if the pose from their matches is within 3 degrees and 5 cm of the truth: on
the rendered room, through which the camera rolls to and fro, the roll of every frame is off by such an error, on the
TUM sequence it comes from the accelerometer alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.evaluation.benchmark import correct_share, frames_of_pairs
from gcnv2_ros.evaluation.bootstrap import summarise
from gcnv2_ros.evaluation.frontends import parse_frontend
from gcnv2_ros.evaluation.homography import HomographyPair, score_pair, synthetic_pairs
from gcnv2_ros.evaluation.jackknife import difference_of_pairs
from gcnv2_ros.evaluation.pose import PoseResult, frames_to_score, score_pose_pairs
from gcnv2_ros.extraction import Extractor
from gcnv2_ros.features import Features
from gcnv2_ros.files import atomic_write
from gcnv2_ros.sequences import Frame, open_sequence
from gcnv2_ros.sequences import Sequence as FrameSequence
from gcnv2_ros.training.pictures import find_photographs
from gcnv2_ros.upright import GravityFilter, roll_of

ROLLS = tuple(range(0, 181, 15))
ROLL_BINS = (0, 10, 20, 30, 45, 60, 90, 120, 180)
ROOM = "room:frames=135,roll_degrees=180,noise=2,seed=3"
# Of the Kinect of the TUM sequences: from the accelerometer's axes to the optical frame.
_KINECT_AXES = np.array((-1.0, -1.0, 1.0))


def rolled_photographs(
    extractor: Extractor, pictures: Sequence[Path], count: int, roll_error: float
) -> dict[str, dict[str, Any]]:
    """Shares of keypoints with a correct match by roll, ``without``, ``with`` and ``with error``."""
    rng = np.random.default_rng(0)
    results: dict[str, dict[str, Any]] = {}
    for roll in ROLLS:
        shares: dict[str, list[float]] = {"without": [], "with": [], "with error": []}
        pairs = synthetic_pairs(pictures, count=count, seed=8, roll=float(roll))
        for pair in pairs:
            first = extractor.extract(pair.first)
            errors = rng.normal(0.0, roll_error, 2)
            shares["without"].append(_share(first, extractor.extract(pair.second), pair))
            shares["with"].append(_share(first, extractor.extract(pair.second, roll=roll), pair))
            askew = extractor.extract(pair.first, roll=errors[0])
            shares["with error"].append(_share(askew, extractor.extract(pair.second, roll=roll + errors[1]), pair))
        shown = [pair.picture for pair in pairs]
        results[str(roll)] = {name: summarise(values, shown) for name, values in shares.items()}
    return results


def _share(first: Features, second: Features, pair: HomographyPair) -> float:
    return correct_share(score_pair(first, second, pair.homography, draws=0))


def accelerometer_rolls(folder: Path, stamps_ns: Sequence[int]) -> list[float]:
    """The roll at each time from a TUM sequence's ``accelerometer.txt``; the last known one where there is none."""
    path = folder / "accelerometer.txt"
    if not path.is_file():
        raise GCNv2Error(f"{folder} has no accelerometer.txt; the rolls of its frames are not known")
    rows = np.loadtxt(path)
    gravity_filter = GravityFilter(history=float(rows[-1, 0] - rows[0, 0]) + 1.0)
    for seconds, *acceleration in rows.tolist():
        gravity_filter.update(round(seconds * 1e9), None, _KINECT_AXES * acceleration)
    rolls = []
    roll = 0.0
    for stamp in stamps_ns:
        gravity = gravity_filter.gravity_at(stamp)
        known = None if gravity is None else roll_of(gravity)
        roll = roll if known is None else known
        rolls.append(roll)
    return rolls


def room_pairs(
    extractor: Extractor, orb: Extractor, room: str, roll_error: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """`pose_pairs` on a rendered room, with rolls that are off by a normal error of its own each frame."""
    sequence = open_sequence(room)
    errors = np.random.default_rng(0).normal(0.0, roll_error, len(sequence))
    rolls = [true_roll(frame) + float(error) for frame, error in zip(frames_to_score(sequence), errors)]
    return pose_pairs(extractor, orb, sequence, rolls, say)


def tum_pairs(
    extractor: Extractor, orb: Extractor, folder: Path, clock_offset: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """`pose_pairs` on a TUM sequence, with rolls from its accelerometer."""
    sequence = open_sequence(folder, clock_offset=clock_offset)
    rolls = accelerometer_rolls(folder, [frame.stamp_ns for frame in frames_to_score(sequence)])
    return pose_pairs(extractor, orb, sequence, rolls, say)


def true_roll(frame: Frame) -> float:
    """The roll of a frame with a pose in a world whose z axis points up; 0 where there is none to speak of."""
    return 0.0 if frame.pose is None else roll_of(-frame.pose[2, :3]) or 0.0


def pose_pairs(
    extractor: Extractor, orb: Extractor, sequence: FrameSequence, rolls: list[float], say: Callable[[str], None]
) -> dict[str, Any]:
    """Success by true roll between the frames, with 95% intervals of the differences."""
    frames = frames_to_score(sequence)
    camera = sequence.camera
    if camera is None:
        raise GCNv2Error(f"{sequence.name} has no calibration")
    truth = [true_roll(frame) for frame in frames]
    posed = [(roll, true) for roll, true, frame in zip(rolls, truth, frames) if frame.pose is not None]
    errors = [abs(math.remainder(roll - true, 360.0)) for roll, true in posed]
    scores: dict[str, list[PoseResult]] = {}
    upright_from = {"orb": None, "without": None, "with": rolls, "true roll": truth}
    for name, known in upright_from.items():
        say(f"{sequence.name}: {name}")
        chosen = orb if name == "orb" else extractor
        features = [chosen.extract(frame.gray, roll=roll) for frame, roll in zip(frames, known or [0.0] * len(frames))]
        scores[name] = score_pose_pairs(features, frames, camera)
    bins = list(itertools.pairwise(ROLL_BINS))
    return {
        "frames": len(frames),
        "rolls": [min(rolls), max(rolls)],
        "roll error": {"median": float(np.median(errors)), "p90": float(np.percentile(errors, 90))},
        "all": _success(scores, 0, 180),
        "by roll": {f"{low}-{high}": _success(scores, low, high) for low, high in bins},
        "with - without": _difference(scores["with"], scores["without"]),
        "with - orb": _difference(scores["with"], scores["orb"]),
        "true roll - without": _difference(scores["true roll"], scores["without"]),
    }


def _success(scores: dict[str, list[PoseResult]], low: float, high: float) -> dict[str, float]:
    # What is upside down belongs to the last class.
    end = math.inf if high == ROLL_BINS[-1] else high
    inside = {name: [r.success for r in results if low <= r.roll < end] for name, results in scores.items()}
    shares = {name: float(np.mean(values)) if values else math.nan for name, values in inside.items()}
    return {"pairs": len(inside["with"]), **shares}


def _difference(ours: Sequence[PoseResult], theirs: Sequence[PoseResult]) -> dict[str, float] | None:
    interval = difference_of_pairs([r.success for r in ours], [r.success for r in theirs], frames_of_pairs(ours))
    return None if interval is None else vars(interval)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frontend", default="gcnv2_tiny@320x240", help="MODEL[=WEIGHTS][@WxH] (default: %(default)s)")
    parser.add_argument("--budget", type=int, default=500, help="keypoints an image (default: %(default)s)")
    parser.add_argument("--pictures", type=Path, default=None, help="folder of photographs")
    parser.add_argument("--pairs", type=int, default=12, help="photographs a roll angle (default: %(default)s)")
    parser.add_argument("--roll-error", type=float, default=3.0, help="degrees, standard deviation (default: 3)")
    parser.add_argument("--room", nargs="?", const=ROOM, default=None, help="rendered room (default: %(const)s)")
    parser.add_argument("--tum", type=Path, default=None, help="folder of a TUM RGB-D sequence with accelerometer.txt")
    parser.add_argument("--clock-offset", type=float, default=-0.011, help="seconds from an image's stamp to its pose")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine (default: its own choice)")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    chosen = parser.parse_args(arguments)
    if chosen.pictures is None and chosen.room is None and chosen.tum is None:
        parser.error("nothing to run on: give --pictures, --room or --tum, or several of them")
    report: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "frontend": chosen.frontend, "budget": chosen.budget}

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        frontend = parse_frontend(chosen.frontend, threads=chosen.threads)
        with frontend.create(chosen.budget) as extractor, parse_frontend("orb").create(chosen.budget) as orb:
            report["model"] = json.loads(extractor.info.to_json())
            if chosen.pictures is not None:
                say("rolled photographs")
                pictures = find_photographs(chosen.pictures)
                report["photographs"] = rolled_photographs(extractor, pictures, chosen.pairs, chosen.roll_error)
                _print_photographs(report["photographs"], chosen.roll_error)
            if chosen.room is not None:
                report["room"] = room_pairs(extractor, orb, chosen.room, chosen.roll_error, say)
                _print_poses(chosen.room, report["room"])
            if chosen.tum is not None:
                report["pose"] = tum_pairs(extractor, orb, chosen.tum, chosen.clock_offset, say)
                _print_poses(str(chosen.tum), report["pose"])
    except GCNv2Error as error:
        parser.error(str(error))
    if chosen.out is not None:
        atomic_write(chosen.out, json.dumps(report, indent=1))
    return 0


def _print_photographs(results: dict[str, dict[str, Any]], roll_error: float) -> None:
    print(f"| roll | without | with | roll off by {roll_error:g} degrees (1 sigma) |\n| --- | --- | --- | --- |")
    for roll, entry in results.items():
        print(f"| {roll} | " + " | ".join(f"{entry[name]['mean']:.3f}" for name in entry) + " |")


def _print_poses(title: str, pose: dict[str, Any]) -> None:
    print(f"\n{title}\n\n| roll between the frames | pairs | ORB | without | with | with the true roll |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, entry in (*pose["by roll"].items(), ("all", pose["all"])):
        if entry["pairs"]:
            shares = " | ".join(f"{entry[column]:.3f}" for column in ("orb", "without", "with", "true roll"))
            print(f"| {name} | {entry['pairs']} | {shares} |")
    for name in ("with - without", "with - orb", "true roll - without"):
        if pose[name] is None:
            print(f"{name}: too few frames for an interval")
        else:
            print(f"{name}: {pose[name]['mean']:+.3f} [{pose[name]['low']:+.3f}, {pose[name]['high']:+.3f}]")
    print(f"roll as given: error {pose['roll error']['median']:.1f} degrees (median)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
