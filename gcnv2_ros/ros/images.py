# SPDX-License-Identifier: Apache-2.0
"""Image messages to gray images.

Every message is checked before a library sees its pixels, so that a broken one ends in a sentence and never in a crash
or in a picture of the wrong bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import GCNv2Error
from .color_conversion import ColorConversionError, convert_color

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage, Image

_MAXIMUM_16_BIT = 65535


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
        The encoding's name for the conversion to gray; None where the first `height` rows are gray already.
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


def _layouts() -> dict[str, PixelLayout]:
    layouts = {
        "mono8": PixelLayout(1, "u1"),
        "8UC1": PixelLayout(1, "u1"),
        "mono16": PixelLayout(1, "u2"),
        "16UC1": PixelLayout(1, "u2"),
        "nv12": PixelLayout(1, "u1", chroma_rows=True, even_width=True),
        "nv21": PixelLayout(1, "u1", chroma_rows=True, even_width=True),
        # OpenCV's own names say nothing of the order of colours; blue first is OpenCV's habit.
        "8UC3": PixelLayout(3, "u1", "bgr8"),
        "8UC4": PixelLayout(4, "u1", "bgra8"),
    }
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


ENCODINGS: dict[str, PixelLayout] = _layouts()
"""The encodings that `image_to_gray` reads."""


def image_to_gray(message: Image) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/Image to gray.

    16-bit values are scaled by 255 / 65535, the same for every frame. NV12 and NV21 give their luminance plane. Padded
    rows and big-endian 16-bit values are understood.

    Parameters
    ----------
    message
        sensor_msgs/Image, from rclpy or from a bag reader.

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
    layout = ENCODINGS.get(message.encoding)
    if layout is None:
        raise ImageError(
            "unknown encoding",
            f"the encoding {message.encoding!r} is not one that can be made gray; known are {', '.join(ENCODINGS)}",
        )
    pixels = _checked_pixels(message, layout)
    if layout.color is not None:
        wanted = "mono8" if layout.dtype == "u1" else "mono16"
        try:
            gray = convert_color(pixels, layout.color, wanted)
        except ColorConversionError as error:
            raise ImageError(
                "conversion failed",
                f"a {message.width}x{message.height} image in {message.encoding!r} cannot be made gray: {error}",
            ) from error
    else:
        gray = pixels[: message.height]
    if gray.dtype != np.uint8:
        gray = cv2.convertScaleAbs(gray, alpha=255.0 / _MAXIMUM_16_BIT)
    return np.ascontiguousarray(gray)


def compressed_to_gray(message: CompressedImage) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/CompressedImage (JPEG, PNG and what else OpenCV reads) to gray.

    An orientation tag in the file does not turn the image, since camera_info does not turn with it.

    Returns
    -------
    numpy.ndarray
        uint8 (height, width), contiguous.

    Raises
    ------
    ImageError
        If there are no data, the data are no image, or they end before the image does.
    """
    if "compresseddepth" in message.format.lower():
        raise ImageError(
            "unknown encoding",
            f"the format {message.format!r} is a depth image; expected a compressed camera image, as JPEG or PNG",
        )
    data = np.frombuffer(message.data, np.uint8)
    if not data.size:
        raise ImageError("no data", "the compressed image holds no data")
    _check_complete(data)
    try:
        gray = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError("corrupt", f"the compressed image cannot be decoded: {error.err or error}") from error
    if gray is None:
        raise ImageError(
            "corrupt",
            f"the compressed image ({data.size} bytes, format {message.format!r}) cannot be decoded",
        )
    return np.ascontiguousarray(gray)


def _checked_pixels(message: Image, layout: PixelLayout) -> NDArray:
    """The message's pixels, (rows, width) or (rows, width, channels), native byte order, contiguous."""
    width, height, step = message.width, message.height, message.step
    if width == 0 or height == 0:
        raise ImageError("no pixels", f"the image is {width}x{height}: it has no pixels")
    if layout.even_width and width % 2:
        raise ImageError("odd size", f"the encoding {message.encoding!r} needs an even width, got {width}x{height}")
    if layout.chroma_rows and height % 2:
        raise ImageError("odd size", f"the encoding {message.encoding!r} needs an even height, got {width}x{height}")
    rows = height * 3 // 2 if layout.chroma_rows else height
    order: Literal["<", ">"] = ">" if message.is_bigendian else "<"
    stored = np.dtype(layout.dtype).newbyteorder(order)
    row_bytes = width * layout.channels * stored.itemsize
    if step < row_bytes:
        raise ImageError(
            "short step",
            f"step is {step} bytes; a row of {width} pixels in {message.encoding!r} has at least {row_bytes}",
        )
    needed = (rows - 1) * step + row_bytes
    if len(message.data) < needed:
        raise ImageError(
            "truncated",
            f"the data have {len(message.data)} bytes; a {width}x{height} image in {message.encoding!r} with "
            f"step {step} needs {needed}",
        )
    shape: tuple[int, ...] = (rows, width, layout.channels)
    strides: tuple[int, ...] = (step, layout.channels * stored.itemsize, stored.itemsize)
    if layout.channels == 1:
        shape, strides = shape[:2], strides[:2]
    pixels = np.ndarray(shape, stored, message.data, strides=strides)
    return np.ascontiguousarray(pixels, dtype=np.dtype(layout.dtype))


_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG", b"IEND"
_TAIL_BYTES = 4096


def _check_complete(data: NDArray[np.uint8]) -> None:
    """Refuse JPEG and PNG data whose end mark is missing: decoders fill what is missing with gray or with nothing."""
    head = data[:4].tobytes()
    # Some cameras send buffers of a fixed size, with zeros behind the image.
    tail = data[-_TAIL_BYTES:].tobytes().rstrip(b"\0")
    if head.startswith(_JPEG_START):
        complete = tail.endswith(_JPEG_END)
    elif head == _PNG_START:
        complete = _PNG_END in tail[-12:]
    else:
        return
    if not complete:
        raise ImageError("truncated", f"the compressed image ends after {data.size} bytes, before its end mark")
