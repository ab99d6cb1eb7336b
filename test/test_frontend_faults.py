# SPDX-License-Identifier: Apache-2.0
"""Faults of the world around the node, over real DDS: none may crash or wedge it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_helpers import InProcess, NodeProcess, Probe, gray_message, textured
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from gcnv2_ros.camera import Camera
from gcnv2_ros.extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.features import Features
from gcnv2_ros.ros.features_msg import decode_features

NAME = "/gcnv2_frontend"

CAMERA_PROGRAM = """
import os, sys, time
import numpy as np, rclpy
sys.path[:0] = {path!r}
domain = os.environ["ROS_DOMAIN_ID"]
from ros_helpers import gray_message
os.environ["ROS_DOMAIN_ID"] = domain
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("camera_driver")
publisher = node.create_publisher(Image, "/image", 5)
gray = np.kron(np.random.default_rng(0).integers(0, 256, (20, 27)), np.ones((12, 12))).astype(np.uint8)
second = {first}
while True:
    second += 1
    publisher.publish(gray_message(gray, stamp=(second, 0), frame_id="driver"))
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    """A node in this process."""
    with Probe(NAME) as probe:
        yield probe


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory, probe: Probe) -> Iterator[NodeProcess]:
    """The node that suffers it all; in the end it must still stop as asked and have logged no traceback."""
    log = tmp_path_factory.mktemp("faults") / "log.txt"
    with NodeProcess(log, {"model": "orb", "max_keypoints": 300, "image_timeout": 0.5}) as process:
        process.wait_for_log("active: images from /image")
        yield process
        assert process.stop(signal.SIGINT) == 0, process.log
        assert "Traceback" not in process.log, process.log


@pytest.fixture(scope="module")
def clouds(frontend: NodeProcess, probe: Probe) -> list[PointCloud2]:
    """The features messages of the shared node."""
    return probe.collect(PointCloud2, f"{NAME}/features")


@pytest.fixture(scope="module")
def images(frontend: NodeProcess, probe: Probe) -> Any:
    """A camera in this process."""
    return probe.publisher(Image, "/image")


def features_come(probe: Probe, clouds: list[PointCloud2], images: Any, second: int, gray: np.ndarray) -> PointCloud2:
    """Publish an image until its features come."""
    return probe.wait_for(
        lambda: [cloud for cloud in clouds if cloud.header.stamp.sec == second],
        f"features of {second} s",
        meanwhile=lambda: images.publish(gray_message(gray, stamp=(second, 0))),
    )[0]


def test_a_change_of_resolution_and_a_clock_that_jumps_back(
    probe: Probe, clouds: list[PointCloud2], images: Any
) -> None:
    for second, (width, height) in ((1000, (320, 240)), (1001, (642, 482)), (1002, (161, 121)), (3, (320, 240))):
        cloud = features_come(probe, clouds, images, second, textured(second, width, height))
        assert cloud.width > 0


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_camera_driver_that_is_killed_or_freezes_and_comes_back(
    frontend: NodeProcess, probe: Probe, clouds: list[PointCloud2], fault: signal.Signals
) -> None:
    def start(first: int) -> subprocess.Popen:
        path = [str(Path(__file__).parent)]
        return subprocess.Popen([sys.executable, "-c", CAMERA_PROGRAM.format(path=path, first=first)], env=os.environ)

    def latest() -> int:
        seconds = [cloud.header.stamp.sec for cloud in clouds if cloud.header.frame_id == "driver"]
        return seconds[-1] if seconds else 0

    first = 10_000 * (1 + fault)
    driver = start(first)
    try:
        probe.wait_for(lambda: latest() > first, "features of the driver's images")
        driver.send_signal(fault)
        # What is under way arrives; then there is silence.
        probe.comes_true(lambda: False, 1.0)
        before = latest()
        assert not probe.comes_true(lambda: latest() != before, 1.0)
        if fault == signal.SIGKILL:
            driver.wait()
            driver = start(first + 5000)
            before = first + 5000
        else:
            driver.send_signal(signal.SIGCONT)
        probe.wait_for(lambda: latest() > before, "features after the driver's return")
    finally:
        driver.kill()
        driver.wait()
    frontend.wait_for_log("no image on /image for")


def test_a_storm_of_parameters_while_images_come(probe: Probe, clouds: list[PointCloud2], images: Any) -> None:
    client = probe.node.create_client(SetParameters, f"{NAME}/set_parameters")
    probe.wait_for(client.service_is_ready, "the parameter service")
    answers = []
    gray = gray_message(textured(1), stamp=(5000, 0))
    for index in range(200):
        # A service keeps ten requests that wait; more than that would be lost, by ROS's own rules.
        probe.wait_for(lambda: sum(not answer.done() for answer in answers) < 8, "answers")
        changes = [
            Parameter("max_keypoints", value=1 + index % 300 if index % 7 else 0),
            Parameter("mask_labels", value=[index]),
            Parameter("crop_left", value=index),
            Parameter("debug_image_rate", value=float(index)),
            Parameter("model", value="gcnv2"),
        ]
        request = SetParameters.Request(parameters=[change.to_parameter_msg() for change in changes])
        answers.append(client.call_async(request))
        if index % 10 == 0:
            images.publish(gray)
    probe.wait_for(lambda: all(answer.done() for answer in answers), "all answers")
    results = [[result.successful for result in answer.result().results] for answer in answers]
    assert not any(result[4] for result in results), "model is read-only"
    assert [result[0] for result in results] == [bool(index % 7) for index in range(200)]
    for name, value in (("max_keypoints", 40), ("crop_left", 0), ("mask_labels", [-1])):
        assert probe.set_parameter(name, value).successful
    gray_after = textured(2)
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=40)) as extractor:
        expected = extractor.extract(gray_after)
    assert features_come(probe, clouds, images, 5001, gray_after).width == len(expected)


def test_a_crop_that_leaves_nothing_of_the_image_drops_it_with_a_sentence(
    frontend: NodeProcess, probe: Probe, clouds: list[PointCloud2], images: Any
) -> None:
    assert probe.set_parameter("crop_left", 320).successful
    probe.wait_for(
        lambda: "leaves nothing of a 320x240 image" in frontend.log,
        "the report",
        meanwhile=lambda: images.publish(gray_message(textured(3), stamp=(6000, 0))),
    )
    assert probe.set_parameter("crop_left", 0).successful
    assert features_come(probe, clouds, images, 6001, textured(3)).width > 0


def test_calibrations_that_alternate_are_told_once_and_not_with_every_message(
    frontend: NodeProcess, probe: Probe, clouds: list[PointCloud2], images: Any
) -> None:
    calibrations = probe.publisher(CameraInfo, "/camera_info")

    def publish(focal: float) -> None:
        calibrations.publish(CameraInfo(**Camera(320, 240, focal, focal, 159.5, 119.5).camera_info_fields()))
        images.publish(gray_message(textured(3), stamp=(7000, 0)))

    def focal_length() -> float:
        received = decode_features(clouds[-1])
        return float(np.median((received.features.uv[:, 0] - 159.5) / received.rays[:, 0]))

    for focal in (400.0, 500.0) * 3:
        probe.wait_for(
            lambda: clouds and focal_length() == pytest.approx(focal, rel=1e-3),  # noqa: B023
            f"rays of the focal length {focal:g}",
            meanwhile=lambda: publish(focal),  # noqa: B023
        )
    assert frontend.log.count("/camera_info: the calibration has changed") == 1


def test_corrupt_compressed_images(tmp_path: Path, probe: Probe) -> None:
    # Every frame is kept, so that a good one that follows does not replace a broken one.
    parameters = {"model": "orb", "image_transport": "compressed", "queue": "all"}
    with NodeProcess(tmp_path / "log.txt", parameters, {"__node": "packed", "image": "/packed"}) as process:
        process.wait_for_log("active")
        clouds = probe.collect(PointCloud2, "/packed/features")
        images = probe.publisher(CompressedImage, "/packed/compressed")
        good = cv2.imencode(".jpg", textured(4))[1].tobytes()
        random = np.random.default_rng(0)
        noisy = bytearray(good)
        for position in random.integers(20, len(good) - 2, 200):
            noisy[position] = random.integers(0, 256)
        broken = [b"", good[:700], b"\xff\xd8" + random.bytes(500) + b"\xff\xd9", bytes(noisy), random.bytes(2000)]

        def publish(second: int, data: bytes) -> None:
            message = CompressedImage(format="jpeg", data=data)
            message.header.stamp.sec = second
            images.publish(message)

        for round_number, data in enumerate(broken, start=1):
            publish(0, data)
            probe.wait_for(
                lambda second=round_number: any(cloud.header.stamp.sec == second for cloud in clouds),
                "the features after a corrupt image",
                meanwhile=lambda second=round_number: publish(second, good),
            )
        process.wait_for_log("the compressed image")
        assert process.stop() == 0
        assert "Traceback" not in process.log, process.log


class ExhaustedDevice(Extractor):
    """An extractor whose device has no memory for images other than the one of the warm-up."""

    def __init__(self, decode: DecodeOptions) -> None:
        super().__init__(decode)
        self._inner = create_extractor(ExtractorOptions(model="orb"), decode)
        self.calls = 0
        self.closed = False

    @property
    def info(self) -> Any:
        return self._inner.info

    def _extract(self, grays: Sequence[Any], masks: Sequence[Any], rolls: Sequence[float]) -> list[Features]:
        import torch

        self.calls += 1
        if self.calls > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self._inner.extract_batch(grays, masks=masks)

    def close(self) -> None:
        self.closed = True


def test_a_device_out_of_memory_is_replaced_by_the_cpu_once(probe: Probe) -> None:
    pytest.importorskip("torch")
    built: list[tuple[str, Extractor]] = []

    def create(options: ExtractorOptions, decode: DecodeOptions) -> Extractor:
        on_cpu = options.device == "cpu"
        extractor = create_extractor(ExtractorOptions(model="orb"), decode) if on_cpu else ExhaustedDevice(decode)
        built.append((options.device, extractor))
        return extractor

    with InProcess(create, "/exhausted", {"device": "cuda"}) as running:
        assert running.node.bring_up()
        clouds = probe.collect(PointCloud2, "/exhausted/gcnv2_frontend/features")
        infos = probe.collect(String, "/exhausted/gcnv2_frontend/model_info", latched=True)
        diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
        images = probe.publisher(Image, "/exhausted/image")
        probe.wait_for(lambda: infos, "model_info")
        features_come(probe, clouds, images, 1, textured(5))
        features_come(probe, clouds, images, 2, textured(6))
        assert [device for device, _ in built] == ["cuda", "cpu"]
        exhausted = built[0][1]
        assert isinstance(exhausted, ExhaustedDevice)
        assert exhausted.closed
        assert exhausted.calls == 2
        probe.wait_for(
            lambda: any(
                entry.key == "last error" and "out of memory, so the node goes on with the CPU" in entry.value
                for message in diagnostics
                for status in message.status
                for entry in status.values
            ),
            "the change in the diagnostics",
        )
