# SPDX-License-Identifier: Apache-2.0
"""The torch runtime: the network as it is, on the CPU or on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...networks import FeatureNetwork, create_network
from ...weights import Weights
from ..options import ExtractionError, ExtractorOptions, refuse_intel
from . import RawFeatures

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchRuntime:
    """Eager torch; see `Runtime` for the interface.

    Parameters
    ----------
    options
        The precision ``auto`` is ``fp32``; ``fp16`` and ``bf16`` need CUDA: on CPUs they are many times slower than
        fp32. On CUDA fp32 turns off TF32 in cuDNN's convolutions, for torch in this process (`keep_fp32_exact`).
        Threads are those of torch in this process; 0 leaves them as they are.
    weights
        Weights of `options.model`.
    detector
        Makes no difference here.

    Raises
    ------
    ExtractionError
        If the device is not there, or does not do the precision.
    """

    name = "torch"

    def __init__(self, options: ExtractorOptions, weights: Weights, *, detector: bool = True) -> None:
        self._device = resolve_device(options.device)
        self.device = str(self._device)
        self.precision = "fp32" if options.precision == "auto" else options.precision
        if self.precision not in _DTYPES:
            raise ExtractionError(
                f"the runtime {self.name} computes in {', '.join(_DTYPES)}, not in {options.precision}; choose one of "
                f"them, or the runtime openvino"
            )
        self._dtype = _DTYPES[self.precision]
        if self._device.type == "cpu" and self._dtype != torch.float32:
            raise ExtractionError(f"precision {self.precision} needs a CUDA device; on the CPU choose fp32 (or auto)")
        if self.precision == "bf16" and not torch.cuda.is_bf16_supported():
            raise ExtractionError(f"the device {self.device} does not support bf16; choose fp16 or fp32")
        if self._dtype == torch.float32:
            keep_fp32_exact(self._device)
        if options.threads:
            torch.set_num_threads(options.threads)
        network = create_network(options.model)
        network.load_state_dict(weights.state_dict)
        self.stride = network.stride
        network.eval().to(self._device, self._dtype)
        # torch's type stubs know this argument only together with others.
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._calls: tuple[Callable[..., Any], Callable[..., Any]] | None = self._prepared(network)

    def infer(self, batch: NDArray[np.float32]) -> RawFeatures:
        """Run the network on float32 (B, 1, H, W) in [0, 1]."""
        with torch.inference_mode():
            descriptors, scores = self._open_calls()[0](self._on_device(batch))
            return RawFeatures(_on_host(descriptors), _on_host(scores))

    def describe(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The descriptors of `infer` alone."""
        with torch.inference_mode():
            return _on_host(self._open_calls()[1](self._on_device(batch)))

    def _prepared(self, network: FeatureNetwork) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What runs `network` on a batch on the device: the whole of it, and without its detector."""
        return network, network.describe

    def _open_calls(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        if self._calls is None:
            raise ExtractionError("this extractor is closed")
        return self._calls

    def _on_device(self, batch: NDArray[np.float32]) -> torch.Tensor:
        image = torch.from_numpy(batch)
        if self._device.type == "cuda":
            image = image.pin_memory().to(self._device, self._dtype, non_blocking=True)
        return image.contiguous(memory_format=torch.channels_last)

    def close(self) -> None:
        """Free the network."""
        self._calls = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _on_host(tensor: torch.Tensor) -> NDArray[np.float32]:
    # The cast runs on the device; copying to pageable memory waits for the result.
    return tensor.float().cpu().numpy()


def keep_fp32_exact(device: torch.device) -> None:
    """Where `device` is one of CUDA's, let cuDNN convolve float32 in float32, for all that runs in this process.

    Left to itself torch does so in TF32 on Ampere and later, whose ten bits turn bits of the descriptors over. Products
    of matrices torch leaves in float32.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False


def resolve_device(device: str) -> torch.device:
    """The torch device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` names on this machine.

    Raises
    ------
    ExtractionError
        If it is a CUDA device that is not there, or a device of another kind.
    """
    refuse_intel(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    resolved = torch.device(device)
    if resolved.type == "cuda":
        if not torch.cuda.is_available():
            raise ExtractionError(
                f"device {device} was asked for, but this torch {torch.__version__} finds no CUDA device; "
                f"choose cpu or auto, or install a torch built for CUDA and check `nvidia-smi`"
            )
        index = torch.cuda.current_device() if resolved.index is None else resolved.index
        if index >= torch.cuda.device_count():
            raise ExtractionError(f"device {device} is not there: {torch.cuda.device_count()} CUDA devices were found")
        resolved = torch.device("cuda", index)
    return resolved
