# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node ``gcnv2_frontend``: camera images in, keypoints and descriptors out.

Messages arrive in the executor's thread, which hands them to one worker thread and is free again for services,
parameters and diagnostics. The worker decodes, extracts and publishes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from ..errors import GCNv2Error
from ..extraction import create_extractor
from ..messages.color_conversion import available_converters
from .camera_state import Frame, create_cameras
from .declaration import declare_parameters
from .diagnostics import diagnostic_array, diagnostic_status
from .fallback import ExtractorFactory
from .gravity import RollSource, create_roll_source
from .inputs import CameraInputs
from .parameters import PARAMETERS, FrontendOptions, ParameterSpec, current_options
from .pipeline import Pipeline
from .running import run_node
from .worker import Worker

NODE_NAME = "gcnv2_frontend"

_DIAGNOSTICS_PERIOD = 1.0
_STOP_SECONDS = 10.0


def _odometry_parameters() -> Sequence[ParameterSpec]:
    # Its table imports the odometry, which this node does not need.
    from .odometry_parameters import ODOMETRY_PARAMETERS

    return ODOMETRY_PARAMETERS


class FrontendNode(LifecycleNode):
    """The node; see the module's description and `gcnv2_ros.ros.parameters.PARAMETERS`.

    configure loads the model, activate subscribes, deactivate stops, cleanup frees the model. What goes wrong in one of
    them is logged and leaves a node that can be configured again.

    Parameters
    ----------
    create
        Builds the extractor; for programs that bring their own.
    node_arguments
        As for rclpy's nodes.

    Raises
    ------
    GCNv2Error
        If a parameter given at the start is wrong.
    """

    def __init__(self, *, create: ExtractorFactory = create_extractor, **node_arguments: Any) -> None:
        super().__init__(NODE_NAME, automatically_declare_parameters_from_overrides=True, **node_arguments)
        declare_parameters(self, PARAMETERS, partner=_odometry_parameters)
        self._options = current_options(self)
        self._create = create
        self._cameras = create_cameras(self, self._options)
        # For what concerns the node as a whole.
        self._reporter = self._cameras[0].reporter
        self._pipeline: Pipeline | None = None
        self._worker: Worker[Frame] | None = None
        self._inputs: list[CameraInputs] = []
        self._roll_source: RollSource | None = None
        self._roll_subscriptions: list[Any] = []
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
        """Unsubscribe, stop the worker and free the model, whatever the state; a frame that does not end keeps it."""
        if self._stop():
            self._free()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        try:
            self._roll_source = create_roll_source(self._options)
            self._pipeline = Pipeline(
                self,
                self._options,
                self._cameras,
                create=self._create,
                roll_source=self._roll_source,
                on_fallback=self._on_fallback,
            )
        except GCNv2Error as error:
            self._reporter.failed("cannot configure", error)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self._reporter.failed("cannot configure", error)
            return TransitionCallbackReturn.ERROR
        self._log_configuration(self._pipeline)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe; a failure while a frame of the time before is still in work."""
        if not self._stop():
            return TransitionCallbackReturn.FAILURE
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
        """Free the model and remove the publishers; a failure while a frame is still in work, which needs them."""
        if not self._stop():
            return TransitionCallbackReturn.FAILURE
        self._free()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, so that the node can be configured again; a failure where a frame does not end."""
        self.close()
        return TransitionCallbackReturn.SUCCESS if self._pipeline is None else TransitionCallbackReturn.FAILURE

    def _start(self) -> None:
        assert self._pipeline is not None, "the state machine activates configured nodes only"
        options = self._options
        for camera in self._cameras:
            camera.statistics.reset()
        self._worker = Worker(
            self._pipeline.process,
            self._pipeline.failed,
            capacity=1 if options.queue == "latest" else options.queue_limit,
            lanes=len(self._cameras),
            gather=options.batch_wait,
        )
        if self._roll_source is not None:
            self._roll_subscriptions = self._roll_source.subscribe(self, lambda text: self._reporter.warn("roll", text))
        self._inputs = [CameraInputs(self, camera, options, self._on_frame) for camera in self._cameras]
        self.get_logger().info(f"active: images from {', '.join(camera.image_topic for camera in self._cameras)}")
        if self._inputs[0].library:
            self.get_logger().info(f"messages are brought together by {self._inputs[0].library}")

    def _stop(self) -> bool:
        """Unsubscribe and let the worker end; returns whether it has, as until then the pipeline is its own."""
        for inputs in self._inputs:
            inputs.close()
        self._inputs = []
        for subscription in self._roll_subscriptions:
            self.destroy_subscription(subscription)
        self._roll_subscriptions = []
        if self._worker is None:
            return True
        waiting, ended = self._worker.stop(_STOP_SECONDS)
        for camera, count in zip(self._cameras, waiting):
            if count:
                camera.statistics.count_dropped("deactivated", count)
        if ended:
            self._worker = None
        else:
            self.get_logger().error(
                f"the latest frame is still being processed after {_STOP_SECONDS:g} s; until it ends the node keeps "
                "its model and cannot be activated or cleaned up"
            )
        return ended

    def _free(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()

    def _on_frame(self, frame: Frame) -> None:
        if self._worker is None:
            return
        camera = self._cameras[frame.camera]
        dropped = self._worker.submit(frame, frame.camera)
        if dropped and self._options.queue == "latest":
            camera.statistics.count_dropped("newer frame", dropped)
        elif dropped:
            camera.statistics.count_dropped("queue full", dropped)
            limit = self._options.queue_limit
            camera.reporter.warn("queue full", f"{limit} frames wait (queue_limit); the oldest is dropped")

    def _on_fallback(self, sentence: str) -> None:
        for camera in self._cameras:
            camera.statistics.note_error(sentence)
        self.get_logger().error(sentence)

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
        """Publish diagnostics, look for latched calibrations, and say in the log what is amiss with the topics."""
        name = self.get_fully_qualified_name()
        timeout = self._options.image_timeout
        statuses = [
            diagnostic_status(
                name=f"{name}/{camera.topics.name}" if camera.topics.name else name,
                state=self._state_machine.current_state[1],
                info=self._pipeline.info if self._pipeline else None,
                snapshot=camera.statistics.snapshot(),
                topic=camera.image_topic,
                image_timeout=timeout,
                unmatched=camera.unmatched,
                tracks=self._pipeline.track_statistics(camera.index) if self._pipeline else None,
            )
            for camera in self._cameras
        ]
        self._diagnostics.publish(diagnostic_array(self.get_clock().now().to_msg(), statuses))
        for inputs in self._inputs:
            inputs.subscribe_to_latched()
            inputs.report_unmatched()
            if timeout:
                inputs.report_silence(timeout)

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


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code, see `gcnv2_ros.ros.running.run_node`."""
    return run_node(
        NODE_NAME,
        FrontendNode,
        arguments=args,
        start=lambda node: not node.options.autostart or node.bring_up(),
        close=FrontendNode.close,
    )


if __name__ == "__main__":
    raise SystemExit(main())
