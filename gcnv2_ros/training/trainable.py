# SPDX-License-Identifier: Apache-2.0
"""The network as it is trained: with normalisation, and with what reads its descriptors if that is learned.

The coefficients of ``learned`` sampling are parameters of the network under the names that they have in weights files,
so that whatever is done with the parameters (steps, averages, checkpoints) is done with them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..networks import create_network
from ..networks.common import DESCRIPTOR_CHANNELS, FeatureNetwork
from ..weights import KERNEL_NAME, MIXING_NAME, LearnedSampling, take_learned_sampling
from .config import TrainingConfig
from .fold import add_normalisation

HARMONICS = 6
"""The M of kernels that are learned here; the last wave's length is two thirds of a cell, about 11 pixels."""
MIXED_CHANNELS = 64
"""In blocks of so many channels they are mixed here. Larger blocks cost more time in decoding."""


def create_trainable(config: TrainingConfig) -> FeatureNetwork:
    """The network that `config` trains, before the first step; ``learned`` sampling is ``bicubic`` then."""
    network = add_normalisation(create_network(config.model))
    if config.loss.sampling == "learned":
        kernel = torch.zeros(2, 2, 1 + 2 * HARMONICS, DESCRIPTOR_CHANNELS)
        network.register_parameter(KERNEL_NAME, nn.Parameter(kernel))
        mixing = torch.zeros(DESCRIPTOR_CHANNELS // MIXED_CHANNELS, MIXED_CHANNELS, MIXED_CHANNELS)
        network.register_parameter(MIXING_NAME, nn.Parameter(mixing))
    return network


def learned_sampling(network: FeatureNetwork) -> LearnedSampling | None:
    """The coefficients in a network that `create_trainable` made; None with other sampling than ``learned``."""
    kernel = getattr(network, KERNEL_NAME, None)
    return None if kernel is None else LearnedSampling(kernel, getattr(network, MIXING_NAME))


@torch.no_grad()
def continue_sampling(learned: LearnedSampling, earlier: LearnedSampling) -> None:
    """Copy `earlier` coefficients into those of other harmonics and blocks; what is beyond either stays out."""
    common = min(learned.kernel.shape[2], earlier.kernel.shape[2])
    learned.kernel[:, :, :common] = earlier.kernel[:, :, :common].to(learned.kernel.device)
    if learned.mixing is None or earlier.mixing is None:
        return
    matrix = torch.block_diag(*earlier.mixing)
    for block, start in zip(learned.mixing, range(0, len(matrix), learned.mixing.shape[1])):
        stop = start + len(block)
        block[:] = matrix[start:stop, start:stop].to(block.device)


def released_state(network: FeatureNetwork) -> tuple[dict[str, Tensor], LearnedSampling | None]:
    """What is released of a network without normalisation: its state dictionary, and how it is read, or None."""
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    return state, take_learned_sampling(state)
