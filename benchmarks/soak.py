# SPDX-License-Identifier: Apache-2.0
"""Run the node for a long time at a camera's rate, over real DDS, and report memory, drops and latency.

The node is a process of its own; images are rendered beforehand and played in a loop, with stamps that go on. A
sequence with depth or a right image plays those too: give the node the mode.

    python benchmarks/soak.py --duration 600 --out soak.json
    python benchmarks/soak.py --sequence room:frames=30,baseline=0.1 -p mode:=stereo -p tracking:=true

Memory is the node's resident set (Linux, /proc). Its growth is the slope of a straight line through the samples after
the warm-up. Latency is from the call that publishes an image to the receipt of its features in this process, in which
Python's own scheduling is contained; the node's own figures, from the receipt of an image to the publishing, beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import PointCloud2

from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.files import atomic_write
from gcnv2_ros.ros.node_process import NodeProcess, NodeProcessError, running_node
from gcnv2_ros.ros.player import Player
from gcnv2_ros.ros.qos import volatile_qos
from gcnv2_ros.ros.synchronization import stamp_ns
from gcnv2_ros.sequences import Frame, Sequence, open_sequence

_NODE = "/gcnv2_frontend"
_START_SECONDS = 120.0
_DRAIN_SECONDS = 3.0
_MEGABYTE = 1e6


class Loop(Sequence):
    """The frames of a sequence again and again, with stamps that go on."""

    def __init__(self, sequence: Sequence, frames: list[Frame], *, rate: float, count: int) -> None:
        self.name = sequence.name
        self.camera = sequence.camera
        self.right_camera = sequence.right_camera
        self._frames = frames
        self._rate = rate
        self._count = count
        self._start_ns = time.time_ns()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Frame:
        position = self._position(index)
        stamp = self._start_ns + round(position * 1e9 / self._rate)
        return replace(self._frames[position % len(self._frames)], index=position, stamp_ns=stamp)


class Soak:
    """Plays to the node and keeps what is seen of it.

    Parameters
    ----------
    running
        The node.
    loop
        What is played.
    """

    def __init__(self, running: NodeProcess, loop: Loop) -> None:
        self._running = running
        self._loop = loop
        self._node = rclpy.create_node("gcnv2_soak", context=running.context)
        self._executor = SingleThreadedExecutor(context=running.context)
        self._executor.add_node(self._node)
        self._sent: dict[int, float] = {}
        self.latencies: list[float] = []
        self.memory: list[tuple[float, float]] = []
        self.diagnostics: dict[str, str] = {}
        self.late = 0
        self.published = 0
        self._node.create_subscription(
            PointCloud2, f"{_NODE}/features", self._on_features, volatile_qos("reliable", 1000)
        )
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        # Best effort, as camera drivers publish.
        self._player = Player(self._node, loop, reliability="best_effort")

    def run(self) -> None:
        """Wait for the node, play everything, and wait for the last features.

        Raises
        ------
        NodeProcessError
            If the node does not come up or ends.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not (self._player.subscriptions and self._node.count_publishers(f"{_NODE}/features")):
            self._spin()
            if time.monotonic() > deadline:
                raise NodeProcessError(f"the node did not come up within {_START_SECONDS:g} s")
        thread = threading.Thread(target=self._player.play, kwargs={"on_frame": self._on_frame}, daemon=True)
        start = time.monotonic()
        thread.start()
        next_sample = start
        while thread.is_alive():
            self._spin()
            if (now := time.monotonic()) >= next_sample:
                self.memory.append((now - start, self._running.resident_bytes() / _MEGABYTE))
                next_sample += 1.0
        end = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < end:
            self._spin()

    def _spin(self) -> None:
        self._running.check("while it was played to")
        self._executor.spin_once(timeout_sec=0.05)

    def _on_frame(self, index: int, due: float) -> None:
        now = time.monotonic()
        self.published += 1
        self.late += now - due > 0.02
        self._sent[self._loop[index].stamp_ns] = now

    def _on_features(self, message: PointCloud2) -> None:
        now = time.monotonic()
        sent = self._sent.pop(stamp_ns(message), None)
        if sent is not None:
            self.latencies.append(now - sent)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics = {entry.key: entry.value for entry in status.values}


def run(loop: Loop, parameters: SequenceOf[str]) -> tuple[Soak, int]:
    """Start the node, play the loop to it, stop it; returns what was seen and the node's exit code.

    Raises
    ------
    NodeProcessError
        If the node does not come up or ends; the sentence has what it printed last.
    """
    with running_node(parameters) as running:
        soak = Soak(running, loop)
        soak.run()
    return soak, running.process.returncode


def report_of(soak: Soak, exit_code: int, *, warm_up: float) -> dict[str, Any]:
    """The figures as values for JSON."""
    times, megabytes = np.array(soak.memory).T
    settled = times >= warm_up
    slope = np.polyfit(times[settled], megabytes[settled], 1)[0] if settled.sum() > 1 else float("nan")
    p50, p99 = np.percentile(soak.latencies, [50, 99]) if soak.latencies else (float("nan"), float("nan"))
    told = soak.diagnostics
    return {
        "frames": {
            "published": soak.published,
            "published late": soak.late,
            "received by the node": int(told.get("frames received", 0)),
            "processed": int(told.get("frames processed", 0)),
            "answered": len(soak.latencies),
        },
        "dropped": {
            key.partition(": ")[2]: int(value) for key, value in told.items() if key.startswith("frames dropped: ")
        },
        "latency (ms)": {
            "p50": 1e3 * float(p50),
            "p99": 1e3 * float(p99),
            "the node's p50, last 10 s": told.get("latency median (ms)", ""),
            "the node's p99, last 10 s": told.get("latency p99 (ms)", ""),
        },
        "resident memory (MB)": {
            "start": float(megabytes[0]),
            "after the warm-up": float(megabytes[settled][0]) if settled.any() else float("nan"),
            "end": float(megabytes[-1]),
            "largest": float(megabytes.max()),
            "growth a minute after the warm-up": 60.0 * float(slope),
        },
        "last error": told.get("last error", ""),
        "exit code": exit_code,
    }


def main(arguments: SequenceOf[str] | None = None) -> int:
    """Run, print the figures, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequence", default="room:frames=30", help="as for gcnv2 replay (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=30, help="at most so many of it, in a loop (default: 30)")
    parser.add_argument("--rate", type=float, default=30.0, help="frames a second (default: 30)")
    parser.add_argument("--duration", type=float, default=600.0, help="seconds (default: 600)")
    parser.add_argument("--warm-up", type=float, default=None, help="seconds; default: a quarter, at most 60")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME:=VALUE", help="of the node; may be repeated"
    )
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    chosen = parser.parse_args(arguments)
    if chosen.rate <= 0 or chosen.duration <= 0 or chosen.frames < 1:
        parser.error("--rate, --duration and --frames must be positive")
    warm_up = min(60.0, chosen.duration / 4) if chosen.warm_up is None else chosen.warm_up
    try:
        sequence = open_sequence(chosen.sequence)
        frames = [sequence[index] for index in range(min(chosen.frames, len(sequence)))]
        loop = Loop(sequence, frames, rate=chosen.rate, count=max(1, round(chosen.rate * chosen.duration)))
        soak, exit_code = run(loop, chosen.parameter)
    except GCNv2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "sequence": chosen.sequence,
        "image size": [frames[0].image.shape[1], frames[0].image.shape[0]],
        "parameters": chosen.parameter,
        "rate (Hz)": chosen.rate,
        "duration (s)": chosen.duration,
        "warm-up (s)": warm_up,
        **report_of(soak, exit_code, warm_up=warm_up),
    }
    for name, value in report.items():
        for key, entry in value.items() if isinstance(value, dict) else [("", value)]:
            shown = f"{entry:.1f}" if isinstance(entry, float) else entry
            print(f"{f'{name}: {key}' if key else name:<60}{shown}")
    if chosen.out is not None:
        atomic_write(chosen.out, json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
