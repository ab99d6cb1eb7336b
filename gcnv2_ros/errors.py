# SPDX-License-Identifier: Apache-2.0
"""The package's exceptions: one base class, one subclass a layer, defined beside the layer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GCNv2Error(Exception):
    """Base of every error that the package raises on purpose.

    The message is a sentence for the person who meets it: what was wrong, with which file, topic
    or value, what was expected, and what to do. Command-line programs print it without a traceback.
    """


def sentence_of(error: Exception) -> str:
    """The sentence of an error that was raised on purpose; of any other its kind with it."""
    return str(error) if isinstance(error, GCNv2Error) else f"{type(error).__name__}: {error}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """What follows a name that is not `known` in an error's sentence: the nearest one that is, or nothing."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


class MissingDependencyError(GCNv2Error):
    """An optional library is needed for what was asked and is not installed."""

    def __init__(self, library: str, purpose: str, install: str) -> None:
        super().__init__(f"{purpose} needs the Python library {library!r}; install it with: {install}")
