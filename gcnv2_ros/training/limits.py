# SPDX-License-Identifier: Apache-2.0
"""The ranges that the numbers of a training configuration must lie in."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import TrainingConfig

_SHARE = (0.0, 1.0)
_STRENGTH = (0.0, 10.0)
_ANGLE = (0.0, 180.0)
_SCALE = (0.01, 100.0)
_RATE = (1e-9, 10.0)
_STEPS = (1, 10**9)
# Torch refuses numbers of more than 64 bits; these are safe where they have a sign, too.
_SEED_END = 2**63

LIMITS: dict[str, dict[str, tuple[float, float]]] = {
    "data": {"size": (32, 4096), "workers": (0, 1024)},
    "warp": {
        "scale": _SCALE,
        "relative_scale": _SCALE,
        "rotation": _ANGLE,
        "wide_rotation": _ANGLE,
        "wide_share": _SHARE,
        "base_rotation": _ANGLE,
        # From 1 on the horizon would lie in the view.
        "perspective": (0.0, 0.95),
        "shear": (0.0, 2.0),
        "shift": _SHARE,
    },
    "photometric": {
        "gain": _STRENGTH,
        "gamma": _STRENGTH,
        "contrast": _SHARE,
        "vignetting": _SHARE,
        "shading_probability": _SHARE,
        "motion_blur": (0.0, 200.0),
        "motion_blur_probability": _SHARE,
        "defocus": (0.0, 100.0),
        "defocus_probability": _SHARE,
        "noise": (0.0, 255.0),
        "jpeg_probability": _SHARE,
    },
    "target": {
        "full_score": (1e-6, 1e6),
        "suppression": (0.0, 1000.0),
        "keypoint_area": (0.0, 1e7),
        "sigma_start": (0.1, 100.0),
        "sigma_end": (0.1, 100.0),
        "sigma_pairs": (0, 10**12),
        "sigma_growth": _STRENGTH,
        "queries": (1, 10**6),
        "keypoint_share": _SHARE,
        "blob_share": _SHARE,
    },
    "loss": {
        "temperature": (1e-4, 100.0),
        "relaxed_weight": (0.0, 1e4),
        "margin": (0.0, 1e4),
        "radius": (0.0, 1000.0),
        "distractor_step": (0, 4096),
        "focus": _STRENGTH,
        "positive_weight": (1e-6, 1e6),
        "detector_weight": (0.0, 1e4),
    },
    "schedule": {
        "steps": _STEPS,
        "warmup": (0, 10**9),
        "decay": (0, 10**9),
        "batch": (1, 10**5),
        "learning_rate": _RATE,
        "muon_learning_rate": _RATE,
        "weight_decay": (0.0, 100.0),
        "clip": (1e-6, 1e9),
        "average": (0.0, 1.0 - 1e-9),
        "validate_every": _STEPS,
        "checkpoint_every": _STEPS,
        "keep_every": (0, 10**9),
    },
}
"""Lowest and highest value of each number, by section and name; of a range or a size, of each of its two numbers."""


def out_of_range(config: TrainingConfig) -> str | None:
    """What is wrong with the first number that is out of its range, with its name; None if all are in theirs."""
    if not 0 <= config.seed < _SEED_END:
        return f"seed must be 0 or more and less than 2**63, got {reprlib.repr(config.seed)}"
    for section, limits in LIMITS.items():
        options = getattr(config, section)
        for name, (lowest, highest) in limits.items():
            value = getattr(options, name)
            numbers = list(value) if isinstance(value, tuple) else [value]
            # NaN is in no range.
            if not all(lowest <= number <= highest for number in numbers):
                shown = reprlib.repr(numbers if isinstance(value, tuple) else value)
                return f"{section}.{name} must be between {lowest:g} and {highest:g}, got {shown}"
    for name in ("scale", "relative_scale"):
        smallest, largest = getattr(config.warp, name)
        if smallest > largest:
            return f"warp.{name} must be a range, the smaller number first, got {[smallest, largest]}"
    return None
