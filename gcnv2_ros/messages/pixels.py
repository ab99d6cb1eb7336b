# SPDX-License-Identifier: Apache-2.0
"""The pixels of image messages: what each encoding means, and the checks before a library sees any of them.

A broken message ends in an `ImageError` and never in a crash or in a picture of the wrong bytes. Messages are taken by
their attributes, so that those of rclpy and of bag readers are read alike.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import GCNv2Error
from .color_conversion import ColorConversionError, convert_color

MAXIMUM_16_BIT = 65535


class ImageError(GCNv2Error):
    """An image message that cannot be read.

    Attributes
    ----------
    kind
        A few words that name the kind of fault, the same for all messages with that fault.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class PixelLayout:
    """How one encoding stores its pixels.

    Attributes
    ----------
    channels
        Values a pixel.
    dtype
        Type of a value, in native byte order.
    color
        The encoding's name for conversions; None where there is no colour.
    chroma_rows
        Whether half as many rows again, with chroma, follow the gray ones (NV12, NV21).
    even_width
        Whether two neighbouring pixels share their chroma.
    """

    channels: int
    dtype: str
    color: str | None = None
    chroma_rows: bool = False
    even_width: bool = False


def _picture_encodings() -> dict[str, PixelLayout]:
    layouts = {
        "mono8": PixelLayout(1, "u1"),
        "8UC1": PixelLayout(1, "u1"),
        "mono16": PixelLayout(1, "u2"),
        "16UC1": PixelLayout(1, "u2"),
        # OpenCV's own names say nothing of the order of colours; blue first is OpenCV's habit.
        "8UC3": PixelLayout(3, "u1", "bgr8"),
        "8UC4": PixelLayout(4, "u1", "bgra8"),
    }
    for name in ("nv12", "nv21"):
        layouts[name] = PixelLayout(1, "u1", name, chroma_rows=True, even_width=True)
    for name in ("yuv422", "uyvy"):
        layouts[name] = PixelLayout(2, "u1", "yuv422", even_width=True)
    for name in ("yuv422_yuy2", "yuyv"):
        layouts[name] = PixelLayout(2, "u1", "yuv422_yuy2", even_width=True)
    for bits, dtype in ((8, "u1"), (16, "u2")):
        for pattern in ("rggb", "bggr", "gbrg", "grbg"):
            name = f"bayer_{pattern}{bits}"
            layouts[name] = PixelLayout(1, dtype, name)
        for order in ("rgb", "bgr", "rgba", "bgra"):
            name = f"{order}{bits}"
            layouts[name] = PixelLayout(len(order), dtype, name)
    return layouts


PICTURE_ENCODINGS: dict[str, PixelLayout] = _picture_encodings()
"""The encodings of pictures."""

DEPTH_ENCODINGS: dict[str, PixelLayout] = {
    "16UC1": PixelLayout(1, "u2"),
    "mono16": PixelLayout(1, "u2"),
    "32FC1": PixelLayout(1, "f4"),
}
"""The encodings of depth images: millimetres in 16 bits, metres in floats."""

LABEL_ENCODINGS: dict[str, PixelLayout] = {
    "mono8": PixelLayout(1, "u1"),
    "8UC1": PixelLayout(1, "u1"),
    "mono16": PixelLayout(1, "u2"),
    "16UC1": PixelLayout(1, "u2"),
    "32SC1": PixelLayout(1, "i4"),
}
"""The encodings of masks and label images, whose values are numbers and not brightness."""


def checked_pixels(message: Any, encodings: dict[str, PixelLayout]) -> NDArray:
    """The pixels of a sensor_msgs/Image.

    Parameters
    ----------
    message
        The message. Rows may be padded, the last row's padding may be missing, values may be big-endian.
    encodings
        Those that are wanted.

    Returns
    -------
    numpy.ndarray
        (rows, width) or (rows, width, channels) in native byte order, contiguous; with ``chroma_rows`` the rows are
        half as many again as the image's height. It shares the message's memory where nothing has to be moved.

    Raises
    ------
    ImageError
        If the encoding is none of these, the image has no pixels, or `step` or the data are too short for it.
    """
    layout = encodings.get(message.encoding)
    if layout is None:
        raise ImageError(
            "unknown encoding",
            f"the encoding {message.encoding!r} is unknown here; known are {', '.join(encodings)}",
        )
    width, height, step = int(message.width), int(message.height), int(message.step)
    image = f"a {width}x{height} image in {message.encoding!r}"
    if width <= 0 or height <= 0:
        raise ImageError("no pixels", f"{image} has no pixels")
    if layout.even_width and width % 2:
        raise ImageError("odd size", f"{image} cannot be: this encoding needs an even width")
    if layout.chroma_rows and height % 2:
        raise ImageError("odd size", f"{image} cannot be: this encoding needs an even height")
    rows = height * 3 // 2 if layout.chroma_rows else height
    order: Literal["<", ">"] = ">" if message.is_bigendian else "<"
    stored = np.dtype(layout.dtype).newbyteorder(order)
    row_bytes = width * layout.channels * stored.itemsize
    if step < row_bytes:
        raise ImageError("short step", f"{image} needs steps of {row_bytes} bytes or more from row to row, got {step}")
    needed = (rows - 1) * step + row_bytes
    if len(message.data) < needed:
        raise ImageError(
            "truncated", f"{image} with step {step} needs at least {needed} bytes, got {len(message.data)}"
        )
    shape: tuple[int, ...] = (rows, width, layout.channels)
    strides: tuple[int, ...] = (step, layout.channels * stored.itemsize, stored.itemsize)
    if layout.channels == 1:
        shape, strides = shape[:2], strides[:2]
    pixels = np.ndarray(shape, stored, message.data, strides=strides)
    return np.ascontiguousarray(pixels, dtype=np.dtype(layout.dtype))


def converted_pixels(message: Any, kind: Literal["mono", "bgr"]) -> NDArray:
    """The picture in a sensor_msgs/Image as gray (H, W) or BGR (H, W, 3), uint8 or uint16 as its encoding has it.

    The luminance plane of NV12 and NV21 is their gray image, as it is.

    Raises
    ------
    ImageError
        As `checked_pixels`, for `PICTURE_ENCODINGS`; also if no library can convert the encoding.
    MissingDependencyError
        If the encoding needs a conversion and no library for it is installed.
    """
    pixels = checked_pixels(message, PICTURE_ENCODINGS)
    layout = PICTURE_ENCODINGS[message.encoding]
    if layout.color is None:
        return pixels if kind == "mono" else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    if layout.chroma_rows and kind == "mono":
        return pixels[: message.height]
    try:
        return convert_color(pixels, layout.color, f"{kind}{8 * pixels.dtype.itemsize}")
    except ColorConversionError as error:
        raise ImageError(
            "conversion failed",
            f"a {message.width}x{message.height} image in {message.encoding!r} cannot be converted: {error}",
        ) from error


def holds_depth(message: Any) -> bool:
    """Whether a sensor_msgs/CompressedImage is one of compressed_depth_image_transport, by its format."""
    return "compresseddepth" in message.format.lower()


def decompressed(message: Any, flags: int) -> NDArray:
    """The picture in a sensor_msgs/CompressedImage: JPEG, PNG and what else OpenCV reads.

    An orientation tag in the file does not turn the image, since camera_info does not turn with it.

    Parameters
    ----------
    message
        The message.
    flags
        OpenCV's ``IMREAD_`` flags: what to make of the picture.

    Raises
    ------
    ImageError
        If it is a depth image, there are no data, they are no image, or they end before the image does.
    """
    if holds_depth(message):
        raise ImageError(
            "unknown encoding",
            f"the format {message.format!r} is a depth image; expected a compressed camera image, as JPEG or PNG",
        )
    return decode_file(np.frombuffer(message.data, np.uint8), message.format, flags | cv2.IMREAD_IGNORE_ORIENTATION)


def decode_file(data: NDArray[np.uint8], name: str, flags: int) -> NDArray:
    """Decode the bytes of an image file; `name` is their format, for the error's sentence.

    Raises
    ------
    ImageError
        If there are no data, they are no image, or they end before the image does.
    """
    if not data.size:
        raise ImageError("no data", f"the compressed image (format {name!r}) holds no data")
    _check_complete(data)
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise ImageError("corrupt", f"the compressed image cannot be decoded: {error.err or error}") from error
    if image is None or not image.size:
        raise ImageError("corrupt", f"the compressed image ({data.size} bytes, format {name!r}) cannot be decoded")
    return np.ascontiguousarray(image)


def scaled_to_8_bit(pixels: NDArray) -> NDArray[np.uint8]:
    """uint8 as it is; uint16 times 255 / 65535, the same for every image."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255.0 / MAXIMUM_16_BIT), np.uint8)


_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Of the pixels' data, 0xFF before a zero is a value and 0xFF before D0 to D7 a restart; neither ends them.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK = struct.Struct(">I4s")
_TAIL_BYTES = 4096


def _check_complete(data: NDArray[np.uint8]) -> None:
    """Refuse JPEG and PNG data that are cut off, which decoders fill with gray or with nothing, and damaged PNG data.

    OpenCV's PNG reader believes a damaged length, and takes seconds and gigabytes to find out.
    """
    head = data[: len(_PNG_START)].tobytes()
    if head == _PNG_START:
        complete = _png_is_complete(data)
    elif head.startswith(_JPEG_START):
        complete = _without_zeros(data).endswith(_JPEG_END) or _jpeg_is_complete(data)
    else:
        return
    if not complete:
        raise ImageError("truncated", f"the compressed image ends after {data.size} bytes, before its end mark")


def _without_zeros(data: NDArray[np.uint8]) -> bytes:
    """The last bytes of `data` but for the zeros behind: some cameras send buffers of a fixed size."""
    end = data.size
    while end > _TAIL_BYTES and not data[end - _TAIL_BYTES : end].any():
        end -= _TAIL_BYTES
    # The block before too, in case the end mark lies across two.
    return data[max(0, end - 2 * _TAIL_BYTES) : end].tobytes().rstrip(b"\0")


def _jpeg_is_complete(data: NDArray[np.uint8]) -> bool:
    """Walk over a JPEG's segments (ITU-T T.81, annex B) up to its end: phones write more behind it, such as a film."""
    content = data.data
    start = len(_JPEG_START)
    while marker := _JPEG_MARKER.search(content, start):
        if marker[0] == _JPEG_END:
            return True
        start = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return False


def _png_is_complete(data: NDArray[np.uint8]) -> bool:
    """Walk over a PNG's chunks (PNG specification, section 5.3) up to its end; a wrong checksum is an ImageError."""
    content = data.data
    start = len(_PNG_START)
    while start + _PNG_CHUNK.size <= len(content):
        length, kind = _PNG_CHUNK.unpack_from(content, start)
        end = start + _PNG_CHUNK.size + length
        if end + 4 > len(content):
            return False
        if zlib.crc32(content[start + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise ImageError("corrupt", f"the compressed image is damaged: the checksum of its chunk {kind!r} is wrong")
        if kind == b"IEND":
            return True
        start = end + 4
    return False
