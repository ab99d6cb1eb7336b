# SPDX-License-Identifier: Apache-2.0
"""Publishing a sequence on ROS topics, as a camera driver would."""

from __future__ import annotations

import array
import time
from collections.abc import Callable

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ..camera import Camera
from ..sequences import Sequence
from .qos import volatile_qos

FRAME_ID = "camera"


def stamp_message(stamp_ns: int) -> Time:
    """A time in nanoseconds as a message."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def image_message(image: NDArray[np.uint8], header: Header) -> Image:
    """uint8 (H, W) as mono8, (H, W, 3) as bgr8."""
    height, width = image.shape[:2]
    encoding = "mono8" if image.ndim == 2 else "bgr8"
    message = Image(header=header, height=height, width=width, encoding=encoding, step=image[0].nbytes, is_bigendian=0)
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image).data)
    message.data = data
    return message


def camera_info_message(camera: Camera, header: Header) -> CameraInfo:
    """A camera's calibration as a message."""
    return CameraInfo(header=header, **camera.camera_info_fields())


class Player:
    """Publishes the images and the calibration of a sequence.

    Parameters
    ----------
    node
        Whose publishers they are; topics ``image`` and ``camera_info``.
    sequence
        What is played.
    reliability
        ``reliable`` or ``best_effort``.
    """

    def __init__(self, node: Node, sequence: Sequence, *, reliability: str = "reliable") -> None:
        self._sequence = sequence
        qos = volatile_qos(reliability, 10)
        self._images = node.create_publisher(Image, "image", qos)
        self._calibrations = node.create_publisher(CameraInfo, "camera_info", qos)

    @property
    def subscriptions(self) -> int:
        """How many subscribe to the images."""
        return self._images.get_subscription_count()

    def play(self, *, rate: float = 1.0, on_frame: Callable[[int, float], None] | None = None) -> float:
        """Publish every frame at its time; frames that are late are published at once, none is left out.

        Parameters
        ----------
        rate
            Speed relative to the stamps; 0: as fast as it goes.
        on_frame
            Called before each frame is published, with its index and the time (`time.monotonic`) at which it was due.

        Returns
        -------
        float
            Seconds that it took.
        """
        start = time.monotonic()
        first_stamp: int | None = None
        for frame in self._sequence:
            first_stamp = frame.stamp_ns if first_stamp is None else first_stamp
            due = start + (frame.stamp_ns - first_stamp) / 1e9 / rate if rate else time.monotonic()
            time.sleep(max(0.0, due - time.monotonic()))
            if on_frame is not None:
                on_frame(frame.index, due)
            header = Header(stamp=stamp_message(frame.stamp_ns), frame_id=FRAME_ID)
            if self._sequence.camera is not None:
                self._calibrations.publish(camera_info_message(self._sequence.camera, header))
            self._images.publish(image_message(frame.image, header))
        return time.monotonic() - start
