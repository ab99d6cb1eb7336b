# SPDX-License-Identifier: Apache-2.0
"""Compare decoding on the host with decoding inside the exported graph: gray image to packed descriptors, alternating.

In the graph, suppression is by max pooling, then top-k, grid sample, and packing of the signs, all in ONNX; the host's
is the package's own. Max pooling is another algorithm than the greedy one: how many keypoints the two have in common
is printed beside the times. The graph does no sub-pixel refinement, the host does.

    python benchmarks/decode_in_graph.py --images room:frames=12 --threads 2 --rounds 60 --out decode.json
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gcnv2_ros.benchmarking.machine import describe_machine
from gcnv2_ros.cli.common import parse_size
from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions
from gcnv2_ros.extraction.decode import DecodeSettings, find_keypoints
from gcnv2_ros.extraction.export import OPSET
from gcnv2_ros.extraction.network import decode_settings
from gcnv2_ros.extraction.preprocess import InputGeometry, network_input
from gcnv2_ros.extraction.quantization import load_calibration, quantize_onnx
from gcnv2_ros.extraction.runtimes import create_runtime
from gcnv2_ros.extraction.sampling import describer_of
from gcnv2_ros.extraction.suppression import Scratch
from gcnv2_ros.files import atomic_write
from gcnv2_ros.networks import create_network
from gcnv2_ros.sequences import open_sequence
from gcnv2_ros.weights import Sampling, Weights, load_weights

_ENGINES = (("openvino", "int8"), ("openvino", "fp32"), ("onnxruntime", "fp32"))
_WARM_UP_ROUNDS = 3
_PAUSE_SECONDS = 0.005
_OUTPUTS = ("bits", "uv", "score")

Decoded = tuple[NDArray[np.uint8], NDArray[np.float32]]
Run = Callable[[NDArray[np.float32]], Decoded]


class DecodingNetwork(torch.nn.Module):
    """A network with decoding behind it, for one image of fixed size; `sampling` is that of its weights.

    ``bicubic`` is torch's, which differs a little from the package's own and takes as long. It stands in for
    ``learned`` too, which would take longer.
    """

    def __init__(self, network: torch.nn.Module, settings: DecodeSettings, sampling: Sampling) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.mode = "bicubic" if sampling in ("bicubic", "learned") else "bilinear"

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """float32 (1, 1, H, W) to uint8 (K, 32), float32 (K, 2) and (K,); what is no keypoint has the score 0."""
        dense, scores = self.network(image)
        height, width = image.shape[2:]
        side = 2 * self.settings.nms_radius + 1
        highest = torch.nn.functional.max_pool2d(scores, side, stride=1, padding=self.settings.nms_radius)
        border = self.settings.border
        inside = torch.zeros(1, 1, height, width)
        inside[..., border : height - border, border : width - border] = 1.0
        peaked = scores * inside * ((scores == highest) & (scores > self.settings.score_threshold))
        score, place = torch.topk(peaked.flatten(), self.settings.max_keypoints)
        uv = torch.stack((place % width, place // width), dim=1).to(torch.float32)
        grid = (2.0 * uv + 1.0) / torch.tensor([width, height]) - 1.0
        channels = torch.nn.functional.grid_sample(
            dense, grid[None, None], mode=self.mode, padding_mode="border", align_corners=False
        )[0, :, 0]
        powers = torch.tensor([128.0, 64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0])
        bits = (channels > 0).to(torch.float32).reshape(32, 8, -1)
        return (bits * powers[:, None]).sum(dim=1).t().to(torch.uint8), uv, score


def exported(weights: Weights, model: str, settings: DecodeSettings, shape: tuple[int, int], precision: str) -> bytes:
    """The network with decoding in it, as ONNX of fixed size."""
    network = create_network(model)
    network.load_state_dict(weights.state_dict)
    whole = DecodingNetwork(network, settings, weights.metadata.sampling).eval()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Tracing warns of being old, and of sizes taken as constants, as they are meant to be.
        warnings.simplefilter("ignore")
        file = Path(folder) / "decoding.onnx"
        image = torch.zeros(1, 1, *shape)
        torch.onnx.export(
            whole, (image,), str(file), input_names=["image"], output_names=_OUTPUTS, opset_version=OPSET, dynamo=False
        )
        content = file.read_bytes()
    return quantize_onnx(content, load_calibration(model, weights)) if precision == "int8" else content


def in_graph(runtime: str, content: bytes, threads: int) -> Run:
    """What runs an exported network with decoding in it."""
    if runtime == "openvino":
        import openvino

        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        request = core.compile_model(core.read_model(io.BytesIO(content)), "CPU", settings).create_infer_request()

        def infer(batch: NDArray[np.float32]) -> Any:
            results = request.infer({"image": batch}, share_inputs=True, share_outputs=False)
            return [results[name] for name in _OUTPUTS]
    else:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

        def infer(batch: NDArray[np.float32]) -> Any:
            return session.run(list(_OUTPUTS), {"image": batch})

    def run(batch: NDArray[np.float32]) -> Decoded:
        bits, uv, score = infer(batch)
        count = np.count_nonzero(score)
        return bits[:count], uv[:count]

    return run


def on_host(options: ExtractorOptions, weights: Weights, settings: DecodeSettings) -> Run:
    """The package's own way."""
    runtime, scratch = create_runtime(options, weights), Scratch()
    describe = describer_of(weights, runtime.stride)

    def run(batch: NDArray[np.float32]) -> Decoded:
        raw = runtime.infer(batch)
        keypoints = find_keypoints(raw.scores[0, 0], settings, scratch=scratch)
        return describe(raw.descriptors[0], keypoints.uv), keypoints.uv

    return run


def in_common(host: Decoded, graph: Decoded) -> tuple[float, float]:
    """Share of the host's keypoints whose pixel is one of the graph's too, and the graph's number over the host's."""
    pixels = [set(map(tuple, np.rint(uv).astype(int).tolist())) for _, uv in (host, graph)]
    return len(pixels[0] & pixels[1]) / max(1, len(pixels[0])), len(graph[1]) / max(1, len(host[1]))


def compare(runs: dict[str, Run], batches: list[NDArray[np.float32]], rounds: int) -> dict[str, Any]:
    """Time ``host`` and ``graph``, one call each in turn; medians, and the median over rounds of the ratio."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    common = []
    names = list(runs)
    for turn in range(_WARM_UP_ROUNDS + rounds):
        batch = batches[turn % len(batches)]
        results = {}
        for name in names if turn % 2 else reversed(names):
            time.sleep(_PAUSE_SECONDS)
            start = time.perf_counter()
            results[name] = runs[name](batch)
            if turn >= _WARM_UP_ROUNDS:
                seconds[name].append(time.perf_counter() - start)
        common.append(in_common(results["host"], results["graph"]))
    host, graph = (np.array(seconds[name]) for name in ("host", "graph"))
    shared, number = np.median(np.array(common), axis=0)
    return {
        "host_ms": float(np.median(host) * 1e3),
        "graph_ms": float(np.median(graph) * 1e3),
        "graph_to_host": float(np.median(graph / host)),
        "keypoints_in_common": float(shared),
        "graph_keypoints_to_host": float(number),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="room:frames=12", help="a sequence (default: %(default)s)")
    parser.add_argument("--model", default="gcnv2_tiny")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--sizes", nargs="+", default=["320x240", "640x480"], metavar="WxH", help="multiples of 16")
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each engine (default: its own choice)")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    chosen = parser.parse_args(arguments)
    weights = load_weights(chosen.weights, model=chosen.model)
    sequence = open_sequence(chosen.images)
    grays = [sequence[index].gray for index in range(min(len(sequence), chosen.rounds))]
    report: dict[str, Any] = {"machine": describe_machine(), "weights_sha256": weights.sha256, "runs": []}
    for size in map(parse_size, chosen.sizes):
        settings = decode_settings(
            DecodeOptions(max_keypoints=chosen.budget, detector="network", smoothing=0.0, candidates="all"),
            weights.metadata,
            size,
        )
        geometries = [InputGeometry.of((gray.shape[1], gray.shape[0]), size, 16) for gray in grays]
        batches = [network_input([gray], [geometry]) for gray, geometry in zip(grays, geometries)]
        for runtime, precision in _ENGINES:
            options = ExtractorOptions(
                model=chosen.model,
                weights=chosen.weights,
                runtime=runtime,
                device="cpu",
                precision=precision,
                input_width=size[0],
                input_height=size[1],
                threads=chosen.threads,
            )
            try:
                host = on_host(options, weights, settings)
            except GCNv2Error as error:
                print(f"{runtime} {precision}: left out: {error}", file=sys.stderr)
                continue
            content = exported(weights, chosen.model, settings, size[::-1], precision)
            entry = compare({"host": host, "graph": in_graph(runtime, content, chosen.threads)}, batches, chosen.rounds)
            report["runs"].append({"runtime": runtime, "precision": precision, "size": list(size), **entry})
            figures = "  ".join(f"{name} {value:.3g}" for name, value in entry.items())
            print(f"{size[0]}x{size[1]} {runtime} {precision}: {figures}", flush=True)
    report["machine_after"] = describe_machine()
    if chosen.out is not None:
        atomic_write(chosen.out, json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
