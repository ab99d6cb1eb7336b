# SPDX-License-Identifier: Apache-2.0
"""The camera that viewing rays tell of: the features messages carry no other calibration."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from .features_msg import FeaturesMessageError

# The focal lengths follow from so many keypoints that are so many pixels apart in both directions.
_MINIMUM_RAYS = 8
_MINIMUM_SPREAD = 30.0


def lack_of_rays(count: int, uv: NDArray[np.floating]) -> str:
    """What `camera_of_rays` lacks, as a sentence, or an empty text.

    Parameters
    ----------
    count
        Number of features.
    uv
        float (N, 2), pixels of those that have a ray.
    """
    if count and not len(uv):
        return "the features have no viewing rays: the frontend has no calibration (camera_info)"
    if len(uv) < _MINIMUM_RAYS:
        return (
            f"the odometry waits to start: of {count} features {len(uv)} have viewing rays, and the focal lengths "
            f"follow from {_MINIMUM_RAYS} or more"
        )
    width, height = np.ptp(uv, axis=0)
    if min(width, height) < _MINIMUM_SPREAD:
        return (
            f"the odometry waits to start: the features with viewing rays lie within {width:.0f} x {height:.0f} "
            f"pixels, and the focal lengths follow from {_MINIMUM_SPREAD:.0f} or more each way"
        )
    return ""


def camera_of_rays(uv: NDArray[np.floating], rays: NDArray[np.floating]) -> Camera:
    """The pinhole that fits pixels and their viewing rays best, for the scale of errors in pixels.

    A lens that is no pinhole is fitted near the optical axis: the few rays near 90 degrees, which are as long as all
    the others together, would decide alone otherwise.

    Parameters
    ----------
    uv
        (N, 2) pixels.
    rays
        (N, 3), z = 1.

    Raises
    ------
    FeaturesMessageError
        If no pinhole fits: the rays are not those of the pixels.
    """
    weight = 1.0 / (1.0 + np.square(rays[:, :2], dtype=np.float64).sum(axis=1))
    fitted = []
    for axis in range(2):
        unknowns = np.column_stack([rays[:, axis], np.ones(len(rays))]) * weight[:, None]
        fitted.append(np.linalg.lstsq(unknowns, uv[:, axis] * weight, rcond=None)[0])
    (fx, cx), (fy, cy) = fitted
    if min(fx, fy) <= 0:
        raise FeaturesMessageError(
            f"the rays x, y, z do not go with the pixels u, v: the focal lengths would be {fx:g} and {fy:g}"
        )
    width, height = (max(math.ceil(float(extent)) + 1, 1) for extent in np.max(uv, axis=0))
    return Camera(width, height, fx, fy, cx, cy)
