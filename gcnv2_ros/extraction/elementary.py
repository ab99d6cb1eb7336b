# SPDX-License-Identifier: Apache-2.0
"""Exported networks in the form that ONNX Runtime computes fast on CPUs.

ONNX Runtime's own ELU is one exponential after the other; spelled out as max(x, exp(min(x, 0)) - 1) it is four
operations with vector instructions. And its integer convolutions write bytes, or else they are no integer convolutions:
in an eight-bit network what they write is rounded too, before the ELU (docs/runtimes.md has the figures).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import MissingDependencyError
from .quantization import Calibration, quantize_onnx, rounded_activation

if TYPE_CHECKING:
    import onnx  # type: ignore[import-not-found,import-untyped]

FORM = "1"
"""Raised whenever `elementary_onnx` makes another model, so that cached models are made anew."""

# The ELU of it is -0.98, within a step of bytes of the ELU of all that is less.
_LOWEST_BEFORE_ELU = -4.0


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
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", "preparing a network for ONNX Runtime", "pip install onnx") from error
    model = onnx.load_from_string(content)
    graph = model.graph
    highest = {} if calibration is None else _highest_after_rounded(graph, calibration)
    nodes: list[onnx.NodeProto] = []
    for name, value in (("elu_zero", 0.0), ("elu_one", 1.0)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    for node in graph.node:
        if node.op_type != "Elu":
            nodes.append(node)
            continue
        source, target = node.input[0], node.output[0]
        if source in highest:
            source = rounded_activation(onnx, graph, nodes, source, (_LOWEST_BEFORE_ELU, highest[source]))
        below, grown, negative = (f"{target}_{part}" for part in ("below", "grown", "negative"))
        nodes += [
            onnx.helper.make_node("Min", [source, "elu_zero"], [below], name=below),
            onnx.helper.make_node("Exp", [below], [grown], name=grown),
            onnx.helper.make_node("Sub", [grown, "elu_one"], [negative], name=negative),
            onnx.helper.make_node("Max", [source, negative], [target], name=target),
        ]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    onnx.checker.check_model(model, full_check=True)
    spelled_out: bytes = model.SerializeToString()
    return spelled_out if calibration is None else quantize_onnx(spelled_out, calibration)


def _highest_after_rounded(graph: onnx.GraphProto, calibration: Calibration) -> dict[str, float]:
    """What an eight-bit convolution writes, if an ELU reads it: tensor name to the highest value behind the ELU."""
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    highest_read: dict[str, float] = {}
    in_bytes = set()
    # The order of use is the same in the exported graph and in the network that was measured; `quantize_onnx` refuses
    # another number of convolutions.
    for node, (name, (_, high)) in zip(convolutions, calibration.ranges.items()):
        highest_read[node.input[0]] = max(high, highest_read.get(node.input[0], 0.0))
        if name not in calibration.float_layers:
            in_bytes.add(node.output[0])
    return {
        node.input[0]: highest_read[node.output[0]]
        for node in graph.node
        if node.op_type == "Elu" and node.input[0] in in_bytes and node.output[0] in highest_read
    }
