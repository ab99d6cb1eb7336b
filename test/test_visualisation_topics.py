# SPDX-License-Identifier: Apache-2.0
"""What the RViz configuration and the Foxglove layout show is what the running nodes publish: topic, type and QoS."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.qos import ReliabilityPolicy
from ros_helpers import REPOSITORY, NodeProcess, Probe

SHOWN_BY = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
    "rviz_default_plugins/Odometry": "nav_msgs/msg/Odometry",
    "rviz_default_plugins/Path": "nav_msgs/msg/Path",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the frontend in a mode with depth and the odometry publish: endpoints by topic."""
    log = tmp_path_factory.mktemp("nodes") / "log.txt"
    odometry = subprocess.Popen([sys.executable, "-m", "gcnv2_ros.ros.odometry_node"], cwd=REPOSITORY)
    try:
        with NodeProcess(log, {"model": "orb", "mode": "rgbd"}) as frontend, Probe() as probe:
            frontend.wait_for_log("active")
            topics = {display["Topic"]["Value"] for display in rviz_displays()} | set(foxglove_topics())
            infos = probe.node.get_publishers_info_by_topic
            probe.comes_true(lambda: all(infos(topic) for topic in topics), 60.0)
            yield {topic: found[0] for topic in topics if (found := infos(topic))}
    finally:
        odometry.kill()
        odometry.wait()


def rviz_displays() -> list[dict[str, Any]]:
    content = yaml.safe_load((REPOSITORY / "config" / "rviz" / "frontend.rviz").read_text())
    return [display for display in content["Visualization Manager"]["Displays"] if "Topic" in display]


def foxglove_topics() -> dict[str, str]:
    """Types by topic, as the settings of the panels take them to be."""
    content = json.loads((REPOSITORY / "config" / "foxglove" / "frontend.json").read_text())
    types: dict[str, str] = {}
    for panel, settings in content["configById"].items():
        if panel.startswith("Image!"):
            types[settings["imageMode"]["imageTopic"]] = "sensor_msgs/msg/Image"
        elif panel.startswith(("DiagnosticSummary!", "DiagnosticStatusPanel!")):
            types[settings["topicToRender"]] = "diagnostic_msgs/msg/DiagnosticArray"
        for topic, shown in settings.get("topics", {}).items():
            points = "colorMode" in shown
            kind = {"line": "nav_msgs/msg/Path", "axis": "nav_msgs/msg/Odometry"}.get(shown.get("type", ""))
            types[topic] = "sensor_msgs/msg/PointCloud2" if points else kind or "unknown"
    return types


@pytest.mark.parametrize("display", rviz_displays(), ids=lambda display: display["Name"])
def test_what_rviz_shows_is_published(published: dict[str, Any], display: dict[str, Any]) -> None:
    topic = display["Topic"]
    assert topic["Value"] in published
    publisher = published[topic["Value"]]
    assert publisher.topic_type == SHOWN_BY[display["Class"]]
    if topic["Reliability Policy"] == "Reliable":
        assert publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert topic["Durability Policy"] == "Volatile", "fits publishers of every durability"


@pytest.mark.parametrize(("topic", "type_name"), foxglove_topics().items())
def test_what_foxglove_shows_is_published(published: dict[str, Any], topic: str, type_name: str) -> None:
    assert topic in published
    assert published[topic].topic_type == type_name


def test_no_topic_of_the_foxglove_layout_is_left_out_of_the_above() -> None:
    text = (REPOSITORY / "config" / "foxglove" / "frontend.json").read_text()
    assert set(re.findall(r'"(/(?:gcnv2_\w+/|diagnostics)[a-z_]*)"', text)) == set(foxglove_topics())
