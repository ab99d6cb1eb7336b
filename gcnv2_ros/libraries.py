# SPDX-License-Identifier: Apache-2.0
"""Importing optional libraries: one that is not installed and one that is broken are two errors."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import GCNv2Error, MissingDependencyError


class LibraryError(GCNv2Error):
    """An optional library is needed for what was asked, is installed, and cannot be imported."""


def import_library(name: str, purpose: str, install: str) -> Any:
    """Import an optional library.

    Parameters
    ----------
    name
        Of the module; one within a package, as ``tf2_msgs.msg``, stands for the package.
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
        library = name.partition(".")[0]
        # A module that the library itself needs has another name.
        if isinstance(error, ModuleNotFoundError) and error.name in (library, name):
            raise MissingDependencyError(library, purpose, install) from error
        raise LibraryError(
            f"{purpose} needs the Python library {library!r}, which is installed and cannot be imported "
            f"({type(error).__name__}: {error}); reinstall it, or what it asks for"
        ) from error
