# SPDX-License-Identifier: Apache-2.0
"""Blobs of a training picture: where descriptors are compared that are to be read at blobs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..extraction.blobs import blob_response
from ..extraction.decode import DecodeSettings, find_keypoints

_DEVIATION = 1.75
"""Of the finer blur, in pixels of a view: between those of extraction at 320x240 and at 640x480."""
_LEAST_DEVIATION = 0.8
_REDUCED_FROM = 3.0
"""A blur wider than this is made on a reduced picture."""
_SETTINGS = DecodeSettings(
    max_keypoints=1_000_000,
    score_threshold=0.003,
    smoothing=0.0,
    candidates="peaks",
    nms_radius=1,
    border=2,
    subpixel=True,
    bucket_columns=0,
    bucket_rows=0,
)


def picture_blobs(pyramid: list[NDArray[np.uint8]], magnification: float) -> NDArray[np.float32]:
    """Blobs of a picture, of the size that extraction looks for in its views.

    Parameters
    ----------
    pyramid
        The picture and its successive halvings (`gcnv2_ros.training.warps.picture_pyramid`).
    magnification
        Pixels of a view for one of the picture; of two views the geometric mean, so that both have the same blobs.

    Returns
    -------
    numpy.ndarray
        float32 (N, 2), pixels of the picture, the strongest first.
    """
    deviation = _DEVIATION / magnification
    level = 0
    while deviation > _REDUCED_FROM and level + 1 < len(pyramid):
        deviation, level = deviation / 2, level + 1
    image = pyramid[level].astype(np.float32) * np.float32(1 / 255)
    response = blob_response(image, max(deviation, _LEAST_DEVIATION))
    factor = np.float32(2**level)
    return (find_keypoints(response, _SETTINGS).uv + 0.5) * factor - 0.5
