# SPDX-License-Identifier: Apache-2.0
"""Rectification of images, masks and depth, against the cameras' own projections."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcnv2_ros.camera import Camera, CameraError
from gcnv2_ros.depth import DepthError
from gcnv2_ros.rectification import Rectifier

PROJECTION = [[90.0, 0, 80.0, 0], [0, 90.0, 60.0, 0], [0, 0, 1, 0]]


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """A rotation by the length of the vector in radians."""
    return cv2.Rodrigues(np.array([x, y, z]))[0]


def camera(angles: tuple[float, float, float] = (0.02, -0.03, 0.05)) -> Camera:
    """A camera with a distorting lens that is turned against its rectified frame."""
    return Camera(
        160,
        120,
        95.0,
        96.0,
        78.0,
        61.0,
        "plumb_bob",
        (-0.2, 0.05, 0.001, -0.001, 0.0),
        rectification=rotation(*angles),
        projection=PROJECTION,
    )


def test_the_image_shows_points_where_the_rectified_camera_projects_them() -> None:
    source = camera()
    rectifier = Rectifier(source)
    for point in ([0.0, 0.0, 2.0], [0.5, 0.3, 2.0], [-0.6, -0.4, 2.0]):
        u, v = source.project([point])[0]
        rows, columns = np.mgrid[0:120, 0:160]
        spot = (255 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 8)).astype(np.uint8)
        moved = rectifier.image(spot).astype(float)
        found = [(moved * np.mgrid[0:120, 0:160][axis]).sum() / moved.sum() for axis in (1, 0)]
        wanted = rectifier.camera.project([source.rectification @ point])[0]
        np.testing.assert_allclose(found, wanted, atol=0.1)


@given(angles=st.tuples(*[st.floats(-0.15, 0.15)] * 3))
def test_the_depth_of_a_plane_is_its_depth_in_the_rectified_frame(angles: tuple[float, float, float]) -> None:
    source = camera(angles)
    rectifier = Rectifier(source)
    # A wall at 3 m in front of the camera, in its own frame: all its depths are 3.
    depth = rectifier.depth(np.full((120, 160), 3.0, np.float32))
    known = np.isfinite(depth)
    assert known.mean() > 0.3
    v, u = np.nonzero(known)
    points = rectifier.camera.rays(np.stack([u, v], 1)) * depth[known][:, None]
    in_camera = points @ source.rectification
    np.testing.assert_allclose(in_camera[:, 2], 3.0, rtol=1e-5)


def test_masks_move_with_the_image_and_leave_out_what_the_camera_does_not_see() -> None:
    rectifier = Rectifier(camera())
    seen = rectifier.mask(None)
    assert set(np.unique(seen)) == {0, 255}
    white = rectifier.image(np.full((120, 160), 255, np.uint8))
    assert (white[seen > 0] == 255).all()
    half = np.zeros((120, 160), np.uint8)
    half[:, 80:] = 255
    moved = rectifier.mask(half)
    assert not (moved[seen == 0]).any()
    agree = (moved > 127) == (rectifier.image(half) > 127)
    assert agree[seen > 0].mean() > 0.98
    assert 0.3 < (moved > 0).mean() < 0.6


def test_unknown_depth_stays_unknown_and_another_resolution_will_do() -> None:
    rectifier = Rectifier(camera())
    depth = np.full((60, 80), 2.0, np.float32)
    depth[:30] = np.nan
    moved = rectifier.depth(depth)
    assert moved.shape == (120, 160)
    assert np.isnan(moved[:40]).all()
    assert np.isfinite(moved[90, 80])
    values = moved[np.isfinite(moved)]
    assert ((values > 1.8) & (values < 2.2)).all()


def test_what_cannot_be_rectified_is_refused() -> None:
    with pytest.raises(CameraError, match="projection"):
        Rectifier(Camera(160, 120, 95.0, 96.0, 78.0, 61.0))
    with pytest.raises(CameraError, match=r"image is 100x90 pixels and its calibration is for 160x120"):
        Rectifier(camera()).image(np.zeros((90, 100), np.uint8))
    with pytest.raises(DepthError, match=r"100x90 does not belong to an image of 160x120"):
        Rectifier(camera()).depth(np.ones((90, 100), np.float32))
