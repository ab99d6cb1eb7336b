# SPDX-License-Identifier: Apache-2.0
"""The library that turns colour, Bayer and YUV pixels into gray or BGR: cv_bridge or rosbags-image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..errors import GCNv2Error, MissingDependencyError


class ColorConversionError(GCNv2Error):
    """Pixels that no installed library can convert."""


Convert = Callable[[NDArray, str, str], NDArray]
"""(pixels, encoding, wanted encoding) to pixels in the wanted encoding, by the names of sensor_msgs."""


@dataclass(frozen=True)
class Converter:
    """A library that works here.

    Attributes
    ----------
    library
        Its name.
    convert
        Takes pixels (H, W) or (H, W, C) in native byte order, their encoding and the wanted one.
    """

    library: str
    convert: Convert


def _cv_bridge() -> Convert:
    # The function behind CvBridge.imgmsg_to_cv2. It takes arrays, so padded rows and byte order, with which some
    # releases of imgmsg_to_cv2 have trouble, are out of the way beforehand.
    from cv_bridge.boost.cv_bridge_boost import cvtColor2

    convert: Convert = cvtColor2
    return convert


def _rosbags_image() -> Convert:
    from rosbags.image.image import convert_color

    return convert_color


_LIBRARIES: tuple[tuple[str, Callable[[], Convert]], ...] = (
    ("cv_bridge", _cv_bridge),
    ("rosbags-image", _rosbags_image),
)


@cache
def available_converters() -> tuple[Converter, ...]:
    """The libraries that are installed and pass a trial conversion, the preferred one first."""
    working = []
    for library, load in _LIBRARIES:
        try:
            convert = load()
            gray = np.asarray(convert(np.full((2, 2, 3), 200, np.uint8), "bgr8", "mono8"))
        # A cv_bridge built for another NumPy fails in more ways than ImportError, and must not stop the program.
        except Exception:
            continue
        if gray.shape == (2, 2) and gray.dtype == np.uint8 and np.all(gray == 200):
            working.append(Converter(library, convert))
    return tuple(working)


def convert_color(pixels: NDArray, encoding: str, wanted: str) -> NDArray:
    """Convert pixels with the first library that can.

    Parameters
    ----------
    pixels
        (H, W) or (H, W, C) in native byte order.
    encoding, wanted
        Encodings by the names of sensor_msgs.

    Raises
    ------
    ColorConversionError
        If none can; the sentence has what each of them says.
    MissingDependencyError
        If none is installed.
    """
    converters = available_converters()
    if not converters:
        raise MissingDependencyError(
            "rosbags-image",
            "reading colour images without a working cv_bridge",
            "pip install rosbags-image (or, on a ROS installation, the package cv_bridge)",
        )
    complaints = []
    for converter in converters:
        # Releases of cv_bridge differ in the conversions they know, and in what they raise for the others.
        try:
            return converter.convert(pixels, encoding, wanted)
        except Exception as error:
            complaints.append(f"{converter.library}: {type(error).__name__}: {error}")
    raise ColorConversionError(f"no library can convert {encoding} to {wanted} ({'; '.join(complaints)})")
