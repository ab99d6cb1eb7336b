# SPDX-License-Identifier: Apache-2.0
"""Decoding's inner loops in compiled form, where numba is installed."""

from __future__ import annotations

from types import ModuleType

from ..compilation import import_compiled

CUBIC = -1.0
"""The parameter a of cubic convolution; see `gcnv2_ros.extraction.sampling.sample_descriptors`.

Torch and OpenCV have -0.75 and nothing else. With -1, the slope of a sinc, neighbouring keypoints' descriptors differ
more, and more of them are matched.
"""


def compiled() -> ModuleType | None:
    """`gcnv2_ros.extraction.compiled`, or None without numba; see `gcnv2_ros.compilation.import_compiled`."""
    return import_compiled("gcnv2_ros.extraction.compiled")
