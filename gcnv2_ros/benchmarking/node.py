# SPDX-License-Identifier: Apache-2.0
"""The real node under a camera: latency over real DDS, and the rate that it keeps up."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..extraction import ExtractorOptions
from ..extraction.preprocess import InputGeometry, network_input
from ..extraction.runtimes import Runtime, create_runtime
from ..sequences import Frame, open_sequence
from ..transport import PROFILE_VARIABLES, TRANSPORT_VARIABLE, large_images
from ..weights import load_weights
from .pace import paced_seconds
from .program import longest_seconds, run_program
from .run import BenchOptions

_PERCENTILES = (50, 95, 99)
_DEFAULT_TRANSPORT = "DEFAULT"
_WARM_UP_SHARE = 10


@dataclass(frozen=True)
class NodeCondition:
    """One run of the node.

    Attributes
    ----------
    model, weights, precision, runtime, device, input_size, threads, max_keypoints
        Of the node's extractor.
    reliability
        ``best_effort`` or ``reliable``, of publisher and subscription of the images.
    transport
        ``tuned`` (the package's profile for images) or ``default`` (Fast DDS as it comes). In a result ``large_data``
        where the profile is not installed: Fast DDS's own setting for large data took its place.
    camera_hz, frames
        The camera.
    sequence
        Where its frames are from; they are published as bgr8.
    """

    model: str = "gcnv2_tiny"
    weights: str = "default"
    precision: str = "fp32"
    runtime: str = "auto"
    device: str = "auto"
    input_size: tuple[int, int] = (320, 240)
    threads: int = 0
    max_keypoints: int = 1000
    reliability: str = "best_effort"
    transport: str = "tuned"
    camera_hz: float = 15.0
    frames: int = 150
    sequence: str = "room:frames=30"


def node_conditions(options: BenchOptions, runtime: str, precision: str, *, frames: int) -> list[NodeCondition]:
    """The runs of the node with one engine: at 15 Hz over each transport and reliability, then a camera of 200 Hz.

    Parameters
    ----------
    options
        Of the benchmark; the first of its models, sizes and budgets are taken.
    runtime, precision
        The engine.
    frames
        Of a run at 15 Hz.
    """
    base = NodeCondition(
        model=options.models[0],
        weights=options.weights,
        precision=precision,
        runtime=runtime,
        device=options.device,
        input_size=options.sizes[0],
        threads=options.threads,
        max_keypoints=options.budgets[0],
        frames=frames,
    )
    conditions = [
        replace(base, reliability=reliability, transport=transport)
        for transport in ("tuned", "default")
        for reliability in ("best_effort", "reliable")
    ]
    # Four times as many frames, or a camera of 200 Hz would be over before the node has settled.
    return [*conditions, replace(base, camera_hz=200.0, frames=4 * frames)]


def measure_node(condition: NodeCondition, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the node and a camera in processes of their own.

    Returns
    -------
    dict
        The condition, and: ``sent``, ``answered``, ``output_hz``; ``processor_share``, the node's processor time as a
        share of one core while frames were played (None where the system does not tell); ``latency_ms`` from
        publishing a frame to receiving its features, ``inside_ms`` from the node's callback to its publishing (both
        None without any answer); ``forward_ms``, the median of bare forward passes at the camera's rate, by themselves,
        right afterwards; ``published_forward_ms``, the same of the network as published, with its detector, which the
        node leaves out where keypoints are blobs.

    Raises
    ------
    GCNv2Error
        If that fails.
    """
    say(f"node: {condition.precision}, {condition.reliability}, {condition.transport}, {condition.camera_hz:g} Hz")
    # Fast DDS reads its setting when a process first uses it, so every condition takes a new one.
    environment = {name: value for name, value in os.environ.items() if name not in PROFILE_VARIABLES}
    environment.pop(TRANSPORT_VARIABLE, None)
    if condition.transport == "default":
        environment[TRANSPORT_VARIABLE] = _DEFAULT_TRANSPORT
    else:
        environment.update(large_images(environment))
        if TRANSPORT_VARIABLE in environment:
            condition = replace(condition, transport="large_data")
    # The frames are played to the node, and then given to the bare forward passes.
    longest = longest_seconds(condition.frames, condition.camera_hz, passes=3)
    return run_program("node", asdict(condition), what="the node", longest=longest, environment=environment)


def against_forward(run: dict[str, Any]) -> dict[str, Any]:
    """A run of the node beside the bare forward pass.

    Parameters
    ----------
    run
        Result of `measure_node`, or its ``inside_ms``, ``output_hz``, ``forward_ms`` and ``published_forward_ms``.

    Returns
    -------
    dict
        `run`, with ``inside_to_forward``: the median inside the node over the median forward pass, None without any
        answer; ``output_times_forward``: the output's rate as a share of what a node without anything but the forward
        pass would give; and both of the forward pass of the published network, ``inside_to_published_forward`` and
        ``output_times_published_forward``.
    """
    inside = run["inside_ms"]
    ratios: dict[str, float | None] = {}
    for name in ("forward", "published_forward"):
        forward = run[f"{name}_ms"]
        ratios[f"inside_to_{name}"] = inside["p50"] / forward if inside else None
        ratios[f"output_times_{name}"] = run["output_hz"] * forward / 1e3
    return {**run, **ratios}


def recommended_forward(options: ExtractorOptions) -> tuple[Runtime, Callable[[NDArray[np.float32]], Any]]:
    """A runtime, and of its two forward passes the one that runs with the detector that the weights recommend."""
    weights = load_weights(options.weights, model=options.model)
    detector = weights.metadata.detector == "network"
    runtime = create_runtime(options, weights, detector=detector)
    return runtime, runtime.infer if detector else runtime.describe


def _run(condition: NodeCondition) -> dict[str, Any]:
    from ..ros.demonstration import run_demonstration

    sequence = open_sequence(condition.sequence)
    period = round(1e9 / condition.camera_hz)
    pictures = [
        np.asarray(cv2.cvtColor(sequence[index].gray, cv2.COLOR_GRAY2BGR), np.uint8) for index in range(len(sequence))
    ]
    frames = [
        Frame(index, 1_000_000_000 + index * period, pictures[index % len(pictures)])
        for index in range(condition.frames)
    ]
    width, height = condition.input_size
    result = run_demonstration(
        sequence,
        frames,
        parameters={
            "model": condition.model,
            "weights": condition.weights,
            "precision": condition.precision,
            "runtime": condition.runtime,
            "device": condition.device,
            "input_width": width,
            "input_height": height,
            "threads": condition.threads,
            "max_keypoints": condition.max_keypoints,
            "subscribe_reliability": condition.reliability,
        },
        reliability=condition.reliability,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    latency = np.array(list(result.latency.values())) * 1e3
    inside = {
        name: float(result.diagnostics[key])
        for name, key in (("p50", "latency median (ms)"), ("p99", "latency p99 (ms)"))
        if result.diagnostics.get(key)
    }
    return {
        **asdict(condition),
        "sent": result.published,
        "answered": len(result.features),
        "output_hz": len(result.features) / result.seconds,
        "processor_share": None if result.processor is None else result.processor / result.seconds,
        "keypoints": float(np.median([len(f) for f in result.features.values()])) if result.features else None,
        "latency_ms": {f"p{level}": float(np.percentile(latency, level)) for level in _PERCENTILES}
        if len(latency)
        else None,
        "inside_ms": inside if len(inside) == 2 else None,
        **_bare_forward(condition, pictures),
    }


def _bare_forward(condition: NodeCondition, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
    """Median milliseconds of forward passes alone, at the camera's rate: a processor that waits long is slower."""
    options = ExtractorOptions(
        model=condition.model,
        weights=condition.weights,
        runtime=condition.runtime,
        device=condition.device,
        precision=condition.precision,
        input_width=condition.input_size[0],
        input_height=condition.input_size[1],
        threads=condition.threads,
    )
    runtime, forward = recommended_forward(options)
    published = create_runtime(options, load_weights(options.weights, model=options.model), detector=True)
    gray = np.asarray(cv2.cvtColor(pictures[0], cv2.COLOR_BGR2GRAY), np.uint8)
    geometry = InputGeometry.of((gray.shape[1], gray.shape[0]), condition.input_size, runtime.stride)
    batch = network_input([gray], [geometry])
    passes = {"forward_ms": forward, "published_forward_ms": published.infer}
    medians = {}
    for name, run in passes.items():
        seconds = paced_seconds(partial(run, batch), hz=condition.camera_hz, frames=condition.frames)
        medians[name] = 1e3 * float(np.median(seconds[condition.frames // _WARM_UP_SHARE :, 0]))
    runtime.close()
    published.close()
    return medians


if __name__ == "__main__":
    _given = json.loads(sys.argv[1])
    _given["input_size"] = tuple(_given["input_size"])
    print(json.dumps(_run(NodeCondition(**_given))))
