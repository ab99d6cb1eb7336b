# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression of a score map, as the original pipeline does it, fast."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Accept = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]]

# Deciding over the whole map costs about as much as visiting one in so many of its pixels one by one.
_VISITING_COST = 64
# Maps with many equal scores decide few pixels in a round; after so many rounds the rest is visited one by one.
_MOST_ROUNDS = 4
# A round that looks up about this many neighbours, because nearly everything is equal, is not worth it.
_MOST_LOOKUPS = 1_000_000


class Scratch:
    """Memory that `suppress` uses and a caller may keep between calls: fresh memory costs more than the work in it.

    Not to be used by two calls at the same time.
    """

    def __init__(self) -> None:
        self._shape = (0, 0)

    def reserve(self, shape: tuple[int, int]) -> None:
        """Have arrays of `shape`. Their content is undefined."""
        if shape != self._shape:
            self._shape = shape
            self.values, self.window = (np.zeros(shape, np.float32) for _ in range(2))
            self.is_candidate = np.zeros(shape, bool)


def suppress(
    scores: NDArray[np.float32],
    *,
    threshold: float,
    radius: int,
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
    # A pixel that ranks before all others of its neighbourhood is kept, whatever happens elsewhere. All such pixels are
    # found at once by a running maximum, their neighbourhoods are removed, and what is left is decided in the same way,
    # round by round; the few pixels that are undecided then are visited one by one.
    #
    # `values` holds the scores of undecided pixels, 0 elsewhere, in a frame of `radius` zeros that saves every check
    # for the map's edges. Positions are flat ones in that frame.
    height, width = scores.shape
    shape = (height + 2 * radius, width + 2 * radius)
    scratch = Scratch() if scratch is None else scratch
    scratch.reserve(shape)
    values, inside = scratch.values, (slice(radius, radius + height), slice(radius, radius + width))
    values.fill(0.0)
    values[inside] = cv2.threshold(scores, threshold, 0.0, cv2.THRESH_TOZERO)[1]
    flat = values.ravel()
    # Only the running maximum is taken over the whole map; all else is done for the undecided pixels alone.
    # (Truth values first: looking for what is not zero among floats takes NumPy several times as long.)
    undecided = np.flatnonzero(np.greater(flat, 0.0, out=scratch.is_candidate.ravel()))
    steps = np.arange(-radius, radius + 1)
    neighbourhood = (shape[1] * steps[:, None] + steps).ravel()

    def positions(kept: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        rows, columns = np.divmod(kept, shape[1])
        return columns - radius, rows - radius

    kept = np.zeros(0, np.intp)
    kept_scores = np.zeros(0, np.float32)
    for _ in range(_MOST_ROUNDS):
        if len(undecided) <= scores.size // _VISITING_COST:
            break
        found = undecided if radius == 0 else _window_winners(scratch, undecided, radius)
        if found is None:
            break
        kept = np.concatenate((kept, found))
        kept_scores = np.concatenate((kept_scores, flat[found]))
        flat[(found[:, None] + neighbourhood).ravel()] = 0.0
        undecided = undecided[flat[undecided] > 0.0]
        if limit is not None and len(kept) >= limit:
            counting = kept_scores if accept is None else kept_scores[accept(*positions(kept))]
            if len(counting) >= limit:
                # What scores less than the `limit`th best that is kept already cannot be among the first `limit`.
                enough = -np.partition(-counting, limit - 1)[limit - 1]
                is_enough = flat[undecided] >= enough
                flat[undecided[~is_enough]] = 0.0
                undecided = undecided[is_enough]
    kept = np.concatenate((kept, _visit(values, undecided, radius)))
    # Ascending positions first, so that a stable sort leaves equal scores in row-major order.
    kept.sort()
    columns, rows = positions(kept)
    order = np.argsort(-scores[rows, columns], kind="stable")
    return columns[order], rows[order]


def _window_winners(scratch: Scratch, undecided: NDArray[np.intp], radius: int) -> NDArray[np.intp] | None:
    """Of the undecided, those that rank before all others within `radius`; None if that is too much work."""
    values = scratch.values
    side = 2 * radius + 1
    cv2.dilate(values, np.ones((side, side), np.uint8), dst=scratch.window)
    flat = values.ravel()
    found = undecided[scratch.window.ravel()[undecided] == flat[undecided]]
    if len(found) * side * radius > _MOST_LOOKUPS:
        return None
    # Among equal scores the first in row-major order wins, so what precedes must score less: the rows above in the
    # window, and the same row to the left.
    steps = np.arange(-radius, radius + 1)
    preceding = (values.shape[1] * steps[:, None] + steps).ravel()[: side * radius + radius]
    return found[flat[found[:, None] + preceding].max(axis=1) < flat[found]]


def _visit(values: NDArray[np.float32], candidates: NDArray[np.intp], radius: int) -> NDArray[np.intp]:
    """The plain method: visit the undecided `candidates` (ascending) by rank, and give those that are kept."""
    candidates = candidates[np.argsort(-values.ravel()[candidates], kind="stable")]
    removed = np.zeros(values.shape, bool)
    flat_removed = removed.ravel().data
    rows, columns = np.divmod(candidates, values.shape[1])
    side = 2 * radius + 1
    kept = []
    top, left = rows - radius, columns - radius
    for candidate, row, column in zip(candidates.tolist(), top.tolist(), left.tolist()):
        if not flat_removed[candidate]:
            kept.append(candidate)
            removed[row : row + side, column : column + side] = True
    return np.asarray(kept, np.intp)
