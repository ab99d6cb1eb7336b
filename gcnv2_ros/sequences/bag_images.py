# SPDX-License-Identifier: Apache-2.0
"""Image messages of a bag as arrays: colour or gray, and depth in metres."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..messages.depth import depth_from_compressed, depth_from_image
from ..messages.pixels import (
    PICTURE_ENCODINGS,
    ImageError,
    converted_pixels,
    decompressed,
    scaled_to_8_bit,
)
from .base import SequenceError


def decode_image(message: Any) -> NDArray[np.uint8]:
    """A sensor_msgs/Image or CompressedImage as uint8: gray (H, W) where there is no colour, else BGR (H, W, 3).

    16-bit values are scaled by 255 / 65535. Padded rows and big-endian values are understood.

    Raises
    ------
    SequenceError
        If the encoding is unknown or the data do not fit.
    """
    try:
        if hasattr(message, "format"):
            return decompressed(message, cv2.IMREAD_ANYCOLOR)
        layout = PICTURE_ENCODINGS.get(message.encoding)
        pixels = converted_pixels(message, "mono" if layout is None or layout.color is None else "bgr")
    except ImageError as error:
        raise SequenceError(str(error)) from error
    # What reads a bag keeps its frames, so the pixels must not stay part of a message.
    return np.array(scaled_to_8_bit(pixels))


def decode_depth(message: Any) -> NDArray[np.float32]:
    """A depth image as float32 (H, W) metres, NaN unknown: 16UC1 in mm, 32FC1 in m, raw, as PNG or compressedDepth.

    Raises
    ------
    SequenceError
        If it is none of these or the data do not fit.
    """
    try:
        return depth_from_compressed(message) if hasattr(message, "format") else depth_from_image(message)
    except ImageError as error:
        raise SequenceError(str(error)) from error
