# SPDX-License-Identifier: Apache-2.0
"""The cameras' roll, from a sensor_msgs/Imu topic or from tf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Imu

from ..geometry import pose_from_quaternion
from ..libraries import import_library
from ..transforms import RotationBuffer
from ..upright import GravityFilter, UprightError, roll_of
from .parameters import FrontendOptions
from .qos import volatile_qos
from .synchronization import stamp_ns

UNKNOWN = -1.0
"""The first entry of a covariance in sensor_msgs/Imu that says: this is not measured."""

_IMU_DEPTH = 200
_TF_DEPTH = 100
_DOWN = np.array((0.0, 0.0, -1.0))


class RollSource(Protocol):
    """Tells how far each camera is rolled; for use from several threads."""

    def subscribe(self, node: Node, warn: Callable[[str], None]) -> list[Any]:
        """Subscribe to what it needs; returns the subscriptions.

        Parameters
        ----------
        node
            Who subscribes.
        warn
            Called with a sentence where messages are of no use.
        """

    def roll(self, camera: int, message: Any, rectification: NDArray[np.float64] | None = None) -> float:
        """The roll of a camera in degrees; 0 where it looks along gravity and there is none to speak of.

        Parameters
        ----------
        camera
            Its index.
        message
            Its image, for the stamp and the frame.
        rectification
            (3, 3), from the camera's optical frame to that of its rectified image, if the features are of that one.

        Raises
        ------
        GCNv2Error
            If gravity's direction is not known for that time.
        """


def create_roll_source(options: FrontendOptions) -> RollSource | None:
    """What the parameter `upright` asks for; None: images are taken as they are.

    Raises
    ------
    MissingDependencyError, LibraryError
        If it is tf, and tf2_msgs is not installed, or is and cannot be imported.
    """
    if options.upright == "imu":
        return ImuRoll(options.imu_rotations)
    return TfRoll(options.upright_fixed_frame) if options.upright == "tf" else None


class ImuRoll:
    """The `RollSource` that follows gravity in the IMU's frame.

    Parameters
    ----------
    rotations
        For each camera the quaternion x, y, z, w that takes vectors from the IMU's frame to its optical frame.
    """

    def __init__(self, rotations: Sequence[Sequence[float]]) -> None:
        self._rotations = [pose_from_quaternion(np.zeros(3), rotation)[:3, :3] for rotation in rotations]
        self._filter = GravityFilter()

    def subscribe(self, node: Node, warn: Callable[[str], None]) -> list[Any]:
        """Subscribe to ``imu``; see `RollSource`."""

        def received(message: Imu) -> None:
            if not self.update(message):
                warn("the imu topic says that it measures no acceleration; images stay as they are")

        return [node.create_subscription(Imu, "imu", received, volatile_qos("best_effort", _IMU_DEPTH))]

    def update(self, message: Imu) -> bool:
        """Take a sensor_msgs/Imu; returns whether it measures acceleration at all.

        One without angular velocity (its first covariance is -1, as the message's description has it) serves too.
        """
        if message.linear_acceleration_covariance[0] == UNKNOWN:
            return False
        turning = None
        if message.angular_velocity_covariance[0] != UNKNOWN:
            turning = _array(message.angular_velocity)
        self._filter.update(stamp_ns(message), turning, _array(message.linear_acceleration))
        return True

    def roll(self, camera: int, message: Any, rectification: NDArray[np.float64] | None = None) -> float:
        """See `RollSource`."""
        gravity = self._filter.gravity_at(stamp_ns(message))
        if gravity is None:
            raise UprightError("the imu topic has nothing for its time stamp (is it published, and by the same clock?)")
        return _roll(self._rotations[camera] @ gravity, rectification)


class TfRoll:
    """The `RollSource` that looks up how the image's frame is turned in a frame whose z axis points up.

    Parameters
    ----------
    fixed_frame
        That frame.

    Raises
    ------
    MissingDependencyError, LibraryError
        If tf2_msgs is not installed, or is and cannot be imported.
    """

    def __init__(self, fixed_frame: str) -> None:
        self._fixed_frame = fixed_frame
        self._buffer = RotationBuffer()
        messages = import_library("tf2_msgs.msg", "upright: tf", "sudo apt install ros-$ROS_DISTRO-tf2-msgs")
        self._message_type: Any = messages.TFMessage

    def subscribe(self, node: Node, warn: Callable[[str], None]) -> list[Any]:
        """Subscribe to ``/tf`` and ``/tf_static``; see `RollSource`."""
        topics = {"/tf": DurabilityPolicy.VOLATILE, "/tf_static": DurabilityPolicy.TRANSIENT_LOCAL}
        return [
            node.create_subscription(
                self._message_type,
                topic,
                self._take_fixed if topic == "/tf_static" else self._take_moving,
                QoSProfile(
                    history=HistoryPolicy.KEEP_LAST,
                    depth=_TF_DEPTH,
                    reliability=ReliabilityPolicy.RELIABLE,
                    durability=durability,
                ),
            )
            for topic, durability in topics.items()
        ]

    def roll(self, camera: int, message: Any, rectification: NDArray[np.float64] | None = None) -> float:
        """See `RollSource`."""
        rotation = self._buffer.rotation(message.header.frame_id, self._fixed_frame, stamp_ns(message))
        return _roll(rotation @ _DOWN, rectification)

    def _take_moving(self, message: Any) -> None:
        for transform in message.transforms:
            self._buffer.add(transform, fixed=False)

    def _take_fixed(self, message: Any) -> None:
        for transform in message.transforms:
            self._buffer.add(transform, fixed=True)


def _roll(gravity: NDArray[np.float64], rectification: NDArray[np.float64] | None) -> float:
    return roll_of(gravity if rectification is None else rectification @ gravity) or 0.0


def _array(vector: Any) -> NDArray[np.float64]:
    return np.array([vector.x, vector.y, vector.z])
