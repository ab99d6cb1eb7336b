# SPDX-License-Identifier: Apache-2.0
"""GCNv2 and GCNv2_tiny.

Tang, Ericson, Folkesson, Jensfelt, "GCNv2: Efficient Correspondence Prediction for Real-Time SLAM", RA-L 2019
(arXiv 1902.11046), section III-C. Parameter names are those of the authors' released state dictionaries.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from .common import DESCRIPTOR_CHANNELS, STRIDE, FeatureNetwork


class GCNv2(FeatureNetwork):
    """GCNv2: six convolutions to stride 16, then a descriptor and a detector head; 3,025,248 parameters."""

    name: ClassVar[str] = "gcnv2"
    encoder_channels: ClassVar[tuple[int, ...]] = (32, 64, 128, 128, 256, 256)

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3_1, c3_2, c4_1, c4_2 = self.encoder_channels
        self.conv1 = nn.Conv2d(1, c1, kernel_size=4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(c1, c2, kernel_size=4, stride=2, padding=1)
        self.conv3_1 = nn.Conv2d(c2, c3_1, kernel_size=3, stride=1, padding=1)
        self.conv3_2 = nn.Conv2d(c3_1, c3_2, kernel_size=4, stride=2, padding=1)
        self.conv4_1 = nn.Conv2d(c3_2, c4_1, kernel_size=3, stride=1, padding=1)
        self.conv4_2 = nn.Conv2d(c4_1, c4_2, kernel_size=4, stride=2, padding=1)
        self.convF_1 = nn.Conv2d(c4_2, 256, kernel_size=3, stride=1, padding=1)
        self.convF_2 = nn.Conv2d(256, DESCRIPTOR_CHANNELS, kernel_size=1)
        self.convD_1 = nn.Conv2d(c4_2, 256, kernel_size=3, stride=1, padding=1)
        self.convD_2 = nn.Conv2d(256, STRIDE * STRIDE, kernel_size=1)

    def encode(self, image: Tensor) -> Tensor:
        """Encoder: (B, 1, H, W) in [0, 1] to (B, C, H / 16, W / 16)."""
        x = image
        for layer in (self.conv1, self.conv2, self.conv3_1, self.conv3_2, self.conv4_1, self.conv4_2):
            x = nn.functional.elu(layer(x))
        return x


class GCNv2Tiny(GCNv2):
    """GCNv2_tiny: GCNv2 with a third to a half of the encoder's channels; 1,159,104 parameters."""

    name: ClassVar[str] = "gcnv2_tiny"
    encoder_channels: ClassVar[tuple[int, ...]] = (32, 32, 64, 64, 128, 128)
