# SPDX-License-Identifier: Apache-2.0
"""Random homographies between a picture and the views that a network is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WarpOptions:
    """How far the views of a picture may be apart. Angles in degrees.

    Attributes
    ----------
    scale
        Range of view pixels per picture pixel of the first view; drawn log-uniformly.
    relative_scale
        Range of the second view's scale relative to the first's; drawn log-uniformly.
    rotation, wide_rotation, wide_share
        The roll of the second view relative to the first is uniform in +-`wide_rotation` for a share
        `wide_share` of the pairs and in +-`rotation` for the others.
    base_rotation
        Roll of the first view against the picture, uniform in +-`base_rotation`.
    perspective
        Largest relative change of magnification from the view's centre to its edge.
    shear
        Largest shear and largest logarithmic change of the aspect ratio.
    shift
        Largest offset between the two views' centres, as a share of the view's size.
    """

    scale: tuple[float, float] = (0.45, 1.3)
    relative_scale: tuple[float, float] = (0.65, 1.55)
    rotation: float = 20.0
    wide_rotation: float = 90.0
    wide_share: float = 0.5
    base_rotation: float = 30.0
    perspective: float = 0.25
    shear: float = 0.15
    shift: float = 0.2


def _view_homography(
    rng: np.random.Generator,
    centre: NDArray[np.float64],
    size: tuple[int, int],
    *,
    scale: float,
    rotation: float,
    options: WarpOptions,
) -> NDArray[np.float64]:
    """Homography from picture pixels to view pixels that brings `centre` to the middle of the view."""
    width, height = size
    to_origin = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1.0]])
    angle = np.deg2rad(rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    aspect = np.exp(rng.uniform(-options.shear, options.shear) / 2)
    stretch = np.array(
        [[scale * aspect, scale * rng.uniform(-options.shear, options.shear), 0], [0, scale / aspect, 0], [0, 0, 1]]
    )
    direction = rng.uniform(0, 2 * np.pi)
    strength = rng.uniform(0, options.perspective) / (0.5 * np.hypot(width, height))
    tilt = np.array([[1, 0, 0], [0, 1, 0], [strength * np.cos(direction), strength * np.sin(direction), 1]])
    to_centre = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1.0]])
    return to_centre @ tilt @ turn @ stretch @ to_origin


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def random_views(
    rng: np.random.Generator, picture_size: tuple[int, int], view_size: tuple[int, int], options: WarpOptions
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the homographies of two overlapping views of one picture.

    Parameters
    ----------
    rng
        Source of randomness; the result depends on nothing else.
    picture_size, view_size
        Width and height in pixels.

    Returns
    -------
    tuple of numpy.ndarray
        Two float64 (3, 3), each mapping picture pixels (x, y, 1) to pixels of its view.
    """
    extent = np.array(picture_size, float)
    size = np.array(view_size, float)
    fit = float(np.max(size / extent))
    scale_a = max(_log_uniform(rng, options.scale), 0.8 * fit)
    scale_b = max(scale_a * _log_uniform(rng, options.relative_scale), 0.6 * fit)
    margin = np.minimum(size / scale_a / 2, extent / 2)
    centre_a = rng.uniform(margin, extent - margin + 1e-9)
    offset = rng.uniform(-options.shift, options.shift, 2) * size / max(scale_a, scale_b)
    base = rng.uniform(-options.base_rotation, options.base_rotation)
    spread = options.wide_rotation if rng.random() < options.wide_share else options.rotation
    relative = rng.uniform(-spread, spread)
    view_a = _view_homography(rng, centre_a, view_size, scale=scale_a, rotation=base, options=options)
    view_b = _view_homography(
        rng, np.clip(centre_a + offset, 0, extent), view_size, scale=scale_b, rotation=base + relative, options=options
    )
    return (view_a, view_b) if rng.random() < 0.5 else (view_b, view_a)


def homography_flow(homography: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Where each pixel of a view lies in another: float32 (H, W, 2), NaN outside the other view.

    Parameters
    ----------
    homography
        Maps pixels of the first view to pixels of the second.
    size
        Width and height of both views.
    """
    width, height = size
    x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in homography)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = u / w, v / w
    inside = (w > 1e-9) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    return np.where(inside[..., None], np.stack([u, v], axis=-1), np.nan).astype(np.float32)


def magnification(homography: NDArray[np.float64], size: tuple[int, int]) -> float:
    """How many pixels of a view one pixel of its picture becomes, along a line, in the middle of the view.

    Parameters
    ----------
    homography
        Picture pixels to view pixels.
    size
        Width and height of the view.
    """
    centre = np.linalg.inv(homography) @ ((size[0] - 1) / 2, (size[1] - 1) / 2, 1.0)
    return float(np.sqrt(abs(np.linalg.det(homography))) / abs(homography[2] @ (centre / centre[2])) ** 1.5)


def warp_picture(
    pyramid: list[NDArray[np.uint8]], homography: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Render a view of a picture without aliasing.

    Parameters
    ----------
    pyramid
        The picture and its successive halvings (`picture_pyramid`).
    homography
        Picture pixels to view pixels.
    size
        Width and height of the view.

    Returns
    -------
    view : numpy.ndarray
        uint8 (H, W); outside the picture its content is mirrored.
    valid : numpy.ndarray
        bool (H, W), false outside the picture.
    """
    level = int(np.clip(np.floor(-np.log2(max(magnification(homography, size), 1e-6)) + 0.35), 0, len(pyramid) - 1))
    factor = 2.0**level
    # Pixel centres: x_level = (x + 0.5) / factor - 0.5.
    from_level = np.array([[factor, 0, factor / 2 - 0.5], [0, factor, factor / 2 - 0.5], [0, 0, 1]])
    source = pyramid[level]
    view = cv2.warpPerspective(
        source, homography @ from_level, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    valid = cv2.warpPerspective(np.ones_like(source), homography @ from_level, size, flags=cv2.INTER_NEAREST)
    return view.astype(np.uint8), valid > 0


def picture_pyramid(picture: NDArray[np.uint8], *, smallest: int = 64) -> list[NDArray[np.uint8]]:
    """A gray picture and its successive exact halvings by area, down to a shorter side of `smallest`."""
    levels = [picture]
    while min(levels[-1].shape) >= 2 * smallest:
        height, width = levels[-1].shape
        even = levels[-1][: height // 2 * 2, : width // 2 * 2]
        levels.append(cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA))  # type: ignore[arg-type]
    return levels
