# SPDX-License-Identifier: Apache-2.0
"""The node as its users meet it: a process of its own, real DDS, topics, services and parameters."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from ros_helpers import NodeProcess, Probe, gray_message, textured
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from gcnv2_ros.camera import Camera
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.features import Features
from gcnv2_ros.ros.features_msg import ReceivedFeatures, decode_features
from gcnv2_ros.ros.qos import volatile_qos

NAME = "/gcnv2_frontend"


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    """A node in this process."""
    with Probe(NAME) as probe:
        yield probe


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory, probe: Probe) -> Iterator[NodeProcess]:
    """The node with ORB, which needs no weights; most tests share it."""
    log = tmp_path_factory.mktemp("frontend") / "log.txt"
    parameters = {"model": "orb", "max_keypoints": 300, "max_keypoint": 7, "debug_image_rate": 1000.0}
    with NodeProcess(log, parameters) as process:
        process.wait_for_log("active: images from /image")
        yield process
        assert process.stop(signal.SIGINT) == 0, process.log
        assert "Traceback" not in process.log, process.log


class CameraDriver:
    """Publishes images and gets their features."""

    def __init__(self, probe: Probe, name: str = NAME) -> None:
        self._probe = probe
        self.clouds = probe.collect(PointCloud2, f"{name}/features")
        self._images = probe.publisher(Image, "/image")
        self._stamp = 0

    def publish(self, message: Image) -> int:
        """Publish with a new stamp; returns its seconds."""
        self._stamp += 1
        message.header.stamp.sec, message.header.stamp.nanosec = self._stamp, 250
        self._images.publish(message)
        return self._stamp

    def with_stamp(self, second: int) -> list[PointCloud2]:
        """The features messages of one image."""
        return [cloud for cloud in self.clouds if cloud.header.stamp.sec == second]

    def extract(self, message: Image) -> ReceivedFeatures:
        """Publish an image and wait for its features."""
        self._stamp += 1
        stamp = self._stamp
        message.header.stamp.sec, message.header.stamp.nanosec = stamp, 250
        cloud = self._probe.wait_for(
            lambda: self.with_stamp(stamp),
            f"features of image {stamp}",
            meanwhile=lambda: self._images.publish(message),
        )[0]
        return decode_features(cloud, image_size=(message.width, message.height))


@pytest.fixture(scope="module")
def camera(frontend: NodeProcess, probe: Probe) -> CameraDriver:
    """A camera of the shared node."""
    return CameraDriver(probe)


def assert_equal(received: Features, expected: Features) -> None:
    """Two sets of features hold the same values."""
    assert len(received) == len(expected)
    for name in ("uv", "response", "descriptors", "size", "angle", "depth", "right_u", "track_id"):
        np.testing.assert_array_equal(getattr(received, name), getattr(expected, name), err_msg=name)


def diagnostics_of(messages: list[DiagnosticArray], name: str = NAME) -> dict[str, str]:
    """The latest values under the node's name in /diagnostics; empty before the first."""
    for message in reversed(messages):
        for status in message.status:
            if status.name == f"{name.lstrip('/')}: features":
                return {entry.key: entry.value for entry in status.values} | {"message": status.message}
    return {}


def test_features_are_those_of_the_extractor_and_carry_the_header_of_the_image(camera: CameraDriver) -> None:
    gray = textured(1)
    received = camera.extract(gray_message(gray, frame_id="left_optical"))
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=300)) as extractor:
        expected = extractor.extract(gray)
    assert len(received.features) > 50
    assert_equal(received.features, expected)
    assert received.header.frame_id == "left_optical"
    assert received.header.stamp.nanosec == 250
    assert np.isnan(received.rays).all()


def test_colour_images_are_read(camera: CameraDriver) -> None:
    gray = textured(2)
    from_gray = camera.extract(gray_message(gray))
    from_colour = camera.extract(gray_message(np.dstack([gray] * 3), encoding="bgr8"))
    assert_equal(from_colour.features, from_gray.features)


def test_large_images_come_through_best_effort_with_the_fast_dds_profile(camera: CameraDriver, probe: Probe) -> None:
    # With the middleware's defaults nearly all images of this size are lost on the way.
    image = gray_message(np.dstack([textured(2, 640, 480)] * 3), encoding="bgr8")
    arrived = 0
    for _ in range(20):
        stamp = camera.publish(image)
        arrived += probe.comes_true(lambda stamp=stamp: camera.with_stamp(stamp), seconds=2.0)
    assert arrived >= 15


def test_an_image_without_keypoints_gives_an_empty_cloud(camera: CameraDriver) -> None:
    received = camera.extract(gray_message(np.zeros((240, 320), np.uint8)))
    assert len(received.features) == 0
    assert received.features.descriptors.shape == (0, 32)


def test_camera_info_gives_viewing_rays(camera: CameraDriver, probe: Probe) -> None:
    model = Camera(320, 240, 260.0, 265.0, 158.0, 121.0, "plumb_bob", (0.1, -0.05, 0.001, 0.002, 0.0))
    message = CameraInfo(**model.camera_info_fields())
    infos = probe.publisher(CameraInfo, "/camera_info")
    image = gray_message(textured(3))

    def with_rays() -> ReceivedFeatures | None:
        received = camera.extract(image)
        return received if np.isfinite(received.rays).all() else None

    received = probe.wait_for(with_rays, "viewing rays", meanwhile=lambda: infos.publish(message))
    np.testing.assert_allclose(received.rays, model.rays(received.features.uv), rtol=1e-6)

    other_size = camera.extract(gray_message(textured(3, 300, 200)))
    assert len(other_size.features) > 0
    assert np.isnan(other_size.rays).all()


def test_model_info_reaches_late_subscribers_and_follows_live_parameters(camera: CameraDriver, probe: Probe) -> None:
    messages = probe.collect(String, f"{NAME}/model_info", latched=True)
    probe.wait_for(lambda: messages, "model_info")
    info = json.loads(messages[-1].data)
    assert (info["schema_version"], info["model"], info["max_keypoints"]) == (1, "orb", 300)
    layout = info["features_message"]
    assert layout["point_step"] == 80
    assert {"name": "descriptor", "offset": 48, "datatype": "uint8", "count": 32}.items() <= layout["fields"][
        -1
    ].items()
    assert probe.set_parameter("max_keypoints", 299).successful
    probe.wait_for(lambda: json.loads(messages[-1].data)["max_keypoints"] == 299, "the new model_info")
    assert probe.set_parameter("max_keypoints", 300).successful


def test_live_parameters_take_effect_and_bad_ones_leave_the_old_value(camera: CameraDriver, probe: Probe) -> None:
    gray = textured(4)
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=40)) as extractor:
        expected = extractor.extract(gray)
    assert probe.set_parameter("max_keypoints", 40).successful
    assert_equal(camera.extract(gray_message(gray)).features, expected)

    for name, value, reason in (
        ("max_keypoints", 0, "max_keypoints"),
        ("max_keypoints", 12.5, "type"),
        ("score_threshold", 1.5, "score_threshold"),
        ("score_threshold", float("nan"), "score_threshold"),
    ):
        result = probe.set_parameter(name, value)
        assert not result.successful, (name, value)
        assert reason in result.reason, result.reason
    assert_equal(camera.extract(gray_message(gray)).features, expected)
    assert probe.set_parameter("max_keypoints", 300).successful
    assert len(camera.extract(gray_message(gray)).features) > len(expected)


def test_read_only_parameters_are_refused(frontend: NodeProcess, probe: Probe) -> None:
    result = probe.set_parameter("model", "gcnv2")
    assert not result.successful
    assert "read-only" in result.reason


def test_a_misspelt_parameter_is_pointed_out(frontend: NodeProcess) -> None:
    assert "'max_keypoint' is not one of this node's and is ignored; did you mean 'max_keypoints'?" in frontend.log


def test_broken_images_are_reported_once_a_kind_counted_and_survived(
    frontend: NodeProcess, camera: CameraDriver, probe: Probe
) -> None:
    diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
    gray = textured(5)
    truncated = gray_message(gray)
    truncated.data = truncated.data[:1000]
    short_step = gray_message(gray)
    short_step.step = 10
    broken = {
        "unknown encoding": (gray_message(gray, encoding="mono7"), "the encoding 'mono7'"),
        "truncated": (truncated, "needs at least 76800 bytes, got 1000"),
        "short step": (short_step, "from row to row, got 10"),
        "no pixels": (Image(encoding="mono8"), "a 0x0 image in 'mono8' has no pixels"),
        "processing failed": (gray_message(gray[:20, :20].copy()), "the image is 20x20 pixels"),
    }
    for message, sentence in broken.values():
        probe.wait_for(
            lambda sentence=sentence: sentence in frontend.log,
            f"the report that {sentence}",
            meanwhile=lambda message=message: camera.publish(message),
        )
    for message, _ in broken.values():
        camera.publish(message)
        assert len(camera.extract(gray_message(gray)).features) > 0

    def all_counted() -> dict[str, str] | None:
        values = diagnostics_of(diagnostics)
        return values if all(f"frames dropped: {kind}" in values for kind in broken) else None

    values = probe.wait_for(all_counted, "diagnostics that count every kind")
    assert int(values["frames dropped"]) == sum(
        int(count) for key, count in values.items() if key.startswith("frames dropped: ")
    )
    assert any(sentence in values["last error"] for _, sentence in broken.values())
    reports = [line for line in frontend.log.splitlines() if "a frame from /image is dropped" in line]
    for _, sentence in broken.values():
        assert sum(sentence in report for report in reports) == 1, (sentence, reports)
    assert len(reports) == len(broken)


def test_diagnostics_tell_rates_latencies_and_what_runs(camera: CameraDriver, probe: Probe) -> None:
    diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
    keypoints = len(camera.extract(gray_message(textured(6))).features)
    values = probe.wait_for(
        lambda: found if (found := diagnostics_of(diagnostics)) and found.get("keypoints") == str(keypoints) else None,
        "diagnostics with the latest frame",
    )
    assert (values["state"], values["model"], values["runtime"]) == ("active", "orb", "opencv")
    assert float(values["input rate (Hz)"]) > 0
    assert float(values["output rate (Hz)"]) > 0
    assert 0 < float(values["latency median (ms)"]) <= float(values["latency p99 (ms)"])
    assert int(values["frames received"]) >= int(values["frames processed"]) > 0


def test_the_debug_image_shows_the_keypoints_to_who_subscribes(camera: CameraDriver, probe: Probe) -> None:
    gray = textured(7)
    pictures = probe.collect(Image, f"{NAME}/debug_image")

    picture = probe.wait_for(
        lambda: pictures and pictures[-1],
        "a debug image",
        meanwhile=lambda: camera.publish(gray_message(gray, frame_id="debug")),
    )
    assert (picture.width, picture.height, picture.encoding) == (320, 240, "bgr8")
    assert picture.header.frame_id == "debug"
    pixels = np.frombuffer(picture.data, np.uint8).reshape(240, 320, 3)
    coloured = np.any(pixels != pixels[..., :1], axis=2)
    assert 0.01 < coloured.mean() < 0.9
    np.testing.assert_array_equal(pixels[~coloured][:, 0], gray[~coloured])

    # At most one in a thousand seconds, of which the latest was just now; then as many as there are frames.
    assert probe.set_parameter("debug_image_rate", 0.001).successful
    camera.extract(gray_message(gray))
    probe.comes_true(lambda: False, 0.3)
    pictures.clear()
    for _ in range(5):
        camera.extract(gray_message(gray))
    assert not probe.comes_true(lambda: pictures, 0.5)
    assert probe.set_parameter("debug_image_rate", 1000.0).successful
    probe.wait_for(lambda: pictures, "debug images again", meanwhile=lambda: camera.publish(gray_message(gray)))


def test_lifecycle_transitions_stop_free_and_bring_back(camera: CameraDriver, probe: Probe) -> None:
    image = gray_message(textured(8))
    assert probe.state() == "active"
    assert probe.change_state(Transition.TRANSITION_DEACTIVATE)
    assert probe.state() == "inactive"
    probe.wait_for(lambda: not probe.node.count_subscribers("/image"), "the end of the subscription")
    silent = camera.publish(image)
    assert probe.change_state(Transition.TRANSITION_CLEANUP)
    assert probe.state() == "unconfigured"
    assert not probe.change_state(Transition.TRANSITION_ACTIVATE)
    assert probe.change_state(Transition.TRANSITION_CONFIGURE)
    assert probe.change_state(Transition.TRANSITION_ACTIVATE)
    probe.wait_for(lambda: probe.node.count_subscribers("/image"), "the subscription")
    probe.wait_for(lambda: probe.node.count_publishers(f"{NAME}/features"), "the publisher")

    assert len(camera.extract(image).features) > 0
    assert not camera.with_stamp(silent)


def test_without_usable_weights_the_process_ends_and_says_why(tmp_path: Path) -> None:
    missing = tmp_path / "missing.safetensors"
    with NodeProcess(tmp_path / "log.txt", {"weights": missing}) as process:
        assert process.wait() == 1
        assert str(missing) in process.log
        assert "Traceback" not in process.log


def test_a_wrong_parameter_ends_the_process_and_says_why(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "log.txt", {"model": "orb", "queue": "newest"}) as process:
        assert process.wait() == 1
        assert "'queue' must be one of latest, all, got 'newest'" in process.log
        assert "Traceback" not in process.log


@pytest.fixture(scope="module")
def network_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network that has learned nothing: good for showing that it runs, not for what it finds."""
    torch = pytest.importorskip("torch")
    from gcnv2_ros.networks import create_network
    from gcnv2_ros.weights import WeightsMetadata, save_weights

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_weights(path, create_network("gcnv2_tiny").state_dict(), WeightsMetadata(model="gcnv2_tiny"))
    return path


def test_an_overloaded_network_gets_the_newest_frame_and_drops_are_counted(
    network_weights: Path, tmp_path: Path, probe: Probe
) -> None:
    name = "/overloaded"
    # Reliable, so that every published frame is received and the sum can be checked.
    parameters = {"weights": network_weights, "subscribe_reliability": "reliable", "subscribe_depth": 1000}
    options = {"threads": 1, "max_keypoints": 100}
    remappings = {"__node": "overloaded", "image": "/overloaded/image"}
    with NodeProcess(tmp_path / "log.txt", {**parameters, **options}, remappings) as process:
        process.wait_for_log("active")
        clouds = probe.collect(PointCloud2, f"{name}/features")
        diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
        images = probe.publisher(Image, f"{name}/image")
        gray = textured(9)
        greetings = []

        def greet() -> None:
            greetings.append(None)
            images.publish(gray_message(gray, stamp=(1000, 0)))

        probe.wait_for(lambda: clouds, "the first features", meanwhile=greet)
        total = 40
        for index in range(total):
            images.publish(gray_message(gray, stamp=(1001 + index, 0)))

        def settled() -> dict[str, str] | None:
            values = diagnostics_of(diagnostics, name)
            done = int(values.get("frames processed", 0)) + int(values.get("frames dropped", 0))
            return values if done == total + len(greetings) else None

        values = probe.wait_for(settled, "diagnostics that account for every frame")
        assert int(values["frames received"]) == total + len(greetings)
        assert int(values["frames dropped: newer frame"]) > 0
        stamps = [cloud.header.stamp.sec for cloud in clouds]
        assert stamps == sorted(stamps)
        assert stamps[-1] == 1000 + total, "the newest frame must not be dropped"

        with create_extractor(
            ExtractorOptions(weights=str(network_weights), threads=1), DecodeOptions(max_keypoints=100)
        ) as extractor:
            assert_equal(decode_features(clouds[-1]).features, extractor.extract(gray))
        assert process.stop(signal.SIGTERM) == 0, process.log


def test_compressed_images_in_a_namespace_with_every_frame_kept(tmp_path: Path, probe: Probe) -> None:
    name = "/front/gcnv2_frontend"
    parameters = {
        "model": "orb",
        "image_transport": "compressed",
        "queue": "all",
        "subscribe_reliability": "reliable",
        "subscribe_depth": 1000,
    }
    remappings = {"__ns": "/front", "image": "left/image_raw"}
    with NodeProcess(tmp_path / "log.txt", parameters, remappings) as process:
        process.wait_for_log("active: images from /front/left/image_raw/compressed")
        clouds = probe.collect(PointCloud2, f"{name}/features")
        probe.wait_for(lambda: probe.node.count_publishers(f"{name}/features"), "the features publisher")
        images = probe.publisher(CompressedImage, "/front/left/image_raw/compressed")
        encoded = [cv2.imencode(".jpg", textured(index))[1].tobytes() for index in range(20)]

        def publish(second: int, data: bytes) -> None:
            message = CompressedImage(format="mono8; jpeg compressed", data=data)
            message.header.stamp.sec = second
            images.publish(message)

        probe.wait_for(lambda: clouds, "the first features", meanwhile=lambda: publish(0, encoded[0]))
        for second, data in enumerate(encoded, start=1):
            publish(second, data)
        probe.wait_for(lambda: clouds[-1].header.stamp.sec == len(encoded), "the features of the last frame")
        stamps = [cloud.header.stamp.sec for cloud in clouds if cloud.header.stamp.sec]
        assert stamps == list(range(1, len(encoded) + 1))
        with create_extractor(ExtractorOptions(model="orb")) as extractor:
            gray = cv2.imdecode(np.frombuffer(encoded[-1], np.uint8), cv2.IMREAD_GRAYSCALE)
            assert_equal(decode_features(clouds[-1]).features, extractor.extract(gray))
        publish(99, encoded[0][:500])
        process.wait_for_log("ends after 500 bytes, before its end mark")


def test_a_silent_camera_is_named_with_the_reason(tmp_path: Path, probe: Probe) -> None:
    parameters = {"model": "orb", "image_timeout": 0.5}
    with NodeProcess(tmp_path / "log.txt", parameters, {"__node": "waiting", "image": "/dark"}) as process:
        process.wait_for_log("s: nobody publishes it")
        other = probe.node.create_publisher(String, "/dark", 1)
        process.wait_for_log("publishes std_msgs/msg/String there, expected sensor_msgs/msg/Image")
        probe.node.destroy_publisher(other)
        probe.node.create_publisher(Image, "/dark", 1)
        process.wait_for_log("but large images are lost where it runs without the Fast DDS profile")


def test_a_camera_whose_qos_does_not_fit_is_named_at_once(tmp_path: Path, probe: Probe) -> None:
    parameters = {"model": "orb", "image_timeout": 0.0, "subscribe_reliability": "reliable"}
    with NodeProcess(tmp_path / "log.txt", parameters, {"__node": "strict", "image": "/lossy"}) as process:
        process.wait_for_log("active")
        probe.node.create_publisher(Image, "/lossy", volatile_qos("best_effort", 1))
        process.wait_for_log(
            "a publisher of /lossy has an incompatible QoS (RELIABILITY), so nothing will come from it"
        )
        assert "publishes best_effort and this node asks for reliable" in process.log


def test_the_detector_changes_while_the_node_runs(tmp_path: Path) -> None:
    name = "/detecting"
    size = {"input_width": 160, "input_height": 128, "threads": 1}
    remappings = {"__node": "detecting", "image": f"{name}/image"}
    gray = textured(10)
    with (
        NodeProcess(tmp_path / "log.txt", {**size, "max_keypoints": 100}, remappings) as process,
        Probe(name) as probe,
        create_extractor(ExtractorOptions(**size)) as extractor,
    ):
        process.wait_for_log("active")
        infos = probe.collect(String, f"{name}/model_info", latched=True)
        clouds = probe.collect(PointCloud2, f"{name}/features")
        images = probe.publisher(Image, f"{name}/image")
        responses = []
        for second, detector in enumerate(("blobs", "network", "blobs"), start=1):
            # Blobs are what the shipped weights recommend.
            if second > 1:
                assert probe.set_parameter("detector", detector).successful
            probe.wait_for(
                lambda detector=detector: infos and json.loads(infos[-1].data)["detector"] == detector,
                f"model_info with {detector}",
            )
            image = gray_message(gray, stamp=(second, 0))
            cloud = probe.wait_for(
                lambda second=second: [cloud for cloud in clouds if cloud.header.stamp.sec == second],
                f"features of {detector}",
                meanwhile=lambda image=image: images.publish(image),
            )[0]
            extractor.decode_options = DecodeOptions(max_keypoints=100, detector=detector)
            received = decode_features(cloud, image_size=(image.width, image.height)).features
            assert_equal(received, extractor.extract(gray))
            responses.append(received.response[:10])
        assert not np.array_equal(responses[0], responses[1])
        np.testing.assert_array_equal(responses[0], responses[2])
        assert not probe.set_parameter("detector", "corners").successful
