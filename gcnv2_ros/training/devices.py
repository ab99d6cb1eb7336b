# SPDX-License-Identifier: Apache-2.0
"""Which device a training process uses, alone or beside others on one machine."""

from __future__ import annotations

from collections.abc import Mapping


def process_device(device: str, environment: Mapping[str, str]) -> str:
    """The device of one training process.

    Parameters
    ----------
    device
        As torch names it. ``cuda``, without an index, is a GPU for each process where there are several; anything else
        is taken as it is.
    environment
        Of the process; torchrun sets ``WORLD_SIZE`` (processes in all) and ``LOCAL_RANK`` (number on this machine).
    """
    # torch takes "cuda" for the current GPU, which is the first one in every process.
    if device == "cuda" and int(environment.get("WORLD_SIZE", "1")) > 1:
        return f"cuda:{environment.get('LOCAL_RANK', '0')}"
    return device
