# SPDX-License-Identifier: Apache-2.0
"""Which device a training process uses, alone or beside others on one machine."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from ..errors import GCNv2Error
from ..extraction.options import DEVICE_INDEX
from ..extraction.runtimes.torch_eager import resolve_device

_NAME = re.compile(rf"auto|cpu|cuda(:{DEVICE_INDEX})?")


class DeviceError(GCNv2Error):
    """What is no name of a device to train on."""


def training_device(name: str, environment: Mapping[str, str]) -> str:
    """The device of one training process, of those of the name that is asked for; see `process_device`.

    Parameters
    ----------
    name
        ``auto`` (CUDA where there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
    environment
        Of the process.

    Raises
    ------
    DeviceError
        If it is another name.
    ExtractionError
        If it is a CUDA device that is not there.
    """
    if not _NAME.fullmatch(name):
        raise DeviceError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return str(resolve_device(process_device(name, environment)))


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
