# SPDX-License-Identifier: Apache-2.0
"""Reading the tensors of a file, whatever format they come in, without running anything that the file holds."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from torch import Tensor

from .metadata import WeightsError
from .torchscript import is_torchscript, read_torchscript

Format = Literal["safetensors", "state dict", "TorchScript"]

METADATA_KEY = "gcnv2_ros"

_EXPECTED = "a .safetensors file, a PyTorch state dict or checkpoint, or a TorchScript archive"
# Keys under which training programs keep the state dict in a checkpoint.
_CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
_DATA_PARALLEL_PREFIX = "module."


@dataclass(frozen=True)
class RawWeights:
    """Tensors as they stand in a file, before they are compared with a network.

    Attributes
    ----------
    tensors
        By parameter name, on the CPU, in the file's data types.
    format
        Which kind of file it was.
    metadata
        JSON text of the package's own metadata, None where the file has none.
    """

    tensors: dict[str, Tensor]
    format: Format
    metadata: str | None = None


def read_weights_file(path: Path) -> RawWeights:
    """Read the tensors of `path`; the format is recognised by content, not by name.

    Raises
    ------
    WeightsError
        If there is no such file, it is damaged, or it is of no known format.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no weights file {path}") from error
    except OSError as error:
        raise WeightsError(f"the weights file {path} cannot be read: {error.strerror}") from error
    if head[:2] == b"PK":
        if is_torchscript(path):
            return RawWeights(read_torchscript(path), "TorchScript")
        return RawWeights(_state_dict(path), "state dict")
    # A safetensors file starts with the header's length (8 bytes) and the header, a JSON object.
    if head[8:9] == b"{":
        return _read_safetensors(path)
    # Pickle protocol 2, in which torch wrote state dicts before version 1.6.
    if head[:1] == b"\x80":
        return RawWeights(_state_dict(path), "state dict")
    raise WeightsError(f"{path} is not a weights file: expected {_EXPECTED}")


def _read_safetensors(path: Path) -> RawWeights:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as archive:
            header = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 (not a mapping)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is truncated or damaged, or no safetensors file ({error})") from error
    return RawWeights(tensors, "safetensors", header.get(METADATA_KEY))


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds Python objects other than tensors, which are not loaded because loading them can run "
            f"code, or it is damaged; save its state_dict() alone"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is truncated or damaged, or no PyTorch file ({reason})") from error
    return _tensors_of(loaded, path)


def _tensors_of(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what `torch.load` gave: itself, or an entry of a checkpoint."""
    if isinstance(loaded, Mapping):
        for key in _CHECKPOINT_KEYS:
            if isinstance(loaded.get(key), Mapping):
                loaded = loaded[key]
                break
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{path} holds a {type(loaded).__name__} where a state dict was expected: {_EXPECTED}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path} is neither a state dict nor a checkpoint with the key "
                f"{' or '.join(map(repr, _CHECKPOINT_KEYS))}: its entry {name!r} is a {type(value).__name__}"
            )
    return _without_prefix(dict(loaded))


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo the renaming that DataParallel does."""
    if all(name.startswith(_DATA_PARALLEL_PREFIX) for name in tensors):
        return {name[len(_DATA_PARALLEL_PREFIX) :]: value for name, value in tensors.items()}
    return tensors


def shape_text(shape: tuple[int, ...]) -> str:
    """A tensor's shape as messages have it, e.g. ``32x1x3x3``."""
    return "x".join(map(str, shape)) or "a scalar"
