# SPDX-License-Identifier: Apache-2.0
"""GCNv2_mobile: a MobileNetV2 encoder under the heads of GCNv2.

Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import GCNv2Error
from ..libraries import import_library
from .common import DESCRIPTOR_CHANNELS, STRIDE, FeatureNetwork

# Expansion factor, output channels, repetitions, stride of the first, dilation of the others.
_STAGES = (
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 1),
    (6, 64, 4, 2, 1),
    (6, 96, 3, 1, 1),
    (6, 160, 3, 1, 2),
    (6, 320, 1, 1, 2),
)
_STEM_CHANNELS = 32
_HEAD_CHANNELS = 256

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6; 'same' padding for stride 1."""
    padding = dilation * (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation=dilation, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class _InvertedResidual(nn.Module):
    """Expand by 1x1, filter by depthwise 3x3, project by 1x1 without activation; add the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_convolution(inputs, hidden, 1)]
        layers += [
            _convolution(hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class GCNv2Mobile(FeatureNetwork):
    """MobileNetV2 up to its 320-channel stage, then two heads of a 3x3 and a 1x1 convolution; 3,418,304 parameters.

    The authors published a sketch of this network that does not run. What differs here, and why:

    - The sketch passes arguments to its convolutions that they do not take, and calls an ELU that it never
      defines. Here every activation is ReLU6, as in MobileNetV2.
    - MobileNetV2 ends at stride 32, while the detector's pixel shuffle assumes stride 16, so the sketch's score
      map has half the image's size. Here the 160-channel stage does not stride, and the 3x3 convolutions after
      the place where it did are dilated by 2, so that pretrained weights see the spacing that they were trained
      with (the first block of the stage keeps dilation 1: what it reads has not changed its spacing).
    - The first layer takes one gray channel in [0, 1], as the other networks do, and there is no ImageNet
      normalisation in front; `load_torchvision_encoder` moves it into the weights.
    - The heads are named ``convF_1`` (convolution and batch normalisation), ``convF_2``, ``convD_1``, ``convD_2``.

    The encoder's parameter names (``features.0`` to ``features.17``) are torchvision's.
    """

    name: ClassVar[str] = "gcnv2_mobile"

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_convolution(1, _STEM_CHANNELS, 3, stride=2)]
        channels = _STEM_CHANNELS
        dilation = 1
        for expansion, outputs, repetitions, stride, stage_dilation in _STAGES:
            for repetition in range(repetitions):
                blocks.append(
                    _InvertedResidual(
                        channels,
                        outputs,
                        expansion=expansion,
                        stride=stride if repetition == 0 else 1,
                        dilation=dilation,
                    )
                )
                channels, dilation = outputs, stage_dilation
        self.features = nn.Sequential(*blocks)
        self.convF_1 = _head_convolution(channels)
        self.convF_2 = nn.Conv2d(_HEAD_CHANNELS, DESCRIPTOR_CHANNELS, kernel_size=1)
        self.convD_1 = _head_convolution(channels)
        self.convD_2 = nn.Conv2d(_HEAD_CHANNELS, STRIDE * STRIDE, kernel_size=1)

    def encode(self, image: Tensor) -> Tensor:
        """Encoder: (B, 1, H, W) in [0, 1] to (B, 320, H / 16, W / 16)."""
        return self.features(image)

    def head_activation(self, x: Tensor) -> Tensor:
        """ReLU6, as everywhere in this network."""
        return nn.functional.relu6(x)

    def load_torchvision_encoder(self, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Start the encoder from torchvision's MobileNetV2, trained on normalised RGB.

        A gray image g in [0, 1] is to torchvision's network the RGB image (g, g, g), normalised by the ImageNet
        mean m and deviation s. Its first convolution, of weights w, then computes, for each output channel,
        the sum over colours c of w_c * (g - m_c) / s_c: a convolution of g with the sum of w_c / s_c, less a
        constant. The sum (not the mean) of the colours' weights becomes the gray weight, and the constant
        goes into the running mean of the batch normalisation that follows. Both are exact but for the one-pixel
        frame of zero padding, which stands for black here and for mean gray in torchvision.

        Parameters
        ----------
        state_dict
            State dict of ``torchvision.models.mobilenet_v2`` (width 1.0; its last 1x1 convolution and the
            classifier are not used). None takes torchvision's ``IMAGENET1K_V1`` weights, which torchvision
            downloads the first time.

        Raises
        ------
        MissingDependencyError, LibraryError
            If `state_dict` is None and torchvision is not installed, or is and cannot be imported.
        GCNv2Error
            If an entry is missing or has another shape.
        """
        source = _torchvision_state_dict() if state_dict is None else state_dict
        target = self.features.state_dict()
        converted: dict[str, Tensor] = {}
        for name, parameter in target.items():
            # Absent from state dicts older than torch 0.4.1; it only counts.
            if name.endswith("num_batches_tracked") and f"features.{name}" not in source:
                converted[name] = parameter
                continue
            shape = (_STEM_CHANNELS, 3, 3, 3) if name == "0.0.weight" else tuple(parameter.shape)
            given = source.get(f"features.{name}")
            if given is None or tuple(given.shape) != shape:
                found = "is missing" if given is None else f"has the shape {tuple(given.shape)}"
                raise GCNv2Error(
                    f"not a state dict of torchvision's mobilenet_v2: features.{name} {found}, expected {shape}"
                )
            converted[name] = given.detach().to(parameter.dtype)
        rgb = converted["0.0.weight"].double()
        mean = torch.tensor(_IMAGENET_MEAN, dtype=torch.float64).view(1, 3, 1, 1)
        deviation = torch.tensor(_IMAGENET_STD, dtype=torch.float64).view(1, 3, 1, 1)
        constant = (rgb * mean / deviation).sum(dim=(1, 2, 3))
        converted["0.0.weight"] = (rgb / deviation).sum(dim=1, keepdim=True).float()
        converted["0.1.running_mean"] = (converted["0.1.running_mean"].double() + constant).float()
        self.features.load_state_dict(converted)


def _head_convolution(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, _HEAD_CHANNELS, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(_HEAD_CHANNELS)
    )


def _torchvision_state_dict() -> Mapping[str, Tensor]:
    torchvision = import_library("torchvision", "loading MobileNetV2's ImageNet weights", "pip install torchvision")
    weights = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1
    return torchvision.models.mobilenet_v2(weights=weights).state_dict()
