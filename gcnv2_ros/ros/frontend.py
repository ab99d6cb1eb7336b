# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node ``gcnv2_frontend``: camera images in, keypoints and descriptors out.

Messages arrive in the executor's thread, which hands them to one worker thread and is free again for services,
parameters and diagnostics. The worker decodes, extracts and publishes.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo

from ..camera import CameraError
from ..errors import GCNv2Error
from .calibration import Calibration
from .color_conversion import available_converters
from .diagnostics import diagnostic_array
from .parameters import FrontendOptions, current_options, declare_parameters
from .pipeline import Frame, Pipeline, image_message_type
from .qos import create_counting_subscription, describe_publishers, volatile_qos
from .reporting import Reporter
from .statistics import Statistics
from .worker import Worker

NODE_NAME = "gcnv2_frontend"

_DIAGNOSTICS_PERIOD = 1.0
_STOP_SECONDS = 10.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class FrontendNode(LifecycleNode):
    """The node; see the module's description and `gcnv2_ros.ros.parameters.PARAMETERS`.

    configure loads the model, activate subscribes, deactivate stops, cleanup frees the model. What goes wrong in one of
    them is logged and leaves a node that can be configured again.

    Raises
    ------
    ParameterError, ExtractionError
        If a parameter given at the start is wrong.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__(NODE_NAME, automatically_declare_parameters_from_overrides=True, **node_arguments)
        declare_parameters(self)
        self._options = current_options(self)
        self._statistics = Statistics()
        self._reporter = Reporter(self.get_logger(), self._statistics)
        self._calibration = Calibration()
        self._pipeline: Pipeline | None = None
        self._worker: Worker[Frame] | None = None
        self._inputs: list[Any] = []
        # As image_transport has it: the base topic is remapped, the transport's name is appended to the result.
        suffix = "/compressed" if self._options.image_transport == "compressed" else ""
        self._image_topic = self.resolve_topic_name("image") + suffix
        self._image_qos = volatile_qos(self._options.subscribe_reliability, self._options.subscribe_depth)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On the steady clock, so that a simulation that stands still is reported too.
        self.create_timer(_DIAGNOSTICS_PERIOD, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def options(self) -> FrontendOptions:
        """The parameters' values as they stand."""
        return self._options

    def bring_up(self) -> bool:
        """Configure and activate; returns whether both succeeded. What went wrong is in the log."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def close(self) -> None:
        """Unsubscribe, stop the worker and free the model, whatever the state."""
        self._stop()
        self._free()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        try:
            self._pipeline = Pipeline(self, self._options, self._calibration, self._statistics, self._reporter)
        except GCNv2Error as error:
            self._reporter.failed("cannot configure", error)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self._reporter.failed("cannot configure", error)
            return TransitionCallbackReturn.ERROR
        self._log_configuration(self._pipeline)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe."""
        result = super().on_activate(state)
        try:
            self._start()
        except Exception as error:
            self._reporter.failed("cannot activate", error)
            return TransitionCallbackReturn.ERROR
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop the worker."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and remove the publishers."""
        self._free()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, so that the node can be configured again."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def _start(self) -> None:
        assert self._pipeline is not None, "the state machine activates configured nodes only"
        self._statistics.reset()
        capacity = 1 if self._options.queue == "latest" else self._options.queue_limit
        self._worker = Worker(self._pipeline.process, self._on_failed, capacity=capacity)
        self._inputs = [
            create_counting_subscription(
                self,
                image_message_type(self._options),
                self._image_topic,
                self._on_image,
                self._image_qos,
                self._on_lost,
            ),
            self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, volatile_qos("best_effort", 5)),
        ]
        self.get_logger().info(f"active: images from {self._image_topic}")

    def _stop(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        worker, self._worker = self._worker, None
        if worker is None:
            return
        waiting, ended = worker.stop(_STOP_SECONDS)
        if waiting:
            self._statistics.count_dropped("deactivated", waiting)
        if not ended:
            self.get_logger().error(f"the latest frame is still being processed after {_STOP_SECONDS:g} s")

    def _free(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()

    def _on_image(self, message: Any) -> None:
        if self._worker is None:
            return
        now = self._statistics.now()
        self._statistics.count_received(now)
        dropped = self._worker.submit(Frame(message, now))
        if dropped and self._options.queue == "latest":
            self._statistics.count_dropped("newer frame", dropped)
        elif dropped:
            self._statistics.count_dropped("queue full", dropped)
            limit = self._options.queue_limit
            self._reporter.warn("queue full", f"{limit} frames wait (queue_limit); the oldest is dropped")

    def _on_lost(self, count: int) -> None:
        self._statistics.count_dropped("lost in transport", count)

    def _on_failed(self, frame: Frame, error: Exception) -> None:
        # When ROS is shut down, publishing fails; that is no fault of the frame.
        if self.context.ok():
            self._reporter.dropped(self._image_topic, error)

    def _on_camera_info(self, message: CameraInfo) -> None:
        try:
            changed = self._calibration.update(message)
        except CameraError as error:
            self._reporter.warn("camera_info", f"{error}; viewing rays are NaN")
            return
        if changed and self._calibration.camera is None:
            self._reporter.warn("camera_info", "camera_info: the camera is not calibrated; viewing rays are NaN")

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Check and apply live changes; rclpy itself refuses read-only parameters and values out of range."""
        try:
            self._options = current_options(self, changes)
        except GCNv2Error as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._pipeline is not None:
            self._pipeline.set_options(self._options)
        return SetParametersResult(successful=True)

    def _report(self) -> None:
        """Publish diagnostics, and say in the log when no image comes."""
        snapshot = self._statistics.snapshot()
        timeout = self._options.image_timeout
        self._diagnostics.publish(
            diagnostic_array(
                self.get_clock().now().to_msg(),
                name=self.get_fully_qualified_name(),
                state=self._state_machine.current_state[1],
                info=self._pipeline.info if self._pipeline else None,
                snapshot=snapshot,
                topic=self._image_topic,
                image_timeout=timeout,
            )
        )
        if self._worker is not None and timeout and snapshot.silence > timeout:
            expected = f"sensor_msgs/msg/{image_message_type(self._options).__name__}"
            reason = describe_publishers(self, self._image_topic, expected, self._image_qos)
            # By reason, so that a change of the reason is told at once.
            sentence = f"no image on {self._image_topic} for {snapshot.silence:.0f} s: {reason}"
            self._reporter.warn(f"silence: {reason}", sentence)

    def _log_configuration(self, pipeline: Pipeline) -> None:
        info = pipeline.info
        self.get_logger().info(
            f"configured: {info.model} (weights: {info.weights or 'none'}) by {info.runtime} on {info.device}, "
            f"{info.precision}"
        )
        if not available_converters():
            self.get_logger().warning(
                "neither cv_bridge nor rosbags-image works here, so that gray images can be read and colour ones "
                "cannot; install one with: pip install rosbags-image"
            )


class _Stopped(BaseException):
    """A signal asks the process to end; not a KeyboardInterrupt, which can set Python's exit code even if caught."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop.

    Returns
    -------
    int
        The process's exit code: 0 after SIGINT, SIGTERM or a shutdown of ROS, 1 if the node cannot start.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, _stop)
    try:
        rclpy.init(args=args)
    # rclpy's own error has no public name; its text says which argument or file is wrong.
    except Exception as error:
        get_logger(NODE_NAME).fatal(f"cannot start: {error}")
        return 1
    node: FrontendNode | None = None
    try:
        node = FrontendNode()
        if node.options.autostart and not node.bring_up():
            return 1 if rclpy.ok() else 0
        rclpy.spin(node)
    except GCNv2Error as error:
        get_logger(NODE_NAME).fatal(f"cannot start: {error}")
        return 1
    except (_Stopped, ExternalShutdownException):
        pass
    finally:
        # A terminal and ros2 launch both send SIGINT; the second one must not cut the end short.
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
