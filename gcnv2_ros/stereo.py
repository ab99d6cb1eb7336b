# SPDX-License-Identifier: Apache-2.0
"""Stereo: depth of keypoints by matching descriptors along the rows of a rectified pair, refined on the images.

The steps are those of ORB-SLAM2's stereo frontend in spirit (Mur-Artal and Tardos, "ORB-SLAM2: an Open-Source SLAM
System for Monocular, Stereo, and RGB-D Cameras", T-RO 2017, section III-A): candidates in a band of rows, the nearest
descriptor, a search with a window of pixels about the match, a parabola through the best place and its neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import GCNv2Error
from .features import Features
from .matching import match_pairs, usual_distance

_LEAST_CONTRAST = 1.0


class StereoError(GCNv2Error):
    """Features or images that are no rectified pair, or an option out of its range."""


@dataclass(frozen=True)
class StereoOptions:
    """How a rectified pair is matched.

    Attributes
    ----------
    max_descriptor_distance
        Largest distance of matching descriptors: differing bits, or Euclidean distance of float descriptors. None:
        0.3 of the bits (76 of 256), or 0.9.
    row_tolerance
        Largest difference of the two keypoints' rows in pixels: what rectification and the keypoints' own precision
        leave.
    max_disparity
        Largest difference of the two keypoints' columns in pixels, which sets the nearest depth,
        ``focal * baseline / max_disparity``. None: a quarter of the image's width.
    min_disparity
        Below this disparity in pixels the depth is unknown, since half a pixel more or less would make it anything;
        `right_u` is given all the same.
    refine
        Refine the column in the right image on the pixels, where the images are given.
    window_radius
        Half the width of the compared square windows in pixels, without their middle.
    search_radius
        How many pixels to either side of the match in the right image the window is moved: a network's keypoints of one
        point lie some pixels apart in two images.
    min_correlation
        Least zero-mean normalised cross-correlation of the two windows at their best, -1 to 1; matches below it are
        dropped.
    max_ambiguity
        Largest difference of the windows at their best (1 - correlation), as a share of the median over the search, 0
        to 1: what looks nearly as good everywhere, as an edge along the row does, fixes no column.
    """

    max_descriptor_distance: float | None = None
    row_tolerance: float = 2.0
    max_disparity: float | None = None
    min_disparity: float = 0.5
    refine: bool = True
    window_radius: int = 5
    search_radius: int = 8
    min_correlation: float = 0.7
    max_ambiguity: float = 0.2

    def __post_init__(self) -> None:
        limits = {
            "max_descriptor_distance": (0.0, math.inf),
            "row_tolerance": (0.0, 1000.0),
            "max_disparity": (0.0, 100_000.0),
            "min_disparity": (0.01, 1000.0),
            "window_radius": (1, 50),
            "search_radius": (1, 50),
            "min_correlation": (-1.0, 1.0),
            "max_ambiguity": (0.0, 1.0),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise StereoError(f"{name} must be between {least} and {most}, got {value}")


def match_stereo(
    left: Features,
    right: Features,
    *,
    focal: float,
    baseline: float,
    left_image: NDArray[np.uint8] | None = None,
    right_image: NDArray[np.uint8] | None = None,
    options: StereoOptions | None = None,
) -> Features:
    """Fill `right_u` and `depth` of the left features of a rectified pair.

    Each left keypoint gets the right one with the nearest descriptor among those in its band of rows with a possible
    disparity, if it is that one's nearest too. With both images, the column in the right image is then found anew from
    the pixels: the window about the left keypoint is moved along its row about the match, and a parabola through the
    correlations at the best place and beside it gives the fraction of a pixel. A match whose best place is at the end
    of the search, or where the windows look different, are flat or do not fix the column, is dropped.

    Parameters
    ----------
    left, right
        Features of the two images, `uv` in pixels of the rectified images.
    focal
        Focal length of the rectified images in pixels.
    baseline
        Distance of the two cameras in metres.
    left_image, right_image
        uint8 (H, W), the rectified gray images; without them the match's own column is taken.
    options
        See `StereoOptions`.

    Returns
    -------
    Features
        The left ones; `right_u` is -1 and `depth` NaN where unknown.

    Raises
    ------
    StereoError
        If the two do not belong together, an image is of another size, or focal length or baseline is not positive.
    """
    options = options or StereoOptions()
    _check_pair(left, right, focal, baseline)
    index_left, index_right = _band_matches(left, right, options)
    matched_u = right.uv[index_right, 0].astype(np.float64)
    if options.refine and left_image is not None and right_image is not None:
        for image in (left_image, right_image):
            if image.dtype != np.uint8 or image.shape != (left.image_size[1], left.image_size[0]):
                raise StereoError(
                    f"stereo needs uint8 images of {left.image_size[0]}x{left.image_size[1]} as the features say, "
                    f"got {image.dtype.name} {image.shape}"
                )
        matched_u = _refined(left_image, right_image, left.uv[index_left].astype(np.float64), matched_u, options)
    disparity = left.uv[index_left, 0] - matched_u
    # A column left of the image's first one can be seen by nobody; NaN compares false.
    good = (matched_u >= 0) & (disparity >= 0)
    right_u = np.full(len(left), -1.0, np.float32)
    depth = np.full(len(left), np.nan, np.float32)
    right_u[index_left[good]] = matched_u[good]
    near = good & (disparity >= options.min_disparity)
    depth[index_left[near]] = focal * baseline / disparity[near]
    return left.with_arrays(right_u=right_u, depth=depth)


def _check_pair(left: Features, right: Features, focal: float, baseline: float) -> None:
    if left.kind != right.kind:
        raise StereoError(
            f"the left features have {left.metric} descriptors of {left.descriptors.shape[1]} columns and the right "
            f"ones {right.metric} descriptors of {right.descriptors.shape[1]}: both must be of one extractor"
        )
    if left.image_size != right.image_size:
        raise StereoError(
            f"the left image is {left.image_size[0]}x{left.image_size[1]} and the right one {right.image_size[0]}x"
            f"{right.image_size[1]}; the images of a rectified pair have one size"
        )
    if not (math.isfinite(focal) and focal > 0):
        raise StereoError(f"the focal length must be positive, got {focal} pixels")
    if not (math.isfinite(baseline) and baseline > 0):
        raise StereoError(
            f"the baseline must be positive, got {baseline} m; are left and right swapped, or is the right camera's "
            "projection missing?"
        )


def _band_matches(left: Features, right: Features, options: StereoOptions) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Mutually nearest descriptors among the pairs that the geometry allows: positions in left and right."""
    index_left, index_right = _band_pairs(left, right, options)
    limit = options.max_descriptor_distance
    if limit is None:
        limit = usual_distance(left.metric, left.descriptors.shape[1])
    matches = match_pairs(
        left.descriptors, right.descriptors, index_left, index_right, metric=left.metric, max_distance=limit
    )
    return matches.index_a, matches.index_b


def _band_pairs(left: Features, right: Features, options: StereoOptions) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All pairs within the row tolerance and the range of disparities, ordered by left, then right."""
    by_row = np.argsort(right.uv[:, 1], kind="stable")
    rows = right.uv[by_row, 1].astype(np.float64)
    left_rows = left.uv[:, 1].astype(np.float64)
    first = np.searchsorted(rows, left_rows - options.row_tolerance, side="left")
    last = np.searchsorted(rows, left_rows + options.row_tolerance, side="right")
    counts = last - first
    index_left = np.repeat(np.arange(len(left)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    index_right = by_row[np.repeat(first, counts) + within]
    most = left.image_size[0] / 4 if options.max_disparity is None else options.max_disparity
    disparity = left.uv[index_left, 0] - right.uv[index_right, 0]
    # A point far away may have a disparity below zero by the keypoints' own imprecision.
    possible = (disparity >= -options.row_tolerance) & (disparity <= most)
    return index_left[possible], index_right[possible]


def _refined(
    left_image: NDArray[np.uint8],
    right_image: NDArray[np.uint8],
    uv: NDArray[np.float64],
    right_u: NDArray[np.float64],
    options: StereoOptions,
) -> NDArray[np.float64]:
    """Columns in the right image by the windows' correlation, float64 (M,); NaN for what is dropped.

    Both images are sampled at places that are a whole number of pixels apart: then interpolation smooths both windows
    alike and does not draw the result towards the grid.
    """
    radius, search = options.window_radius, options.search_radius
    start = np.rint(uv[:, 0] - right_u)
    window = np.arange(-radius, radius + 1)
    strip = np.arange(-radius - search, radius + search + 1)
    centre_u = uv[:, 0] - start
    inside = _contains(left_image, uv[:, 0], uv[:, 1], radius, radius)
    inside &= _contains(right_image, centre_u, uv[:, 1], radius + search, radius)
    result = np.full(len(uv), np.nan)
    if not inside.any():
        return result
    uv, centre_u = uv[inside], centre_u[inside]
    template = _sampled(left_image, uv[:, 0], uv[:, 1], window, window)
    strips = _sampled(right_image, centre_u, uv[:, 1], strip, window)
    scores = _correlations(template, strips)
    best = scores.argmax(axis=1)
    interior = (best > 0) & (best < 2 * search)
    middle = np.clip(best, 1, 2 * search - 1)
    picked = np.arange(len(scores))
    before, peak, after = (scores[picked, middle + step] for step in (-1, 0, 1))
    # A best place that is no peak, as in a flat strip, is dropped for its ambiguity; only the division must not fail.
    bend = np.minimum(before - 2 * peak + after, -1e-6)
    fraction = 0.5 * (before - after) / bend
    usual = np.median(scores, axis=1)
    good = interior & (peak >= options.min_correlation) & (1 - peak <= options.max_ambiguity * (1 - usual))
    result[inside] = np.where(good, centre_u + middle - search + fraction, np.nan)
    return result


def _contains(
    image: NDArray[np.uint8], u: NDArray[np.float64], v: NDArray[np.float64], radius_u: int, radius_v: int
) -> NDArray[np.bool_]:
    """Whether a window about each place lies within the image, with the pixel that interpolation needs."""
    height, width = image.shape
    return (u >= radius_u) & (u < width - 1 - radius_u) & (v >= radius_v) & (v < height - 1 - radius_v)


def _sampled(
    image: NDArray[np.uint8], u: NDArray[np.float64], v: NDArray[np.float64], columns: NDArray, rows: NDArray
) -> NDArray[np.float32]:
    """Bilinear windows about places (M,) of an image, float32 (M, rows, columns).

    A window's pixels all have the same fractions, so four whole-pixel windows are mixed.
    """
    left, top = np.floor(u).astype(np.intp), np.floor(v).astype(np.intp)
    share_u, share_v = ((place - floor).astype(np.float32)[:, None, None] for place, floor in ((u, left), (v, top)))
    wide_columns = np.append(columns, columns[-1] + 1)
    wide_rows = np.append(rows, rows[-1] + 1)
    pixels = image[(top[:, None] + wide_rows)[:, :, None], (left[:, None] + wide_columns)[:, None, :]]
    pixels = pixels.astype(np.float32)
    upper = pixels[:, :-1] * (1 - share_v) + pixels[:, 1:] * share_v
    return upper[:, :, :-1] * (1 - share_u) + upper[:, :, 1:] * share_u


def _correlations(template: NDArray[np.float32], strips: NDArray[np.float32]) -> NDArray[np.float32]:
    """Zero-mean normalised cross-correlation of windows (M, R, C) along strips (M, R, S): float32 (M, S - C + 1).

    -1 where a window has no contrast to speak of.
    """
    width = template.shape[2]
    area = template.shape[1] * width
    centred = template - template.mean(axis=(1, 2), keepdims=True)
    # The strip's own mean is taken out first: sums of squares of small numbers lose no digits.
    strips = strips - strips.mean(axis=(1, 2), keepdims=True)
    windows = np.lib.stride_tricks.sliding_window_view(strips, width, axis=2)
    products = np.einsum("mrsc,mrc->ms", windows, centred)
    column_sums = np.pad(np.cumsum(strips.sum(axis=1, dtype=np.float64), axis=1), ((0, 0), (1, 0)))
    column_squares = np.pad(np.cumsum((strips.astype(np.float64) ** 2).sum(axis=1), axis=1), ((0, 0), (1, 0)))
    sums = column_sums[:, width:] - column_sums[:, :-width]
    squares = column_squares[:, width:] - column_squares[:, :-width]
    energy = np.maximum(squares - sums**2 / area, 0.0)
    own_energy = (centred.astype(np.float64) ** 2).sum(axis=(1, 2))[:, None]
    least = area * _LEAST_CONTRAST**2
    textured = (energy > least) & (own_energy > least)
    scale = np.sqrt(np.where(textured, energy * own_energy, 1.0))
    return np.where(textured, products / scale, -1.0).astype(np.float32)
