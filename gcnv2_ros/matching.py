# SPDX-License-Identifier: Apache-2.0
"""Matching descriptors: exact nearest neighbours, mutual ones, ratio test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import GCNv2Error
from .features import Features, Metric, unpack_descriptors

# Rows of the distance matrix at a time: a block of them stays in the processor's cache.
_BLOCK = 256


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
        Among equally near descriptors the first is the nearest.

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
    vectors_a, vectors_b = _vectors(a, metric), _vectors(b, metric)
    squares_a, squares_b = (np.einsum("nd,nd->n", vectors, vectors) for vectors in (vectors_a, vectors_b))

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

    passed = np.ones(len(a), bool)
    if mutual:
        passed &= nearest_to_b[nearest] == np.arange(len(a))
    if ratio is not None:
        passed &= distance < ratio * second
    if max_distance is not None:
        passed &= distance <= max_distance
    index_a = np.flatnonzero(passed)
    return Matches(index_a, nearest[index_a], distance[index_a])


def _vectors(descriptors: NDArray, metric: Metric) -> NDArray[np.float32]:
    """Descriptors as float32 vectors.

    Bits become -1 and 1: the squared Euclidean distance is then four times the number of differing bits, and all
    arithmetic on so small integers is exact. A matrix product finds them faster than counting bits does.
    """
    if metric == "hamming":
        return unpack_descriptors(descriptors).astype(np.float32) * np.float32(2.0) - np.float32(1.0)
    if metric == "l2":
        return np.ascontiguousarray(descriptors, dtype=np.float32)
    raise MatchingError(f"metric must be 'hamming' or 'l2', got {metric!r}")


def _from_squared(squared: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    return squared / np.float32(4.0) if metric == "hamming" else np.sqrt(np.maximum(squared, np.float32(0.0)))
