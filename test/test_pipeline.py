# SPDX-License-Identifier: Apache-2.0
"""What the node makes of the messages of a frame, in its own pipeline with its own parameters; without a ROS graph."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from ros_helpers import assert_same, depth_message, gray_message, textured
from sensor_msgs.msg import CameraInfo, Image, Imu

from gcnv2_ros.camera import Camera
from gcnv2_ros.depth import sample_depth
from gcnv2_ros.extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.features import Features
from gcnv2_ros.messages.stretch import Stretch
from gcnv2_ros.rectification import Rectifier
from gcnv2_ros.ros.camera_state import Frame, create_cameras
from gcnv2_ros.ros.declaration import declare_parameters
from gcnv2_ros.ros.features_msg import ReceivedFeatures, decode_features
from gcnv2_ros.ros.gravity import ImuRoll, create_roll_source
from gcnv2_ros.ros.image_messages import camera_info_message
from gcnv2_ros.ros.parameters import PARAMETERS, current_options
from gcnv2_ros.ros.pipeline import Pipeline

SIZE = (320, 240)
LENS = (-0.2, 0.05, 0.001, -0.001, 0.0)


class Recorder:
    """A publisher to which somebody subscribes, and that keeps what it is given."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self.messages: list[Any] = []

    def publish(self, message: Any) -> None:
        assert isinstance(message, self._kind)
        self.messages.append(message)

    def get_subscription_count(self) -> int:
        return 1


class RecordingNode(LifecycleNode):
    """A node whose lifecycle publishers are recorders, by topic."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__("recording", automatically_declare_parameters_from_overrides=True, **arguments)
        self.recorders: dict[str, Recorder] = {}

    def create_lifecycle_publisher(self, kind: Any, topic: str, *_: Any, **__: Any) -> Any:
        self.recorders[topic] = Recorder(kind)
        return self.recorders[topic]

    def destroy_lifecycle_publisher(self, publisher: Any) -> bool:
        return True


class Told(Extractor):
    """Finds nothing, and keeps the rolls that it is told."""

    def __init__(self, decode: DecodeOptions) -> None:
        super().__init__(decode)
        self._inner = create_extractor(ExtractorOptions(model="orb"), decode)
        self.rolls: list[float] = []

    @property
    def info(self) -> Any:
        return self._inner.info

    def _extract(self, grays: Sequence[Any], masks: Sequence[Any], rolls: Sequence[float]) -> list[Features]:
        self.rolls = list(rolls)
        return [Features.empty((gray.shape[1], gray.shape[0])) for gray in grays]

    def close(self) -> None:
        self._inner.close()


class Frontend:
    """The pipeline of a node with some parameters.

    Parameters
    ----------
    context
        Of the node.
    parameters
        Those that are not the defaults.
    create
        Builds the extractor.
    """

    def __init__(
        self, context: Context, parameters: Mapping[str, Any], create: Callable[..., Extractor] = create_extractor
    ) -> None:
        values = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = RecordingNode(context=context, parameter_overrides=values)
        declare_parameters(self.node, PARAMETERS)
        self._options = current_options(self.node)
        self._cameras = create_cameras(self.node, self._options)
        self.roll_source: Any = create_roll_source(self._options)
        self._pipeline = Pipeline(
            self.node,
            self._options,
            self._cameras,
            create=create,
            roll_source=self.roll_source,
            on_fallback=lambda sentence: None,
        )

    def calibrate(self, camera: Camera, right: Camera | None = None, index: int = 0) -> None:
        """Take the camera_info messages of a camera, and of the right one."""
        state = self._cameras[index]
        state.calibration.update(CameraInfo(**camera.camera_info_fields()))
        if right is not None:
            state.right_calibration.update(CameraInfo(**right.camera_info_fields()))

    def process(self, *frames: Mapping[str, Any]) -> None:
        """Take a frame of each camera: its messages by role."""
        self._pipeline.process([Frame(index, dict(messages), 0.0) for index, messages in enumerate(frames)])
        assert not any(camera.statistics.snapshot().dropped for camera in self._cameras)

    def published(self, output: str) -> Any:
        """The latest message on an output."""
        return self.node.recorders[f"~/{output}"].messages[-1]

    def features(self, output: str = "features") -> ReceivedFeatures:
        """The latest features on an output."""
        return decode_features(self.published(output), image_size=SIZE)

    def close(self) -> None:
        """End the node."""
        self._pipeline.close()
        self.node.destroy_node()


@pytest.fixture
def start() -> Iterator[Callable[..., Frontend]]:
    """Makes pipelines."""
    context = Context()
    rclpy.init(context=context)
    made: list[Frontend] = []

    def start(create: Callable[..., Extractor] = create_extractor, **parameters: Any) -> Frontend:
        made.append(Frontend(context, {"model": "orb", "max_keypoints": 300, **parameters}, create))
        return made[-1]

    yield start
    for frontend in made:
        frontend.close()
    rclpy.shutdown(context=context)


@pytest.fixture(scope="module")
def orb() -> Iterator[Extractor]:
    """The extractor of the pipelines."""
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=300)) as extractor:
        yield extractor


def turned(degrees: Sequence[float], *, cx: float = 159.5, baseline: float = 0.0) -> Camera:
    """A camera with a lens, the turn (about x, y and z) of whose rectification is given, and its projection."""
    projection = [[230.0, 0, cx, -230.0 * baseline], [0, 230.0, 119.5, 0], [0, 0, 1, 0]]
    rotation = cv2.Rodrigues(np.radians(degrees))[0]
    return Camera(*SIZE, 250.0, 252.0, 162.0, 117.0, "plumb_bob", LENS, rotation, projection)


LEFT = turned((1.0, -2.0, 3.0))
RIGHT = turned((-2.0, 1.0, -2.0), baseline=0.1)


def assert_rays(received: ReceivedFeatures, camera: Camera) -> None:
    """The viewing rays are those of a camera, and there are some."""
    assert len(received.features) > 50
    np.testing.assert_allclose(received.rays, camera.rays(received.features.uv), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rectified", [False, True])
def test_rays_are_those_of_the_projection_where_images_come_rectified(
    start: Callable[..., Frontend], rectified: bool
) -> None:
    frontend = start(rectified_input=rectified)
    frontend.calibrate(LEFT)
    frontend.process({"image": gray_message(textured(1))})
    assert_rays(frontend.features(), LEFT.rectified() if rectified else LEFT)


def test_right_features_have_the_rays_and_the_header_of_the_right_image(start: Callable[..., Frontend]) -> None:
    frontend = start(mode="stereo")
    # Such a pair gives no depth, and rays all the same.
    right = turned((0.0, 0.0, 0.0), cx=140.0, baseline=0.1)
    frontend.calibrate(LEFT, right)
    messages = {
        "image": gray_message(textured(1), stamp=(5, 1_000_000), frame_id="left_optical"),
        "right": gray_message(textured(2), stamp=(5, 3_000_000), frame_id="right_optical"),
    }
    frontend.process(messages)
    for role, output, camera in (("image", "features", LEFT), ("right", "right/features", right)):
        received = frontend.features(output)
        assert_rays(received, camera.rectified())
        assert received.header == messages[role].header


def test_each_image_of_a_pair_has_its_calibration_file(start: Callable[..., Frontend], tmp_path: Path) -> None:
    files = {}
    right = turned((0.0, 0.0, 0.0), cx=140.0, baseline=0.1)
    for parameter, camera in (("calibration_file", LEFT), ("right_calibration_file", right)):
        files[parameter] = tmp_path / f"{parameter}.yaml"
        files[parameter].write_text(yaml.safe_dump(camera.to_dict()))
    frontend = start(mode="stereo", **{name: str(file) for name, file in files.items()})
    frontend.process({"image": gray_message(textured(1)), "right": gray_message(textured(2))})
    assert_rays(frontend.features(), LEFT.rectified())
    assert_rays(frontend.features("right/features"), right.rectified())


def test_each_camera_of_several_has_the_files_of_its_name(
    start: Callable[..., Frontend], orb: Extractor, tmp_path: Path
) -> None:
    cameras = {"front": LEFT, "rear": turned((0.0, 0.0, 0.0), cx=140.0)}
    columns = np.arange(SIZE[0])[None].repeat(SIZE[1], axis=0)
    masks = {"front": columns < 200, "rear": columns >= 120}
    for name, camera in cameras.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(camera.to_dict()))
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.where(masks[name], 255, 0).astype(np.uint8))
    template = str(tmp_path / "{camera}")
    frontend = start(
        mode="multi",
        cameras=[*cameras],
        rectified_input=True,
        calibration_file=f"{template}.yaml",
        mask_file=f"{template}.png",
    )
    image = textured(1)
    frontend.process(*({"image": gray_message(image, frame_id=name)} for name in cameras))
    for name, camera in cameras.items():
        received = frontend.features(f"{name}/features")
        assert received.header.frame_id == name
        assert_same(received.features, orb.extract(image, mask=masks[name]))
        assert_rays(received, camera.rectified())


def test_each_image_of_a_raw_pair_is_rectified_by_its_own_calibration(
    start: Callable[..., Frontend], orb: Extractor
) -> None:
    frontend = start(mode="stereo", rectify=True)
    frontend.calibrate(LEFT, RIGHT)
    images = {"image": textured(1), "right": textured(2)}
    frontend.process({role: gray_message(image) for role, image in images.items()})
    for role, output, camera in (("image", "features", LEFT), ("right", "right/features", RIGHT)):
        rectifier = Rectifier(camera)
        expected = orb.extract(rectifier.image(images[role]), mask=rectifier.mask(None))
        assert_same(frontend.features(output).features, expected)


def test_each_image_of_a_pair_has_its_mask_file_and_only_the_left_one_the_mask_that_comes_with_it(
    start: Callable[..., Frontend], orb: Extractor, tmp_path: Path
) -> None:
    columns, rows = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    masks = {"left": columns < 200, "right": columns >= 120}
    for side, mask in masks.items():
        cv2.imwrite(str(tmp_path / f"{side}.png"), np.where(mask, 255, 0).astype(np.uint8))
    frontend = start(
        mode="stereo",
        mask_source="synchronized",
        mask_file=str(tmp_path / "left.png"),
        right_mask_file=str(tmp_path / "right.png"),
    )
    image, coming = textured(1), rows < 150
    frontend.process(
        {
            "image": gray_message(image),
            "right": gray_message(image),
            "mask": gray_message(np.where(coming, 255, 0).astype(np.uint8)),
        }
    )
    for output, mask in (("features", masks["left"] & coming), ("right/features", masks["right"])):
        received = frontend.features(output).features
        assert len(received) > 50
        assert_same(received, orb.extract(image, mask=mask))


def test_each_image_of_a_pair_of_16_bits_has_a_stretch_of_its_own(
    start: Callable[..., Frontend], orb: Extractor
) -> None:
    frontend = start(mode="stereo", stretch="adaptive")
    # The right one's values lie within the left one's, where they would be a gray without contrast.
    images = {
        "features": textured(1).astype(np.uint16) * 240,
        "right/features": 30_000 + textured(2).astype(np.uint16),
    }
    left, right = (gray_message(image, encoding="mono16") for image in images.values())
    frontend.process({"image": left, "right": right})
    for output, image in images.items():
        expected = orb.extract(Stretch()(image))
        assert len(expected) > 100
        assert_same(frontend.features(output).features, expected)


def test_depth_and_the_colours_of_points_are_those_of_the_rectified_image(start: Callable[..., Frontend]) -> None:
    frontend = start(mode="rgbd", rectify=True)
    camera = turned((3.0, -5.0, 10.0))
    frontend.calibrate(camera)
    gray = textured(1)
    colour = np.dstack([gray // 2, gray, 60 + gray // 4])
    depth = np.linspace(1.0, 4.0, SIZE[0], dtype=np.float32)[None].repeat(SIZE[1], axis=0)
    frontend.process({"image": gray_message(colour, encoding="bgr8"), "depth": depth_message(depth, "32FC1")})
    features, rectifier = frontend.features().features, Rectifier(camera)
    known = np.isfinite(features.depth)
    assert known.sum() > 100
    np.testing.assert_array_equal(features.depth, sample_depth(rectifier.depth(depth), features.uv, SIZE))

    cloud = frontend.published("points")
    assert cloud.width == known.sum()
    packed = np.frombuffer(bytes(cloud.data), np.uint8).reshape(cloud.width, -1)[:, 16:19]
    columns, rows = np.rint(features.uv[known]).astype(int).T
    np.testing.assert_array_equal(packed, rectifier.image(colour)[rows, columns])


class RGBDImage(SimpleNamespace):
    """Has the fields that it is given."""


@pytest.fixture
def rtabmap_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes with the fields of rtabmap_msgs, which is on no package index."""
    messages = ModuleType("rtabmap_msgs.msg")
    for name in ("KeyPoint", "Point2f", "Point3f"):
        setattr(messages, name, SimpleNamespace)
    messages.RGBDImage = RGBDImage  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rtabmap_msgs", ModuleType("rtabmap_msgs"))
    monkeypatch.setitem(sys.modules, "rtabmap_msgs.msg", messages)


@pytest.mark.parametrize("mode", ["stereo", "rgbd"])
def test_images_for_rtabmap_come_with_the_cameras_of_the_rectified_images(
    start: Callable[..., Frontend], rtabmap_msgs: None, mode: str
) -> None:
    frontend = start(mode=mode, rtabmap=True, rectified_input=True)
    left, right = (dataclasses.replace(camera, frame_id=name) for camera, name in ((LEFT, "left"), (RIGHT, "right")))
    frontend.calibrate(left, right)
    depth = depth_message(np.full(SIZE[::-1], 2.0), "32FC1")
    depth.header.frame_id = "depth"
    messages: dict[str, Image] = {"image": gray_message(textured(1), stamp=(7, 0), frame_id="left")}
    second = "right" if mode == "stereo" else "depth"
    messages[second] = gray_message(textured(1), stamp=(7, 9), frame_id="right") if mode == "stereo" else depth
    frontend.process(messages)
    sent, received = frontend.published("rgbd_image"), frontend.features()
    assert (sent.header, sent.rgb, sent.depth) == (messages["image"].header, messages["image"], messages[second])
    assert sent.rgb_camera_info == camera_info_message(left.rectified(), messages["image"].header)
    of_second = right if mode == "stereo" else left
    assert sent.depth_camera_info == camera_info_message(of_second.rectified(), messages[second].header)
    assert len(sent.key_points) == len(received.features) > 50
    np.testing.assert_allclose([(p.pt.x, p.pt.y) for p in sent.key_points], received.features.uv)
    if mode == "rgbd":
        np.testing.assert_allclose([(p.x, p.y, p.z) for p in sent.points], 2.0 * received.rays, rtol=1e-5)


def imu_that_feels(down: Sequence[float]) -> Imu:
    """A measurement of an IMU at rest, gravity's direction in its frame given, without a gyroscope."""
    message = Imu()
    message.header.stamp.sec = 1
    message.angular_velocity_covariance[0] = -1.0
    acceleration = message.linear_acceleration
    acceleration.x, acceleration.y, acceleration.z = (-9.8 * np.asarray(down, float)).tolist()
    return message


def quaternion_about_z(degrees: float) -> list[float]:
    """Of a turn about the z axis."""
    half = np.radians(degrees) / 2
    return [0.0, 0.0, float(np.sin(half)), float(np.cos(half))]


def keeping(told: list[Told]) -> Callable[..., Extractor]:
    """Builds extractors, and adds them to a list."""

    def create(options: ExtractorOptions, decode: DecodeOptions) -> Extractor:
        told.append(Told(decode))
        return told[-1]

    return create


@pytest.mark.parametrize(
    ("parameters", "roll"),
    [
        ({"mode": "mono"}, 0.0),
        ({"mode": "mono", "rectify": True}, 20.0),
        ({"mode": "mono", "rectified_input": True}, 20.0),
        ({"mode": "stereo"}, 20.0),
    ],
)
def test_the_roll_is_that_of_the_image_that_features_are_of(
    start: Callable[..., Frontend], parameters: dict[str, Any], roll: float
) -> None:
    told: list[Told] = []
    frontend = start(keeping(told), upright="imu", **parameters)
    camera = turned((0.0, 0.0, 20.0))
    frontend.calibrate(camera, camera)
    assert isinstance(frontend.roll_source, ImuRoll)
    frontend.roll_source.update(imu_that_feels((0.0, 1.0, 0.0)))
    roles = ("image", "right") if parameters["mode"] == "stereo" else ("image",)
    frontend.process({role: gray_message(textured(1)) for role in roles})
    assert told[0].rolls == pytest.approx([roll] * len(roles))


def test_each_camera_of_several_has_its_own_roll(start: Callable[..., Frontend]) -> None:
    told: list[Told] = []
    rotations = [*quaternion_about_z(30.0), *quaternion_about_z(-70.0)]
    frontend = start(keeping(told), mode="multi", cameras=["front", "rear"], upright="imu", imu_rotation=rotations)
    frontend.roll_source.update(imu_that_feels((0.0, 1.0, 0.0)))
    frontend.process(*({"image": gray_message(textured(seed))} for seed in (1, 2)))
    assert told[0].rolls == pytest.approx([30.0, -70.0])
