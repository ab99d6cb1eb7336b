# SPDX-License-Identifier: Apache-2.0
"""The path of a frame: image message, gray image, features, features message."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header, String

from ..camera import CameraError
from ..extraction import ModelInfo, create_extractor
from ..features import Features
from .calibration import Calibration
from .debug_image import debug_image
from .features_msg import describe_schema, encode_features
from .images import compressed_to_gray, image_to_gray
from .parameters import FrontendOptions
from .qos import LATCHED, volatile_qos
from .reporting import Reporter
from .statistics import Statistics

_WARM_UP_SIZE = (640, 480)


@dataclass(frozen=True)
class Frame:
    """An image message as it came.

    Attributes
    ----------
    message
        sensor_msgs/Image or sensor_msgs/CompressedImage.
    received_at
        Monotonic time of its receipt, by the clock of the node's statistics.
    """

    message: Image | CompressedImage
    received_at: float


class Pipeline:
    """The extractor of a configured node, and the publishers of what it makes.

    `process` runs in the worker's thread, everything else in the executor's.

    Parameters
    ----------
    node
        Whose topics they are.
    options
        The node's parameters.
    calibration
        Where viewing rays come from.
    statistics, reporter
        Where frames are counted and faults are told.

    Raises
    ------
    GCNv2Error
        If the model cannot be loaded or does not run.
    """

    def __init__(
        self,
        node: LifecycleNode,
        options: FrontendOptions,
        calibration: Calibration,
        statistics: Statistics,
        reporter: Reporter,
    ) -> None:
        self._node = node
        self._options = options
        self._calibration = calibration
        self._statistics = statistics
        self._reporter = reporter
        self._latest_debug_image = -float("inf")
        self._extractor = create_extractor(options.extractor, options.decode)
        # The first run of a network is slow and shows what a device cannot do: better now than at the first frame.
        width, height = options.extractor.input_size or _WARM_UP_SIZE
        self._extractor.extract(np.zeros((height, width), np.uint8))
        reliability = options.publish_reliability
        self._features_publisher = node.create_lifecycle_publisher(
            PointCloud2, "~/features", volatile_qos(reliability, options.publish_depth)
        )
        self._debug_publisher = node.create_lifecycle_publisher(Image, "~/debug_image", volatile_qos(reliability, 1))
        self._info_publisher = node.create_publisher(String, "~/model_info", LATCHED)
        self._publish_info()

    @property
    def info(self) -> ModelInfo:
        """What the extractor is."""
        return self._extractor.info

    def set_options(self, options: FrontendOptions) -> None:
        """Take over live parameters, from the next frame on."""
        decode_changed = options.decode != self._options.decode
        self._options = options
        if decode_changed:
            self._extractor.decode_options = options.decode
            self._publish_info()

    def process(self, frame: Frame) -> None:
        """Decode, extract, publish.

        Raises
        ------
        ImageError, ExtractionError
            If the message holds no image that can be used.
        """
        message = frame.message
        gray = compressed_to_gray(message) if isinstance(message, CompressedImage) else image_to_gray(message)
        features = self._extractor.extract(gray)
        self._features_publisher.publish(encode_features(features, message.header, self._rays(features)))
        self._statistics.count_processed(frame.received_at, len(features))
        self._publish_debug_image(gray, features, message.header)

    def close(self) -> None:
        """Remove the publishers and free the model."""
        self._node.destroy_lifecycle_publisher(self._features_publisher)
        self._node.destroy_lifecycle_publisher(self._debug_publisher)
        self._node.destroy_publisher(self._info_publisher)
        self._extractor.close()

    def _rays(self, features: Features) -> NDArray[np.float32] | None:
        try:
            return self._calibration.rays(features)
        except CameraError as error:
            self._reporter.warn("camera_info", str(error))
            return None

    def _publish_debug_image(self, gray: NDArray[np.uint8], features: Features, header: Header) -> None:
        rate = self._options.debug_image_rate
        now = self._statistics.now()
        if not rate or now - self._latest_debug_image < 1.0 / rate:
            return
        if self._debug_publisher.get_subscription_count():
            self._latest_debug_image = now
            self._debug_publisher.publish(debug_image(gray, features, header))

    def _publish_info(self) -> None:
        info = self._extractor.info
        content = {
            **dataclasses.asdict(info),
            "features_message": describe_schema(info.metric, info.descriptor_width),
        }
        self._info_publisher.publish(String(data=json.dumps(content)))


def image_message_type(options: FrontendOptions) -> Any:
    """The message class of the image topic."""
    return CompressedImage if options.image_transport == "compressed" else Image
