# SPDX-License-Identifier: Apache-2.0
"""Rectification: images, masks and depth of a calibrated camera as its rectified, distortion-free twin sees them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import Camera, CameraError
from .depth import check_registered


class Rectifier:
    """Resamples what one camera sees into the rectified image of its calibration.

    The maps are made once, which takes some tens of milliseconds at 640x480.

    Parameters
    ----------
    camera
        A camera with a projection.

    Raises
    ------
    CameraError
        If the calibration has no projection matrix.
    """

    def __init__(self, camera: Camera) -> None:
        self.source = camera
        self.camera = camera.rectified()
        self._columns, self._rows = camera.rectification_maps()
        # A linear interpolation at the very edge would mix in what lies outside.
        inside = (self._columns >= 0) & (self._rows >= 0)
        inside &= (self._columns <= camera.width - 1) & (self._rows <= camera.height - 1)
        self._inside = inside.astype(np.uint8)
        self._inside *= 255
        self._stretch = self._depth_factor()

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The rectified image: uint8 (H, W) or (H, W, C), black where the camera sees nothing.

        Raises
        ------
        CameraError
            If the image has another size than the calibration.
        """
        self._check(image, "image")
        return np.asarray(cv2.remap(image, self._columns, self._rows, cv2.INTER_LINEAR))

    def mask(self, mask: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """A mask (nonzero: keep) of the raw image for the rectified one; 0 also where the camera sees nothing.

        Parameters
        ----------
        mask
            uint8 (H, W); None: all of the raw image is kept.
        """
        if mask is None:
            return self._inside
        self._check(mask, "mask")
        moved = cv2.remap(mask, self._columns, self._rows, cv2.INTER_NEAREST)
        return np.where(self._inside > 0, moved, np.uint8(0))

    def depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Depth of the rectified image, float32 (H, W) metres along its own optical axis; NaN unknown.

        Values are moved and not mixed, so that none appears between two surfaces.

        Parameters
        ----------
        depth
            float32 (H, W), metres along the raw image's optical axis. One of another resolution is taken by the
            nearest pixels.

        Raises
        ------
        DepthError
            If it has no pixels or another shape of frame than the image.
        """
        size = (self.source.width, self.source.height)
        check_registered(depth, size)
        if depth.shape != size[::-1]:
            depth = np.asarray(cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT), np.float32)
        moved = cv2.remap(depth, self._columns, self._rows, cv2.INTER_NEAREST, borderValue=float("nan"))
        return np.where(self._inside > 0, moved * self._stretch, np.float32(np.nan))

    def _depth_factor(self) -> NDArray[np.float32]:
        """Depth in the rectified frame over depth in the camera's own, float32 (H, W)."""
        if self.source.rectification is None:
            return np.ones(self._inside.shape, np.float32)
        grid = self.camera.pixel_grid
        # Third component, in the camera's frame, of the ray that has z = 1 in the rectified frame.
        x, y, z = self.source.rectification[:, 2]
        with np.errstate(divide="ignore"):
            return (1.0 / (grid[..., 0] * x + grid[..., 1] * y + z)).astype(np.float32)

    def _check(self, image: NDArray, what: str) -> None:
        if image.shape[:2] != (self.source.height, self.source.width):
            raise CameraError(
                f"the {what} is {image.shape[1]}x{image.shape[0]} pixels and its calibration is for "
                f"{self.source.width}x{self.source.height}, so it cannot be rectified"
            )
