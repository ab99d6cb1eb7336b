# SPDX-License-Identifier: Apache-2.0
"""What ``learned`` sampling learned: how descriptors are read from a network's dense map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks.common import DESCRIPTOR_CHANNELS
from .formats import shape_text
from .metadata import Sampling

KERNEL_NAME = "sampling_kernel"
"""Under this name the kernel of ``learned`` sampling stands in a weights file, beside the network's parameters."""
MIXING_NAME = "sampling_mixing"
"""Under this one its mixing."""


@dataclass(frozen=True)
class LearnedSampling:
    """Coefficients of ``learned`` sampling.

    Attributes
    ----------
    kernel
        float32 (2, 2, 1 + 2 M, 256), see `gcnv2_ros.extraction.sampling.tabulate`.
    mixing
        float32 (B, 256 / B, 256 / B): what is added to each block of channels after it is read, as a matrix by which
        what was read is multiplied from the right. None where channels are not mixed.
    """

    kernel: Tensor
    mixing: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The coefficients by the names that they have in weights files."""
        return {KERNEL_NAME: self.kernel, **({} if self.mixing is None else {MIXING_NAME: self.mixing})}


def take_learned_sampling(tensors: dict[str, Tensor]) -> LearnedSampling | None:
    """Take what `LearnedSampling.tensors` named out of `tensors`; None if there is no kernel.

    A kernel without imaginary parts, (2, 1 + 2 M, 256), gets them, 0.
    """
    if KERNEL_NAME not in tensors:
        return None
    kernel, mixing = tensors.pop(KERNEL_NAME).float(), tensors.pop(MIXING_NAME, None)
    if kernel.ndim == 3:
        kernel = torch.stack([kernel, torch.zeros_like(kernel)], dim=1)
    return LearnedSampling(kernel, None if mixing is None else mixing.float())


def misfit(tensors: Mapping[str, Tensor], sampling: Sampling) -> str:
    """What is wrong with the coefficients in a weights file's `tensors`, for its sampling; or an empty string."""
    kernel, mixing = tensors.get(KERNEL_NAME), tensors.get(MIXING_NAME)
    if sampling != "learned":
        present = next((name for name in (KERNEL_NAME, MIXING_NAME) if name in tensors), None)
        return "" if present is None else f"holds {present}, but its sampling is {sampling}, not learned"
    if kernel is None:
        return f"has learned sampling, but no {KERNEL_NAME}; export it again with `gcnv2 train-export`"
    if kernel.shape[:-2] not in ((2, 2), (2,)) or not kernel.shape[-2] % 2 or kernel.shape[-1] != DESCRIPTOR_CHANNELS:
        return f"holds a {KERNEL_NAME} of {shape_text(kernel.shape)}, expected 2x2x(1+2M)x{DESCRIPTOR_CHANNELS}"
    if mixing is None:
        return ""
    block = mixing.shape[-1]
    if mixing.ndim != 3 or not block or mixing.shape != (DESCRIPTOR_CHANNELS // block, block, block):
        size = f"({DESCRIPTOR_CHANNELS}/B)"
        return f"holds a {MIXING_NAME} of {shape_text(mixing.shape)}, expected Bx{size}x{size}"
    return ""
