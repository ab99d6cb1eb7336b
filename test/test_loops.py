# SPDX-License-Identifier: Apache-2.0
"""Loop closure: a camera that goes around and comes back, with drift from wrong depth; places that only look alike."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gtsam", reason="gtsam is not installed")

from gcnv2_ros.camera import Camera
from gcnv2_ros.depth import sample_depth
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.features import Features
from gcnv2_ros.geometry import invert_pose, transform_points
from gcnv2_ros.odometry import Odometry, OdometryOptions, TrackResult, Trajectory, run_odometry
from gcnv2_ros.sequences import TumSequence
from gcnv2_ros.vocabulary import Vocabulary, train_vocabulary

CLIP = Path(os.environ.get("GCNV2_ROS_DATA", "data")) / "tum_fr1_rpy_clip"

CAMERA = Camera(320, 240, 260.0, 260.0, 159.5, 119.5)
ROUND = 90
FRAMES = 100
WAY = 4.0
WALL = 6.0


@dataclass(frozen=True)
class Ring:
    """A camera on a circle that looks outwards at a round wall: after one round it sees the place where it began.

    The place of each point is exact; depth is noisy and, over a part of the way, too large, as with a depth camera
    that grows warm: that is what the odometry cannot see and accumulates.
    """

    points: np.ndarray
    descriptors: np.ndarray

    @staticmethod
    def of(count: int = 2400, seed: int = 0) -> Ring:
        rng = np.random.default_rng(seed)
        angle, radius = rng.uniform(0, 2 * np.pi, count), rng.uniform(WALL - 0.5, WALL + 0.5, count)
        points = np.column_stack([radius * np.sin(angle), rng.uniform(-1.2, 1.2, count), radius * np.cos(angle)])
        return Ring(points, rng.integers(0, 256, (count, 32), dtype=np.uint8))

    def pose(self, index: int) -> np.ndarray:
        """Camera to world; y is down."""
        angle = 2 * np.pi * index / ROUND
        pose = np.eye(4)
        pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        pose[:3, 3] = WAY * pose[:3, 2]
        return pose

    def at(self, index: int) -> Features:
        local = transform_points(invert_pose(self.pose(index)), self.points)
        uv = CAMERA.project(local)
        with np.errstate(invalid="ignore"):
            seen = (local[:, 2] > 0.1) & ((uv >= 0) & (uv <= (CAMERA.width - 1, CAMERA.height - 1))).all(axis=1)
        rng = np.random.default_rng(index)
        count = int(seen.sum())
        flips = np.packbits(rng.random((count, 256)) < 0.03, axis=1)
        wrong = 1.0 + 0.02 * rng.standard_normal(count) + (0.08 if 20 <= index < 60 else 0.0)
        depth = local[seen, 2] * wrong
        uv = uv[seen] + 0.3 * rng.standard_normal((count, 2))
        return Features(uv, np.ones(count), self.descriptors[seen] ^ flips, (CAMERA.width, CAMERA.height), depth=depth)

    def run(self, vocabulary: Vocabulary | None, frames: int = FRAMES) -> Trajectory:
        described = ((index * 100_000_000 + 1, self.at(index)) for index in range(frames))
        return run_odometry(described, CAMERA, OdometryOptions(window=4), vocabulary=vocabulary)

    def errors(self, trajectory: Trajectory) -> np.ndarray:
        """Metres, with the first poses taken as one."""
        truth = np.stack([invert_pose(self.pose(0)) @ self.pose(index) for index in range(len(trajectory))])
        return np.linalg.norm(trajectory.poses[:, :3, 3] - truth[:, :3, 3], axis=1)


def vocabulary_of(ring: Ring) -> Vocabulary:
    return train_vocabulary([ring.at(index).descriptors for index in range(0, ROUND, 6)], branching=8, depth=3)


@dataclass(frozen=True)
class Tracked:
    """What became of each frame of a ring, and what the camera then knew of its motion."""

    ring: Ring
    odometry: Odometry
    results: list[TrackResult]
    motions: list[tuple[np.ndarray, float] | None]

    @property
    def loops(self) -> list[int]:
        """Frames that closed a loop."""
        return [index for index, result in enumerate(self.results) if result.loop]


@pytest.fixture(scope="module")
def tracked() -> Tracked:
    """A round that ends in a closed loop."""
    ring = Ring.of()
    odometry = Odometry(CAMERA, OdometryOptions(window=4), vocabulary=vocabulary_of(ring))
    assert odometry.motion is None
    results, motions = [], []
    for index in range(FRAMES):
        results.append(odometry.track(ring.at(index), index * 100_000_000 + 1))
        motions.append(odometry.motion)
    return Tracked(ring, odometry, results, motions)


def with_picture(features: Features, picture: Features, share: float) -> Features:
    """What a camera sees before whom somebody holds a picture: a share of the view is that of `picture`."""
    rng = np.random.default_rng(0)
    shown, own = (rng.permutation(len(of)) for of in (picture, features))
    shown, own = picture.select(shown[: round(share * len(shown))]), features.select(own[round(share * len(own)) :])
    return Features(
        np.concatenate([shown.uv, own.uv]),
        np.ones(len(shown) + len(own)),
        np.concatenate([shown.descriptors, own.descriptors]),
        features.image_size,
        depth=np.concatenate([shown.depth, own.depth]),
    )


@pytest.mark.parametrize("seed", [0, 3])
def test_the_end_of_a_round_errs_ten_times_less_with_its_loop_closed(seed: int) -> None:
    ring = Ring.of(seed=seed)
    without, closed = ring.run(None), ring.run(vocabulary_of(ring))
    assert without.tracked.all()
    assert closed.tracked.all()
    assert not any(result.loop for result in without.results)
    loops = [index for index, result in enumerate(closed.results) if result.loop]
    # Where the camera sees the first place again, and not before.
    assert loops
    assert min(loops) > ROUND - 10
    open_error, error = ring.errors(without), ring.errors(closed)
    assert open_error[-1] > 0.4
    assert error[-1] < 0.1 * open_error[-1]
    # Frames of long before follow their keyframes: the drift is spread, not left where the loop is not.
    assert error.max() < 0.7 * open_error.max()
    assert np.sqrt(np.mean(error**2)) < 0.7 * np.sqrt(np.mean(open_error**2))
    # When it came, the frame before the loop did not know; the motion goes on without the jump.
    assert np.linalg.norm(closed.results[loops[0] - 1].pose[:3, 3] - closed.poses[loops[0] - 1][:3, 3]) > 0.1


def test_the_motion_is_that_of_the_camera_where_the_map_jumps(tracked: Tracked) -> None:
    assert tracked.loops
    for index in tracked.loops:
        assert tracked.motions[index - 1] is not None
        latest = tracked.motions[index]
        assert latest is not None
        motion, seconds = latest
        assert seconds == pytest.approx(0.1)
        truth = invert_pose(tracked.ring.pose(index - 1)) @ tracked.ring.pose(index)
        np.testing.assert_allclose(motion[:3, 3], truth[:3, 3], atol=0.05)


def test_after_a_loop_the_first_and_the_latest_keyframes_see_the_same_points_each_once(tracked: Tracked) -> None:
    assert tracked.loops
    seen = [keyframe.points[keyframe.seen] for keyframe in tracked.odometry.keyframes]
    for points in seen:
        assert len(np.unique(points)) == len(points)
    # The latest of them closed the loop; the one before it has the points that the two saw together.
    assert len(np.intersect1d(seen[-1], np.concatenate(seen[:3]))) > 60
    assert len(np.intersect1d(seen[-2], np.concatenate(seen[:3]))) > 20


def test_after_a_loop_points_lie_where_all_keyframes_see_them(tracked: Tracked) -> None:
    assert tracked.loops
    keyframes = tracked.odometry.keyframes
    numbers = np.unique(np.concatenate([keyframe.points[keyframe.seen] for keyframe in keyframes]))
    for keyframe in keyframes:
        points = tracked.odometry.points[np.searchsorted(numbers, keyframe.points[keyframe.seen])]
        expected = CAMERA.project(transform_points(invert_pose(keyframe.pose), points))
        apart = np.linalg.norm(expected - keyframe.observation.pixels[keyframe.seen], axis=1)
        assert np.median(apart) < 3.0


def test_the_same_loops_are_closed_in_the_same_way_bit_for_bit() -> None:
    ring = Ring.of(seed=1)
    vocabulary = vocabulary_of(ring)
    first, second = ring.run(vocabulary), ring.run(vocabulary)
    assert any(result.loop for result in first.results)
    assert [result.loop for result in first.results] == [result.loop for result in second.results]
    np.testing.assert_array_equal(first.poses, second.poses)


@pytest.mark.parametrize("shown_at", [(28,), (25, 28)], ids=["once", "twice"])
def test_a_picture_of_the_first_place_that_is_held_before_the_camera_is_no_loop(shown_at: tuple[int, ...]) -> None:
    """The pose by the picture is that of the first frame; what is seen around it knows nothing of it, or another."""
    ring = Ring.of(seed=2)
    odometry = Odometry(CAMERA, OdometryOptions(window=4), vocabulary=vocabulary_of(ring))
    for index in range(29):
        features = ring.at(index)
        if index in shown_at:
            features = with_picture(features, ring.at(0), 0.75)
        result = odometry.track(features, index * 100_000_000 + 1)
        assert result.tracked
        assert not result.loop
        assert result.keyframe or index not in shown_at


def test_places_with_the_same_words_in_another_order_are_no_loop() -> None:
    ring = Ring.of(seed=5)
    angle = np.arctan2(ring.points[:, 0], ring.points[:, 2])
    sector = np.floor((angle + np.pi) / (2 * np.pi) * 12).astype(int) % 12
    rng = np.random.default_rng(0)
    descriptors = ring.descriptors.copy()
    for place in range(6):
        here, opposite = np.flatnonzero(sector == place), np.flatnonzero(sector == place + 6)
        count = min(len(here), len(opposite))
        descriptors[rng.permutation(opposite)[:count]] = ring.descriptors[here[:count]]
    alike = Ring(ring.points, descriptors)
    vocabulary = vocabulary_of(alike)
    # Not a whole round: no place is seen twice, but each has the words of the opposite one.
    frames = ROUND - 15
    trajectory = alike.run(vocabulary, frames)
    assert trajectory.tracked.all()
    assert not any(result.loop for result in trajectory.results)
    np.testing.assert_array_equal(trajectory.poses, alike.run(None, frames).poses)


def test_a_place_whose_keyframes_are_forgotten_closes_no_loop() -> None:
    ring = Ring.of()
    described = ((index * 100_000_000 + 1, ring.at(index)) for index in range(FRAMES))
    options = OdometryOptions(window=4, max_keyframes=12)
    trajectory = run_odometry(described, CAMERA, options, vocabulary=vocabulary_of(ring))
    assert trajectory.tracked.all()
    assert not any(result.loop for result in trajectory.results)


@pytest.mark.slow
@pytest.mark.skipif(not CLIP.is_dir(), reason="no tum_fr1_rpy_clip in the folder that GCNV2_ROS_DATA names")
def test_orb_on_a_real_clip_closes_no_false_loop() -> None:
    sequence = TumSequence(CLIP, clock_offset=-0.011)
    assert sequence.camera is not None
    described, truth = [], []
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=1000)) as extractor:
        for frame in sequence:
            assert frame.depth is not None
            assert frame.pose is not None
            features = extractor.extract(frame.gray)
            depth = sample_depth(frame.depth, features.uv, features.image_size)
            described.append((frame.stamp_ns, features.with_arrays(depth=depth)))
            truth.append(frame.pose[:3, 3])
    vocabulary = train_vocabulary([features.descriptors for _, features in described[::5]], branching=10, depth=3)
    trajectory = run_odometry(described, sequence.camera, vocabulary=vocabulary)
    assert trajectory.tracked.all()
    estimated = trajectory.poses[:, :3, 3] - trajectory.poses[:, :3, 3].mean(axis=0)
    true = np.array(truth) - np.mean(truth, axis=0)
    u, _, vt = np.linalg.svd(estimated.T @ true)
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    error = np.sqrt(np.mean(np.sum((estimated @ turn - true) ** 2, axis=1)))
    assert error < 0.025
