# SPDX-License-Identifier: Apache-2.0
"""From a gray image to `Features`: preprocess, run a network (or ORB), decode."""

from __future__ import annotations

from .extractor import Extractor
from .factory import create_extractor
from .options import DecodeOptions, ExtractionError, ExtractorOptions
from .results import ModelInfo, Timings

__all__ = [
    "DecodeOptions",
    "ExtractionError",
    "Extractor",
    "ExtractorOptions",
    "ModelInfo",
    "Timings",
    "create_extractor",
]
