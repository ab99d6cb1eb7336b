# SPDX-License-Identifier: Apache-2.0
"""Networks as ONNX files, and the folder where exported and compiled models are kept from one start to the next.

What is kept is a copy that can be made again at any time. Each file has a small JSON file beside it with the model's
SHA-256 and with all that the model was made from. A model that does not agree with it, for whatever reason, is built
again; one that cannot be stored is used all the same.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..features import DESCRIPTOR_BYTES
from ..files import atomic_path, atomic_write, sha256_of, user_path
from ..libraries import import_library
from .elementary import FORM as ELEMENTARY_FORM
from .elementary import elementary_onnx, part_of_onnx
from .options import ExtractionError
from .quantization import QUANTIZER, Calibration, quantize_onnx
from .results import SCHEMA_VERSION

if TYPE_CHECKING:
    from ..networks import FeatureNetwork
    from ..weights import Weights

INPUT_NAME = "image"
OUTPUT_NAMES = ("descriptors", "scores")
INFO_KEY = "gcnv2_ros"
"""Entry of an ONNX file's metadata_props with the model info, a JSON object."""

CACHE_VARIABLE = "GCNV2_ROS_CACHE"
"""Environment variable that names the cache folder."""

OPSET = 17
_TRACED_CELLS = 4
_COEFFICIENT_DECIMALS = 5

_LOGGER = logging.getLogger(__name__)


def export_onnx(
    path: str | Path, model: str, weights: Weights, *, input_size: tuple[int, int] | None = None, batch: int = 1
) -> None:
    """Write a network with its weights as an ONNX file; an existing file is replaced in one step.

    The input ``image`` is float32 (B, 1, H, W), gray in [0, 1]; the outputs ``descriptors`` and ``scores`` are those
    of `gcnv2_ros.networks.FeatureNetwork.forward`. The entry `INFO_KEY` of metadata_props holds the model info as JSON.

    Parameters
    ----------
    path
        The file to write.
    model
        Name of the network.
    weights
        Weights that fit it.
    input_size
        Width and height of the input, multiples of the network's stride; None leaves batch, height and width open.
    batch
        Images in a batch where the size is fixed.

    Raises
    ------
    ExtractionError
        If the size is no multiple of the stride, or the batch is empty, or is given without a size.
    MissingDependencyError
        If onnx is not installed.
    NetworkError
        If there is no network of that name.
    """
    content = _onnx_model(model, weights, input_size=input_size, batch=batch)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def cached_onnx(model: str, weights: Weights, calibration: Calibration | None = None) -> bytes:
    """The network as an ONNX model of open size, from the cache where it is there and sound.

    With a calibration it is the eight-bit network.

    Raises
    ------
    ExtractionError
        If the calibration does not fit the network.
    MissingDependencyError
        If it must be exported and onnx is not installed.
    """

    def build() -> bytes:
        if calibration is None:
            return _onnx_model(model, weights)
        return quantize_onnx(cached_onnx(model, weights), calibration)

    return cached_model(onnx_key(model, weights, calibration), ".onnx", build)


def cached_elementary_onnx(
    model: str, weights: Weights, calibration: Calibration | None = None, *, detector: bool = True
) -> bytes:
    """As `cached_onnx`, in the form that ONNX Runtime computes fast on CPUs (`elementary_onnx`).

    Without `detector` the descriptors are its only output.
    """
    key = {**onnx_key(model, weights, calibration), "form": f"elementary {ELEMENTARY_FORM}"}
    if not detector:
        key["outputs"] = OUTPUT_NAMES[0]

    def build() -> bytes:
        content = elementary_onnx(_onnx_model(model, weights), calibration)
        return content if detector else part_of_onnx(content, [INPUT_NAME], [OUTPUT_NAMES[0]])

    return cached_model(key, ".elementary.onnx", build)


def onnx_key(model: str, weights: Weights, calibration: Calibration | None = None) -> dict[str, str]:
    """All that the model of `cached_onnx` depends on.

    Raises
    ------
    ExtractionError
        If the weights are not those of a file: without its SHA-256 one set could be taken for another.
    """
    import torch

    if not weights.sha256:
        raise ExtractionError(
            f"weights of {model} that are in memory only cannot be cached; save them to a file, or choose the runtime "
            "torch"
        )
    key = {
        "model": model,
        "definition": _definition_digest(model),
        "weights_sha256": weights.sha256,
        "size": "open",
        "precision": "fp32",
        "exporter": f"torch {torch.__version__}, opset {OPSET}",
    }
    if calibration is not None:
        key |= {"precision": "int8", "calibration": calibration.digest, "quantizer": QUANTIZER}
    return key


def network_stride(model: str) -> int:
    """Input pixels per descriptor cell of the network `model`."""
    return _network_on_meta(model).stride


def cache_folder() -> Path | None:
    """The folder named by ``GCNV2_ROS_CACHE``, else ``gcnv2_ros`` in the platform's folder for caches.

    None where there is no home folder that it could be in, as for an unknown user in a container.

    Raises
    ------
    ExtractionError
        If the variable names a home folder that there is not.
    """
    named = os.environ.get(CACHE_VARIABLE, "")
    if named:
        return user_path(named, ExtractionError)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        # The XDG base directory specification wants relative paths to be ignored.
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = base if base.is_absolute() else home / ".cache"
    return base / "gcnv2_ros"


def cached_model(key: Mapping[str, str], suffix: str, build: Callable[[], bytes], *, rebuild: bool = False) -> bytes:
    """A model from the cache if it is there and sound; otherwise it is built, and stored.

    Any number of processes may do this at the same time: files appear complete or not at all, and what is returned
    was checked, or built, in this process.

    Parameters
    ----------
    key
        All that the model depends on, with its name under ``model``. Different keys are different files.
    suffix
        Ending of the file's name.
    build
        Makes the model.
    rebuild
        Build it in any case, because what is stored turned out to be of no use.
    """
    path = _cache_path(key, suffix)
    if path is None:
        return build()
    checksum_path = path.with_name(path.name + ".json")
    content = None if rebuild else _read_checked(path, checksum_path, key)
    if content is not None:
        return content
    content = build()
    try:
        atomic_write(path, content)
        entries = {"sha256": hashlib.sha256(content).hexdigest(), "key": dict(key)}
        atomic_write(checksum_path, json.dumps(entries, indent=1))
    except OSError as error:
        _warn_unwritable(path, error)
    return content


def cached_folder(key: Mapping[str, str], suffix: str) -> Path | None:
    """A folder in the cache for a library that keeps files of its own, made if need be; None if that cannot be.

    Parameters
    ----------
    key
        All that those files depend on, with the model's name under ``model``.
    suffix
        Ending of the folder's name.
    """
    path = _cache_path(key, suffix)
    if path is None:
        return None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _warn_unwritable(path, error)
        return None
    return path


def _cache_path(key: Mapping[str, str], suffix: str) -> Path | None:
    folder = cache_folder()
    if folder is None:
        return None
    digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
    return folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', key['model'])}-{digest[:32]}{suffix}"


def _warn_unwritable(path: Path, error: OSError) -> None:
    _LOGGER.warning(
        "%s cannot be written (%s), so the model will be built again at the next start; make the folder writable, "
        "or set %s to one that is",
        path,
        error,
        CACHE_VARIABLE,
    )


def _read_checked(path: Path, checksum_path: Path, key: Mapping[str, str]) -> bytes | None:
    try:
        content = path.read_bytes()
        expected = json.loads(checksum_path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _LOGGER.warning("%s is not used but built again: it or its checksum cannot be read (%s)", path, error)
        return None
    if expected != {"sha256": hashlib.sha256(content).hexdigest(), "key": dict(key)}:
        _LOGGER.warning("%s is not used but built again: it does not agree with its checksum", path)
        return None
    return content


def _definition_digest(model: str) -> str:
    """SHA-256 over the source files that define the network: parameters of the same shapes may be used otherwise."""
    digest = hashlib.sha256()
    for ancestor in type(_network_on_meta(model)).__mro__:
        if not ancestor.__module__.startswith(("torch.", "builtins", "typing")):
            digest.update(sha256_of(inspect.getfile(ancestor)).encode())
    return digest.hexdigest()


def _network_on_meta(model: str) -> FeatureNetwork:
    import torch

    from ..networks import create_network

    # On the meta device nothing is initialised, which would take most of the time.
    with torch.device("meta"):
        return create_network(model)


def _onnx_model(model: str, weights: Weights, *, input_size: tuple[int, int] | None = None, batch: int = 1) -> bytes:
    """The network as a serialised ONNX model with the model info in it."""
    onnx = import_library("onnx", "exporting a network to ONNX", "pip install onnx")
    import torch

    network = _network_on_meta(model)
    network.load_state_dict(weights.state_dict, assign=True)
    network.eval()
    stride = network.stride
    if batch < 1:
        raise ExtractionError(f"batch must be at least 1, got {batch}")
    if input_size is None and batch != 1:
        raise ExtractionError(f"a batch of {batch} needs an input size; without one, any batch and size is taken")
    width, height = (_TRACED_CELLS * stride,) * 2 if input_size is None else input_size
    padded = tuple(-(-side // stride) * stride for side in (width, height))
    if padded != (width, height) or min(padded) < 1:
        raise ExtractionError(
            f"the input size of an exported {model} must be a positive multiple of {stride} in both directions, got "
            f"{width}x{height}; export {padded[0]}x{padded[1]} and pad the image on the right and at the bottom"
        )
    options: dict[str, Any] = {"input_names": [INPUT_NAME], "output_names": list(OUTPUT_NAMES), "opset_version": OPSET}
    if input_size is None:
        pixels = {0: "batch", 2: "height", 3: "width"}
        cells = {0: "batch", 2: f"height_by_{stride}", 3: f"width_by_{stride}"}
        options["dynamic_axes"] = {INPUT_NAME: pixels, OUTPUT_NAMES[0]: cells, OUTPUT_NAMES[1]: pixels}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        # The exporter by tracing needs no package besides onnx; the other one, torch >= 2.5 only, needs onnxscript.
        options["dynamo"] = False
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Tracing warns of being old, and of shapes that these networks do not compute with.
        warnings.simplefilter("ignore")
        file = str(Path(folder) / "network.onnx")
        torch.onnx.export(network, (torch.zeros(batch, 1, height, width),), file, **options)
        exported = onnx.load(file)
    info = _model_info(model, weights, stride, input_size)
    onnx.helper.set_model_props(exported, {INFO_KEY: json.dumps(info)})
    onnx.checker.check_model(exported, full_check=True)
    return exported.SerializeToString()


def _model_info(model: str, weights: Weights, stride: int, input_size: tuple[int, int] | None) -> dict[str, Any]:
    """What a program needs to use the network; where `ModelInfo` has an entry for it, under the same name."""
    metadata = weights.metadata
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model,
        "weights": weights.path.name,
        "weights_sha256": weights.sha256,
        "input_size": input_size,
        "stride": stride,
        "descriptor_width": DESCRIPTOR_BYTES,
        "metric": "hamming",
        "bit_order": metadata.bit_order,
        "sampling": metadata.sampling,
        **_learned_info(weights),
        "detector": metadata.detector,
        "score_thresholds": dict(metadata.score_thresholds),
        "smoothing": dict(metadata.smoothing),
        "candidates": metadata.candidates,
        "nms_radius": dict(metadata.nms_radius),
        "precision": "fp32",
        "licence": metadata.licence,
        "training": dict(metadata.training),
    }


def _learned_info(weights: Weights) -> dict[str, Any]:
    learned = weights.learned_sampling
    if learned is None:
        return {}
    return {name: tensor.round(decimals=_COEFFICIENT_DECIMALS).tolist() for name, tensor in learned.tensors().items()}
