# SPDX-License-Identifier: Apache-2.0
"""What figures were taken on, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

_LIBRARIES = ("torch", "onnxruntime", "openvino", "numba", "numpy", "opencv-python-headless", "opencv-python")
_GEMM_SIDE = 1024
_GEMM_ROUNDS = 8


def describe_machine() -> dict[str, Any]:
    """Processor, cores, load, versions. The load says how much the figures are worth."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions: dict[str, str | None] = {}
    for distribution in _LIBRARIES:
        try:
            versions[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            versions[distribution] = None
    return {
        "date": time.strftime("%Y-%m-%d"),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores,
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def gemm_gflops(threads: int) -> float:
    """The best rate seen of a float32 matrix product, in 10^9 floating-point operations a second, on the CPU.

    The product is computed by two libraries of torch's, as a matrix product and as a convolution of one pixel: on some
    processors one of them leaves half of the vector units idle.

    Parameters
    ----------
    threads
        Of torch, which is left with as many; 0: as it is.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    a, b = torch.rand(2, _GEMM_SIDE, _GEMM_SIDE)
    image = torch.rand(1, _GEMM_SIDE, _GEMM_SIDE // 32, 32).contiguous(memory_format=torch.channels_last)
    kernel = b.reshape(_GEMM_SIDE, _GEMM_SIDE, 1, 1)
    best = np.inf
    with torch.inference_mode():
        for product in (lambda: torch.mm(a, b), lambda: torch.nn.functional.conv2d(image, kernel)):
            for _ in range(_GEMM_ROUNDS):
                start = time.perf_counter()
                product()
                best = min(best, time.perf_counter() - start)
    return 2 * _GEMM_SIDE**3 / best / 1e9


def forward_gflop(model: str, width: int, height: int, *, detector: bool = True) -> float:
    """10^9 floating-point operations of one forward pass, two to a multiplication with addition.

    Without `detector` they are those of the descriptors alone.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ..networks import create_network

    with torch.device("meta"):
        network = create_network(model).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            (network if detector else network.describe)(torch.zeros(1, 1, height, width))
    return counter.get_total_flops() / 1e9


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
