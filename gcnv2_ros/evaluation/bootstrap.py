# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals by bootstrap, of what belongs to one picture each; of pairs of frames see `jackknife`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLINGS = 2000
FEWEST_BLOCKS = 7
"""Values in fewer blocks get no interval of their mean: the percentile method makes it too narrow. Of normally
distributed blocks, 95% intervals hold the true mean in 50% of cases with 2 blocks, 85% with 5, 87% with 7, 92% with 15,
93% with 35 (``benchmarks/intervals.py``)."""


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its 95% confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def block_bootstrap_mean(values: ArrayLike, blocks: ArrayLike, *, seed: int = 0) -> Interval:
    """95% interval of the mean when values of one block depend on each other (percentile method).

    Whole blocks are drawn with replacement.

    Parameters
    ----------
    values
        (N,).
    blocks
        (N,) block of each value, any labels.
    seed
        Of the resampling.
    """
    array = np.asarray(values, np.float64)
    _, block = np.unique(np.asarray(blocks), return_inverse=True)
    sums, counts = np.bincount(block, array), np.bincount(block)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(RESAMPLINGS, len(sums)))
    means: NDArray[np.float64] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(array.mean()), float(low), float(high))


def summarise(values: Sequence[float], blocks: Sequence[Hashable]) -> dict[str, float | None]:
    """A mean for JSON: ``mean``, ``blocks``, how many there are, and the 95% interval's bounds ``low`` and ``high``.

    The bounds are None with fewer than `FEWEST_BLOCKS` blocks.

    Parameters
    ----------
    values
        At least one.
    blocks
        The block of each value; values of one block depend on each other, as the scores of pairs of one picture do.
    """
    numbers = {block: number for number, block in enumerate(dict.fromkeys(blocks))}
    if len(numbers) < FEWEST_BLOCKS:
        return {"mean": float(np.mean(values)), "low": None, "high": None, "blocks": len(numbers)}
    interval = block_bootstrap_mean(values, [numbers[block] for block in blocks])
    return {**vars(interval), "blocks": len(numbers)}
