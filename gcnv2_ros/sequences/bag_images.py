# SPDX-License-Identifier: Apache-2.0
"""Image messages of a bag as arrays: colour or gray, and depth in metres."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependencyError
from .base import SequenceError


def decode_image(message: Any) -> NDArray[np.uint8]:
    """A sensor_msgs/Image or CompressedImage as uint8: gray (H, W) for mono encodings, otherwise BGR (H, W, 3).

    16-bit values are scaled by 255 / 65535. Padded rows and big-endian values are understood.

    Raises
    ------
    SequenceError
        If the encoding is unknown or the data do not fit.
    """
    if hasattr(message, "format"):
        if "compresseddepth" in message.format.lower():
            raise SequenceError(f"the format {message.format!r} is a depth image, not a camera image")
        return np.asarray(
            _decompressed(message.data, message.format, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION), np.uint8
        )
    names = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16"}
    encoding = names.get(message.encoding, message.encoding)
    pixels = _pixels(message)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise SequenceError(
            f"the encoding {message.encoding!r} holds no picture; it can be read as depth if it is 32FC1"
        )
    bits = 8 * pixels.dtype.itemsize
    wanted = f"mono{bits}" if encoding.startswith("mono") else f"bgr{bits}"
    if encoding != wanted:
        from rosbags.image.image import ImageError, convert_color

        try:
            pixels = convert_color(pixels, encoding, wanted)
        except (ImageError, cv2.error) as error:
            raise SequenceError(f"an image in {message.encoding!r} cannot be converted: {error}") from error
    if bits == 16:
        return np.asarray(cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0), np.uint8)
    return np.array(pixels, np.uint8)


def decode_depth(message: Any) -> NDArray[np.float32]:
    """A depth image as float32 (H, W) metres, NaN unknown: 16UC1 in mm, 32FC1 in m, raw, as PNG or compressedDepth.

    Raises
    ------
    SequenceError
        If it is none of these or the data do not fit.
    """
    if not hasattr(message, "format"):
        if message.encoding not in ("16UC1", "32FC1", "mono16"):
            raise SequenceError(f"the encoding {message.encoding!r} is not one of depth: 16UC1 or 32FC1")
        return _metres(_pixels(message))
    data = np.asarray(message.data, np.uint8)
    quantised = "compresseddepth" in message.format.lower()
    # compressed_depth_image_transport puts a format number and two floats of quantisation before the PNG.
    values = _decompressed(data[12:] if quantised else data, message.format, cv2.IMREAD_UNCHANGED)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise SequenceError(f"depth in {message.format!r} must be a 16-bit image, got {values.dtype} {values.shape}")
    if quantised and message.format.startswith("32FC1"):
        a, b = np.frombuffer(data[4:12].tobytes(), "<f4")
        with np.errstate(divide="ignore"):
            return _metres(np.where(values > 0, a / (values.astype(np.float32) - b), np.float32(0)))
    return _metres(values)


def _metres(values: NDArray) -> NDArray[np.float32]:
    if values.dtype == np.uint16:
        values = values / np.float32(1000)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan).astype(np.float32)


def _pixels(message: Any) -> NDArray:
    """The message's pixels, (rows, width) or (rows, width, channels), in native byte order, after checking sizes."""
    try:
        from rosbags.image.image import ImageFormatError, to_cvtype
    except ImportError as error:
        raise MissingDependencyError("rosbags-image", "reading images", "pip install rosbags-image") from error
    try:
        _, _, name, channels = to_cvtype(message.encoding)
    except ImageFormatError as error:
        raise SequenceError(f"the encoding {message.encoding!r} is unknown") from error
    dtype = np.dtype(name).newbyteorder(">" if message.is_bigendian else "<")
    rows = message.height * 3 // 2 if message.encoding in ("nv12", "nv21") else message.height
    row = message.width * channels * dtype.itemsize
    needed = (rows - 1) * message.step + row
    if not row or not rows or message.step < row or len(message.data) < needed:
        raise SequenceError(
            f"a {message.width}x{message.height} image in {message.encoding!r} with step {message.step} needs steps of "
            f"{row} bytes or more and {max(needed, 1)} bytes, got {len(message.data)}"
        )
    strides = (message.step, channels * dtype.itemsize, dtype.itemsize)
    pixels = np.ndarray((rows, message.width, channels), dtype, np.ascontiguousarray(message.data), strides=strides)
    pixels = pixels[..., 0] if channels == 1 else pixels
    return np.ascontiguousarray(pixels, dtype.newbyteorder("="))


def _decompressed(data: NDArray[np.uint8], name: str, flags: int) -> NDArray:
    """Decode JPEG or PNG; decoders fill what is missing of a cut-off one with gray, so the end mark is asked for."""
    data = np.asarray(data, np.uint8)
    head, tail = data[:4].tobytes(), data[-4096:].tobytes().rstrip(b"\0")
    if (head[:2] == b"\xff\xd8" and not tail.endswith(b"\xff\xd9")) or (head == b"\x89PNG" and b"IEND" not in tail):
        raise SequenceError(f"the compressed image ({name!r}) ends after {len(data)} bytes, before its end mark")
    try:
        image = cv2.imdecode(data, flags) if len(data) else None
    except cv2.error:
        image = None
    if image is None:
        raise SequenceError(f"the compressed image ({name!r}, {len(data)} bytes) is no JPEG or PNG that can be decoded")
    return np.asarray(image)
