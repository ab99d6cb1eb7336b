# SPDX-License-Identifier: Apache-2.0
"""Quality of service: profiles from the node's parameters, and subscriptions that count what the middleware loses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.subscription import Subscription
from rclpy.utilities import get_rmw_implementation_identifier

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # ROS 2 Humble has them in another module.
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

_IMAGE_TYPE = "sensor_msgs/msg/Image"
_LOST_IMAGES = ", but large images are lost where it runs without the Fast DDS profile that docs/node.md names"
_RELIABILITY = {"best_effort": ReliabilityPolicy.BEST_EFFORT, "reliable": ReliabilityPolicy.RELIABLE}

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""For what is said once and holds on: late subscribers get the latest message."""


def volatile_qos(reliability: str, depth: int) -> QoSProfile:
    """Profile of a data stream; `reliability` is ``best_effort`` or ``reliable``."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=_RELIABILITY[reliability])


def create_counting_subscription(
    node: Node,
    message_type: type,
    topic: str,
    callback: Callable[[Any], None],
    qos: QoSProfile,
    on_lost: Callable[[int], None],
    on_incompatible: Callable[[str], None],
) -> Subscription:
    """Subscribe, and be told what the middleware can tell.

    Parameters
    ----------
    node, message_type, topic, callback, qos
        As for `Node.create_subscription`.
    on_lost
        Called with the number of messages that were lost on the way.
    on_incompatible
        Called with the name of the QoS policy for which a publisher does not fit, e.g. ``RELIABILITY``.
    """

    def lost(event: Any) -> None:
        on_lost(event.total_count_change)

    def incompatible(event: Any) -> None:
        on_incompatible(str(qos_policy_name_from_kind(event.last_policy_kind)).rpartition(".")[2])

    events = SubscriptionEventCallbacks(message_lost=lost, incompatible_qos=incompatible)
    try:
        return node.create_subscription(message_type, topic, callback, qos, event_callbacks=events)
    except UnsupportedEventTypeError:
        return node.create_subscription(message_type, topic, callback, qos)


def is_latched(node: Node, topic: str) -> bool:
    """Whether somebody publishes `topic`, a full name, for late subscribers too. `node` asks the graph."""
    return any(
        publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        for publisher in node.get_publishers_info_by_topic(topic)
    )


def describe_qos(qos: QoSProfile) -> str:
    """Reliability, durability and depth in words."""
    words = [qos.reliability.name.lower(), qos.durability.name.lower()]
    if qos.history == HistoryPolicy.KEEP_LAST:
        words.append(f"depth {qos.depth}")
    return ", ".join(words)


def describe_publishers(node: Node, topic: str, message_type: str, qos: QoSProfile) -> str:
    """Why no message may come on `topic`, in words: who publishes there, and what does not fit.

    Parameters
    ----------
    node
        Any node; it asks the graph.
    topic
        Full name.
    message_type
        The expected type, e.g. ``sensor_msgs/msg/Image``.
    qos
        What the subscription asks for.
    """
    publishers = node.get_publishers_info_by_topic(topic)
    asked = f"this node asks for {describe_qos(qos)}"
    if not publishers:
        return f"nobody publishes it ({asked})"
    fast_dds = get_rmw_implementation_identifier().startswith("rmw_fastrtps")
    lost = _LOST_IMAGES if fast_dds and message_type == _IMAGE_TYPE else ""
    remarks = []
    for publisher in publishers:
        name = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
        if "_UNKNOWN_" in name:
            # The endpoint is known and its node not yet, or it is no ROS node at all.
            name = "somebody"
        offered = publisher.qos_profile.reliability
        if publisher.topic_type != message_type:
            remarks.append(f"{name} publishes {publisher.topic_type} there, expected {message_type}")
        elif qos.reliability == ReliabilityPolicy.RELIABLE and offered == ReliabilityPolicy.BEST_EFFORT:
            remarks.append(f"{name} publishes best_effort and this node asks for reliable")
        else:
            offer = describe_qos(publisher.qos_profile)
            remarks.append(f"{name} publishes {publisher.topic_type} there, with a QoS that fits ({offer}){lost}")
    return f"{'; '.join(remarks)} ({asked})"
