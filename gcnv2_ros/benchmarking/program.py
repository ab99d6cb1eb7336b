# SPDX-License-Identifier: Apache-2.0
"""Measuring in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from ..errors import GCNv2Error

_TIMEOUT_SECONDS = 600.0
_PRINTED_CHARACTERS = 800


def run_program(
    name: str, given: Mapping[str, Any], *, what: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a module of `gcnv2_ros.benchmarking` as a program.

    Parameters
    ----------
    name
        Of the module.
    given
        Plain values; the program's only argument, as JSON.
    what
        What it measures, for the error.
    environment
        The program's; None: that of this process.

    Returns
    -------
    dict
        The JSON object in the last line that it prints.

    Raises
    ------
    GCNv2Error
        If it fails; the sentence has what it printed last.
    """
    command = [sys.executable, "-m", f"gcnv2_ros.benchmarking.{name}", json.dumps(given)]
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    if finished.returncode:
        raise GCNv2Error(f"{what} could not be measured: {finished.stderr.strip()[-_PRINTED_CHARACTERS:]}")
    return json.loads(finished.stdout.splitlines()[-1])
