# SPDX-License-Identifier: Apache-2.0
"""The network as it is trained: with normalisation, and with the kernel that reads its descriptors if that is learned.

The kernel is a parameter of the network under the name that it has in weights files, so that whatever is done with
the parameters (steps, averages, checkpoints) is done with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..networks import create_network
from ..networks.common import DESCRIPTOR_CHANNELS, FeatureNetwork
from ..weights import KERNEL_NAME
from .config import TrainingConfig
from .fold import add_normalisation

HARMONICS = 6
"""The M of kernels that are learned here; the last wave's length is two thirds of a cell, about 11 pixels."""


def create_trainable(config: TrainingConfig) -> FeatureNetwork:
    """The network that `config` trains, before the first step; a kernel is that of ``bicubic`` sampling then."""
    network = add_normalisation(create_network(config.model))
    if config.loss.sampling == "learned":
        kernel = torch.zeros(2, 2, 1 + 2 * HARMONICS, DESCRIPTOR_CHANNELS)
        network.register_parameter(KERNEL_NAME, nn.Parameter(kernel))
    return network


def sampling_kernel(network: FeatureNetwork) -> Tensor | None:
    """The kernel of a network that `create_trainable` made; None with other sampling than ``learned``."""
    return getattr(network, KERNEL_NAME, None)


def released_state(network: FeatureNetwork) -> tuple[dict[str, Tensor], Tensor | None]:
    """What is released of a network whose normalisation is folded: its state dictionary, and its kernel or None."""
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    return state, state.pop(KERNEL_NAME, None)
