# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression of a score map, as the original pipeline does it, fast."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from . import kernels

Accept = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]]

# Deciding over the whole map costs about as much as visiting one in so many of its pixels one by one.
_VISITING_COST = 300
# Maps with many equal scores decide few pixels in a round; after so many rounds the rest is visited one by one.
_MOST_ROUNDS = 5
# A round that looks up about this many neighbours, because nearly everything is equal, is not worth it.
_MOST_LOOKUPS = 1_000_000
_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)
_POSITION_BITS = 32
_LARGEST_POSITION = 2**_POSITION_BITS - 1


class Scratch:
    """Memory that decoding uses and a caller may keep between calls: fresh memory costs more than the work in it.

    Not to be used by two calls at the same time.
    """

    def __init__(self) -> None:
        self._reserved: tuple[tuple[int, int], int] | None = None
        self._maps = [np.zeros((0, 0), np.float32)]

    def maps(self, shape: tuple[int, int]) -> list[NDArray[np.float32]]:
        """Three float32 arrays of `shape` that `suppress` does not use; their content is undefined."""
        if self._maps[0].shape != shape:
            self._maps = [np.zeros(shape, np.float32) for _ in range(3)]
        return self._maps

    def reserve(self, shape: tuple[int, int], radius: int) -> None:
        """Have arrays of `shape`, and `removed` with a frame of `radius`.

        Their content is undefined, but for `nothing`, which is 0.
        """
        if self._reserved != (shape, radius):
            self._reserved = (shape, radius)
            self.values, self.window, self.nothing = (np.zeros(shape, np.float32) for _ in range(3))
            self.is_undecided, self.is_winner, self.is_near = (np.zeros(shape, bool) for _ in range(3))
            self.removed = np.zeros((shape[0] + 2 * radius, shape[1] + 2 * radius), bool)


def suppress(
    scores: NDArray[np.float32],
    *,
    threshold: float,
    radius: int,
    peaks_only: bool = False,
    limit: int | None = None,
    accept: Accept | None = None,
    scratch: Scratch | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Greedy non-maximum suppression of a score map.

    Pixels that score above `threshold` are visited by descending score, equal ones in row-major order. A pixel that is
    still there when it is visited is kept, and removes all others within Chebyshev distance `radius`.

    Parameters
    ----------
    scores
        float32 (H, W). NaN counts as below every threshold.
    threshold
        Not negative; pixels must score more than this.
    radius
        Chebyshev distance in pixels; 0 keeps every pixel above the threshold.
    peaks_only
        Visit only pixels that score at least as high as all eight neighbours; the others are as if they scored 0.
    limit
        If given, kept pixels that rank after the first `limit` accepted ones may be missing from the result. That saves
        time, and changes nothing for a caller who takes the first `limit` accepted ones.
    accept
        Called with columns (N,) and rows (N,) of kept pixels, tells which count towards `limit`; None: all.
    scratch
        Memory kept from call to call.

    Returns
    -------
    columns, rows : numpy.ndarray
        intp (N,), in the order of visits.
    """
    if peaks_only and (loops := kernels.compiled()) is not None:
        # Without numpy's cost per step the plain method is the fastest, and needs no limit.
        positions = loops.suppress_peaks(np.ascontiguousarray(scores), np.float32(threshold), radius)
        return _columns_rows(positions, scores.shape[1])
    # A pixel that ranks before all others of its neighbourhood is kept, whatever happens elsewhere. All such pixels are
    # found at once by a running maximum, their neighbourhoods are removed, and what is left is decided in the same way,
    # round by round; the few pixels that are undecided then are visited one by one. `values` holds no scores of removed
    # pixels when a running maximum is taken. Positions are flat ones.
    scratch = Scratch() if scratch is None else scratch
    scratch.reserve(scores.shape, radius)
    values, is_undecided = scratch.values, scratch.is_undecided
    width = scores.shape[1]
    cv2.threshold(scores, threshold, 0.0, cv2.THRESH_TOZERO, dst=values)
    if peaks_only:
        cv2.dilate(values, _NEIGHBOURHOOD, dst=scratch.window)
        np.less(values, scratch.window, out=scratch.is_near)
        _clear(values, scratch)
    flat = values.ravel()
    window = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    kept = np.zeros(0, np.intp)
    kept_scores = np.zeros(0, np.float32)
    np.greater(values, 0.0, out=is_undecided)
    for turn in range(_MOST_ROUNDS):
        if np.count_nonzero(is_undecided) <= scores.size // _VISITING_COST:
            break
        if turn > 0:
            _clear(values, scratch)
        found = _window_winners(scratch, window)
        if found is None:
            break
        kept = np.concatenate((kept, found))
        kept_scores = np.concatenate((kept_scores, flat[found]))
        cv2.dilate(scratch.is_winner.view(np.uint8), window, dst=scratch.is_near.view(np.uint8))
        np.greater(is_undecided, scratch.is_near, out=is_undecided)
        if limit is not None and len(kept) >= limit:
            counting = kept_scores if accept is None else kept_scores[accept(*_columns_rows(kept, width))]
            if len(counting) >= limit:
                # What scores less than the `limit`th best that is kept already cannot be among the first `limit`.
                enough = -np.partition(-counting, limit - 1)[limit - 1]
                np.logical_and(is_undecided, values >= enough, out=is_undecided)
    undecided = np.flatnonzero(is_undecided)
    visited = _visit(_ranked(undecided, flat[undecided]), scratch.removed, radius)
    kept = np.concatenate((kept, visited))
    return _columns_rows(_ranked(kept, np.concatenate((kept_scores, flat[visited]))), width)


def _clear(values: NDArray[np.float32], scratch: Scratch) -> None:
    """Set `values` to 0 where `scratch.is_near`; several times as fast as numpy's assignment by mask."""
    cv2.copyTo(scratch.nothing, scratch.is_near.view(np.uint8), dst=values)


def _window_winners(scratch: Scratch, window: NDArray[np.uint8]) -> NDArray[np.intp] | None:
    """Undecided pixels that rank before all others in the window about them; None if that is too much work.

    Where scores are equal some may be missing. `scratch.is_winner` says the same as a map.
    """
    values, is_winner = scratch.values, scratch.is_winner
    cv2.dilate(values, window, dst=scratch.window)
    np.equal(values, scratch.window, out=is_winner)
    np.logical_and(is_winner, scratch.is_undecided, out=is_winner)
    found = np.flatnonzero(is_winner)
    # Among equal scores the first in row-major order wins, so that what precedes must score less: the rows above in the
    # window, and the same row to the left. Beyond the map's edges other pixels are looked at instead; if one of them
    # happens to have the same score, the pixel is left for later.
    steps = np.arange(len(window)) - len(window) // 2
    preceding = (values.shape[1] * steps[:, None] + steps).ravel()[: window.size // 2]
    if len(found) * len(preceding) > _MOST_LOOKUPS:
        return None
    flat = values.ravel()
    before = flat.take(found + preceding[:, None], mode="clip")
    is_first = (before != flat[found]).all(axis=0)
    is_winner.ravel()[found[~is_first]] = False
    return found[is_first]


def _visit(ranked: NDArray[np.intp], removed: NDArray[np.bool_], radius: int) -> NDArray[np.intp]:
    """The plain method: visit pixels in the order given, and tell which are kept.

    `removed` is memory for a map with a frame of `radius`, which saves every check for the map's edges.
    """
    removed.fill(False)
    flat = removed.ravel().data
    framed_width, side = removed.shape[1], 2 * radius + 1
    columns, rows = _columns_rows(ranked, framed_width - 2 * radius)
    framed = (rows + radius) * framed_width + columns + radius
    kept = []
    for index, (place, row, column) in enumerate(zip(framed.tolist(), rows.tolist(), columns.tolist())):
        if not flat[place]:
            kept.append(index)
            removed[row : row + side, column : column + side] = True
    return ranked[kept]


def _ranked(positions: NDArray[np.intp], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Flat positions by descending score, equal ones ascending; scores are positive."""
    # The bits of positive floats rank as the floats do, so that one sort of integers does it all.
    keys = scores.view(np.int32).astype(np.int64) << _POSITION_BITS
    keys |= _LARGEST_POSITION - positions
    keys.sort()
    return np.asarray(_LARGEST_POSITION - (keys[::-1] & _LARGEST_POSITION), np.intp)


def _columns_rows(positions: NDArray[np.intp], width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows = positions // width
    return positions - rows * width, rows
