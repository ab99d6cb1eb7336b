# SPDX-License-Identifier: Apache-2.0
"""Messages for VINS-style estimators and for RTAB-Map, value by value and byte by byte."""

from __future__ import annotations

import struct
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed")

from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud
from std_msgs.msg import Header

from gcnv2_ros.camera import Camera
from gcnv2_ros.errors import MissingDependencyError
from gcnv2_ros.features import Features, FeaturesError
from gcnv2_ros.ros.backend_outputs import BackendOutputs
from gcnv2_ros.ros.image_messages import image_message
from gcnv2_ros.ros.rtabmap_msg import (
    RtabmapMessageError,
    compress_matrix,
    fill_local_features,
    local_points,
    rgbd_image,
)
from gcnv2_ros.ros.vins_msg import CHANNELS, VinsMessageError, encode_vins

CAMERA = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)


def header(stamp_ns: int) -> Header:
    result = Header(frame_id="camera_optical")
    result.stamp.sec, result.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return result


def tracked(numbers: list[int], uv: list[tuple[float, float]]) -> Features:
    count = len(numbers)
    return Features(
        np.array(uv, np.float32).reshape(count, 2),
        np.linspace(1, 0.5, count),
        np.arange(count * 32, dtype=np.uint8).reshape(count, 32),
        (640, 480),
        track_id=np.array(numbers, np.int32),
        depth=np.full(count, 2.0),
    )


def channels(message: PointCloud) -> dict[str, list[float]]:
    assert tuple(channel.name for channel in message.channels) == CHANNELS
    assert all(len(channel.values) == len(message.points) for channel in message.channels)
    return {channel.name: list(channel.values) for channel in message.channels}


def test_vins_points_are_rays_and_channels_go_by_position() -> None:
    features = tracked([7, 3], [(319.5, 239.5), (419.5, 189.5)])
    message, _ = encode_vins(features, CAMERA.rays(features.uv), header(5_000_000_007), camera=1)
    received = deserialize_message(serialize_message(message), PointCloud)
    assert received.header == header(5_000_000_007)
    assert [(p.x, p.y, p.z) for p in received.points] == [(0.0, 0.0, 1.0), pytest.approx((0.2, -0.1, 1.0))]
    assert [list(channel.values) for channel in received.channels] == [
        [7.0, 3.0],
        [1.0, 1.0],
        [319.5, 419.5],
        [239.5, 189.5],
        *[[0.0, 0.0]] * 5,
    ]


def test_vins_velocities_are_those_of_the_same_track_in_the_normalised_plane() -> None:
    before = tracked([1, 2, 3], [(100, 100), (200, 200), (300, 300)])
    after = tracked([3, 4, 1], [(310, 295), (50, 60), (100, 120)])
    _, previous = encode_vins(before, CAMERA.rays(before.uv), header(1_000_000_000))
    message, _ = encode_vins(after, CAMERA.rays(after.uv), header(1_050_000_000), previous=previous)
    values = channels(message)
    # 10 pixels in 50 ms with a focal length of 500 pixels are 0.4 a second.
    np.testing.assert_allclose(values["velocity_x"], [0.4, 0.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(values["velocity_y"], [-0.2, 0.0, 0.8], atol=1e-4)
    back_in_time, _ = encode_vins(after, CAMERA.rays(after.uv), header(999), previous=previous)
    assert channels(back_in_time)["velocity_x"] == [0.0] * 3


def test_vins_leaves_out_what_has_no_track_or_no_ray() -> None:
    features = tracked([5, -1, 6], [(10, 10), (20, 20), (30, 30)])
    rays = CAMERA.rays(features.uv)
    rays[2] = np.nan
    message, current = encode_vins(features, rays, header(0))
    assert channels(message)["id"] == [5.0]
    assert current.track_id.tolist() == [5]
    empty, _ = encode_vins(Features.empty((640, 480)), np.zeros((0, 3)), header(0))
    assert channels(empty)["id"] == []


def test_vins_takes_the_longest_tracks_and_keeps_velocities_of_the_others() -> None:
    features = tracked([10, 11, 12, 13], [(10, 10), (20, 20), (30, 30), (40, 40)])
    rays = CAMERA.rays(features.uv)
    lengths = np.array([2, 9, 2, 5])
    message, current = encode_vins(features, rays, header(0), max_points=3, lengths=lengths)
    assert channels(message)["id"] == [10.0, 11.0, 13.0]
    assert current.track_id.tolist() == [10, 11, 12, 13]


@given(st.integers(0, 2**31 - 1))
def test_vins_numbers_survive_float32(number: int) -> None:
    features = tracked([number], [(10, 10)])
    message, _ = encode_vins(features, CAMERA.rays(features.uv), header(0))
    assert int(channels(message)["id"][0]) == number % 2**24


def test_vins_refuses_what_does_not_go_together() -> None:
    features = tracked([1, 2], [(1, 1), (2, 2)])
    with pytest.raises(VinsMessageError, match=r"\(2, 3\)"):
        encode_vins(features, np.zeros((3, 3)), header(0))
    with pytest.raises(VinsMessageError, match="lengths"):
        encode_vins(features, np.zeros((2, 3)), header(0), lengths=np.zeros(3, int))
    with pytest.raises(VinsMessageError, match="max_points"):
        encode_vins(features, np.zeros((2, 3)), header(0), max_points=1)


@pytest.mark.parametrize("count", [1, 7, 500])
def test_rtabmap_descriptors_are_zlib_data_then_rows_columns_and_type(count: int) -> None:
    descriptors = np.random.default_rng(count).integers(0, 4, (count, 32), dtype=np.uint8)
    blob = compress_matrix(descriptors)
    assert blob[-12:] == struct.pack("<i", count) + b"\x20\0\0\0" + b"\0\0\0\0"
    assert zlib.decompress(blob[:-12]) == descriptors.tobytes()


def test_rtabmap_float_descriptors_have_opencv_s_type() -> None:
    descriptors = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    blob = compress_matrix(descriptors)
    assert struct.unpack("<iii", blob[-12:]) == (3, 64, 5)
    np.testing.assert_array_equal(np.frombuffer(zlib.decompress(blob[:-12]), "<f4").reshape(3, 64), descriptors)


def test_rtabmap_has_no_bytes_for_no_descriptors() -> None:
    assert compress_matrix(np.zeros((0, 32), np.uint8)) == b""
    with pytest.raises(RtabmapMessageError, match="int64"):
        compress_matrix(np.zeros((2, 32), np.int64))


def test_rtabmap_points_lie_on_the_rays_in_the_optical_frame() -> None:
    features = tracked([1, 2, 3], [(319.5, 239.5), (419.5, 189.5), (0, 0)]).with_arrays(
        depth=np.array([4.0, 2.0, np.nan])
    )
    found = local_points(features, CAMERA.rays(features.uv))
    np.testing.assert_allclose(found[:2], [[0, 0, 4], [0.4, -0.2, 2]], atol=1e-6)
    assert np.isnan(found[2]).all()
    assert np.isnan(local_points(features, None)).all()
    with pytest.raises(FeaturesError, match="rays"):
        local_points(features, np.zeros((2, 3)))


def test_rtabmap_messages_are_filled_field_by_field() -> None:
    """With classes that have the fields of rtabmap_msgs, which need not be installed."""
    features = tracked([1, 2], [(10.5, 20.25), (30, 40)])
    message: Any = SimpleNamespace()
    struct_of = lambda **fields: SimpleNamespace(**fields)  # noqa: E731
    fill_local_features(
        message, features, CAMERA.rays(features.uv), key_point=struct_of, point2=struct_of, point3=struct_of
    )
    first = message.key_points[0]
    assert (first.pt.x, first.pt.y, first.size, first.angle) == (10.5, 20.25, 16.0, -1.0)
    assert (first.response, first.octave, first.class_id) == (1.0, 0, -1)
    assert len(message.key_points) == len(message.points) == 2
    assert message.points[1].z == 2.0
    assert bytes(message.descriptors) == compress_matrix(features.descriptors)


def without_rtabmap() -> bool:
    try:
        import rtabmap_msgs.msg  # noqa: F401
    except ImportError:
        return True
    return False


@pytest.mark.skipif(not without_rtabmap(), reason="rtabmap_msgs is installed")
def test_a_missing_rtabmap_msgs_is_one_sentence() -> None:
    features = tracked([1], [(1, 1)])
    image = image_message(np.zeros((480, 640), np.uint8), header(0))
    with pytest.raises(MissingDependencyError, match="rtabmap-msgs"):
        rgbd_image(features, CAMERA.rays(features.uv), image=image, camera_info=None)
    with pytest.raises(MissingDependencyError, match="rtabmap-msgs"):
        BackendOutputs(lambda kind, topic: None, tracking=False, vins=False, rtabmap=True)


class Recorder:
    """A publisher that keeps what it is given."""

    def __init__(self, kind: Any, topic: str) -> None:
        self.kind, self.topic, self.messages = kind, topic, []

    def publish(self, message: Any) -> None:
        assert isinstance(message, self.kind)
        self.messages.append(message)


def test_the_node_s_outputs_follow_and_publish() -> None:
    created: list[Recorder] = []

    def create(kind: Any, topic: str) -> Recorder:
        created.append(Recorder(kind, topic))
        return created[-1]

    outputs = BackendOutputs(create, tracking=False, vins=True, rtabmap=False, vins_max_points=30, prefix="~/front/")
    assert [publisher.topic for publisher in created] == ["~/front/vins_features"]
    assert outputs.publishers == tuple(created)
    rng = np.random.default_rng(0)
    uv, descriptors = rng.uniform(50, 430, (40, 2)), rng.integers(0, 256, (40, 32), dtype=np.uint8)
    for index in range(3):
        stamp_ns = 1_000_000_000 + 50_000_000 * index
        gray = np.zeros((480, 640), np.uint8)
        features = Features(uv + 5.0 * index, np.ones(40), descriptors, (640, 480))
        followed = outputs.follow(features, stamp_ns, gray)
        messages = {"image": image_message(gray, header(stamp_ns))}
        outputs.publish(followed, CAMERA.rays(followed.uv), messages, camera=CAMERA)
        outputs.publish(followed, None, messages, camera=None)
    first, _, last = (channels(message) for message in created[0].messages)
    assert first["id"] == last["id"]
    assert len(last["id"]) == 30
    np.testing.assert_allclose(last["velocity_x"], 5.0 / 500.0 / 0.05, atol=1e-3)
    assert outputs.track_statistics is not None
    assert outputs.track_statistics.longest == 3
    smaller = Features(uv[:5], np.ones(5), descriptors[:5], (320, 240))
    assert len(outputs.follow(smaller, 2_000_000_000, np.zeros((240, 320), np.uint8))) == 5


def test_without_tracking_features_stay_as_they_are() -> None:
    outputs = BackendOutputs(Recorder, tracking=False, vins=False, rtabmap=False)
    features = tracked([-1], [(1, 1)])
    assert outputs.follow(features, 0, np.zeros((480, 640), np.uint8)) is features
    assert outputs.track_statistics is None
    assert outputs.publishers == ()
