# SPDX-License-Identifier: Apache-2.0
"""Weights checked against their network; the files that the package ships; saving and converting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..files import atomic_path, sha256_of, user_path
from ..networks import NetworkError, create_network, network_names
from .formats import METADATA_KEY, RawWeights, read_weights_file, shape_text
from .learned_sampling import LearnedSampling, misfit, take_learned_sampling
from .metadata import Sampling, WeightsError, WeightsMetadata

DEFAULT_SOURCE = "default"

_LISTED_NAMES = 4
# What inference does not read and files older than torch 0.4.1 do not hold, an integer.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Weights:
    """Weights that fit a network.

    Attributes
    ----------
    state_dict
        float32 tensors (integer ones as they are) on the CPU, by the network's parameter names.
    metadata
        Conventions and provenance; documented defaults where the file has none of its own.
    sha256
        SHA-256 of the file, 64 hexadecimal digits.
    path
        The file.
    learned_sampling
        Coefficients of ``learned`` sampling; None with other sampling.
    """

    state_dict: dict[str, Tensor]
    metadata: WeightsMetadata
    sha256: str
    path: Path
    learned_sampling: LearnedSampling | None = None


def load_weights(source: str | Path, *, model: str) -> Weights:
    """Load weights and check that they are those of the network `model`.

    Nothing in the file is executed, and nothing but tensors is unpickled.

    Parameters
    ----------
    source
        A ``.safetensors`` file, a PyTorch state dict, a checkpoint that holds one under ``state_dict``,
        ``model_state_dict`` or ``model``, or a TorchScript archive such as the authors released.
        ``"default"`` takes the file that the package ships for `model`. A leading ``~`` is the home folder.
    model
        Name of the network.

    Returns
    -------
    Weights
        Files that say nothing of their conventions get the defaults: ``legacy`` sampling for TorchScript archives,
        ``half_pixel`` for others, and no recommended threshold.

    Raises
    ------
    WeightsError
        If the file is absent, damaged, no weights file, holds other numbers than floating-point ones, or does not fit
        the network, or if the package ships none for `model`.
    NetworkError
        If there is no network of that name.
    """
    expected = _expected_shapes(model)
    path = _shipped_file(model) if str(source) == DEFAULT_SOURCE else user_path(source, WeightsError)
    raw = read_weights_file(path)
    metadata = _metadata_of(raw, path, model)
    if metadata.model != model:
        raise WeightsError(f"{path} holds weights of {metadata.model}, not of {model}; set the model to match the file")
    tensors = dict(raw.tensors)
    if no_numbers := _no_plain_numbers(tensors):
        raise WeightsError(f"{path} holds no weights that can be used: {no_numbers}")
    if wrong := misfit(tensors, metadata.sampling):
        raise WeightsError(f"{path} {wrong}")
    learned = take_learned_sampling(tensors)
    mismatch = _mismatch(tensors, expected)
    if mismatch:
        fitting = " or ".join(_fitting_models(tensors))
        if fitting:
            raise WeightsError(
                f"{path} does not fit {model}: these look like weights of {fitting}; set the model to that"
            )
        raise WeightsError(f"{path} does not fit {model}: {mismatch}")
    state_dict = {name: _as_float32(tensor) for name, tensor in tensors.items()}
    for name in expected.keys() - state_dict.keys():
        state_dict[name] = torch.zeros((), dtype=torch.int64)
    coefficients = {} if learned is None else learned.tensors()
    for name, tensor in {**state_dict, **coefficients}.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path} holds NaN or infinite values in {name}; the training that made it diverged")
    return Weights(state_dict, metadata, sha256_of(path), path, learned)


def save_weights(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    metadata: WeightsMetadata,
    *,
    dtype: torch.dtype = torch.float16,
    learned_sampling: LearnedSampling | None = None,
) -> None:
    """Write weights with their metadata as a safetensors file; an existing file is replaced in one step.

    Parameters
    ----------
    path
        The file to write.
    state_dict
        Tensors by parameter name; they must fit the network that `metadata` names.
    metadata
        Conventions and provenance.
    dtype
        Floating-point type to store. Half precision halves the file and changes descriptors' bits hardly at all.
    learned_sampling
        As in `Weights`; it goes with ``learned`` sampling in `metadata` and with no other.

    Raises
    ------
    WeightsError
        If the tensors do not fit the network or the sampling, or a value is not finite or not representable in `dtype`.
    """
    mismatch = _mismatch(state_dict, _expected_shapes(metadata.model))
    if mismatch:
        raise WeightsError(f"these weights do not fit {metadata.model}, so {path} is not written: {mismatch}")
    coefficients = {} if learned_sampling is None else learned_sampling.tensors()
    if wrong := misfit(coefficients, metadata.sampling):
        raise WeightsError(f"{path} is not written: it {wrong}")
    stored = {}
    for name, tensor in {**state_dict, **coefficients}.items():
        # A copy of its own: safetensors refuses tensors that share memory.
        value = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{name} has values that are not finite as {dtype}, so {path} is not written")
        stored[name] = value
    with atomic_path(path) as temporary:
        save_file(stored, temporary, metadata={METADATA_KEY: metadata.to_json(), "format": "pt"})


def convert_weights(
    source: str | Path,
    target: str | Path,
    *,
    model: str | None = None,
    sampling: Sampling | None = None,
    score_thresholds: Mapping[str, float] | None = None,
    licence: str | None = None,
    dtype: torch.dtype = torch.float16,
) -> WeightsMetadata:
    """Convert any file that `load_weights` reads into a safetensors file with metadata.

    Parameters
    ----------
    source, target
        The file to read, and the ``.safetensors`` file to write.
    model
        Name of the network; None finds the one that the tensors' shapes fit.
    sampling, score_thresholds, licence
        Replace what the source says, or the defaults of `load_weights`. The coefficients of ``learned``
        sampling are left out where another sampling is asked for.
    dtype
        Floating-point type to store.

    Returns
    -------
    WeightsMetadata
        What was written into the file.

    Raises
    ------
    WeightsError
        As `load_weights` and `save_weights`, or if `model` is None and the shapes fit no network.
    """
    if model is None:
        model = _model_of(user_path(source, WeightsError))
    weights = load_weights(source, model=model)
    metadata = weights.metadata
    origin = {"converted_from": {"file": weights.path.name, "sha256": weights.sha256}}
    metadata = replace(
        metadata,
        sampling=metadata.sampling if sampling is None else sampling,
        score_thresholds=metadata.score_thresholds if score_thresholds is None else score_thresholds,
        licence=metadata.licence if licence is None else licence,
        # The first file in a chain of conversions is the one that tells where the weights come from.
        training={**origin, **metadata.training},
    )
    learned = weights.learned_sampling if metadata.sampling == "learned" else None
    save_weights(target, weights.state_dict, metadata, dtype=dtype, learned_sampling=learned)
    return metadata


def shipped_models() -> tuple[str, ...]:
    """Names of the networks for which the package ships weights."""
    return tuple(_manifest())


def _data_folder() -> Path:
    # The package is never imported from a zip file: its ROS installation and its wheels are folders.
    return Path(str(resources.files(__package__) / "data"))


def _manifest() -> dict[str, dict[str, str]]:
    path = _data_folder() / "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["weights"]
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"the list of shipped weights {path} cannot be read; reinstall the package") from error


def _shipped_file(model: str) -> Path:
    entry = _manifest().get(model)
    if entry is None:
        shipped = ", ".join(shipped_models()) or "none"
        raise WeightsError(
            f"the package ships no weights for {model} yet (shipped: {shipped}); train some with `gcnv2 train`, or "
            f"convert the authors' file with `gcnv2 convert-weights IN OUT`, and give that file's path as weights"
        )
    path = _data_folder() / entry["file"]
    if not path.is_file():
        raise WeightsError(f"the shipped weights {path} are missing; reinstall the package")
    digest = sha256_of(path)
    if digest != entry["sha256"]:
        raise WeightsError(
            f"the shipped weights {path} are damaged: SHA-256 {digest}, expected {entry['sha256']}; "
            f"reinstall the package"
        )
    return path


def _metadata_of(raw: RawWeights, path: Path, model: str) -> WeightsMetadata:
    if raw.metadata is not None:
        try:
            return WeightsMetadata.from_json(raw.metadata)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
    return WeightsMetadata(model, sampling="legacy" if raw.format == "TorchScript" else "half_pixel")


def _model_of(path: Path) -> str:
    raw = read_weights_file(path)
    if raw.metadata is not None:
        return _metadata_of(raw, path, "").model
    fitting = _fitting_models(raw.tensors)
    if not fitting:
        raise WeightsError(f"the tensors in {path} fit none of the networks {', '.join(network_names())}")
    return fitting[0]


def _expected_shapes(model: str) -> dict[str, tuple[int, ...]]:
    # On the meta device parameters have shapes but no memory, and are not initialised.
    with torch.device("meta"):
        network = create_network(model)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _mismatch(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> str:
    """What is wrong with `tensors`, or an empty string."""
    missing = [name for name in expected if name not in tensors and not name.endswith(_COUNTER)]
    unexpected = [name for name in tensors if name not in expected]
    reshaped = [
        f"{name} is {shape_text(tensors[name].shape)}, expected {shape_text(expected[name])}"
        for name in expected
        if name in tensors and tuple(tensors[name].shape) != expected[name]
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("wrong shape", reshaped))
    return "; ".join(f"{what}: {_listed(names)}" for what, names in found if names)


def _no_plain_numbers(tensors: Mapping[str, Tensor]) -> str:
    """Which of the tensors of a file are not what a network is made of, or an empty string."""
    odd = []
    for name, tensor in tensors.items():
        if tensor.is_meta:
            odd.append(f"{name} (on the device meta, without values)")
        elif tensor.layout is not torch.strided:
            odd.append(f"{name} ({tensor.layout})")
        elif not (tensor.is_floating_point() or name.endswith(_COUNTER)):
            odd.append(f"{name} ({tensor.dtype})")
    if not odd:
        return ""
    return f"{_listed(odd)}, expected dense floating-point tensors; save the float network's state_dict()"


def _fitting_models(tensors: Mapping[str, Tensor]) -> list[str]:
    fitting = []
    for name in network_names():
        try:
            expected = _expected_shapes(name)
        except NetworkError:  # a third-party network that cannot be imported is not what the file is for
            continue
        if not _mismatch(tensors, expected):
            fitting.append(name)
    return fitting


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_LISTED_NAMES])
    return shown if len(names) <= _LISTED_NAMES else f"{shown} and {len(names) - _LISTED_NAMES} more"
