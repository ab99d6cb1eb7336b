# SPDX-License-Identifier: Apache-2.0
"""Publishing a sequence on ROS topics, as a camera driver would."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ..sequences import Sequence
from .image_messages import camera_info_message, image_message, stamp_message
from .qos import volatile_qos

FRAME_ID = "camera"


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
