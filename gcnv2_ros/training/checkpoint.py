# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: everything a run needs to go on exactly where it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import GCNv2Error
from ..files import atomic_path


class CheckpointError(GCNv2Error):
    """A checkpoint that is missing, damaged or of another training."""


@dataclass(frozen=True)
class Checkpoint:
    """A training's state after `step` steps.

    Which pairs come next, and the warps and noise in them, follow from the configuration's seed and the step: no
    random state needs storing.

    Attributes
    ----------
    step
        Optimiser steps done.
    network, average
        State dictionaries of the trained network and of its moving average, normalisation included.
    optimisers
        State dictionaries of the optimisers, by name.
    config
        The configuration as plain values.
    history
        Validation figures so far, one dictionary each.
    pairs
        Training pairs seen so far, by all processes together.
    initial
        SHA-256 and training record of the weights that the run began with; empty for one from scratch.
    """

    step: int
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimisers: dict[str, dict[str, Any]]
    config: dict[str, Any]
    history: list[dict[str, Any]]
    pairs: int
    initial: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a kill at any moment leaves either the old or the new one."""
    with atomic_path(path) as temporary:
        torch.save(vars(checkpoint), temporary)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        If the file does not exist or is not a checkpoint of this package.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(**content)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the training checkpoint: {error.strerror or error}") from error
    # Whatever unpickling runs into. What torch says of it advises against the safety of `weights_only`.
    except Exception as error:
        raise CheckpointError(
            f"{path}: not a readable training checkpoint; expected one that `gcnv2 train` wrote, as last.pt in the "
            "folder of its run"
        ) from error
