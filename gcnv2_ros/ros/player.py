# SPDX-License-Identifier: Apache-2.0
"""Publishing a sequence on ROS topics, as a camera driver would."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ..sequences import Frame, Sequence
from .image_messages import camera_info_message, image_message, stamp_message
from .qos import volatile_qos

FRAME_ID = "camera"
RIGHT_FRAME_ID = "right_camera"
_CLOCK_SECONDS = 0.01


class Player:
    """Publishes the images and the calibration of a sequence.

    Topics, relative to the node's namespace: ``image`` and ``camera_info``; where the sequence has them ``depth``
    (32FC1, metres), ``right/image`` and ``right/camera_info``; and ``/clock`` where it is asked for.

    Parameters
    ----------
    node
        Whose publishers they are.
    sequence
        What is played.
    reliability
        ``reliable`` or ``best_effort``.
    clock
        Publish the time of the recording on ``/clock``, a hundred times a second.
    """

    def __init__(self, node: Node, sequence: Sequence, *, reliability: str = "reliable", clock: bool = False) -> None:
        self._sequence = sequence
        qos = volatile_qos(reliability, 10)
        self._images = node.create_publisher(Image, "image", qos)
        self._calibrations = node.create_publisher(CameraInfo, "camera_info", qos)
        first = sequence[0]
        self._depths = None if first.depth is None else node.create_publisher(Image, "depth", qos)
        self._rights = self._right_calibrations = None
        if first.right is not None:
            self._rights = node.create_publisher(Image, "right/image", qos)
            self._right_calibrations = node.create_publisher(CameraInfo, "right/camera_info", qos)
        self._clock = node.create_publisher(Clock, "/clock", volatile_qos("reliable", 10)) if clock else None

    @property
    def subscriptions(self) -> int:
        """How many subscribe to the images."""
        return self._images.get_subscription_count()

    def play(
        self,
        *,
        rate: float = 1.0,
        frames: int | None = None,
        on_frame: Callable[[int, float], None] | None = None,
    ) -> float:
        """Publish every frame at its time; frames that are late are published at once, none is left out.

        Parameters
        ----------
        rate
            Speed relative to the stamps; 0: as fast as it goes.
        frames
            At most so many; None: all.
        on_frame
            Called before each frame is published, with its index and the time (`time.monotonic`) at which it was due.

        Returns
        -------
        float
            Seconds that it took.
        """
        start = time.monotonic()
        first_stamp: int | None = None
        for index in range(len(self._sequence) if frames is None else min(frames, len(self._sequence))):
            frame = self._sequence[index]
            if first_stamp is None:
                # The first frame of a sequence may take long to read or render; the others are due after it.
                start, first_stamp = time.monotonic(), frame.stamp_ns
            due = start + (frame.stamp_ns - first_stamp) / 1e9 / rate if rate else time.monotonic()
            self._wait(due, frame.stamp_ns, rate)
            if on_frame is not None:
                on_frame(frame.index, due)
            self._publish(frame)
        return time.monotonic() - start

    def _wait(self, due: float, stamp_ns: int, rate: float) -> None:
        """Sleep until a frame is due, while the clock goes on; then it shows the frame's stamp."""
        if self._clock is not None and rate:
            while (left := due - time.monotonic()) > _CLOCK_SECONDS:
                self._clock.publish(Clock(clock=stamp_message(stamp_ns - round(left * rate * 1e9))))
                time.sleep(_CLOCK_SECONDS)
        time.sleep(max(0.0, due - time.monotonic()))
        if self._clock is not None:
            self._clock.publish(Clock(clock=stamp_message(stamp_ns)))

    def _publish(self, frame: Frame) -> None:
        """Calibrations first, then the images that they are for, the camera's own last: it completes the frame."""
        sequence = self._sequence
        header = Header(stamp=stamp_message(frame.stamp_ns), frame_id=FRAME_ID)
        right = Header(stamp=header.stamp, frame_id=RIGHT_FRAME_ID)
        if sequence.camera is not None:
            self._calibrations.publish(camera_info_message(sequence.camera, header))
        if self._right_calibrations is not None and sequence.right_camera is not None:
            self._right_calibrations.publish(camera_info_message(sequence.right_camera, right))
        if self._depths is not None and frame.depth is not None:
            self._depths.publish(image_message(frame.depth, header))
        if self._rights is not None and frame.right is not None:
            self._rights.publish(image_message(frame.right, right))
        self._images.publish(image_message(frame.image, header))
