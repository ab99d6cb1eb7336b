# SPDX-License-Identifier: Apache-2.0
"""The scores judge features as they should: perfect ones, shifted ones, damaged ones."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.camera import Camera
from gcnv2_ros.cli.main import main
from gcnv2_ros.evaluation.benchmark import BenchmarkData, run_benchmark, summarise_poses
from gcnv2_ros.evaluation.bootstrap import block_bootstrap_mean, summarise
from gcnv2_ros.evaluation.frontends import parse_frontend
from gcnv2_ros.evaluation.homography import (
    EvaluationError,
    SyntheticOptions,
    load_oxford_sequence,
    score_pair,
    synthetic_pair,
    synthetic_pairs,
)
from gcnv2_ros.evaluation.jackknife import BLOCK_FRAMES, difference_of_pairs, interval_of_pairs, summarise_pairs
from gcnv2_ros.evaluation.pose import (
    GAPS,
    PoseResult,
    frame_pairs,
    roll_between,
    score_measured_pairs,
    score_pose_pairs,
)
from gcnv2_ros.evaluation.tables import markdown_tables
from gcnv2_ros.extraction.preprocess import resize
from gcnv2_ros.features import Features
from gcnv2_ros.geometry import invert_pose, transform_points, warp_homography
from gcnv2_ros.sequences import Frame, RoomOptions, Sequence, SyntheticRoom

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZE = (320, 240)


def features_at(uv: np.ndarray, descriptors: np.ndarray, size: tuple[int, int] = SIZE) -> Features:
    return Features(uv, np.linspace(1, 0, len(uv)), descriptors, size)


def random_features(rng: np.random.Generator, count: int = 100) -> Features:
    uv = rng.uniform((20, 20), (300, 220), (count, 2))
    return features_at(uv, rng.integers(0, 256, (count, 32), dtype=np.uint8))


def test_perfect_features_score_one_and_errors_count_in_pixels() -> None:
    rng = np.random.default_rng(0)
    homography = np.array([[0.9, 0.05, 10], [-0.04, 0.95, 8], [1e-5, 2e-5, 1]])
    first = random_features(rng)
    truth = warp_homography(homography, first.uv)
    perfect = score_pair(first, features_at(truth, first.descriptors), homography)
    assert perfect.accuracy == (1.0, 1.0)
    assert perfect.repeatability == 1.0
    assert perfect.matches == perfect.keypoints == 100
    assert max(perfect.corner_errors) < 0.1
    assert (perfect.homography_share(3), perfect.homography_share(5)) == (1.0, 1.0)
    shifted = score_pair(first, features_at(truth + np.array([4, 0]), first.descriptors), homography)
    assert shifted.accuracy == (0.0, 1.0)
    assert shifted.corner_errors == pytest.approx([4] * len(shifted.corner_errors), abs=0.2)
    assert (shifted.homography_share(3), shifted.homography_share(5)) == (0.0, 1.0)


def test_two_homographies_that_as_many_matches_agree_with_are_both_drawn() -> None:
    first = random_features(np.random.default_rng(2))
    moved = first.uv + np.array([40, 0]) * (np.arange(len(first)) % 2)[:, None]
    scores = score_pair(first, features_at(moved, first.descriptors), np.eye(3))
    assert 0.0 < scores.homography_share(3) < 1.0
    assert {round(error) for error in scores.corner_errors} == {0, 40}
    assert score_pair(first, features_at(moved, first.descriptors), np.eye(3)) == scores


def test_matches_of_wrong_descriptors_are_wrong() -> None:
    rng = np.random.default_rng(1)
    first, second = random_features(rng), random_features(rng)
    scores = score_pair(first, second, np.eye(3))
    assert scores.accuracy[0] < 0.1
    assert min(scores.corner_errors) > 5
    assert scores.homography_share(5) == 0.0


def test_only_what_both_images_see_is_judged() -> None:
    rng = np.random.default_rng(4)
    homography = np.array([[1.0, 0, 160], [0, 1, 0], [0, 0, 1]])
    # The second image sees the left half of the first one. What matches beyond is seen by one image each.
    left, right = rng.uniform((5, 5), (150, 235), (50, 2)), rng.uniform((165, 5), (315, 235), (50, 2))
    descriptors = rng.integers(0, 256, (100, 32), dtype=np.uint8)
    first = features_at(np.concatenate([left, right]), descriptors)
    moved, others = left + np.array([160, 0]), rng.uniform((5, 5), (150, 235), (50, 2))
    second = features_at(np.concatenate([moved, others]), descriptors)
    scores = score_pair(first, second, homography, draws=0)
    assert (scores.keypoints, scores.matches) == (100, 50)
    assert scores.accuracy == (1.0, 1.0)
    assert scores.repeatability == 1.0


def test_no_features_score_nothing() -> None:
    scores = score_pair(Features.empty(SIZE), Features.empty(SIZE), np.eye(3))
    assert (scores.matches, scores.accuracy, scores.repeatability) == (0, (0.0, 0.0), 0.0)
    assert set(scores.corner_errors) == {float("inf")}


def textured(width: int = 500, height: int = 400) -> np.ndarray:
    noise = np.random.default_rng(5).integers(0, 256, (height // 8, width // 8), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_a_synthetic_pair_is_related_by_its_homography() -> None:
    options = SyntheticOptions(size=SIZE, photometric=False)
    pair = synthetic_pair(textured(), np.random.default_rng(3), options, name="x")
    back = cv2.warpPerspective(pair.second, np.linalg.inv(pair.homography), SIZE, flags=cv2.INTER_LINEAR)
    seen = cv2.warpPerspective(np.full_like(pair.second, 255), np.linalg.inv(pair.homography), SIZE) == 255
    assert seen.mean() > 0.3
    assert np.median(np.abs(back[seen].astype(int) - pair.first[seen])) < 8


def test_a_roll_pair_rolls_about_the_centre_and_does_nothing_else() -> None:
    pair = synthetic_pair(textured(), np.random.default_rng(3), SyntheticOptions(size=SIZE), name="x", roll=90)
    np.testing.assert_allclose(warp_homography(pair.homography, [[159.5, 119.5]]), [[159.5, 119.5]], atol=1e-9)
    np.testing.assert_allclose(warp_homography(pair.homography, [[169.5, 119.5]]), [[159.5, 129.5]], atol=1e-9)


@given(tilt=st.floats(0, 75), seed=st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_a_tilt_pair_shortens_the_middle_in_one_direction_by_the_angles_cosine(tilt: float, seed: int) -> None:
    pair = synthetic_pair(textured(), np.random.default_rng(seed), SyntheticOptions(size=SIZE), name="x", tilt=tilt)
    centre = np.array([159.5, 119.5])
    np.testing.assert_allclose(warp_homography(pair.homography, centre[None]), centre[None], atol=1e-9)
    ahead, behind = (warp_homography(pair.homography, centre + sign * 1e-4 * np.eye(2)) for sign in (1, -1))
    lengths = np.linalg.svd((ahead - behind) / 2e-4, compute_uv=False)
    np.testing.assert_allclose(lengths, [1.0, np.cos(np.deg2rad(tilt))], atol=1e-6)


def test_a_tilt_pair_s_homography_aligns_its_images() -> None:
    options = SyntheticOptions(size=SIZE, photometric=False)
    pair = synthetic_pair(textured(), np.random.default_rng(3), options, name="x", tilt=40)
    warped = cv2.warpPerspective(pair.first, pair.homography, SIZE, flags=cv2.INTER_LINEAR)
    seen = cv2.warpPerspective(np.full_like(pair.first, 255), pair.homography, SIZE) == 255
    assert np.median(np.abs(warped[seen].astype(int) - pair.second[seen])) < 8


@cache
def room_frames(count: int, seed: int) -> tuple[Camera, list[Frame]]:
    """Small frames of the room, rendered once for all tests, so that none may change them."""
    room = SyntheticRoom(RoomOptions(width=160, height=120, frames=count, seed=seed))
    return room.camera, list(room)


def true_features(camera: Camera, frame: Frame, points: np.ndarray, descriptors: np.ndarray) -> Features:
    """Features at the exact projections of world points that a frame sees."""
    assert frame.pose is not None
    assert frame.depth is not None
    local = transform_points(invert_pose(frame.pose), points)
    uv = camera.project(local)
    near = np.nan_to_num(uv, nan=-1)
    seen = (near[:, 0] > 1) & (near[:, 0] < 158) & (near[:, 1] > 1) & (near[:, 1] < 118)
    rows, columns = np.rint(near[seen]).astype(int).T[::-1]
    visible = np.abs(frame.depth[rows, columns] - local[seen, 2]) < 0.02
    chosen = np.flatnonzero(seen)[visible]
    return features_at(uv[chosen], descriptors[chosen], (160, 120))


@cache
def room_features(noise_bits: float = 0.0) -> tuple[Camera, list[Frame], list[Features]]:
    """Frames of the room and, of each, features at the same points of it; of their bits some are flipped."""
    camera, frames = room_frames(22, 4)
    rng = np.random.default_rng(0)
    points = []
    for frame in (frames[0], frames[10], frames[20]):
        assert frame.depth is not None
        assert frame.pose is not None
        uv = rng.integers((2, 2), (157, 117), (150, 2)).astype(np.float64)
        metres = frame.depth[uv[:, 1].astype(int), uv[:, 0].astype(int)]
        points.append(transform_points(frame.pose, camera.rays(uv).astype(np.float64) * metres[:, None]))
    world = np.concatenate(points)
    descriptors = rng.integers(0, 256, (len(world), 32), dtype=np.uint8)
    features = []
    for frame in frames:
        flips = np.packbits(rng.random((len(world), 256)) < noise_bits, axis=1)
        features.append(true_features(camera, frame, world, descriptors ^ flips))
    return camera, frames, features


def test_true_features_of_the_room_give_the_true_poses() -> None:
    camera, frames, features = room_features()
    results = score_pose_pairs(features, frames, camera, gaps=(5, 10))
    assert len(results) == len(list(frame_pairs(22, (5, 10))))
    assert all(result.success == 1.0 for result in results)
    # The depth is read at the nearest pixel, which is what is left of the error.
    assert np.median([result.rotation_errors for result in results]) < 0.3
    assert np.median([result.translation_errors for result in results]) < 0.02


def test_frames_without_truth_leave_their_pairs_out_and_no_gap_grows() -> None:
    camera, frames, features = room_features()
    whole = score_pose_pairs(features, frames, camera, gaps=(5, 10))
    frames = list(frames)
    frames[5] = replace(frames[5], pose=None)
    frames[10] = replace(frames[10], depth=None)
    results = score_pose_pairs(features, frames, camera, gaps=(5, 10))
    assert results == [result for result in whole if not {result.start, result.start + result.gap} & {5, 10}]
    assert 0 < len(results) < len(whole)


class PartlyPosed(Sequence):
    """Twelve frames of the room, of which some have lost their ground truth."""

    def __init__(self, lost: range) -> None:
        self.camera, self.frames = room_frames(12, 0)
        self.name, self.lost = "partly posed", lost

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        frame = self.frames[self._position(index)]
        return replace(frame, pose=None) if frame.index in self.lost else frame


def test_the_benchmark_counts_gaps_in_frames_of_the_sequence() -> None:
    def scored(lost: range) -> dict[str, Any]:
        data = BenchmarkData({}, {}, {}, PartlyPosed(lost))
        return run_benchmark([parse_frontend("orb")], data, budgets=[50], say=lambda text: None)["50"]["orb"]["pose"]

    assert scored(range(0))["pairs"] == 5
    # Left are frames 4 and 9, and 0 and 10; the nine frames with truth are no sequence of their own.
    holey = scored(range(5, 8))
    assert (holey["pairs"], set(holey["by gap"])) == (2, {"5", "10"})
    with pytest.raises(EvaluationError, match="has 5 frames with both depth and ground truth, of 12, and no two"):
        scored(range(5, 12))


def test_two_poses_that_as_many_matches_agree_with_are_both_drawn() -> None:
    camera = SyntheticRoom(RoomOptions(width=160, height=120)).camera
    rng = np.random.default_rng(6)
    uv = rng.uniform((30, 30), (130, 90), (60, 2))
    metres = rng.uniform(2, 4, 60)
    seen = camera.rays(uv).astype(np.float64) * metres[:, None]
    shifts = np.array([[0.15, 0.0, 0.0], [0.0, 0.15, 0.1]]).repeat(30, axis=0)
    descriptors = rng.integers(0, 256, (60, 32), dtype=np.uint8)
    first = features_at(uv, descriptors, (160, 120)).with_arrays(depth=metres.astype(np.float32))
    second = features_at(camera.project(seen + shifts), descriptors, (160, 120))
    pose = np.eye(4)
    pose[:3, 3] = -shifts[0]
    (result,) = score_measured_pairs([first, second], [np.eye(4), pose], camera, gaps=(1,))
    assert (result.matches, result.inliers) == (60, 30)
    assert 0.0 < result.success < 1.0
    assert result.area == pytest.approx(result.success, abs=0.01)
    assert {round(error, 2) for error in result.translation_errors} == {0.0, 0.23}
    assert score_measured_pairs([first, second], [np.eye(4), pose], camera, gaps=(1,)) == [result]


def test_every_pair_counts_at_its_roll_upside_down_included() -> None:
    rolls = [0.0, 14.9, 15.0, 165.0, 179.0, 180.0]
    results = [PoseResult(0, 5, roll, 10, 9, (1.0,), (0.01,)) for roll in rolls]
    counts = {name: entry["pairs"] for name, entry in summarise_poses(results)["by roll"].items()}
    assert counts == {"0-15": 2, "15-30": 1, "165-180": 3}


def test_flipped_bits_lower_the_pose_score() -> None:
    camera, frames, good = room_features()
    _, _, bad = room_features(noise_bits=0.47)
    area = [
        np.mean([result.area for result in score_pose_pairs(features, frames, camera, gaps=(10,))])
        for features in (good, bad)
    ]
    assert area[0] > area[1] + 0.2


@given(st.floats(-179, 179))
def test_roll_between_is_the_angle_about_the_optical_axis(degrees: float) -> None:
    pose = np.eye(4)
    angle = np.deg2rad(degrees)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert roll_between(pose) == pytest.approx(abs(degrees), abs=1e-6)


def test_the_bootstrap_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 400)
    interval = block_bootstrap_mean(values, np.arange(400))
    assert interval.low < interval.mean < interval.high
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / np.sqrt(400), rel=0.15)


def test_blocks_of_equal_values_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(0).normal(0, 1, 20), 20)
    blocks = np.repeat(np.arange(20), 20)
    wide, narrow = block_bootstrap_mean(values, blocks), block_bootstrap_mean(values, np.arange(400))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_a_block_counts_by_the_values_that_it_has() -> None:
    # Ten blocks of nine zeros and ten of a single one: the mean is 0.1, and that of the blocks' means 0.5.
    values = np.repeat([0.0, 1.0], [90, 10])
    blocks = np.concatenate([np.arange(10).repeat(9), np.arange(10, 20)])
    interval = block_bootstrap_mean(values, blocks)
    assert interval.mean == pytest.approx(0.1)
    assert interval.low < 0.1 < interval.high < 0.3


def test_pairs_of_few_pictures_have_a_mean_and_no_interval() -> None:
    values = [0.1 * (number % 6) for number in range(60)]
    few = summarise(values, [f"{number % 6}.jpg" for number in range(60)])
    assert few == {"mean": pytest.approx(0.25), "low": None, "high": None, "blocks": 6}
    enough = summarise(values, [f"{number % 7}.jpg" for number in range(60)])
    assert enough["low"] is not None
    assert enough["high"] is not None
    assert enough["low"] < 0.25 < enough["high"]


@pytest.mark.parametrize("pictures", [6, 7])
def test_the_benchmark_draws_whole_pictures_for_its_intervals(pictures: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(pictures):
        # Of one name, in folders of their own.
        (tmp_path / str(number)).mkdir()
        noise = rng.integers(0, 256, (30, 40), dtype=np.uint8)
        large = cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / str(number) / "a.png"), large)
    paths = sorted(tmp_path.glob("*/a.png"))
    options = SyntheticOptions(size=SIZE)
    pairs = synthetic_pairs(paths, count=20, options=options)
    rolled = synthetic_pairs(paths, count=10, options=options, roll=30)
    data = BenchmarkData({"synthetic": pairs}, {30: rolled}, {30: rolled}, None)
    results = run_benchmark([parse_frontend("orb")], data, budgets=[100], say=lambda text: None)
    tables = markdown_tables(results)
    entry = results["100"]["orb"]
    scores = [value for part in entry.values() for value in part.values() if isinstance(value, dict)]
    assert len(scores) == 10
    assert {score["blocks"] for score in scores} == {pictures}
    assert {score["low"] is None for score in scores} == {pictures < 7}
    assert (f"No intervals: the pairs show only {pictures} of the 7 pictures" in tables) == (pictures < 7)
    assert ("half of the 95% interval" in tables) == (pictures == 7)
    assert 50 < entry["synthetic"]["keypoints"] <= 100
    assert f"| orb | {entry['synthetic']['keypoints']:.0f} |" in tables


def in_blocks(*blocks: tuple[int, int]) -> list[tuple[int, int]]:
    """A pair of frames for each pair of blocks."""
    return [(first * BLOCK_FRAMES, second * BLOCK_FRAMES + 1) for first, second in blocks]


APART = in_blocks((0, 0), (1, 1), (2, 2), (3, 3), (4, 4))


def test_a_constant_difference_has_no_width() -> None:
    theirs = np.random.default_rng(0).random(5)
    interval = difference_of_pairs(list(theirs + 0.1), list(theirs), APART)
    assert interval is not None
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.1, 0.1, 0.1))


def test_pairs_that_share_no_block_have_the_interval_of_independent_values() -> None:
    interval = interval_of_pairs([0, 0, 0, 0, 1], APART)
    assert interval is not None
    # The standard error of five values, one of them 1, is 0.2; Student's t with four degrees of freedom is 2.776.
    assert (interval.low, interval.mean, interval.high) == pytest.approx((-0.3553, 0.2, 0.7553), abs=5e-4)


def test_a_pair_of_two_blocks_is_left_out_with_either() -> None:
    interval = interval_of_pairs([0, 0, 0, 0, 0, 1], [*APART, *in_blocks((0, 1))])
    assert interval is not None
    # Without block 0, and without block 1, the mean is 0; without each of the other three it is 1 in 5.
    reach = 2.776 * (4 / 5 * (2 * 0.12**2 + 3 * 0.08**2)) ** 0.5
    assert (interval.mean, interval.high - interval.mean) == pytest.approx((1 / 6, reach), abs=5e-4)


@pytest.mark.parametrize(
    "pairs",
    [in_blocks((0, 0), (1, 1), (2, 2), (3, 3)), in_blocks((0, 1), (0, 2), (0, 3), (0, 4))],
    ids=["four blocks", "one block in all pairs"],
)
def test_what_no_block_can_be_left_out_of_has_a_mean_and_no_interval(pairs: list[tuple[int, int]]) -> None:
    summary = summarise_pairs([0.0, 0.0, 1.0, 1.0], pairs)
    assert (summary["mean"], summary["low"], summary["high"]) == (0.5, None, None)


@pytest.mark.parametrize(("frames", "kept", "least"), [(150, 0.0, 0.92), (300, 0.0, 0.92), (300, 0.9, 0.90)])
def test_intervals_of_pairs_hold_the_truth_as_often_as_they_say(frames: int, kept: float, least: float) -> None:
    # Each frame adds something of its own to all pairs that it is in, of which `kept` is in the next frame too.
    rng = np.random.default_rng(0)
    pairs = [(start, start + gap) for start, gap in frame_pairs(frames)]
    held, trials = 0, 600
    for _ in range(trials):
        effects = rng.normal(size=frames)
        effects[1:] *= (1 - kept**2) ** 0.5
        for index in range(1, frames):
            effects[index] += kept * effects[index - 1]
        values = effects[np.array(pairs)].sum(axis=1) + rng.normal(size=len(pairs))
        interval = interval_of_pairs(values, pairs)
        assert interval is not None
        held += interval.low <= 0 <= interval.high
    assert least < held / trials < 0.99


def test_a_pair_of_frames_touches_two_blocks_at_most() -> None:
    assert max(GAPS) <= BLOCK_FRAMES


def test_frontends_are_read_from_text() -> None:
    plain, sized = parse_frontend("orb"), parse_frontend("gcnv2_tiny=runs/a.safetensors@320x240")
    assert (plain.label, plain.options.input_size) == ("orb", None)
    assert (sized.label, sized.options.model, sized.options.weights) == (
        "a@320x240",
        "gcnv2_tiny",
        "runs/a.safetensors",
    )
    assert sized.options.input_size == (320, 240)
    behind = parse_frontend("orb@320x240@480x360")
    assert (behind.label, behind.camera_size, behind.options.input_size) == (
        "orb@320x240@480x360",
        (320, 240),
        (480, 360),
    )
    for wrong, message in (
        ("orb@320", "@WIDTHxHEIGHT"),
        ("orb@", "@WIDTHxHEIGHT"),
        ("orb@0x240", "@WIDTHxHEIGHT"),
        ("orb@320x240@x", "@WIDTHxHEIGHT"),
        ("orb@1x1@1x1@1x1", "at most two"),
    ):
        with pytest.raises(EvaluationError, match=message):
            parse_frontend(wrong)


@pytest.mark.parametrize("model", ["orb", "gcnv2_tiny"])
def test_a_small_camera_hides_detail_and_its_features_are_in_pixels_of_the_large_image(model: str) -> None:
    picture = cv2.resize(textured(), (640, 480), interpolation=cv2.INTER_CUBIC)
    reduced = resize(picture, (320, 240))
    mask = np.zeros(picture.shape, bool)
    mask[:, 320:] = True
    with parse_frontend(f"{model}@320x240@480x360").create(100) as behind:
        seen = behind.extract(picture)
        masked = behind.extract(picture, mask=mask)
    with parse_frontend(f"{model}@480x360").create(100) as plain:
        expected = plain.extract(reduced)
    assert len(seen.uv) > 50
    assert seen.image_size == (640, 480)
    np.testing.assert_array_equal(seen.descriptors, expected.descriptors)
    np.testing.assert_allclose(seen.uv, (expected.uv + 0.5) * 2 - 0.5, atol=1e-3)
    np.testing.assert_allclose(seen.size, 2 * expected.size, rtol=1e-5)
    assert len(masked.uv) > 10
    assert masked.uv[:, 0].min() >= 319.5


def test_more_keypoints_score_higher_in_the_benchmark() -> None:
    options = SyntheticOptions(size=SIZE)
    pairs = [synthetic_pair(textured(), np.random.default_rng(seed), options, name=str(seed)) for seed in range(4)]
    data = BenchmarkData({"synthetic": pairs}, {}, {}, PartlyPosed(range(0)))
    results = run_benchmark([parse_frontend("orb")], data, budgets=[50, 400], say=lambda text: None)
    few, many = results["50"]["orb"], results["400"]["orb"]
    assert many["synthetic"]["homography@5"]["mean"] >= few["synthetic"]["homography@5"]["mean"]
    assert many["pose"]["area"] > few["pose"]["area"]
    # So few frames tell of no difference.
    assert many["pose"]["blocks"] == 1
    assert "difference from orb" not in many["pose"]
    assert many["pose"]["keypoints"] > few["pose"]["keypoints"] > 0
    told = "No intervals of differences: the pairs touch only 1 of the 5 blocks of 30 frames"
    assert told in markdown_tables(results)


def test_the_benchmark_command_writes_table_json_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    cv2.imwrite(str(tmp_path / "picture.png"), textured())
    out = tmp_path / "out"
    arguments = [
        "--pictures",
        str(tmp_path),
        "--pairs",
        "2",
        "--roll-pairs",
        "1",
        "--tilt-pairs",
        "1",
        "--budgets",
        "100",
        "--out",
        str(out),
    ]
    assert main(["benchmark-features", "orb", "orb@320x240", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "| orb@320x240 |" in printed
    assert "matching share against roll in degrees, 100 keypoints" in printed
    assert "MMA@3 against tilt in degrees, 100 keypoints" in printed
    assert "No intervals: the pairs show only 1 of the 7 pictures that are needed" in printed
    score = json.loads((out / "benchmark.json").read_text())["results"]["100"]["orb"]["synthetic"]["MMA@3"]
    assert (score["low"], score["high"], score["blocks"]) == (None, None, 1)
    assert cv2.imread(str(out / "benchmark.png")) is not None


def test_graf_homographies_align_their_images() -> None:
    if not (DATA / "homography/graf").exists():
        pytest.skip("the Oxford sequence graf is not on this machine")
    pairs = load_oxford_sequence(DATA / "homography/graf")
    assert len(pairs) == 5
    assert len({pair.picture for pair in pairs}) == 1
    warped = cv2.warpPerspective(pairs[0].first, pairs[0].homography, pairs[0].second.shape[::-1])
    seen = warped > 0
    assert np.corrcoef(warped[seen], pairs[0].second[seen])[0, 1] > 0.8


def test_a_missing_homography_is_named(tmp_path: Path) -> None:
    for number in range(1, 7):
        cv2.imwrite(str(tmp_path / f"img{number}.png"), textured(64, 48))
    with pytest.raises(EvaluationError, match="H1to2p"):
        load_oxford_sequence(tmp_path)


IDENTITY = "1 0 0\n0 1 0\n0 0 1\n"


@pytest.fixture
def oxford(tmp_path: Path) -> Path:
    """An Oxford sequence of a picture that does not move."""
    for number in range(1, 7):
        cv2.imwrite(str(tmp_path / f"img{number}.png"), textured(64, 48))
        (tmp_path / f"H1to{number}p").write_text(IDENTITY)
    return tmp_path


def test_homographies_are_read_with_blank_lines_and_any_spacing(oxford: Path) -> None:
    (oxford / "H1to3p").write_text("  8.7e-01\t-6.7e-01 1.9e+02\n 3.3e-01 1.0 -1.5e+01 \n\n3.4e-04 -1.4e-05 1\n\n")
    pairs = load_oxford_sequence(oxford)
    np.testing.assert_array_equal(pairs[0].homography, np.eye(3))
    np.testing.assert_array_equal(pairs[1].homography, [[0.87, -0.67, 190], [0.33, 1, -15], [3.4e-4, -1.4e-5, 1]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 0\n0 1 0\n", "has 2 lines of 3, 3 numbers"),
        ("1 0 0 0 1 0 0 0 1\n", "has 1 lines of 9 numbers"),
        ("", "has 0 lines of no numbers"),
        ("hello", "cannot be read as a homography.*hello"),
        (IDENTITY.replace("1\n", "nan\n"), "is no homography"),
        ("1 2 3\n2 4 6\n0 0 1\n", "is no homography"),
    ],
)
def test_a_file_that_is_no_homography_is_named(text: str, message: str, oxford: Path) -> None:
    (oxford / "H1to4p").write_text(text)
    with pytest.raises(EvaluationError, match=f"H1to4p.*{message}"):
        load_oxford_sequence(oxford)


SAME_LABEL = ["gcnv2_tiny=runs/a/last.safetensors", "gcnv2_tiny=runs/b/last.safetensors"]


@pytest.mark.parametrize(
    "command",
    [
        ["benchmark-features", *SAME_LABEL, "--pictures", "nowhere"],
        ["evaluate", *SAME_LABEL, "--sequence", "nowhere"],
    ],
    ids=lambda command: command[0],
)
def test_two_frontends_of_one_name_are_refused_before_anything_is_read(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("evo", reason="evo is not installed")
    assert main(command) == 1
    told = capsys.readouterr().err
    assert "two frontends have the name 'last'" in told
    assert all(frontend in told for frontend in SAME_LABEL)


def test_two_frontends_of_one_name_are_not_merged() -> None:
    with pytest.raises(EvaluationError, match="two frontends have the name 'orb'"):
        run_benchmark([parse_frontend("orb")] * 2, BenchmarkData({}, {}, {}, None), budgets=[50], say=lambda text: None)


@pytest.mark.parametrize("folders", [["a/graf", "b/graf"], ["synthetic"], ["pose"]])
def test_two_parts_of_the_benchmark_of_one_name_are_refused(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [text for folder in folders for text in ("--oxford", str(tmp_path / folder))]
    assert main(["benchmark-features", "orb", "--pictures", "nowhere", *options]) == 1
    told = capsys.readouterr().err
    assert f"two parts of the benchmark have the name {Path(folders[0]).name!r}" in told
    assert all(str(tmp_path / folder) in told for folder in folders)


def test_a_picture_that_is_cut_off_makes_no_pairs(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320), np.uint8)
    content = cv2.imencode(".jpg", noise)[1].tobytes()
    path = tmp_path / "cut.jpg"
    path.write_bytes(content[: len(content) // 2])
    assert cv2.imread(str(path)) is not None, "OpenCV reads the rest as gray"
    with pytest.raises(EvaluationError, match=r"cut\.jpg cannot be read as a picture"):
        synthetic_pairs([path], count=1)
