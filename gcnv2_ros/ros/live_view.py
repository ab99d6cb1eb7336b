# SPDX-License-Identifier: Apache-2.0
"""What a running frontend sees, in Rerun: its image, features, points with depth, and the odometry's path."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, PointCloud2

from ..geometry import GeometryError, pose_from_quaternion
from ..messages.images import image_to_bgr
from ..messages.pixels import ImageError
from ..ros_names import full_node_name, full_topic_name
from ..stamps import nanoseconds_of
from ..visualisation import RerunView
from .features_msg import FeaturesMessageError, decode_features
from .qos import volatile_qos
from .running import init_ros

_WAIT = 0.1
_THROTTLE_SECONDS = 5.0


class LiveView(Node):
    """Subscribes and shows.

    Parameters
    ----------
    view
        Where to.
    node, image, odometry
        Full name of the frontend, topics of its image and of a nav_msgs/Odometry.
    """

    def __init__(self, view: RerunView, *, node: str, image: str, odometry: str) -> None:
        super().__init__("gcnv2_view")
        self._view = view
        self.frames = 0
        # Best effort is matched by every publisher; a viewer may miss a frame.
        qos = volatile_qos("best_effort", 5)
        self.create_subscription(Image, image, self._on_image, qos)
        self.create_subscription(PointCloud2, f"{node}/features", self._on_features, qos)
        self.create_subscription(Odometry, odometry, self._on_odometry, qos)

    def _on_image(self, message: Image) -> None:
        try:
            picture = image_to_bgr(message)
        except ImageError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=_THROTTLE_SECONDS)
            return
        self._at(message)
        self._view.show_image(picture)

    def _on_features(self, message: PointCloud2) -> None:
        try:
            received = decode_features(message)
        except FeaturesMessageError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=_THROTTLE_SECONDS)
            return
        self._at(message)
        self._view.show_features(received.features, received.rays)
        self.frames += 1

    def _on_odometry(self, message: Odometry) -> None:
        position, orientation = message.pose.pose.position, message.pose.pose.orientation
        try:
            pose = pose_from_quaternion(
                np.array((position.x, position.y, position.z)),
                np.array((orientation.x, orientation.y, orientation.z, orientation.w)),
            )
        except GeometryError as error:
            self.get_logger().warning(
                f"an odometry message is not shown: {error}", throttle_duration_sec=_THROTTLE_SECONDS
            )
            return
        self._at(message)
        self._view.show_pose(pose)

    def _at(self, message: Image | PointCloud2 | Odometry) -> None:
        self._view.set_time(nanoseconds_of(message.header.stamp))


def run_live(*, node: str, image: str, odometry: str, out: Path | None = None, seconds: float | None = None) -> int:
    """Show the topics until Ctrl-C, or for some seconds; returns how many frames' features came.

    Parameters
    ----------
    node, image, odometry
        As for `LiveView`; the slash before each name may be missing.
    out
        Rerun file to write; None: the viewer.
    seconds
        None: until the context is shut down.

    Raises
    ------
    RosNameError
        If no node or topic can have the name.
    RosStartError
        If ROS cannot start.
    """
    node, image, odometry = full_node_name(node), full_topic_name(image), full_topic_name(odometry)
    own_context = not rclpy.ok()
    if own_context:
        init_ros()
    with RerunView(out) as view:
        live = LiveView(view, node=node, image=image, odometry=odometry)
        executor = SingleThreadedExecutor()
        executor.add_node(live)
        end = None if seconds is None else time.monotonic() + seconds
        try:
            while rclpy.ok() and (end is None or time.monotonic() < end):
                executor.spin_once(timeout_sec=_WAIT)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            executor.shutdown()
            live.destroy_node()
            if own_context:
                rclpy.try_shutdown()
    return live.frames
