# SPDX-License-Identifier: Apache-2.0
"""The features message: its exact layout, the way there and back, and what is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from gcnv2_ros.features import Features
from gcnv2_ros.ros.features_msg import (
    FeaturesMessageError,
    decode_features,
    describe_schema,
    encode_features,
    point_dtype,
)


def header() -> Header:
    """A header with every field set."""
    result = Header(frame_id="camera_optical")
    result.stamp.sec, result.stamp.nanosec = 1_700_000_000, 123_456_789
    return result


def random_features(count: int, seed: int = 0, metric: str = "hamming", width: int = 32) -> Features:
    """Features in which no two values are equal by accident."""
    random = np.random.default_rng(seed)
    if metric == "hamming":
        descriptors = random.integers(0, 256, (count, width)).astype(np.uint8)
    else:
        descriptors = random.normal(size=(count, width)).astype(np.float32)
    return Features(
        random.uniform(0, 640, (count, 2)),
        np.sort(random.random(count))[::-1],
        descriptors,
        (640, 480),
        metric,
        size=random.uniform(8, 64, count),
        angle=random.uniform(0, 360, count),
        depth=random.uniform(0.5, 8, count),
        right_u=random.uniform(0, 640, count),
        track_id=random.integers(-1, 1000, count),
    )


def assert_equal(first: Features, second: Features) -> None:
    """Two sets of features hold the same values."""
    assert first.metric == second.metric
    assert first.descriptors.dtype == second.descriptors.dtype
    for name in ("uv", "response", "descriptors", "size", "angle", "depth", "right_u", "track_id"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def test_the_layout_is_the_published_one() -> None:
    # Written out by hand: other programs read these bytes.
    one = Features(
        [[10.5, 20.25]],
        [0.75],
        np.arange(32, dtype=np.uint8)[None],
        (640, 480),
        size=[16.0],
        angle=[45.0],
        depth=[2.5],
        right_u=[7.5],
        track_id=[42],
    )
    message = encode_features(one, header(), np.array([[0.125, -0.25, 1.0]], np.float32))
    expected = struct.pack("<8f2i2f32B", 0.125, -0.25, 1.0, 10.5, 20.25, 0.75, 16.0, 45.0, 0, 42, 2.5, 7.5, *range(32))
    assert bytes(message.data) == expected
    assert (message.height, message.width, message.point_step, message.row_step) == (1, 1, 80, 80)
    assert not message.is_bigendian
    assert message.is_dense
    float32, int32, uint8 = PointField.FLOAT32, PointField.INT32, PointField.UINT8
    assert [(field.name, field.offset, field.datatype, field.count) for field in message.fields] == [
        ("x", 0, float32, 1),
        ("y", 4, float32, 1),
        ("z", 8, float32, 1),
        ("u", 12, float32, 1),
        ("v", 16, float32, 1),
        ("response", 20, float32, 1),
        ("size", 24, float32, 1),
        ("angle", 28, float32, 1),
        ("octave", 32, int32, 1),
        ("track_id", 36, int32, 1),
        ("depth", 40, float32, 1),
        ("right_u", 44, float32, 1),
        ("descriptor", 48, uint8, 32),
    ]
    assert message.header == header()


def test_the_description_for_other_programs_agrees_with_the_message() -> None:
    described = describe_schema()
    message = encode_features(random_features(1), header())
    assert described["point_step"] == message.point_step
    assert [(field["name"], field["offset"], field["count"]) for field in described["fields"]] == [
        (field.name, field.offset, field.count) for field in message.fields
    ]
    assert all(field["meaning"] for field in described["fields"])


@pytest.mark.parametrize(("metric", "width"), [("hamming", 32), ("l2", 128)])
@pytest.mark.parametrize("count", [0, 1, 500])
def test_what_is_encoded_comes_back_through_serialisation(count: int, metric: str, width: int) -> None:
    features = random_features(count, metric=metric, width=width)
    rays = np.random.default_rng(1).normal(size=(count, 3)).astype(np.float32)
    sent = encode_features(features, header(), rays)
    received = decode_features(deserialize_message(serialize_message(sent), PointCloud2), image_size=(640, 480))
    assert_equal(received.features, features)
    np.testing.assert_array_equal(received.rays, rays)
    assert received.features.image_size == (640, 480)
    assert received.header == header()
    assert received.stamp_ns == 1_700_000_000_123_456_789
    assert received.features.descriptors.shape == (count, width)
    assert sent.point_step == 48 + (width if metric == "hamming" else 4 * width)


def test_without_calibration_rays_are_nan_and_the_cloud_is_not_dense() -> None:
    message = encode_features(random_features(3), header())
    assert not message.is_dense
    assert np.isnan(decode_features(message).rays).all()


def test_rays_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(FeaturesMessageError, match="rays"):
        encode_features(random_features(3), header(), np.zeros((2, 3)))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 12),
    rows=st.integers(1, 3),
    padding=st.integers(0, 7),
    big_endian=st.booleans(),
)
def test_order_gaps_padding_and_byte_order_do_not_matter(
    seed: int, count: int, rows: int, padding: int, big_endian: bool
) -> None:
    features = random_features(count * rows, seed)
    random = np.random.default_rng(seed)
    native = np.frombuffer(bytes(encode_features(features, header()).data), point_dtype())

    message = PointCloud2(header=header(), height=rows, width=count, is_bigendian=big_endian)
    names = [*point_dtype().names, "extra"]
    random.shuffle(names)
    formats, offsets, offset = [], [], 0
    for name in names:
        base, shape = (
            (np.dtype("f8"), ())
            if name == "extra"
            else point_dtype()[name].subdtype
            or (
                point_dtype()[name],
                (),
            )
        )
        ordered = base.newbyteorder(">" if big_endian else "<")
        offset += int(random.integers(0, 4))
        formats.append((ordered, shape))
        offsets.append(offset)
        code = {"f4": PointField.FLOAT32, "i4": PointField.INT32, "u1": PointField.UINT8, "f8": PointField.FLOAT64}
        field_count = shape[0] if shape else 1
        message.fields.append(PointField(name=name, offset=offset, datatype=code[base.str[1:]], count=field_count))
        offset += base.itemsize * field_count
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": offset + 3})
    points = np.zeros((rows, count), dtype)
    for name in native.dtype.names:
        points[name] = native[name].reshape(rows, count, *native[name].shape[1:])
    message.point_step = dtype.itemsize
    message.row_step = count * dtype.itemsize + padding
    message.data = b"".join(row.tobytes() + bytes(padding) for row in points)
    assert_equal(decode_features(message).features, features)


def test_missing_optional_fields_get_the_values_for_unknown() -> None:
    message = PointCloud2(height=1, width=2, point_step=16, row_step=32)
    message.fields = [
        PointField(name="u", offset=0, datatype=PointField.FLOAT32, count=1),
        PointField(name="v", offset=4, datatype=PointField.FLOAT32, count=1),
        PointField(name="response", offset=8, datatype=PointField.FLOAT32, count=1),
        PointField(name="descriptor", offset=12, datatype=PointField.UINT8, count=4),
    ]
    message.data = struct.pack("<3f4B3f4B", 1, 2, 0.5, 1, 2, 3, 4, 3, 4, 0.25, 5, 6, 7, 8)
    received = decode_features(message)
    np.testing.assert_array_equal(received.features.uv, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(received.features.descriptors, [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert np.isnan(received.features.depth).all()
    assert np.all(received.features.right_u == -1)
    assert np.all(received.features.track_id == -1)
    assert np.all(received.features.angle == -1)
    assert np.isnan(received.rays).all()


def field_of(message: PointCloud2, name: str) -> PointField:
    """The field of that name."""
    return next(field for field in message.fields if field.name == name)


@pytest.mark.parametrize("name", ["u", "v", "response", "descriptor"])
def test_a_missing_field_is_named(name: str) -> None:
    message = encode_features(random_features(2), header())
    message.fields = [field for field in message.fields if field.name != name]
    with pytest.raises(FeaturesMessageError, match=f"'{name}'"):
        decode_features(message)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("u", {"datatype": PointField.INT32}),
        ("track_id", {"datatype": PointField.FLOAT32}),
        ("descriptor", {"datatype": PointField.UINT16}),
        ("response", {"datatype": 99}),
        ("v", {"count": 2}),
        ("descriptor", {"count": 0}),
        ("descriptor", {"offset": 49}),
        ("depth", {"offset": 4_294_967_295}),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(name: str, change: dict[str, int]) -> None:
    message = encode_features(random_features(2), header())
    for attribute, value in change.items():
        setattr(field_of(message, name), attribute, value)
    with pytest.raises(FeaturesMessageError, match=f"'{name}'"):
        decode_features(message)


def test_a_field_that_comes_twice_is_refused() -> None:
    message = encode_features(random_features(2), header())
    message.fields = [*message.fields, field_of(message, "u")]
    with pytest.raises(FeaturesMessageError, match="'u' appears twice"):
        decode_features(message)


def test_data_shorter_than_the_sizes_say_are_refused() -> None:
    message = encode_features(random_features(5), header())
    message.data = message.data[:-1]
    with pytest.raises(FeaturesMessageError, match=r"data has 399 bytes.*need 400"):
        decode_features(message)
    message.width = 4_294_967_295
    with pytest.raises(FeaturesMessageError, match="data has 399 bytes"):
        decode_features(message)


def test_overlapping_rows_are_refused() -> None:
    message = encode_features(random_features(4), header())
    message.height, message.width, message.row_step = 2, 2, 100
    with pytest.raises(FeaturesMessageError, match="row_step is 100"):
        decode_features(message)


def test_responses_out_of_order_are_refused() -> None:
    message = encode_features(random_features(2), header())
    message.data = bytes(message.data[80:]) + bytes(message.data[:80])
    with pytest.raises(FeaturesMessageError, match="response must be in descending order"):
        decode_features(message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_that_are_nowhere_are_refused(value: float) -> None:
    message = encode_features(random_features(3), header())
    (u,) = [field for field in message.fields if field.name == "u"]
    data = bytearray(message.data)
    struct.pack_into("<f", data, message.point_step + u.offset, value)
    message.data = bytes(data)
    with pytest.raises(FeaturesMessageError, match=r"position .u, v. is NaN or infinite"):
        decode_features(message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_float_descriptors_that_are_near_nothing_are_refused(value: float) -> None:
    features = random_features(3, metric="l2", width=8)
    descriptors = features.descriptors.copy()
    descriptors[1, 7] = value
    message = encode_features(features.with_arrays(descriptors=descriptors), header())
    with pytest.raises(FeaturesMessageError, match="descriptors with values that are NaN or infinite"):
        decode_features(message)


@pytest.mark.parametrize("point_step", [2**31, 2**32 - 1])
def test_points_larger_than_numpy_can_hold_are_refused_even_if_there_are_none(point_step: int) -> None:
    message = encode_features(random_features(0), header())
    message.point_step = point_step
    with pytest.raises(FeaturesMessageError, match=rf"points of {point_step} bytes \(point_step\)"):
        decode_features(message)
