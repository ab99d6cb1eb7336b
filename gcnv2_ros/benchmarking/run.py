# SPDX-License-Identifier: Apache-2.0
"""The measurement: contenders in turn on the same images, percentiles of their stages, and ratios between them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import GCNv2Error
from ..extraction import DecodeOptions, ExtractorOptions
from ..weights import Weights, load_weights
from .contenders import (
    EXTRACTION,
    STAGES,
    Contender,
    Measured,
    NetworkContender,
    OrbContender,
    OriginalContender,
    image_message,
    threshold_of_its_kind,
)
from .machine import describe_machine, forward_gflop, gemm_gflops
from .program import longest_seconds, run_program

SCHEMA_VERSION = 1
PERCENTILES = (50, 95, 99)

_WARM_UP_ROUNDS = 3
# As between two frames of a camera: some engines' threads stay busy for a while, at the cost of whoever comes next.
_PAUSE_SECONDS = 0.01
_CAMERA_HZ = 30.0
# Images on which the original pipeline's threshold is found.
_THRESHOLD_IMAGES = 8


@dataclass(frozen=True)
class BenchOptions:
    """What is measured.

    Attributes
    ----------
    models
        Networks.
    engines
        Pairs of runtime and precision. Those that do not work here are named in the result and left out.
    sizes
        Network inputs (width, height).
    budgets
        Largest numbers of keypoints; the first holds everywhere, the others are measured with the first model, engine
        and size.
    weights
        ``default`` or a file; with a file, `models` has one entry.
    rounds
        Frames for each contender.
    threads
        CPU threads of each engine; 0: its own choice.
    device
        As in `ExtractorOptions`, of the engines. The peers, cv2.ORB and the original pipeline, run on the CPU.
    """

    models: tuple[str, ...] = ("gcnv2_tiny",)
    engines: tuple[tuple[str, str], ...] = (
        ("openvino", "int8"),
        ("openvino", "fp32"),
        ("onnxruntime", "int8"),
        ("onnxruntime", "fp32"),
        ("torch", "fp32"),
    )
    sizes: tuple[tuple[int, int], ...] = ((320, 240), (640, 480))
    budgets: tuple[int, ...] = (1000, 500, 2000)
    weights: str = "default"
    rounds: int = 100
    threads: int = 0
    device: str = "cpu"


def run_bench(
    options: BenchOptions, images: Sequence[NDArray[np.uint8]], *, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure everything.

    Parameters
    ----------
    options
        What.
    images
        bgr8 images (H, W, 3), taken in turn.
    say
        Called with a line of progress.

    Returns
    -------
    dict
        Plain values for JSON: ``machine``, ``gemm_gflops`` (before and after), ``runs``, ``by_budget``, ``start_up``,
        ``at_camera_rate``, ``left_out``. Times are milliseconds by the clock unless named otherwise.
    """
    messages = [image_message(image) for image in images]
    some = images[:_THRESHOLD_IMAGES]
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "options": asdict(options),
        "image_size": [images[0].shape[1], images[0].shape[0]],
        "machine": describe_machine(),
        "gemm_gflops": [gemm_gflops(options.threads)],
        "left_out": {},
        "runs": [],
        "by_budget": [],
        "start_up": [],
        "at_camera_rate": [],
    }
    for model in options.models:
        weights = load_weights(options.weights, model=model)
        for size in options.sizes:
            say(f"{model} at {size[0]}x{size[1]}")
            contenders = _contenders(options, model, weights, size, report["left_out"], some)
            report["runs"] += _measure(contenders, messages, options, model, size)
    model, size = options.models[0], options.sizes[0]
    weights = load_weights(options.weights, model=model)
    for budget in options.budgets:
        say(f"{budget} keypoints")
        chosen = replace(options, budgets=(budget,), engines=options.engines[:1])
        contenders = _contenders(chosen, model, weights, size, report["left_out"], some, threshold=0.0)
        report["by_budget"] += [
            {"budget": budget, **entry} for entry in _measure(contenders, messages, options, model, size)
        ]
    for runtime, precision in options.engines:
        if f"{model} {runtime} {precision}" not in report["left_out"]:
            say(f"{runtime} {precision} by itself")
            chosen_engine = _extractor_options(options, model, size, runtime, precision)
            report["start_up"].append(measure_start(chosen_engine))
            # The processor's threads make no difference on another device; ``auto`` may be the processor.
            counts = {1, options.threads} if options.device in ("cpu", "auto") else {options.threads}
            for threads in sorted(counts, reverse=True):
                paced = replace(chosen_engine, threads=threads)
                report["at_camera_rate"].append(measure_pace(paced, images[0], options))
    report["at_camera_rate"].append(measure_pace(ExtractorOptions(model="orb"), images[0], options))
    report["gemm_gflops"].append(gemm_gflops(options.threads))
    peak = max(report["gemm_gflops"])
    for entry in (*report["runs"], *report["by_budget"]):
        # The peak is the processor's.
        if entry["precision"] == "fp32" and entry["device"] == "cpu":
            seconds = entry["stages_ms"]["forward"]["p50"] / 1e3
            entry["share_of_gemm_peak"] = (
                forward_gflop(entry["model"], *entry["input_size"], detector=entry["detector"] == "network")
                / seconds
                / peak
            )
    report["load_average_after"] = describe_machine()["load_average"]
    return report


def measure_start(options: ExtractorOptions) -> dict[str, Any]:
    """Start an extractor in a process of its own, and take one frame through it.

    Returns
    -------
    dict
        Seconds of importing, building and the first frame, and the largest resident memory in MB before building and
        at the end (None where the platform does not tell).
    """
    found = run_program("start_up", asdict(options), what=f"the start of {options.runtime} {options.precision}")
    return {"runtime": options.runtime, "precision": options.precision, **found}


def measure_pace(options: ExtractorOptions, image: NDArray[np.uint8], bench: BenchOptions) -> dict[str, Any]:
    """Extract from a bgr8 image (H, W, 3) again and again, at the rate of a camera of 30 Hz, in a process of its own.

    Returns
    -------
    dict
        ``extract_ms``, percentiles by the clock; ``processor_ms``, the mean time of all threads from a frame to the
        next, and ``processor_share``, the same as a share of one core.
    """
    name = "cv2.ORB" if options.model == "orb" else f"{options.model} {options.runtime} {options.precision}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gray.npy"
        np.save(path, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        given = {
            "options": asdict(options),
            "image": str(path),
            "max_keypoints": bench.budgets[0],
            "hz": _CAMERA_HZ,
            "frames": bench.rounds,
        }
        longest = longest_seconds(bench.rounds, _CAMERA_HZ)
        found = run_program("pace", given, what=f"{name} at {_CAMERA_HZ:g} Hz", longest=longest)
    share = found["processor_ms"] / 1e3 * _CAMERA_HZ
    return {"name": name, "threads": options.threads, "hz": _CAMERA_HZ, "processor_share": share, **found}


def _extractor_options(
    options: BenchOptions, model: str, size: tuple[int, int], runtime: str, precision: str
) -> ExtractorOptions:
    return ExtractorOptions(
        model=model,
        weights=options.weights,
        runtime=runtime,
        device=options.device,
        precision=precision,
        input_width=size[0],
        input_height=size[1],
        threads=options.threads,
    )


def _contenders(
    options: BenchOptions,
    model: str,
    weights: Weights,
    size: tuple[int, int],
    left_out: dict[str, str],
    images: Sequence[NDArray[np.uint8]],
    *,
    threshold: float | None = None,
) -> list[Contender]:
    decode = DecodeOptions(max_keypoints=options.budgets[0], score_threshold=threshold)
    made: list[Contender] = []
    for runtime, precision in options.engines:
        chosen = _extractor_options(options, model, size, runtime, precision)
        try:
            made.append(NetworkContender(chosen, weights, decode))
        except GCNv2Error as error:
            left_out[f"{model} {runtime} {precision}"] = str(error)
    # A peer and no engine of the package: its steps are those of a processor.
    original = replace(_extractor_options(options, model, size, "torch", "fp32"), device="cpu")
    made.append(
        OriginalContender(
            original,
            weights,
            decode,
            score_threshold=threshold_of_its_kind(original, weights, decode, images),
        )
    )
    made.append(OrbContender(decode))
    return made


def _measure(
    contenders: list[Contender], messages: Sequence[Any], options: BenchOptions, model: str, size: tuple[int, int]
) -> list[dict[str, Any]]:
    measured: list[list[Measured]] = [[] for _ in contenders]
    rng = np.random.default_rng(0)
    for turn in range(_WARM_UP_ROUNDS + options.rounds):
        # Drawn anew in each round, so that whatever else the machine does falls on all alike.
        for index in rng.permutation(len(contenders)).tolist():
            time.sleep(_PAUSE_SECONDS)
            result = contenders[index].run(messages[turn % len(messages)])
            if turn >= _WARM_UP_ROUNDS:
                measured[index].append(result)
    extraction = {
        contender.name: np.array([sum(m.stages.get(stage, 0.0) for stage in EXTRACTION) for m in of_one])
        for contender, of_one in zip(contenders, measured)
    }
    entries = []
    for contender, of_one in zip(contenders, measured):
        entries.append(_summary(contender, of_one, extraction, model, size))
        contender.close()
    return entries


def _summary(
    contender: Contender,
    measured: list[Measured],
    extraction: dict[str, NDArray[np.float64]],
    model: str,
    size: tuple[int, int],
) -> dict[str, Any]:
    stages = {name: np.array([m.stages[name] for m in measured]) for name in measured[0].stages}
    own = extraction[contender.name]
    entry: dict[str, Any] = {
        "name": contender.name,
        "model": model,
        "input_size": list(size),
        "runtime": None,
        "precision": None,
        "device": "cpu",
        "detector": None,
        "keypoints": float(np.median([len(m.features) for m in measured])),
        "described": float(np.median([m.described for m in measured])),
        "stages_ms": {name: _percentiles(values) for name, values in stages.items()},
        "extract_ms": _percentiles(own),
        "total_ms": _percentiles(np.sum(list(stages.values()), axis=0)),
        "processor_ms": _percentiles(np.array([m.processor for m in measured])),
        "extract_ratio": {peer: float(np.median(own / seconds)) for peer, seconds in extraction.items()},
    }
    if isinstance(contender, NetworkContender):
        entry["detector"] = contender.detector
        runtime = contender.runtime
        entry["runtime"], entry["precision"], entry["device"] = runtime.name, runtime.precision, runtime.device
        decoding = stages["suppress"] + stages["sample"]
        entry["decode_to_forward"] = float(np.median(decoding / stages["forward"]))
        entry["total_to_forward"] = float(np.median(np.sum([stages[n] for n in STAGES], axis=0) / stages["forward"]))
    return entry


def _percentiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    return {f"p{level}": float(np.percentile(seconds, level) * 1e3) for level in PERCENTILES}
