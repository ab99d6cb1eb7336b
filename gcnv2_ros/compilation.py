# SPDX-License-Identifier: Apache-2.0
"""Inner loops that numba compiles where it is installed."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

_LOGGER = logging.getLogger(__name__)


@functools.cache
def import_compiled(name: str) -> ModuleType | None:
    """Import a module of compiled loops by its full name, or return None without numba.

    The first call of a process takes up to a second; the first one ever, which compiles, takes some.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def compiled(signature: str, **options: Any) -> Callable[[Any], Any]:
    """Decorate a function that numba compiles ahead for `signature`, and keeps; it does not hold the GIL.

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
            return numba.njit(signature, cache=True, **options)(function)
        except RuntimeError:
            # Neither beside the function's file nor in the user's cache folder can anything be kept.
            return numba.njit(signature, **options)(function)
        # What was kept is damaged, which shows in whatever way pickle fails, or the disk is full.
        except Exception as error:
            _LOGGER.warning(
                "%s is compiled at every start, as what numba keeps in __pycache__ beside %s, or in NUMBA_CACHE_DIR, "
                "cannot be used (%r); delete it there, if it is damaged",
                function.__qualname__,
                inspect.getsourcefile(function),
                error,
            )
            return numba.njit(signature, **options)(function)

    return compile_function
