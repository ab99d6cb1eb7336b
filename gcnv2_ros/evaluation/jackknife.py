# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of what belongs to pairs of frames, by leaving out one block of frames after the other.

What a frontend makes of a pair depends on both of its frames, and on the frames about them: pairs that have a frame in
one block depend on each other, also where one begins there and the other ends there. Of each block, therefore, all
pairs are left out that touch it. That is how Arvesen ("Jackknifing U-statistics", Annals of Mathematical Statistics 40,
1969) treats what belongs to several observations, with blocks in the place of single ones for what depends on what is
near (Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17, 1989).

Blocks that are drawn by the first frame of their pairs leave out what they share with the next, and their intervals are
too narrow by a third. ``benchmarks/intervals.py`` counts how often intervals hold the truth, also of the bootstrap of
Owen ("The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bootstrap import Interval

BLOCK_FRAMES = 30
"""No fewer than lie between the frames of a pair (`gcnv2_ros.evaluation.pose.GAPS`), so that it touches at most a block
and the next."""
FEWEST_FRAME_BLOCKS = 5
"""Pairs that touch fewer blocks get no interval: so few blocks do not tell how much they differ."""

FramePairs = Sequence[tuple[int, int]]
"""The indices of both frames of each pair."""


def touched_blocks(pairs: FramePairs) -> int:
    """How many blocks of `BLOCK_FRAMES` frames have a frame of a pair in them."""
    return len({frame // BLOCK_FRAMES for pair in pairs for frame in pair})


def interval_of_pairs(values: ArrayLike, pairs: FramePairs) -> Interval | None:
    """95% interval of the mean over pairs of frames, by jackknife over blocks of frames.

    It is symmetric about the mean, and may reach beyond what the mean can be.

    Parameters
    ----------
    values
        (N,).
    pairs
        N.

    Returns
    -------
    Interval or None
        None where the pairs touch fewer than `FEWEST_FRAME_BLOCKS` blocks, or all of them the same one.
    """
    array = np.asarray(values, np.float64)
    touched, blocks = np.unique(np.asarray(pairs, np.int64).reshape(-1, 2) // BLOCK_FRAMES, return_inverse=True)
    first, second = blocks.reshape(-1, 2).T
    count = len(touched)
    left = len(array) - _over_touching(np.ones(len(array)), first, second, count)
    if count < FEWEST_FRAME_BLOCKS or not left.all():
        return None
    mean = float(array.mean())
    # Deviations from the mean, so that what is equal everywhere is so without rounding.
    estimates = -_over_touching(array - mean, first, second, count) / left
    variance = (count - 1) / count * float(np.sum((estimates - estimates.mean()) ** 2))
    reach = _student(count - 1) * variance**0.5
    return Interval(mean, mean - reach, mean + reach)


def summarise_pairs(values: Sequence[float], pairs: FramePairs) -> dict[str, float | None]:
    """As `gcnv2_ros.evaluation.bootstrap.summarise`, of pairs of frames: ``mean``, ``low``, ``high``, ``blocks``.

    The bounds are None where `interval_of_pairs` gives none; ``blocks`` are those of frames that the pairs touch.
    """
    interval = interval_of_pairs(values, pairs)
    return {
        "mean": float(np.mean(values)),
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "blocks": touched_blocks(pairs),
    }


def difference_of_pairs(ours: Sequence[float], theirs: Sequence[float], pairs: FramePairs) -> Interval | None:
    """95% interval of the mean of ``ours - theirs`` on the same pairs; None as of `interval_of_pairs`."""
    return interval_of_pairs(np.asarray(ours, float) - np.asarray(theirs, float), pairs)


def _over_touching(
    values: NDArray[np.float64], first: NDArray[np.intp], second: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """Of each of `count` blocks the sum of the `values` (N,) of the pairs that touch it.

    `first` and `second` are the blocks of their frames.
    """
    apart = first != second
    of_first = np.bincount(first, values, count).astype(np.float64)
    return of_first + np.bincount(second[apart], values[apart], count)


def _student(freedom: int) -> float:
    """The 97.5% quantile of Student's t, within 0.001 from four degrees of freedom on.

    Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5.
    """
    z = NormalDist().inv_cdf(0.975)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
