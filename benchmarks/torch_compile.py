# SPDX-License-Identifier: Apache-2.0
"""Compare `torch.compile` with eager torch on the CPU: forward time, alternating, and what the first call takes.

Needs a C++ compiler. Compiled code of earlier runs is not used: torch's cache is a fresh folder.

    python benchmarks/torch_compile.py --threads 2 --rounds 60 --out torch_compile.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gcnv2_ros.benchmarking.machine import describe_machine
from gcnv2_ros.cli.common import parse_size
from gcnv2_ros.files import atomic_write
from gcnv2_ros.networks import create_network
from gcnv2_ros.weights import load_weights

_WARM_UP_ROUNDS = 3
_PAUSE_SECONDS = 0.01
_EAGER = "eager"
_COMPILED = "compiled"

Forward = Callable[[torch.Tensor], Any]


def started(model: str, weights: str, image: torch.Tensor) -> tuple[dict[str, Forward], dict[str, float]]:
    """The network eager and compiled, and the seconds until each had run once."""
    state = load_weights(weights, model=model).state_dict
    forwards: dict[str, Forward] = {}
    seconds: dict[str, float] = {}
    for name in (_EAGER, _COMPILED):
        network = create_network(model)
        network.load_state_dict(state)
        network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        start = time.perf_counter()
        forwards[name] = network if name == _EAGER else torch.compile(network, options={"freezing": True})
        forwards[name](image)
        seconds[name] = time.perf_counter() - start
    return forwards, seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gcnv2_tiny")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--size", default="320x240", metavar="WxH")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: its own choice)")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    chosen = parser.parse_args(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    width, height = parse_size(chosen.size)
    image = torch.rand(1, 1, height, width).contiguous(memory_format=torch.channels_last)
    report: dict[str, Any] = {"machine": describe_machine(), "size": [width, height], "runs": {}}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        forwards, start_seconds = started(chosen.model, chosen.weights, image)
        seconds: dict[str, list[float]] = {name: [] for name in forwards}
        rng = np.random.default_rng(0)
        for turn in range(_WARM_UP_ROUNDS + chosen.rounds):
            for name in rng.permutation(list(forwards)).tolist():
                time.sleep(_PAUSE_SECONDS)
                start = time.perf_counter()
                forwards[name](image)
                if turn >= _WARM_UP_ROUNDS:
                    seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        entry = {
            "median_ms": float(np.median(values) * 1e3),
            "times_faster": float(np.median(np.array(seconds[_EAGER]) / np.array(values))),
            "first_call_seconds": start_seconds[name],
        }
        report["runs"][name] = entry
        print(f"{name:<18}", "  ".join(f"{key} {value:.3g}" for key, value in entry.items()))
    if chosen.out is not None:
        atomic_write(chosen.out, json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
