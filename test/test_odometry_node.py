# SPDX-License-Identifier: Apache-2.0
"""The odometry node as its users meet it: a process of its own, real DDS, features in, motion out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("gtsam", reason="gtsam is not installed")

from nav_msgs.msg import Odometry as OdometryMessage
from nav_msgs.msg import Path as PathMessage
from ros_helpers import REPOSITORY, TIMEOUT, Probe
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from tf2_messages import environment_with_tf2_msgs, folder_for_tf2_msgs

from gcnv2_ros.camera import Camera
from gcnv2_ros.features import Features
from gcnv2_ros.geometry import invert_pose, pose_from_quaternion, transform_points
from gcnv2_ros.ros.features_msg import encode_features
from gcnv2_ros.ros.odometry_parameters import ODOMETRY_PARAMETERS
from gcnv2_ros.ros.parameter_spec import ParameterSpec
from gcnv2_ros.ros.ray_camera import camera_of_rays
from gcnv2_ros.vocabulary import Scoring, save_vocabulary, train_vocabulary

NAME = "/gcnv2_odometry"
CAMERA = Camera(640, 480, 500.0, 510.0, 310.0, 250.0, "plumb_bob", (0.1, -0.05, 0.001, -0.001, 0.0))
STEP = 0.01

_RNG = np.random.default_rng(0)
POINTS = _RNG.uniform((-1.0, -0.7, 2.0), (1.0, 0.7, 3.0), (300, 3))
DESCRIPTORS = _RNG.integers(0, 256, (300, 32), dtype=np.uint8)
NONE = slice(0, 0)


def message_at(
    step: int,
    *,
    with_rays: bool = True,
    keypoints: slice | np.ndarray = slice(None),
    descriptors: np.ndarray = DESCRIPTORS,
    late_ns: int = 0,
) -> PointCloud2:
    """Features of a camera that moves `STEP` metres to the right with each step, one step a tenth of a second."""
    pose = np.eye(4)
    pose[0, 3] = STEP * step
    stamp_ns = 10_000_000_000 + step * 100_000_000 - late_ns
    return message_from(pose, stamp_ns, with_rays=with_rays, keypoints=keypoints, descriptors=descriptors)


def message_from(
    pose: np.ndarray,
    stamp_ns: int,
    *,
    with_rays: bool = True,
    keypoints: slice | np.ndarray = slice(None),
    descriptors: np.ndarray = DESCRIPTORS,
) -> PointCloud2:
    """Features of a camera at a pose, optical frame to world."""
    local = transform_points(invert_pose(pose), POINTS)
    features = Features(
        CAMERA.project(local),
        np.ones(len(local)),
        descriptors,
        (CAMERA.width, CAMERA.height),
        "hamming" if descriptors.dtype == np.uint8 else "l2",
        depth=local[:, 2],
    ).select(keypoints)
    header = Header(frame_id="camera_optical")
    header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return encode_features(features, header, CAMERA.rays(features.uv) if with_rays else None)


class OdometryProcess:
    """``gcnv2_odometry`` as a process, with parameters, or remappings such as ``__ns:=/name``."""

    def __init__(self, log: Path, *parameters: str) -> None:
        command = [sys.executable, "-m", "gcnv2_ros.ros.odometry_node", "--ros-args"]
        for parameter in parameters:
            command += ["-r" if parameter.startswith("__") else "-p", parameter]
        environment = {**os.environ, "RCUTILS_LOGGING_USE_STDOUT": "1", "RCUTILS_LOGGING_BUFFERED_STREAM": "0"}
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)

    @property
    def log(self) -> str:
        """What the process has printed."""
        return self._log.read_text()


@contextlib.contextmanager
def odometry_node(log: Path, *parameters: str, signals: Sequence[int] = (signal.SIGINT,)) -> Iterator[OdometryProcess]:
    """The process for the time of a block, after which it must end in good order when it is told to."""
    node = OdometryProcess(log, *parameters)
    try:
        yield node
        for number in signals:
            node.process.send_signal(number)
        assert node.process.wait(TIMEOUT) == 0, node.log
    finally:
        node.process.kill()
        node.process.wait()
    assert "Traceback" not in node.log, node.log


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    with Probe(NAME) as probe:
        yield probe


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OdometryProcess]:
    log = tmp_path_factory.mktemp("odometry") / "log.txt"
    with odometry_node(log, "queue:=all", "odom_frame:=world", "path_length:=5", "publish_tf:=true") as node:
        yield node


@dataclass(frozen=True)
class Streams:
    """A publisher of features, and what the node makes of them."""

    features: Any
    odometry: list[OdometryMessage]
    paths: list[PathMessage]
    clouds: list[PointCloud2]

    def clear(self) -> None:
        """Forget what has come."""
        for messages in (self.odometry, self.paths, self.clouds):
            messages.clear()


@pytest.fixture(scope="module")
def connected(node: OdometryProcess, probe: Probe) -> Streams:
    """Streams through which messages have come already: both sides find each other at different times.

    The camera stands still meanwhile, before the time of `message_at`.
    """
    streams = Streams(
        probe.publisher(PointCloud2, "/features"),
        probe.collect(OdometryMessage, f"{NAME}/odometry"),
        probe.collect(PathMessage, f"{NAME}/path"),
        probe.collect(PointCloud2, f"{NAME}/map_points"),
    )
    # Messages without rays do not start the map.
    probe.wait_for(
        lambda: "no viewing rays" in node.log,
        "a word on missing rays",
        meanwhile=lambda: streams.features.publish(message_at(0, with_rays=False)),
    )
    assert not streams.odometry
    sent: list[PointCloud2] = []

    def send() -> None:
        # Where so many are gone there is a new keyframe, with which come the map's points.
        keypoints = slice(150) if len(sent) % 2 else slice(None)
        sent.append(message_at(0, keypoints=keypoints, late_ns=100_000_000 - len(sent) * 1_000_000))
        streams.features.publish(sent[-1])

    probe.wait_for(
        lambda: (
            streams.paths and streams.clouds and streams.odometry
            and streams.odometry[-1].header.stamp == sent[-1].header.stamp
        ),
        "poses, a path and points",
        meanwhile=send,
    )  # fmt: skip
    return streams


@pytest.fixture
def streams(connected: Streams) -> Streams:
    """For the messages of one test."""
    connected.clear()
    return connected


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["once", "twice"])
def test_it_ends_in_good_order_however_it_is_told_to(tmp_path: Path, probe: Probe, signals: list[int]) -> None:
    with odometry_node(tmp_path / "log.txt", "path_length:=5", signals=signals):
        probe.wait_for(lambda: probe.node.count_publishers(f"{NAME}/path"), "the node")


def test_what_ros_cannot_read_is_told_in_a_line(tmp_path: Path) -> None:
    node = OdometryProcess(tmp_path / "log.txt", "path_length")
    assert node.process.wait(TIMEOUT) == 1
    assert "gcnv2_odometry" in node.log
    assert "cannot start" in node.log
    assert "Traceback" not in node.log, node.log


def pose_of(message: OdometryMessage) -> np.ndarray:
    position, turn = message.pose.pose.position, message.pose.pose.orientation
    return pose_from_quaternion((position.x, position.y, position.z), (turn.x, turn.y, turn.z, turn.w))


def test_features_give_odometry_path_and_map_points(probe: Probe, streams: Streams) -> None:
    features, odometry, paths, clouds = streams.features, streams.odometry, streams.paths, streams.clouds
    features.publish(message_at(1, keypoints=NONE))
    for step in range(2, 12):
        features.publish(message_at(step, keypoints=slice(150) if step == 11 else slice(None)))
    probe.wait_for(lambda: len(odometry) == 10 and paths and clouds, "ten poses, a path and points")

    assert [message.header.stamp.nanosec for message in odometry[:3]] == [200_000_000, 300_000_000, 400_000_000]
    assert {(message.header.frame_id, message.child_frame_id) for message in odometry} == {("world", "camera_optical")}
    first, last = pose_of(odometry[0]), pose_of(odometry[-1])
    # The camera looks along x of the odometry's frame, its right is -y, its down is -z.
    np.testing.assert_allclose(first[:3, :3], [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-6)
    np.testing.assert_allclose(last[:3, 3] - first[:3, 3], (0.0, -9 * STEP, 0.0), atol=1e-3)
    velocity = odometry[-1].twist.twist.linear
    np.testing.assert_allclose((velocity.x, velocity.y, velocity.z), (STEP / 0.1, 0.0, 0.0), atol=1e-2)

    probe.wait_for(lambda: paths[-1].header.stamp.sec == 11, "the path up to the end")
    assert len(paths[-1].poses) == 5
    assert paths[-1].header.frame_id == "world"
    points = np.frombuffer(bytes(clouds[-1].data), "<f4").reshape(-1, 3)
    assert (clouds[-1].header.frame_id, clouds[-1].width) == ("world", len(points))
    assert len(points) > 250
    assert points[:, 0].min() > 1.9


def test_a_loss_is_a_gap_and_a_jump_back_in_time_a_new_start(
    node: OdometryProcess, probe: Probe, streams: Streams
) -> None:
    features, odometry = streams.features, streams.odometry
    features.publish(message_at(20, keypoints=NONE))
    features.publish(message_at(21))
    probe.wait_for(lambda: odometry, "the pose after the loss")
    assert odometry[0].header.stamp.sec == 12
    assert "lost: 0 features" in node.log
    for step in (3, 4):
        features.publish(message_at(step))
    probe.wait_for(lambda: len(odometry) == 2, "the pose of the new start")
    assert odometry[1].header.stamp.nanosec == 400_000_000, "the second message tells that time has jumped"
    np.testing.assert_allclose(pose_of(odometry[1])[:3, 3], 0.0, atol=1e-9)
    assert "time went back" in node.log
    stamp = odometry[1].header.stamp
    probe.wait_for(lambda: streams.paths and streams.paths[-1].header.stamp == stamp, "the path of the new start")
    assert [pose.header.stamp for pose in streams.paths[-1].poses] == [stamp]


def test_a_message_that_comes_late_is_dropped_and_the_map_stays(
    node: OdometryProcess, probe: Probe, streams: Streams
) -> None:
    features, odometry = streams.features, streams.odometry
    for message in (
        message_at(26),
        message_at(27),
        message_at(26, late_ns=1_000_000),
        message_at(27),
        message_at(28),
    ):
        features.publish(message)
    probe.wait_for(lambda: len(odometry) == 3, "the poses of what comes in its turn")
    assert [message.header.stamp.nanosec for message in odometry] == [600_000_000, 700_000_000, 800_000_000]
    first, last = pose_of(odometry[0]), pose_of(odometry[-1])
    np.testing.assert_allclose(last[:3, 3] - first[:3, 3], (0.0, -2 * STEP, 0.0), atol=1e-3)
    assert "101 ms before that of the latest one" in node.log
    assert "does the driver stamp its images?" in node.log


def test_messages_of_a_second_source_far_off_in_time_leave_the_map_as_it_is(
    node: OdometryProcess, probe: Probe, streams: Streams
) -> None:
    features, odometry = streams.features, streams.odometry
    for step in (29, 30, 31):
        features.publish(message_at(step))
        features.publish(message_at(step, late_ns=12_000_000_000))
        features.publish(message_at(step, late_ns=-1_000_000_000_000) if step == 30 else message_at(step))
    probe.wait_for(lambda: len(odometry) == 3, "the poses of the first source")
    assert [message.header.stamp.nanosec for message in odometry] == [900_000_000, 0, 100_000_000]
    first, last = pose_of(odometry[0]), pose_of(odometry[-1])
    np.testing.assert_allclose(last[:3, 3] - first[:3, 3], (0.0, -2 * STEP, 0.0), atol=1e-3)
    assert "that of the latest one; time has jumped only if the next message goes on from it" in node.log


def test_descriptors_of_another_kind_are_a_new_start(node: OdometryProcess, probe: Probe, streams: Streams) -> None:
    features, odometry = streams.features, streams.odometry
    floats = np.random.default_rng(1).standard_normal((300, 16)).astype(np.float32)
    for step in (32, 33):
        features.publish(message_at(step, descriptors=floats))
    probe.wait_for(lambda: len(odometry) == 2, "the poses of the new start")
    np.testing.assert_allclose(pose_of(odometry[0])[:3, 3], 0.0, atol=1e-9)
    np.testing.assert_allclose(pose_of(odometry[1])[:3, 3], (0.0, -STEP, 0.0), atol=1e-3)
    assert "the descriptors are 16 columns compared by l2, before 32 compared by hamming" in node.log


def test_a_start_says_what_it_waits_for_and_covariances_what_is_known(tmp_path: Path, probe: Probe) -> None:
    words = tmp_path / "words.txt"
    save_vocabulary(train_vocabulary([DESCRIPTORS[:150], DESCRIPTORS[150:]], branching=4, depth=2), words)
    wide = np.random.default_rng(1).integers(0, 256, (300, 64), dtype=np.uint8)
    log = tmp_path / "log.txt"
    with odometry_node(
        log, "queue:=all", "position_sigma:=0.5", "rotation_sigma:=0.1", f"vocabulary:={words}", "__ns:=/second"
    ) as node:
        odometry = probe.collect(OdometryMessage, "/second/gcnv2_odometry/odometry")
        features = probe.publisher(PointCloud2, "/second/features")
        column = np.flatnonzero(np.abs(CAMERA.project(POINTS)[:, 0] - 310) < 15)
        for keypoints, words_of_log in (
            (slice(0, 5), "of 5 features 5 have viewing rays"),
            (column, "the features with viewing rays lie within"),
        ):
            probe.wait_for(
                lambda text=words_of_log: text in node.log,
                words_of_log,
                meanwhile=lambda chosen=keypoints: features.publish(message_at(0, keypoints=chosen)),
            )
        assert not odometry
        for step in range(1, 4):
            features.publish(message_at(step, descriptors=wide))
        probe.wait_for(lambda: len(odometry) == 3, "the poses")
        assert node.log.count("no loops are closed: the vocabulary is for binary descriptors of 32 bytes") == 1
        pose = np.reshape(odometry[1].pose.covariance, (6, 6))
        np.testing.assert_allclose(pose, np.diag([0.25] * 3 + [0.01] * 3))
        # Nothing has measured the velocity of the first frame; afterwards it is the difference of two poses.
        unknown, known = (np.reshape(message.twist.covariance, (6, 6)) for message in odometry[:2])
        np.testing.assert_allclose(unknown, 1e6 * np.eye(6))
        np.testing.assert_allclose(known, 2 * pose / 0.1**2, rtol=1e-6)


def test_a_vocabulary_for_other_scores_ends_the_node_with_a_sentence(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    vocabulary = train_vocabulary([DESCRIPTORS[:150], DESCRIPTORS[150:]], branching=4, depth=2)
    save_vocabulary(replace(vocabulary, scoring=Scoring.L2_NORM), words)
    node = OdometryProcess(tmp_path / "log.txt", f"vocabulary:={words}")
    assert node.process.wait(TIMEOUT) == 1
    assert "asks for the scoring L2_NORM" in node.log
    assert "Traceback" not in node.log


# One step of a camera that turns about all axes while it moves to the side and ahead.
TURN = np.radians((1.0, -2.5, 1.5))
ADVANCE = np.array((0.04, -0.02, 0.03))


def turning_pose(step: int) -> np.ndarray:
    """Optical frame to world after so many equal steps."""
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = cv2.Rodrigues(TURN)[0], ADVANCE
    return np.linalg.matrix_power(motion, step)


def test_a_turning_camera_has_the_true_pose_and_a_twist_in_its_own_frame(probe: Probe, streams: Streams) -> None:
    # Messages of long before are a new start with the second one, which is at the world's origin.
    for step in range(-1, 5):
        streams.features.publish(message_from(turning_pose(max(step, 0)), 5_000_000_000 + step * 100_000_000))
    probe.wait_for(lambda: len(streams.odometry) == 5, "the poses")
    body = np.eye(4)
    body[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    # What moves on by equal steps has the same motion in the frame before and, turned back, in its own.
    linear = cv2.Rodrigues(TURN)[0].T @ ADVANCE / 0.1
    for step, message in enumerate(streams.odometry):
        np.testing.assert_allclose(pose_of(message), body @ turning_pose(step), atol=1e-3)
        if step:
            twist = message.twist.twist
            found = [getattr(vector, axis) for vector in (twist.linear, twist.angular) for axis in "xyz"]
            np.testing.assert_allclose(found, [*linear, *(TURN / 0.1)], atol=5e-3)


# Prints the transforms that it gets, one a line: frames, seconds, nanoseconds, place and quaternion.
LISTENER = """
import json
import rclpy
from tf2_msgs.msg import TFMessage
rclpy.init()
node = rclpy.create_node("listener")
def tell(message):
    for one in message.transforms:
        place, turn, stamp = one.transform.translation, one.transform.rotation, one.header.stamp
        numbers = [place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w]
        print(json.dumps([one.header.frame_id, one.child_frame_id, stamp.sec, stamp.nanosec, numbers]), flush=True)
node.create_subscription(TFMessage, "/tf", tell, 100)
rclpy.spin(node)
"""


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The file that transforms are written to; processes that are started from now on have tf2_msgs."""
    for name, value in environment_with_tf2_msgs(folder_for_tf2_msgs(request.config, tmp_path)).items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "transforms.txt").open("w") as output:
        process = subprocess.Popen([sys.executable, "-c", LISTENER], stdout=output)
    yield tmp_path / "transforms.txt"
    process.kill()
    process.wait()


def test_transforms_are_those_of_the_poses(tmp_path: Path, probe: Probe, listener: Path) -> None:
    with odometry_node(tmp_path / "log.txt", "queue:=all", "vocabulary:=none", "__ns:=/third"):
        odometry = probe.collect(OdometryMessage, "/third/gcnv2_odometry/odometry")
        features = probe.publisher(PointCloud2, "/third/features")
        sent: list[PointCloud2] = []

        def send() -> None:
            sent.append(message_from(turning_pose(min(len(sent), 8)), 5_000_000_000 + len(sent) * 100_000_000))
            features.publish(sent[-1])

        def common() -> dict[tuple[int, int], list[Any]]:
            """The transforms of a turned camera by their stamps, of which there are poses too."""
            stamps = {(message.header.stamp.sec, message.header.stamp.nanosec) for message in odometry[1:]}
            rows = [json.loads(line) for line in listener.read_text().splitlines(keepends=True) if line.endswith("\n")]
            return {(row[2], row[3]): row for row in rows if (row[2], row[3]) in stamps}

        rows = probe.wait_for(common, "a transform", meanwhile=send)
        for message in odometry:
            if row := rows.get((message.header.stamp.sec, message.header.stamp.nanosec)):
                assert row[:2] == ["odom", "camera_optical"]
                pose = pose_from_quaternion(row[4][:3], row[4][3:])
                np.testing.assert_allclose(pose, pose_of(message), atol=1e-9)
                assert np.abs(pose[:3, :3] - [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]).max() > 0.01


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("window:=1", "the parameter 'window' must be in 2 to 100, got 1"),
        ("queue:=5", "the parameter 'queue' must be of the type string, got 5"),
        ("vocabulary:=/", "cannot read the vocabulary /"),
        ("vocabulary:=~nobody-of-this-name/words", "there is no home folder ~nobody-of-this-name"),
        (
            "vocabulary:=gcnv2_tinny",
            "the parameter 'vocabulary' must be none, default, gcnv2, gcnv2_tiny or a file, and there is no file "
            "'gcnv2_tinny'",
        ),
    ],
)
def test_a_wrong_parameter_ends_the_node_with_a_sentence(tmp_path: Path, parameter: str, sentence: str) -> None:
    node = OdometryProcess(tmp_path / "log.txt", parameter)
    assert node.process.wait(TIMEOUT) == 1
    assert "cannot start" in node.log
    assert sentence in node.log
    assert "Traceback" not in node.log


def test_a_misspelt_parameter_is_pointed_out(tmp_path: Path, probe: Probe) -> None:
    with odometry_node(tmp_path / "log.txt", "windw:=5", "use_sim_time:=false") as node:
        probe.wait_for(lambda: "active: features" in node.log, "the node")
        assert "'windw' is not one of this node's and is ignored; did you mean 'window'?" in node.log
        assert "use_sim_time" not in node.log


def test_parameters_of_the_frontend_in_a_common_file_are_no_misspellings(tmp_path: Path, probe: Probe) -> None:
    with odometry_node(tmp_path / "log.txt", "max_keypoints:=500", "model:=gcnv2", "queue:=all") as node:
        probe.wait_for(lambda: "active: features" in node.log, "the node")
        assert "those of the one beside it, and ignored here: max_keypoints, model\n" in node.log
        assert "is not one of this node's" not in node.log


@pytest.mark.parametrize("spec", ODOMETRY_PARAMETERS, ids=lambda spec: spec.name)
def test_every_parameter_is_described(spec: ParameterSpec) -> None:
    assert spec.checked(spec.default) == spec.default
    assert spec.description.endswith(".")
    assert spec.descriptor().read_only
    documented = (REPOSITORY / "docs" / "odometry.md").read_text()
    assert f"`{spec.name}`" in documented


def test_the_camera_follows_from_rays() -> None:
    pinhole = Camera(640, 480, 500.0, 510.0, 310.0, 250.0)
    uv = np.random.default_rng(0).uniform(0, 479, (50, 2))
    fitted = camera_of_rays(uv, pinhole.rays(uv))
    np.testing.assert_allclose((fitted.fx, fitted.fy, fitted.cx, fitted.cy), (500, 510, 310, 250), rtol=1e-4)


@pytest.mark.parametrize("angle", [150.0, 180.0])
def test_rays_near_ninety_degrees_do_not_decide_the_focal_lengths_alone(angle: float) -> None:
    focal = 320 / np.radians(angle / 2)
    fisheye = Camera(640, 480, focal, focal, 319.5, 239.5, "equidistant")
    uv = np.random.default_rng(0).uniform((0, 0), (639, 479), (800, 2)).astype(np.float32)
    rays = fisheye.rays(uv)
    known = np.isfinite(rays).all(axis=1)
    fitted = camera_of_rays(uv[known], rays[known])
    assert 0.6 * focal < min(fitted.fx, fitted.fy)
    assert max(fitted.fx, fitted.fy) < 1.1 * focal
    np.testing.assert_allclose((fitted.cx, fitted.cy), (319.5, 239.5), atol=5)
