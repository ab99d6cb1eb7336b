# SPDX-License-Identifier: Apache-2.0
"""The calibration of a camera stream, kept up to date from its camera_info."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera, CameraError
from ..features import Features

if TYPE_CHECKING:
    from sensor_msgs.msg import CameraInfo


class Calibration:
    """The latest usable calibration of one camera.

    `update` and `rays` may be called from different threads.
    """

    def __init__(self) -> None:
        self._content: tuple[Any, ...] | None = None
        self._camera: Camera | None = None

    @property
    def camera(self) -> Camera | None:
        """The camera; None before the first message, and while camera_info says that it is not calibrated."""
        return self._camera

    def update(self, message: CameraInfo) -> bool:
        """Take over a camera_info message; returns whether it differs from the one before.

        Raises
        ------
        CameraError
            If it describes no usable camera; until the next change there is then no calibration.
        """
        roi = message.roi
        content = (
            message.width,
            message.height,
            message.distortion_model,
            *(tuple(values) for values in (message.d, message.k, message.r, message.p)),
            (message.binning_x, message.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height),
        )
        if content == self._content:
            return False
        self._content = content
        self._camera = None
        self._camera = Camera.from_camera_info(message)
        return True

    def rays(self, features: Features) -> NDArray[np.float32] | None:
        """Viewing rays (N, 3) of the keypoints, z = 1; None without calibration.

        Raises
        ------
        CameraError
            If the calibration is for images of another size.
        """
        camera = self._camera
        if camera is None:
            return None
        if (camera.width, camera.height) != features.image_size:
            raise CameraError(
                f"the images are {features.image_size[0]}x{features.image_size[1]} pixels and camera_info is for "
                f"{camera.width}x{camera.height}; viewing rays are left out"
            )
        return camera.rays(features.uv)
