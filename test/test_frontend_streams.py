# SPDX-License-Identifier: Apache-2.0
"""Raw stereo of distorting lenses, calibrations that change, compressed depth, masks that lag: real DDS."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from ros_helpers import NodeProcess, Probe, Robot, assert_same, gray_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from gcnv2_ros.camera import Camera
from gcnv2_ros.extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.features import Features
from gcnv2_ros.geometry import rectify_pair
from gcnv2_ros.rectification import Rectifier
from gcnv2_ros.sequences import Frame, Sequence, open_sequence

BASELINE = 0.1
ORB = {"model": "orb", "max_keypoints": 500}
HEADER = 12


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    """A node in this process."""
    with Probe() as probe:
        yield probe


@pytest.fixture(scope="module")
def orb() -> Iterator[Extractor]:
    """The extractor of the nodes under test."""
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=500)) as extractor:
        yield extractor


@pytest.fixture(scope="module")
def room() -> tuple[Sequence, Frame]:
    """A stereo pair through lenses that distort, with true depth."""
    sequence = open_sequence(f"room:frames=1,width=320,height=240,baseline={BASELINE},distortion=-0.28/0.07/0.001/0/0")
    return sequence, sequence[0]


def pair_of(lens: Camera, cx: float | None = None, zoom: float = 1.0) -> tuple[Camera, Camera]:
    """Calibrations of the raw pair as a calibration program makes them."""
    offset = np.eye(4)
    offset[0, 3] = -BASELINE
    cameras = rectify_pair(*(dataclasses.replace(lens, rectification=None, projection=None),) * 2, offset)
    changed = []
    for camera in cameras:
        projection = np.diag([zoom, zoom, 1.0]) @ np.asarray(camera.projection)
        projection[:2, 2] = 160.0, 119.0
        changed.append(dataclasses.replace(camera, projection=projection))
    if cx is not None:
        moved = np.array(changed[1].projection)
        moved[0, 2] = cx
        changed[1] = dataclasses.replace(changed[1], projection=moved)
    return changed[0], changed[1]


def infos(pair: tuple[Camera, Camera]) -> dict[str, CameraInfo]:
    topics = ("camera_info", "right/camera_info")
    return {topic: CameraInfo(**camera.camera_info_fields()) for topic, camera in zip(topics, pair)}


def test_raw_stereo_is_rectified_and_follows_a_calibration_that_changes(
    tmp_path: Path, probe: Probe, room: tuple[Sequence, Frame], orb: Extractor
) -> None:
    sequence, frame = room
    assert sequence.camera is not None
    name = "/raw_pair"
    topics = {"image": Image, "right/image": Image, "camera_info": CameraInfo, "right/camera_info": CameraInfo}
    remappings = {"__node": name[1:], **{topic: f"{name}/{topic}" for topic in topics}}
    with NodeProcess(tmp_path / "log.txt", {**ORB, "mode": "stereo", "rectify": True}, remappings) as process:
        process.wait_for_log("active")
        robot = Robot(probe, name, **topics)
        robot.listen("features")
        images = {"image": gray_message(frame.image), "right/image": gray_message(frame.right)}
        # Again and again, since what is published before the node is found is lost.
        probe.wait_for(
            lambda: "is dropped: there is no calibration" in process.log,
            "the report",
            meanwhile=lambda: robot.send(images),
        )

        def assert_stereo(pair: tuple[Camera, Camera]) -> None:
            rectifier = Rectifier(pair[0])
            picture = rectifier.image(frame.image)
            expected = orb.extract(picture, mask=rectifier.mask(None))

            def good(features: Features) -> bool:
                return np.array_equal(features.uv, expected.uv) and bool(np.isfinite(features.depth).any())

            received = robot.extract_until({**infos(pair), **images}, good)
            features = received.features
            assert_same(features, expected)
            np.testing.assert_allclose(received.rays, pair[0].rectified().rays(features.uv), rtol=1e-5)
            matched = np.isfinite(features.depth)
            assert matched.sum() > 50
            columns, rows = np.rint(features.uv[matched]).astype(int).T
            truth = rectifier.depth(frame.depth)[rows, columns]
            assert np.nanmedian(np.abs(features.depth[matched] / truth - 1)) < 0.05

        assert_stereo(pair_of(sequence.camera))
        assert_stereo(pair_of(sequence.camera, zoom=0.9))
        process.wait_for_log("the calibration has changed; it holds from the next frame on")

        # A pair whose disparity is not zero at infinity costs the depth and not the features.
        verged = {**infos(pair_of(sequence.camera, cx=170.0)), **images}
        received = robot.extract_until(verged, lambda features: bool(np.isnan(features.depth).all()))
        assert len(received.features) > 50
        process.wait_for_log("depth is left out: the projection matrices of the left and right camera differ in their")
        assert_stereo(pair_of(sequence.camera))
        assert process.stop() == 0, process.log
        assert "Traceback" not in process.log


def compressed_depth(depth: np.ndarray, encoding: str) -> CompressedImage:
    """What compressed_depth_image_transport makes of depth in metres."""
    a, b = (100.0, 5.0) if encoding == "32FC1" else (0.0, 0.0)
    with np.errstate(invalid="ignore"):
        values = a / depth + b if encoding == "32FC1" else depth * 1000
    png = cv2.imencode(".png", np.nan_to_num(np.rint(values)).astype(np.uint16))[1].tobytes()
    return CompressedImage(format=f"{encoding}; compressedDepth png", data=struct.pack("<iff", 0, a, b) + png)


def test_compressed_depth_and_the_latest_mask(
    tmp_path: Path, probe: Probe, room: tuple[Sequence, Frame], orb: Extractor
) -> None:
    _, frame = room
    name = "/compressed_rgbd"
    topics = {"image": Image, "depth/compressedDepth": CompressedImage, "mask": Image}
    remappings = {"__node": name[1:], **{topic: f"{name}/{topic}" for topic in ("image", "depth", "mask")}}
    parameters = {**ORB, "mode": "rgbd", "depth_transport": "compressed", "mask_source": "latest"}
    with NodeProcess(tmp_path / "log.txt", parameters, remappings) as process:
        process.wait_for_log("active")
        robot = Robot(probe, name, **topics)
        robot.listen("features")
        image = gray_message(frame.image)

        def with_depth(message: CompressedImage) -> dict[str, Any]:
            return {"image": image, "depth/compressedDepth": message}

        # Without any mask frames do not wait for one.
        for encoding, tolerance in (("16UC1", 1e-3), ("32FC1", 0.03)):
            features = robot.extract(with_depth(compressed_depth(frame.depth, encoding))).features
            assert_same(features, orb.extract(frame.image))
            known = np.isfinite(features.depth)
            assert known.sum() > 50
            columns, rows = np.rint(features.uv[known]).astype(int).T
            np.testing.assert_allclose(features.depth[known], frame.depth[rows, columns], rtol=tolerance)

        whole = compressed_depth(frame.depth, "16UC1")
        cut = CompressedImage(format=whole.format, data=whole.data[: len(whole.data) // 2])
        rvl = CompressedImage(format="16UC1; compressedDepth rvl", data=bytes(whole.data[:HEADER]) + bytes(100))
        for broken, sentence in ((cut, "a frame has no depth: "), (rvl, "RVL is not read")):
            features = robot.extract(with_depth(broken)).features
            assert_same(features, orb.extract(frame.image))
            assert np.isnan(features.depth).all()
            process.wait_for_log(sentence)

        # A mask serves whatever its stamp, until a newer one comes.
        for kept in (np.arange(320) < 160, np.arange(320) >= 200):
            mask = np.where(kept, 255, 0).astype(np.uint8)[None].repeat(240, axis=0)
            expected = orb.extract(frame.image, mask=mask)
            assert 20 < len(expected) < len(orb.extract(frame.image))
            robot.send({"mask": gray_message(mask)})
            for _ in range(2):
                received = robot.extract_until(
                    with_depth(whole), lambda features, e=expected: np.array_equal(features.uv, e.uv)
                )
                assert_same(received.features, expected)
                assert np.isfinite(received.features.depth).any()
        assert process.stop() == 0, process.log
        assert "Traceback" not in process.log
