# SPDX-License-Identifier: Apache-2.0
"""Image messages to gray and colour images, and to masks: of one message the node and a sequence see one gray image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .pixels import (
    LABEL_ENCODINGS,
    PICTURE_ENCODINGS,
    ImageError,
    checked_pixels,
    converted_pixels,
    decompressed,
    scaled_to_8_bit,
)
from .stretch import Stretch

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage, Image

__all__ = [
    "PICTURE_ENCODINGS",
    "ImageError",
    "compressed_to_bgr",
    "compressed_to_gray",
    "compressed_to_labels",
    "gray_pixels",
    "image_to_bgr",
    "image_to_gray",
    "image_to_labels",
    "picture_pixels",
    "to_8_bit",
]


def image_to_gray(message: Image, stretch: Stretch | None = None) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/Image to gray.

    NV12 and NV21 give their luminance plane. Padded rows and big-endian 16-bit values are understood.

    Parameters
    ----------
    message
        sensor_msgs/Image, from rclpy or from a bag reader.
    stretch
        How 16-bit values become 8-bit ones; None scales them by 255 / 65535, the same for every frame.

    Returns
    -------
    numpy.ndarray
        uint8 (height, width), contiguous. For 8-bit gray without padding it shares the message's memory.

    Raises
    ------
    ImageError
        If the encoding is unknown, the image has no pixels, or `step` or the data are too short for it.
    MissingDependencyError
        If the encoding needs a conversion and no library for it is installed.
    """
    return to_8_bit(gray_pixels(message), stretch)


def image_to_bgr(message: Image, stretch: Stretch | None = None) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/Image to colour, uint8 (height, width, 3) BGR; gray ones to three equal channels.

    Parameters and errors are those of `image_to_gray`. The `stretch` is applied as it stands and does not take note of
    this image, since it is the gray image of the same message that it follows.
    """
    return to_8_bit(converted_pixels(message, "bgr"), None if stretch is None else stretch.apply)


def image_to_labels(message: Image) -> NDArray:
    """Decode a sensor_msgs/Image that is a mask or a label image: its numbers as they are.

    Returns
    -------
    numpy.ndarray
        uint8, uint16 or int32 (height, width), for mono8 and 8UC1, mono16 and 16UC1, 32SC1.

    Raises
    ------
    ImageError
        If the encoding is another one, the image has no pixels, or `step` or the data are too short for it.
    """
    return checked_pixels(message, LABEL_ENCODINGS)


def compressed_to_gray(message: CompressedImage, stretch: Stretch | None = None) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/CompressedImage (JPEG, PNG and what else OpenCV reads) to gray.

    An orientation tag in the file does not turn the image, since camera_info does not turn with it.

    Parameters
    ----------
    message
        sensor_msgs/CompressedImage, from rclpy or from a bag reader.
    stretch
        How the values of a 16-bit PNG become 8-bit ones, as in `image_to_gray`.

    Returns
    -------
    numpy.ndarray
        uint8 (height, width), contiguous.

    Raises
    ------
    ImageError
        If there are no data, the data are no image, or they end before the image does.
    """
    return to_8_bit(gray_pixels(message), stretch)


def compressed_to_bgr(message: CompressedImage, stretch: Stretch | None = None) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/CompressedImage to colour, uint8 (height, width, 3) BGR; as `image_to_bgr`."""
    pixels = decompressed(message, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    return to_8_bit(pixels, None if stretch is None else stretch.apply)


def compressed_to_labels(message: CompressedImage) -> NDArray:
    """Decode a sensor_msgs/CompressedImage that is a mask or a label image: uint8 or uint16 (height, width), as it is.

    Only a PNG keeps labels as they are; in a JPEG every edge is blurred into other numbers.

    Raises
    ------
    ImageError
        As `compressed_to_gray`; also if the picture has colours.
    """
    labels = decompressed(message, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            "unknown encoding",
            f"a mask must be a picture of one channel, got {labels.dtype} {labels.shape} (format {message.format!r})",
        )
    return labels


def gray_pixels(message: Any) -> NDArray:
    """The gray image (H, W) of a sensor_msgs/Image or CompressedImage, uint8 or uint16 as the message has it.

    Raises
    ------
    ImageError
        As `image_to_gray` and `compressed_to_gray`.
    MissingDependencyError
        If the encoding needs a conversion and no library for it is installed.
    """
    if hasattr(message, "format"):
        return decompressed(message, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    return converted_pixels(message, "mono")


def picture_pixels(message: Any) -> NDArray:
    """The picture in a message: gray (H, W) where it has no colour, else BGR (H, W, 3); all else as `gray_pixels`."""
    if hasattr(message, "format"):
        return decompressed(message, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    layout = PICTURE_ENCODINGS.get(message.encoding)
    return converted_pixels(message, "mono" if layout is None or layout.color is None else "bgr")


def to_8_bit(pixels: NDArray, stretch: Callable[[NDArray[np.uint16]], NDArray[np.uint8]] | None) -> NDArray[np.uint8]:
    """Pixels as uint8, contiguous: those of 16 bits through a stretch, or, for None, times 255 / 65535.

    Raises
    ------
    ImageError
        If the pixels are of another type.
    """
    if pixels.dtype == np.uint16 and stretch is not None:
        return stretch(pixels)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError("unknown encoding", f"a picture must have values of 8 or 16 bits, got {pixels.dtype}")
    return np.ascontiguousarray(scaled_to_8_bit(pixels))
