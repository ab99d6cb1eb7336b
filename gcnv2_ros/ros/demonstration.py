# SPDX-License-Identifier: Apache-2.0
"""Playing a sequence to the real node, as a process of its own over real DDS, and collecting what it publishes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from ..features import Features
from ..sequences import Frame, Sequence
from ..stamps import nanoseconds_of
from .features_msg import decode_features
from .node_process import NodeProcess, NodeProcessError, running_node
from .player import Player
from .qos import LATCHED, volatile_qos

_START_SECONDS = 60.0
_DRAIN_SECONDS = 3.0
_NODE = "/gcnv2_frontend"


@dataclass(frozen=True)
class Demonstration:
    """What came of playing a sequence to the node.

    Attributes
    ----------
    published
        Number of frames played.
    seconds
        Time from the first to the last of them.
    processor
        Seconds of all processors that the node took meanwhile; None where the system does not tell.
    features
        What the node published, by frame index.
    latency
        Seconds from publishing a frame to receiving its features, by frame index.
    model_info
        What the node says of its model.
    diagnostics
        The node's last diagnostics before it was stopped.
    """

    published: int
    seconds: float
    processor: float | None
    features: dict[int, Features]
    latency: dict[int, float]
    model_info: dict[str, Any]
    diagnostics: dict[str, str]


class _Preloaded(Sequence):
    """Frames in memory, so that rendering or decoding does not delay the playing."""

    def __init__(self, sequence: Sequence, frames: list[Frame]) -> None:
        self.name = sequence.name
        self.camera = sequence.camera
        self.right_camera = sequence.right_camera
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Frame:
        return self._frames[self._position(index)]


def run_demonstration(
    sequence: Sequence,
    frames: list[Frame],
    *,
    parameters: Mapping[str, Any],
    rate: float = 1.0,
    reliability: str = "best_effort",
    say: Callable[[str], None],
) -> Demonstration:
    """Start the node, play `frames` to it, stop it.

    Parameters
    ----------
    sequence
        Where the frames are from; gives the calibration.
    frames
        What is played, at the times of their stamps.
    parameters
        Parameters of the node.
    rate
        Speed relative to the stamps.
    reliability
        How the images are published: ``best_effort``, as camera drivers do, or ``reliable``.
    say
        Called with a line of progress.

    Raises
    ------
    NodeProcessError
        If the node does not come up or dies; the sentence has what it printed last.
    """
    with running_node([f"{name}:={_text(value)}" for name, value in parameters.items()]) as running:
        return _play(_Preloaded(sequence, frames), running, rate, reliability, say)


def _play(
    sequence: _Preloaded, running: NodeProcess, rate: float, reliability: str, say: Callable[[str], None]
) -> Demonstration:
    executor = SingleThreadedExecutor(context=running.context)
    try:
        node = rclpy.create_node("gcnv2_demo", context=running.context)
        executor.add_node(node)
        index_of = {frame.stamp_ns: frame.index for frame in sequence}
        sent: dict[int, float] = {}
        features: dict[int, Features] = {}
        latency: dict[int, float] = {}
        info: dict[str, Any] = {}
        diagnostics: dict[str, str] = {}

        def on_features(message: PointCloud2) -> None:
            now = time.monotonic()
            index = index_of[nanoseconds_of(message.header.stamp)]
            features[index] = decode_features(message, image_size=_size(sequence[0])).features
            latency[index] = now - sent[index]

        def on_diagnostics(message: DiagnosticArray) -> None:
            for status in message.status:
                diagnostics.update({entry.key: entry.value for entry in status.values})

        node.create_subscription(PointCloud2, f"{_NODE}/features", on_features, volatile_qos("reliable", 1000))
        node.create_subscription(String, f"{_NODE}/model_info", lambda m: info.update(json.loads(m.data)), LATCHED)
        node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
        player = Player(node, sequence, reliability=reliability)
        say("waiting for the node")
        deadline = time.monotonic() + _START_SECONDS
        while not (player.subscriptions and info and node.count_publishers(f"{_NODE}/features")):
            executor.spin_once(timeout_sec=0.1)
            running.check("before the first frame")
            if time.monotonic() > deadline:
                raise NodeProcessError(f"the node did not come up within {_START_SECONDS:g} s")
        say(f"playing {len(sequence)} frames")
        seconds, processor = 0.0, None

        def play() -> None:
            nonlocal seconds, processor
            before = running.processor_seconds()
            seconds = player.play(rate=rate, on_frame=lambda index, due: sent.update({index: time.monotonic()}))
            after = running.processor_seconds()
            processor = None if before is None or after is None else after - before

        thread = threading.Thread(target=play)
        thread.start()
        end = float("inf")
        try:
            while time.monotonic() < end and len(features) < len(sequence):
                executor.spin_once(timeout_sec=0.05)
                running.check("while frames were played")
                if not thread.is_alive() and end == float("inf"):
                    end = time.monotonic() + _DRAIN_SECONDS
        finally:
            thread.join()
        # Diagnostics come once a second: wait for one that has seen the last frame.
        diagnostics.clear()
        end = time.monotonic() + _DRAIN_SECONDS
        while not diagnostics and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
        return Demonstration(len(sequence), seconds, processor, features, latency, info, diagnostics)
    finally:
        executor.shutdown()


def _size(frame: Frame) -> tuple[int, int]:
    return frame.image.shape[1], frame.image.shape[0]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
