# SPDX-License-Identifier: Apache-2.0
"""The subscriptions of one camera: messages come in, complete frames go out, silence is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo

from ..camera import CameraError
from .calibration import Calibration
from .camera_state import CameraState, Frame
from .parameters import FrontendOptions
from .qos import LATCHED, create_counting_subscription, describe_publishers, is_latched, volatile_qos
from .synchronization import Synchronizer, create_synchronizer
from .topics import ImageTopic

_CAMERA_INFO_DEPTH = 5
_UNMATCHED_IN_A_ROW = 10


@dataclass
class _Watched:
    """A topic whose silence is told."""

    words: str
    topic: str
    type_name: str
    qos: QoSProfile
    latest: float


class CameraInputs:
    """Subscribes to the topics of one camera for as long as it exists; all in the executor's thread.

    Parameters
    ----------
    node
        Who subscribes.
    camera
        The camera.
    options
        The node's parameters.
    on_frame
        Called with each complete frame.
    """

    def __init__(
        self, node: Node, camera: CameraState, options: FrontendOptions, on_frame: Callable[[Frame], None]
    ) -> None:
        self._node = node
        self._camera = camera
        self._on_frame = on_frame
        self._synchronizer = self._create_synchronizer(options)
        self._latest_mask: Any = None
        self._watched: dict[str, _Watched] = {}
        self._subscriptions: list[Any] = []
        self._unlatched: dict[str, Callable[[CameraInfo], None]] = {}
        # Images without partners since the latest complete frame.
        self._given_up = 0
        qos = volatile_qos(options.subscribe_reliability, options.subscribe_depth)
        for topic in camera.topics.images:
            self._subscribe_to_images(topic, qos)
        needed = options.mode == "stereo" or options.rectify or options.vins or options.rtabmap
        self._subscribe_to_calibration("camera_info", camera.topics.camera_info, camera.calibration, needed)
        self._subscribe_to_calibration(
            "right camera_info", camera.topics.right_camera_info, camera.right_calibration, needed
        )

    @property
    def library(self) -> str | None:
        """What brings the messages together; None where a frame is one message."""
        return None if self._synchronizer is None else self._synchronizer.library

    def close(self) -> None:
        """Unsubscribe; messages that wait for their partners are given up."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        if self._synchronizer is not None:
            self._synchronizer.clear()

    def subscribe_to_latched(self) -> None:
        """Fetch calibrations that were published once, before this node was there; to be called now and then.

        Only where somebody latches them: all other publishers would warn of a subscription that does not fit.
        """
        for topic, received in list(self._unlatched.items()):
            if is_latched(self._node, topic):
                del self._unlatched[topic]
                self._subscriptions.append(self._node.create_subscription(CameraInfo, topic, received, LATCHED))

    def report_silence(self, timeout: float) -> None:
        """Say in the log which topics have been silent for longer than `timeout` seconds, and who publishes them."""
        now = self._camera.statistics.now()
        for watched in self._watched.values():
            silence = now - watched.latest
            if silence <= timeout:
                continue
            reason = describe_publishers(self._node, watched.topic, watched.type_name, watched.qos)
            # By reason, so that a change of the reason is told at once.
            self._camera.reporter.warn(
                f"silence of {watched.topic}: {reason}",
                f"no {watched.words} on {watched.topic} for {silence:.0f} s: {reason}",
            )

    def report_unmatched(self) -> None:
        """Say in the log that images come and no frame is complete, if that is so for a while."""
        if self._given_up >= _UNMATCHED_IN_A_ROW:
            self._camera.reporter.warn("unmatched", f"no frame is complete: {self._camera.unmatched}")

    def _create_synchronizer(self, options: FrontendOptions) -> Synchronizer | None:
        roles = [topic.role for topic in self._camera.topics.images if topic.synchronized]
        if len(roles) == 1:
            return None

        def deliver(messages: tuple[Any, ...]) -> None:
            self._given_up = 0
            self._deliver(dict(zip(roles, messages)))

        def unmatched(role: str, count: int) -> None:
            # Of the others there may be more than images, at a higher rate, and none of those is missed.
            if role == "image":
                self._given_up += count
            self._camera.statistics.count_unmatched(role, count)

        return create_synchronizer(roles, options.synchronization, deliver, unmatched)

    def _subscribe_to_images(self, topic: ImageTopic, qos: QoSProfile) -> None:
        name = topic.name(self._node)
        full = self._node.resolve_topic_name(name)
        role = topic.role

        def received(message: Any) -> None:
            self._on_image(role, message)

        def lost(count: int) -> None:
            self._camera.statistics.count_lost(role, count)

        def incompatible(policy: str) -> None:
            who = describe_publishers(self._node, full, topic.type_name, qos)
            self._camera.reporter.warn(
                f"incompatible QoS of {full}: {who}",
                f"a publisher of {full} has an incompatible QoS ({policy}), so nothing will come from it: {who}",
            )

        self._subscriptions.append(
            create_counting_subscription(self._node, topic.message_type, name, received, qos, lost, incompatible)
        )
        self._watch(role, topic.words, full, topic.type_name, qos)

    def _subscribe_to_calibration(self, words: str, topic: str | None, calibration: Calibration, needed: bool) -> None:
        if topic is None:
            return
        qos = volatile_qos("best_effort", _CAMERA_INFO_DEPTH)
        full = self._node.resolve_topic_name(topic)
        watched = self._watch(words, words, full, "sensor_msgs/msg/CameraInfo", qos) if needed else None

        def take_over(message: CameraInfo) -> None:
            if watched is not None:
                watched.latest = self._camera.statistics.now()
            self._on_camera_info(full, message, calibration)

        def received(message: CameraInfo) -> None:
            # Where it comes again and again there is nothing to fetch.
            self._unlatched.pop(full, None)
            take_over(message)

        def received_latched(message: CameraInfo) -> None:
            # It holds until there is another one: from now on silence is no fault.
            self._watched.pop(words, None)
            take_over(message)

        self._subscriptions.append(self._node.create_subscription(CameraInfo, topic, received, qos))
        self._unlatched[full] = received_latched

    def _watch(self, key: str, words: str, topic: str, type_name: str, qos: QoSProfile) -> _Watched:
        watched = _Watched(words, topic, type_name, qos, self._camera.statistics.now())
        self._watched[key] = watched
        return watched

    def _on_image(self, role: str, message: Any) -> None:
        now = self._camera.statistics.now()
        self._watched[role].latest = now
        if role == "image":
            self._camera.statistics.count_received(now)
        if self._synchronizer is None or role not in self._synchronizer.names:
            if role == "image":
                self._deliver({role: message})
            else:
                self._latest_mask = message
        else:
            self._synchronizer.add(role, message)

    def _deliver(self, messages: dict[str, Any]) -> None:
        if self._latest_mask is not None:
            messages["mask"] = self._latest_mask
        self._on_frame(Frame(self._camera.index, messages, self._camera.statistics.now()))

    def _on_camera_info(self, topic: str, message: CameraInfo, calibration: Calibration) -> None:
        known = calibration.camera is not None
        try:
            changed = calibration.update(message)
        except CameraError as error:
            self._camera.reporter.warn(topic, f"{topic}: {error}; viewing rays are NaN")
            return
        if changed and calibration.camera is None:
            self._camera.reporter.warn(topic, f"{topic}: the camera is not calibrated; viewing rays are NaN")
        elif changed and known:
            self._camera.reporter.tell(
                f"{topic} has changed", f"{topic}: the calibration has changed; it holds from the next frame on"
            )
