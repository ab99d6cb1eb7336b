# SPDX-License-Identifier: Apache-2.0
"""Image messages of a bag as arrays: colour or gray, the gray image that the node makes, and depth in metres."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..messages.depth import depth_from_compressed, depth_from_image
from ..messages.images import gray_pixels, picture_pixels, to_8_bit
from ..messages.pixels import ImageError
from ..messages.stretch import Stretch
from .base import SequenceError

To8Bit = Callable[[NDArray[np.uint16]], NDArray[np.uint8]]


class TopicStretch:
    """The stretch of one image topic: at each frame that of a node that got all frames before it, in their order.

    So a frame looks the same however the frames are read. The windows are kept; where one is asked for whose frames
    before have not been read, they are read now.
    """

    def __init__(self) -> None:
        self._stretch = Stretch()
        self._windows: list[tuple[float, float] | None] = []

    def at(self, index: int, message_at: Callable[[int], Any]) -> To8Bit:
        """What makes 8 bits of a frame's 16-bit pixels.

        Parameters
        ----------
        index
            Of the frame.
        message_at
            Reads the image message of a frame by its index.

        Returns
        -------
        Callable
            To be called with the frame's gray pixels first, since the window follows these.
        """

        def stretched(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
            while (earlier := len(self._windows)) < index:
                self._follow(_gray_or_none(message_at(earlier)))
            if index == len(self._windows):
                self._follow(pixels)
            self._stretch.reset(self._windows[index])
            return self._stretch.apply(pixels)

        return stretched

    def _follow(self, pixels: NDArray | None) -> None:
        self._stretch.reset(self._windows[-1] if self._windows else None)
        if pixels is not None and pixels.dtype == np.uint16:
            self._stretch.follow(pixels)
        self._windows.append(self._stretch.window)


def decode_image(message: Any, stretch: To8Bit | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A sensor_msgs/Image or CompressedImage as the picture and as the gray image that features are found in.

    The gray image is the one that the node makes of the message. It is no function of the picture's colours where the
    message holds the brightness itself, as YUV and JPEG do. Padded rows and big-endian values are understood.

    Parameters
    ----------
    message
        The message.
    stretch
        How 16-bit values become 8-bit ones; None scales them by 255 / 65535.

    Returns
    -------
    image : numpy.ndarray
        uint8, gray (H, W) where there is no colour, else BGR (H, W, 3).
    gray : numpy.ndarray
        uint8 (H, W); `image` itself where that is gray.

    Raises
    ------
    SequenceError
        If the encoding is unknown or the data do not fit.
    """
    try:
        pixels = picture_pixels(message)
        # What reads a bag keeps its frames, so the pixels must not stay part of a message.
        gray = np.array(to_8_bit(pixels if pixels.ndim == 2 else gray_pixels(message), stretch))
        return gray if pixels.ndim == 2 else np.array(to_8_bit(pixels, stretch)), gray
    except ImageError as error:
        raise SequenceError(str(error)) from error


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


def _gray_or_none(message: Any) -> NDArray | None:
    try:
        return gray_pixels(message)
    except ImageError:
        # The node goes on without it too.
        return None
