# SPDX-License-Identifier: Apache-2.0
"""Recordings of real cameras, encoded anew as compressed topics: the node as a process, real DDS."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from ros_helpers import NodeProcess, Probe, Robot, assert_same
from sensor_msgs.msg import CameraInfo, CompressedImage

from gcnv2_ros.camera import Camera
from gcnv2_ros.depth import sample_depth
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.rectification import Rectifier
from gcnv2_ros.sequences import open_sequence

DATA = Path(os.environ.get("GCNV2_ROS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
TUM, EUROC = DATA / "tum_fr1_rpy_clip", DATA / "euroc_v101_clip"
ORB = {"model": "orb", "max_keypoints": 1000, "image_transport": "compressed"}
FRAMES = (0, 20, 39)


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    """A node in this process."""
    with Probe() as probe:
        yield probe


def jpeg(image: np.ndarray) -> tuple[CompressedImage, np.ndarray]:
    """A JPEG as image_transport makes it, and the gray image that is in it."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    kind = "mono8" if image.ndim == 2 else "bgr8"
    message = CompressedImage(format=f"{kind}; jpeg compressed {kind}", data=encoded.tobytes())
    return message, cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)


def topics_of(name: str, *topics: str) -> dict[str, str]:
    """Remappings of a node and its topics to a namespace."""
    return {"__node": name[1:], **{topic: f"{name}/{topic}" for topic in topics}}


def info_of(camera: Camera | None) -> CameraInfo:
    """A calibration as a message."""
    assert camera is not None
    return CameraInfo(**camera.camera_info_fields())


@pytest.mark.skipif(not TUM.is_dir(), reason=f"no {TUM.name} in the folder that GCNV2_ROS_DATA names")
def test_a_depth_camera_of_compressed_topics(tmp_path: Path, probe: Probe) -> None:
    sequence = open_sequence(TUM)
    name = "/compressed_tum"
    parameters = {**ORB, "mode": "rgbd", "depth_transport": "compressed"}
    topics: dict[str, Any] = {
        "image/compressed": CompressedImage,
        "depth/compressedDepth": CompressedImage,
        "camera_info": CameraInfo,
    }
    with (
        NodeProcess(tmp_path / "log.txt", parameters, topics_of(name, "image", "depth", "camera_info")) as process,
        create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=1000)) as orb,
    ):
        process.wait_for_log("active")
        robot = Robot(probe, name, **topics)
        robot.listen("features")
        for index in FRAMES:
            frame = sequence[index]
            message, gray = jpeg(frame.image)
            millimetres = np.nan_to_num(np.rint(frame.depth * 1000)).astype(np.uint16)
            png = cv2.imencode(".png", millimetres)[1].tobytes()
            depth = CompressedImage(format="16UC1; compressedDepth png", data=struct.pack("<iff", 0, 0.0, 0.0) + png)
            messages = {"camera_info": info_of(sequence.camera), "image/compressed": message}
            received = robot.extract({**messages, "depth/compressedDepth": depth}, size=(640, 480)).features
            expected = orb.extract(gray)
            assert_same(received, expected)
            metres = np.where(millimetres > 0, millimetres / 1000, np.nan).astype(np.float32)
            np.testing.assert_allclose(received.depth, sample_depth(metres, expected.uv, (640, 480)), atol=1e-3)
            assert np.isfinite(received.depth).mean() > 0.5
        assert process.stop() == 0, process.log
        assert "Traceback" not in process.log


@pytest.mark.skipif(not EUROC.is_dir(), reason=f"no {EUROC.name} in the folder that GCNV2_ROS_DATA names")
def test_a_raw_stereo_camera_of_compressed_topics(tmp_path: Path, probe: Probe) -> None:
    sequence = open_sequence(EUROC)
    assert sequence.camera is not None
    name = "/compressed_euroc"
    topics: dict[str, Any] = {
        "image/compressed": CompressedImage,
        "right/image/compressed": CompressedImage,
        "camera_info": CameraInfo,
        "right/camera_info": CameraInfo,
    }
    remapped = topics_of(name, "image", "right/image", "camera_info", "right/camera_info")
    with (
        NodeProcess(tmp_path / "log.txt", {**ORB, "mode": "stereo", "rectify": True}, remapped) as process,
        create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=1000)) as orb,
    ):
        process.wait_for_log("active")
        robot = Robot(probe, name, **topics)
        robot.listen("features")
        rectifier = Rectifier(sequence.camera)
        for index in FRAMES:
            frame = sequence[index]
            (first, gray), (second, _) = jpeg(frame.image), jpeg(frame.right)
            messages = {
                "camera_info": info_of(sequence.camera),
                "right/camera_info": info_of(sequence.right_camera),
                "image/compressed": first,
                "right/image/compressed": second,
            }
            for _ in range(20):
                features = robot.extract(messages, size=(752, 480)).features
                if np.isfinite(features.depth).any():
                    break
            assert_same(features, orb.extract(rectifier.image(gray), mask=rectifier.mask(None)))
            matched = np.isfinite(features.depth)
            assert matched.sum() > 200
            # A room of a few metres.
            assert np.mean((features.depth[matched] > 0.5) & (features.depth[matched] < 12)) > 0.95
        assert process.stop() == 0, process.log
        assert "Traceback" not in process.log
