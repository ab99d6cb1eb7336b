# SPDX-License-Identifier: Apache-2.0
"""Inference engines behind one interface, one file each."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import MissingDependencyError
from ...libraries import LibraryError
from ..options import ExtractionError, ExtractorOptions, is_intel

if TYPE_CHECKING:
    from ...weights import Weights

_ENGINES = {
    "openvino": (".openvino", "OpenVINORuntime"),
    "onnxruntime": (".onnx_runtime", "OnnxRuntime"),
    "torch": (".torch_eager", "TorchRuntime"),
    "torch_compile": (".torch_compiled", "TorchCompileRuntime"),
}

RUNTIMES = tuple(_ENGINES)
"""Names of all runtimes."""

AUTO_ORDER = ("openvino", "onnxruntime", "torch")
"""Names of the runtimes that ``auto`` chooses from, the fastest on a CPU first as measured by
``benchmarks/runtimes.py`` (docs/runtimes.md)."""

EIGHT_BIT = ("openvino", "onnxruntime")
"""Names of the runtimes that compute in int8, the fastest first."""

_LOGGER = logging.getLogger(__name__)
_PASSED_OVER = "the runtime %s is passed over: %s"


@dataclass(frozen=True)
class RawFeatures:
    """What a network gives for a batch, in host memory.

    Attributes
    ----------
    descriptors
        float32 (B, C, H / stride, W / stride). Any memory layout; channels last is the one that decodes fastest.
    scores
        float32 (B, 1, H, W) in [0, 1].
    """

    descriptors: NDArray[np.float32]
    scores: NDArray[np.float32]


class Runtime(Protocol):
    """A network, loaded and ready.

    Attributes
    ----------
    name
        Name of the engine.
    device
        Where it runs: ``cpu``, ``cuda:0``, ...
    precision
        Arithmetic: ``fp32``, ``fp16``, ``bf16``, ``int8``.
    stride
        Input pixels per descriptor cell; input sizes are multiples of it.
    """

    name: str
    device: str
    precision: str
    stride: int

    def infer(self, batch: NDArray[np.float32]) -> RawFeatures:
        """Run the network on float32 (B, 1, H, W) in [0, 1], contiguous; H and W are multiples of the stride."""
        ...

    def describe(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The descriptors that `infer` gives, alone: the detector's part of the network is left out where it can be."""
        ...

    def close(self) -> None:
        """Free the engine's memory; `infer` must not be called afterwards. May be called twice."""
        ...


def check_runtime(name: str) -> None:
    """Refuse what is neither ``auto`` nor one of `RUNTIMES`.

    Raises
    ------
    ExtractionError
        With those that there are.
    """
    if name not in ("auto", *RUNTIMES):
        raise ExtractionError(f"there is no runtime {name!r}; choose auto or {', '.join(RUNTIMES)}")


def create_runtime(options: ExtractorOptions, weights: Weights, *, detector: bool = True) -> Runtime:
    """Build the engine that `options.runtime` names, with `weights` in it.

    Without `detector` it is built for `Runtime.describe`, with it for `Runtime.infer`. The other one works too, but may
    take its time when it is called first.

    ``auto`` takes the first of `AUTO_ORDER` that is installed and loads the network, on the CPU in fp32; the first
    of `EIGHT_BIT` that is installed and can be imported, where int8 is asked for; OpenVINO, where a device of Intel's
    is; torch, where a CUDA device or another precision is asked for or ``device: auto`` finds one. An engine that is
    installed and fails is logged.

    Raises
    ------
    ExtractionError
        If there is no such runtime, or it cannot work on that device or in that precision.
    MissingDependencyError, LibraryError
        If the runtime that is named is not installed, or is and cannot be imported.
    """
    check_runtime(options.runtime)
    if options.runtime != "auto":
        return _build(options.runtime, options, weights, detector)
    if is_intel(options.device):
        return _build("openvino", options, weights, detector)
    if options.precision == "int8":
        for name in EIGHT_BIT[:-1]:
            try:
                return _build(name, options, weights, detector)
            except MissingDependencyError:
                continue
            # Any other error, as of a missing calibration, would be that of the next one too.
            except LibraryError as error:
                _LOGGER.warning(_PASSED_OVER, name, error)
        return _build(EIGHT_BIT[-1], options, weights, detector)
    from .torch_eager import resolve_device

    if options.precision in ("auto", "fp32") and resolve_device(options.device).type == "cpu":
        on_cpu = replace(options, device="cpu")
        for name in AUTO_ORDER[:-1]:
            try:
                return _build(name, on_cpu, weights, detector)
            except MissingDependencyError:
                continue
            except (ExtractionError, LibraryError) as error:
                _LOGGER.warning(_PASSED_OVER, name, error)
    return _build("torch", options, weights, detector)


def _build(name: str, options: ExtractorOptions, weights: Weights, detector: bool) -> Runtime:
    # Each module imports its library, which is installed or not, and takes its time.
    module, engine = _ENGINES[name]
    build = getattr(importlib.import_module(module, __package__), engine)
    return build(options, weights, detector=detector)
