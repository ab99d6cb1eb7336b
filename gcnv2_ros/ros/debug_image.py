# SPDX-License-Identifier: Apache-2.0
"""A picture of what the detector saw and found, as a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..drawing import draw_keypoints
from ..features import Features
from .image_messages import image_message

if TYPE_CHECKING:
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header


def debug_image(gray: NDArray[np.uint8], features: Features, header: Header) -> Image:
    """`draw_keypoints` as a bgr8 message with the image's header."""
    return image_message(draw_keypoints(gray, features), header)
