# SPDX-License-Identifier: Apache-2.0
"""A detector without a network: bright and dark blobs of the network's input image.

The response is to blobs what Shi and Tomasi's is to corners ("Good Features to Track", CVPR 1994): the smaller
eigenvalue, here of the Hessian, whose two eigenvalues have one sign where the image has a blob and differ where it has
an edge. It is scale-normalised (Lindeberg, "Feature Detection with Automatic Scale Selection", IJCV 1998) and summed
over two scales.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from . import kernels
from .suppression import Scratch

BLOB_THRESHOLD = 0.004
"""Recommended threshold of the response: about twice the median of what a camera's noise of 3 gray levels alone brings
about at 320x240."""

_DEVIATION_AT_REFERENCE = 1.6
_REFERENCE_AREA = 320 * 240
_LARGEST_AREA = 640 * 480
_SCALE_RATIO = 1.7
_RADIUS_BY_DEVIATION = 1.25
# Of the Hessian's two second derivatives the mean and half of the difference, and the mixed derivative.
_MEAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32) / 2
_HALF_DIFFERENCE = np.array([[0, -1, 0], [1, 0, 1], [0, -1, 0]], np.float32) / 2
_MIXED = np.array([[1, 0, -1], [0, 0, 0], [-1, 0, 1]], np.float32) / 4


def blob_deviation(size: tuple[int, int]) -> float:
    """Standard deviation in pixels of the finer blur for an image of `size` (width, height).

    1.6 at 320x240, and growing with the square root of the sides up to 640x480: a larger image shows more detail, and
    the same detail larger. Beyond that it stays, since fine blobs are placed more precisely, and there are enough.
    """
    area = min(size[0] * size[1], _LARGEST_AREA)
    return float(_DEVIATION_AT_REFERENCE * (area / _REFERENCE_AREA) ** 0.25)


def blob_radius(size: tuple[int, int]) -> int:
    """Recommended suppression radius in pixels for an image of `size`: 2 at 320x240, 3 at 640x480 and beyond."""
    return max(1, round(_RADIUS_BY_DEVIATION * blob_deviation(size)))


def blob_response(
    image: NDArray[np.float32], deviation: float, *, scratch: Scratch | None = None
) -> NDArray[np.float32]:
    """How much each pixel is the middle of a blob.

    Parameters
    ----------
    image
        float32 (H, W), gray in [0, 1].
    deviation
        Standard deviation in pixels of the finer of the two Gaussian blurs at which blobs are looked for; the other
        one's is 1.7 times as large.
    scratch
        If given, the result lies in memory of it and is valid until its next use.

    Returns
    -------
    numpy.ndarray
        float32 (H, W), from 0 (no blob; also the outermost pixels) to less than 1, in proportion to contrast.
    """
    fine, coarse, response = (Scratch() if scratch is None else scratch).maps(image.shape)
    _blur(image, deviation, fine)
    _blur(fine, deviation * math.sqrt(_SCALE_RATIO**2 - 1), coarse)
    variances = (np.float32(deviation**2), np.float32((_SCALE_RATIO * deviation) ** 2))
    if (loops := kernels.compiled()) is not None:
        loops.blob_response(fine, coarse, *variances, response)
        return response
    # Into the memory of what is no longer needed: fresh memory costs more than the work in it.
    _smaller_curvature(fine, response)
    _smaller_curvature(coarse, fine)
    cv2.addWeighted(response, float(variances[0]), fine, float(variances[1]), 0.0, dst=response)
    response[0] = response[-1] = 0.0
    response[:, 0] = response[:, -1] = 0.0
    return response


def _blur(image: NDArray[np.float32], deviation: float, blurred: NDArray[np.float32]) -> None:
    side = 2 * math.ceil(3 * deviation) + 1
    cv2.GaussianBlur(image, (side, side), deviation, dst=blurred)


def _smaller_curvature(image: NDArray[np.float32], curvature: NDArray[np.float32]) -> None:
    """The smaller absolute eigenvalue of the Hessian where both have one sign, else 0; `curvature` takes the result."""
    cv2.filter2D(image, -1, _MEAN, dst=curvature)
    np.abs(curvature, out=curvature)
    radius = cv2.magnitude(cv2.filter2D(image, -1, _HALF_DIFFERENCE), cv2.filter2D(image, -1, _MIXED))
    cv2.subtract(curvature, radius, dst=curvature)
    np.maximum(curvature, 0, out=curvature)
