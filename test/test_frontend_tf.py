# SPDX-License-Identifier: Apache-2.0
"""Upright alignment by tf: the node and a publisher of transforms as processes, real DDS."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from ros_helpers import NodeProcess, Probe, gray_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_messages import environment_with_tf2_msgs, folder_for_tf2_msgs

from gcnv2_ros.camera import Camera
from gcnv2_ros.extraction import ExtractorOptions, create_extractor
from gcnv2_ros.ros.features_msg import ReceivedFeatures, decode_features
from gcnv2_ros.sequences import open_sequence

NAME = "/leaning"
NETWORK = {"runtime": "torch", "threads": 1, "input_width": 160, "input_height": 128}

# A line of its input is the topic, parent, child, seconds and the quaternion of a transform.
BROADCASTER = """
import json, sys
import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage
rclpy.init()
node = rclpy.create_node("broadcaster")
latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
publishers = {
    "/tf": node.create_publisher(TFMessage, "/tf", 100),
    "/tf_static": node.create_publisher(TFMessage, "/tf_static", latched),
}
for line in sys.stdin:
    topic, parent, child, second, quaternion = json.loads(line)
    transform = TransformStamped(child_frame_id=child)
    transform.header.frame_id, transform.header.stamp.sec = parent, second
    rotation = transform.transform.rotation
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion
    publishers[topic].publish(TFMessage(transforms=[transform]))
"""

# Of a camera that looks forward, from its optical axes to those of a vehicle: x forward, y left, z up.
FORWARD = (-0.5, 0.5, -0.5, 0.5)


class Broadcaster:
    """A process that publishes transforms."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", BROADCASTER], stdin=subprocess.PIPE, text=True)

    def send(self, topic: str, parent: str, child: str, quaternion: tuple[float, ...], second: int = 0) -> None:
        """Publish a transform."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([topic, parent, child, second, quaternion]) + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Stop the process."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def broadcaster(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Broadcaster]:
    """What publishes transforms; processes that are started from now on have tf2_msgs."""
    for name, value in environment_with_tf2_msgs(folder_for_tf2_msgs(request.config, tmp_path)).items():
        monkeypatch.setenv(name, value)
    broadcaster = Broadcaster()
    yield broadcaster
    broadcaster.end()


def about_x(degrees: float) -> tuple[float, ...]:
    """The quaternion of a turn about the x axis."""
    half = np.radians(degrees) / 2
    return float(np.sin(half)), 0.0, 0.0, float(np.cos(half))


def test_images_are_turned_upright_by_tf(tmp_path: Path, broadcaster: Broadcaster) -> None:
    frame = open_sequence("room:frames=1,width=320,height=240")[0]
    parameters = {
        **NETWORK,
        "upright": "tf",
        "upright_fixed_frame": "map",
        "subscribe_reliability": "reliable",
        "rectified_input": True,
    }
    remappings = {"__node": NAME[1:], **{topic: f"{NAME}/{topic}" for topic in ("image", "camera_info")}}
    with Probe(NAME) as probe, NodeProcess(tmp_path / "log.txt", parameters, remappings) as process:
        process.wait_for_log("active")
        clouds = probe.collect(PointCloud2, f"{NAME}/features")
        images = probe.publisher(Image, f"{NAME}/image")

        def features(second: int, meanwhile: Any = None) -> ReceivedFeatures:
            """Of an image of that time, turned upright if something is published meanwhile that says how."""

            def come() -> list[ReceivedFeatures]:
                messages = [cloud for cloud in clouds if cloud.header.stamp.sec == second]
                decoded = [decode_features(message, image_size=(320, 240)) for message in messages]
                return [one for one in decoded if meanwhile is None or (one.features.angle >= 0).all()]

            def publish() -> None:
                if meanwhile is not None:
                    meanwhile()
                images.publish(gray_message(frame.image, stamp=(second, 0)))

            return probe.wait_for(come, f"features of {second} s", meanwhile=publish)[0]

        level = features(1)
        assert len(level.features)
        assert (level.features.angle == -1).all()
        process.wait_for_log("is not turned upright: tf does not connect the frame 'map' with 'camera'")

        def lean(second: int, degrees: float) -> None:
            broadcaster.send("/tf_static", "base_link", "camera", FORWARD)
            # Two, as one by itself does not show that time has jumped.
            for stamp in (second - 1, second):
                broadcaster.send("/tf", "map", "base_link", about_x(degrees), stamp)

        # A vehicle that leans to its left: what it sees is turned clockwise in its image.
        for second, degrees in ((100, 25.0), (200, 70.0)):
            leaning = features(second, meanwhile=lambda s=second, d=degrees: lean(s, -d)).features
            np.testing.assert_allclose(leaning.angle, degrees, atol=1e-3)
            with create_extractor(ExtractorOptions(**NETWORK)) as extractor:
                expected = extractor.extract(frame.image, roll=degrees)
            assert len(leaning) == len(expected)
            np.testing.assert_allclose(leaning.uv, expected.uv, atol=0.05)

        # The rectified image is turned against the frame that tf knows.
        calibrations = probe.publisher(CameraInfo, f"{NAME}/camera_info")
        turn = cv2.Rodrigues(np.radians([0.0, 0.0, 8.0]))[0]
        projection = [[200, 0, 160, 0], [0, 200, 120, 0], [0, 0, 1, 0]]
        camera = Camera(320, 240, 200.0, 200.0, 160.0, 120.0, rectification=turn, projection=projection)

        def calibrate_and_lean() -> None:
            calibrations.publish(CameraInfo(**camera.camera_info_fields()))
            lean(250, -25.0)

        def turned_further() -> bool:
            # Until the calibration has come, images are turned by the lean alone.
            clouds.clear()
            return np.allclose(features(250, meanwhile=calibrate_and_lean).features.angle, 33.0, atol=1e-3)

        probe.wait_for(turned_further, "an image that is turned by both")

        # Transforms stop, and time goes on: the last one does not hold for ever.
        assert (features(300).features.angle == -1).all()
        assert process.stop() == 0, process.log
        assert "Traceback" not in process.log
