# SPDX-License-Identifier: Apache-2.0
"""Exported networks in the form that ONNX Runtime computes fast on CPUs.

ONNX Runtime's own ELU is one exponential after the other; spelled out as max(x, exp(min(x, 0)) - 1) it is four
operations with vector instructions. And its integer convolutions write bytes, or else they are no integer convolutions:
in an eight-bit network what they write is rounded too, before the ELU (docs/runtimes.md has the figures). What reads
the ELU then rounds in steps of the same size, so that positive values, which an ELU leaves alone, are rounded once. A
convolution whose ELU only float convolutions read stays in float.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..libraries import import_library
from .quantization import Calibration, activation_scale, quantize_onnx, replace_nodes, rounded_activation

if TYPE_CHECKING:
    import onnx  # type: ignore[import-not-found,import-untyped]

FORM = "1"
"""Raised whenever `elementary_onnx` makes another model, so that cached models are made anew."""

# The ELU of it is -0.98, within a step of bytes of the ELU of all that is less.
_LOWEST_BEFORE_ELU = -4.0


def part_of_onnx(content: bytes, inputs: list[str], outputs: list[str]) -> bytes:
    """The part of an ONNX model that makes `outputs` from `inputs`; onnx must be installed."""
    import onnx
    from onnx.utils import Extractor

    part = Extractor(onnx.load_from_string(content)).extract_model(inputs, outputs)
    return bytes(part.SerializeToString())


def elementary_onnx(content: bytes, calibration: Calibration | None = None) -> bytes:
    """An exported network with its ELUs spelled out; with a calibration, in eight bits.

    Parameters
    ----------
    content
        ONNX model of `gcnv2_ros.extraction.export`, in float.
    calibration
        For this network and these weights; None: it stays in float.

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
    import_library("onnx", "preparing a network for ONNX Runtime", "pip install onnx")
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    written: dict[str, tuple[float, float]] = {}
    if calibration is not None:
        written, calibration = _in_equal_steps(graph, calibration)
    nodes: list[onnx.NodeProto] = []
    for name, value in (("elu_zero", 0.0), ("elu_one", 1.0)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    for node in graph.node:
        if node.op_type != "Elu":
            nodes.append(node)
            continue
        source, target = node.input[0], node.output[0]
        if source in written:
            source = rounded_activation(onnx, graph, nodes, source, written[source])
        below, grown, negative = (f"{target}_{part}" for part in ("below", "grown", "negative"))
        nodes += [
            onnx.helper.make_node("Min", [source, "elu_zero"], [below], name=below),
            onnx.helper.make_node("Exp", [below], [grown], name=grown),
            onnx.helper.make_node("Sub", [grown, "elu_one"], [negative], name=negative),
            onnx.helper.make_node("Max", [source, negative], [target], name=target),
        ]
    replace_nodes(graph, nodes)
    onnx.checker.check_model(model, full_check=True)
    spelled_out: bytes = model.SerializeToString()
    return spelled_out if calibration is None else quantize_onnx(spelled_out, calibration)


def _in_equal_steps(
    graph: onnx.GraphProto, calibration: Calibration
) -> tuple[dict[str, tuple[float, float]], Calibration]:
    """Ranges of what eight-bit convolutions write before an ELU, by tensor, and a calibration that goes with them."""
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    # The order of use is the same in the exported graph and in the network that was measured; `quantize_onnx` refuses
    # another number of convolutions.
    named = dict(zip(calibration.ranges, convolutions))
    in_float = set(calibration.float_layers)
    writers = {node.output[0]: name for name, node in named.items()}
    in_bytes = {tensor for tensor, name in writers.items() if name not in in_float}
    written: dict[str, tuple[float, float]] = {}
    ranges = dict(calibration.ranges)
    for node in graph.node:
        readers = [name for name, convolution in named.items() if convolution.input[0] == node.output[0]]
        if node.op_type != "Elu" or node.input[0] not in in_bytes or not readers:
            continue
        if in_float.issuperset(readers):
            in_float.add(writers[node.input[0]])
            continue
        limits = (_LOWEST_BEFORE_ELU, max(calibration.ranges[name][1] for name in readers))
        written[node.input[0]] = limits
        step, _ = activation_scale(*limits)
        steps_below = math.ceil(1.0 / step)
        for name in readers:
            ranges[name] = (-steps_below * step, limits[1] - limits[0] - steps_below * step)
    return written, replace(calibration, ranges=ranges, float_layers=tuple(name for name in ranges if name in in_float))
