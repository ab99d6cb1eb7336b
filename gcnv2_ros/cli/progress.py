# SPDX-License-Identifier: Apache-2.0
"""Progress on a terminal, with rate and time left."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bars(prefix: str = "") -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Give a function that starts the bar of a stage, and ends the one before.

    What it returns is to be called with what is done and the total. Bars are drawn on standard error, and only if that
    is a terminal and tqdm is installed.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda name: lambda done, total: None
        return
    bars: list[tqdm] = []

    def start(name: str) -> Callable[[int, int], None]:
        for bar in bars:
            bar.close()
        bar = tqdm(desc=prefix + name, unit="", disable=not sys.stderr.isatty(), file=sys.stderr, dynamic_ncols=True)
        bars[:] = [bar]

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return update

    try:
        yield start
    finally:
        for bar in bars:
            bar.close()
