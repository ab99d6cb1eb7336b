# SPDX-License-Identifier: Apache-2.0
"""Weights of the networks: load, check, save and convert them."""

from __future__ import annotations

from .learned_sampling import KERNEL_NAME, MIXING_NAME, LearnedSampling, take_learned_sampling
from .metadata import Candidates, Detector, Sampling, WeightsError, WeightsMetadata
from .store import Weights, convert_weights, load_weights, save_weights, shipped_models

__all__ = [
    "KERNEL_NAME",
    "MIXING_NAME",
    "Candidates",
    "Detector",
    "LearnedSampling",
    "Sampling",
    "Weights",
    "WeightsError",
    "WeightsMetadata",
    "convert_weights",
    "load_weights",
    "save_weights",
    "shipped_models",
    "take_learned_sampling",
]
