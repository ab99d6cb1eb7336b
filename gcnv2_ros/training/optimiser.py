# SPDX-License-Identifier: Apache-2.0
"""Muon: gradient descent with orthogonalised momentum, for the weights of convolutions.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (kellerjordan.github.io/posts/muon).
`torch.optim.Muon` takes matrices only and is in recent torch only; this one reads a convolution's weight (O, I, h, w)
as the matrix (O, I h w).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..weights import KERNEL_NAME, MIXING_NAME
from .config import ScheduleOptions

SAMPLING_RATE = 4.0
"""The coefficients of ``learned`` sampling grow for many thousands of steps at the rate of the other parameters."""

# Coefficients of the quintic iteration, from the same source: they raise small singular values fast and leave all of
# them between about 0.7 and 1.2, which is as good as 1 for a step's direction.
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: Tensor, *, iterations: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values between about 0.7 and 1.2.

    Parameters
    ----------
    matrix
        Float (M, N).
    iterations
        Of the Newton-Schulz iteration; 5 bring singular values from a thousandth of the largest up.
    dtype
        Of the iteration, which its authors found steady in bfloat16.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    value = matrix.T if tall else matrix
    value = (value / (value.norm() + 1e-7)).to(dtype)
    linear, cubic, quintic = _QUINTIC
    for _ in range(iterations):
        gram = value @ value.T
        value = linear * value + torch.addmm(cubic * gram, gram, gram, beta=1.0, alpha=quintic) @ value
    return (value.T if tall else value).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum.

    Under `torch.distributed` each process orthogonalises its share of the weights and gets the others' results.

    Parameters
    ----------
    parameters
        Weights with at least two dimensions.
    lr
        Length of a step: the root-mean-square gain of the update as a linear map, times the square root of
        rows / columns where there are more rows.
    momentum
        Of the running mean of the gradients.
    dtype
        Of the orthogonalisation.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Do one step."""
        loss = None if closure is None else closure()
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, processes = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            # By falling size, so that the shares of the processes are about equal.
            parameters.sort(key=Tensor.numel, reverse=True)
            updates = []
            for position, parameter in enumerate(parameters):
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                if position % processes == rank:
                    ahead = parameter.grad.lerp(momentum, group["momentum"])
                    updates.append(orthogonalise(ahead.flatten(1), dtype=self._dtype).reshape(parameter.shape))
                else:
                    updates.append(torch.zeros(parameter.shape, dtype=parameter.dtype, device=parameter.device))
            if processes > 1 and updates:
                flat = torch.cat([update.flatten() for update in updates])
                torch.distributed.all_reduce(flat)
                pieces = flat.split([update.numel() for update in updates])
                updates = [piece.view(update.shape) for piece, update in zip(pieces, updates, strict=True)]
            for parameter, update in zip(parameters, updates, strict=True):
                rows, columns = parameter.shape[0], parameter[0].numel()
                parameter.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
        return loss


def create_optimisers(network: nn.Module, schedule: ScheduleOptions) -> dict[str, torch.optim.Optimizer]:
    """The optimisers of a network by name; each group's ``full_lr`` is its learning rate outside warm-up and decay.

    With ``muon`` the weights of all convolutions but the first go to Muon, biases and normalisation to AdamW. Muon's
    authors leave output layers to AdamW too; the detector's learnt faster with Muon. The rate of the
    coefficients of ``learned`` sampling is `SAMPLING_RATE` times that of AdamW's other parameters.
    """
    of_sampling: list[nn.Parameter] = []
    parameters: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (of_sampling if name in (KERNEL_NAME, MIXING_NAME) else parameters).append(parameter)
    matrices: list[nn.Parameter] = []
    if schedule.optimiser == "muon":
        matrices = [parameter for parameter in parameters if parameter.ndim == 4 and parameter.shape[1] > 1]
    taken = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in parameters if id(parameter) not in taken]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if of_sampling:
        groups.append({"params": of_sampling, "weight_decay": 0.0, "lr": SAMPLING_RATE * schedule.learning_rate})
    optimisers: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(
            groups,
            lr=schedule.learning_rate,
            betas=(0.9, 0.98),
        )
    }
    if matrices:
        dtype = torch.bfloat16 if schedule.precision == "bf16" else torch.float32
        optimisers["muon"] = Muon(matrices, lr=schedule.muon_learning_rate, dtype=dtype)
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["full_lr"] = group["lr"]
    return optimisers


def continue_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the `state` of an earlier optimiser into one that `create_optimisers` made.

    Learning rate and weight decay stay those that it was made with: a schedule may change between checkpoint and
    continuation, and `load_state_dict` alone would bring back the old ones.
    """
    names = ("full_lr", "weight_decay")
    kept = [{name: group[name] for name in names if name in group} for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, values in zip(optimiser.param_groups, kept, strict=True):
        group.update(values)
