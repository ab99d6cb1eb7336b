# SPDX-License-Identifier: Apache-2.0
"""From gray images to the network's input, and from network pixels back to image pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .options import MINIMUM_SIDE, ExtractionError


@dataclass(frozen=True)
class InputGeometry:
    """How one image lies in the network's input: resized to `content_size`, padded on the right and at the bottom.

    Attributes
    ----------
    image_size
        Width and height of the image.
    content_size
        Width and height of the resized image in the network's input.
    padded_size
        Width and height of the network's input, multiples of the stride.
    """

    image_size: tuple[int, int]
    content_size: tuple[int, int]
    padded_size: tuple[int, int]

    @staticmethod
    def of(image_size: tuple[int, int], input_size: tuple[int, int] | None, stride: int) -> InputGeometry:
        """Geometry for an image of `image_size` in a network of `stride`; `input_size` None keeps the image's size."""
        content = image_size if input_size is None else input_size
        width, height = (-(-side // stride) * stride for side in content)
        return InputGeometry(image_size, content, (width, height))

    @property
    def scale(self) -> tuple[float, float]:
        """Image pixels per network pixel, horizontally and vertically."""
        return (self.image_size[0] / self.content_size[0], self.image_size[1] / self.content_size[1])

    @property
    def mean_scale(self) -> float:
        """Image pixels per network pixel, the geometric mean of both directions."""
        return math.sqrt(self.scale[0] * self.scale[1])

    def to_image(self, uv: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map (N, 2) positions from network pixels to image pixels; in both, a pixel's centre is an integer."""
        return ((uv + 0.5) * np.asarray(self.scale) - 0.5).astype(np.float32)


def check_image(image: NDArray[np.uint8], mask: NDArray | None = None) -> None:
    """Refuse what is no gray 8-bit image of at least 32x32 pixels, and a mask that does not go with it.

    Raises
    ------
    ExtractionError
        Saying what the image is and what was expected.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 2:
        got = f"{image.dtype.name} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ExtractionError(f"expected a gray image, uint8 (height, width), got {got}")
    if min(image.shape) < MINIMUM_SIDE:
        raise ExtractionError(
            f"the image is {image.shape[1]}x{image.shape[0]} pixels; expected at least {MINIMUM_SIDE}x{MINIMUM_SIDE}"
        )
    if mask is not None and (mask.shape != image.shape or mask.dtype not in (np.uint8, np.bool_)):
        raise ExtractionError(
            f"the mask must be uint8 or bool {image.shape} like its image, got {mask.dtype.name} {mask.shape}"
        )


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to `size` (width, height): averaging areas where it shrinks, interpolating linearly where it grows.

    Both keep u_new + 0.5 proportional to u + 0.5.
    """
    height, width = image.shape
    if (width, height) == size:
        return image
    # cv2.INTER_AREA is only that when neither direction grows.
    shrunk = (min(width, size[0]), min(height, size[1]))
    resized: NDArray[Any] = image
    if shrunk != (width, height):
        resized = cv2.resize(resized, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != size:
        resized = cv2.resize(resized, size, interpolation=cv2.INTER_LINEAR)
    return resized


def network_input(images: Sequence[NDArray[np.uint8]], geometries: Sequence[InputGeometry]) -> NDArray[np.float32]:
    """Resize, pad and scale images into one batch.

    Parameters
    ----------
    images
        uint8 (H, W) each.
    geometries
        Where each one goes; all have the same `padded_size`.

    Returns
    -------
    numpy.ndarray
        float32 (B, 1, H', W') in [0, 1], H' and W' those of `padded_size`. The padding repeats an image's last column
        and row.
    """
    padded_width, padded_height = geometries[0].padded_size
    batch = np.empty((len(images), 1, padded_height, padded_width), np.float32)
    for plane, image, geometry in zip(batch[:, 0], images, geometries):
        width, height = geometry.content_size
        np.multiply(resize(image, geometry.content_size), np.float32(1 / 255), out=plane[:height, :width])
        plane[:height, width:] = plane[:height, width - 1 : width]
        plane[height:] = plane[height - 1]
    return batch
