# SPDX-License-Identifier: Apache-2.0
"""The content of settings files: YAML, and what OpenCV's FileStorage writes and reads, which is not quite that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import yaml

from .errors import GCNv2Error

_HEADER = "%YAML:"
_FOR_OPENCV = (".xml", ".gz")


class SettingsError(GCNv2Error):
    """A file that cannot be read, or that is no YAML."""


def read_settings(path: str | Path) -> Any:
    """The content of a YAML file as mappings, lists, numbers and strings.

    Files of OpenCV begin with ``%YAML:1.0`` and may lack the space behind a colon; its XML and its compressed files are
    read too. Its matrices are mappings of ``rows``, ``cols``, ``dt`` and ``data``, a list.

    Raises
    ------
    SettingsError
        If the file is missing or is none of these.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read the calibration file {path}: {error.strerror}") from error
    if Path(path).suffix in _FOR_OPENCV:
        return _read_storage(path, "neither YAML nor what OpenCV writes")
    # Comments may be in any encoding, numbers are the same in all of them.
    lines = content.decode("utf-8-sig", errors="replace").splitlines()
    try:
        return yaml.load("\n".join(line for line in lines if not line.startswith("%YAML")), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if lines[0].startswith(_HEADER):
            return _read_storage(path, f"not YAML: {error}")
        raise SettingsError(f"the calibration file {path} is not YAML: {error}") from error


class _Loader(yaml.SafeLoader):
    """The safe loader, which takes OpenCV's matrices for the mappings that they are."""


def _matrix(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _matrix)


def _read_storage(path: str | Path, otherwise: str) -> Any:
    """What OpenCV reads in a file; the error of one that it does not read says `otherwise`."""
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    except (cv2.error, SystemError) as error:
        raise SettingsError(f"the calibration file {path} is {otherwise}") from error
    try:
        return _plain(storage.root())
    finally:
        storage.release()


def _plain(node: cv2.FileNode) -> Any:
    if node.isMap():
        return {name: _plain(node.getNode(name)) for name in node.keys()}  # noqa: SIM118 - it is no dict
    if node.isSeq():
        return [_plain(node.at(index)) for index in range(node.size())]
    if node.isString():
        return node.string()
    if node.isInt():
        return int(node.real())
    return node.real() if node.isReal() else None
