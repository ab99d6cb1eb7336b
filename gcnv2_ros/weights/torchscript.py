# SPDX-License-Identifier: Apache-2.0
"""Lifting the parameters out of TorchScript archives without running their code.

An archive is a zip file with one folder at its top. Since torch 1.3 the module tree is a pickle, ``data.pkl``, in which
tensors refer to the records ``data/N``. Torch 1.0 to 1.2, with which the authors exported their networks, wrote the
tree as JSON, ``model.json`` (the JSON form of the message ``ModelDef`` in torch's ``torch.proto``), with a table of
tensors that refer to the records ``tensors/N``. Current torch refuses to load some of those; nothing is asked of it
here but to hold the numbers.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .metadata import WeightsError

# What a zip archive raises whose directory or records are damaged: names that are no UTF-8 are ValueError, versions,
# methods and ciphers that nobody wrote RuntimeError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, struct.error)

_LARGEST_RECORD = 1 << 30
_MOST_MODULES = 10_000

_STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Names of caffe2's TensorProto.DataType, which torch 1.0 used.
_JSON_DTYPES = {
    "FLOAT": torch.float32,
    "DOUBLE": torch.float64,
    "FLOAT16": torch.float16,
    "INT64": torch.int64,
    "INT32": torch.int32,
    "INT16": torch.int16,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BYTE": torch.uint8,
    "BOOL": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether a zip file is a TorchScript archive (and not a state dict that `torch.save` wrote).

    Raises
    ------
    WeightsError
        If the archive's directory is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(("/constants.pkl", "/model.json")) for name in archive.namelist())
    except _DAMAGE as error:
        raise WeightsError(f"{path} is truncated or damaged ({error})") from error


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a TorchScript archive, by the names that its module's ``state_dict()`` would give.

    Parameters
    ----------
    path
        An archive of any torch since 1.0.

    Raises
    ------
    WeightsError
        If the archive is damaged, holds no module, or asks for anything but tensors, modules and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = _Records(archive)
            if "model.json" in records:
                return _read_json_archive(records)
            return _read_pickle_archive(records)
    except WeightsError as error:
        raise WeightsError(f"{path} cannot be read as a TorchScript archive: {error}") from error
    except _DAMAGE as error:
        raise WeightsError(f"{path} is truncated or damaged ({error})") from error


class _Records:
    """The records of an archive, by their names below its top folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> bytes:
        entry = self._entries.get(name)
        if entry is None:
            raise WeightsError(f"the record {name} is missing")
        # Sizes come from the file: a small one can claim to unpack to anything.
        if entry.file_size > _LARGEST_RECORD:
            raise WeightsError(f"the record {name} is larger than any of these networks' weights")
        return self._archive.read(entry)


def _strided(
    name: str, content: bytes, dtype: torch.dtype, offset: int, size: Sequence[int], stride: Sequence[int]
) -> Tensor:
    """A tensor of its own from a storage's bytes; offset and strides in elements."""
    available = len(content) // dtype.itemsize
    sound = (
        len(size) == len(stride)
        and all(type(value) is int and value >= 0 for value in (offset, *size, *stride))
        and math.prod(size) <= available
        and offset + sum((extent - 1) * step for extent, step in zip(size, stride)) < available
    )
    if not sound:
        raise WeightsError(f"a tensor of shape {tuple(size)} reaches beyond the {available} values of {name}")
    return torch.frombuffer(bytearray(content), dtype=dtype).as_strided(tuple(size), tuple(stride), offset).clone()


class _Module:
    """Stands in for any class that the archive defines: takes the attributes, has no behaviour."""

    def __init__(self, *arguments: object) -> None:
        self.attributes: Mapping[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        # A module with a __getstate__ of its own has some other state, of which nothing can be known here.
        self.attributes = state if isinstance(state, dict) else {}


class _StorageType:
    """Stands in for torch's storage classes, which a pickle only names."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _ModuleUnpickler(pickle.Unpickler):
    """Unpickles module trees: every global that a pickle can name is one of the harmless ones below."""

    def __init__(self, records: _Records) -> None:
        super().__init__(io.BytesIO(records.read("data.pkl")))
        self._records = records

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":
            return _first_argument
        raise WeightsError(f"it asks for the Python object {module}.{name}, which is none of a network's weights")

    def persistent_load(self, identifier: Any) -> Any:
        kind, storage_type, key = identifier[:3]
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise WeightsError("it refers to something other than a tensor's values")
        return f"data/{key}", storage_type.dtype

    def _tensor(self, storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *_: object) -> Tensor:
        name, dtype = storage
        return _strided(name, self._records.read(name), dtype, offset, size, stride)


def _first_argument(value: Any, *_: object) -> Any:
    """In place of torch.jit._pickle, whose functions return their first argument as a list or with its type noted."""
    return value


def _read_pickle_archive(records: _Records) -> dict[str, Tensor]:
    try:
        root = _ModuleUnpickler(records).load()
    except (WeightsError, zipfile.BadZipFile):
        raise
    except Exception as error:  # a damaged pickle can fail in any way; it cannot do anything else
        raise WeightsError(f"data.pkl is damaged ({error})") from error
    if not isinstance(root, _Module):
        raise WeightsError("it holds no module")
    return _attribute_tensors(root)


def _attribute_tensors(root: _Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    waiting = [("", root)]
    for _ in range(_MOST_MODULES):
        if not waiting:
            return found
        prefix, module = waiting.pop()
        for name, value in module.attributes.items():
            if isinstance(value, Tensor):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, _Module):
                waiting.append((f"{prefix}{name}.", value))
    raise WeightsError("its modules are nested without end")


def _read_json_archive(records: _Records) -> dict[str, Tensor]:
    try:
        description = json.loads(records.read("model.json"))
        table = description.get("tensors", [])
        found: dict[str, Tensor] = {}
        _collect_parameters(description["mainModule"], "", table, records, found)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"model.json is not as torch 1.0 to 1.2 wrote it ({error!r})") from error
    return found


def _collect_parameters(
    module: Mapping[str, Any],
    prefix: str,
    table: Sequence[Mapping[str, Any]],
    records: _Records,
    found: dict[str, Tensor],
) -> None:
    for parameter in module.get("parameters", []):
        # The JSON form of a protocol buffer writes 64-bit integers as strings.
        found[f"{prefix}{parameter['name']}"] = _tensor_of_table(table[int(parameter["tensorId"])], records)
    for submodule in module.get("submodules", []):
        _collect_parameters(submodule, f"{prefix}{submodule['name']}.", table, records, found)


def _tensor_of_table(entry: Mapping[str, Any], records: _Records) -> Tensor:
    name = entry["data"]["key"]
    dtype = _JSON_DTYPES.get(entry["dataType"])
    if dtype is None or entry.get("isQuantized", False):
        raise WeightsError(f"the tensor {name} is of the type {entry['dataType']}, expected plain numbers")
    size, stride = ([int(value) for value in entry.get(key, [])] for key in ("dims", "strides"))
    return _strided(name, records.read(name), dtype, int(entry.get("offset", 0)), size, stride)
