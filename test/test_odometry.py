# SPDX-License-Identifier: Apache-2.0
"""Odometry: exact features give exact motion; losses are admitted and recovered from; nothing depends on chance."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

pytest.importorskip("gtsam", reason="gtsam is not installed")

from gcnv2_ros.camera import Camera
from gcnv2_ros.depth import sample_depth
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.features import Features
from gcnv2_ros.geometry import invert_pose, transform_points
from gcnv2_ros.odometry import Odometry, OdometryError, OdometryOptions, Trajectory, run_odometry
from gcnv2_ros.odometry.bundle import adjust
from gcnv2_ros.odometry.keyframes import Keyframe, KeyframeMap, Observation
from gcnv2_ros.odometry.pose import CHI_SQUARE_1, CHI_SQUARE_2, Pinhole, refine_pose
from gcnv2_ros.odometry.recognition import likely_keyframes
from gcnv2_ros.sequences import SyntheticRoom
from gcnv2_ros.sequences.room import RoomOptions
from gcnv2_ros.vocabulary import Scoring, VocabularyError, train_vocabulary

WALL_POINTS = 1500


@dataclass(frozen=True)
class TrueFeatures:
    """Features without error: points on the walls of the synthetic room, seen along its camera's way."""

    room: SyntheticRoom
    points: np.ndarray
    descriptors: np.ndarray

    @staticmethod
    def of(options: RoomOptions) -> TrueFeatures:
        """Points spread over the walls, each with a descriptor of its own."""
        room = SyntheticRoom(options)
        rng = np.random.default_rng(options.seed)
        points = rng.uniform(-0.5, 0.5, (WALL_POINTS, 3))
        axes = rng.integers(0, 3, WALL_POINTS)
        points[np.arange(WALL_POINTS), axes] = rng.choice([-0.5, 0.5], WALL_POINTS)
        points = (points + np.array([0, 0, 0.5])) * room.room_size()
        return TrueFeatures(room, points, rng.integers(0, 256, (WALL_POINTS, 32), dtype=np.uint8))

    @property
    def camera(self) -> Camera:
        assert self.room.camera is not None
        return self.room.camera

    def at(self, index: int, *, noise: float = 0.0) -> Features:
        """What frame `index` sees; `noise` in pixels, drawn anew for each frame."""
        local = transform_points(invert_pose(self.room.pose(index)), self.points)
        uv = self.camera.project(local)
        with np.errstate(invalid="ignore"):
            seen = (local[:, 2] > 0.1) & ((uv >= 0) & (uv <= (self.camera.width - 1, self.camera.height - 1))).all(1)
        uv = uv[seen] + noise * np.random.default_rng(index).standard_normal((seen.sum(), 2))
        return Features(
            uv,
            np.ones(len(uv)),
            self.descriptors[seen],
            (self.camera.width, self.camera.height),
            depth=local[seen, 2],
        )

    def stamp(self, index: int) -> int:
        return self.room.stamp_ns(index)

    def truth(self, indices: range) -> np.ndarray:
        """Camera poses relative to the first of `indices`, (N, 4, 4)."""
        return np.stack([invert_pose(self.room.pose(indices[0])) @ self.room.pose(index) for index in indices])


def path_length(poses: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())


def rotation_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees."""
    cosine = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


@pytest.fixture(scope="module")
def exact() -> TrueFeatures:
    return TrueFeatures.of(RoomOptions(frames=90, speed=3.0, distortion=(0.1, -0.05, 0.001, -0.001, 0.0)))


def test_exact_features_drift_less_than_a_thousandth_of_the_path(exact: TrueFeatures) -> None:
    indices = range(len(exact.room))
    trajectory = run_odometry(((exact.stamp(index), exact.at(index)) for index in indices), exact.camera)
    truth = exact.truth(indices)
    assert trajectory.tracked.all()
    assert sum(result.keyframe for result in trajectory.results) > 3
    error = np.linalg.norm(trajectory.poses[:, :3, 3] - truth[:, :3, 3], axis=1)
    assert path_length(truth) > 2.0
    assert error.max() < 0.001 * path_length(truth)
    assert max(map(rotation_between, trajectory.poses, truth)) < 0.01
    for result, pose in zip(trajectory.results, truth):
        assert result.pose is not None
        np.testing.assert_allclose(result.pose, pose, atol=2e-3)


def test_noise_of_a_pixel_costs_less_than_two_centimetres(exact: TrueFeatures) -> None:
    indices = range(40)
    trajectory = run_odometry(((exact.stamp(index), exact.at(index, noise=1.0)) for index in indices), exact.camera)
    truth = exact.truth(indices)
    assert trajectory.tracked.all()
    error = np.linalg.norm(trajectory.poses[:, :3, 3] - truth[:, :3, 3], axis=1)
    # At 2 to 5 m, one pixel is 5 to 10 mm to the side.
    assert np.sqrt(np.mean(error**2)) < 0.02


def test_the_same_input_gives_the_same_output_bit_for_bit(exact: TrueFeatures) -> None:
    def run() -> Trajectory:
        frames = [(exact.stamp(index), exact.at(index, noise=1.0)) for index in range(25)]
        frames[12] = (frames[12][0], Features.empty((640, 480)))
        return run_odometry(frames, exact.camera)

    first, second = run(), run()
    np.testing.assert_array_equal(first.poses, second.poses)
    for a, b in zip(first.results, second.results):
        assert (a.matches, a.inliers, a.keyframe, a.tracked) == (b.matches, b.inliers, b.keyframe, b.tracked)


@pytest.mark.parametrize("with_vocabulary", [False, True])
def test_a_lost_camera_finds_a_known_place_again(exact: TrueFeatures, with_vocabulary: bool) -> None:
    images = [exact.at(index).descriptors for index in range(0, 60, 10)]
    vocabulary = train_vocabulary(images, branching=8, depth=2) if with_vocabulary else None
    odometry = Odometry(exact.camera, vocabulary=vocabulary)
    for index in range(60):
        assert odometry.track(exact.at(index), exact.stamp(index)).tracked
    for index in range(60, 65):
        lost = odometry.track(Features.empty((640, 480)), exact.stamp(index))
        assert (lost.tracked, lost.pose, lost.inliers) == (False, None, 0)
        assert odometry.reference is None
    # Not where it was lost, but where it was long before.
    back = odometry.track(exact.at(10), exact.stamp(65))
    assert back.pose is not None
    np.testing.assert_allclose(back.pose, exact.truth(range(11))[10], atol=2e-3)
    assert odometry.track(exact.at(11), exact.stamp(66)).tracked


def test_an_unknown_place_stays_lost(exact: TrueFeatures) -> None:
    odometry = Odometry(exact.camera)
    odometry.track(exact.at(0), 1)
    elsewhere = exact.at(1)
    rng = np.random.default_rng(1)
    strange = elsewhere.with_arrays(descriptors=rng.integers(0, 256, elsewhere.descriptors.shape, dtype=np.uint8))
    assert not odometry.track(strange, 2).tracked
    assert odometry.track(exact.at(1), 3).tracked


def test_frames_with_little_in_them_are_lost_and_do_no_harm(exact: TrueFeatures) -> None:
    full = exact.at(0)
    no_depth = full.with_arrays(depth=np.full(len(full), np.nan))
    nothing, one = Features.empty((640, 480)), full.select([0])
    odometry = Odometry(exact.camera)
    for stamp, features in enumerate([nothing, one, no_depth]):
        assert not odometry.track(features, stamp).tracked
    assert odometry.points.shape == (0, 3)
    assert odometry.track(full, 10).keyframe
    # Points of known place suffice to track; depth is needed to start alone.
    assert odometry.track(no_depth, 11).tracked
    for stamp, features in enumerate([nothing, one, full.select(slice(0, 5))], 12):
        assert not odometry.track(features, stamp).tracked
    back = odometry.track(full, 20)
    assert back.pose is not None
    np.testing.assert_allclose(back.pose, np.eye(4), atol=1e-5)


def test_forgetting_keyframes_bounds_the_map_and_keeps_the_motion(exact: TrueFeatures) -> None:
    odometry = Odometry(exact.camera, OdometryOptions(window=3, max_keyframes=3, keyframe_share=0.9))
    made = 0
    for index in range(50):
        result = odometry.track(exact.at(index), exact.stamp(index))
        made += result.keyframe
        assert result.tracked
    assert made > 3
    assert len(odometry.keyframes) == 3
    np.testing.assert_allclose(result.pose, exact.truth(range(50))[49], atol=5e-3)
    assert len(odometry.points) < WALL_POINTS


def test_a_slanted_plane_alone_holds_the_camera() -> None:
    camera = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
    rng = np.random.default_rng(0)
    normal = np.array([0.0, np.sin(np.radians(60.0)), np.cos(np.radians(60.0))])
    rays = camera.rays(rng.uniform((20, 20), (620, 460), (300, 2))).astype(np.float64)
    rays = rays[rays @ normal > 0.2]
    points = 2.0 * rays / (rays @ normal)[:, None]
    descriptors = rng.integers(0, 256, (len(points), 32), dtype=np.uint8)
    odometry = Odometry(camera)
    for step in range(20):
        # To the right, and each time back to the middle: too far for the prediction, so that RANSAC must find it.
        place = np.array([0.3 * (step % 2), 0.0, 0.0])
        local = points - place
        uv = camera.project(local) + 0.3 * rng.standard_normal((len(points), 2))
        features = Features(uv, np.ones(len(uv)), descriptors, (640, 480), depth=local[:, 2])
        result = odometry.track(features, step * 100_000_000)
        assert result.pose is not None
        np.testing.assert_allclose(result.pose[:3, 3], place, atol=0.01)


def test_points_too_few_to_hold_a_pose_give_none() -> None:
    pinhole = Pinhole(2000.0, 2000.0, 319.5, 239.5, pixel_sigma=1.0, inverse_depth_sigma=0.01)
    rng = np.random.default_rng(0)
    found = []
    for point in rng.uniform((-2.0, -1.5, 1.0), (2.0, 1.5, 5.0), (200, 1, 3)):
        pixels = pinhole.project(point) + 0.5 * rng.standard_normal((1, 2))
        found.append(refine_pose(np.eye(4), point, pixels, point[:, 2], pinhole))
    assert all(pose is None for pose in found)


@pytest.mark.parametrize("deep", [False, True])
def test_a_pose_is_held_by_points_that_are_neither_behind_it_nor_on_one_line(deep: bool) -> None:
    pinhole = Pinhole(500.0, 500.0, 320.0, 240.0, pixel_sigma=1.0, inverse_depth_sigma=0.01)
    corners = np.array([[-1.0, -1.0, 4.0], [1.0, -1.0, 4.0], [-1.0, 1.0, 5.0], [1.0, 1.0, 3.0]])
    line = np.array([0.1, 0.2, 3.0]) + np.linspace(0.0, 1.0, 8)[:, None] * (0.5, 0.2, 0.1)

    def refined(points: np.ndarray) -> np.ndarray | None:
        seen = np.abs(points)
        depth = seen[:, 2] if deep else np.full(len(points), np.nan)
        return refine_pose(np.eye(4), points, pinhole.project(seen), depth, pinhole)

    for points in (line, -corners, corners[:0], corners[:1]):
        assert refined(points) is None
    shifted = np.eye(4)
    shifted[:3, 3] = (0.02, -0.01, 0.03)
    depth = corners[:, 2] if deep else np.full(4, np.nan)
    found = refine_pose(shifted, corners, pinhole.project(corners), depth, pinhole)
    assert found is not None
    np.testing.assert_allclose(found, np.eye(4), atol=1e-4)


def test_rays_stand_for_the_calibration(exact: TrueFeatures) -> None:
    pinhole = Camera(640, 480, exact.camera.fx, exact.camera.fy, exact.camera.cx, exact.camera.cy)
    odometry = Odometry(pinhole)
    for index in range(10):
        features = exact.at(index)
        result = odometry.track(features, exact.stamp(index), rays=exact.camera.rays(features.uv))
    np.testing.assert_allclose(result.pose, exact.truth(range(10))[9], atol=2e-3)


def test_wrong_input_is_refused_in_a_sentence(exact: TrueFeatures) -> None:
    odometry = Odometry(exact.camera)
    odometry.track(exact.at(0), 5)
    with pytest.raises(OdometryError, match="does not come after"):
        odometry.track(exact.at(1), 5)
    floats = exact.at(1)
    floats = Features(floats.uv, floats.response, np.zeros((len(floats), 128), np.float32), (640, 480), "l2")
    with pytest.raises(OdometryError, match="128 columns compared by l2"):
        odometry.track(floats, 6)
    with pytest.raises(OdometryError, match="rays"):
        odometry.track(exact.at(1), 6, rays=np.ones((2, 3)))
    with pytest.raises(OdometryError, match="min_inliers"):
        OdometryOptions(min_inliers=0)
    with pytest.raises(OdometryError, match="max_keyframes"):
        OdometryOptions(window=9, max_keyframes=8)


def test_float_descriptors_serve_as_well(exact: TrueFeatures) -> None:
    table = np.random.default_rng(0).standard_normal((WALL_POINTS, 16)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    number = {row.tobytes(): index for index, row in enumerate(exact.descriptors)}

    def at(index: int) -> Features:
        binary = exact.at(index)
        rows = [number[row.tobytes()] for row in binary.descriptors]
        return Features(binary.uv, binary.response, table[rows], (640, 480), "l2", depth=binary.depth)

    indices = range(12)
    trajectory = run_odometry(((exact.stamp(index), at(index)) for index in indices), exact.camera)
    np.testing.assert_allclose(trajectory.poses, exact.truth(indices), atol=2e-3)


@pytest.mark.parametrize("width", [4, 61, 64])
def test_binary_descriptors_of_any_width_serve_and_close_no_loops(exact: TrueFeatures, width: int) -> None:
    table = np.random.default_rng(0).integers(0, 256, (WALL_POINTS, width), dtype=np.uint8)
    number = {row.tobytes(): index for index, row in enumerate(exact.descriptors)}
    vocabulary = train_vocabulary([exact.at(0).descriptors, exact.at(1).descriptors], branching=4, depth=2)
    odometry = Odometry(exact.camera, OdometryOptions(ratio=1.0, max_hamming_distance=2), vocabulary=vocabulary)
    for index in range(12):
        features = exact.at(index)
        rows = [number[row.tobytes()] for row in features.descriptors]
        result = odometry.track(features.with_arrays(descriptors=table[rows]), exact.stamp(index))
    assert result.pose is not None
    np.testing.assert_allclose(result.pose, exact.truth(range(12))[11], atol=2e-3)


def test_a_lost_camera_does_not_take_memory_for_every_bit_of_the_map(exact: TrueFeatures) -> None:
    camera = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
    rng = np.random.default_rng(0)

    def seen(count: int) -> Features:
        descriptors = rng.integers(0, 256, (count, 32), dtype=np.uint8)
        uv = rng.uniform((0, 0), (639, 479), (count, 2))
        return Features(uv, np.ones(count), descriptors, (640, 480), depth=np.full(count, 2.0))

    odometry = Odometry(camera)
    known = seen(40_000)
    odometry.track(known, 1)
    odometry.track(Features.empty((640, 480)), 2)
    strange = seen(500)
    tracemalloc.start()
    try:
        assert not odometry.track(strange, 3).tracked
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # As float32, the bits alone are 256 * 4 bytes a point.
    assert peak < 256 * 4 * len(known)


def test_a_vocabulary_for_other_scores_is_refused_at_once(exact: TrueFeatures) -> None:
    vocabulary = train_vocabulary([exact.at(0).descriptors, exact.at(1).descriptors], branching=4, depth=2)
    with pytest.raises(VocabularyError, match="L2_NORM"):
        Odometry(exact.camera, vocabulary=replace(vocabulary, scoring=Scoring.L2_NORM))


def test_orb_in_the_rendered_room_is_tracked_to_two_centimetres() -> None:
    room = SyntheticRoom(RoomOptions(frames=8, width=320, height=240, texel=0.01))
    frames = []
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=400)) as extractor:
        for frame in room:
            features = extractor.extract(frame.gray)
            assert frame.depth is not None
            depth = sample_depth(frame.depth, features.uv, features.image_size)
            frames.append((frame.stamp_ns, features.with_arrays(depth=depth)))
    assert room.camera is not None
    trajectory = run_odometry(frames, room.camera)
    assert trajectory.tracked.all()
    truth = np.stack([invert_pose(room.pose(0)) @ room.pose(index) for index in range(len(room))])
    error = np.linalg.norm(trajectory.poses[:, :3, 3] - truth[:, :3, 3], axis=1)
    assert path_length(truth) > 0.05
    assert np.sqrt(np.mean(error**2)) < 0.02


PINHOLE = Pinhole(500.0, 510.0, 319.5, 239.5, pixel_sigma=1.0, inverse_depth_sigma=0.01)


def a_view(count: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A pose, world to optical frame, and points with their pixels and depth under it, of usual noise."""
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.array((0.1, -0.2, 0.3)))[0]
    pose[:3, 3] = (0.3, -0.2, 0.1)
    local = rng.uniform((-1.2, -0.8, 2.0), (1.2, 0.8, 5.0), (count, 3))
    pixels = PINHOLE.project(local) + rng.standard_normal((count, 2))
    depth = 1.0 / (1.0 / local[:, 2] + 0.01 * rng.standard_normal(count))
    return pose, transform_points(invert_pose(pose), local), pixels, depth


def test_a_tenth_of_wrong_matches_hardly_moves_the_pose() -> None:
    pose, points, pixels, depth = a_view()
    wrong = np.arange(len(points)) % 10 == 0
    pixels[wrong] += (60.0, -40.0)
    depth[wrong] *= 0.5
    found = refine_pose(pose, points, pixels, depth, PINHOLE)
    assert found is not None
    assert np.linalg.norm(found[:3, 3] - pose[:3, 3]) < 0.02
    assert rotation_between(found, pose) < 0.3


def test_a_refined_pose_is_where_its_cost_is_least() -> None:
    pose, points, pixels, depth = a_view(count=12)
    # Depth alone holds a pose of few points against what their pixels say.
    depth *= np.linspace(0.95, 1.05, len(depth))
    sure = replace(PINHOLE, inverse_depth_sigma=0.002)
    found = refine_pose(pose, points, pixels, depth, sure)
    assert found is not None

    def cost(step: np.ndarray) -> float:
        """Huber's, at a pose so far away: a translation and a turn."""
        change = np.eye(4)
        change[:3, :3], change[:3, 3] = cv2.Rodrigues(step[3:])[0], step[:3]
        local = transform_points(change @ found, points)
        apart = ((sure.project(local) - pixels) ** 2).sum(axis=1)
        too_deep = ((1 / local[:, 2] - 1 / depth) / sure.inverse_depth_sigma) ** 2
        robust = [
            np.where(squared <= limit, squared, 2 * np.sqrt(limit * squared) - limit)
            for squared, limit in ((apart, CHI_SQUARE_2), (too_deep, CHI_SQUARE_1))
        ]
        return float(np.concatenate(robust).sum())

    slope = [(cost(1e-5 * direction) - cost(-1e-5 * direction)) / 2e-5 for direction in np.eye(6)]
    np.testing.assert_allclose(slope, 0.0, atol=1.0)


def test_a_match_that_does_not_agree_after_the_adjustment_is_dropped() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform((-1.2, -0.8, 2.0), (1.2, 0.8, 5.0), (60, 3))
    descriptors = rng.integers(0, 256, (60, 32), dtype=np.uint8)
    world = KeyframeMap(PINHOLE)
    for column in (0.0, 0.1, 0.2):
        pose = np.eye(4)
        pose[0, 3] = column
        local = points - pose[:3, 3]
        pixels = PINHOLE.project(local)
        if column == 0.2:
            pixels[7] += (12.0, 9.0)
        features = Features(pixels, np.ones(60), descriptors, (640, 480), depth=local[:, 2])
        seen = np.arange(60) if world.keyframes else np.full(60, -1)
        world.add(Keyframe(Observation(features, pixels, local[:, 2]), pose, seen))
    adjust(world, world.keyframes, [], PINHOLE)
    np.testing.assert_array_equal(np.flatnonzero(world.keyframes[2].points < 0), [7])
    assert (world.keyframes[1].points >= 0).all()


def test_depth_and_parallax_count_by_their_noise() -> None:
    """Two keyframes see a point, at the distance where both weigh the same: it lies in the middle of what they say."""
    # The virtual stereo pair measures each column twice, as in ORB-SLAM2, so the parallax has the noise of one column.
    apart = np.sqrt(2) * PINHOLE.pixel_sigma / (PINHOLE.fx * PINHOLE.inverse_depth_sigma)
    rng = np.random.default_rng(0)
    points = rng.uniform((-0.8, -0.8, 2.0), (1.2, 0.8, 4.0), (200, 3))
    points[0] = (0.2, 0.1, 3.0)
    descriptors = rng.integers(0, 256, (200, 32), dtype=np.uint8)
    world = KeyframeMap(PINHOLE)
    for column in (0.0, apart):
        pose = np.eye(4)
        pose[0, 3] = column
        local = points - pose[:3, 3]
        depth = local[:, 2].copy()
        depth[0] = 1 / (1 / 3 + PINHOLE.inverse_depth_sigma)
        features = Features(PINHOLE.project(local), np.ones(200), descriptors, (640, 480), depth=depth)
        seen = np.arange(200) if world.keyframes else np.full(200, -1)
        world.add(Keyframe(Observation(features, PINHOLE.project(local), depth), pose, seen))
    adjust(world, world.keyframes[1:], world.keyframes[:1], PINHOLE)
    share = (1 / world.positions[0, 2] - 1 / 3) / PINHOLE.inverse_depth_sigma
    assert share == pytest.approx(0.5, abs=0.05)


def test_a_point_has_the_descriptor_of_the_keyframe_that_saw_it_last() -> None:
    first, last = np.zeros((2, 32), np.uint8), np.full((2, 32), 255, np.uint8)
    pixels, depth = np.array([[100.0, 100.0], [200.0, 100.0]]), np.array([2.0, 3.0])
    world = KeyframeMap(PINHOLE)
    for descriptors, seen in ((first, (-1, -1)), (last, (1, -1))):
        features = Features(pixels, np.ones(2), descriptors, (640, 480), depth=depth)
        world.add(Keyframe(Observation(features, pixels, depth), np.eye(4), np.array(seen)))
    np.testing.assert_array_equal(world.descriptors, [first[0], last[0], last[1]])


def test_points_beyond_the_largest_depth_are_none_of_the_map(exact: TrueFeatures) -> None:
    features = exact.at(0)
    limit = float(np.median(features.depth))
    odometry = Odometry(exact.camera, OdometryOptions(max_depth=limit))
    assert odometry.track(features, 1).tracked
    assert len(odometry.points) == (features.depth <= limit).sum()
    assert odometry.points[:, 2].max() <= limit + 1e-6


def test_fewer_features_than_before_do_not_make_every_frame_a_keyframe(exact: TrueFeatures) -> None:
    odometry = Odometry(exact.camera)
    keyframes = []
    for index in range(20):
        features = exact.at(index)
        if index >= 10:
            features = features.select(slice(0, len(features) // 3))
        keyframes.append(odometry.track(features, exact.stamp(index)).keyframe)
    assert keyframes[10]
    assert sum(keyframes[11:]) <= 2


def test_a_longer_time_between_frames_is_a_longer_way() -> None:
    """A wall with one descriptor all over: within the search radius only the right prediction finds the right point."""
    camera = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(-3.0, 3.0, 0.2), np.arange(-0.8, 0.8, 0.2)), -1).reshape(-1, 2)
    points = np.column_stack([grid + rng.uniform(-0.02, 0.02, grid.shape), rng.uniform(1.9, 2.1, len(grid))])
    odometry = Odometry(camera, OdometryOptions(search_radius=16.0))
    place, time = 0.0, 0
    for tenths in (1, 1, 1, 2, 1, 3, 1, 2, 2):
        place, time = place + 0.05 * tenths, time + tenths
        local = points - (place, 0.0, 0.0)
        uv = camera.project(local)
        seen = ((uv >= 0) & (uv <= (639, 479))).all(axis=1)
        descriptors = np.zeros((seen.sum(), 32), np.uint8)
        features = Features(uv[seen], np.ones(seen.sum()), descriptors, (640, 480), depth=local[seen, 2])
        result = odometry.track(features, time * 100_000_000)
        assert result.pose is not None
        np.testing.assert_allclose(result.pose[:3, 3], (place - 0.05, 0.0, 0.0), atol=0.01)


def test_a_lost_camera_is_recognised_by_its_strongest_keypoints() -> None:
    rng = np.random.default_rng(0)
    descriptors = rng.integers(0, 256, (1000, 32), dtype=np.uint8)
    pixels, depth = rng.uniform((0, 0), (639, 479), (1000, 2)), np.full(1000, 2.0)
    features = Features(pixels, np.ones(1000), descriptors, (640, 480), depth=depth)
    world = KeyframeMap(PINHOLE)
    for chosen in (slice(0, 500), slice(500, 1000)):
        observation = Observation(features.select(chosen), pixels[chosen], depth[chosen])
        world.add(Keyframe(observation, np.eye(4), np.full(500, -1)))
    # The strongest come first, and few of them are enough.
    for order in (slice(None), slice(None, None, -1)):
        seen = features.select(np.arange(1000)[order])
        likely = likely_keyframes(world, seen, None, 1, 80.0)
        assert likely == [world.keyframes[0 if order.step is None else 1]]
