# SPDX-License-Identifier: Apache-2.0
"""The cameras' roll from a sensor_msgs/Imu topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import pose_from_quaternion
from ..upright import GravityFilter, roll_of

UNKNOWN = -1.0
"""The first entry of a covariance in sensor_msgs/Imu that says: this is not measured."""


class ImuRoll:
    """Follows gravity in the IMU's frame and tells the roll of each camera; for use from several threads.

    Parameters
    ----------
    rotations
        For each camera the quaternion x, y, z, w that takes vectors from the IMU's frame to its optical frame.
    """

    def __init__(self, rotations: Sequence[Sequence[float]]) -> None:
        self._rotations = [pose_from_quaternion(np.zeros(3), rotation)[:3, :3] for rotation in rotations]
        self._filter = GravityFilter()

    def update(self, message: Any) -> bool:
        """Take a sensor_msgs/Imu; returns whether it measures acceleration at all.

        One without angular velocity (its first covariance is -1, as the message's description has it) serves too.
        """
        if message.linear_acceleration_covariance[0] == UNKNOWN:
            return False
        stamp = message.header.stamp
        turning = None
        if message.angular_velocity_covariance[0] != UNKNOWN:
            turning = _array(message.angular_velocity)
        self._filter.update(stamp.sec * 1_000_000_000 + stamp.nanosec, turning, _array(message.linear_acceleration))
        return True

    def roll(self, camera: int, stamp_ns: int, rectification: NDArray[np.float64] | None = None) -> float | None:
        """The roll of a camera at a time in degrees; None while it is not known.

        Parameters
        ----------
        camera
            Its index.
        stamp_ns
            Nanoseconds, by the clock of the IMU's stamps.
        rectification
            (3, 3), from the camera's frame to that of its rectified image, if the image is rectified.

        Returns
        -------
        float or None
            0 for a camera that looks along gravity, where there is no roll to speak of.
        """
        gravity = self._filter.gravity_at(stamp_ns)
        if gravity is None:
            return None
        gravity = self._rotations[camera] @ gravity
        if rectification is not None:
            gravity = rectification @ gravity
        return roll_of(gravity) or 0.0


def _array(vector: Any) -> NDArray[np.float64]:
    return np.array([vector.x, vector.y, vector.z])
