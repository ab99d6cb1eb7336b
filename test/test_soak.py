# SPDX-License-Identifier: Apache-2.0
"""The node for a minute at 30 Hz: it neither ends nor grows. `benchmarks/soak.py` runs it for as long as one likes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from ros_helpers import REPOSITORY

LARGEST_GROWTH = 30.0
"""Megabytes from the end of the warm-up to the end."""


@pytest.mark.parametrize(
    ("sequence", "parameters"),
    [
        pytest.param(
            "room:frames=10,width=320,height=240",
            ["model:=gcnv2_tiny", "input_width:=320", "input_height:=240"],
            id="network",
        ),
        pytest.param(
            "room:frames=10,width=320,height=240,baseline=0.1",
            ["model:=orb", "mode:=stereo", "vins:=true"],
            id="stereo and tracks",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_minute_at_30_hz_leaves_the_node_alive_and_its_memory_as_it_is(
    tmp_path: Path, sequence: str, parameters: list[str]
) -> None:
    out = tmp_path / "soak.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "soak.py"), "--out", str(out)]
    command += ["--sequence", sequence, "--duration", "60", "--warm-up", "20"]
    command += [item for parameter in parameters for item in ("-p", parameter)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(out.read_text())
    assert report["exit code"] == 0
    assert report["last error"] == ""
    frames = report["frames"]
    assert frames["published"] == 1800
    assert frames["answered"] > 30
    assert frames["answered"] <= frames["processed"] + 30, "the diagnostics are a second old at most"
    memory = report["resident memory (MB)"]
    assert memory["end"] - memory["after the warm-up"] < LARGEST_GROWTH, memory
