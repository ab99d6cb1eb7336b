# SPDX-License-Identifier: Apache-2.0
"""Importing optional libraries: one that is not installed and one that is broken are two errors."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import MissingDependencyError
from .options import ExtractionError


class LibraryError(ExtractionError):
    """An optional library is needed for what was asked, is installed, and cannot be imported."""


def import_library(name: str, purpose: str, install: str) -> Any:
    """Import an optional library.

    Parameters
    ----------
    name
        Of the module.
    purpose
        What needs it: the subject of the errors' sentence.
    install
        Command that installs it.

    Raises
    ------
    LibraryError
        If it is installed and fails: a shared library of its own is missing, or it was built against another NumPy.
    MissingDependencyError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise MissingDependencyError(name, purpose, install) from error
        raise LibraryError(
            f"{purpose} needs the Python library {name!r}, which is installed and cannot be imported "
            f"({type(error).__name__}: {error}); reinstall it, or what it asks for"
        ) from error
