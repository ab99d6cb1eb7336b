# SPDX-License-Identifier: Apache-2.0
"""Stereo, depth, several cameras, masks, rectification and upright alignment: the node as a process, real DDS."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from ros_helpers import NodeProcess, Probe, Robot, assert_same, depth_message, diagnostics_of, gray_message, textured
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, PointCloud2
from std_msgs.msg import String

from gcnv2_ros.camera import Camera
from gcnv2_ros.extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.features import Features
from gcnv2_ros.rectification import Rectifier
from gcnv2_ros.ros.features_msg import decode_features
from gcnv2_ros.sequences import Frame, open_sequence

NAME = "/gcnv2_frontend"
SIZE = (320, 240)


@pytest.fixture(scope="module")
def probe() -> Any:
    """A node in this process."""
    with Probe(NAME) as probe:
        yield probe


@pytest.fixture(scope="module")
def room() -> tuple[Any, Frame]:
    """A rendered stereo pair with true depth, and the sequence it is from."""
    sequence = open_sequence("room:frames=2,width=320,height=240,baseline=0.1")
    return sequence, sequence[0]


@pytest.fixture(scope="module")
def orb() -> Any:
    """The extractor of the nodes under test."""
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=500)) as extractor:
        yield extractor


ORB = {"model": "orb", "max_keypoints": 500}


def test_stereo_gives_depth_and_says_what_is_missing_until_it_can(
    tmp_path: Path, probe: Probe, room: tuple[Any, Frame], orb: Extractor
) -> None:
    sequence, frame = room
    parameters = {**ORB, "mode": "stereo", "image_timeout": 0.5}
    arguments = {"__ns": "/stereo", "__node": "stereo"}
    inputs = ("image", "camera_info", "right/image", "right/camera_info", "imu")
    remappings = {**arguments, **{topic: f"/stereo/stereo/{topic}" for topic in inputs}}
    with NodeProcess(tmp_path / "log.txt", parameters, remappings) as process:
        process.wait_for_log("active")
        name = "/stereo/stereo"
        robot = Robot(
            probe,
            name,
            **{"image": Image, "right/image": Image, "camera_info": CameraInfo, "right/camera_info": CameraInfo},
        )
        for output in ("features", "right/features", "points"):
            robot.listen(output)
        for words in (
            "right image on /stereo/stereo/right/image",
            "right camera_info on /stereo/stereo/right/camera_info",
        ):
            process.wait_for_log(f"no {words} for ")
        assert "this node asks for best_effort, volatile, depth 5" in process.log

        left, right = gray_message(frame.image), gray_message(frame.right)
        before = robot.extract({"image": left, "right/image": right})
        assert np.isnan(before.features.depth).all()
        assert_same(before.features, orb.extract(frame.image))
        process.wait_for_log("depth is left out: there is no calibration")

        calibrations = {
            "camera_info": CameraInfo(**sequence.camera.camera_info_fields()),
            "right/camera_info": CameraInfo(**sequence.right_camera.camera_info_fields()),
        }
        received = robot.extract_until(
            {**calibrations, "image": left, "right/image": right}, lambda features: np.isfinite(features.depth).any()
        )
        features = received.features
        matched = np.isfinite(features.depth)
        assert matched.sum() > 50
        columns, rows = np.rint(features.uv[matched]).astype(int).T
        truth = frame.depth[rows, columns]
        assert np.nanmedian(np.abs(features.depth[matched] / truth - 1)) < 0.05
        focal_baseline = sequence.camera.fx * 0.1
        np.testing.assert_allclose(
            features.uv[matched, 0] - features.right_u[matched], focal_baseline / features.depth[matched], rtol=1e-3
        )
        second = received.header.stamp.sec
        right_cloud = probe.wait_for(lambda: robot.with_stamp("right/features", second), "right features")[-1]
        assert_same(decode_features(right_cloud, image_size=SIZE).features, orb.extract(frame.right))
        points = probe.wait_for(lambda: robot.with_stamp("points", second), "points")[-1]
        assert points.width == matched.sum()
        assert [field.name for field in points.fields] == ["x", "y", "z", "response", "intensity"]
        assert process.stop() == 0, process.log
        assert "Traceback" not in process.log


def test_depth_labels_and_unmatched_frames(
    tmp_path: Path, probe: Probe, room: tuple[Any, Frame], orb: Extractor
) -> None:
    _, frame = room
    parameters = {**ORB, "mode": "rgbd", "mask_source": "synchronized", "mask_labels": "[7]", "sync_queue": 3}
    remappings = {"__node": "rgbd", **{topic: f"/rgbd/{topic}" for topic in ("image", "depth", "mask", "camera_info")}}
    with NodeProcess(tmp_path / "log.txt", parameters, remappings) as process:
        process.wait_for_log("active")
        diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
        robot = Robot(probe, "/rgbd", image=Image, depth=Image, mask=Image)
        robot.listen("features")
        labels = np.zeros((240, 320), np.uint8)
        labels[:, :160] = 7
        messages = {
            "image": gray_message(frame.image),
            "depth": depth_message(frame.depth, "16UC1"),
            "mask": gray_message(labels),
        }
        expected = orb.extract(frame.image, mask=labels != 7)

        def assert_depth(features: Features) -> None:
            assert_same(features, expected)
            known = np.isfinite(features.depth)
            assert known.sum() > 20
            columns, rows = np.rint(features.uv[known]).astype(int).T
            np.testing.assert_allclose(features.depth[known], frame.depth[rows, columns], atol=2e-3)

        assert_depth(robot.extract(messages).features)
        assert_depth(robot.extract({**messages, "depth": depth_message(frame.depth, "32FC1")}).features)

        # Faults of depth and mask cost the frame its depth or its mask, and not its features.
        nothing = robot.extract({**messages, "depth": depth_message(np.full((240, 320), np.nan), "32FC1")})
        assert_same(nothing.features, expected)
        assert np.isnan(nothing.features.depth).all()
        broken = depth_message(frame.depth, "32FC1")
        broken.data = broken.data[:99]
        assert np.isnan(robot.extract({**messages, "depth": broken}).features.depth).all()
        process.wait_for_log("a frame has no depth: a 320x240 image in '32FC1'")
        other_shape = robot.extract({**messages, "depth": depth_message(np.ones((64, 200)), "32FC1")})
        assert np.isnan(other_shape.features.depth).all()
        unmasked = robot.extract({**messages, "mask": Image(encoding="mono8")})
        assert_same(unmasked.features, orb.extract(frame.image))
        process.wait_for_log("a frame is not masked: a 0x0 image in 'mono8' has no pixels")

        # Labels and polarity change while the node runs.
        target = Probe("/rgbd")
        with target:
            assert target.set_parameter("mask_labels", [-1]).successful
            assert_same(robot.extract(messages).features, orb.extract(frame.image, mask=labels != 0))
            assert target.set_parameter("mask_keep", "zero").successful
            assert_same(robot.extract(messages).features, orb.extract(frame.image, mask=labels == 0))
            assert target.set_parameter("crop_top", 120).successful
            lower = (labels == 0) & (np.arange(240) >= 120)[:, None]
            assert_same(robot.extract(messages).features, orb.extract(frame.image, mask=lower))
            assert not target.set_parameter("mask_labels", [-2]).successful

        def counted() -> bool:
            robot.send({"image": messages["image"]})
            robot.send({"image": messages["image"]})
            values = diagnostics_of(diagnostics, "/rgbd")
            return int(values.get("messages unmatched: image", 0)) > 0 and int(values["frames dropped: unmatched"]) > 0

        probe.wait_for(counted, "images without partners in the diagnostics")
        assert "Traceback" not in process.log


def test_topics_that_are_exchanged_and_frames_that_are_never_complete(tmp_path: Path, probe: Probe) -> None:
    # What the depth image is remapped to is the name that the image had before it was.
    remappings = {"__node": "exchanged", "__ns": "/exchanged", "image": "rgb", "depth": "image"}
    parameters = {**ORB, "mode": "rgbd", "sync": "exact", "sync_queue": 2}
    with NodeProcess(tmp_path / "log.txt", parameters, remappings) as process:
        process.wait_for_log("active: images from /exchanged/rgb")
        diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
        images = probe.publisher(Image, "/exchanged/rgb")
        depths = probe.publisher(Image, "/exchanged/image")
        image, depth = gray_message(textured(3)), depth_message(np.ones((240, 320), np.float32), "32FC1")
        seconds = itertools.count(1)

        def send() -> None:
            for _ in range(20):
                image.header.stamp.sec = depth.header.stamp.sec = next(seconds)
                image.header.stamp.nanosec, depth.header.stamp.nanosec = 0, 1000
                images.publish(image)
                depths.publish(depth)

        sentence = "no frame is complete: no image and depth image have equal stamps; sync: approximate takes those"
        probe.wait_for(lambda: sentence in process.log, sentence, meanwhile=send)

        def told() -> bool:
            return any(sentence in status.message for message in diagnostics for status in message.status)

        probe.wait_for(told, "the same in the diagnostics", meanwhile=send)


def test_depth_that_comes_more_often_than_images_is_no_fault(tmp_path: Path, probe: Probe) -> None:
    parameters = {**ORB, "mode": "rgbd", "sync": "exact", "sync_queue": 2, "subscribe_depth": 50}
    with NodeProcess(tmp_path / "log.txt", parameters, {"__node": "often", "__ns": "/often"}) as process:
        process.wait_for_log("active: images from /often/image")
        diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
        images = probe.publisher(Image, "/often/image")
        depths = probe.publisher(Image, "/often/depth")
        image, depth = gray_message(textured(3)), depth_message(np.ones((240, 320), np.float32), "32FC1")
        stamps = itertools.count(1)

        def send() -> None:
            image.header.stamp.sec = depth.header.stamp.sec = next(stamps)
            images.publish(image)
            depths.publish(depth)
            for _ in range(20):
                depth.header.stamp.sec = next(stamps)
                depths.publish(depth)

        def given_up() -> int:
            return int(diagnostics_of(diagnostics, "/often/often").get("messages unmatched: depth", 0))

        probe.wait_for(lambda: given_up() >= 40, "unmatched depth images in the diagnostics", meanwhile=send)
        heard = len(diagnostics)
        # The log is written with the diagnostics, once a second.
        probe.wait_for(lambda: len(diagnostics) >= heard + 2, "more diagnostics", meanwhile=send)
        assert process.stop() == 0, process.log
        assert "no frame is complete" not in process.log
        assert not any("no frame" in status.message for message in diagnostics for status in message.status)


def test_several_cameras_share_the_node(tmp_path: Path, probe: Probe, room: tuple[Any, Frame], orb: Extractor) -> None:
    _, frame = room
    parameters = {**ORB, "mode": "multi", "cameras": "[front, rear]"}
    with NodeProcess(tmp_path / "log.txt", parameters, {"__ns": "/several"}) as process:
        process.wait_for_log("active: images from /several/front/image, /several/rear/image")
        diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
        name = "/several/gcnv2_frontend"
        clouds = {camera: probe.collect(PointCloud2, f"{name}/{camera}/features") for camera in ("front", "rear")}
        publishers = {camera: probe.publisher(Image, f"/several/{camera}/image") for camera in clouds}
        pictures = {"front": frame.image, "rear": frame.right[:200, :300].copy()}

        def publish(*cameras: str) -> None:
            for camera in cameras:
                publishers[camera].publish(gray_message(pictures[camera], frame_id=camera))

        probe.wait_for(lambda: all(clouds.values()), "both cameras' features", meanwhile=lambda: publish(*clouds))
        for camera, messages in clouds.items():
            picture = pictures[camera]
            received = decode_features(messages[-1], image_size=picture.shape[::-1])
            assert received.header.frame_id == camera
            assert_same(received.features, orb.extract(picture))

        # A broken image of one camera, or its silence, is nothing to the other.
        before = len(clouds["rear"])
        publishers["front"].publish(gray_message(frame.image[:10, :10].copy()))
        probe.wait_for(lambda: len(clouds["rear"]) > before, "the rear camera's", meanwhile=lambda: publish("rear"))
        for camera in clouds:
            values = probe.wait_for(
                lambda camera=camera: diagnostics_of(diagnostics, f"{name}/{camera}"), f"diagnostics of {camera}"
            )
            assert values["image topic"] == f"/several/{camera}/image"
        assert process.stop() == 0, process.log


def test_rectification_by_a_calibration_file_with_a_static_mask_and_compressed_images(
    tmp_path: Path, probe: Probe, room: tuple[Any, Frame], orb: Extractor
) -> None:
    _, frame = room
    camera = Camera(320, 240, 250.0, 250.0, 160.0, 118.0, "plumb_bob", (-0.3, 0.1, 0.001, -0.001, 0.0))
    angle = np.radians(2)
    rotation = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    projection = [[240.0, 0, 159.5, 0], [0, 240.0, 119.5, 0], [0, 0, 1, 0]]
    camera = dataclasses.replace(camera, rectification=rotation, projection=projection)
    (tmp_path / "camera.yaml").write_text(yaml.safe_dump(camera.to_dict()))
    mask = np.full((240, 320), 255, np.uint8)
    mask[:100] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    parameters = {
        **ORB,
        "rectify": True,
        "calibration_file": tmp_path / "camera.yaml",
        "mask_file": tmp_path / "mask.png",
        "image_transport": "compressed",
    }
    with NodeProcess(
        tmp_path / "log.txt", parameters, {"__node": "rectifying", "image": "/rectifying/image"}
    ) as process:
        process.wait_for_log("active")
        robot = Robot(probe, "/rectifying", **{"image/compressed": CompressedImage})
        robot.listen("features")
        png = cv2.imencode(".png", frame.image)[1].tobytes()
        received = robot.extract({"image/compressed": CompressedImage(format="mono8; png compressed", data=png)})
        rectifier = Rectifier(camera)
        expected = orb.extract(rectifier.image(frame.image), mask=rectifier.mask(mask))
        assert len(expected) > 50
        assert_same(received.features, expected)
        np.testing.assert_allclose(received.rays, camera.rectified().rays(expected.uv), rtol=1e-5)

        small = cv2.imencode(".png", frame.image[:200].copy())[1].tobytes()
        robot.send({"image/compressed": CompressedImage(format="mono8; png compressed", data=small)})
        process.wait_for_log("the image is 320x200 pixels and its calibration is for 320x240")


def test_files_that_cannot_be_read_end_the_process_and_are_named(tmp_path: Path) -> None:
    for parameter in ("calibration_file", "mask_file"):
        with NodeProcess(tmp_path / "log.txt", {**ORB, parameter: tmp_path / "missing.file"}) as process:
            assert process.wait() == 1
            assert f"{tmp_path}/missing.file" in process.log
            assert "Traceback" not in process.log


def test_images_are_turned_upright_by_the_imu(tmp_path: Path, probe: Probe, room: tuple[Any, Frame]) -> None:
    pytest.importorskip("torch")
    _, frame = room
    options = {"runtime": "torch", "threads": 1, "input_width": 160, "input_height": 128}
    # The IMU's x axis points forward and its z axis up, as in a vehicle's base; the optical frame's z forward, y down.
    rotation = "[0.5, -0.5, 0.5, 0.5]"
    parameters = {**options, "upright": "imu", "imu_rotation": rotation, "rectified_input": True}
    remappings = {"__node": "rolling", **{topic: f"/rolling/{topic}" for topic in ("image", "imu", "camera_info")}}
    roll = 25.0
    with NodeProcess(tmp_path / "log.txt", parameters, remappings) as process:
        process.wait_for_log("active")
        robot = Robot(probe, "/rolling", image=Image, imu=Imu, camera_info=CameraInfo)
        robot.listen("features")
        level = robot.extract({"image": gray_message(frame.image)})
        assert len(level.features)
        assert (level.features.angle == -1).all()
        process.wait_for_log("is not turned upright: the imu topic has nothing for its time stamp")

        # Down in the optical frame for that roll is (-sin, cos, 0), which in the IMU's is (0, sin, -cos).
        imu = Imu()
        imu.angular_velocity_covariance[0] = -1.0
        imu.linear_acceleration.y = -9.81 * float(np.sin(np.radians(roll)))
        imu.linear_acceleration.z = 9.81 * float(np.cos(np.radians(roll)))
        received = robot.extract_until({"imu": imu, "image": gray_message(frame.image)}, lambda f: (f.angle >= 0).all())
        np.testing.assert_allclose(received.features.angle, roll, atol=1e-3)
        with create_extractor(ExtractorOptions(**options)) as extractor:
            expected = extractor.extract(frame.image, roll=roll)
        assert len(received.features) == len(expected)
        np.testing.assert_allclose(received.features.uv, expected.uv, atol=0.05)

        # The IMU knows the frame of the camera itself, and the rectified image is turned against it.
        turn = cv2.Rodrigues(np.radians([0.0, 0.0, 8.0]))[0]
        projection = [[200, 0, 160, 0], [0, 200, 120, 0], [0, 0, 1, 0]]
        camera = Camera(*SIZE, 200.0, 200.0, 160.0, 120.0, rectification=turn, projection=projection)
        robot.extract_until(
            {"camera_info": CameraInfo(**camera.camera_info_fields()), "imu": imu, "image": gray_message(frame.image)},
            lambda features: np.allclose(features.angle, roll + 8.0, atol=1e-3),
        )
        infos = probe.collect(String, "/rolling/model_info", latched=True)
        probe.wait_for(lambda: infos, "model_info")
        assert json.loads(infos[-1].data)["rectified"] is True
