# SPDX-License-Identifier: Apache-2.0
"""Structured arrays as clouds of points, and keypoints as points in space."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gcnv2_ros.depth import points_in_space
from gcnv2_ros.features import Features, FeaturesError
from gcnv2_ros.messages.clouds import POINT_FIELD_TYPES, cloud_bytes, cloud_fields, float_points

VALUES = st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0, 0.5, 2.0])


def test_the_codes_of_types_are_those_of_the_message() -> None:
    point_field = pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed").PointField
    assert {dtype.name.upper(): code for code, dtype in POINT_FIELD_TYPES.items()} == {
        name: getattr(point_field, name)
        for name in ("INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "FLOAT32", "FLOAT64")
    }


@given(
    layout=st.lists(st.tuples(st.sampled_from(list(POINT_FIELD_TYPES)), st.integers(1, 40)), min_size=1, max_size=6),
    order=st.sampled_from("<>"),
    count=st.integers(0, 5),
)
def test_what_lies_in_the_bytes_is_found_by_the_fields(
    layout: list[tuple[int, int]], order: Literal["<", ">"], count: int
) -> None:
    types = [(POINT_FIELD_TYPES[code].newbyteorder(order), (values,)) for code, values in layout]
    dtype = np.dtype([(f"field_{index}", *kind) for index, kind in enumerate(types)])
    points = np.frombuffer(np.random.default_rng(count).bytes(count * dtype.itemsize), dtype)
    data = cloud_bytes(points)
    assert data.shape == (count * dtype.itemsize,)
    for field, (code, values) in zip(cloud_fields(dtype), layout, strict=True):
        assert (field.datatype, field.count) == (code, values)
        width = POINT_FIELD_TYPES[code].itemsize * values
        rows = data.reshape(count, dtype.itemsize)[:, field.offset : field.offset + width]
        assert rows.tobytes() == points[field.name].tobytes()


def test_bytes_are_those_of_the_points_and_no_copy() -> None:
    points = float_points(x=[1.0, 2.0], y=[3.0, 4.0])
    assert points.dtype.names == ("x", "y")
    assert np.shares_memory(cloud_bytes(points), points)
    np.testing.assert_array_equal(cloud_bytes(points).view("<f4"), [1.0, 3.0, 2.0, 4.0])
    assert len(float_points(x=[])) == 0


@given(count=st.integers(0, 6), data=st.data())
def test_a_keypoint_is_a_whole_point_in_space_or_unknown(count: int, data: st.DataObject) -> None:
    rays = data.draw(npst.arrays(np.float32, (count, 3), elements=VALUES))
    depth = data.draw(npst.arrays(np.float32, count, elements=VALUES))
    features = Features(np.zeros((count, 2)), np.ones(count), np.zeros((count, 32), np.uint8), (64, 48), depth=depth)
    points = points_in_space(features, rays)
    for point, ray, metres in zip(points, rays, depth, strict=True):
        if np.isfinite(ray).all() and np.isfinite(metres) and metres > 0:
            np.testing.assert_array_equal(point, ray.astype(np.float64) * metres)
        else:
            assert np.isnan(point).all()


def test_rays_of_other_features_are_refused() -> None:
    features = Features(np.zeros((2, 2)), np.ones(2), np.zeros((2, 32), np.uint8), (64, 48))
    with pytest.raises(FeaturesError, match=r"rays must be \(2, 3\) .* got shape \(3, 3\)"):
        points_in_space(features, np.zeros((3, 3)))
