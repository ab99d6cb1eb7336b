# SPDX-License-Identifier: Apache-2.0
"""OpenCV's ORB as an extractor, for side-by-side runs with the networks.

Rublee, Rabaud, Konolige, Bradski, "ORB: an efficient alternative to SIFT or SURF", ICCV 2011.
"""

from __future__ import annotations

import cv2

from ..features import DESCRIPTOR_BYTES, Metric
from .opencv import OpenCVExtractor

MODEL = "orb"


class OrbExtractor(OpenCVExtractor):
    """ORB with OpenCV's own settings: 8 levels of factor 1.2, Harris scores. Its bits have an order of their own."""

    model = MODEL
    metric: Metric = "hamming"
    descriptor_width = DESCRIPTOR_BYTES
    bit_order = MODEL

    def _detector(self, count: int) -> cv2.Feature2D:
        return cv2.ORB.create(nfeatures=count)
