# SPDX-License-Identifier: Apache-2.0
"""For tests over real DDS: the node as a process of its own, and a probe that talks to it.

Importing this module puts the test process, and the processes it starts, into a ROS domain of their own on this host.
"""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

REPOSITORY = Path(__file__).resolve().parents[1]
TIMEOUT = 120.0
"""Seconds that anything may take before a test gives up; waits end as soon as their condition holds."""

os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
_BEFORE_KILTED = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
_PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE" if _BEFORE_KILTED else "FASTDDS_DEFAULT_PROFILES_FILE"
os.environ[_PROFILE_VARIABLE] = str(REPOSITORY / "config" / "fastdds" / "large_images.xml")
os.environ.pop("FASTDDS_BUILTIN_TRANSPORTS", None)


def gray_message(
    gray: np.ndarray, *, stamp: tuple[int, int] = (1, 0), frame_id: str = "camera", encoding: str = "mono8"
) -> Image:
    """An Image message of uint8 (H, W) or (H, W, C) pixels."""
    height, width = gray.shape[:2]
    message = Image(height=height, width=width, encoding=encoding, step=gray[0].nbytes, is_bigendian=0)
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(gray).tobytes())
    message.data = data
    return message


class NodeProcess:
    """``gcnv2_frontend`` as a process; a context manager that ends it.

    Parameters
    ----------
    log
        File that gets what the process prints.
    parameters, remappings
        For the command line.
    arguments
        Further ROS arguments.
    """

    def __init__(
        self,
        log: Path,
        parameters: Mapping[str, Any] | None = None,
        remappings: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        command = [sys.executable, "-m", "gcnv2_ros.ros.frontend", "--ros-args", *arguments]
        for name, value in (parameters or {}).items():
            command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        for name, target in (remappings or {}).items():
            command += ["-r", f"{name}:={target}"]
        environment = {**os.environ, "RCUTILS_LOGGING_USE_STDOUT": "1", "RCUTILS_LOGGING_BUFFERED_STREAM": "0"}
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._log = log
        self._stream = log.open("w")
        self.process = subprocess.Popen(command, stdout=self._stream, stderr=subprocess.STDOUT, env=environment)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._stream.close()

    @property
    def log(self) -> str:
        """What the process has printed."""
        return self._log.read_text()

    def wait_for_log(self, text: str) -> None:
        """Wait until the process has printed `text`."""
        deadline = time.monotonic() + TIMEOUT
        while text not in self.log:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"the node has not printed {text!r}; it printed:\n{self.log}")
            time.sleep(0.02)

    def wait(self) -> int:
        """Wait for the end of the process; returns its exit code."""
        return self.process.wait(TIMEOUT)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.wait()


class Probe:
    """A ROS node in the test process; a context manager.

    Parameters
    ----------
    target
        Full name of the node under test, for its services.
    """

    def __init__(self, target: str = "/gcnv2_frontend") -> None:
        self._target = target
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("probe", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def wait_for(self, condition: Callable[[], Any], what: str, *, meanwhile: Callable[[], Any] | None = None) -> Any:
        """Serve callbacks until `condition` returns something true; returns it.

        `meanwhile` is called at once and then every half second: for what may be lost, as best-effort messages and
        those sent before both sides have discovered each other.
        """
        deadline = time.monotonic() + TIMEOUT
        again = 0.0
        while not (result := condition()):
            now = time.monotonic()
            if now > deadline:
                raise AssertionError(f"waited {TIMEOUT:g} s in vain for {what}")
            if meanwhile is not None and now > again:
                meanwhile()
                again = now + 0.5
            self._executor.spin_once(timeout_sec=0.05)
        return result

    def comes_true(self, condition: Callable[[], Any], seconds: float) -> bool:
        """Serve callbacks until `condition` returns something true, at most for some time; returns whether it did."""
        deadline = time.monotonic() + seconds
        while not (result := condition()) and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.05)
        return bool(result)

    def collect(self, message_type: type, topic: str, *, latched: bool = False) -> list[Any]:
        """Subscribe; returns the list to which messages are added as they come."""
        messages: list[Any] = []
        qos = QoSProfile(
            depth=1 if latched else 1000,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        self.node.create_subscription(message_type, topic, messages.append, qos)
        return messages

    def publisher(self, message_type: type, topic: str) -> Any:
        """A reliable publisher that somebody already subscribes to."""
        publisher = self.node.create_publisher(message_type, topic, 1000)
        self.wait_for(publisher.get_subscription_count, f"a subscription to {topic}")
        return publisher

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        """Call a service of the node under test."""
        client = self.node.create_client(service_type, f"{self._target}/{name}")
        self.wait_for(client.service_is_ready, f"the service {name}")
        future = client.call_async(request)
        self.wait_for(future.done, f"the answer of the service {name}")
        self.node.destroy_client(client)
        return future.result()

    def set_parameter(self, name: str, value: Any) -> SetParametersResult:
        """Set one parameter of the node under test."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, "set_parameters", request).results[0]

    def change_state(self, transition: int) -> bool:
        """Ask for a lifecycle transition (see lifecycle_msgs/msg/Transition); returns whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, "change_state", request).success)

    def state(self) -> str:
        """Label of the lifecycle state."""
        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)
