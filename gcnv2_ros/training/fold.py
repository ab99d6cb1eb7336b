# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation for training, folded away for release, and brought back to train released weights further.

A network is trained with a `torch.nn.BatchNorm2d` behind every convolution but the detector's last one, and
released without: at inference the normalisation is an affine map of each channel, which the convolution before
it absorbs. The released network is then exactly the published architecture.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..networks.common import FeatureNetwork

_UNNORMALISED = frozenset({"convD_2"})
_NON_AFFINE = frozenset({"convF_2"})


class NormalisedConv2d(nn.Sequential):
    """A convolution without bias, followed by batch normalisation."""

    def __init__(self, convolution: nn.Conv2d, *, affine: bool) -> None:
        bare = nn.Conv2d(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]
            convolution.stride,  # type: ignore[arg-type]
            convolution.padding,  # type: ignore[arg-type]
            bias=False,
        )
        nn.init.kaiming_normal_(bare.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(bare, nn.BatchNorm2d(convolution.out_channels, affine=affine))


def add_normalisation(network: FeatureNetwork) -> FeatureNetwork:
    """Replace the direct `torch.nn.Conv2d` children of `network` by `NormalisedConv2d`, in place.

    The last detector convolution keeps its bias and gets no normalisation: its logits are a probability per
    pixel and their spread carries the confidence. The last descriptor convolution is normalised without a
    learned scale or shift, so that every bit is set for half of the world: no dead bits.
    Networks that bring their own normalisation (gcnv2_mobile) are left as they are inside it.
    """
    for name, child in list(network.named_children()):
        if isinstance(child, nn.Conv2d) and name not in _UNNORMALISED:
            setattr(network, name, NormalisedConv2d(child, affine=name not in _NON_AFFINE))
    return network


def fold_normalisation(network: FeatureNetwork) -> FeatureNetwork:
    """A copy of `network`, in evaluation mode, with every `NormalisedConv2d` folded into one convolution.

    Computed in float64, so that the copy's outputs differ from the original's by float32 rounding only.
    """
    folded = copy.deepcopy(network).eval()
    for name, child in list(folded.named_children()):
        if isinstance(child, NormalisedConv2d):
            convolution, normalisation = child
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(normalisation, nn.BatchNorm2d)
            with torch.no_grad():
                setattr(folded, name, fuse_conv_bn_eval(convolution.double(), normalisation.double()).float())
    return folded.requires_grad_(False)


@torch.no_grad()
def unfold_normalisation(network: FeatureNetwork, state: Mapping[str, Tensor], images: Tensor) -> None:
    """Load released weights into a network with normalisation, in place, so that it computes what they compute.

    What the folded normalisation had subtracted and divided by is gone. It is measured anew on `images`, with scale
    and shift set so that each layer's output stays as it was. The last descriptor convolution learns neither; what it
    had subtracted is its bias, and training measures it again.

    Parameters
    ----------
    network
        As `add_normalisation` leaves it.
    state
        State dictionary of the network without normalisation.
    images
        float (B, 1, H, W) in [0, 1], like those that it will be trained on.
    """
    normalised = {name: child for name, child in network.named_children() if isinstance(child, NormalisedConv2d)}
    inner = {}
    for name, value in state.items():
        layer, _, parameter = name.partition(".")
        if layer not in normalised:
            inner[name] = value
        elif parameter == "weight":
            inner[f"{layer}.0.weight"] = value
    network.load_state_dict(inner, strict=False)

    def measure(layer: nn.Module, inputs: tuple[Tensor, ...], name: str) -> None:
        convolution, normalisation = layer.children()
        assert isinstance(normalisation, nn.BatchNorm2d)
        assert normalisation.running_mean is not None
        assert normalisation.running_var is not None
        bias = state[f"{name}.bias"].to(normalisation.running_mean.device)
        if normalisation.affine:
            variance, mean = torch.var_mean(convolution(inputs[0]), dim=(0, 2, 3), correction=0)
            normalisation.weight.copy_((variance + normalisation.eps).sqrt())
            normalisation.bias.copy_(bias + mean)
        else:
            variance, mean = torch.ones_like(bias) - normalisation.eps, -bias
        normalisation.running_mean.copy_(mean)
        normalisation.running_var.copy_(variance)

    hooks = [layer.register_forward_pre_hook(partial(measure, name=name)) for name, layer in normalised.items()]
    training = network.training
    network.eval()
    network.forward(images)
    network.train(training)
    for hook in hooks:
        hook.remove()
