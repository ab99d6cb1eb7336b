# SPDX-License-Identifier: Apache-2.0
"""Matching points of the map with keypoints near the places where they are expected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..features import Metric
from ..matching import Matches
from ..vocabulary.hamming import as_words, count_bits


def match_near(
    descriptors_a: NDArray,
    expected: NDArray[np.float64],
    descriptors_b: NDArray,
    pixels: NDArray[np.float64],
    *,
    metric: Metric,
    radius: float,
    ratio: float,
    max_distance: float | None,
) -> Matches:
    """Match each point with the nearest descriptor among the keypoints near its expected place, mutually.

    Parameters
    ----------
    descriptors_a, expected
        Of P points: uint8 or float32 (P, D), and float64 (P, 2), pixels; NaN is near nothing.
    descriptors_b, pixels
        Of N keypoints: (N, D) and float64 (N, 2).
    metric
        How descriptors are compared.
    radius
        Pixels; keypoints farther from the expected place are no candidates.
    ratio, max_distance
        As `gcnv2_ros.matching.match_descriptors`, among the candidates alone.

    Returns
    -------
    Matches
        Among equally near descriptors the first is the nearest.
    """
    a, b = _near_pairs(expected, pixels, radius)
    distance = _distances(descriptors_a, descriptors_b, a, b, metric)
    if max_distance is not None:
        # A second nearest farther than this lets every nearest within the limit pass the ratio test.
        able = distance <= max_distance / ratio
        a, b, distance = a[able], b[able], distance[able]
    by_a = np.lexsort((b, distance, a))
    is_nearest = _starts(a[by_a])
    best = by_a[is_nearest]
    # What follows a point's nearest candidate in this order is its second nearest, or another point's nearest.
    following = np.flatnonzero(is_nearest) + 1
    alone = (following >= len(by_a)) | np.append(is_nearest, True)[following]
    second = np.where(alone, np.inf, np.append(distance[by_a], np.inf)[following])
    by_b = np.lexsort((a, distance, b))
    mutual = np.zeros(len(a), bool)
    mutual[by_b[_starts(b[by_b])]] = True
    passed = mutual[best] & (distance[best] < ratio * second)
    if max_distance is not None:
        passed &= distance[best] <= max_distance
    chosen = best[passed]
    return Matches(a[chosen], b[chosen], distance[chosen])


def _near_pairs(
    expected: NDArray[np.float64], pixels: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions in both of all pairs within `radius`."""
    finite = np.flatnonzero(np.isfinite(expected).all(axis=1))
    by_column = np.argsort(pixels[:, 0], kind="stable")
    columns = pixels[by_column, 0]
    first = np.searchsorted(columns, expected[finite, 0] - radius, "left")
    count = np.searchsorted(columns, expected[finite, 0] + radius, "right") - first
    a = np.repeat(finite, count)
    # Positions within each point's run of columns, all runs one after the other.
    within = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)
    b = by_column[np.repeat(first, count) + within]
    apart = expected[a] - pixels[b]
    near = apart[:, 0] ** 2 + apart[:, 1] ** 2 <= radius**2
    return a[near], b[near]


def _distances(
    descriptors_a: NDArray, descriptors_b: NDArray, a: NDArray[np.intp], b: NDArray[np.intp], metric: Metric
) -> NDArray[np.float32]:
    if metric == "hamming":
        bits = count_bits(as_words(descriptors_a)[a] ^ as_words(descriptors_b)[b])
        return np.asarray(bits.sum(axis=1, dtype=np.uint16), np.float32)
    return np.asarray(np.linalg.norm(descriptors_a[a] - descriptors_b[b], axis=1), np.float32)


def _starts(values: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Where in sorted values a new one begins."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]
