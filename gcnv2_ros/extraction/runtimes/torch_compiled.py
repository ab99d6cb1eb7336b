# SPDX-License-Identifier: Apache-2.0
"""The torch_compile runtime: torch's own compiler, on the CPU or, with CUDA graphs, on CUDA.

Only the CPU has been tried. On CUDA a pass of these small networks is a row of short kernels, each started by the
host; a CUDA graph starts them all at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch._inductor import config

from ..options import ExtractionError, ExtractorOptions
from . import RawFeatures
from .torch_eager import TorchRuntime

if TYPE_CHECKING:
    from ...networks import FeatureNetwork
    from ...weights import Weights

_LOGGER = logging.getLogger(__name__)
_ADVICE = (
    "torch.compile needs a C++ compiler on the CPU (`apt install g++`), and Triton for the torch that is installed on "
    "CUDA; choose the runtime torch to do without"
)


class TorchCompileRuntime(TorchRuntime):
    """`TorchRuntime` compiled; see `Runtime` for the interface.

    What is compiled belongs to one size of batch, and takes some ten seconds for each at the first call, or while this
    is built where `options` have an input size. torch keeps it in a cache of its own (``TORCHINDUCTOR_CACHE_DIR``).
    From the ninth size on (torch's ``recompile_limit``) networks run as they are.

    Parameters
    ----------
    options
        As for `TorchRuntime`.
    weights
        Weights of `options.model`.
    detector
        What is compiled at once, where `options` have an input size: the network with its detector or without.

    Raises
    ------
    ExtractionError
        As for `TorchRuntime`; or if torch cannot compile here.
    """

    name = "torch_compile"

    def __init__(self, options: ExtractorOptions, weights: Weights, *, detector: bool = True) -> None:
        super().__init__(options, weights, detector=detector)
        if options.input_size is not None:
            width, height = (-(-side // self.stride) * self.stride for side in options.input_size)
            blank = np.zeros((1, 1, height, width), np.float32)
            if detector:
                self.infer(blank)
            else:
                self.describe(blank)

    def infer(self, batch: NDArray[np.float32]) -> RawFeatures:
        """Run the network on float32 (B, 1, H, W) in [0, 1]."""
        return self._compiling(super().infer, batch)

    def describe(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The descriptors of `infer` alone."""
        return self._compiling(super().describe, batch)

    def _compiling(self, call: Callable[[NDArray[np.float32]], Any], batch: NDArray[np.float32]) -> Any:
        try:
            # Frozen, weights are laid out for the processor once. It is no option of one compilation, and compiled is
            # at the call.
            with config.patch(freezing=self._device.type == "cpu"):
                return call(batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            # Its text is that of the whole compilation; the first line says what went wrong.
            raise ExtractionError(
                f"torch {torch.__version__} cannot compile the network: {str(error).strip().splitlines()[0]}; {_ADVICE}"
            ) from error

    def _prepared(self, network: FeatureNetwork) -> tuple[Callable[..., Any], Callable[..., Any]]:
        # Graphs are what the mode "reduce-overhead" stands for; a pass writes into the memory of the one before, whose
        # results have been copied to the host by then.
        options: dict[str, Any] = {"triton.cudagraphs": self._device.type == "cuda" and _graphs_in_any_thread()}
        whole, descriptors = super()._prepared(network)
        return (
            torch.compile(whole, dynamic=False, options=options),
            torch.compile(descriptors, dynamic=False, options=options),
        )


def _graphs_in_any_thread() -> bool:
    """Whether CUDA graphs work in other threads than that which compiled, as those of the node are."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 13):
        _LOGGER.warning("torch %s runs CUDA graphs in one thread only, so there are none; 2.13 does", torch.__version__)
    return version >= (2, 13)
