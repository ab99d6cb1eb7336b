# SPDX-License-Identifier: Apache-2.0
"""The OpenVINO runtime: on the CPU, and on Intel's GPUs and NPUs.

The network is exported to ONNX and compiled once for a machine; both are kept in the cache. Only the CPU has been
tried: for the others this follows OpenVINO's documentation.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import GCNv2Error
from ...libraries import import_library
from ..export import INPUT_NAME, OUTPUT_NAMES, cached_model, cached_onnx, network_stride, onnx_key
from ..options import ExtractionError, ExtractorOptions
from ..quantization import Calibration, load_calibration
from . import RawFeatures

if TYPE_CHECKING:
    from ...weights import Weights

_PRECISIONS = {"cpu": ("fp32", "int8"), "gpu": ("fp32", "fp16"), "npu": ("fp16",)}
"""Kinds of devices, and what each computes in; ``auto`` is the first."""
_ARITHMETIC = {"fp32": "f32", "fp16": "f16", "int8": "f32"}
"""How OpenVINO calls what a precision computes in, where a model does not say integers."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Target:
    """What a network is compiled for: OpenVINO's name of a device, a precision, and a number of threads or 0."""

    device: str
    precision: str
    threads: int

    @property
    def settings(self) -> dict[str, Any]:
        # Left to itself OpenVINO computes in bf16 or f16 where the device has it, which turns descriptor bits over.
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _ARITHMETIC[self.precision]}
        return {**hints, "INFERENCE_NUM_THREADS": self.threads} if self.threads and self.device == "CPU" else hints


class OpenVINORuntime:
    """OpenVINO; see `Runtime` for the interface.

    Parameters
    ----------
    options
        The device ``auto`` is the CPU. The precision ``auto`` is ``fp32``, and ``fp16`` on an NPU, which has no other;
        a GPU has both; ``int8``, on the CPU, takes the calibration beside the weights. 0 threads: OpenVINO's own
        choice. With an input size, single images of that size go through a network compiled for it, which is faster;
        all else goes through one of open size, which an NPU does not have.
    weights
        Weights of `options.model`.
    detector
        What is compiled at once: the network with its detector or without. The other one is compiled when it is called
        first.

    Raises
    ------
    ExtractionError
        If the device is another or not there, or does not do the precision; if it is an NPU and there is no input
        size; if the calibration for int8 is missing or that of other weights; or if OpenVINO cannot be imported, or
        refuses the network.
    MissingDependencyError
        If openvino is not installed, or onnx is not and the network has not been exported before.
    """

    name = "openvino"

    def __init__(self, options: ExtractorOptions, weights: Weights, *, detector: bool = True) -> None:
        openvino = import_library("openvino", "the runtime openvino", "pip install onnx openvino")
        self.device = "cpu" if options.device == "auto" else options.device
        kind, _, index = self.device.partition(":")
        if kind not in _PRECISIONS:
            raise ExtractionError(
                f"the runtime openvino runs on {', '.join(_PRECISIONS)}, not on {options.device}; choose cpu (or auto)"
            )
        if options.precision not in ("auto", *_PRECISIONS[kind]):
            raise ExtractionError(
                f"the runtime openvino computes in {' or '.join(_PRECISIONS[kind])} on {self.device}, not in "
                f"{options.precision}; choose one of them, or auto"
            )
        self.precision = _PRECISIONS[kind][0] if options.precision == "auto" else options.precision
        self._open_size = kind != "npu"
        if not (self._open_size or options.input_size):
            raise ExtractionError("an NPU needs images of one size; set input_width and input_height")
        self.stride = network_stride(options.model)
        self._shape: tuple[int, ...] | None = None
        if options.input_size is not None:
            self._shape = (1, 1, *(-(-side // self.stride) * self.stride for side in reversed(options.input_size)))
        calibration = load_calibration(options.model, weights) if self.precision == "int8" else None
        self._refusal = f"OpenVINO {openvino.__version__} cannot load {options.model}"
        target = _Target(f"{kind.upper()}.{index}" if index else kind.upper(), self.precision, options.threads)
        self._compile: Callable[..., Any] | None = partial(
            _compiled, openvino, target, options.model, weights, calibration
        )
        self._requests: dict[tuple[bool, bool], Any] = {}
        for shaped in {not self._open_size, self._shape is not None}:
            self._request(detector, shaped)

    def infer(self, batch: NDArray[np.float32]) -> RawFeatures:
        """Run the network on float32 (B, 1, H, W) in [0, 1]."""
        descriptors, scores = self._infer(batch, True)
        return RawFeatures(descriptors.transpose(0, 3, 1, 2), scores)

    def describe(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The descriptors of `infer` alone."""
        (descriptors,) = self._infer(batch, False)
        return descriptors.transpose(0, 3, 1, 2)

    def close(self) -> None:
        """Free the compiled networks."""
        self._compile = None
        self._requests = {}

    def _infer(self, batch: NDArray[np.float32], detector: bool) -> list[NDArray[np.float32]]:
        if not self._open_size and batch.shape != self._shape:
            return self._one_by_one(batch, detector)
        request = self._request(detector, batch.shape == self._shape)
        # Outputs are copied: the next call writes into the same memory.
        results = request.infer({INPUT_NAME: batch}, share_inputs=True, share_outputs=False)
        return [np.asarray(results[name]) for name in (OUTPUT_NAMES if detector else OUTPUT_NAMES[:1])]

    def _one_by_one(self, batch: NDArray[np.float32], detector: bool) -> list[NDArray[np.float32]]:
        expected, given = ("x".join(map(str, shape[:1:-1])) for shape in (self._shape or (), batch.shape))
        if given != expected:
            raise ExtractionError(
                f"the network was compiled for an NPU and images of {expected}, and was given one of {given}; set "
                f"input_width and input_height, and no upright alignment, or choose another device"
            )
        return [np.concatenate(parts) for parts in zip(*(self._infer(image[None], detector) for image in batch))]

    def _request(self, detector: bool, shaped: bool) -> Any:
        if self._compile is None:
            raise ExtractionError("this extractor is closed")
        if (detector, shaped) not in self._requests:
            try:
                network = self._compile(self._shape if shaped else None, detector=detector)
                self._requests[detector, shaped] = network.create_infer_request()
            except GCNv2Error:
                raise
            # RuntimeError for all that it refuses, AttributeError from versions that are too old.
            except Exception as error:
                raise ExtractionError(f"{self._refusal}: {error}") from error
        return self._requests[detector, shaped]


def _compiled(
    openvino: Any,
    target: _Target,
    model: str,
    weights: Weights,
    calibration: Calibration | None,
    shape: tuple[int, ...] | None,
    *,
    detector: bool,
) -> Any:
    """The network compiled for `target` and batches of `shape`, or of any, with its detector or without.

    From the cache where it is there and sound.
    """
    core = openvino.Core()
    device, settings = target.device, target.settings
    kind = device.split(".")[0]
    # Only other devices are looked for, which takes a sixth of a second.
    if kind != "CPU" and kind not in {found.split(".")[0] for found in core.available_devices}:
        raise ExtractionError(
            f"OpenVINO {openvino.__version__} finds no {device} here, which would be one of Intel's, only "
            f"{', '.join(core.available_devices)}; install its driver, or choose cpu, or cuda with the runtime torch"
        )

    def build() -> bytes:
        network = core.read_model(io.BytesIO(cached_onnx(model, weights, calibration)))
        if not detector:
            described = [result for result in network.get_results() if OUTPUT_NAMES[0] in result.output(0).get_names()]
            network = openvino.Model(described, network.get_parameters(), network.get_friendly_name())
        if shape is not None:
            network.reshape(list(shape))
        # The decoder reads whole descriptors; channels last is also how OpenVINO has them within.
        outputs = openvino.preprocess.PrePostProcessor(network)
        descriptors = outputs.output(OUTPUT_NAMES[0])
        descriptors.model().set_layout(openvino.Layout("NCHW"))
        descriptors.tensor().set_layout(openvino.Layout("NHWC"))
        network = outputs.build()
        exported = core.compile_model(network, device, settings).export_model()
        return exported.getvalue() if isinstance(exported, io.BytesIO) else bytes(exported)

    key = {
        **onnx_key(model, weights, calibration),
        "outputs": ", ".join(OUTPUT_NAMES if detector else OUTPUT_NAMES[:1]),
        "size": "open" if shape is None else "x".join(map(str, shape)),
        "compiler": f"openvino {openvino.__version__}, channels last, {settings['INFERENCE_PRECISION_HINT']}",
        "processor": f"{core.get_property(device, 'FULL_DEVICE_NAME')}, "
        f"{core.get_property(device, 'OPTIMIZATION_CAPABILITIES')}",
    }
    content = cached_model(key, ".openvino", build)
    try:
        return core.import_model(content, device, settings)
    except RuntimeError as error:
        _LOGGER.warning("OpenVINO refuses a compiled model from the cache (%s), which is built again", error)
        return core.import_model(cached_model(key, ".openvino", build, rebuild=True), device, settings)
