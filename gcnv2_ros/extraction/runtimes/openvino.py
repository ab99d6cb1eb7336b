# SPDX-License-Identifier: Apache-2.0
"""The OpenVINO runtime, on the CPU.

The network is exported to ONNX and compiled once for a machine; both are kept in the cache.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import GCNv2Error, MissingDependencyError
from ..export import INPUT_NAME, OUTPUT_NAMES, cached_model, cached_onnx, network_stride, onnx_key
from ..options import ExtractionError, ExtractorOptions
from ..quantization import Calibration, load_calibration
from . import RawFeatures

if TYPE_CHECKING:
    from ...weights import Weights

_DEVICE = "CPU"

_LOGGER = logging.getLogger(__name__)


class OpenVINORuntime:
    """OpenVINO; see `Runtime` for the interface.

    Parameters
    ----------
    options
        The device is ``auto`` or ``cpu``. The precision ``auto`` is ``fp32``; ``int8`` takes the calibration beside the
        weights. 0 threads: OpenVINO's own choice. With an input size, single images of that size go through a network
        compiled for it, which is faster; all else goes through one of open size.
    weights
        Weights of `options.model`.
    detector
        What is compiled at once: the network with its detector or without. The other one is compiled when it is called
        first.

    Raises
    ------
    ExtractionError
        If the device or the precision is another, the calibration for int8 is missing or that of other weights, or
        OpenVINO refuses the network.
    MissingDependencyError
        If openvino is not installed, or onnx is not and the network has not been exported before.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, options: ExtractorOptions, weights: Weights, *, detector: bool = True) -> None:
        try:
            import openvino  # type: ignore[import-not-found,import-untyped]
        except ImportError as error:
            raise MissingDependencyError("openvino", "the runtime openvino", "pip install onnx openvino") from error
        if options.device not in ("auto", "cpu"):
            raise ExtractionError(
                f"the runtime openvino runs on the CPU, not on {options.device}; choose cpu (or auto)"
            )
        if options.precision not in ("auto", "fp32", "int8"):
            raise ExtractionError(
                f"the runtime openvino computes in fp32 or int8, not in {options.precision}; choose fp32 (or auto) or "
                f"int8"
            )
        self.precision = "fp32" if options.precision == "auto" else options.precision
        self.stride = network_stride(options.model)
        self._shape: tuple[int, ...] | None = None
        if options.input_size is not None:
            self._shape = (1, 1, *(-(-side // self.stride) * self.stride for side in reversed(options.input_size)))
        calibration = load_calibration(options.model, weights) if self.precision == "int8" else None
        self._refusal = f"OpenVINO {openvino.__version__} cannot load {options.model}"
        self._compile: Callable[..., Any] | None = partial(_compiled, openvino, options, weights, calibration)
        self._requests: dict[tuple[bool, bool], Any] = {}
        for shaped in {False, self._shape is not None}:
            self._request(detector, shaped)

    def infer(self, batch: NDArray[np.float32]) -> RawFeatures:
        """Run the network on float32 (B, 1, H, W) in [0, 1]."""
        results = self._infer(batch, True)
        descriptors, scores = (results[name] for name in OUTPUT_NAMES)
        return RawFeatures(descriptors.transpose(0, 3, 1, 2), scores)

    def describe(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The descriptors of `infer` alone."""
        return np.asarray(self._infer(batch, False)[OUTPUT_NAMES[0]]).transpose(0, 3, 1, 2)

    def close(self) -> None:
        """Free the compiled networks."""
        self._compile = None
        self._requests = {}

    def _infer(self, batch: NDArray[np.float32], detector: bool) -> Any:
        request = self._request(detector, batch.shape == self._shape)
        # Outputs are copied: the next call writes into the same memory.
        return request.infer({INPUT_NAME: batch}, share_inputs=True, share_outputs=False)

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
    options: ExtractorOptions,
    weights: Weights,
    calibration: Calibration | None,
    shape: tuple[int, ...] | None,
    *,
    detector: bool,
) -> Any:
    """The network compiled for batches of `shape`, or of any, with its detector or without.

    From the cache where it is there and sound.
    """
    core = openvino.Core()
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    # Where the processor has it, OpenVINO would compute in bf16, which turns descriptor bits over.
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    if options.threads:
        settings["INFERENCE_NUM_THREADS"] = options.threads

    def build() -> bytes:
        network = core.read_model(io.BytesIO(cached_onnx(options.model, weights, calibration)))
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
        exported = core.compile_model(network, _DEVICE, settings).export_model()
        return exported.getvalue() if isinstance(exported, io.BytesIO) else bytes(exported)

    key = {
        **onnx_key(options.model, weights, calibration),
        "outputs": ", ".join(OUTPUT_NAMES if detector else OUTPUT_NAMES[:1]),
        "size": "open" if shape is None else "x".join(map(str, shape)),
        "compiler": f"openvino {openvino.__version__}, channels last",
        "processor": f"{core.get_property(_DEVICE, 'FULL_DEVICE_NAME')}, "
        f"{core.get_property(_DEVICE, 'OPTIMIZATION_CAPABILITIES')}",
    }
    content = cached_model(key, ".openvino", build)
    try:
        return core.import_model(content, _DEVICE, settings)
    except RuntimeError as error:
        _LOGGER.warning("OpenVINO refuses a compiled model from the cache (%s), which is built again", error)
        return core.import_model(cached_model(key, ".openvino", build, rebuild=True), _DEVICE, settings)
