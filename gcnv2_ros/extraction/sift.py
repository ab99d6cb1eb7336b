# SPDX-License-Identifier: Apache-2.0
"""OpenCV's SIFT as an extractor, for side-by-side runs with the networks.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004.
"""

from __future__ import annotations

import cv2

from ..features import Metric
from .opencv import OpenCVExtractor

MODEL = "sift"


class SiftExtractor(OpenCVExtractor):
    """SIFT with OpenCV's own settings; descriptors are 128 floats, compared by L2 distance.

    A place with two dominant directions gives two keypoints.
    """

    model = MODEL
    metric: Metric = "l2"
    descriptor_width = 128
    bit_order = "none"

    def _detector(self, count: int) -> cv2.Feature2D:
        try:
            # Without it keypoints lie a quarter of a pixel to the lower right.
            return cv2.SIFT.create(nfeatures=count, enable_precise_upscale=True)
        except (TypeError, cv2.error):  # before OpenCV 4.8
            return cv2.SIFT.create(nfeatures=count)
