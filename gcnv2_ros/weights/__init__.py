# SPDX-License-Identifier: Apache-2.0
"""Weights of the networks: load, check, save and convert them."""

from __future__ import annotations

from .metadata import Candidates, Sampling, WeightsError, WeightsMetadata
from .store import KERNEL_NAME, Weights, convert_weights, load_weights, save_weights, shipped_models

__all__ = [
    "KERNEL_NAME",
    "Candidates",
    "Sampling",
    "Weights",
    "WeightsError",
    "WeightsMetadata",
    "convert_weights",
    "load_weights",
    "save_weights",
    "shipped_models",
]
