# SPDX-License-Identifier: Apache-2.0
"""Inner loops that numba compiles where it is installed."""

from __future__ import annotations

import functools
import glob
import importlib
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

_LOGGER = logging.getLogger(__name__)


@functools.cache
def import_compiled(name: str) -> ModuleType | None:
    """Import a module of compiled loops by its full name, or return None without numba.

    The first call of a process takes up to a second; the first one ever, which compiles, takes some. A numba that is
    installed and fails is logged.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        # A numba built against another NumPy, or with the wrong llvmlite, raises more than ImportError.
        if not (isinstance(error, ModuleNotFoundError) and error.name == "numba"):
            _LOGGER.warning("numba is done without, which is slower: %s cannot be compiled (%r)", name, error)
        return None


def compiled(signature: str, **options: Any) -> Callable[[Any], Any]:
    """Decorate a function that numba compiles ahead for `signature`, and keeps; it does not hold the GIL.

    Kept files that numba cannot read are deleted and made again; where that cannot be, nothing is kept.

    Parameters
    ----------
    signature
        As `numba.njit` takes it.
    options
        Further ones of `numba.njit`.
    """
    import numba

    options = {"nogil": True, "error_model": "numpy", **options}

    def compile_function(function: Any) -> Any:
        try:
            folder = Path(numba.njit(cache=True, **options)(function).stats.cache_path)
        except RuntimeError:
            # Neither beside the function's file nor in the user's cache folder can anything be kept.
            return numba.njit(signature, **options)(function)
        try:
            try:
                return numba.njit(signature, cache=True, **options)(function)
            except OSError:
                raise
            except Exception as error:
                # What half a file raises is anything that unpickling raises.
                _delete_kept(folder, function, error)
                return numba.njit(signature, cache=True, **options)(function)
        except OSError as error:
            _warn_unkept(folder, str(error))
            return numba.njit(signature, **options)(function)

    return compile_function


def _delete_kept(folder: Path, function: Any, error: Exception) -> None:
    """Delete what numba keeps of `function`: an index, and the code for each signature."""
    _LOGGER.warning(
        "what numba keeps of %s in %s cannot be used (%r), so it is deleted and compiled again",
        function.__qualname__,
        folder,
        error,
    )
    name = glob.escape(f"{Path(inspect.getfile(function)).stem}.{function.__qualname__}")
    for path in folder.glob(f"{name}-*.nb[ic]"):
        path.unlink(missing_ok=True)


@functools.cache
def _warn_unkept(folder: Path, reason: str) -> None:
    """Once a process and not once a function."""
    _LOGGER.warning(
        "what numba compiles cannot be kept in %s (%s), so it is compiled at every start; correct the folder or the "
        "disk, or set NUMBA_CACHE_DIR to another folder",
        folder,
        reason,
    )
