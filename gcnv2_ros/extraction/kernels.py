# SPDX-License-Identifier: Apache-2.0
"""Decoding's inner loops in compiled form, where numba is installed."""

from __future__ import annotations

import functools
from types import ModuleType

CUBIC = -1.0
"""The parameter a of cubic convolution; see `gcnv2_ros.extraction.sampling.sample_descriptors`.

Torch and OpenCV have -0.75 and nothing else. With -1, the slope of a sinc, neighbouring keypoints' descriptors differ
more, and more of them are matched.
"""


@functools.cache
def compiled() -> ModuleType | None:
    """`gcnv2_ros.extraction.compiled`, or None without numba.

    The first call of a process takes a second; the first one ever, which compiles, takes some.
    """
    try:
        from . import compiled as module
    except ImportError:
        return None
    return module
