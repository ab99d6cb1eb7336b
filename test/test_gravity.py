# SPDX-License-Identifier: Apache-2.0
"""The roll from messages of an IMU, without a ROS graph."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from sensor_msgs.msg import Image, Imu

from gcnv2_ros.ros.gravity import UNKNOWN, ImuRoll
from gcnv2_ros.ros.image_messages import stamp_message
from gcnv2_ros.upright import UprightError

SAME_FRAME = (0.0, 0.0, 0.0, 1.0)
# Of an IMU whose x axis points forward and z axis up, on a camera that looks forward.
OF_BASE = (0.5, -0.5, 0.5, 0.5)


def imu_at(
    milliseconds: int, acceleration: tuple[float, float, float], rate: tuple[float, float, float] | None = None
) -> Imu:
    """A measurement; without a rate the message says that there is no gyroscope."""
    message = Imu()
    message.header.stamp = stamp_message(milliseconds * 1_000_000)
    for vector, values in ((message.linear_acceleration, acceleration), (message.angular_velocity, rate)):
        if values is not None:
            vector.x, vector.y, vector.z = values
    if rate is None:
        message.angular_velocity_covariance[0] = UNKNOWN
    return message


def image_at(milliseconds: int) -> Image:
    """An image of that time."""
    message = Image()
    message.header.stamp = stamp_message(milliseconds * 1_000_000)
    return message


def test_each_camera_has_the_roll_that_its_place_on_the_imu_gives_it() -> None:
    source = ImuRoll([SAME_FRAME, OF_BASE])
    lean = math.radians(25.0)
    # Down is (-sin, cos, 0) for the first camera, and (-cos, 0, -sin) for the other.
    assert source.update(imu_at(1000, (9.8 * math.sin(lean), -9.8 * math.cos(lean), 0.0)))
    assert source.roll(0, image_at(1000)) == pytest.approx(25.0)
    assert source.roll(1, image_at(1000)) == pytest.approx(90.0)


def test_the_roll_is_that_of_the_rectified_image() -> None:
    source = ImuRoll([OF_BASE])
    source.update(imu_at(1000, (0.0, 0.0, 9.8)))
    assert source.roll(0, image_at(1000)) == pytest.approx(0.0)
    turn = cv2.Rodrigues(np.radians([0.0, 0.0, 20.0]))[0]
    assert source.roll(0, image_at(1000), turn) == pytest.approx(20.0)


@pytest.mark.parametrize("garbage", [3.0, math.nan])
def test_what_an_imu_without_gyroscope_says_of_its_turning_is_not_used(garbage: float) -> None:
    source = ImuRoll([SAME_FRAME])
    for milliseconds in range(1000, 1100, 10):
        message = imu_at(milliseconds, (0.0, -9.8, 0.0), (0.0, 0.0, garbage))
        message.angular_velocity_covariance[0] = UNKNOWN
        assert source.update(message)
    assert source.roll(0, image_at(1120)) == pytest.approx(0.0)


def test_a_gyroscope_carries_the_roll_to_the_time_of_the_image() -> None:
    source = ImuRoll([SAME_FRAME])
    # A camera that turns clockwise as seen from behind sees its scene turn the other way.
    source.update(imu_at(1000, (0.0, -9.8, 0.0), (0.0, 0.0, math.radians(50.0))))
    assert source.roll(0, image_at(1100)) == pytest.approx(-5.0)


def test_without_acceleration_there_is_no_roll() -> None:
    source = ImuRoll([SAME_FRAME])
    message = imu_at(1000, (0.0, -9.8, 0.0))
    message.linear_acceleration_covariance[0] = UNKNOWN
    assert not source.update(message)
    with pytest.raises(UprightError, match="nothing for its time stamp"):
        source.roll(0, image_at(1000))
