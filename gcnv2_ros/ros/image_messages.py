# SPDX-License-Identifier: Apache-2.0
"""Arrays as image messages, calibrations as messages, times as messages."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ..camera import Camera
from ..stamps import seconds_and_nanoseconds


def stamp_message(stamp_ns: int) -> Time:
    """A time in nanoseconds as a message."""
    sec, nanosec = seconds_and_nanoseconds(stamp_ns)
    return Time(sec=sec, nanosec=nanosec)


def image_message(image: NDArray[np.uint8] | NDArray[np.float32], header: Header) -> Image:
    """uint8 (H, W) as mono8, (H, W, 3) as bgr8; float32 (H, W) depth in metres as 32FC1."""
    pixels: NDArray = np.ascontiguousarray(image)
    height, width = image.shape[:2]
    encoding = "32FC1" if image.dtype == np.float32 else "mono8" if image.ndim == 2 else "bgr8"
    message = Image(header=header, height=height, width=width, encoding=encoding, step=pixels[0].nbytes, is_bigendian=0)
    # An array('B') is taken as it is; of anything else every element would be checked.
    data = array.array("B")
    data.frombytes(pixels.view(np.uint8).data)
    message.data = data
    return message


def camera_info_message(camera: Camera, header: Header) -> CameraInfo:
    """A camera's calibration as a message."""
    return CameraInfo(header=header, **camera.camera_info_fields())
