# SPDX-License-Identifier: Apache-2.0
"""The path of frames: messages, gray images, features, depth, features messages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import String

from ..errors import GCNv2Error
from ..extraction import ModelInfo
from ..features import Features
from ..tracking import TrackStatistics
from .backend_outputs import BackendOutputs
from .camera_state import CameraState, Frame, for_camera
from .fallback import ExtractorFactory, FallbackExtractor
from .features_msg import describe_schema
from .frames import DecodedFrame, FrameDecoder
from .gravity import RollSource
from .outputs import CameraOutputs
from .parameters import FrontendOptions
from .qos import LATCHED, volatile_qos
from .rtabmap_msg import require_rtabmap_msgs
from .synchronization import stamp_ns


class Pipeline:
    """The one extractor of a configured node, and what decodes and publishes for each of its cameras.

    `process` runs in the worker's thread, everything else in the executor's.

    Parameters
    ----------
    node
        Whose topics they are.
    options
        The node's parameters.
    cameras
        The node's cameras.
    create
        Builds the extractor.
    roll_source
        Where the cameras' roll comes from; None: images are taken as they are.
    on_fallback
        Called with a sentence if the extractor has to go on with the CPU.

    Raises
    ------
    GCNv2Error
        If the model, a calibration or a mask cannot be loaded, the model does not run, or rtabmap_msgs is needed and
        not installed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        options: FrontendOptions,
        cameras: Sequence[CameraState],
        *,
        create: ExtractorFactory,
        roll_source: RollSource | None,
        on_fallback: Callable[[str], None],
    ) -> None:
        self._node = node
        self._options = options
        self._cameras = cameras
        self._roll_source = roll_source
        self._on_fallback = on_fallback
        self._info_publisher: Any = None
        if options.rtabmap:
            # Before there is anything that would have to be removed again.
            require_rtabmap_msgs()
        for camera in cameras:
            if options.calibration_file:
                camera.calibration.load(for_camera(options.calibration_file, camera.topics.name))
            if options.mode == "stereo" and options.right_calibration_file:
                camera.right_calibration.load(options.right_calibration_file)
        self._decoders = [FrameDecoder(camera, options) for camera in cameras]
        self._extractor = FallbackExtractor(options.extractor, options.decode, create, self._fell_back)
        self._outputs = [CameraOutputs(node, camera, options) for camera in cameras]
        self._backends = [self._backend_outputs(camera) for camera in cameras]
        self._info_publisher = node.create_publisher(String, "~/model_info", LATCHED)
        self._publish_info()

    @property
    def info(self) -> ModelInfo:
        """What the extractor is."""
        return self._extractor.info

    def track_statistics(self, camera: int) -> TrackStatistics | None:
        """What became of the latest frame's keypoints of a camera, by its index; None without tracking."""
        return self._backends[camera].track_statistics

    def set_options(self, options: FrontendOptions) -> None:
        """Take over live parameters, from the next frame on."""
        decode_changed = options.decode != self._options.decode
        self._options = options
        if decode_changed:
            self._extractor.set_decode_options(options.decode)
            self._publish_info()

    def process(self, frames: Sequence[Frame]) -> None:
        """Decode, extract in one run, complete, publish. A frame that cannot be processed does not harm the others."""
        options = self._options
        decoded = []
        for frame in frames:
            try:
                entry = self._decoders[frame.camera].decode(frame, options)
                decoded.append((entry, self._roll(entry)))
            except Exception as error:
                self.failed([frame], error)
        for entry, features in self._extracted(decoded):
            try:
                self._finish(entry, features, options)
            except Exception as error:
                self.failed([entry.frame], error)

    def failed(self, frames: Sequence[Frame], error: Exception) -> None:
        """Count and tell that frames could not be processed."""
        # When ROS is shut down, publishing fails; that is no fault of the frame.
        if self._node.context.ok():
            for frame in frames:
                camera = self._cameras[frame.camera]
                camera.reporter.dropped(camera.image_topic, error)

    def close(self) -> None:
        """Remove the publishers and free the model."""
        for outputs in self._outputs:
            outputs.close()
        for backends in self._backends:
            for publisher in backends.publishers:
                self._node.destroy_lifecycle_publisher(publisher)
        self._node.destroy_publisher(self._info_publisher)
        self._extractor.close()

    def _extracted(self, decoded: list[tuple[DecodedFrame, float]]) -> list[tuple[DecodedFrame, list[Features]]]:
        """The features of each frame's images, of all frames in one run of the network if that goes well."""
        if not decoded:
            return []
        try:
            features = iter(
                self._extractor.extract_batch(
                    [gray for entry, _ in decoded for gray in entry.grays],
                    masks=[mask for entry, _ in decoded for mask in entry.masks],
                    rolls=[roll for entry, roll in decoded for _ in entry.grays],
                )
            )
        except Exception as error:
            if len(decoded) > 1:
                # One of them may be the culprit.
                return [result for entry in decoded for result in self._extracted([entry])]
            self.failed([decoded[0][0].frame], error)
            return []
        return [(entry, [next(features) for _ in entry.grays]) for entry, _ in decoded]

    def _finish(self, decoded: DecodedFrame, features: list[Features], options: FrontendOptions) -> None:
        camera = decoded.frame.camera
        decoder, outputs = self._decoders[camera], self._outputs[camera]
        right = features[1] if len(features) > 1 else None
        backends, stamp = self._backends[camera], stamp_ns(decoded.frame.messages["image"])
        if backends.repeats(stamp):
            topic = self._cameras[camera].image_topic
            self._cameras[camera].reporter.warn(
                "repeated stamp",
                f"the stamps of {topic} repeat: two images of {stamp * 1e-9:.3f} s, between which no keypoint is "
                "followed; does the driver stamp its images?",
            )
        # Tracking refines positions, on which depth depends.
        followed = backends.follow(features[0], stamp, decoded.grays[0])
        completed = decoder.complete(decoded, followed, right, options)
        rays = outputs.publish(decoded, completed, right)
        self._publish_for_backends(decoded, completed, rays)
        try:
            outputs.publish_views(
                decoded,
                completed,
                rays,
                appearance=lambda: decoder.appearance(decoded, options),
                debug_image_rate=options.debug_image_rate,
            )
        except Exception as error:
            # The features are out, so that the frame is not lost; and a ROS that is shut down is no fault of it.
            if self._node.context.ok():
                self._cameras[camera].reporter.degraded("points or the debug image are not published", error)

    def _backend_outputs(self, camera: CameraState) -> BackendOutputs:
        options = self._options
        return BackendOutputs(
            lambda kind, topic: self._node.create_lifecycle_publisher(
                kind, topic, volatile_qos(options.publish_reliability, options.publish_depth)
            ),
            tracking=options.tracking,
            vins=options.vins,
            rtabmap=options.rtabmap,
            prefix=f"~/{camera.topics.name}/" if camera.topics.name else "~/",
        )

    def _publish_for_backends(
        self, decoded: DecodedFrame, features: Features, rays: NDArray[np.float32] | None
    ) -> None:
        camera = self._cameras[decoded.frame.camera]
        backends = self._backends[camera.index]
        if not backends.publishers or rays is None:
            return
        try:
            backends.publish(
                features,
                rays,
                decoded.frame.messages,
                camera=decoded.views[0].seen,
                right_camera=decoded.views[1].seen if len(decoded.views) > 1 else None,
            )
        except GCNv2Error as error:
            camera.reporter.degraded("a frame is not published for the backends", error)

    def _roll(self, decoded: DecodedFrame) -> float:
        if self._roll_source is None:
            return 0.0
        camera = self._cameras[decoded.frame.camera]
        image, rectification = decoded.frame.messages["image"], decoded.views[0].rectification
        try:
            return self._roll_source.roll(camera.index, image, rectification)
        except GCNv2Error as error:
            camera.reporter.warn("no gravity", f"an image from {camera.image_topic} is not turned upright: {error}")
            return 0.0

    def _fell_back(self, sentence: str) -> None:
        self._on_fallback(sentence)
        # While the extractor is being built there is no publisher yet and nothing to correct.
        if self._info_publisher is not None:
            self._publish_info()

    def _publish_info(self) -> None:
        info = self._extractor.info
        content = {
            **dataclasses.asdict(info),
            "mode": self._options.mode,
            "rectified": self._options.rectified,
            "features_message": describe_schema(info.metric, info.descriptor_width),
        }
        self._info_publisher.publish(String(data=json.dumps(content)))
