# SPDX-License-Identifier: Apache-2.0
"""Eight-bit networks: activation ranges measured on images, and the ONNX model that is made with them.

A calibration is a small JSON file beside the weights it belongs to. Together they give a model with QuantizeLinear and
DequantizeLinear around its convolutions, which OpenVINO executes in integers, and ONNX Runtime once its activations are
prepared (`gcnv2_ros.extraction.elementary`): nothing but onnx is needed to make it, and both engines compute with the
same scales (Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018; per-channel weights as in Krishnamoorthi,
arXiv 1806.08342, section 3).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..files import atomic_write
from ..libraries import import_library
from .options import ExtractionError

if TYPE_CHECKING:
    import onnx  # type: ignore[import-not-found,import-untyped]
    import torch

    from ..weights import Weights

CALIBRATION_SUFFIX = ".int8.json"
"""A calibration stands beside its weights file, with this in place of the file's own suffix."""

SCHEMA_VERSION = 1
QUANTIZER = "2"
"""Raised whenever `quantize_onnx` makes another model of the same calibration, so that cached models are made anew."""

_BINS = 2048
_CLIPS = np.linspace(0.3, 1.0, 71)
_LEVELS = 255
_LARGEST_WEIGHT = 127
# Processors without VNNI add the products of two neighbouring input channels in sixteen bits: 255 * 128 still fits.
_LARGEST_PAIR = 128


@dataclass(frozen=True)
class Calibration:
    """What an eight-bit model needs besides the weights.

    Attributes
    ----------
    model
        Name of the network.
    weights_sha256
        SHA-256 of the weights file that the ranges were measured with; others are refused.
    ranges
        Lowest and highest input value of each convolution, by its name in the network.
    float_layers
        Convolutions that stay in float because quality suffers otherwise.
    images
        Number of images that the ranges were measured on.
    images_sha256
        SHA-256 over them, to tell calibrations apart and to repeat one.
    """

    model: str
    weights_sha256: str
    ranges: Mapping[str, tuple[float, float]]
    float_layers: tuple[str, ...]
    images: int
    images_sha256: str

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= 0.0 <= high and low < high):
                raise ExtractionError(f"the range of {name} must hold 0 and not be empty, got {low} to {high}")
        unknown = set(self.float_layers) - set(self.ranges)
        if unknown:
            raise ExtractionError(f"{', '.join(sorted(unknown))} is no convolution; there are {', '.join(self.ranges)}")

    @property
    def digest(self) -> str:
        """SHA-256 of the calibration."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The calibration as a JSON object."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Calibration:
        """Undo `to_json`.

        Raises
        ------
        ExtractionError
            If the text is no such object, or of another schema version.
        """
        try:
            entries = json.loads(text)
            version = entries.pop("schema_version")
            if version != SCHEMA_VERSION:
                raise ExtractionError(f"a calibration of schema version {version}, expected {SCHEMA_VERSION}")
            ranges = {str(name): (float(low), float(high)) for name, (low, high) in entries.pop("ranges").items()}
            return Calibration(ranges=ranges, float_layers=tuple(entries.pop("float_layers")), **entries)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ExtractionError(f"no calibration ({error!r})") from error


def calibration_path(weights: Weights) -> Path:
    """Where the calibration of a weights file is looked for: ``tiny.int8.json`` beside ``tiny.safetensors``."""
    return weights.path.with_suffix(CALIBRATION_SUFFIX)


def save_calibration(path: str | Path, calibration: Calibration) -> None:
    """Write a calibration; an existing file is replaced in one step."""
    atomic_write(path, calibration.to_json())


def load_calibration(model: str, weights: Weights) -> Calibration:
    """The calibration beside a weights file.

    Raises
    ------
    ExtractionError
        If it is absent, damaged, or of another network or other weights.
    """
    path = calibration_path(weights)
    advice = f"make it with `gcnv2 quantize {model} IMAGES --weights {weights.path}`"
    try:
        calibration = Calibration.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ExtractionError(f"precision int8 needs the calibration {path}, which is missing; {advice}") from error
    except (OSError, UnicodeDecodeError, ExtractionError) as error:
        raise ExtractionError(f"the calibration {path} cannot be used: {error}; {advice}") from error
    if (calibration.model, calibration.weights_sha256) != (model, weights.sha256):
        raise ExtractionError(
            f"the calibration {path} is that of {calibration.model} with weights of SHA-256 "
            f"{calibration.weights_sha256}, not that of {weights.path.name} ({weights.sha256}); {advice}"
        )
    return calibration


def calibrate(
    model: str, weights: Weights, batches: Iterable[NDArray[np.float32]], *, float_layers: Iterable[str] | None = None
) -> Calibration:
    """Measure the input range of every convolution.

    Of each convolution's inputs a histogram is taken, and of all ranges that of the least mean squared rounding and
    clipping error. The same images give the same calibration on the same machine.

    Parameters
    ----------
    model
        Name of the network.
    weights
        Weights that fit it.
    batches
        float32 (B, 1, H, W) in [0, 1] as the network gets them, H and W multiples of the stride. They are kept until
        the end.
    float_layers
        Convolutions that stay in float; None: the first one. It has one channel to read, so that eight bits gain
        nothing there, and what it rounds all others see (docs/runtimes.md has the figures).

    Raises
    ------
    ExtractionError
        If there is no image, or no convolution of a name in `float_layers`.
    """
    import torch

    from ..networks import create_network

    network = create_network(model)
    network.load_state_dict(weights.state_dict)
    network.eval()
    kept = [np.ascontiguousarray(batch) for batch in batches]
    if not kept:
        raise ExtractionError("there is no image to calibrate with")
    extremes: dict[str, tuple[float, float]] = {}
    histograms: dict[str, NDArray[np.float64]] = {}

    def widen(name: str, values: torch.Tensor) -> None:
        low, high = extremes.get(name, (0.0, 0.0))
        extremes[name] = (min(low, float(values.min())), max(high, float(values.max())))

    def count(name: str, values: torch.Tensor) -> None:
        low, high = extremes[name]
        found = torch.histc(values, _BINS, low, high).double().numpy()
        histograms[name] = histograms.get(name, np.zeros(_BINS)) + found

    digest = hashlib.sha256()
    for batch in kept:
        digest.update(repr(batch.shape).encode() + batch.tobytes())
    for measure in (widen, count):
        handles = [
            module.register_forward_pre_hook(lambda _, inputs, name=name, measure=measure: measure(name, inputs[0]))
            for name, module in network.named_modules()
            if isinstance(module, torch.nn.Conv2d)
        ]
        with torch.inference_mode():
            for batch in kept:
                network(torch.from_numpy(batch))
        for handle in handles:
            handle.remove()
    ranges = {name: _best_range(histograms[name], *extremes[name]) for name in extremes}
    if float_layers is None:
        float_layers = tuple(ranges)[:1]
    return Calibration(
        model, weights.sha256, ranges, tuple(float_layers), sum(len(batch) for batch in kept), digest.hexdigest()
    )


def quantize_onnx(content: bytes, calibration: Calibration) -> bytes:
    """An exported network with its convolutions in eight bits.

    Inputs of convolutions get unsigned bytes with a zero point, by the calibration; weights get signed ones a channel
    of the output, without a zero point. Biases and all that lies between convolutions stay in float; engines fuse it.

    Parameters
    ----------
    content
        ONNX model of `gcnv2_ros.extraction.export`, in float.
    calibration
        For this network and these weights.

    Returns
    -------
    bytes
        The ONNX model, with the same inputs and outputs.

    Raises
    ------
    ExtractionError
        If its convolutions are not those of the calibration.
    MissingDependencyError
        If onnx is not installed.
    """
    import_library("onnx", "making an eight-bit network", "pip install onnx")
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    weights = {entry.name: entry for entry in graph.initializer}
    # The order of use is the same in the exported graph and in the network that was measured, and so the names.
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    if len(convolutions) != len(calibration.ranges):
        raise ExtractionError(
            f"the calibration of {calibration.model} has {len(calibration.ranges)} convolutions, the network "
            f"{len(convolutions)}; calibrate again"
        )
    before: dict[int, list[onnx.NodeProto]] = {}
    rounded: dict[str, str] = {}
    for node, (name, limits) in zip(convolutions, calibration.ranges.items()):
        if name in calibration.float_layers:
            continue
        added = before.setdefault(id(node), [])
        if node.input[0] not in rounded:
            rounded[node.input[0]] = rounded_activation(onnx, graph, added, node.input[0], limits)
        kernel = onnx.numpy_helper.to_array(weights[node.input[1]])
        replacement = _rounded_weights(onnx, graph, added, node.input[1], kernel)
        graph.initializer.remove(weights[node.input[1]])
        node.input[0], node.input[1] = rounded[node.input[0]], replacement
    replace_nodes(graph, [each for node in graph.node for each in (*before.get(id(node), ()), node)])
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give an ONNX graph other nodes, in their order of use; some of them may be its own."""
    # A graph's own nodes end with their removal, so that copies go in.
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def activation_scale(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of unsigned bytes for values from `low` (at most 0) to `high`; 0 is exact."""
    scale = (high - low) / _LEVELS
    return scale, round(-low / scale)


def weight_scales(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale of signed bytes for each output channel of weights (O, I, h, w).

    As fine as it can be with which no weight needs more than a byte, and with which a processor without VNNI gets the
    same sums as one that has it: it adds the products of two input channels, the first and the second, the third and
    the fourth and so on, in sixteen bits before all else.
    """
    sizes = np.abs(kernel)
    largest = sizes.reshape(len(kernel), -1).max(axis=1)
    if kernel.shape[1] % 2:
        # Which products meet is not known then.
        pairs = 2 * largest
    else:
        pairs = (sizes[:, 0::2] + sizes[:, 1::2]).reshape(len(kernel), -1).max(axis=1)
    # Rounding adds up to half a step to each weight of a pair.
    scales = np.maximum(largest / _LARGEST_WEIGHT, pairs / (_LARGEST_PAIR - 1))
    return np.where(largest > 0.0, scales, 1.0).astype(np.float32)


def rounded_activation(
    onnx: Any, graph: onnx.GraphProto, added: list[onnx.NodeProto], tensor: str, limits: tuple[float, float]
) -> str:
    """Round a tensor of an ONNX graph to unsigned bytes and back.

    Parameters
    ----------
    onnx
        The module.
    graph
        Gets the scale and the zero point.
    added
        Gets the two nodes.
    tensor
        Name of the tensor.
    limits
        Lowest (at most 0) and highest value.

    Returns
    -------
    str
        Name of the rounded tensor.
    """
    scale, zero = activation_scale(*limits)
    names = [f"{tensor}_{part}" for part in ("scale", "zero_point", "quantized", "dequantized")]
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(scale).reshape(()), names[0]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(zero).reshape(()), names[1]))
    added.append(onnx.helper.make_node("QuantizeLinear", [tensor, *names[:2]], [names[2]], name=names[2]))
    added.append(onnx.helper.make_node("DequantizeLinear", [names[2], *names[:2]], [names[3]], name=names[3]))
    return names[3]


def _rounded_weights(
    onnx: Any, graph: onnx.GraphProto, added: list[onnx.NodeProto], tensor: str, kernel: NDArray[np.float32]
) -> str:
    scales = weight_scales(kernel)
    shape = (-1,) + (1,) * (kernel.ndim - 1)
    rounded = np.clip(np.rint(kernel / scales.reshape(shape)), -_LARGEST_WEIGHT, _LARGEST_WEIGHT).astype(np.int8)
    names = [f"{tensor}_{part}" for part in ("quantized", "scale", "zero_point", "dequantized")]
    for name, values in zip(names, (rounded, scales, np.zeros(len(kernel), np.int8))):
        graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    added.append(onnx.helper.make_node("DequantizeLinear", names[:3], [names[3]], name=names[3], axis=0))
    return names[3]


def _best_range(histogram: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """The part of [low, high] of least squared error for values of that histogram in 255 steps."""
    if not high > low:
        return (0.0, 1.0)
    centres = low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS
    low, high = min(low, 0.0), max(high, 0.0)

    def error(limits: tuple[float, float]) -> float:
        beyond = centres - np.clip(centres, *limits)
        step = (limits[1] - limits[0]) / _LEVELS
        return float(histogram @ np.where(beyond == 0.0, step**2 / 12, beyond**2))

    best_high = min(((low, high * clip) for clip in _CLIPS), key=error)
    return min(((low * clip, best_high[1]) for clip in _CLIPS), key=error)
