# SPDX-License-Identifier: Apache-2.0
"""Compare decoding in NumPy with decoding by loops that numba compiled: raw outputs to packed descriptors, alternating.

The network runs once an image; numba must be installed.

    python benchmarks/decoding.py --images room:frames=12 --rounds 60 --out decoding.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from gcnv2_ros.benchmarking.machine import describe_machine
from gcnv2_ros.cli.common import parse_size
from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, kernels
from gcnv2_ros.extraction.decode import DecodeSettings, find_keypoints
from gcnv2_ros.extraction.network import chosen_detector, decode_settings, forward, pixel_scores
from gcnv2_ros.extraction.preprocess import InputGeometry, network_input
from gcnv2_ros.extraction.runtimes import create_runtime
from gcnv2_ros.extraction.sampling import Describer, describer_of
from gcnv2_ros.extraction.suppression import Scratch
from gcnv2_ros.files import atomic_write
from gcnv2_ros.networks.common import STRIDE
from gcnv2_ros.sequences import open_sequence
from gcnv2_ros.weights import Weights, load_weights

_WARM_UP_ROUNDS = 2
_PAUSE_SECONDS = 0.005
_KINDS = ("numpy", "numba")
_STAGES = ("keypoints", "descriptors")

Raw = tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.float32]]


def raw_outputs(weights: Weights, model: str, size: tuple[int, int], images: str) -> list[Raw]:
    """Dense descriptors (256, h, w), score map (H, W; None for blobs) and network input (H, W) of every image."""
    detector = chosen_detector(DecodeOptions(), weights.metadata)
    options = ExtractorOptions(model=model, input_width=size[0], input_height=size[1])
    runtime = create_runtime(options, weights)
    outputs = []
    for frame in open_sequence(images):
        geometry = InputGeometry.of((frame.gray.shape[1], frame.gray.shape[0]), size, runtime.stride, 0.0)
        batch = network_input([frame.gray], [geometry])
        (dense,), (scores,) = forward(runtime, batch, detector)
        # A copy that keeps the memory's layout, which is the runtime's choice.
        outputs.append((dense.copy(order="K"), None if scores is None else scores.copy(), batch[0, 0]))
    runtime.close()
    return outputs


def decode(raw: Raw, settings: DecodeSettings, describe: Describer, scratch: Scratch) -> tuple[NDArray[np.uint8], Any]:
    """Packed descriptors, and the seconds of finding keypoints and of describing them."""
    start = time.perf_counter()
    dense, score_map, image = raw
    scores = pixel_scores(image, score_map, (image.shape[1], image.shape[0]), settings, scratch)
    keypoints = find_keypoints(scores, settings, scratch=scratch)
    found = time.perf_counter()
    packed = describe(dense, keypoints.uv)
    return packed, (found - start, time.perf_counter() - found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="room:frames=12", help="sequence, as `gcnv2` takes them")
    parser.add_argument("--model", default="gcnv2_tiny")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--sizes", nargs="+", default=["320x240", "640x480"], metavar="WxH")
    parser.add_argument("--max-keypoints", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    chosen = parser.parse_args(arguments)
    loops = {"numpy": None, "numba": kernels.compiled()}
    if loops["numba"] is None:
        print("numba is not installed (pip install numba): there is nothing to compare", file=sys.stderr)
        return 1
    report: dict[str, Any] = {"machine": describe_machine(), "sizes": {}}
    try:
        weights = load_weights(chosen.weights, model=chosen.model)
        describe = describer_of(weights, STRIDE)
        for size in map(parse_size, chosen.sizes):
            outputs = raw_outputs(weights, chosen.model, size, chosen.images)
            settings = decode_settings(DecodeOptions(max_keypoints=chosen.max_keypoints), weights.metadata, size)
            seconds: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
            keypoints = []
            scratch = Scratch()
            for turn, raw in itertools.product(range(chosen.rounds + _WARM_UP_ROUNDS), outputs):
                for kind in _KINDS:
                    time.sleep(_PAUSE_SECONDS)
                    with mock.patch.object(kernels, "compiled", return_value=loops[kind]):
                        packed, spent = decode(raw, settings, describe, scratch)
                    if turn >= _WARM_UP_ROUNDS:
                        seconds[kind].append(spent)
                        keypoints.append(len(packed))
            milliseconds = {kind: 1e3 * np.array(seconds[kind]) for kind in _KINDS}
            ratio = np.median(milliseconds["numba"].sum(axis=1) / milliseconds["numpy"].sum(axis=1))
            entry: dict[str, Any] = {"keypoints": float(np.mean(keypoints)), "numba_to_numpy": float(ratio)}
            for kind in _KINDS:
                entry[kind] = dict(zip(_STAGES, np.median(milliseconds[kind], axis=0).tolist()))
            report["sizes"][f"{size[0]}x{size[1]}"] = entry
            times = "; ".join(
                f"{kind} " + ", ".join(f"{stage} {entry[kind][stage]:.2f} ms" for stage in _STAGES) for kind in _KINDS
            )
            print(f"{size[0]}x{size[1]}, {entry['keypoints']:.0f} keypoints: {times}; ratio {ratio:.2f}")
    except GCNv2Error as error:
        print(error, file=sys.stderr)
        return 1
    if chosen.out is not None:
        atomic_write(chosen.out, (json.dumps(report, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
