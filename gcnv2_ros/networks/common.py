# SPDX-License-Identifier: Apache-2.0
"""What every network of the package shares: its interface, and the two heads of GCNv2."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

STRIDE = 16
DESCRIPTOR_CHANNELS = 256


class FeatureNetwork(nn.Module):
    """Base class of the networks: a gray image in, dense descriptors and a full-resolution score map out.

    A subclass implements `encode` and has the heads ``convF_1``, ``convF_2`` (descriptors) and ``convD_1``,
    ``convD_2`` (detector), by the names of the published state dictionaries.

    Attributes
    ----------
    name
        The name under which the network is registered.
    stride
        Input pixels per descriptor cell.
    """

    name: ClassVar[str]
    stride: ClassVar[int] = STRIDE
    convF_1: nn.Module
    convF_2: nn.Module
    convD_1: nn.Module
    convD_2: nn.Module

    def encode(self, image: Tensor) -> Tensor:
        """Encoder: (B, 1, H, W) in [0, 1] to (B, C, H / 16, W / 16)."""
        raise NotImplementedError

    def head_activation(self, x: Tensor) -> Tensor:
        """Activation between the two convolutions of a head."""
        return nn.functional.elu(x)

    def descriptor_channels(self, encoded: Tensor) -> Tensor:
        """Descriptor head before normalisation: (B, 256, H / 16, W / 16)."""
        return self.convF_2(self.head_activation(self.convF_1(encoded)))

    def detector_logits(self, encoded: Tensor) -> Tensor:
        """Detector head before the sigmoid: (B, 256, H / 16, W / 16), one channel per pixel of the cell."""
        return self.convD_2(self.head_activation(self.convD_1(encoded)))

    def describe(self, image: Tensor) -> Tensor:
        """The descriptors of `forward` alone, without the detector's part of the network."""
        return _normalised(self.descriptor_channels(self.encode(image)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network.

        Parameters
        ----------
        image
            float (B, 1, H, W), gray in [0, 1]; H and W multiples of 16.

        Returns
        -------
        descriptors : torch.Tensor
            (B, 256, H / 16, W / 16), unit L2 norm over channels. Cell (i, j) is centred on pixel
            (16 j + 7.5, 16 i + 7.5).
        scores : torch.Tensor
            (B, 1, H, W) in (0, 1), one score per pixel.
        """
        encoded = self.encode(image)
        descriptors = _normalised(self.descriptor_channels(encoded))
        scores = nn.functional.pixel_shuffle(torch.sigmoid(self.detector_logits(encoded)), self.stride)
        return descriptors, scores


def _normalised(channels: Tensor) -> Tensor:
    return channels / torch.norm(channels, p=2, dim=1, keepdim=True)
