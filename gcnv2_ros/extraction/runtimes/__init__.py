# SPDX-License-Identifier: Apache-2.0
"""Inference engines behind one interface, one file each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..options import ExtractionError, ExtractorOptions

if TYPE_CHECKING:
    from ...weights import Weights

_RUNTIMES = ("torch",)


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
        Arithmetic: ``fp32``, ``fp16``, ``bf16``.
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

    def close(self) -> None:
        """Free the engine's memory; `infer` must not be called afterwards. May be called twice."""
        ...


def create_runtime(options: ExtractorOptions, weights: Weights) -> Runtime:
    """Build the engine that `options.runtime` names, with `weights` in it.

    Raises
    ------
    ExtractionError
        If there is no such runtime, or it cannot work on that device or in that precision.
    """
    if options.runtime not in ("auto", *_RUNTIMES):
        raise ExtractionError(f"there is no runtime {options.runtime!r}; choose auto or {', '.join(_RUNTIMES)}")
    from .torch_eager import TorchRuntime

    return TorchRuntime(
        options.model, weights, device=options.device, precision=options.precision, threads=options.threads
    )
