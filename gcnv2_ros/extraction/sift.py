# SPDX-License-Identifier: Apache-2.0
"""OpenCV's SIFT as an extractor, for side-by-side runs with the networks.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..features import Metric
from .opencv import OpenCVExtractor

MODEL = "sift"

_PRECISE_UPSCALE = tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 8)
"""Whether OpenCV can keep keypoints in place where it enlarges the image first."""


class SiftExtractor(OpenCVExtractor):
    """SIFT with OpenCV's own settings; descriptors are 128 floats of length 1, compared by L2 distance.

    OpenCV's have a length of 512; limits of the distance are for 1, which those of networks have. A place with two
    dominant directions gives two keypoints.
    """

    model = MODEL
    metric: Metric = "l2"
    descriptor_width = 128
    bit_order = "none"
    offset = 0.0 if _PRECISE_UPSCALE else 0.25

    def _detector(self, count: int) -> cv2.Feature2D:
        if _PRECISE_UPSCALE:
            return cv2.SIFT.create(nfeatures=count, enable_precise_upscale=True)
        return cv2.SIFT.create(nfeatures=count)

    def _scaled(self, descriptors: np.ndarray) -> np.ndarray:
        length = np.linalg.norm(descriptors, axis=1, keepdims=True)
        # A descriptor of zeros, of a place without any gradient, stays one.
        return descriptors / np.maximum(length, 1.0)
