# SPDX-License-Identifier: Apache-2.0
"""Depth images: their values in metres, the depth at keypoints, and where that puts these in space."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import GCNv2Error
from .features import Features, FeaturesError

_NEIGHBOURS = [(row, column) for row in range(3) for column in range(3)]


class DepthError(GCNv2Error):
    """An array that is no depth image, or one that does not belong to the image."""


def metric_depth(image: NDArray[np.uint16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """A depth image as ROS drivers publish it (REP 118) in metres.

    Parameters
    ----------
    image
        uint16 (H, W), millimetres; or float32 or float64 (H, W), metres.

    Returns
    -------
    numpy.ndarray
        float32 (H, W), metres; NaN where the value is no distance: zero, negative, infinite, NaN.

    Raises
    ------
    DepthError
        For any other type or shape.
    """
    if image.ndim != 2 or (image.dtype != np.uint16 and image.dtype.kind != "f"):
        raise DepthError(
            f"a depth image must be uint16 (H, W) in millimetres or float32 (H, W) in metres, got {image.dtype.name} "
            f"{image.shape}"
        )
    metres = image / np.float32(1000) if image.dtype == np.uint16 else image
    with np.errstate(over="ignore", invalid="ignore"):
        metres = metres.astype(np.float32)
        return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(np.nan))


def check_registered(depth: NDArray[np.float32], image_size: tuple[int, int]) -> None:
    """Refuse what cannot be the depth of an image of `image_size` (width, height), in whatever resolution.

    Raises
    ------
    DepthError
        If the depth image has no pixels or another shape of frame than the image.
    """
    if depth.ndim != 2 or not depth.size:
        raise DepthError(f"a depth image must be (H, W) with pixels, got shape {depth.shape}")
    height, width = depth.shape
    if abs(width * image_size[1] - height * image_size[0]) > max(*image_size, width, height):
        raise DepthError(
            f"a depth image of {width}x{height} does not belong to an image of {image_size[0]}x{image_size[1]}: the "
            "two differ in shape. Depth must be registered to the image (aligned_depth_to_color or the like)"
        )


def sample_depth(
    depth: NDArray[np.float32], uv: ArrayLike, image_size: tuple[int, int], *, edge: float = 0.05
) -> NDArray[np.float32]:
    """Depth at keypoints: that of the nearest depth pixel where its surroundings are one surface, otherwise unknown.

    Nothing is interpolated, so that no value appears that was not measured. At a keypoint on the outline of a thing
    the depth could be that of either side; there it is NaN. Unknown neighbours do not count.

    Parameters
    ----------
    depth
        float32 (H, W), metres, registered to the image: the same view, possibly in another resolution. NaN unknown;
        values that are no distance count as unknown.
    uv
        (N, 2) pixels of the image.
    image_size
        Width and height of the image that `uv` refers to.
    edge
        Largest spread of the 3x3 depths around the keypoint, as a share of the depth in their middle.

    Returns
    -------
    numpy.ndarray
        float32 (N,), metres; NaN where the depth is unknown or stands at an edge, and outside of the image.

    Raises
    ------
    DepthError
        If the depth image has no pixels or another shape of frame than the image.
    """
    check_registered(depth, image_size)
    height, width = depth.shape
    pixels = np.asarray(uv, np.float64).reshape(-1, 2)
    scaled = (pixels + 0.5) * (width / image_size[0], height / image_size[1]) - 0.5
    # Half a pixel beyond the outermost centres the image ends; NaN compares false.
    inside = np.all((scaled >= -0.5) & (scaled <= (width - 0.5, height - 0.5)), axis=1)
    columns, rows = np.clip(np.rint(np.where(inside[:, None], scaled, 0.0)), 0, (width - 1, height - 1)).astype(int).T
    with np.errstate(invalid="ignore"):
        known = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))
    padded = np.pad(known, 1, constant_values=np.nan)
    around = np.stack([padded[rows + row, columns + column] for row, column in _NEIGHBOURS])
    value = around[len(_NEIGHBOURS) // 2]
    spread = np.fmax.reduce(around) - np.fmin.reduce(around)
    return np.where(inside & (spread <= np.float32(edge) * value), value, np.float32(np.nan))


def points_in_space(features: Features, rays: NDArray[np.floating]) -> NDArray[np.float64]:
    """Keypoints as points in the camera's optical frame.

    Parameters
    ----------
    features
        With `depth` where it is known.
    rays
        (N, 3), undistorted viewing rays with z = 1; a row that holds NaN is unknown.

    Returns
    -------
    numpy.ndarray
        float64 (N, 3), metres; NaN in all three where the ray is unknown, or the depth is no positive finite number.

    Raises
    ------
    FeaturesError
        If `rays` do not go with the features.
    """
    if np.shape(rays) != (len(features), 3):
        raise FeaturesError(f"rays must be ({len(features)}, 3) to go with the features, got shape {np.shape(rays)}")
    directions = np.asarray(rays, np.float64)
    known = np.isfinite(directions).all(axis=1) & np.isfinite(features.depth) & (features.depth > 0)
    return np.where(known, features.depth, np.nan)[:, None] * directions
