# SPDX-License-Identifier: Apache-2.0
"""Count how often the 95% intervals of evaluations hold the truth, by simulations in which it is known.

Of pairs of frames the success is simulated, of two frontends: how hard a frame is, for both and for each alone, counts
for all pairs that the frame is in, either independently of the frames before or correlated over ten frames
(exponentially). Five estimates of each pair succeed or fail. Three intervals are made of the mean of one frontend and
of the difference of both: the jackknife that the package uses, and for comparison the pigeonhole bootstrap over blocks
of frames and the bootstrap that draws pairs in blocks by their first frame. Beside the share of intervals that hold
the truth is their width, relative to that of 1.96 true standard errors to both sides.

Of pictures, each with a normally distributed value, it is the bootstrap that the package uses.

    python benchmarks/intervals.py --trials 4000 --out intervals.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from gcnv2_ros.evaluation.bootstrap import RESAMPLINGS, Interval, block_bootstrap_mean
from gcnv2_ros.evaluation.jackknife import interval_of_pairs
from gcnv2_ros.evaluation.pose import DRAWS, frame_pairs
from gcnv2_ros.evaluation.tables import markdown_table
from gcnv2_ros.files import atomic_write

Values = NDArray[np.float64]
Method = Callable[[Values], Interval | None]

FRAMES = (150, 300, 800)
CORRELATIONS = (0, 10)
"""In frames."""
PICTURES = (2, 5, 7, 15, 35)

_OLD_BLOCK = 20
_EASE = (1.2, 0.8)
"""Of each frontend's pairs, in standard deviations of how hard a frame is for both."""
_OWN, _OF_PAIR, _OF_ESTIMATE = 0.5, 0.5, 0.5
"""Standard deviations of how hard a frame is for one frontend, a pair, and an estimate."""


def frame_effects(frames: int, correlation: float, rng: np.random.Generator) -> Values:
    """Normally distributed effects (`frames`,) of unit variance, correlated over so many frames; 0: independent."""
    drawn = rng.normal(size=frames)
    if correlation:
        kept = float(np.exp(-1 / correlation))
        drawn[1:] *= (1 - kept**2) ** 0.5
        for index in range(1, frames):
            drawn[index] += kept * drawn[index - 1]
    return drawn


def simulate(
    frames: int, pairs: NDArray[np.intp], correlation: float, rng: np.random.Generator
) -> tuple[Values, Values]:
    """Successes (N,) of two frontends on `pairs` (N, 2)."""
    common = frame_effects(frames, correlation, rng)[pairs].sum(axis=1)
    successes = []
    for ease in _EASE:
        own = _OWN * frame_effects(frames, correlation, rng)[pairs].sum(axis=1)
        latent = ease + common + own + _OF_PAIR * rng.normal(size=len(pairs))
        estimates = latent[:, None] + _OF_ESTIMATE * rng.normal(size=(len(pairs), DRAWS))
        successes.append((estimates > 0).mean(axis=1))
    return successes[0], successes[1]


def true_successes() -> tuple[float, float]:
    """What `simulate` has in the mean of infinitely many sequences."""
    spread = NormalDist(0, (2 + 2 * _OWN**2 + _OF_PAIR**2 + _OF_ESTIMATE**2) ** 0.5)
    return spread.cdf(_EASE[0]), spread.cdf(_EASE[1])


def pigeonhole(pairs: NDArray[np.intp]) -> Method:
    """The bootstrap of Owen, 2007, over blocks: a pair counts as often as both of its blocks together are drawn."""
    blocks = pairs // _OLD_BLOCK
    count = int(blocks.max()) + 1
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLINGS)
    # What lies within one block comes with each copy of it.
    within = blocks[:, 0] == blocks[:, 1]
    weights = np.where(within, drawn[:, blocks[:, 0]], drawn[:, blocks[:, 0]] * drawn[:, blocks[:, 1]]).astype(float)
    weights = weights[weights.sum(axis=1) > 0]
    weights /= weights.sum(axis=1, keepdims=True)

    def interval(values: Values) -> Interval:
        low, high = np.percentile(weights @ values, [2.5, 97.5])
        return Interval(float(values.mean()), float(low), float(high))

    return interval


def cover_pairs(frames: int, correlation: float, trials: int) -> dict[str, dict[str, dict[str, float]]]:
    """Coverage and relative width by method, of the mean and of the difference."""
    pairs = np.array([(start, start + gap) for start, gap in frame_pairs(frames)])
    listed = [(int(first), int(second)) for first, second in pairs]
    methods: dict[str, Method] = {
        "jackknife": lambda values: interval_of_pairs(values, listed),
        "pigeonhole": pigeonhole(pairs),
        "by first frame": lambda values: block_bootstrap_mean(values, pairs[:, 0] // _OLD_BLOCK),
    }
    rng = np.random.default_rng([frames, int(correlation)])
    made = [simulate(frames, pairs, correlation, rng) for _ in range(trials)]
    better, worse = true_successes()
    figures = {
        "mean": (better, [ours for ours, _ in made]),
        "difference": (better - worse, [ours - theirs for ours, theirs in made]),
    }
    covered: dict[str, dict[str, dict[str, float]]] = {name: {} for name in methods}
    for figure, (truth, drawn) in figures.items():
        ideal = 2 * NormalDist().inv_cdf(0.975) * float(np.std([values.mean() for values in drawn]))
        for name, method in methods.items():
            intervals = [interval for values in drawn if (interval := method(values)) is not None]
            covered[name][figure] = {
                "held": float(np.mean([interval.low <= truth <= interval.high for interval in intervals])),
                "width": float(np.median([interval.high - interval.low for interval in intervals])) / ideal,
            }
    return covered


def cover_pictures(count: int, trials: int) -> float:
    """Share of the bootstrap's intervals of the mean of `count` pictures that hold the truth."""
    rng = np.random.default_rng(count)
    intervals = [block_bootstrap_mean(rng.normal(size=count), np.arange(count)) for _ in range(trials)]
    return float(np.mean([interval.low <= 0 <= interval.high for interval in intervals]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="of each case (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    chosen = parser.parse_args(arguments)
    if chosen.trials < 1:
        parser.error(f"--trials must be 1 or more, got {chosen.trials}")
    report = []
    rows = []
    for frames in FRAMES:
        for correlation in CORRELATIONS:
            covered = cover_pairs(frames, correlation, chosen.trials)
            report.append({"frames": frames, "correlation": correlation, "intervals": covered})
            cells = [f"{one['held']:.1%} ({one['width']:.2f})" for by in covered.values() for one in by.values()]
            rows.append([str(frames), str(correlation), *cells])
            print(f"{frames} frames, correlation {correlation}", file=sys.stderr, flush=True)
    columns = [f"{name}: {figure}" for name, by in covered.items() for figure in by]
    print(markdown_table(["frames", "correlated over", *columns], rows))
    pictures = {count: cover_pictures(count, chosen.trials) for count in PICTURES}
    print(markdown_table([f"{count} pictures" for count in pictures], [[f"{held:.1%}" for held in pictures.values()]]))
    if chosen.out is not None:
        record = {"trials": chosen.trials, "pairs": report, "pictures": pictures}
        atomic_write(chosen.out, json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
