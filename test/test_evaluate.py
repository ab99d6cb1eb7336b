# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 evaluate`: the judge ranks what is known to be better higher, and its figures are those of evo."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gcnv2_ros.camera import Camera
from gcnv2_ros.cli.main import main
from gcnv2_ros.errors import MissingDependencyError
from gcnv2_ros.evaluation.benchmark import pose_difference
from gcnv2_ros.evaluation.comparison import ComparisonOptions, compare, stereo_statistics, verdict
from gcnv2_ros.evaluation.correspondence import score_frames, true_positions
from gcnv2_ros.evaluation.frontends import parse_frontend
from gcnv2_ros.evaluation.homography import EvaluationError
from gcnv2_ros.evaluation.odometry_runs import Run, run_odometry_once, summarise_runs
from gcnv2_ros.evaluation.output import text_tables
from gcnv2_ros.evaluation.pose import score_measured_pairs
from gcnv2_ros.evaluation.recording import record
from gcnv2_ros.evaluation.report import write_report
from gcnv2_ros.evaluation.trajectory import RPE_FRAMES, TrajectoryScores, score_trajectory
from gcnv2_ros.features import Features
from gcnv2_ros.geometry import invert_pose, pose_from_quaternion
from gcnv2_ros.sequences import Frame, RoomOptions, Sequence, SyntheticRoom, open_sequence

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ROOM = "room:width=160,height=120,frames=8,seed=4,rate=5"


class Frames(Sequence):
    """Frames of the room, changed."""

    def __init__(self, **changes: Any) -> None:
        room = SyntheticRoom(RoomOptions(width=160, height=120, frames=3, seed=4))
        self.name = "clip"
        self.camera = None if changes.pop("uncalibrated", False) else room.camera  # type: ignore[assignment]
        self.frames = [replace(frame, **changes) for frame in room]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[self._position(index)]


def flipped(features: list[Features], share: float) -> list[Features]:
    rng = np.random.default_rng(0)
    return [
        found.with_arrays(descriptors=found.descriptors ^ np.packbits(rng.random((len(found), 256)) < share, axis=1))
        for found in features
    ]


@pytest.mark.slow
def test_the_judge_ranks_orb_by_its_keypoints_and_its_bits_on_real_frames() -> None:
    clip = SHARED / "tum_fr1_rpy_clip"
    if not clip.exists():
        pytest.skip("the clip of TUM freiburg1_rpy is not on this machine")
    sequence = open_sequence(f"{clip}@clock_offset=-0.011")
    orb = parse_frontend("orb")
    many, few = (record(sequence, [orb], max_keypoints=count) for count in (1000, 250))
    assert sequence.camera is not None
    variants = {"1000": many.features["orb"], "250": few.features["orb"]}
    variants["flipped"] = flipped(many.features["orb"], 0.2)
    results = {
        name: score_measured_pairs(features, many.poses, sequence.camera, gaps=(10, 20))
        for name, features in variants.items()
    }
    for name in ("250", "flipped"):
        difference = pose_difference(results[name], results["1000"])
        assert verdict(difference["area"]) == "worse", (name, difference)
        assert difference["success"]["mean"] < 0


def test_the_judge_ranks_orb_in_the_room() -> None:
    room = SyntheticRoom(RoomOptions(width=320, height=240, frames=26, seed=3, rate=8, noise=6))
    orb = parse_frontend("orb")
    many, few = (record(room, [orb], max_keypoints=count) for count in (1000, 60))
    variants = {"many": many.features["orb"], "few": few.features["orb"]}
    variants["flipped"] = flipped(many.features["orb"], 0.2)
    area = {
        name: np.mean(
            [result.area for result in score_measured_pairs(features, many.poses, room.camera, gaps=(10, 15))]
        )
        for name, features in variants.items()
    }
    assert area["many"] > area["flipped"] > 0
    assert area["many"] > area["few"]


def test_the_room_s_true_positions_are_where_the_points_are() -> None:
    room = SyntheticRoom(RoomOptions(width=160, height=120, frames=5, seed=4))
    first, second = room[0], room[4]
    rng = np.random.default_rng(0)
    uv = np.rint(rng.uniform((2, 2), (157, 117), (200, 2))).astype(np.float32)
    features = Features(uv, np.zeros(200), np.zeros((200, 32), np.uint8), (160, 120))
    same, visible = true_positions(features, first, first, room.camera)
    assert visible.mean() > 0.7
    np.testing.assert_allclose(same[visible], uv[visible], atol=1e-3)
    there, visible = true_positions(features, first, second, room.camera)
    back_features = features.with_arrays(uv=np.nan_to_num(there).astype(np.float32))
    back, seen = true_positions(back_features, second, first, room.camera)
    both = visible & seen
    assert both.mean() > 0.5
    assert np.median(np.linalg.norm(back[both] - uv[both], axis=1)) < 0.1


CAMERA = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)


def box_before_a_wall(index: int, x: float) -> Frame:
    """What a camera at `x` metres sees of a wall 4 m away and of a box 2 m away, between x = 0.2 and 0.7 m."""
    at_two_metres = x + 2 * (np.arange(64) - CAMERA.cx) / CAMERA.fx
    depth = np.where((at_two_metres > 0.2) & (at_two_metres < 0.7), 2.0, 4.0).astype(np.float32)
    pose = np.eye(4)
    pose[0, 3] = x
    return Frame(index, index, np.zeros((48, 64), np.uint8), np.tile(depth, (48, 1)), pose=pose)


def features_at(uv: np.ndarray, descriptors: np.ndarray) -> Features:
    return Features(uv.astype(np.float32), np.zeros(len(uv)), descriptors, (64, 48))


def test_what_is_hidden_in_the_other_frame_is_not_judged() -> None:
    first, second = box_before_a_wall(0, 0.0), box_before_a_wall(1, 1.0)
    u, v = np.meshgrid(np.arange(2, 64, 4.0), np.arange(2, 48, 4.0))
    uv = np.column_stack([u.ravel(), v.ravel()])
    descriptors = np.random.default_rng(0).integers(0, 256, (len(uv), 32), dtype=np.uint8)
    features = features_at(uv, descriptors)
    truth, visible = true_positions(features, first, second, CAMERA)
    box = (uv[:, 0] > 37) & (uv[:, 0] < 49)
    np.testing.assert_allclose(truth, uv - np.where(box, 25.0, 12.5)[:, None] * [1, 0], atol=1e-4)
    # The second camera sees the box before the wall between x = -0.6 and 0.4 m, and nothing left of -1.52 m.
    np.testing.assert_array_equal(visible, (uv[:, 0] > 13) & ~((uv[:, 0] > 24) & (uv[:, 0] < 36.5)))
    # Keypoints in the middle of the box for what it hides.
    found = np.where(visible[:, None], truth, [18.0, 24.0])
    scores = score_frames((features, features_at(found, descriptors)), first, second, CAMERA)
    assert (scores.judged, scores.keypoints) == (visible.sum(), len(uv))
    assert scores.accuracy == (1.0, 1.0)


def test_matches_of_a_stereo_pair_count_in_the_same_row_and_to_the_left() -> None:
    rng = np.random.default_rng(0)
    uv = rng.uniform((15, 5), (48, 42), (40, 2))
    descriptors = rng.integers(0, 256, (40, 32), dtype=np.uint8)
    moves = np.repeat([[-8.0, 0.5], [8.0, 0.5], [-8.0, 4.0], [-8.0, -4.0]], 10, axis=0)
    told = stereo_statistics([features_at(uv, descriptors)], [features_at(uv + moves, descriptors)])
    assert (told["row share"], told["row matches"]) == (0.25, 10)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one evaluation with the command line."""
    pytest.importorskip("evo", reason="evo is not installed")
    pytest.importorskip("gtsam", reason="gtsam is not installed")
    out = tmp_path_factory.mktemp("evaluation")
    arguments = ["evaluate", "orb@160x120", "--sequence", ROOM, "--runs", "1", "--max-keypoints", "200"]
    assert main([*arguments, "--out", str(out)]) == 0
    return out


def test_the_figures_are_those_of_evo_s_own_command_line(evaluated: Path) -> None:
    values = json.loads((evaluated / "evaluation.json").read_text())["sequences"]["room-4"]["frontends"]["orb"]
    ours = values["odometry"]["runs"][0]["ate"]
    folder = evaluated / "trajectories" / "room-4"
    program = str(Path(sys.executable).parent / "evo_ape")
    files = [str(folder / "ground_truth.txt"), str(folder / "orb.txt")]
    told = subprocess.run([program, "tum", *files, "-a"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"rmse\s+([\d.]+)", told)
    assert found is not None, told
    assert ours == pytest.approx(float(found[1]), abs=2e-6)


def random_walk(seed: int, count: int) -> np.ndarray:
    """Poses (N, 4, 4) of a camera that moves and turns at random."""
    rng = np.random.default_rng(seed)
    poses = [np.eye(4)]
    for _ in range(count - 1):
        step = pose_from_quaternion(rng.normal(0, 0.1, 3), [*rng.normal(0, 0.05, 3), 1.0])
        poses.append(poses[-1] @ step)
    return np.stack(poses)


def test_the_relative_error_is_of_all_pairs_of_tracked_frames_so_far_apart() -> None:
    pytest.importorskip("evo", reason="evo is not installed")
    truth, poses = random_walk(0, 40), random_walk(1, 40)
    lost = [7, 8, 21]
    poses[lost] = np.nan
    scores = score_trajectory(np.arange(40) * 33_000_000, poses, truth)
    kept = np.delete(np.arange(40), lost)
    metres, degrees = [], []
    for start, end in zip(kept, kept[RPE_FRAMES:]):
        moved, found = (invert_pose(track[start]) @ track[end] for track in (truth, poses))
        error = invert_pose(moved) @ found
        metres.append(np.linalg.norm(error[:3, 3]))
        degrees.append(np.degrees(np.arccos((np.trace(error[:3, :3]) - 1) / 2)))
    assert scores.rpe_translation == pytest.approx(np.sqrt(np.mean(np.square(metres))), rel=1e-6)
    assert scores.rpe_rotation == pytest.approx(np.sqrt(np.mean(np.square(degrees))), rel=1e-6)


@pytest.mark.parametrize(("lost", "losses"), [((0, 1), 0), ((8, 9), 1), ((2, 3, 6, 9), 3), (tuple(range(10)), 0)])
def test_a_loss_is_counted_where_tracking_ends(lost: tuple[int, ...], losses: int) -> None:
    poses = random_walk(0, 10)
    poses[list(lost)] = np.nan
    scores = score_trajectory(np.arange(10), poses, np.full((10, 4, 4), np.nan))
    assert (scores.losses, scores.tracked) == (losses, 10 - len(lost))


def test_a_run_that_starts_later_is_scored_against_the_truth_from_there() -> None:
    pytest.importorskip("evo", reason="evo is not installed")
    pytest.importorskip("gtsam", reason="gtsam is not installed")
    recording = record(open_sequence(ROOM), [parse_frontend("orb")], max_keypoints=200)
    run = run_odometry_once(recording, "orb", start=2)
    np.testing.assert_array_equal(run.stamps_ns, recording.stamps_ns[2:])
    assert run.scores.ate == score_trajectory(recording.stamps_ns[2:], run.poses, recording.truth[2:]).ate
    # Another frame's truth is more than that away.
    assert run.scores.ate is not None
    assert run.scores.ate < 0.015


def test_without_evo_a_trajectory_s_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evo", None)
    poses = np.tile(np.eye(4), (3, 1, 1))
    with pytest.raises(MissingDependencyError, match="the error of a trajectory needs the Python library 'evo'"):
        score_trajectory(np.arange(3), poses, poses)


def test_the_report_stands_alone_and_names_the_reference(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert page.count("<svg") >= 4
    assert page.count("data:image/jpeg") >= 4
    assert "the reference" in page
    assert "orb@160x120" in page


def test_bags_of_all_formats_give_identical_results(tmp_path: Path) -> None:
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    from gcnv2_ros.sequences.bag_writer import write_bag

    room = open_sequence("room:width=160,height=120,frames=7,seed=4,rate=5")
    options = ComparisonOptions(max_keypoints=100, odometry=False)
    results = []
    for name, kind in (("a.mcap", "mcap"), ("b", "sqlite3"), ("c.bag", "ros1")):
        write_bag(room, tmp_path / name, bag_format=kind)  # type: ignore[arg-type]
        values = compare(open_sequence(str(tmp_path / name)), [parse_frontend("orb")], options).values()
        del values["frontends"]["orb"]["milliseconds"]
        results.append(values)
    assert results[0] == results[1] == results[2]
    assert results[0]["frontends"]["orb"]["pose"]["pairs"] > 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pose": None}, "no ground truth"),
        ({"depth": None}, "no depth"),
        ({"uncalibrated": True}, "no calibration"),
    ],
)
def test_what_a_sequence_lacks_is_said_and_left_out(changes: dict[str, Any], sentence: str) -> None:
    options = ComparisonOptions(max_keypoints=50, odometry=False)
    comparison = compare(Frames(**changes), [parse_frontend("orb")], options)
    assert any(sentence in note for note in comparison.recording.notes)
    entry = comparison.scores["orb"]
    assert "pose" not in entry
    assert entry["matching"]["matches"] > 5


def test_too_few_frames_for_a_pair_is_said_too() -> None:
    options = ComparisonOptions(max_keypoints=50, odometry=False)
    comparison = compare(Frames(), [parse_frontend("orb")], options)
    assert "pose" not in comparison.scores["orb"]
    told = "3 frames with ground truth are too few for pairs 5, 10, 15, 20, 30 frames apart: relative pose is left out"
    assert told in comparison.recording.notes


def some_runs(*errors: float | None) -> list[Run]:
    """Runs of an odometry with an ATE each, and nothing else."""
    none = np.arange(0.0)
    return [
        Run(
            label="orb",
            stamps_ns=np.arange(0),
            poses=np.empty((0, 4, 4)),
            scores=TrajectoryScores(3, 3, 0, error, None, None, None, None, none, none, none, none),
            milliseconds=1.0,
        )
        for error in errors
    ]


def test_runs_of_which_one_has_no_error_have_no_mean_error() -> None:
    summary = summarise_runs(some_runs(0.3, None), some_runs(0.1, 0.1), "sift", "orb")
    assert summary["ate"] is None
    assert "difference" not in summarise_runs(some_runs(0.1, 0.1), some_runs(0.3, None), "sift", "orb")["ate"]


def test_a_single_run_has_no_spread_and_gets_no_verdict() -> None:
    ate = summarise_runs(some_runs(0.3), some_runs(0.1), "sift", "orb")["ate"]
    assert ate["difference"] == pytest.approx(0.2)
    assert "spread" not in ate
    assert "exceeds spread" not in ate
    ate = summarise_runs(some_runs(0.3, 0.4), some_runs(0.1, 0.1), "sift", "orb")["ate"]
    assert ate["spread"] == pytest.approx(0.1)
    assert ate["exceeds spread"]


@pytest.mark.parametrize("count", [1, 2])
def test_tables_judge_the_difference_of_several_runs_only(count: int, tmp_path: Path) -> None:
    pytest.importorskip("evo", reason="evo is not installed")
    pytest.importorskip("gtsam", reason="gtsam is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    room = SyntheticRoom(RoomOptions(width=160, height=120, frames=8, seed=4, rate=5))
    frontends = [parse_frontend(text) for text in ("orb", "sift")]
    comparison = compare(room, frontends, ComparisonOptions(max_keypoints=200, runs=count))
    settings = {"date": "today", "machine": "this", "reference": "orb", "max_keypoints": 200, "frontends": {}}
    write_report(tmp_path / "report.html", [comparison], settings)
    difference = f"{comparison.scores['sift']['odometry']['ate']['difference']:+.4f}"
    for text in (text_tables(comparison, "orb"), (tmp_path / "report.html").read_text()):
        assert difference in text
        assert ("the spread" in text) == (count > 1)


def test_a_slam_system_s_run_stands_in_a_line_of_its_own_and_what_it_lacks_is_a_dash(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    comparison = compare(Frames(), [parse_frontend("orb")], ComparisonOptions(max_keypoints=50, odometry=False))
    (run,) = some_runs(0.25)
    comparison = replace(comparison, systems={"SLAM": run})
    assert "| SLAM | 1.000 | 0 | 0.2500 |  | - | - |" in text_tables(comparison, "orb")
    settings = {"date": "today", "machine": "this", "reference": "orb", "max_keypoints": 50, "frontends": {}}
    write_report(tmp_path / "report.html", [comparison], settings)
    line = re.search(r"SLAM</td>(.*?)</tr>", (tmp_path / "report.html").read_text())
    assert line is not None
    cells = re.findall(r"<td>(.*?)</td>", line[1])
    assert cells == ["100.0%", "0", "0.2500", "", "&ndash;", "&ndash;", "", "1"]


class PartlyTracked(Frames):
    """The room's frames again and again, with ground truth for some of them."""

    def __init__(self, count: int, tracked: range) -> None:
        super().__init__()
        frames = [self.frames[index % 3] for index in range(count)]
        self.frames = [
            replace(frame, index=index, stamp_ns=index * 33_000_000, pose=frame.pose if index in tracked else None)
            for index, frame in enumerate(frames)
        ]


@pytest.mark.parametrize(("tracked", "told"), [(range(60, 95), False), (range(10, 150), True)])
def test_a_difference_needs_pairs_in_several_blocks_of_frames(tracked: range, told: bool) -> None:
    options = ComparisonOptions(max_keypoints=50, odometry=False)
    comparison = compare(PartlyTracked(160, tracked), [parse_frontend("orb"), parse_frontend("sift")], options)
    entry = comparison.scores["sift"]
    assert entry["pose"]["pairs"] > 5
    assert entry["correspondence"]["pairs"] > 1
    assert ("difference" in entry["pose"]) == ("difference" in entry["correspondence"]) == told
    known = entry["correspondence"]["MMA@3"]
    assert (known["low"] is not None) == (known["high"] is not None) == told
    notes = [note for note in comparison.recording.notes if "no intervals of differences" in note]
    assert [note.split(":")[0].split(" in ")[1] for note in notes] == (
        [] if told else ["relative pose", "repeatability and accuracy"]
    )


def test_stamps_out_of_order_are_refused() -> None:
    with pytest.raises(EvaluationError, match="not later than the one before"):
        record(Frames(stamp_ns=5), [parse_frontend("orb")], max_keypoints=50)


@pytest.mark.parametrize("command", [["evaluate", "orb", "--sequence", ROOM], ["replay", ROOM, "x.bag"]])
def test_a_number_of_frames_below_one_is_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--frames", "-3"]) == 1
    assert "--frames must be 1 or more, got -3" in capsys.readouterr().err


def test_a_difference_is_a_tie_where_its_interval_holds_zero() -> None:
    assert verdict({"mean": 0.1, "low": -0.01, "high": 0.2}) == "tie"
    assert verdict({"mean": 0.1, "low": 0.01, "high": 0.2}) == "better"
    assert verdict({"mean": -0.1, "low": -0.2, "high": -0.01}) == "worse"
