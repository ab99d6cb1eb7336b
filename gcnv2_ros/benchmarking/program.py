# SPDX-License-Identifier: Apache-2.0
"""Measuring in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from ..errors import GCNv2Error

LONGEST_SECONDS = 600.0
"""A program without a camera, which starts and measures for seconds, hangs if it takes longer."""

_PRINTED_CHARACTERS = 800
# As python -m, but the clock is read before the package is imported, for a program that measures this.
_START = (
    "import sys, time; sys.argv.append(repr(time.perf_counter())); import runpy; "
    "runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
)


def longest_seconds(frames: int, hz: float, *, passes: int = 1) -> float:
    """After how long a program hangs that measures `frames` at a camera's rate, `passes` times.

    An engine may be slower than the camera: a second for each frame is far from what any is known to take.
    """
    return LONGEST_SECONDS + passes * frames * max(1.0, 1 / hz)


def run_program(
    name: str,
    given: Mapping[str, Any],
    *,
    what: str,
    longest: float = LONGEST_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run a module of `gcnv2_ros.benchmarking` as a program.

    Parameters
    ----------
    name
        Of the module.
    given
        Plain values; the program's first argument, as JSON. The second is what `time.perf_counter` said when it began.
    what
        What it measures, for the error.
    longest
        Seconds after which it is ended.
    environment
        The program's; None: that of this process.

    Returns
    -------
    dict
        The JSON object in the last line that it prints.

    Raises
    ------
    GCNv2Error
        If it fails, with what it printed last, or takes too long.
    """
    start = _START.format(module=f"gcnv2_ros.benchmarking.{name}")
    command = [sys.executable, "-c", start, json.dumps(given)]
    try:
        finished = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=longest, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise GCNv2Error(
            f"{what} could not be measured: it was not done after {longest:g} s and was ended; does it hang?"
        ) from error
    if finished.returncode:
        raise GCNv2Error(f"{what} could not be measured: {finished.stderr.strip()[-_PRINTED_CHARACTERS:]}")
    return json.loads(finished.stdout.splitlines()[-1])
