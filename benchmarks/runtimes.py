# SPDX-License-Identifier: Apache-2.0
"""Compare the forward time of the runtimes: all of them in one process, one call each in turn, with medians and ratios.

Calls alternate, so that whatever else the machine does falls on all runtimes alike; ratios then mean something where
milliseconds do not. Runtimes that are not installed are named and left out.

    python benchmarks/runtimes.py --weights W.safetensors --sizes 320x240 640x480 --rounds 100 --out runtimes.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gcnv2_ros.benchmarking.machine import describe_machine
from gcnv2_ros.cli.common import parse_size
from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.extraction import ExtractorOptions
from gcnv2_ros.extraction.runtimes import RUNTIMES, Runtime, create_runtime
from gcnv2_ros.files import atomic_write
from gcnv2_ros.weights import Weights, load_weights

_REFERENCE = "torch"
_WARM_UP_ROUNDS = 3
_PAUSE_SECONDS = 0.02
_PERCENTILES = (10, 50, 90)


def started_runtimes(model: str, weights: Weights, threads: int) -> tuple[dict[str, Runtime], dict[str, float]]:
    """Every runtime that works here, on the CPU, and how many seconds each took to start."""
    runtimes, seconds = {}, {}
    for name in RUNTIMES:
        options = ExtractorOptions(model=model, runtime=name, device="cpu", threads=threads)
        start = time.perf_counter()
        try:
            runtimes[name] = create_runtime(options, weights)
        except GCNv2Error as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            continue
        seconds[name] = time.perf_counter() - start
    return runtimes, seconds


def alternating_seconds(runtimes: dict[str, Runtime], batch: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call, (rounds, 2) a runtime: wall-clock, and of all processors in this process.

    The order is drawn anew in each round. Before each call is a pause, as there is between two frames of a camera: the
    threads of some engines stay busy for a while after a call, at the cost of whoever comes next.
    """
    names = np.array(list(runtimes))
    rng = np.random.default_rng(0)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runtimes}
    for turn in range(_WARM_UP_ROUNDS + rounds):
        for name in rng.permutation(names).tolist():
            time.sleep(_PAUSE_SECONDS)
            start, processor_start = time.perf_counter(), time.process_time()
            runtimes[name].infer(batch)
            if turn >= _WARM_UP_ROUNDS:
                seconds[name].append((time.perf_counter() - start, time.process_time() - processor_start))
    return {name: np.array(values) for name, values in seconds.items()}


def summary(seconds: dict[str, np.ndarray]) -> dict[str, Any]:
    """Percentiles in milliseconds, and the median over rounds of each runtime's time over torch's in that round.

    ``processor`` is the time of all processors in this process: with one thread, what the wall clock would show on an
    idle machine.
    """
    result = {}
    for name, values in seconds.items():
        wall, processor = values.T
        entry = {f"p{level}_ms": float(np.percentile(wall, level) * 1e3) for level in _PERCENTILES}
        entry["minimum_ms"] = float(wall.min() * 1e3)
        entry["processor_p50_ms"] = float(np.median(processor) * 1e3)
        if _REFERENCE in seconds:
            ratios = np.median(values / seconds[_REFERENCE], axis=0)
            entry[f"ratio_to_{_REFERENCE}"], entry[f"processor_ratio_to_{_REFERENCE}"] = ratios.tolist()
        result[name] = entry
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gcnv2_tiny")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--sizes", nargs="+", default=["320x240", "640x480"], metavar="WxH")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each engine (default: its own choice)")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {chosen.rounds}")
    try:
        sizes = [parse_size(text) for text in chosen.sizes]
        weights = load_weights(chosen.weights, model=chosen.model)
    except GCNv2Error as error:
        parser.error(str(error))
    report: dict[str, Any] = {"machine_before": describe_machine(), "model": chosen.model, "threads": chosen.threads}
    runtimes, report["start_seconds"] = started_runtimes(chosen.model, weights, chosen.threads)
    report["forward"] = {}
    rng = np.random.default_rng(0)
    for (width, height), text in zip(sizes, chosen.sizes):
        stride = next(iter(runtimes.values())).stride
        padded = (-(-height // stride) * stride, -(-width // stride) * stride)
        results = summary(alternating_seconds(runtimes, rng.random((1, 1, *padded), np.float32), chosen.rounds))
        report["forward"][text] = results
        for name, entry in results.items():
            print(f"{text:>9} {name:<12}", "  ".join(f"{key} {value:.3g}" for key, value in entry.items()), flush=True)
    report["machine_after"] = describe_machine()
    if chosen.out is not None:
        atomic_write(chosen.out, json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
