# SPDX-License-Identifier: Apache-2.0
"""Online replay: a sequence on ROS topics for a running node, and what became of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from sensor_msgs.msg import PointCloud2

from ..ros_names import full_namespace, full_node_name
from ..sequences import Sequence
from ..transport import set_up_large_images
from .player import Player
from .qos import volatile_qos
from .running import init_ros

_DRAIN_SECONDS = 2.0
_LATE_SECONDS = 0.02
# Topics of one node are found one after the other: what is sent or answered before is lost.
_ANSWERS_SECONDS = 2.0
_SETTLE_SECONDS = 0.2


@dataclass
class OnlineReplay:
    """What became of the frames.

    Attributes
    ----------
    published
        Frames played.
    late
        Those published more than 20 ms after they were due, since reading them took longer: then the rate was not held.
    seconds
        Time that playing took.
    answered
        Frames whose features the node published.
    diagnostics
        What the node said last of the frames that it received and dropped.
    """

    published: int = 0
    late: int = 0
    seconds: float = 0.0
    answered: int = 0
    diagnostics: dict[str, str] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """The figures in words."""
        rate = self.published / self.seconds if self.seconds else 0.0
        told = [f"published {self.published} frames in {self.seconds:.1f} s ({rate:.1f} a second)"]
        if self.late:
            told.append(
                f"{self.late} of them late: reading or rendering the sequence is slower than asked for; "
                "lower --rate, or write it as a bag first (gcnv2 to-bag)"
            )
        if self.answered or self.diagnostics:
            told.append(
                f"{self.answered} came back as features, {self.published - self.answered} did not"
                + "".join(f"; {name}: {count}" for name, count in sorted(self.diagnostics.items()))
            )
        else:
            told.append("no frontend answered: is the node running, active, and subscribed to these topics?")
        return told


def replay_online(
    sequence: Sequence,
    *,
    rate: float = 1.0,
    clock: bool = False,
    reliability: str = "reliable",
    namespace: str = "",
    node_name: str = "gcnv2_frontend",
    wait: float = 10.0,
    frames: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = print,
) -> OnlineReplay:
    """Publish a sequence and count what comes back.

    Fast DDS is set up for large images in this process's environment, unless the user has chosen otherwise.

    Parameters
    ----------
    sequence
        What is played.
    rate
        Speed relative to the stamps; 0: as fast as it goes.
    clock
        Publish ``/clock``.
    reliability
        Of the published images: ``reliable`` or ``best_effort``.
    namespace
        Of the topics and of the node that is listened to.
    node_name
        Name of the frontend, in the namespace unless it begins with a slash.
    wait
        Seconds to wait for somebody to subscribe to the images; then playing begins all the same.
    frames
        At most so many.
    progress
        Called with the number of frames published and their total.
    say
        Called with a line for the user.

    Raises
    ------
    RosNameError
        If there can be no such namespace or node.
    RosStartError
        If ROS cannot start.
    """
    frontend = full_node_name(node_name, namespace)
    set_up_large_images(os.environ)
    context = Context()
    init_ros(context=context)
    executor = SingleThreadedExecutor(context=context)
    outcome = OnlineReplay()
    total = len(sequence) if frames is None else min(frames, len(sequence))
    spinner: threading.Thread | None = None
    try:
        node = rclpy.create_node("gcnv2_player", context=context, namespace=full_namespace(namespace))
        executor.add_node(node)
        seen: set[tuple[int, int]] = set()

        def on_features(message: PointCloud2) -> None:
            seen.add((message.header.stamp.sec, message.header.stamp.nanosec))
            outcome.answered = len(seen)

        def on_diagnostics(message: DiagnosticArray) -> None:
            for status in message.status:
                values = {entry.key: entry.value for entry in status.values if entry.key.startswith("frames ")}
                # Statuses are named "NODE: features" or "NODE/CAMERA: features", without the slash before.
                if f"/{status.name}".startswith((f"{frontend}:", f"{frontend}/")):
                    outcome.diagnostics.update(values)

        node.create_subscription(PointCloud2, f"{frontend}/features", on_features, volatile_qos("reliable", 1000))
        node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
        player = Player(node, sequence, reliability=reliability, clock=clock)
        spinner = threading.Thread(target=_spin, args=(executor,), daemon=True)
        spinner.start()
        deadline = time.monotonic() + wait
        while not player.subscriptions and time.monotonic() < deadline:
            time.sleep(0.05)
        if player.subscriptions:
            deadline = time.monotonic() + _ANSWERS_SECONDS
            while not node.count_publishers(f"{frontend}/features") and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(_SETTLE_SECONDS)
        else:
            say(f"nobody has subscribed to {node.resolve_topic_name('image')} within {wait:g} s; playing all the same")

        def on_frame(index: int, due: float) -> None:
            outcome.published += 1
            outcome.late += bool(rate) and time.monotonic() - due > _LATE_SECONDS
            if progress is not None:
                progress(outcome.published, total)

        outcome.seconds = player.play(rate=rate, frames=frames, on_frame=on_frame)
        # The node may still be busy with the last frames, and tells its counts once a second.
        outcome.diagnostics.clear()
        end = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < end and not (outcome.answered >= outcome.published and outcome.diagnostics):
            time.sleep(0.05)
        return outcome
    finally:
        executor.shutdown()
        rclpy.try_shutdown(context=context)
        if spinner is not None:
            spinner.join(5)


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return
