# SPDX-License-Identifier: Apache-2.0
"""Eight bits against float: matching quality side by side, and the forward time in one paired run.

The weights are calibrated on IMAGES once; variants differ in the convolutions that stay in float.

    python benchmarks/int8.py IMAGES --pictures FOLDER --oxford GRAF --sequence TUM --out int8.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gcnv2_ros.benchmarking.machine import describe_machine
from gcnv2_ros.benchmarking.node import recommended_forward
from gcnv2_ros.cli.common import parse_size
from gcnv2_ros.cli.main import main as gcnv2
from gcnv2_ros.evaluation.benchmark import BenchmarkData, run_benchmark
from gcnv2_ros.evaluation.frontends import Frontend
from gcnv2_ros.evaluation.homography import load_oxford_sequence, synthetic_pairs
from gcnv2_ros.extraction import ExtractorOptions
from gcnv2_ros.extraction.quantization import Calibration, save_calibration
from gcnv2_ros.extraction.runtimes import EIGHT_BIT
from gcnv2_ros.files import atomic_write
from gcnv2_ros.sequences import open_sequence
from gcnv2_ros.training.pictures import find_photographs
from gcnv2_ros.weights import load_weights

_FLOAT = "fp32"
_DETECTOR = "convD_2"
_HEADS = ("convF_2", _DETECTOR)
_WARM_UP_ROUNDS = 3


def variants(calibration: Calibration) -> dict[str, tuple[str, ...]]:
    """Convolutions left in float, by the variant's name; the first is what `gcnv2 quantize` takes by itself."""
    names = tuple(calibration.ranges)
    heads = tuple(name for name in names if name in _HEADS)
    return {
        "int8": names[:1],
        "int8, first and the detector's last in float": (*names[:1], _DETECTOR),
        "int8, first and last in float": (*names[:1], *heads),
        "int8, all": (),
    }


def paired_seconds(options: dict[str, ExtractorOptions], size: tuple[int, int], rounds: int) -> Any:
    """Forward seconds of every variant, one call each in turn: wall clock and time of all processors, medians.

    Of what runs with the detector that the weights recommend.
    """
    forwards = {name: recommended_forward(each) for name, each in options.items()}
    stride = forwards[_FLOAT][0].stride
    padded = tuple(-(-side // stride) * stride for side in size)
    batch = np.random.default_rng(0).random((1, 1, padded[1], padded[0]), np.float32)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in forwards}
    for turn in range(_WARM_UP_ROUNDS + rounds):
        for name, (_, forward) in forwards.items():
            start, processor = time.perf_counter(), time.process_time()
            forward(batch)
            if turn >= _WARM_UP_ROUNDS:
                seconds[name].append((time.perf_counter() - start, time.process_time() - processor))
    values = {name: np.array(pairs) for name, pairs in seconds.items()}
    report = {}
    for name, pairs in values.items():
        speedup = np.median(values[_FLOAT] / pairs, axis=0)
        report[name] = {
            "median_ms": float(np.median(pairs[:, 0]) * 1e3),
            "times_faster": float(speedup[0]),
            "times_faster_processor": float(speedup[1]),
        }
    return report


def relative_scores(by_label: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Every variant's scores as shares of those in float."""
    shares: dict[str, dict[str, float]] = {}
    for label, entry in by_label.items():
        shares[label] = {}
        for group, scores in entry.items():
            for score in ("MMA@3", "repeatability@3", "homography@3", "success", "area"):
                if score in scores:
                    value, reference = scores[score], by_label[_FLOAT][group][score]
                    if isinstance(value, dict):
                        value, reference = value["mean"], reference["mean"]
                    shares[label][f"{group} {score}"] = value / reference if reference else float("nan")
    return shares


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", metavar="IMAGES", help="calibration images, as for `gcnv2 quantize`")
    parser.add_argument("--model", default="gcnv2_tiny")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--runtime", default=EIGHT_BIT[0], choices=EIGHT_BIT)
    parser.add_argument("--input-size", default="320x240", metavar="WxH")
    parser.add_argument("--count", type=int, default=24, help="calibration images (default: %(default)s)")
    parser.add_argument("--pictures", type=Path, default=None, help="folder of pictures for synthetic homographies")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--oxford", type=Path, action="append", default=[])
    parser.add_argument("--sequence", default=None, help="TUM folder for relative pose")
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    weights = load_weights(chosen.weights, model=chosen.model)
    width, height = parse_size(chosen.input_size)
    base = ExtractorOptions(
        model=chosen.model,
        weights=str(weights.path),
        runtime=chosen.runtime,
        input_width=width,
        input_height=height,
        threads=chosen.threads,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = folder / "calibration.int8.json"
        given = ["--weights", str(weights.path), "--count", str(chosen.count), "--input-size", chosen.input_size]
        if gcnv2(["quantize", chosen.model, chosen.images, *given, "--out", str(whole)]):
            return 1
        calibration = Calibration.from_json(whole.read_text())
        options = {_FLOAT: replace(base, precision="fp32")}
        for number, (label, layers) in enumerate(variants(calibration).items()):
            copy = folder / f"variant{number}.safetensors"
            shutil.copy(weights.path, copy)
            save_calibration(copy.with_suffix(".int8.json"), replace(calibration, float_layers=layers))
            options[label] = replace(base, weights=str(copy), precision="int8")
        homographies = {}
        if chosen.pictures is not None:
            pictures = find_photographs(chosen.pictures)
            # Evenly over the folder: neighbours are often of one kind.
            pictures = pictures[:: max(1, len(pictures) // chosen.pairs)]
            homographies["synthetic"] = synthetic_pairs(pictures, count=chosen.pairs, seed=7)
        for path in chosen.oxford:
            homographies[path.name] = load_oxford_sequence(path)
        sequence = open_sequence(chosen.sequence) if chosen.sequence else None
        report: dict[str, Any] = {
            "machine": describe_machine(),
            "weights_sha256": weights.sha256,
            "size": [width, height],
        }
        report["forward"] = paired_seconds(options, (width, height), chosen.rounds)
        frontends = [Frontend(label, each) for label, each in options.items()]
        data = BenchmarkData(homographies, {}, {}, sequence)
        if homographies or sequence is not None:
            results = run_benchmark(frontends, data, budgets=[chosen.budget], say=lambda text: print(text, flush=True))
            report["scores"] = results[str(chosen.budget)]
            report["relative_to_fp32"] = relative_scores(report["scores"])
    for label, entry in report["forward"].items():
        shares = report.get("relative_to_fp32", {}).get(label, {})
        print(
            f"{label}: {entry['times_faster']:.2f} x ({entry['times_faster_processor']:.2f} x by processor time)",
            ", ".join(f"{score} {share:.3f}" for score, share in shares.items()),
        )
    if chosen.out is not None:
        atomic_write(chosen.out, json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
