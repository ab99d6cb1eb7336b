# SPDX-License-Identifier: Apache-2.0
"""The node ``gcnv2_odometry``: features with depth in, the camera's motion out.

It needs nothing but the features messages: their viewing rays stand for the calibration. The subscription's history is
the queue: while one frame is worked on, the middleware keeps the newest that came meanwhile, or all of them.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import Point, PoseStamped, Quaternion, TransformStamped, Twist, Vector3
from nav_msgs.msg import Odometry as OdometryMessage
from nav_msgs.msg import Path as PathMessage
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from ..camera import Camera
from ..errors import GCNv2Error
from ..features import DESCRIPTOR_BYTES
from ..files import user_path
from ..geometry import quaternion_of, transform_points
from ..messages.clouds import float_points
from ..odometry import Odometry, OdometryOptions, TrackResult
from ..odometry.recognition import DESCRIPTORS_WITH_WORDS
from ..succession import Step, Succession
from ..vocabulary import Vocabulary, load_vocabulary, shipped_vocabularies
from ..vocabulary.storage import DEFAULT_SOURCE
from .cloud_msg import cloud_message
from .declaration import declare_parameters
from .features_msg import ReceivedFeatures, decode_features
from .odometry_parameters import ODOMETRY_PARAMETERS
from .parameter_spec import ParameterError
from .parameter_table import PARAMETERS
from .qos import volatile_qos
from .ray_camera import camera_of_rays, lack_of_rays
from .reporting import Throttle, more_of_kind
from .running import run_node

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # Where ROS 2 comes from a package index, it has no wheel.
    TFMessage = None

NODE_NAME = "gcnv2_odometry"

_THROTTLE_SECONDS = 5.0
# Of a velocity that nothing has measured, (m/s)^2 and (rad/s)^2.
_UNKNOWN_VARIANCE = 1e6

# Axes of the first optical frame (x right, y down, z forward) as a body's (x forward, y left, z up; REP 103).
_BODY_FROM_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)

_OPTION_NAMES = (
    "min_inliers", "search_radius", "max_hamming_distance", "inverse_depth_sigma", "max_depth", "window",
    "max_keyframes",
)  # fmt: skip
_QUEUE_DEPTHS = {"latest": 1, "all": 2000}


def _vocabulary(source: str) -> Vocabulary | None:
    if source == "none":
        return None
    if source in shipped_vocabularies():
        return load_vocabulary("default", model=source)
    if source != DEFAULT_SOURCE and not user_path(source, ParameterError).exists():
        known = ", ".join(("none", DEFAULT_SOURCE, *shipped_vocabularies()))
        raise ParameterError(f"the parameter 'vocabulary' must be {known} or a file, and there is no file {source!r}")
    return load_vocabulary(source)


class OdometryNode(Node):
    """The node; see the module's description and `ODOMETRY_PARAMETERS`.

    Raises
    ------
    GCNv2Error
        If a parameter is wrong, the vocabulary cannot be read, or gtsam is not installed.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__(NODE_NAME, automatically_declare_parameters_from_overrides=True, **node_arguments)
        # Of each parameter's own type, which is any of several to a type checker.
        values: dict[str, Any] = declare_parameters(self, ODOMETRY_PARAMETERS, partner=lambda: PARAMETERS)
        self._odom_frame = str(values["odom_frame"])
        self._path_length = int(values["path_length"])
        self._pose_variance = np.repeat([values["position_sigma"], values["rotation_sigma"]], 3) ** 2
        self._options = OdometryOptions(**{name: values[name] for name in _OPTION_NAMES})
        self._vocabulary = _vocabulary(str(values["vocabulary"]))
        # Made from the first message with rays; now only to fail early if something is missing or wrong.
        Odometry(Camera(2, 2, 1.0, 1.0, 0.5, 0.5), self._options, vocabulary=self._vocabulary)
        self._odometry: Odometry | None = None
        self._succession = Succession()
        self._throttle = Throttle(_THROTTLE_SECONDS)
        self._path: list[PoseStamped] = []
        self._transforms: Any = None
        if values["publish_tf"] and TFMessage is None:
            self.get_logger().warning("tf2_msgs is not installed, so no transform is published; publish_tf: false")
        elif values["publish_tf"]:
            self._transforms = self.create_publisher(TFMessage, "/tf", volatile_qos("reliable", 100))
        self._poses = self.create_publisher(OdometryMessage, "~/odometry", volatile_qos("reliable", 100))
        self._paths = self.create_publisher(PathMessage, "~/path", volatile_qos("reliable", 1))
        self._points = self.create_publisher(PointCloud2, "~/map_points", volatile_qos("reliable", 1))
        qos = volatile_qos(str(values["subscribe_reliability"]), _QUEUE_DEPTHS[str(values["queue"])])
        subscription = self.create_subscription(PointCloud2, "features", self._on_features, qos)
        self.get_logger().info(f"active: features from {subscription.topic_name}")

    def _on_features(self, message: PointCloud2) -> None:
        try:
            received = decode_features(message)
            if self._goes_on(received):
                self._odometry = self._odometry or self._begin(received)
                if self._odometry is not None:
                    self._track(self._odometry, received)
        except GCNv2Error as error:
            self.get_logger().error(f"a features message is dropped: {error}", throttle_duration_sec=_THROTTLE_SECONDS)

    def _goes_on(self, received: ReceivedFeatures) -> bool:
        """Whether to track the message; what no longer goes with the map has it forgotten."""
        verdict = self._succession.judge(received.stamp_ns)
        if verdict.step is Step.GOES_BACK:
            self._start_anew(verdict.step.value, verdict.sentence)
        elif not verdict.counts:
            self._warn(verdict.step.value, f"a features message is dropped: {verdict.sentence}")
            return False
        before = None if self._odometry is None else self._odometry.descriptor_kind
        (metric, width), count = received.features.kind, len(received.features)
        if count and before is not None and before != (metric, width):
            self._start_anew(
                "other descriptors",
                f"the descriptors are {width} columns compared by {metric}, before {before[1]} compared by {before[0]}",
            )
        return True

    def _start_anew(self, kind: str, reason: str) -> None:
        self._warn(kind, f"{reason}: the odometry starts anew")
        self._odometry = None
        self._succession.restart()
        self._path.clear()

    def _warn(self, kind: str, sentence: str) -> None:
        """Log what may come again and again: the first of each kind at once, then only now and then."""
        held_back = self._throttle.admit(kind)
        if held_back is not None:
            self.get_logger().warning(sentence + more_of_kind(held_back))

    def _begin(self, received: ReceivedFeatures) -> Odometry | None:
        """The odometry for the camera that the rays tell; None if they do not."""
        features = received.features
        known = np.asarray(np.isfinite(received.rays).all(axis=1))
        uv, rays = features.uv[known], received.rays[known]
        if lack := lack_of_rays(len(features), uv):
            self.get_logger().warning(lack, throttle_duration_sec=_THROTTLE_SECONDS)
            return None
        if self._vocabulary is not None and features.kind != DESCRIPTORS_WITH_WORDS:
            metric, width = features.kind
            self.get_logger().warning(
                f"no loops are closed: the vocabulary is for binary descriptors of {DESCRIPTOR_BYTES} bytes, those of "
                f"the features are {width} columns compared by {metric}; set vocabulary to none, or the frontend's "
                "model to one with such descriptors"
            )
        return Odometry(camera_of_rays(uv, rays), self._options, vocabulary=self._vocabulary)

    def _track(self, odometry: Odometry, received: ReceivedFeatures) -> None:
        features = received.features
        result = odometry.track(features, received.stamp_ns, rays=received.rays)
        if result.loop:
            self.get_logger().info(f"a loop is closed; the map has {len(odometry.keyframes)} keyframes")
        if result.pose is None:
            known = int(np.isfinite(features.depth).sum())
            self.get_logger().warning(
                f"lost: {len(features)} features, {known} with depth", throttle_duration_sec=_THROTTLE_SECONDS
            )
        else:
            self._publish(odometry, result, result.pose, received.header)
        self._succession.advance(received.stamp_ns)

    def _publish(self, odometry: Odometry, result: TrackResult, optical: NDArray[np.float64], header: Header) -> None:
        pose = _BODY_FROM_OPTICAL @ optical
        stamped = Header(stamp=header.stamp, frame_id=self._odom_frame)
        message = OdometryMessage(header=stamped, child_frame_id=header.frame_id)
        message.pose.pose.position, message.pose.pose.orientation = _position(pose), _orientation(pose)
        message.pose.covariance = np.diag(self._pose_variance).ravel()
        twist_variance = np.full(6, _UNKNOWN_VARIANCE)
        if odometry.motion is not None:
            motion, seconds = odometry.motion
            message.twist.twist = _twist(motion, seconds)
            # Of the difference of two poses.
            twist_variance = 2 * self._pose_variance / seconds**2
        message.twist.covariance = np.diag(twist_variance).ravel()
        self._poses.publish(message)
        if self._transforms is not None:
            transform = TransformStamped(header=stamped, child_frame_id=header.frame_id)
            transform.transform.translation = Vector3(x=pose[0, 3], y=pose[1, 3], z=pose[2, 3])
            transform.transform.rotation = _orientation(pose)
            self._transforms.publish(TFMessage(transforms=[transform]))
        if self._path_length:
            self._path.append(PoseStamped(header=stamped, pose=message.pose.pose))
            del self._path[: -self._path_length]
            if self._paths.get_subscription_count():
                self._paths.publish(PathMessage(header=stamped, poses=self._path))
        if result.keyframe and self._points.get_subscription_count():
            x, y, z = transform_points(_BODY_FROM_OPTICAL, odometry.points).T
            self._points.publish(cloud_message(float_points(x=x, y=y, z=z), stamped, is_dense=True))


def _position(pose: NDArray[np.float64]) -> Point:
    return Point(x=pose[0, 3], y=pose[1, 3], z=pose[2, 3])


def _orientation(pose: NDArray[np.float64]) -> Quaternion:
    x, y, z, w = quaternion_of(pose[:3, :3])
    return Quaternion(x=x, y=y, z=z, w=w)


def _twist(motion: NDArray[np.float64], seconds: float) -> Twist:
    """Mean velocity of a motion (the later frame in the earlier one), in the later optical frame."""
    linear = motion[:3, :3].T @ motion[:3, 3] / seconds
    angular = cv2.Rodrigues(motion[:3, :3])[0].ravel() / seconds
    return Twist(
        linear=Vector3(x=linear[0], y=linear[1], z=linear[2]),
        angular=Vector3(x=angular[0], y=angular[1], z=angular[2]),
    )


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code, see `gcnv2_ros.ros.running.run_node`."""
    return run_node(NODE_NAME, OdometryNode, arguments=args)


if __name__ == "__main__":
    raise SystemExit(main())
