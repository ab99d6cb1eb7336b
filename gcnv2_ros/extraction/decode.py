# SPDX-License-Identifier: Apache-2.0
"""From a score map to keypoints; `sampling` reads their descriptors.

The order of steps is that of the original pipeline: threshold, greedy suppression, border, mask, best N; where weights
recommend it, the score map is smoothed first and only its peaks are candidates. Positions are in network pixels here,
as (column, row), a pixel's centre being an integer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from . import kernels
from .suppression import Scratch, suppress

if TYPE_CHECKING:
    from ..weights import Candidates

Keep = Callable[[NDArray[np.float32]], NDArray[np.bool_]]

_LARGEST_SHIFT = np.float32(0.5)
_SMALLEST_PROBABILITY = np.float32(1e-7)

# The 3x3 neighbourhood in row-major order, and the least-squares quadratic over it: from nine values to the slopes
# along columns and rows and to the second derivatives xx, yy and xy.
_PATCH_ROWS, _PATCH_COLUMNS = (steps.ravel() for steps in np.mgrid[-1:2, -1:2])
_PATCH_CENTRE = 4
_QUADRATIC_FIT = np.stack(
    (
        _PATCH_COLUMNS / 6,
        _PATCH_ROWS / 6,
        _PATCH_COLUMNS**2 - 2 / 3,
        _PATCH_ROWS**2 - 2 / 3,
        _PATCH_COLUMNS * _PATCH_ROWS / 4,
    )
).astype(np.float32)


@dataclass(frozen=True)
class DecodeSettings:
    """`DecodeOptions` with everything settled for one network input size; see there for the meaning.

    `blob_deviation` is that of `blobs.blob_response` where blobs are the detector, and else 0.
    """

    max_keypoints: int
    score_threshold: float
    smoothing: float
    candidates: Candidates
    nms_radius: int
    border: int
    subpixel: bool
    bucket_columns: int
    bucket_rows: int
    blob_deviation: float = 0.0


@dataclass(frozen=True)
class Keypoints:
    """Chosen keypoints: `uv` float32 (N, 2) in network pixels and `score` float32 (N,), descending."""

    uv: NDArray[np.float32]
    score: NDArray[np.float32]


def find_keypoints(
    scores: NDArray[np.float32], settings: DecodeSettings, *, keep: Keep | None = None, scratch: Scratch | None = None
) -> Keypoints:
    """Choose keypoints from a score map.

    Parameters
    ----------
    scores
        float32 (H, W), one score per network pixel.
    settings
        How.
    keep
        Called with float32 (N, 2) refined positions, tells which may be keypoints (the mask); None: all.
    scratch
        Memory kept from call to call; see `smooth` and `suppress`.

    Returns
    -------
    Keypoints
        At most `settings.max_keypoints`, equal scores in row-major order.
    """
    height, width = scores.shape
    border = settings.border
    if settings.smoothing:
        scores = smooth(scores, settings.smoothing, scratch=scratch)

    def position(columns: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        uv = np.empty((len(columns), 2), np.float32)
        uv[:, 0], uv[:, 1] = columns, rows
        if settings.subpixel:
            uv += refine(scores, columns, rows)
        return uv

    def accept(columns: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        inside = (columns >= border) & (columns < width - border) & (rows >= border) & (rows < height - border)
        if keep is not None:
            inside[inside] = keep(position(columns[inside], rows[inside]))
        return inside

    bucketed = settings.bucket_columns > 0
    limit = None if bucketed else settings.max_keypoints
    columns, rows = suppress(
        scores,
        threshold=settings.score_threshold,
        radius=settings.nms_radius,
        peaks_only=settings.candidates == "peaks",
        limit=limit,
        accept=accept,
        scratch=scratch,
    )
    accepted = accept(columns, rows)
    columns, rows = columns[accepted], rows[accepted]
    if bucketed:
        cell = (rows * settings.bucket_rows // height) * settings.bucket_columns
        cell += columns * settings.bucket_columns // width
        cells = settings.bucket_columns * settings.bucket_rows
        chosen = spread(cell, share=max(1, settings.max_keypoints // cells), limit=settings.max_keypoints)
    else:
        chosen = np.arange(min(len(columns), settings.max_keypoints))
    columns, rows = columns[chosen], rows[chosen]
    return Keypoints(position(columns, rows), scores[rows, columns])


def smooth(scores: NDArray[np.float32], deviation: float, *, scratch: Scratch | None = None) -> NDArray[np.float32]:
    """A score map blurred on the scale of its square root.

    The detector says of each pixel by itself how likely a keypoint lies there. About a corner that it is not sure of,
    several pixels share the probability, and which of them has most of it is a matter of chance: together they tell
    better that there is a keypoint, and where. The square root keeps high peaks from covering low ones beside them.

    Parameters
    ----------
    scores
        float32 (H, W) in [0, 1].
    deviation
        Standard deviation of the Gaussian in pixels; positive.
    scratch
        If given, the result lies in memory of it and is valid until its next use.

    Returns
    -------
    numpy.ndarray
        float32 (H, W) in [0, 1].
    """
    reach = 2 * math.ceil(2.5 * deviation) + 1
    root, blurred, _ = (Scratch() if scratch is None else scratch).maps(scores.shape)
    cv2.sqrt(scores, dst=root)
    cv2.GaussianBlur(root, (reach, reach), deviation, dst=blurred)
    return np.asarray(cv2.multiply(blurred, blurred, dst=root), np.float32)


def spread(cell: NDArray[np.integer], *, share: int, limit: int) -> NDArray[np.intp]:
    """Choose up to `limit` of N ranked items so that every cell gets its share first.

    Parameters
    ----------
    cell
        Integers (N,), the cell of each item; items are in order of rank, the best first.
    share
        How many a cell gets before the best of the rest fill up the number.
    limit
        How many in all.

    Returns
    -------
    numpy.ndarray
        Positions of the chosen, ascending.
    """
    by_cell = np.argsort(cell, kind="stable")
    ordered = cell[by_cell]
    rank_in_cell = np.empty(len(cell), np.intp)
    rank_in_cell[by_cell] = np.arange(len(cell)) - np.searchsorted(ordered, ordered)
    within_share_first = np.argsort(rank_in_cell >= share, kind="stable")
    return np.sort(within_share_first[:limit])


def refine(scores: NDArray[np.float32], columns: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Sub-pixel offsets of keypoints.

    The maximum of the quadratic surface that fits the logits of a keypoint's 3x3 scores best (least squares). A
    Gaussian peak of small scores is such a surface. On rendered Gaussians and on photographs under known
    homographies this came nearer to the truth than parabolas along rows and columns, and than a Newton step from
    central differences.

    Parameters
    ----------
    scores
        float32 (H, W) in [0, 1].
    columns, rows
        intp (N,), the keypoints' pixels.

    Returns
    -------
    numpy.ndarray
        float32 (N, 2), column and row offsets, each at most half a pixel. 0 at the map's edges, and where the surface
        has no maximum.
    """
    offsets = np.empty((len(columns), 2), np.float32)
    if (loops := kernels.compiled()) is not None:
        loops.refine(np.ascontiguousarray(scores), columns, rows, _SMALLEST_PROBABILITY, offsets)
    else:
        _fit(scores, columns, rows, offsets)
    np.maximum(offsets, -_LARGEST_SHIFT, out=offsets)
    return np.minimum(offsets, _LARGEST_SHIFT, out=offsets)


def _fit(
    scores: NDArray[np.float32], columns: NDArray[np.intp], rows: NDArray[np.intp], offsets: NDArray[np.float32]
) -> None:
    """`refine` in NumPy, with shifts of any size; `offsets` (N, 2) takes the result."""
    height, width = scores.shape
    inside = (columns > 0) & (columns < width - 1) & (rows > 0) & (rows < height - 1)
    centre = np.where(inside, rows * width + columns, 0)
    patches = np.ascontiguousarray(scores).take(centre + (_PATCH_ROWS * width + _PATCH_COLUMNS)[:, None], mode="clip")
    np.maximum(patches, _SMALLEST_PROBABILITY, out=patches)
    np.minimum(patches, 1 - _SMALLEST_PROBABILITY, out=patches)
    logits = np.log(patches / (1 - patches))
    # The fit is blind to what is common to all nine; without it nothing is left of a plateau to be rounded.
    logits -= logits[_PATCH_CENTRE].copy()
    slope_x, slope_y, curve_xx, curve_yy, curve_xy = _QUADRATIC_FIT @ logits
    determinant = curve_xx * curve_yy - curve_xy**2
    peaked = inside & (curve_xx < 0.0) & (determinant > 0.0)
    determinant[~peaked] = np.inf
    offsets[:, 0] = (curve_xy * slope_y - curve_yy * slope_x) / determinant
    offsets[:, 1] = (curve_xy * slope_x - curve_xx * slope_y) / determinant
