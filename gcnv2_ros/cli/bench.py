# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 bench`: how long everything takes on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import GCNv2Error
from .common import (
    SEQUENCE_HELP,
    check_charts,
    check_folder,
    check_positive,
    check_threads,
    open_and_tell,
    parse_size,
)

_CUDA = (
    ("torch", "fp16"),
    ("torch_compile", "fp16"),
    ("torch", "fp32"),
    ("torch_compile", "fp32"),
    ("onnxruntime", "fp32"),
)
_INTEL = (("openvino", "fp16"), ("openvino", "fp32"))


def add_parsers(subparsers: Any) -> None:
    """Add `bench`."""
    parser = subparsers.add_parser("bench", help="time every stage, runtime and precision beside cv2.ORB")
    parser.add_argument("--images", default="room:frames=12", help=f"{SEQUENCE_HELP} (default: %(default)s)")
    parser.add_argument("--models", nargs="+", default=["gcnv2_tiny"], help="networks (default: gcnv2_tiny)")
    parser.add_argument("--weights", default="default", help="weights file (default: what the package ships)")
    parser.add_argument(
        "--device", default="cpu", help="cpu, cuda or cuda:N; of Intel gpu, gpu:N or npu (default: %(default)s)"
    )
    parser.add_argument(
        "--engines",
        nargs="+",
        default=None,
        metavar="RUNTIME:PRECISION",
        help="e.g. openvino:int8 torch:fp32 (default: all that such a device has)",
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        default=["320x240", "640x480"],
        metavar="WxH",
        help="network inputs (default: %(default)s)",
    )
    parser.add_argument(
        "--budgets",
        type=int,
        nargs="+",
        default=[1000, 500, 2000],
        help="keypoints; the first holds everywhere else (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=100, help="frames for each contender (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each engine (default: its own choice)")
    parser.add_argument("--node", action="store_true", help="measure the real node over DDS too")
    parser.add_argument("--node-frames", type=int, default=150, help="frames a run of the node (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=None, help="folder for bench.json, bench.md, bench.png")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the tables, write the files."""
    import json
    from dataclasses import replace

    import cv2
    import numpy as np

    from ..benchmarking.node import against_forward, measure_node, node_conditions
    from ..benchmarking.report import markdown_report, plot_report
    from ..benchmarking.run import BenchOptions, run_bench
    from ..extraction.options import is_intel
    from ..files import atomic_write

    check_positive(rounds=arguments.rounds, budgets=min(arguments.budgets), node_frames=arguments.node_frames)
    check_threads(arguments.threads, "the engine's own choice")
    if arguments.out is not None:
        check_folder(arguments.out)
        check_charts()
    options = BenchOptions(
        models=tuple(arguments.models),
        sizes=tuple(parse_size(text) for text in arguments.sizes),
        budgets=tuple(arguments.budgets),
        weights=arguments.weights,
        rounds=arguments.rounds,
        threads=arguments.threads,
        device=arguments.device,
    )
    if arguments.engines is not None:
        options = replace(options, engines=tuple(_engine(text) for text in arguments.engines))
    elif arguments.device != "cpu":
        options = replace(options, engines=_INTEL if is_intel(arguments.device) else _CUDA)
    sequence = open_and_tell(arguments.images)
    images = [sequence[index].image for index in range(min(len(sequence), arguments.rounds))]
    colour = [
        image if image.ndim == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8) for image in images
    ]

    def say(text: str) -> None:
        print(text, flush=True)

    report = run_bench(options, colour, say=say)
    if arguments.node:
        working = [
            (runtime, precision)
            for runtime, precision in options.engines
            if f"{options.models[0]} {runtime} {precision}" not in report["left_out"]
        ][:2]
        report["node"] = []
        for runtime, precision in working:
            conditions = node_conditions(options, runtime, precision, frames=arguments.node_frames)
            report["node"] += [against_forward(measure_node(condition, say=say)) for condition in conditions]
    tables = markdown_report(report)
    print(tables)
    if arguments.out is not None:
        atomic_write(arguments.out / "bench.json", json.dumps(report, indent=1))
        atomic_write(arguments.out / "bench.md", tables)
        plot_report(report, arguments.out / "bench.png")
    if all(entry["runtime"] is None for entry in report["runs"]):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report["left_out"].items())
        raise GCNv2Error(f"none of the engines works here, and only their peers were measured ({reasons})")


def _engine(text: str) -> tuple[str, str]:
    from ..extraction import ExtractionError
    from ..extraction.runtimes import check_runtime

    runtime, separator, precision = text.partition(":")
    if not (runtime and separator and precision):
        raise ExtractionError(f"an engine is written as RUNTIME:PRECISION, e.g. openvino:int8, got {text!r}")
    check_runtime(runtime)
    return runtime, precision
