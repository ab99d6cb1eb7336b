# SPDX-License-Identifier: Apache-2.0
"""Several draws of an estimate that depends on chance.

RANSAC and its kin draw samples of the matches at random. OpenCV's begin with the same numbers in every call, whatever
`cv2.setRNGSeed` was told, so that one estimate is one draw, which every run repeats: a pose that is found may be luck,
and one that is missed bad luck. With the matches in another order the same numbers draw other samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def drawn_orders(count: int, draws: int) -> Iterator[NDArray[np.intp]]:
    """Random orders of `count` matches, one for each draw; the same ones in every call."""
    for draw in range(draws):
        yield np.random.default_rng([draw, count]).permutation(count)
