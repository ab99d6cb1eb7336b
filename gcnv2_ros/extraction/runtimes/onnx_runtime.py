# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime runtime: on the CPU, and on CUDA devices where an ONNX Runtime built for them is installed.

Only the CPU has been tried. The CUDA and TensorRT providers are chosen as ONNX Runtime documents it, but this code has
not run on a GPU yet. TensorRT builds an engine for each new size of the input, which takes from seconds to minutes;
ONNX Runtime keeps it in a folder of the cache that belongs to these weights, this device and this version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import GCNv2Error
from ...libraries import import_library
from ..export import (
    INPUT_NAME,
    OUTPUT_NAMES,
    cached_elementary_onnx,
    cached_folder,
    cached_onnx,
    network_stride,
    onnx_key,
)
from ..options import ExtractionError, ExtractorOptions, refuse_intel
from ..quantization import load_calibration
from . import RawFeatures

if TYPE_CHECKING:
    from ...weights import Weights

_CPU = "CPUExecutionProvider"
# The fastest first; what one of them cannot run goes to the next.
_TENSORRT = "TensorrtExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_GPU = (_TENSORRT, _CUDA)
_KNOWS_TF32 = (1, 18)
_ERRORS_ONLY = 3


class OnnxRuntime:
    """ONNX Runtime; see `Runtime` for the interface.

    Parameters
    ----------
    options
        The device ``auto`` is a GPU where ONNX Runtime can use one, else the CPU; for int8 it is the CPU. The precision
        is ``auto`` or ``fp32``; on the CPU also ``int8``, with the calibration beside the weights. 0 threads: as many
        as there are physical cores.
    weights
        Weights of `options.model`.
    detector
        What is loaded at once: the network with its detector or without. On a CPU the other one is loaded when it is
        called first; on a GPU there is one network, with the detector, for both.

    Raises
    ------
    ExtractionError
        If the device is not there, the precision is another, the calibration for int8 is missing or that of other
        weights, or ONNX Runtime cannot be imported or refuses the network.
    MissingDependencyError
        If onnxruntime is not installed, or onnx is not and the network has not been exported before.
    """

    name = "onnxruntime"

    def __init__(self, options: ExtractorOptions, weights: Weights, *, detector: bool = True) -> None:
        model, device = options.model, options.device
        onnxruntime = import_library(
            "onnxruntime", "the runtime onnxruntime", "pip install onnx onnxruntime (for CUDA: onnx onnxruntime-gpu)"
        )
        if options.precision not in ("auto", "fp32", "int8"):
            raise ExtractionError(
                f"the runtime onnxruntime computes in fp32 or int8, not in {options.precision}; choose fp32 (or auto) "
                f"or int8"
            )
        refuse_intel(device)
        self.precision = "fp32" if options.precision == "auto" else options.precision
        if self.precision == "int8":
            if device.startswith("cuda"):
                raise ExtractionError(f"the runtime onnxruntime computes in int8 on the CPU only, not on {device}")
            device = "cpu"
        self.stride = network_stride(model)
        key = {**onnx_key(model, weights), "compiler": f"onnxruntime {onnxruntime.__version__}"}
        providers = _providers(onnxruntime, device, key)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.log_severity_level = _ERRORS_ONLY
        # Otherwise all threads but one stay busy from one frame of a camera to the next, waiting for work.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        calibration = load_calibration(model, weights) if self.precision == "int8" else None

        def load(detector: bool) -> Any:
            try:
                # A GPU has a fast ELU of its own.
                if providers == [_CPU]:
                    content = cached_elementary_onnx(model, weights, calibration, detector=detector)
                else:
                    content = cached_onnx(model, weights)
                return onnxruntime.InferenceSession(content, settings, providers=providers)
            except GCNv2Error:
                raise
            # The library's own errors have no base class of their own, nor have those of exporting.
            except Exception as error:
                raise ExtractionError(f"ONNX Runtime {onnxruntime.__version__} cannot load {model}: {error}") from error

        session = load(detector)
        on_cpu = session.get_providers()[0] == _CPU
        if on_cpu and device.startswith("cuda"):
            raise ExtractionError(
                f"device {device} was asked for, but ONNX Runtime {onnxruntime.__version__} could not start on it and "
                f"fell back to the CPU; check `nvidia-smi` and the versions of CUDA and cuDNN, or choose cpu or auto"
            )
        self.device = "cpu" if on_cpu else f"cuda:{_device_index(device)}"
        self._load: Callable[[bool], Any] | None = load
        self._sessions = {detector: session} if providers == [_CPU] else {True: session, False: session}

    def infer(self, batch: NDArray[np.float32]) -> RawFeatures:
        """Run the network on float32 (B, 1, H, W) in [0, 1]."""
        descriptors, scores = self._run(True, batch)
        return RawFeatures(descriptors, scores)

    def describe(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The descriptors of `infer` alone."""
        (descriptors,) = self._run(False, batch)
        return descriptors

    def _run(self, detector: bool, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if self._load is None:
            raise ExtractionError("this extractor is closed")
        if detector not in self._sessions:
            self._sessions[detector] = self._load(detector)
        return list(self._sessions[detector].run(OUTPUT_NAMES if detector else OUTPUT_NAMES[:1], {INPUT_NAME: batch}))

    def close(self) -> None:
        """Free the sessions."""
        self._load = None
        self._sessions = {}


def _providers(onnxruntime: Any, device: str, key: Mapping[str, str]) -> list[Any]:
    """What ONNX Runtime is to try, in this order; the CPU takes what is left.

    `key` is what engines depend on besides the device.
    """
    if device == "cpu":
        return [_CPU]
    available: list[str] = onnxruntime.get_available_providers()
    on_gpu = [name for name in _GPU if name in available]
    if device.startswith("cuda") and not on_gpu:
        raise ExtractionError(
            f"device {device} was asked for, but this ONNX Runtime is built without CUDA (it has "
            f"{', '.join(available)}); choose cpu or auto, or install onnxruntime-gpu in place of onnxruntime"
        )
    index = _device_index(device)
    options: dict[str, dict[str, Any]] = {name: {"device_id": index} for name in on_gpu}
    # Left to itself it convolves in TF32 on Ampere and later, which turns descriptor bits over. TensorRT does too, and
    # has no such option. Unknown options are errors.
    if _CUDA in options and _numbers(onnxruntime.__version__) >= _KNOWS_TF32:
        options[_CUDA]["use_tf32"] = 0
    if _TENSORRT in options:
        folder = cached_folder({**key, "device": _device_name(index)}, ".tensorrt")
        if folder is not None:
            options[_TENSORRT] |= {
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": str(folder),
                "trt_timing_cache_enable": True,
                "trt_timing_cache_path": str(folder),
            }
    return [*options.items(), _CPU]


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def _device_index(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def _device_name(index: int) -> str:
    import torch

    # A torch without CUDA knows no names; ONNX Runtime names its files by the device's compute capability as well.
    return torch.cuda.get_device_name(index) if index < torch.cuda.device_count() else f"cuda:{index}"
