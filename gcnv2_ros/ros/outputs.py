# SPDX-License-Identifier: Apache-2.0
"""What one camera's features are published as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image, PointCloud2

from ..camera import CameraError
from ..features import Features
from .calibration import View
from .camera_state import CameraState
from .debug_image import debug_image
from .features_msg import encode_features
from .frames import DecodedFrame
from .parameters import FrontendOptions
from .points_msg import encode_points
from .qos import volatile_qos


class CameraOutputs:
    """The publishers of one camera.

    Parameters
    ----------
    node
        Whose publishers they are.
    camera
        The camera.
    options
        The node's parameters.
    """

    def __init__(self, node: LifecycleNode, camera: CameraState, options: FrontendOptions) -> None:
        self._node = node
        self._camera = camera
        self._latest_debug_image = -float("inf")
        topics = camera.topics

        def publisher(message_type: Any, topic: str | None, depth: int) -> Any:
            if topic is None:
                return None
            return node.create_lifecycle_publisher(
                message_type, topic, volatile_qos(options.publish_reliability, depth)
            )

        self._features = publisher(PointCloud2, topics.features, options.publish_depth)
        self._right_features = publisher(PointCloud2, topics.right_features, options.publish_depth)
        self._points = publisher(PointCloud2, topics.points, 1)
        self._debug = publisher(Image, topics.debug_image, 1)

    def close(self) -> None:
        """Remove the publishers."""
        for publisher in (self._features, self._right_features, self._points, self._debug):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def publish(self, decoded: DecodedFrame, features: Features, right: Features | None) -> NDArray[np.float32] | None:
        """Publish the features; returns their viewing rays, or None without calibration."""
        messages = decoded.frame.messages
        rays = self._rays(decoded.views[0], features)
        if right is not None:
            right_rays = self._rays(decoded.views[1], right)
            self._right_features.publish(encode_features(right, messages["right"].header, right_rays))
        self._features.publish(encode_features(features, messages["image"].header, rays))
        self._camera.statistics.count_processed(decoded.frame.received_at, len(features))
        return rays

    def publish_views(
        self,
        decoded: DecodedFrame,
        features: Features,
        rays: NDArray[np.float32] | None,
        *,
        appearance: Callable[[], NDArray[np.uint8]],
        debug_image_rate: float,
    ) -> None:
        """Publish what is for people's eyes, each only while somebody subscribes.

        Parameters
        ----------
        decoded, features, rays
            The frame and its features.
        appearance
            Gives the image for the colours of points.
        debug_image_rate
            At most so many debug images a second; 0: none.
        """
        header = decoded.frame.messages["image"].header
        if self._points is not None and rays is not None and self._points.get_subscription_count():
            self._points.publish(encode_points(features, rays, header, image=appearance()))
        now = self._camera.statistics.now()
        if not debug_image_rate or now - self._latest_debug_image < 1.0 / debug_image_rate:
            return
        if self._debug.get_subscription_count():
            self._latest_debug_image = now
            self._debug.publish(debug_image(decoded.grays[0], features, header))

    def _rays(self, view: View, features: Features) -> NDArray[np.float32] | None:
        try:
            return view.rays(features)
        except CameraError as error:
            self._camera.reporter.warn(f"rays: {error}", str(error))
            return None
