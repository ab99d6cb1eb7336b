# SPDX-License-Identifier: Apache-2.0
"""Matching descriptors: exact nearest neighbours among all, or among the pairs that geometry allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import GCNv2Error
from .features import Features, Metric, unpack_descriptors
from .hamming import as_words, count_bits

# Rows of the distance matrix, or points with their candidates, at a time: a block stays in the processor's cache.
_BLOCK = 256

_USUAL_DISTANCE: dict[Metric, float] = {"hamming": 0.3, "l2": 0.9}


class MatchingError(GCNv2Error):
    """Descriptors that cannot be compared, or a matching option out of its range."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of descriptors; M may be 0.

    Attributes
    ----------
    index_a
        intp (M,), ascending.
    index_b
        intp (M,).
    distance
        float32 (M,): differing bits for ``hamming``, Euclidean distance for ``l2``.
    """

    index_a: NDArray[np.intp]
    index_b: NDArray[np.intp]
    distance: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.index_a)


def match(
    a: Features,
    b: Features,
    *,
    mutual: bool = True,
    ratio: float | None = None,
    max_distance: float | None = None,
) -> Matches:
    """Match the features of two images by their descriptors; see `match_descriptors`.

    Raises
    ------
    MatchingError
        If the two were made with different metrics, or as `match_descriptors`.
    """
    if a.metric != b.metric:
        raise MatchingError(f"features with the metrics {a.metric} and {b.metric} cannot be matched")
    return match_descriptors(
        a.descriptors, b.descriptors, metric=a.metric, mutual=mutual, ratio=ratio, max_distance=max_distance
    )


def match_descriptors(
    a: NDArray,
    b: NDArray,
    *,
    metric: Metric = "hamming",
    mutual: bool = True,
    ratio: float | None = None,
    max_distance: float | None = None,
) -> Matches:
    """For each descriptor of `a` the nearest one of `b`, where it passes the tests.

    Parameters
    ----------
    a, b
        uint8 (N, D) and (M, D) packed bits for ``hamming``; float (N, D) and (M, D) for ``l2``. N and M may be 0.
    metric
        How they are compared.
    mutual
        Keep a pair only if each is the other's nearest.
    ratio
        Keep a pair only if its distance is less than `ratio` times that to the second nearest in `b` (Lowe's test); in
        (0, 1]. A descriptor with no second nearest passes. None: no test.
    max_distance
        Keep a pair only up to this distance. None: no limit.

    Returns
    -------
    Matches
        Among equally near descriptors the first is the nearest. A float descriptor that is not finite matches none.

    Raises
    ------
    MatchingError
        If widths differ, or an option is out of its range.
    """
    if ratio is not None and not 0.0 < ratio <= 1.0:
        raise MatchingError(f"ratio must be in (0, 1], got {ratio}")
    if max_distance is not None and max_distance < 0.0:
        raise MatchingError(f"max_distance must not be negative, got {max_distance}")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise MatchingError(f"descriptors must be (N, D) and (M, D), got {a.shape} and {b.shape}")
    if len(a) == 0 or len(b) == 0:
        return Matches(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0, np.float32))
    (vectors_a, squares_a), (vectors_b, squares_b) = _vectors(a, metric), _vectors(b, metric)

    nearest = np.empty(len(a), np.intp)
    distance = np.empty(len(a), np.float32)
    second = np.full(len(a), np.inf, np.float32)
    nearest_to_b = np.zeros(len(b), np.intp)
    distance_to_b = np.full(len(b), np.inf, np.float32)
    for start in range(0, len(a), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(a)))
        squared = vectors_a[block] @ vectors_b.T
        squared *= -2.0
        squared += squares_a[block, None]
        squared += squares_b
        if mutual:
            best_row = squared.argmin(axis=0)
            best = squared[best_row, np.arange(len(b))]
            nearer = best < distance_to_b
            nearest_to_b[nearer] = best_row[nearer] + start
            distance_to_b[nearer] = best[nearer]
        rows = np.arange(len(squared))
        nearest[block] = squared.argmin(axis=1)
        distance[block] = squared[rows, nearest[block]]
        if ratio is not None:
            squared[rows, nearest[block]] = np.inf
            second[block] = squared.min(axis=1)
    distance, second = _from_squared(distance, metric), _from_squared(second, metric)

    passed = np.isfinite(distance)
    if mutual:
        passed &= nearest_to_b[nearest] == np.arange(len(a))
    if ratio is not None:
        passed &= distance < ratio * second
    if max_distance is not None:
        passed &= distance <= max_distance
    index_a = np.flatnonzero(passed)
    return Matches(index_a, nearest[index_a], distance[index_a])


def match_pairs(
    a: NDArray,
    b: NDArray,
    index_a: NDArray[np.intp],
    index_b: NDArray[np.intp],
    *,
    metric: Metric = "hamming",
    ratio: float | None = None,
    max_distance: float | None = None,
) -> Matches:
    """Match mutually, among given pairs alone: for each descriptor of `a` the nearest one that it is paired with.

    Parameters
    ----------
    a, b
        As `match_descriptors`.
    index_a, index_b
        intp (P,), the pairs as positions in `a` and `b`, in any order, each once.
    metric, ratio, max_distance
        As `match_descriptors`, among the pairs.

    Returns
    -------
    Matches
        Among equally near descriptors the first is the nearest.
    """
    pairs = _possible_pairs(a, b, index_a, index_b, metric, ratio, max_distance)
    return _mutually_nearest(*pairs, ratio, max_distance)


def _possible_pairs(
    a: NDArray,
    b: NDArray,
    index_a: NDArray[np.intp],
    index_b: NDArray[np.intp],
    metric: Metric,
    ratio: float | None,
    max_distance: float | None,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Those of the pairs that can decide on a match, with their distances."""
    distance = _pair_distances(a, b, index_a, index_b, metric)
    able = np.isfinite(distance)
    if max_distance is not None:
        # A second nearest farther than this lets every nearest within the limit pass the ratio test.
        able &= distance <= max_distance / (ratio or 1.0)
    return index_a[able], index_b[able], distance[able]


def _mutually_nearest(
    index_a: NDArray[np.intp],
    index_b: NDArray[np.intp],
    distance: NDArray[np.float32],
    ratio: float | None,
    max_distance: float | None,
) -> Matches:
    """The matches among pairs as `_possible_pairs` gives them."""
    by_a = np.lexsort((index_b, distance, index_a))
    is_nearest = _starts(index_a[by_a])
    best = by_a[is_nearest]
    by_b = np.lexsort((index_a, distance, index_b))
    mutual = np.zeros(len(index_a), bool)
    mutual[by_b[_starts(index_b[by_b])]] = True
    passed = mutual[best]
    if ratio is not None:
        # What follows a descriptor's nearest in this order is its second nearest, or another descriptor's nearest.
        following = np.flatnonzero(is_nearest) + 1
        alone = (following >= len(by_a)) | np.append(is_nearest, True)[following]
        second = np.where(alone, np.inf, np.append(distance[by_a], np.inf)[following])
        passed &= distance[best] < ratio * second
    if max_distance is not None:
        passed &= distance[best] <= max_distance
    chosen = best[passed]
    return Matches(index_a[chosen], index_b[chosen], distance[chosen])


def match_near(
    a: NDArray,
    expected: NDArray[np.float64],
    b: NDArray,
    pixels: NDArray[np.float64],
    *,
    metric: Metric,
    radius: float,
    ratio: float | None = None,
    max_distance: float | None = None,
) -> Matches:
    """Match each point with the nearest descriptor among the keypoints near its expected place, mutually.

    Parameters
    ----------
    a, expected
        Of N points: descriptors as `match_pairs`, and float64 (N, 2), pixels; NaN is near nothing.
    b, pixels
        Of M keypoints: descriptors, and float64 (M, 2).
    metric
        How descriptors are compared.
    radius
        Pixels; keypoints farther from the expected place are no candidates.
    ratio, max_distance
        As `match_descriptors`, among the candidates alone.

    Returns
    -------
    Matches
        Among equally near descriptors the first is the nearest.
    """
    finite = np.flatnonzero(np.isfinite(expected).all(axis=1))
    by_column = np.argsort(pixels[:, 0], kind="stable")
    possible = []
    # All candidates at once would take memory that grows with the product of both numbers; few of them are possible.
    for start in range(0, max(len(finite), 1), _BLOCK):
        near = _near_pairs(expected, finite[start : start + _BLOCK], pixels, by_column, radius)
        possible.append(_possible_pairs(a, b, *near, metric, ratio, max_distance))
    index_a, index_b, distance = (np.concatenate(parts) for parts in zip(*possible))
    return _mutually_nearest(index_a, index_b, distance, ratio, max_distance)


def usual_distance(metric: Metric, width: int) -> float:
    """Largest distance of descriptors of `width` columns that is commonly a match: 30% of the bits, or 0.9."""
    return _USUAL_DISTANCE[metric] * (8 * width if metric == "hamming" else 1)


def _near_pairs(
    expected: NDArray[np.float64],
    chosen: NDArray[np.intp],
    pixels: NDArray[np.float64],
    by_column: NDArray[np.intp],
    radius: float,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions in both of all pairs within `radius`, of the `chosen` of the expected places.

    `by_column` sorts the pixels by column.
    """
    columns = pixels[by_column, 0]
    first = np.searchsorted(columns, expected[chosen, 0] - radius, "left")
    count = np.searchsorted(columns, expected[chosen, 0] + radius, "right") - first
    a = np.repeat(chosen, count)
    # Positions within each point's run of columns, all runs one after the other.
    within = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)
    b = by_column[np.repeat(first, count) + within]
    apart = expected[a] - pixels[b]
    near = apart[:, 0] ** 2 + apart[:, 1] ** 2 <= radius**2
    return a[near], b[near]


def _pair_distances(
    a: NDArray, b: NDArray, index_a: NDArray[np.intp], index_b: NDArray[np.intp], metric: Metric
) -> NDArray[np.float32]:
    if metric == "hamming":
        bits = count_bits(as_words(a)[index_a] ^ as_words(b)[index_b])
        return np.asarray(bits.sum(axis=1, dtype=np.uint16), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.linalg.norm(a[index_a] - b[index_b], axis=1), np.float32)


def _starts(values: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Where in sorted values a new one begins."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def _vectors(descriptors: NDArray, metric: Metric) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Descriptors as float32 vectors, and their squared lengths.

    Bits become -1 and 1: the squared Euclidean distance is then four times the number of differing bits, and all
    arithmetic on so small integers is exact. A matrix product finds them faster than counting bits does. What is not
    finite becomes a vector that is infinitely far from all others.
    """
    if metric == "hamming":
        vectors = unpack_descriptors(descriptors).astype(np.float32) * np.float32(2.0) - np.float32(1.0)
    elif metric == "l2":
        vectors = np.ascontiguousarray(descriptors, dtype=np.float32)
    else:
        raise MatchingError(f"metric must be 'hamming' or 'l2', got {metric!r}")
    with np.errstate(invalid="ignore", over="ignore"):
        squares = np.einsum("nd,nd->n", vectors, vectors)
    finite = np.isfinite(squares)
    if not finite.all():
        # A NaN would be the nearest of all to NumPy's argmin.
        vectors, squares = np.where(finite[:, None], vectors, np.float32(0.0)), np.where(finite, squares, np.inf)
    return vectors, squares


def _from_squared(squared: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    return squared / np.float32(4.0) if metric == "hamming" else np.sqrt(np.maximum(squared, np.float32(0.0)))
