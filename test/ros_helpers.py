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
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from gcnv2_ros.extraction import Extractor
from gcnv2_ros.features import Features
from gcnv2_ros.ros.features_msg import ReceivedFeatures, decode_features
from gcnv2_ros.ros.frontend import FrontendNode
from gcnv2_ros.transport import profile_variable

REPOSITORY = Path(__file__).resolve().parents[1]
TIMEOUT = 120.0
"""Seconds that anything may take before a test gives up; waits end as soon as their condition holds."""

os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
PROFILE_VARIABLE = profile_variable(os.environ)
"""Where Fast DDS looks for its profiles."""
os.environ[PROFILE_VARIABLE] = str(REPOSITORY / "config" / "fastdds" / "large_images.xml")
os.environ.pop("FASTDDS_BUILTIN_TRANSPORTS", None)


def textured(seed: int, width: int = 320, height: int = 240) -> np.ndarray:
    """A gray image of random patches, uint8 (height, width): corners everywhere."""
    patches = np.random.default_rng(seed).integers(0, 256, (-(-height // 12), -(-width // 12))).astype(np.uint8)
    return np.kron(patches, np.ones((12, 12), np.uint8))[:height, :width].copy()


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


def depth_message(depth: np.ndarray, encoding: str) -> Image:
    """Depth in metres as a message."""
    values = depth.astype(np.float32) if encoding == "32FC1" else np.nan_to_num(depth * 1000).astype(np.uint16)
    height, width = depth.shape
    message = Image(height=height, width=width, encoding=encoding, step=values[0].nbytes, is_bigendian=0)
    data = array.array("B")
    data.frombytes(values.tobytes())
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
    prefix
        Command that runs the command.
    """

    def __init__(
        self,
        log: Path,
        parameters: Mapping[str, Any] | None = None,
        remappings: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        command = [*prefix, sys.executable, "-m", "gcnv2_ros.ros.frontend", "--ros-args", *arguments]
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


class InProcess:
    """``gcnv2_frontend`` with an extractor of the test's own, in a thread of this process; a context manager.

    Parameters
    ----------
    create
        Builds the extractor.
    namespace
        Of the node.
    parameters
        Of the node.
    """

    def __init__(
        self, create: Callable[..., Extractor], namespace: str, parameters: Mapping[str, Any] | None = None
    ) -> None:
        self._context = Context()
        arguments = [item for name, value in (parameters or {}).items() for item in ("-p", f"{name}:={value}")]
        rclpy.init(context=self._context, args=["--ros-args", "-r", f"__ns:={namespace}", *arguments])
        self.node = FrontendNode(create=create, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)

    def __enter__(self) -> InProcess:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._thread.join(10)
        self.node.close()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)


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


class Robot:
    """Publishes the messages of one moment together, and gets the features of it."""

    def __init__(self, probe: Probe, name: str, **topics: type) -> None:
        self.probe, self.name = probe, name
        self.clouds: dict[str, list[PointCloud2]] = {}
        self._publishers = {topic: probe.publisher(kind, f"{name}/{topic}") for topic, kind in topics.items()}
        self._second = 0

    def listen(self, output: str) -> None:
        """Collect what is published on an output of the node."""
        topic = f"{self.name}/{output}"
        self.clouds[output] = self.probe.collect(PointCloud2, topic)
        self.probe.wait_for(lambda: self.probe.node.count_publishers(topic), topic)

    def send(self, messages: dict[str, Any]) -> int:
        """Publish messages with one new stamp; returns its seconds."""
        self._second += 10
        self._publish(messages, self._second)
        return self._second

    def _publish(self, messages: dict[str, Any], second: int) -> None:
        for topic, message in messages.items():
            message.header.stamp.sec = second
            self._publishers[topic].publish(message)

    def extract(
        self, messages: dict[str, Any], output: str = "features", size: tuple[int, int] = (320, 240)
    ) -> ReceivedFeatures:
        """Publish messages, again and again, until the features of their stamp come."""
        self._second += 10
        second = self._second
        cloud = self.probe.wait_for(
            lambda: self.with_stamp(output, second),
            f"{output} of {second} s",
            meanwhile=lambda: self._publish(messages, second),
        )[-1]
        return decode_features(cloud, image_size=size)

    def with_stamp(self, output: str, second: int) -> list[PointCloud2]:
        """The messages of one moment."""
        return [cloud for cloud in self.clouds[output] if cloud.header.stamp.sec == second]

    def extract_until(self, messages: dict[str, Any], good: Callable[[Features], bool]) -> ReceivedFeatures:
        """As `extract`, anew until the features are as wanted: calibrations travel by themselves."""
        for _ in range(20):
            received = self.extract(messages)
            if good(received.features):
                return received
        raise AssertionError("the features never were as expected")


def assert_same(received: Features, expected: Features) -> None:
    """Two sets of features have the same keypoints and descriptors."""
    np.testing.assert_array_equal(received.uv, expected.uv)
    np.testing.assert_array_equal(received.descriptors, expected.descriptors)


def diagnostics_of(messages: list[DiagnosticArray], name: str) -> dict[str, str]:
    """The latest values of a status."""
    for message in reversed(messages):
        for status in message.status:
            if status.name == f"{name.lstrip('/')}: features":
                return {entry.key: entry.value for entry in status.values}
    return {}
