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

from ..options import ExtractionError, ExtractorOptions
from . import RawFeatures
from .torch_eager import TorchRuntime

if TYPE_CHECKING:
    from ...networks import FeatureNetwork
    from ...weights import Weights

_GRAPHS_IN_ANY_THREAD = "2.13"
_ADVICE = (
    "torch.compile needs a C++ compiler on the CPU (`apt install g++`), and Triton for the torch that is installed on "
    "CUDA; choose the runtime torch to do without"
)
_LOGGER = logging.getLogger(__name__)


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
            return call(batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            # Its text is that of the whole compilation; the first line says what went wrong.
            raise ExtractionError(
                f"torch {torch.__version__} cannot compile the network: {str(error).strip().splitlines()[0]}; {_ADVICE}"
            ) from error

    def _prepared(self, network: FeatureNetwork) -> tuple[Callable[..., Any], Callable[..., Any]]:
        options = compiler_options(self._device)
        whole, descriptors = super()._prepared(network)
        return (
            torch.compile(whole, dynamic=False, options=options),
            torch.compile(descriptors, dynamic=False, options=options),
        )


def compiler_options(device: torch.device) -> dict[str, Any]:
    """What torch's compiler is told: on CUDA, from torch 2.13 on, that a pass is to be one CUDA graph.

    Graphs are what the mode "reduce-overhead" stands for. A pass writes into the memory of the one before, whose
    results have been copied to the host by then.
    """
    if device.type != "cuda":
        return {}
    # Versions compare by their numbers, not as texts. An older torch keeps graphs for the thread that compiled, and
    # ends the call of any other with an assertion. The node compiles in one thread and runs in another.
    if torch.__version__ < _GRAPHS_IN_ANY_THREAD:
        _LOGGER.warning(
            "torch_compile does without CUDA graphs, which is slower: those of torch %s serve only the thread that "
            "compiled; install torch %s or newer",
            torch.__version__,
            _GRAPHS_IN_ANY_THREAD,
        )
        return {}
    return {"triton.cudagraphs": True}
