# SPDX-License-Identifier: Apache-2.0
"""Encodings, fisheyes, binned and cut out images: the node as a process, real DDS."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from ros_helpers import NodeProcess, Probe, Robot, assert_same, depth_message, gray_message, textured
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest

from gcnv2_ros.camera import Camera
from gcnv2_ros.extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.rectification import Rectifier
from gcnv2_ros.ros.qos import LATCHED

ORB = {"model": "orb", "max_keypoints": 300}
HEIGHT, WIDTH = 240, 320


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    """A node in this process."""
    with Probe() as probe:
        yield probe


@pytest.fixture(scope="module")
def orb() -> Iterator[Extractor]:
    """The extractor of the nodes under test."""
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=300)) as extractor:
        yield extractor


def message_of(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    """An image of HEIGHT rows in an encoding, whose pixels may have more rows; in their own byte order."""
    rows = [row.tobytes() + b"\xab" * padding for row in pixels.reshape(len(pixels), -1)]
    message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=len(rows[0]), data=b"".join(rows))
    message.is_bigendian = int(pixels.dtype.byteorder == ">")
    return message


def test_encodings_of_drivers_give_the_features_of_the_gray_image(tmp_path: Path, probe: Probe, orb: Extractor) -> None:
    gray = textured(1)
    expected = orb.extract(gray)
    grey_chroma = np.full_like(gray, 128)
    below = np.full((HEIGHT // 2, WIDTH), 128, np.uint8)
    wide = gray.astype(np.uint16) * 257
    # With the fixed stretch 16 bits give back the 8 that they were made of.
    parameters = {**ORB, "stretch": "fixed"}
    with NodeProcess(tmp_path / "log.txt", parameters, {"__node": "encodings", "image": "/encodings/image"}) as process:
        process.wait_for_log("active")
        robot = Robot(probe, "/encodings", image=Image)
        robot.listen("features")
        for message in (
            message_of(gray, "mono8", padding=7),
            message_of(wide, "mono16"),
            message_of(wide.astype(">u2"), "16UC1", padding=6),
            message_of(np.dstack([gray] * 3), "rgb8", padding=1),
            message_of(np.dstack([gray] * 4), "bgra8"),
            message_of(np.dstack([wide] * 3).astype(">u2"), "bgr16"),
            message_of(np.dstack([grey_chroma, gray]), "yuv422"),
            message_of(np.dstack([gray, grey_chroma]), "yuv422_yuy2"),
            message_of(np.vstack([gray, below]), "nv12"),
            message_of(np.vstack([gray, below]), "nv21", padding=32),
        ):
            assert_same(robot.extract({"image": message}).features, expected)
        # A mosaic blurs the patches' edges; 16 bits big-endian must give what 8 bits give.
        narrow = robot.extract({"image": message_of(gray, "bayer_grbg8")}).features
        assert len(narrow) > 100
        assert_same(
            robot.extract({"image": message_of(wide.astype(">u2"), "bayer_grbg16", padding=2)}).features, narrow
        )
        assert process.stop() == 0, process.log
        assert "Traceback" not in process.log


def projected(camera: Camera, focal: float) -> Camera:
    """The camera with a level projection of its own size."""
    projection = [[focal, 0, camera.cx, 0], [0, focal, camera.cy, 0], [0, 0, 1, 0]]
    return dataclasses.replace(camera, rectification=np.eye(3), projection=projection)


LENS = (-0.2, 0.05, 0.001, 0.0, 0.0)
FISHEYE_LENS = (0.05, -0.01, 0.002, -0.001)
FISHEYE = projected(Camera(WIDTH, HEIGHT, 120.0, 121.0, 161.0, 118.0, "equidistant", FISHEYE_LENS), 90.0)
# Twice as coarse as the sensor of 1280x960 pixels, of which it is the part from (320, 200) on.
SENSOR = projected(Camera(1280, 960, 900.0, 904.0, 640.0, 470.0, "plumb_bob", LENS), 880.0)
PART = projected(Camera(WIDTH, HEIGHT, 450.0, 452.0, 159.75, 134.75, "plumb_bob", LENS), 440.0)


@pytest.mark.parametrize("rectify", [False, True], ids=["raw", "rectified"])
@pytest.mark.parametrize("kind", ["fisheye", "binned region"])
def test_cameras_of_any_kind_give_rays_and_can_be_rectified(
    tmp_path: Path, probe: Probe, orb: Extractor, kind: str, rectify: bool
) -> None:
    if kind == "fisheye":
        camera, info = FISHEYE, CameraInfo(**FISHEYE.camera_info_fields())
    else:
        camera, info = PART, CameraInfo(**SENSOR.camera_info_fields())
        info.binning_x = info.binning_y = 2
        info.roi = RegionOfInterest(x_offset=320, y_offset=200, width=2 * WIDTH, height=2 * HEIGHT)
    name = f"/{kind.replace(' ', '_')}_{'rectified' if rectify else 'raw'}"
    remappings = {"__node": name[1:], **{topic: f"{name}/{topic}" for topic in ("image", "camera_info")}}
    with NodeProcess(tmp_path / "log.txt", {**ORB, "rectify": rectify}, remappings) as process:
        process.wait_for_log("active")
        robot = Robot(probe, name, image=Image, camera_info=CameraInfo)
        robot.listen("features")
        gray = textured(4)
        messages = {"camera_info": info, "image": gray_message(gray)}
        rectifier = Rectifier(camera)
        picture, mask = (rectifier.image(gray), rectifier.mask(None)) if rectify else (gray, None)
        expected = orb.extract(picture, mask=mask)
        for _ in range(20):
            received = robot.extract(messages)
            if np.isfinite(received.rays).all():
                break
        assert len(expected) > 100
        assert_same(received.features, expected)
        seen_by = camera.rectified() if rectify else camera
        np.testing.assert_allclose(received.rays, seen_by.rays(expected.uv), rtol=1e-4, atol=1e-5)
        assert process.stop() == 0, process.log
        assert "Traceback" not in process.log


def test_a_calibration_that_was_latched_before_the_node_started_is_taken(
    tmp_path: Path, probe: Probe, orb: Extractor
) -> None:
    name = "/latched"
    publisher = probe.node.create_publisher(CameraInfo, f"{name}/camera_info", LATCHED)
    publisher.publish(CameraInfo(**FISHEYE.camera_info_fields()))
    remappings = {"__node": name[1:], **{topic: f"{name}/{topic}" for topic in ("image", "camera_info")}}
    # Rectification asks for a calibration, so that a silent camera_info would be told of.
    with NodeProcess(tmp_path / "log.txt", {**ORB, "rectify": True, "image_timeout": 4.0}, remappings) as process:
        process.wait_for_log("active")
        robot = Robot(probe, name, image=Image)
        robot.listen("features")
        gray = textured(5)
        rectifier = Rectifier(FISHEYE)
        expected = orb.extract(rectifier.image(gray), mask=rectifier.mask(None))
        received = robot.extract_until({"image": gray_message(gray)}, lambda found: len(found) == len(expected))
        assert_same(received.features, expected)
        process.wait_for_log(f"no image on {name}/image")
        assert "camera_info for" not in process.log
        assert "incompatible" not in process.log
        assert process.stop() == 0, process.log


def test_points_of_a_depth_camera_have_its_depth_and_colours(tmp_path: Path, probe: Probe, orb: Extractor) -> None:
    camera = Camera(WIDTH, HEIGHT, 250.0, 252.0, 160.0, 118.0)
    gray = textured(6)
    colour = np.dstack([gray // 2, gray, 60 + gray // 4])
    depth = 1.0 + np.linspace(0.0, 1.0, WIDTH, dtype=np.float32)[None].repeat(HEIGHT, axis=0)
    topics = {"image": Image, "depth": Image, "camera_info": CameraInfo}
    remappings = {"__node": "coloured", **{topic: f"/coloured/{topic}" for topic in topics}}
    with NodeProcess(tmp_path / "log.txt", {**ORB, "mode": "rgbd"}, remappings) as process:
        process.wait_for_log("active")
        robot = Robot(probe, "/coloured", **topics)
        for output in ("features", "points"):
            robot.listen(output)
        messages = {
            "camera_info": CameraInfo(**camera.camera_info_fields()),
            "image": gray_message(colour, encoding="bgr8"),
            "depth": depth_message(depth, "32FC1"),
        }
        received = robot.extract_until(messages, lambda _: bool(robot.clouds["points"]))
        second = received.header.stamp.sec
        cloud = probe.wait_for(lambda: robot.with_stamp("points", second), "points")[-1]
        features = received.features
        known = np.isfinite(features.depth)
        assert known.sum() > 100
        assert cloud.width == known.sum()
        names = [field.name for field in cloud.fields]
        assert names == ["x", "y", "z", "response", "rgb"]
        values = np.frombuffer(bytes(cloud.data), "<f4").reshape(cloud.width, -1)
        np.testing.assert_allclose(values[:, :3], received.rays[known] * features.depth[known, None], rtol=1e-5)
        columns, rows = np.rint(features.uv[known]).astype(int).T
        packed = np.ascontiguousarray(values[:, 4]).view(np.uint8).reshape(-1, 4)
        np.testing.assert_array_equal(packed[:, :3], colour[rows, columns])
        assert process.stop() == 0, process.log
        assert "Traceback" not in process.log
