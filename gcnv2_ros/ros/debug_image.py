# SPDX-License-Identifier: Apache-2.0
"""A picture of what the detector saw and found."""

from __future__ import annotations

import array
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from ..features import Features

if TYPE_CHECKING:
    from std_msgs.msg import Header

_COLOR_BGR = (0, 255, 0)


def draw_keypoints(gray: NDArray[np.uint8], features: Features) -> NDArray[np.uint8]:
    """The gray image in BGR, uint8 (H, W, 3), with a circle at each keypoint."""
    canvas = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
    keypoints = cv2.KeyPoint.convert(features.uv.tolist())
    return np.asarray(cv2.drawKeypoints(canvas, keypoints, canvas, _COLOR_BGR), np.uint8)


def debug_image(gray: NDArray[np.uint8], features: Features, header: Header) -> Image:
    """`draw_keypoints` as a bgr8 message with the image's header."""
    picture = np.ascontiguousarray(draw_keypoints(gray, features))
    height, width = picture.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="bgr8", is_bigendian=0, step=3 * width)
    data = array.array("B")
    data.frombytes(picture.data)
    message.data = data
    return message
