# SPDX-License-Identifier: Apache-2.0
"""Depth images in messages to metres: raw, as PNG, or of compressed_depth_image_transport."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..depth import metric_depth
from .pixels import DEPTH_ENCODINGS, ImageError, checked_pixels, decode_file, holds_depth

_HEADER_BYTES = 12
_PNG_START = b"\x89PNG"


def depth_from_image(message: Any) -> NDArray[np.float32]:
    """Read a depth image in a sensor_msgs/Image: 16UC1 (or mono16) in millimetres, 32FC1 in metres.

    Returns
    -------
    numpy.ndarray
        float32 (height, width), metres; NaN unknown.

    Raises
    ------
    ImageError
        If the encoding is not one of depth, or sizes and data do not fit.
    """
    if message.encoding not in DEPTH_ENCODINGS:
        raise ImageError(
            "unknown encoding",
            f"the encoding {message.encoding!r} is not one of depth: 16UC1 (millimetres) or 32FC1 (metres)",
        )
    return metric_depth(checked_pixels(message, DEPTH_ENCODINGS))


def depth_from_compressed(message: Any) -> NDArray[np.float32]:
    """Read a depth image in a sensor_msgs/CompressedImage: compressedDepth with PNG inside, or a plain 16-bit PNG.

    compressed_depth_image_transport puts 12 bytes before the PNG: a number of the format, and two float32 a and b by
    which metres of a 32FC1 image were quantised: ``metres = a / (value - b)``, 0 being unknown. A 16UC1 image holds
    millimetres. Its other format, RVL, is not read; publishers make PNG unless they are told otherwise
    (``image_transport`` parameter ``compressedDepth.format: png``).

    Returns
    -------
    numpy.ndarray
        float32 (height, width), metres; NaN unknown.

    Raises
    ------
    ImageError
        If it is none of these, there are no data, or they are cut off or corrupt.
    """
    data = np.frombuffer(message.data, np.uint8)
    quantised = holds_depth(message)
    if not quantised:
        return metric_depth(_png(data, message.format))
    if data.size <= _HEADER_BYTES:
        raise ImageError(
            "truncated" if data.size else "no data",
            f"the compressed depth image has {data.size} bytes, no more than its header of {_HEADER_BYTES}",
        )
    if "rvl" in message.format.lower() or data[_HEADER_BYTES:][:4].tobytes() != _PNG_START:
        raise ImageError(
            "unknown encoding",
            f"the compressed depth image (format {message.format!r}) holds no PNG; RVL is not read: set the "
            "publisher's parameter compressedDepth.format to png",
        )
    values = _png(data[_HEADER_BYTES:], message.format)
    if not message.format.startswith("32FC1"):
        return metric_depth(values)
    a, b = np.frombuffer(data[4:_HEADER_BYTES].tobytes(), "<f4")
    with np.errstate(all="ignore"):
        return metric_depth(np.where(values > 0, a / (values.astype(np.float32) - b), np.float32(0)))


def _png(data: NDArray[np.uint8], name: str) -> NDArray[np.uint16]:
    values = decode_file(data, name, cv2.IMREAD_UNCHANGED)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise ImageError(
            "unknown encoding",
            f"depth in {name!r} must be a 16-bit image of one channel, got {values.dtype} {values.shape}",
        )
    return values
