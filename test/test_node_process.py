# SPDX-License-Identifier: Apache-2.0
"""The node as a process that programs start, play to and stop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from gcnv2_ros.ros.demonstration import run_demonstration
from gcnv2_ros.ros.node_process import NodeProcessError, running_node
from gcnv2_ros.sequences import open_sequence

ORB = {"model": "orb", "max_keypoints": 100}


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Domain and transport of this process as they were."""
    with mock.patch.dict(os.environ):
        yield


def test_what_is_played_is_answered_and_the_processor_s_time_is_counted() -> None:
    room = open_sequence("room:frames=6,rate=10,width=160,height=120")
    played = run_demonstration(room, list(room), parameters=ORB, reliability="reliable", say=lambda text: None)
    assert played.published == 6
    assert set(played.features) <= set(range(6))
    assert 5 in played.features
    # Five intervals of a tenth of a second lie between the first frame and the last.
    assert played.seconds > 0.45
    assert played.processor is not None
    assert 0.0 < played.processor < 10.0


def test_a_node_is_there_until_the_block_ends() -> None:
    with running_node(["model:=orb"]) as running:
        running.check("at once")
        assert running.resident_bytes() > 0
        assert running.processor_seconds() is not None
    assert running.process.returncode is not None
    assert running.processor_seconds() is None
    with pytest.raises(NodeProcessError, match=r"ended with exit code -?[0-9]+ afterwards"):
        running.check("afterwards")


def test_a_node_that_does_not_start_is_told_with_what_it_printed() -> None:
    room = open_sequence("room:frames=2,width=160,height=120")
    with pytest.raises(NodeProcessError, match="before the first frame; it printed:") as raised:
        run_demonstration(room, list(room), parameters={"model": "no_such_model"}, say=lambda text: None)
    assert "no_such_model" in str(raised.value)
