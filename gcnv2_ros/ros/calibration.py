# SPDX-License-Identifier: Apache-2.0
"""The calibration of a camera stream, kept up to date from its camera_info or read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import distortion
from ..calibration_files import read_calibration
from ..camera import Camera, CameraError
from ..features import Features
from ..geometry import rectified_pair_geometry
from ..rectification import Rectifier

if TYPE_CHECKING:
    from sensor_msgs.msg import CameraInfo

# As many as the publishers that share a topic by mistake; what rectifies is made once for each and takes long.
_KEPT_VIEWS = 2


class View:
    """The calibration that holds for a frame: that of the moment at which it was taken up.

    It never changes; to be used from one thread.

    Parameters
    ----------
    camera
        The camera; None where there is none, or it is not calibrated.
    rectified
        Whether features are those of a rectified image, be it rectified before it came or in the node.
    source
        Where the calibration comes from, in words.
    """

    def __init__(self, camera: Camera | None, *, rectified: bool, source: str) -> None:
        self.camera = camera
        self._rectified = rectified
        self._source = source
        self._rectifier: Rectifier | None = None

    @property
    def seen(self) -> Camera | None:
        """The camera of the image that features are of, which is the rectified one's where that is rectified.

        Raises
        ------
        CameraError
            If the calibration has no projection where the image is rectified.
        """
        return self.camera.rectified() if self._rectified and self.camera is not None else self.camera

    @property
    def rectification(self) -> NDArray[np.float64] | None:
        """(3, 3), from the camera's optical frame to that of the image that features are of; None where it is that."""
        return self.camera.rectification if self._rectified and self.camera is not None else None

    def required(self) -> Camera:
        """The camera.

        Raises
        ------
        CameraError
            If there is none.
        """
        if self.camera is None:
            raise CameraError(f"there is no calibration: no camera_info has come, or {self._source} is uncalibrated")
        return self.camera

    def rectifier(self) -> Rectifier:
        """What rectifies the images of this camera, made once.

        Raises
        ------
        CameraError
            If there is no calibration, or one without a projection.
        """
        if self._rectifier is None:
            self._rectifier = Rectifier(self.required())
        return self._rectifier

    def of_size(self, size: tuple[int, int], left_out: str) -> Camera:
        """The camera, of images of `size` (width, height); `left_out` says what there is not otherwise.

        Raises
        ------
        CameraError
            If there is none, or it is for images of another size.
        """
        camera = self.required()
        if (camera.width, camera.height) != size:
            raise CameraError(
                f"the images are {size[0]}x{size[1]} pixels and {self._source} is for {camera.width}x{camera.height}; "
                f"{left_out} left out"
            )
        return camera

    def rays(self, features: Features) -> NDArray[np.float32] | None:
        """Viewing rays (N, 3) of the keypoints, z = 1; None without calibration.

        Raises
        ------
        CameraError
            If the calibration is for images of another size, or has no projection where the image is rectified.
        """
        seen = self.seen
        if seen is None:
            return None
        self.of_size(features.image_size, "viewing rays are")
        return seen.rays(features.uv)


class Calibration:
    """The latest usable calibration of one camera.

    `update` may be called from another thread than that which takes up the `view`.

    Parameters
    ----------
    rectified
        See `View`.
    """

    def __init__(self, *, rectified: bool = False) -> None:
        self._rectified = rectified
        self._content: tuple[Any, ...] | None = None
        self._kept: dict[tuple[Any, ...], View] = {}
        self._view = View(None, rectified=rectified, source="camera_info")
        # So that the first frame does not wait for it.
        distortion.compiled()

    @property
    def view(self) -> View:
        """What holds now; for a frame it is taken up once, so that all of it is seen by one camera."""
        return self._view

    @property
    def camera(self) -> Camera | None:
        """The camera; None before the first message, and while camera_info says that it is not calibrated."""
        return self._view.camera

    def load(self, path: str) -> None:
        """Read the calibration from a file.

        Raises
        ------
        CameraError
            If the file is no calibration.
        """
        self._view = View(read_calibration(path), rectified=self._rectified, source=f"the calibration file {path}")

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
        view = self._kept.pop(content, None)
        if view is None:
            camera = None
            try:
                camera = Camera.from_camera_info(message)
            finally:
                self._view = View(camera, rectified=self._rectified, source="camera_info")
        else:
            self._view = view
        # The latest one last, so that the first is the one to go.
        self._kept[content] = self._view
        while len(self._kept) > _KEPT_VIEWS:
            del self._kept[next(iter(self._kept))]
        return True


def stereo_geometry(left: View, right: View, image_size: tuple[int, int]) -> tuple[float, float]:
    """Focal length in pixels and baseline in metres of a rectified pair, whose images are of `image_size`.

    Raises
    ------
    CameraError
        If a calibration is missing or for images of another size, or the two are not those of a rectified pair.
    """
    cameras = [view.of_size(image_size, "depth is") for view in (left, right)]
    return rectified_pair_geometry(*cameras)
