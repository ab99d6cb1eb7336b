# SPDX-License-Identifier: Apache-2.0
"""Tracks and messages for backends: the node as a process, real DDS."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from ros_helpers import NodeProcess, Probe, diagnostics_of, gray_message, textured
from sensor_msgs.msg import CameraInfo, Image, PointCloud, PointCloud2

from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.ros.features_msg import ReceivedFeatures, decode_features
from gcnv2_ros.sequences import Frame, open_sequence
from gcnv2_ros.tracking import FeatureTracker

NAME = "/tracker"
FRAMES = 6
ORB = {"model": "orb", "max_keypoints": 300}
Pairs = set[tuple[int, int]]


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    """A node in this process."""
    with Probe(NAME) as probe:
        yield probe


def same_tracks(before: np.ndarray, now: np.ndarray) -> Pairs:
    """Positions in two lists of track numbers that hold the same one."""
    _, first, second = np.intersect1d(before, now, return_indices=True)
    return set(zip(first.tolist(), second.tolist()))


def stamp_of(frame: Frame) -> tuple[int, int]:
    """Seconds and nanoseconds, far from the stamp of what goes before."""
    seconds, nanoseconds = divmod(frame.stamp_ns, 1_000_000_000)
    return 100 + seconds, nanoseconds


def test_tracks_persist_in_the_features_and_in_the_messages_for_vins(tmp_path: Path, probe: Probe) -> None:
    sequence = open_sequence(f"room:frames={FRAMES},width=320,height=240")
    frames = [sequence[index] for index in range(FRAMES)]
    parameters = {**ORB, "vins": True, "subscribe_reliability": "reliable", "queue": "all", "image_timeout": 0.5}
    remappings = {"__node": NAME[1:], "image": f"{NAME}/image", "camera_info": f"{NAME}/camera_info"}
    with NodeProcess(tmp_path / "log.txt", parameters, remappings) as process:
        process.wait_for_log("active")
        # Without calibration there are no rays, and so no message for VINS.
        process.wait_for_log(f"no camera_info on {NAME}/camera_info for ")
        diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
        clouds = probe.collect(PointCloud2, f"{NAME}/features")
        tracks = probe.collect(PointCloud, f"{NAME}/vins_features")
        images = probe.publisher(Image, f"{NAME}/image")
        calibrations = probe.publisher(CameraInfo, f"{NAME}/camera_info")

        def warm_up() -> None:
            calibrations.publish(CameraInfo(**sequence.camera.camera_info_fields()))
            images.publish(gray_message(frames[-1].image, stamp=(0, 1)))

        # Once both have come, everybody knows everybody and nothing gets lost.
        probe.wait_for(lambda: clouds and tracks, "the first tracks", meanwhile=warm_up)

        def follow(stamp: tuple[int, int], image: np.ndarray) -> tuple[ReceivedFeatures, PointCloud]:
            """Publish an image once; its features and its message for VINS."""

            def come(messages: list[Any]) -> list[Any]:
                return [m for m in messages if (m.header.stamp.sec, m.header.stamp.nanosec) == stamp]

            # Of an image with the same stamp before.
            clouds.clear()
            tracks.clear()
            images.publish(gray_message(image, stamp=stamp, frame_id="camera"))
            probe.wait_for(lambda: come(clouds) and come(tracks), f"features and tracks of {stamp}")
            return decode_features(come(clouds)[-1], image_size=(320, 240)), come(tracks)[-1]

        received = [follow(stamp_of(frame), frame.image) for frame in frames]

        tracker = FeatureTracker()
        with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=300)) as extractor:
            expected = [tracker.update(extractor.extract(f.image), f.stamp_ns, image=f.image) for f in frames]
        for (cloud, vins), features in zip(received, expected):
            np.testing.assert_array_equal(cloud.features.uv, features.uv)
            number = cloud.features.track_id
            assert (number >= 0).all()
            assert len(np.unique(number)) == len(number)
            assert (vins.header.frame_id, vins.header.stamp) == ("camera", cloud.header.stamp)
            channels = [np.array(channel.values) for channel in vins.channels]
            assert len(vins.points) == min(len(number), 200)
            place = {int(track): index for index, track in enumerate(number)}
            index = [place[int(track)] for track in channels[0]]
            np.testing.assert_allclose(np.stack(channels[2:4], axis=1), cloud.features.uv[index])
            rays = [(point.x, point.y, point.z) for point in vins.points]
            np.testing.assert_allclose(rays, cloud.rays[index], rtol=1e-6)
        for (before, before_vins), (now, now_vins), a, b in zip(received, received[1:], expected, expected[1:]):
            followed = same_tracks(before.features.track_id, now.features.track_id)
            assert followed == same_tracks(a.track_id, b.track_id)
            assert len(followed) > 100
            assert len(same_tracks(before_vins.channels[0].values, now_vins.channels[0].values)) > 80
        moving = np.array([channel.values for channel in received[-1][1].channels[4:6]])
        assert (np.abs(moving).max(axis=0) > 0).sum() > 100

        # A recording that starts again from its beginning ends all tracks, and following goes on.
        again = [follow(stamp_of(frame), frame.image)[0].features.track_id for frame in frames[:2]]
        newest = max(int(cloud.features.track_id.max()) for cloud, _ in received)
        assert again[0].min() > newest
        assert same_tracks(*again) == same_tracks(expected[0].track_id, expected[1].track_id)

        def told() -> bool:
            values = diagnostics_of(diagnostics, NAME)
            # An earlier frame may have had as many.
            newer = int(values.get("tracks since the start", 0)) > newest
            return newer and int(values["tracks followed"]) == len(same_tracks(*again))

        probe.wait_for(told, "the tracks in the diagnostics")
        values = diagnostics_of(diagnostics, NAME)
        assert values["track length longest (frames)"] == "2"
        assert float(values["track length mean (frames)"]) == 2.0
        assert process.stop() == 0, process.log
        assert "Traceback" not in process.log


def test_stamps_that_repeat_and_so_end_all_tracks_are_told_once(tmp_path: Path, probe: Probe) -> None:
    remappings = {"__node": "unstamped", "image": "/unstamped/image"}
    parameters = {**ORB, "tracking": True, "queue": "all"}
    with NodeProcess(tmp_path / "log.txt", parameters, remappings) as process:
        process.wait_for_log("active")
        clouds = probe.collect(PointCloud2, "/unstamped/features")
        images = probe.publisher(Image, "/unstamped/image")
        probe.wait_for(
            lambda: len(clouds) >= 4,
            "features of four images without a stamp",
            meanwhile=lambda: images.publish(gray_message(textured(1), stamp=(0, 0))),
        )
        assert process.log.count("the stamps of /unstamped/image repeat: two images of 0.000 s") == 1
        assert process.stop() == 0, process.log


@pytest.mark.parametrize(
    ("parameter", "value", "package"), [("rtabmap", True, "rtabmap_msgs"), ("upright", "tf", "tf2_msgs")]
)
def test_a_missing_message_package_ends_the_process_and_is_named(
    tmp_path: Path, parameter: str, value: Any, package: str
) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with NodeProcess(tmp_path / "log.txt", {**ORB, parameter: value}) as process:
        assert process.wait() == 1
        assert f"install it with: sudo apt install ros-$ROS_DISTRO-{package.replace('_', '-')}" in process.log
        assert "Traceback" not in process.log
