# SPDX-License-Identifier: Apache-2.0
"""The training loop: one process on a CPU or GPU, or one per GPU under torchrun."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..errors import GCNv2Error
from ..networks.common import FeatureNetwork
from ..weights import Weights, load_weights
from .checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from .config import ScheduleOptions, TrainingConfig, config_from_dict
from .devices import process_device
from .fold import fold_normalisation, unfold_normalisation
from .losses import compute_losses
from .optimiser import continue_optimiser, create_optimisers
from .pairs import PairDataset, PairSource
from .trainable import continue_sampling, create_trainable, learned_sampling

# What may differ between a checkpoint and the configuration that continues it.
_MAY_CHANGE = {"schedule", "data", "initial_weights"}
# Pairs on which the normalisation of given weights is measured.
_MEASURED_PAIRS = 32


class TrainingError(GCNv2Error):
    """A training that cannot go on."""


@dataclass(frozen=True)
class StepReport:
    """What one step says of itself.

    Attributes
    ----------
    step
        Steps done, this one included.
    losses
        By name; ``loss`` is their weighted sum.
    stuck_bits
        Share of descriptor bits that have one value at more than 97% of the sampled points.
    score_contrast
        99.9th percentile minus median of the detector's scores: near 0 when the detector is flat.
    learning_rate
        Of this step.
    """

    step: int
    losses: dict[str, float]
    stuck_bits: float
    score_contrast: float
    learning_rate: float

    def warnings(self) -> list[str]:
        """Signs of collapse, as sentences."""
        found = []
        if self.stuck_bits > 0.1:
            found.append(
                f"{self.stuck_bits:.0%} of the descriptor bits hardly ever change at step {self.step}: the descriptor "
                "is collapsing; lower the learning rate or check the pictures"
            )
        if self.step > 2000 and self.score_contrast < 0.05:
            found.append(
                f"the detector's scores are flat (contrast {self.score_contrast:.3f}) at step {self.step}: raise "
                "loss.detector_weight or check the keypoints of the training pictures"
            )
        return found


class _Heads(nn.Module):
    """The network as training sees it: unnormalised descriptor channels and detector logits."""

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.network.encode(images)
        logits = nn.functional.pixel_shuffle(self.network.detector_logits(encoded), self.network.stride)
        return self.network.descriptor_channels(encoded), logits


def learning_rate(step: int, schedule: ScheduleOptions) -> float:
    """Learning rate of the step that follows `step` done steps; see `ScheduleOptions`."""
    if step < schedule.warmup:
        return schedule.learning_rate * (step + 1) / schedule.warmup
    left = schedule.steps - step
    if left < schedule.decay:
        return schedule.learning_rate * (1 - math.cos(math.pi * left / schedule.decay)) / 2
    return schedule.learning_rate


class Trainer:
    """One training run in one folder.

    Parameters
    ----------
    config
        What to train, on what, for how long.
    folder
        Gets ``last.pt`` (the full state), ``before_decay.pt`` (the state at the end of the constant rate) and what
        the schedule's `keep_every` asks for. If it holds a state already, the run continues from there.
    sources
        Pair sources with their shares.
    device
        Where to train; see `gcnv2_ros.training.devices.process_device`.

    Raises
    ------
    CheckpointError
        If the folder's state belongs to a configuration that differs in more than schedule, data or initial weights.
    ConfigError
        If the folder's state has an option that there is not.
    WeightsError
        If the initial weights are missing or do not fit the network.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: str | Path,
        sources: list[tuple[PairSource, float]],
        *,
        device: str = "cpu",
    ) -> None:
        self.config = config
        self.folder = Path(folder)
        self.sources = sources
        self.device = torch.device(process_device(device, os.environ))
        self.processes = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.device.type == "cuda" and self.processes > 1:
            # NCCL communicates by the current GPU, which must be another one in each process.
            torch.cuda.set_device(self.device)
        torch.manual_seed(config.seed)
        self.network = create_trainable(config).to(self.device)
        self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.heads: nn.Module = _Heads(self.network)
        if self.processes > 1:
            torch.distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            self.heads = nn.parallel.DistributedDataParallel(self.heads)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimisers = create_optimisers(self.network, config.schedule)
        self.step = 0
        self.pairs = 0
        self.history: list[dict[str, Any]] = []
        self.initial: dict[str, Any] = {}
        if (self.folder / "last.pt").exists():
            self._restore(load_checkpoint(self.folder / "last.pt"))
        elif config.initial_weights:
            self._begin_with(load_weights(config.initial_weights, model=config.model))

    def _begin_with(self, weights: Weights) -> None:
        dataset = self._dataset()
        images = torch.cat([dataset[number]["images"] for number in range(min(_MEASURED_PAIRS, len(dataset)))])
        images = (images.float() / 255).to(self.device, memory_format=torch.channels_last)
        unfold_normalisation(self.network, weights.state_dict, images)
        learned = learned_sampling(self.network)
        if learned is not None and weights.learned_sampling is not None:
            continue_sampling(learned, weights.learned_sampling)
        self.average.load_state_dict(self.network.state_dict())
        self.initial = {"sha256": weights.sha256, "training": dict(weights.metadata.training)}

    def _restore(self, checkpoint: Checkpoint) -> None:
        current = self.config.to_dict()
        # Options that came later have their defaults.
        trained = config_from_dict(checkpoint.config, source=str(self.folder / "last.pt")).to_dict()
        for key, value in trained.items():
            if key not in _MAY_CHANGE and current[key] != value:
                raise CheckpointError(
                    f"{self.folder / 'last.pt'} was trained with {key} = {value}, the configuration says "
                    f"{current[key]}; use another folder, or go back to the old value"
                )
        self.network.load_state_dict(checkpoint.network)
        self.average.load_state_dict(checkpoint.average)
        if set(checkpoint.optimisers) != set(self.optimisers):
            raise CheckpointError(
                f"{self.folder / 'last.pt'} was trained with the optimisers {', '.join(checkpoint.optimisers)}, the "
                f"configuration (schedule.optimiser) asks for {', '.join(self.optimisers)}; use another folder"
            )
        for name, optimiser in self.optimisers.items():
            continue_optimiser(optimiser, checkpoint.optimisers[name])
        self.step = checkpoint.step
        self.pairs = checkpoint.pairs
        self.history = list(checkpoint.history)
        self.initial = checkpoint.initial

    def save(self, name: str = "last.pt") -> None:
        """Write the full state to `name` in the folder (rank 0 only)."""
        if self.rank == 0:
            save_checkpoint(
                self.folder / name,
                Checkpoint(
                    step=self.step,
                    network=self.network.state_dict(),
                    average=self.average.state_dict(),
                    optimisers={name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
                    config=self.config.to_dict(),
                    history=self.history,
                    pairs=self.pairs,
                    initial=self.initial,
                ),
            )

    def released_network(self) -> FeatureNetwork:
        """The moving average with its normalisation folded away: the network that is validated and exported."""
        return fold_normalisation(self.average)

    def _dataset(self) -> PairDataset:
        schedule = self.config.schedule
        return PairDataset(
            self.sources,
            size=self.config.data.size,
            target=self.config.target,
            seed=self.config.seed,
            count=schedule.steps * schedule.batch * self.processes,
        )

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        schedule, data = self.config.schedule, self.config.data
        per_step = schedule.batch * self.processes
        numbers = [
            step * per_step + self.rank * schedule.batch + item
            for step in range(self.step, schedule.steps)
            for item in range(schedule.batch)
        ]
        loader = DataLoader(
            self._dataset(),
            batch_size=schedule.batch,
            sampler=numbers,
            num_workers=data.workers,
            prefetch_factor=4 if data.workers else None,
            pin_memory=self.device.type == "cuda",
        )
        return iter(loader)

    def run(
        self,
        *,
        on_step: Callable[[StepReport], None],
        validate: Callable[[FeatureNetwork], dict[str, float]] | None = None,
        until: int | None = None,
    ) -> None:
        """Train until the schedule's end, or until `until` steps are done.

        Parameters
        ----------
        on_step
            Called after every step.
        validate
            Called with the released network every ``validate_every`` steps and at the end; its figures join the
            history.
        until
            Stop early, as a kill would; the next run goes on from there.

        Raises
        ------
        TrainingError
            If the gradient of the loss is not finite, from which no training recovers. The folder is left as it was at
            the last checkpoint.
        """
        schedule = self.config.schedule
        end = min(schedule.steps, until if until is not None else schedule.steps)
        if self.step >= end:
            return
        for batch in self._batches():
            if self.step == schedule.steps - schedule.decay:
                self.save("before_decay.pt")
            report = self._one_step(batch)
            on_step(report)
            last = self.step >= end
            due = self.step % schedule.validate_every == 0 or self.step == schedule.steps
            if validate is not None and due and self.rank == 0:
                self.history.append({"step": self.step, **validate(self.released_network())})
            if last or self.step % schedule.checkpoint_every == 0:
                self.save()
            if schedule.keep_every and self.step % schedule.keep_every == 0:
                self.save(f"at_{self.step}.pt")
            if last:
                break

    def _one_step(self, batch: dict[str, Tensor]) -> StepReport:
        schedule = self.config.schedule
        rate = learning_rate(self.step, schedule)
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = group["full_lr"] * rate / schedule.learning_rate
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        # First views, then second views: (2 B, 1, H, W).
        images, targets, valid = (batch[name].transpose(0, 1).flatten(0, 1) for name in ("images", "targets", "valid"))
        images = (images.float() / 255).contiguous(memory_format=torch.channels_last)
        self.heads.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=schedule.precision == "bf16"):
            channels, logits = self.heads(images)
            losses, codes = compute_losses(
                channels.float(),
                logits.float(),
                targets,
                valid,
                batch,
                self.config.loss,
                learned=learned_sampling(self.network),
            )
        self.network.zero_grad(set_to_none=True)
        losses["loss"].backward()
        # The same in all processes, since their gradients are.
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), schedule.clip)
        if not torch.isfinite(norm):
            raise self._diverged(losses["loss"].item())
        for optimiser in self.optimisers.values():
            optimiser.step()
        self.step += 1
        self.pairs += schedule.batch * self.processes
        self._update_average()
        with torch.no_grad():
            balance = (codes > 0).float().mean(dim=0)
            scores = torch.sigmoid(logits.detach().flatten()[::61])
            ordered = scores.sort().values
            contrast = ordered[int(0.999 * (len(ordered) - 1))] - ordered[len(ordered) // 2]
        return StepReport(
            step=self.step,
            losses={name: value.item() for name, value in losses.items()},
            stuck_bits=((balance < 0.03) | (balance > 0.97)).float().mean().item(),
            score_contrast=contrast.item(),
            learning_rate=rate,
        )

    def _diverged(self, loss: float) -> TrainingError:
        kept = self.folder / "last.pt"
        where = f"from {kept}" if kept.exists() else "from the start"
        return TrainingError(
            f"{self.folder}: step {self.step + 1} has a loss of {loss:.4g} and a gradient that is not finite; nothing "
            "of it was kept. Lower schedule.learning_rate and schedule.muon_learning_rate, which may change in a run "
            f"that goes on; the same command then goes on {where}"
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on the average follows quickly, so that it does not remember the initial weights.
        decay = min(self.config.schedule.average, (1 + self.step) / (10 + self.step))
        current = dict(self.network.state_dict())
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])
