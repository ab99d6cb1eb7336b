# SPDX-License-Identifier: Apache-2.0
"""A network that disappears and returns: node and camera in two network namespaces with a cable between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import ros_helpers
from ros_helpers import TIMEOUT, NodeProcess

NAME = "/far"

# Nothing but the network, since shared memory would pass by it. Who is silent for the lease is taken to be gone, by
# default after 20 seconds.
PROFILE = """<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <profiles>
    <transport_descriptors>
      <transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type></transport_descriptor>
    </transport_descriptors>
    <participant profile_name="network_only" is_default_profile="true">
      <rtps>
        <userTransports><transport_id>udp</transport_id></userTransports>
        <useBuiltinTransports>false</useBuiltinTransports>
        <builtin>
          <discovery_config>
            <leaseDuration><sec>8</sec></leaseDuration>
            <leaseAnnouncement><sec>1</sec></leaseAnnouncement>
          </discovery_config>
        </builtin>
      </rtps>
    </participant>
  </profiles>
</dds>
"""

# Publishes images, and prints the seconds of the stamps of the features that come back.
CAMERA_PROGRAM = """
import numpy as np, rclpy
from sensor_msgs.msg import Image, PointCloud2
rclpy.init()
node = rclpy.create_node("camera_driver")
publisher = node.create_publisher(Image, "/far/image", 5)
node.create_subscription(PointCloud2, "/far/features", lambda m: print(m.header.stamp.sec, flush=True), 100)
gray = np.kron(np.random.default_rng(0).integers(0, 256, (20, 27)), np.ones((12, 12))).astype(np.uint8)
height, width = gray.shape
image = Image(height=height, width=width, encoding="mono8", step=width, data=gray.tobytes())
def publish():
    image.header.stamp.sec += 1
    publisher.publish(image)
node.create_timer(0.1, publish)
rclpy.spin(node)
"""


class Cable:
    """Two network namespaces on the ends of a cable that can be pulled out."""

    def __init__(self) -> None:
        self.near, self.far = (f"gcnv2_{os.getpid()}_{side}" for side in ("near", "far"))

    def lay(self) -> None:
        """Make the namespaces and the cable; skips the test where that is not allowed."""
        for place in (self.near, self.far):
            for command in (["add", place], ["exec", place, "true"]):
                made = subprocess.run(["ip", "netns", *command], capture_output=True, text=True)
                if made.returncode:
                    pytest.skip(f"network namespaces cannot be used here: {made.stderr.strip()}")
        _ip("link", "add", "eth", "netns", self.near, "type", "veth", "peer", "name", "eth", "netns", self.far)
        for host, place in enumerate((self.near, self.far), start=1):
            _ip("-n", place, "address", "add", f"10.77.0.{host}/24", "dev", "eth")
            for device in ("lo", "eth"):
                _ip("-n", place, "link", "set", device, "up")
        # Fast DDS leaves out interfaces that have no carrier when it starts.
        for place in (self.near, self.far):
            wait_for(lambda p=place: "state UP" in _ip("-n", p, "link", "show", "eth"), "the cable's carrier")

    def set(self, state: str) -> None:
        """``down`` or ``up``, as seen from the node's end."""
        _ip("-n", self.far, "link", "set", "eth", state)

    def remove(self) -> None:
        """Undo `lay`, as far as it came."""
        for place in (self.near, self.far):
            subprocess.run(["ip", "netns", "delete", place], capture_output=True)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def cable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cable]:
    """The cable; processes that are started from now on talk by network only."""
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` to make network namespaces with (Debian: iproute2)")
    if os.geteuid() != 0:
        pytest.skip("network namespaces can be made by root only")
    profile = tmp_path / "network_only.xml"
    profile.write_text(PROFILE)
    monkeypatch.setenv(ros_helpers.PROFILE_VARIABLE, str(profile))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    cable = Cable()
    try:
        cable.lay()
        yield cable
    finally:
        cable.remove()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"waited {TIMEOUT:g} s in vain for {what}"
        time.sleep(0.05)


def test_a_network_that_disappears_and_returns(tmp_path: Path, cable: Cable) -> None:
    received = tmp_path / "received.txt"
    parameters = {"model": "orb", "max_keypoints": 100, "image_timeout": 2.0}
    remappings = {"__node": NAME[1:], "image": f"{NAME}/image"}

    def latest() -> int:
        return int((received.read_text().split() or ["0"])[-1])

    def features_come() -> None:
        before = latest()
        wait_for(lambda: latest() > before, f"features after those of image {before}")

    with received.open("w") as stream:
        command = ["ip", "netns", "exec", cable.near, sys.executable, "-c", CAMERA_PROGRAM]
        camera = subprocess.Popen(command, stdout=stream)
    try:
        prefix = ["ip", "netns", "exec", cable.far]
        with NodeProcess(tmp_path / "log.txt", parameters, remappings, prefix=prefix) as process:
            features_come()
            # For a moment, in which both sides take the other one to be there still; then for so long that they do not.
            for reason in ("publishes sensor_msgs/msg/Image there, with a QoS that fits", "nobody publishes it"):
                said = len(process.log)
                cable.set("down")
                wait_for(lambda s=said, r=reason: r in process.log[s:], f"the report that {reason}")
                assert f"no image on {NAME}/image for " in process.log[said:]
                unplugged = latest()
                cable.set("up")
                features_come()
                # Not one of before, that had been under way.
                wait_for(lambda u=unplugged: latest() > u + 15, "new features")
            assert camera.poll() is None
            # And without a network it can be stopped.
            cable.set("down")
            assert process.stop() == 0, process.log
            assert "Traceback" not in process.log
    finally:
        camera.kill()
        camera.wait()
