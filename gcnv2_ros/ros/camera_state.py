# SPDX-License-Identifier: Apache-2.0
"""What the node knows of each of its cameras, in every state of its lifecycle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from .calibration import Calibration
from .parameters import FrontendOptions
from .reporting import Reporter
from .statistics import Statistics
from .topics import CameraTopics, camera_names, camera_topics


@dataclass(frozen=True)
class CameraState:
    """One camera.

    Attributes
    ----------
    index
        Its place among the node's cameras.
    topics
        Its topics.
    image_topic
        Full name of its image topic.
    statistics, reporter
        Where its frames are counted and its faults are told.
    calibration, right_calibration
        Those of the camera and, in the mode stereo, of the right one.
    unmatched
        Why its messages may find no partners, in words.
    """

    index: int
    topics: CameraTopics
    image_topic: str
    statistics: Statistics
    reporter: Reporter
    calibration: Calibration
    right_calibration: Calibration
    unmatched: str


@dataclass(frozen=True)
class Frame:
    """The messages of one moment as they came.

    Attributes
    ----------
    camera
        Index of the camera.
    messages
        sensor_msgs/Image or sensor_msgs/CompressedImage by role: ``image``, ``right``, ``depth``, ``mask``.
    received_at
        When the last of them came, by the clock of the camera's statistics.
    """

    camera: int
    messages: dict[str, Any]
    received_at: float


def create_cameras(node: Node, options: FrontendOptions) -> tuple[CameraState, ...]:
    """The cameras of the mode."""
    cameras = []
    for index, name in enumerate(camera_names(options)):
        topics = camera_topics(options, name)
        statistics = Statistics()
        cameras.append(
            CameraState(
                index=index,
                topics=topics,
                image_topic=node.resolve_topic_name(topics.images[0].name(node)),
                statistics=statistics,
                reporter=Reporter(node.get_logger(), statistics),
                calibration=Calibration(rectified=options.rectified),
                right_calibration=Calibration(rectified=options.rectified),
                unmatched=_unmatched(topics, options),
            )
        )
    return tuple(cameras)


def _unmatched(topics: CameraTopics, options: FrontendOptions) -> str:
    """Why the messages of a frame may find no partners."""
    *others, last = [topic.words for topic in topics.images if topic.synchronized]
    sync = options.synchronization
    if sync.method == "exact":
        condition, advice = "equal stamps", "sync: approximate takes those that are near"
    else:
        condition = f"stamps within {sync.slop:g} s"
        advice = "a larger sync_slop takes those that are further apart"
    return f"no {', '.join(others)} and {last} have {condition}; {advice}"


def for_camera(template: str, name: str) -> str:
    """A file name with the camera's name in the place of {camera}."""
    return template.replace("{camera}", name)
