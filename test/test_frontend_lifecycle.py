# SPDX-License-Identifier: Apache-2.0
"""Transitions of the lifecycle when something goes wrong in them, and in the midst of frames: real DDS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_helpers import InProcess, Probe, gray_message, textured
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from gcnv2_ros.camera import Camera
from gcnv2_ros.extraction import DecodeOptions, ExtractionError, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.features import Features
from gcnv2_ros.ros import frontend
from gcnv2_ros.ros.fallback import FallbackExtractor
from gcnv2_ros.ros.features_msg import decode_features
from gcnv2_ros.weights import WeightsError


class Watched(Extractor):
    """ORB that says whether it was closed, and can be held in the midst of an image that is not the warm-up's."""

    def __init__(self, decode: DecodeOptions) -> None:
        super().__init__(decode)
        self._inner = create_extractor(ExtractorOptions(model="orb"), decode)
        self.closed = False
        self.working = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def info(self) -> Any:
        return self._inner.info

    def _extract(self, grays: Sequence[Any], masks: Sequence[Any], rolls: Sequence[float]) -> list[Features]:
        assert not self.closed, "a model that was freed is used"
        if not self.go_on.is_set():
            self.working.set()
            self.go_on.wait(60)
        return self._inner.extract_batch(grays, masks=masks)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def built() -> list[Watched]:
    """The extractors that nodes have built."""
    return []


@pytest.fixture
def create(built: list[Watched]) -> Callable[..., Extractor]:
    """Builds extractors."""

    def create(options: ExtractorOptions, decode: DecodeOptions) -> Extractor:
        built.append(Watched(decode))
        return built[-1]

    return create


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace for each test, since services of the node of the last one take a while to be forgotten."""
    return f"/{request.node.name}"


@pytest.fixture
def probe(namespace: str) -> Iterator[Probe]:
    """A node in this process."""
    with Probe(f"{namespace}/gcnv2_frontend") as probe:
        yield probe


def activate(probe: Probe) -> bool:
    """Configure and activate by the services."""
    transitions = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    return all(probe.change_state(transition) for transition in transitions)


def test_a_node_that_failed_to_configure_can_be_configured_again(
    namespace: str, probe: Probe, create: Callable[..., Extractor], built: list[Watched]
) -> None:
    faults: list[Exception] = [RuntimeError("the driver of the device is gone"), OSError("no such file")]

    def failing_at_first(options: ExtractorOptions, decode: DecodeOptions) -> Extractor:
        if faults:
            raise faults.pop()
        return create(options, decode)

    with InProcess(failing_at_first, namespace):
        for _ in range(2):
            assert not probe.change_state(Transition.TRANSITION_CONFIGURE)
            assert probe.state() == "unconfigured"
        assert activate(probe)
        clouds = probe.collect(PointCloud2, f"{namespace}/gcnv2_frontend/features")
        images = probe.publisher(Image, f"{namespace}/image")
        probe.wait_for(lambda: clouds, "features", meanwhile=lambda: images.publish(gray_message(textured(1))))
    assert built[0].closed


def test_a_node_that_failed_to_activate_frees_its_model_and_starts_again(
    namespace: str,
    probe: Probe,
    create: Callable[..., Extractor],
    built: list[Watched],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with InProcess(create, namespace) as running:
        assert probe.change_state(Transition.TRANSITION_CONFIGURE)
        with monkeypatch.context() as broken:
            broken.setattr(running.node, "create_subscription", lambda *_, **__: 1 / 0)
            assert not probe.change_state(Transition.TRANSITION_ACTIVATE)
        assert probe.state() == "unconfigured"
        assert built[0].closed
        assert activate(probe)
        assert probe.state() == "active"
        assert len(built) == 2


def test_deactivating_in_the_midst_of_a_frame_ends_it_and_cleanup_frees_the_model(
    namespace: str, probe: Probe, create: Callable[..., Extractor], built: list[Watched]
) -> None:
    with InProcess(create, namespace):
        assert activate(probe)
        clouds = probe.collect(PointCloud2, f"{namespace}/gcnv2_frontend/features")
        images = probe.publisher(Image, f"{namespace}/image")
        (extractor,) = built
        extractor.go_on.clear()
        probe.wait_for(extractor.working.is_set, "a frame", meanwhile=lambda: images.publish(gray_message(textured(2))))
        threading.Timer(0.5, extractor.go_on.set).start()
        assert probe.change_state(Transition.TRANSITION_DEACTIVATE)
        assert extractor.go_on.is_set(), "deactivating waits for the frame"
        assert not extractor.closed
        assert probe.change_state(Transition.TRANSITION_CLEANUP)
        assert extractor.closed
        assert not probe.node.count_publishers(f"{namespace}/gcnv2_frontend/features")

        # Other values of live parameters, changed while there is no model, are those of the next one.
        assert probe.set_parameter("max_keypoints", 33).successful
        assert activate(probe)
        clouds.clear()
        probe.wait_for(lambda: clouds, "features", meanwhile=lambda: images.publish(gray_message(textured(3))))
        with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=33)) as fewer:
            assert clouds[-1].width == len(fewer.extract(textured(3)))
        assert len(built) == 2


def test_a_node_that_rests_subscribes_to_nothing(
    namespace: str, probe: Probe, create: Callable[..., Extractor]
) -> None:
    with InProcess(create, namespace, {"upright": "imu"}) as running:

        def topics() -> list[str]:
            return sorted(subscription.topic_name for subscription in running.node.subscriptions)

        resting = topics()
        for _ in range(2):
            assert activate(probe)
            active = topics()
            for topic in ("image", "camera_info", "imu"):
                assert active.count(f"{namespace}/{topic}") == 1
            assert probe.change_state(Transition.TRANSITION_DEACTIVATE)
            assert topics() == resting
            assert probe.change_state(Transition.TRANSITION_CLEANUP)


def begin_frame_without_end(namespace: str, probe: Probe, extractor: Watched) -> None:
    """Have the node work on a frame until `Watched.go_on` is set."""
    images = probe.publisher(Image, f"{namespace}/image")
    extractor.go_on.clear()
    probe.wait_for(extractor.working.is_set, "a frame", meanwhile=lambda: images.publish(gray_message(textured(2))))


def test_a_frame_that_outlives_the_stop_keeps_its_model_and_no_other_runs_beside_it(
    namespace: str,
    probe: Probe,
    create: Callable[..., Extractor],
    built: list[Watched],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with InProcess(create, namespace):
        assert activate(probe)
        (extractor,) = built
        begin_frame_without_end(namespace, probe, extractor)
        with monkeypatch.context() as impatient:
            impatient.setattr(frontend, "_STOP_SECONDS", 0.1)
            assert probe.change_state(Transition.TRANSITION_DEACTIVATE)
            for transition in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CLEANUP):
                assert not probe.change_state(transition)
                assert probe.state() == "inactive"
            assert not extractor.closed
        extractor.go_on.set()
        assert probe.change_state(Transition.TRANSITION_ACTIVATE)
        assert probe.change_state(Transition.TRANSITION_DEACTIVATE)
        assert probe.change_state(Transition.TRANSITION_CLEANUP)
        assert extractor.closed


def test_a_node_that_is_shut_down_in_the_midst_of_a_frame_does_not_free_the_model_under_it(
    namespace: str,
    probe: Probe,
    create: Callable[..., Extractor],
    built: list[Watched],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with InProcess(create, namespace):
        assert activate(probe)
        (extractor,) = built
        begin_frame_without_end(namespace, probe, extractor)
        with monkeypatch.context() as impatient:
            impatient.setattr(frontend, "_STOP_SECONDS", 0.1)
            assert probe.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
            assert not extractor.closed
        extractor.go_on.set()
    assert extractor.closed


def test_a_calibration_that_is_latched_anew_while_the_node_rests_holds_afterwards(
    namespace: str, probe: Probe, create: Callable[..., Extractor]
) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    calibrations = probe.node.create_publisher(CameraInfo, f"{namespace}/camera_info", latched)
    clouds = probe.collect(PointCloud2, f"{namespace}/gcnv2_frontend/features")
    image = gray_message(textured(4))

    def publish(focal: float) -> None:
        camera = Camera(320, 240, focal, focal, 159.5, 119.5)
        calibrations.publish(CameraInfo(**camera.camera_info_fields()))

    def focal_length() -> float:
        received = decode_features(clouds[-1])
        return float(np.nanmedian((received.features.uv[:, 0] - 159.5) / received.rays[:, 0]))

    with InProcess(create, namespace):
        assert activate(probe)
        images = probe.publisher(Image, f"{namespace}/image")
        publish(400.0)
        for transitions, focal in (((), 400.0), ((Transition.TRANSITION_DEACTIVATE,), 555.0)):
            for transition in transitions:
                assert probe.change_state(transition)
                publish(focal)
                assert probe.change_state(Transition.TRANSITION_ACTIVATE)
            clouds.clear()
            probe.wait_for(
                lambda: clouds and focal_length() == pytest.approx(focal, rel=1e-3),  # noqa: B023
                f"rays of the focal length {focal:g}",
                meanwhile=lambda: images.publish(image),
            )


def test_live_parameters_that_change_while_the_model_for_the_cpu_is_built_hold() -> None:
    torch = pytest.importorskip("torch")
    built: list[FallbackExtractor] = []

    class Exhausted(Watched):
        """A device whose memory is enough for the first image."""

        def _extract(self, grays: Sequence[Any], masks: Sequence[Any], rolls: Sequence[float]) -> list[Features]:
            if built:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super()._extract(grays, masks, rolls)

    def create(options: ExtractorOptions, decode: DecodeOptions) -> Extractor:
        if options.device != "cpu":
            return Exhausted(decode)
        built[0].set_decode_options(DecodeOptions(max_keypoints=77))
        return create_extractor(ExtractorOptions(model="orb"), decode)

    options = ExtractorOptions(model="orb", device="cuda")
    built.append(FallbackExtractor(options, DecodeOptions(), create, lambda sentence: None))
    (features,) = built[0].extract_batch([textured(7)], masks=[None], rolls=[0.0])
    assert 0 < len(features) <= 77


def test_a_model_that_cannot_be_built_on_the_cpu_is_tried_again_with_the_next_image() -> None:
    torch = pytest.importorskip("torch")
    sentences: list[str] = []
    away = ["the weights w.safetensors cannot be read"]

    class Exhausted(Watched):
        """A device whose memory is enough for the first image."""

        calls = 0

        def _extract(self, grays: Sequence[Any], masks: Sequence[Any], rolls: Sequence[float]) -> list[Features]:
            self.calls += 1
            if self.calls > 1:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super()._extract(grays, masks, rolls)

    exhausted = Exhausted(DecodeOptions())

    def create(options: ExtractorOptions, decode: DecodeOptions) -> Extractor:
        if options.device != "cpu":
            return exhausted
        if away:
            raise WeightsError(away[0])
        return create_extractor(ExtractorOptions(model="orb"), decode)

    fallback = FallbackExtractor(
        ExtractorOptions(model="orb", device="cuda"), DecodeOptions(), create, sentences.append
    )
    for _ in range(3):
        with pytest.raises(ExtractionError, match=r"'cuda' is out of memory \(CUDA out .*on the CPU: the weights w"):
            fallback.extract_batch([textured(7)], masks=[None], rolls=[0.0])
    assert (exhausted.calls, sentences) == (2, [])
    away.clear()
    assert len(fallback.extract_batch([textured(7)], masks=[None], rolls=[0.0])[0])
    assert len(sentences) == 1
    assert fallback.info.device == "cpu"


def test_two_nodes_share_a_process(probe: Probe, create: Callable[..., Extractor], built: list[Watched]) -> None:
    with InProcess(create, "/one") as one, InProcess(create, "/two") as two:
        assert one.node.bring_up()
        assert two.node.bring_up()
        clouds = {side: probe.collect(PointCloud2, f"{side}/gcnv2_frontend/features") for side in ("/one", "/two")}
        images = {side: probe.publisher(Image, f"{side}/image") for side in clouds}

        def publish() -> None:
            for side, publisher in images.items():
                publisher.publish(gray_message(textured(len(side)), frame_id=side))

        probe.wait_for(lambda: all(clouds.values()), "features of both", meanwhile=publish)
        for side, messages in clouds.items():
            assert {message.header.frame_id for message in messages} == {side}
    assert all(extractor.closed for extractor in built)
