# SPDX-License-Identifier: Apache-2.0
"""The cloud of 3-D points: positions, colours, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed")

from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from gcnv2_ros.camera import Camera
from gcnv2_ros.features import Features, FeaturesError
from gcnv2_ros.ros.points_msg import PointsMessageError, encode_points

SIZE = (64, 48)
CAMERA = Camera(*SIZE, 50.0, 50.0, 31.5, 23.5)


def features_with(uv: np.ndarray, depth: np.ndarray) -> Features:
    count = len(uv)
    response = np.linspace(1, 0.5, count)
    return Features(uv, response, np.zeros((count, 32), np.uint8), SIZE, depth=depth)


def columns_of(message: PointCloud2) -> dict[str, np.ndarray]:
    """The cloud's fields by name, read as a viewer reads them."""
    assert not message.is_bigendian
    assert all(field.datatype == PointField.FLOAT32 and field.count == 1 for field in message.fields)
    dtype = np.dtype(
        {
            "names": [field.name for field in message.fields],
            "formats": ["<f4"] * len(message.fields),
            "offsets": [field.offset for field in message.fields],
            "itemsize": message.point_step,
        }
    )
    points = np.frombuffer(bytes(message.data), dtype)
    assert len(points) == message.width * message.height
    assert message.row_step == message.point_step * message.width
    return {name: points[name] for name in dtype.names}


@given(st.integers(0, 10_000), st.integers(0, 20))
def test_points_project_onto_their_keypoints_at_their_depth(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    uv = rng.uniform((0, 0), (63, 47), (count, 2))
    depth = rng.uniform(0.5, 9, count)
    depth[rng.random(count) < 0.3] = np.nan
    features = features_with(uv, depth)
    rays = CAMERA.rays(features.uv)
    rays[rng.random(count) < 0.1] = np.nan
    message = encode_points(features, rays, Header(frame_id="camera"))
    columns = columns_of(message)
    known = np.isfinite(features.depth) & np.isfinite(rays).all(axis=1)
    points = np.column_stack([columns[axis] for axis in "xyz"])
    np.testing.assert_allclose(CAMERA.project(points), features.uv[known], atol=1e-3)
    np.testing.assert_allclose(columns["z"], features.depth[known])
    np.testing.assert_array_equal(columns["response"], features.response[known])
    assert message.is_dense
    assert message.header.frame_id == "camera"


def test_colours_are_packed_as_viewers_read_them() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[10, 20] = (3, 2, 255)
    features = features_with(np.array([[20.3, 9.6], [0, 0]]), np.array([2.0, 3.0]))
    columns = columns_of(encode_points(features, CAMERA.rays(features.uv), Header(), image=image))
    assert list(columns) == ["x", "y", "z", "response", "rgb"]
    np.testing.assert_array_equal(columns["rgb"].view("<u4"), [0xFF0203, 0])


def test_gray_images_give_an_intensity() -> None:
    image = np.arange(48 * 64).reshape(48, 64).astype(np.uint8)
    features = features_with(np.array([[20.0, 10.0], [63.4, 47.4], [5.0, 5.0]]), np.array([2.0, 3.0, np.nan]))
    columns = columns_of(encode_points(features, CAMERA.rays(features.uv), Header(), image=image))
    assert list(columns) == ["x", "y", "z", "response", "intensity"]
    np.testing.assert_array_equal(columns["intensity"], [image[10, 20], image[47, 63]])


def test_what_does_not_go_with_the_features_is_refused() -> None:
    features = features_with(np.array([[20.0, 10.0]]), np.array([2.0]))
    with pytest.raises(FeaturesError, match=r"\(1, 3\)"):
        encode_points(features, np.zeros((2, 3)), Header())
    for image in (np.zeros((64, 48), np.uint8), np.zeros((48, 64), np.uint16), np.zeros((48, 64, 4), np.uint8)):
        with pytest.raises(PointsMessageError, match=r"\(48, 64\)"):
            encode_points(features, np.zeros((1, 3)), Header(), image=image)
