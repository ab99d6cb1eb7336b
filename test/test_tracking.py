# SPDX-License-Identifier: Apache-2.0
"""Following keypoints: properties of the numbers, and what the tracks follow in the synthetic room."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.camera import Camera
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.features import Features
from gcnv2_ros.geometry import invert_pose, transform_points
from gcnv2_ros.sequences import Frame, RoomOptions, SyntheticRoom
from gcnv2_ros.tracking import FeatureTracker, TrackerOptions, TrackingError

SIZE = (640, 480)
STEP_NS = 33_000_000


def points(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and descriptors, all different."""
    rng = np.random.default_rng(seed)
    return rng.uniform([60, 60], [580, 420], (count, 2)), rng.integers(0, 256, (count, 32), dtype=np.uint8)


def features_of(uv: np.ndarray, descriptors: np.ndarray) -> Features:
    return Features(uv, np.zeros(len(uv)), descriptors, SIZE)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), min_size=2, max_size=6))
def test_numbers_are_unique_in_a_frame_and_never_come_back(seed: int, counts: list[int]) -> None:
    """Whatever the frames hold: gaps, empty frames, points that vanish and come again."""
    rng = np.random.default_rng(seed)
    uv, descriptors = points(seed, 60)
    tracker = FeatureTracker()
    seen: set[int] = set()
    previous: set[int] = set()
    for index, count in enumerate(counts):
        chosen = rng.permutation(60)[:count]
        result = tracker.update(features_of(uv[chosen] + rng.normal(0, 3, 2), descriptors[chosen]), index * STEP_NS)
        numbers = set(result.track_id.tolist())
        assert len(numbers) == count
        assert min(numbers, default=0) >= 0
        assert not (numbers - previous) & seen, "a track that ended has come back"
        statistics = tracker.statistics
        assert statistics.keypoints == count
        assert statistics.followed == len(numbers & previous)
        seen |= numbers
        previous = numbers
        assert statistics.total == len(seen)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_keypoints_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    uv, descriptors = points(seed, 80)
    moved = uv + np.array([8.0, -3.0]) + rng.normal(0, 1, uv.shape)
    noisy = descriptors ^ np.packbits(rng.random((80, 256)) < 0.08, axis=1)
    order = rng.permutation(80)

    def links(first: np.ndarray, second: np.ndarray) -> set[tuple[int, int]]:
        """Which point of the first frame is followed to which of the second."""
        tracker = FeatureTracker()
        before = tracker.update(features_of(uv[first], descriptors[first]), 0).track_id
        after = tracker.update(features_of(moved[second], noisy[second]), STEP_NS).track_id
        place = {int(number): int(first[index]) for index, number in enumerate(before)}
        return {(place[int(n)], int(second[i])) for i, n in enumerate(after) if int(n) in place}

    straight = links(np.arange(80), np.arange(80))
    assert straight == links(order, np.arange(80)) == links(np.arange(80), order)
    assert len(straight) > 60
    assert all(a == b for a, b in straight)


def test_a_track_is_looked_for_where_its_motion_takes_it() -> None:
    """The image accelerates beyond what the gate allows from a standstill; new tracks are expected to move alike."""
    uv, descriptors = points(0, 60)
    uv[:, 0] -= 50
    tracker = FeatureTracker(TrackerOptions(radius=0.03))  # 19 pixels
    shift = 0.0
    for index in range(6):
        shift += 14.0 * index
        count = 40 if index < 4 else 60
        tracker.update(features_of(uv[:count] + np.array([shift, 0.0]), descriptors[:count]), index * STEP_NS)
        assert tracker.statistics.followed == [0, 40, 40, 40, 40, 60][index]


def test_a_track_moves_on_as_far_as_the_time_between_frames_says() -> None:
    """At 360 pixels a second, of which the gate allows no more than a frame's without a prediction."""
    uv, descriptors = points(0, 60)
    uv[:, 0] -= 50
    tracker = FeatureTracker(TrackerOptions(radius=0.02))  # 13 pixels
    milliseconds = 0
    tracker.update(features_of(uv, descriptors), 0)
    for step in (33, 100, 33, 66, 100):
        milliseconds += step
        shift = np.array([0.36 * milliseconds, 0.0])
        tracker.update(features_of(uv + shift, descriptors), milliseconds * 1_000_000)
        assert tracker.statistics.followed == 60


def test_positions_are_not_refined_out_of_the_image() -> None:
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (480, 660), dtype=np.uint8), (0, 0), 2.0)
    wide = np.asarray(cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX), np.uint8)
    before, after = np.ascontiguousarray(wide[:, :640]), np.ascontiguousarray(wide[:, 3:643])
    rows = np.arange(40.0, 440.0, 20.0)
    descriptors = rng.integers(0, 256, (len(rows), 32), dtype=np.uint8)
    tracker = FeatureTracker()
    tracker.update(features_of(np.column_stack([np.full(len(rows), 2.4), rows]), descriptors), 0, image=before)
    # The content is 0.6 pixels outside by now.
    seen = features_of(np.column_stack([np.full(len(rows), 0.2), rows]), descriptors)
    found = tracker.update(seen, STEP_NS, image=after)
    assert tracker.statistics.followed == len(rows)
    assert (found.uv >= 0).all()


def test_too_far_too_different_too_late_or_backwards_is_not_followed() -> None:
    uv, descriptors = points(2, 50)
    start = features_of(uv, descriptors)

    def followed(later: Features, stamp_ns: int = STEP_NS) -> int:
        tracker = FeatureTracker()
        tracker.update(start, 0)
        tracker.update(later, stamp_ns)
        return tracker.statistics.followed

    assert followed(start) == 50
    assert followed(features_of(uv + np.array([0.0, 50.0]), descriptors)) == 0
    assert followed(features_of(uv, ~descriptors)) == 0
    assert followed(start, 1_100_000_000) == 0
    assert followed(start, 0) == 0
    assert followed(start, -STEP_NS) == 0


def test_what_contradicts_the_epipolar_geometry_is_not_followed() -> None:
    """A camera moving sideways moves points along rows; five points move across."""
    rng = np.random.default_rng(3)
    uv, descriptors = points(3, 60)
    moved = uv + np.column_stack([rng.uniform(2, 25, 60), np.zeros(60)])
    moved[:5, 1] += 15
    tracker = FeatureTracker()
    before = tracker.update(features_of(uv, descriptors), 0).track_id
    after = tracker.update(features_of(moved, descriptors), STEP_NS).track_id
    assert not set(before[:5]) & set(after)
    assert np.array_equal(before[5:], after[5:])


def test_lengths_count_the_frames_of_each_track() -> None:
    uv, descriptors = points(4, 30)
    tracker = FeatureTracker()
    for index in range(4):
        tracker.update(features_of(uv[: 20 + 5 * (index // 2)], descriptors[: 20 + 5 * (index // 2)]), index * STEP_NS)
    np.testing.assert_array_equal(tracker.lengths, [4] * 20 + [2] * 5)
    assert tracker.statistics.longest == 4
    assert tracker.statistics.mean_length == pytest.approx((4 * 20 + 2 * 5) / 25)
    tracker.reset()
    again = tracker.update(features_of(uv, descriptors), 5 * STEP_NS)
    assert again.track_id.min() == 25, "numbers go on after a reset"
    assert tracker.statistics.followed == 0


def test_float_descriptors_are_followed_too() -> None:
    rng = np.random.default_rng(5)
    uv, _ = points(5, 40)
    vectors = rng.normal(size=(40, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tracker = FeatureTracker()
    for index in range(2):
        tracker.update(Features(uv + 2.0 * index, np.zeros(40), vectors, SIZE, "l2"), index * STEP_NS)
    assert tracker.statistics.followed == 40


def test_features_of_another_kind_are_refused() -> None:
    uv, descriptors = points(6, 10)
    tracker = FeatureTracker()
    tracker.update(features_of(uv, descriptors), 0)
    other = Features(uv, np.zeros(10), np.zeros((10, 64), np.float32), SIZE, "l2")
    with pytest.raises(TrackingError, match="reset"):
        tracker.update(other, STEP_NS)
    with pytest.raises(TrackingError, match="480, 600"):
        tracker.update(features_of(uv, descriptors), STEP_NS, image=np.zeros((480, 600), np.uint8))
    tracker.reset()
    assert len(tracker.update(other, STEP_NS)) == 10


@pytest.mark.parametrize("name", ["radius", "ratio", "epipolar_distance", "longest_gap", "refinement"])
def test_options_out_of_range_are_refused_by_name(name: str) -> None:
    with pytest.raises(TrackingError, match=name):
        TrackerOptions(**{name: -1.0})
    with pytest.raises(TrackingError, match=name):
        TrackerOptions(**{name: float("nan")})


@pytest.fixture(scope="module")
def walk() -> tuple[Camera, list[Frame], list[Features]]:
    """A walk through the synthetic room, and its ORB features."""
    room = SyntheticRoom(RoomOptions(seed=1, frames=9, width=400, height=300, speed=1.5, texel=0.006))
    frames = list(room)
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=500)) as extractor:
        return room.camera, frames, [extractor.extract(frame.gray) for frame in frames]


def tracks_of(frames: Sequence[Frame], features: Sequence[Features]) -> dict[int, list[tuple[int, np.ndarray]]]:
    """Track number to the frames and pixels it was seen at."""
    tracks: dict[int, list[tuple[int, np.ndarray]]] = {}
    for frame, found in zip(frames, features):
        for number, uv in zip(found.track_id.tolist(), found.uv):
            tracks.setdefault(number, []).append((frame.index, uv))
    return {number: seen for number, seen in tracks.items() if len(seen) > 1}


def drift(camera: Camera, frames: Sequence[Frame], seen: list[tuple[int, np.ndarray]]) -> float:
    """Largest distance in pixels of a track from the point of the room that it started at."""
    start, uv = seen[0]
    depth = frames[start].depth
    assert depth is not None
    column, row = np.rint(uv).astype(int)
    point = transform_points(frames[start].pose, camera.rays(uv) * depth[row, column])
    errors = [
        np.linalg.norm(camera.project(transform_points(invert_pose(frames[index].pose), point))[0] - uv)
        for index, uv in seen[1:]
    ]
    return float(max(errors))


def test_tracks_follow_the_same_point_of_the_room(
    walk: tuple[Camera, list[Frame], list[Features]],
) -> None:
    camera, frames, features = walk
    medians = {}
    for refined in (False, True):
        tracker = FeatureTracker()
        followed, numbered = [], []
        for frame, found in zip(frames, features):
            image = frame.gray if refined else None
            numbered.append(tracker.update(found, frame.stamp_ns, image=image))
            followed.append(tracker.statistics.followed / len(found))
        tracks = tracks_of(frames, numbered)
        errors = np.array([drift(camera, frames, seen) for seen in tracks.values()])
        right = float(np.mean(errors < 3.0))
        print(f"refined {refined}: {len(tracks)} tracks, {right:.3f} right, {np.mean(followed[1:]):.3f} followed")
        assert right > 0.88
        assert np.mean(followed[1:]) > 0.5
        medians[refined] = np.median(errors)
    # Optical flow is steadier than the detector.
    assert medians[True] < 0.5 * medians[False]
