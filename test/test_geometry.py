# SPDX-License-Identifier: Apache-2.0
"""Poses, homographies and dense correspondences on scenes simple enough to be worked out by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.camera import Camera
from gcnv2_ros.geometry import (
    GeometryError,
    backproject,
    dense_flow,
    interpolate_pose,
    invert_pose,
    pose_from_quaternion,
    quaternion_of,
    transform_points,
    warp_homography,
)
from gcnv2_ros.sequences.base import Frame

CAMERA = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
unit = st.floats(-1, 1)
quaternions = st.tuples(unit, unit, unit, unit).map(np.array).filter(lambda q: np.linalg.norm(q) > 0.1)


def frame(depth: np.ndarray, x: float = 0.0, index: int = 0) -> Frame:
    pose = np.eye(4)
    pose[0, 3] = x
    return Frame(index, index, np.zeros(depth.shape, np.uint8), depth.astype(np.float32), pose=pose)


@settings(deadline=None)
@given(q=quaternions, scale=st.floats(0.1, 10))
def test_a_quaternion_of_any_length_gives_a_rotation(q: np.ndarray, scale: float) -> None:
    pose = pose_from_quaternion([1.0, 2.0, 3.0], scale * q)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(pose, pose_from_quaternion([1.0, 2.0, 3.0], -q), atol=1e-12)
    np.testing.assert_allclose(invert_pose(pose) @ pose, np.eye(4), atol=1e-12)


@settings(deadline=None)
@given(q=quaternions | st.sampled_from([np.eye(4)[axis] for axis in range(4)]))
def test_a_rotation_gives_back_its_quaternion(q: np.ndarray) -> None:
    x, y, z, w = found = quaternion_of(pose_from_quaternion(np.zeros(3), q)[:3, :3])
    assert w >= 0
    assert x * x + y * y + z * z + w * w == pytest.approx(1)
    # Of the two quaternions of a rotation.
    assert abs(np.dot(found, q)) == pytest.approx(np.linalg.norm(q))


def test_a_quaternion_turns_about_its_axis() -> None:
    quarter = np.sqrt(0.5)
    pose = pose_from_quaternion([0.0, 0.0, 1.0], [0.0, 0.0, quarter, quarter])
    np.testing.assert_allclose(transform_points(pose, np.array([[1.0, 0.0, 0.0]])), [[0.0, 1.0, 1.0]], atol=1e-12)


@pytest.mark.parametrize("q", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [0, 0, 1]])
def test_what_is_no_rotation_is_refused(q: list[float]) -> None:
    with pytest.raises(GeometryError, match="quaternion"):
        pose_from_quaternion([0, 0, 0], q)


@settings(deadline=None)
@given(turn=st.floats(-3.0, 3.0), share=st.floats(0, 1), flip=st.booleans())
def test_interpolation_turns_at_a_steady_rate_the_short_way_round(turn: float, share: float, flip: bool) -> None:
    ends = np.array([[0, 0, 0, 1.0], [0, np.sin(turn / 2), 0, np.cos(turn / 2)]])
    ends[1] *= -1 if flip else 1
    stamps = np.array([1_000_000_000, 2_000_000_000])
    stamp = 1_000_000_000 + round(share * 1e9)
    pose = interpolate_pose(stamps, np.array([[0, 0, 0], [4.0, 0, 0]]), ends, stamp)
    assert pose is not None
    angle = np.arctan2(pose[0, 2], pose[0, 0])
    assert angle == pytest.approx(share * turn, abs=1e-6)
    assert pose[0, 3] == pytest.approx(4 * share, abs=1e-6)


def test_poses_are_neither_extrapolated_nor_invented_in_a_gap() -> None:
    stamps, places, turns = np.array([10, 20, 90]), np.zeros((3, 3)), np.tile([0, 0, 0, 1.0], (3, 1))
    assert interpolate_pose(stamps, places, turns, 9) is None
    assert interpolate_pose(stamps, places, turns, 91) is None
    assert interpolate_pose(stamps, places, turns, 90) is not None
    assert interpolate_pose(stamps, places, turns, 50) is not None
    assert interpolate_pose(stamps, places, turns, 50, longest_gap=30) is None
    assert interpolate_pose(stamps, places, turns, 15, longest_gap=30) is not None


def test_a_homography_is_applied_as_opencv_does_and_stops_at_the_horizon() -> None:
    matrix = np.array([[1.1, 0.1, 5.0], [-0.05, 0.9, 2.0], [0.001, 0.0005, 1.0]])
    uv = np.random.default_rng(0).uniform(0, 500, (30, 2))
    expected = cv2.perspectiveTransform(uv[:, None], matrix)[:, 0]
    np.testing.assert_allclose(warp_homography(matrix, uv), expected, atol=1e-9)
    assert np.isnan(warp_homography(matrix, [[-2000.0, 0.0]])).all()
    assert warp_homography(matrix, np.zeros((0, 2))).shape == (0, 2)


def test_backprojection_puts_pixels_on_their_plane() -> None:
    points = backproject(np.full((48, 64), 2.0, np.float32), CAMERA)
    assert np.all(points[..., 2] == 2)
    np.testing.assert_allclose(points[0, 0], [-31.5 / 50 * 2, -23.5 / 50 * 2, 2])
    with pytest.raises(GeometryError, match="64x48"):
        backproject(np.ones((10, 10), np.float32), CAMERA)


def test_flow_of_a_wall_is_its_parallax_and_ends_at_the_image() -> None:
    wall = np.full((48, 64), 2.0)
    flow, valid = dense_flow(frame(wall), frame(wall, x=0.2), CAMERA)
    rows, columns = np.mgrid[0:48, 0:64]
    np.testing.assert_allclose(flow[..., 0], columns - 5, atol=1e-4)
    np.testing.assert_allclose(flow[..., 1], rows, atol=1e-4)
    # Column 5 lands on column 0 up to rounding: neither answer about it is wrong.
    assert not valid[:, :5].any()
    assert valid[:, 6:].all()


def test_flow_is_not_valid_where_something_stands_in_front() -> None:
    wall = np.full((48, 64), 4.0)
    blocked = wall.copy()
    blocked[10:30, 20:40] = 1.0
    _, valid = dense_flow(frame(wall), frame(blocked), CAMERA)
    assert not valid[10:30, 20:40].any()
    assert valid[:9].all()
    assert valid[:, 42:].all()


def test_flow_accepts_a_slanted_plane_within_a_tight_tolerance() -> None:
    x, y = CAMERA.pixel_grid[..., 0], CAMERA.pixel_grid[..., 1]
    # The plane Z = 2 + 0.8 X + 0.5 Y in the first camera's frame, seen from both places.
    first = 2 / (1 - 0.8 * x - 0.5 * y)
    second = (2 + 0.8 * 0.1) / (1 - 0.8 * x - 0.5 * y)
    flow, valid = dense_flow(frame(first), frame(second, x=0.1), CAMERA, tolerance=1e-4)
    inside = np.all((flow > 0.01) & (flow < [62.99, 46.99]), axis=2)
    assert inside.mean() > 0.8
    assert valid[inside].all()


def test_unknown_depth_gives_no_correspondence() -> None:
    wall = np.full((48, 64), 2.0)
    holes = wall.copy()
    holes[5, 6] = np.nan
    flow, valid = dense_flow(frame(holes), frame(wall), CAMERA)
    assert np.isnan(flow[5, 6]).all()
    assert not valid[5, 6]
    _, valid = dense_flow(frame(wall), frame(holes), CAMERA)
    assert not valid[5, 6]


def test_frames_without_depth_or_pose_are_named() -> None:
    bare = Frame(7, 0, np.zeros((48, 64), np.uint8))
    with pytest.raises(GeometryError, match="frame 7 has no depth"):
        dense_flow(bare, frame(np.ones((48, 64))), CAMERA)
    with pytest.raises(GeometryError, match="frame 7 has no pose"):
        dense_flow(Frame(7, 0, bare.image, np.ones((48, 64), np.float32)), frame(np.ones((48, 64))), CAMERA)
