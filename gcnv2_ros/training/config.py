# SPDX-License-Identifier: Apache-2.0
"""The training configuration: one YAML file, read into frozen dataclasses that know their own defaults."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ..errors import GCNv2Error
from .correspondence import TrainedSampling
from .limits import out_of_range
from .pairs import TargetOptions
from .photometric import PhotometricOptions
from .warps import WarpOptions


class ConfigError(GCNv2Error):
    """A training configuration that does not say what it should."""


@dataclass(frozen=True)
class DataOptions:
    """Where pairs come from.

    Attributes
    ----------
    pictures
        Folders made by `gcnv2 train-prepare`. One that is named twice counts twice when pictures are drawn.
    sequences
        Sequences with depth and pose for geometric pairs, as `gcnv2_ros.sequences.open_sequence` takes them.
    sequence_share
        Share of the pairs that come from `sequences`, in [0, 1). Their detector targets are Shi-Tomasi corners.
    validation
        Folders of photographs with an ``index.csv``, whose ``validation`` split the figures are of that are made as
        training goes; a folder without one has no such split and is refused.
    size
        Width and height of the views in pixels, multiples of 16.
    workers
        Loader processes; 0 loads in the training process.
    """

    pictures: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    sequence_share: float = 0.2
    validation: tuple[str, ...] = ()
    size: tuple[int, int] = (256, 192)
    workers: int = 1


@dataclass(frozen=True)
class LossOptions:
    """What is minimised. See `gcnv2_ros.training.losses`.

    Attributes
    ----------
    descriptor
        ``contrastive``, or ``triplet`` as in the GCNv2 paper.
    sampling
        How descriptors are read from the dense map, in training and with the weights that are exported: ``learned``,
        by kernels of the channels that are trained with the network, ``bicubic``, or ``half_pixel``, which is
        bilinear.
    temperature, relaxed_weight
        Of the contrastive loss; the second is the weight of the same loss on the codes before the sign.
    margin
        Of the triplet loss.
    radius
        Positions nearer than this to the match are neither right nor wrong, in pixels.
    across_batch
        Compare with the positions of the whole batch instead of those of the pair alone.
    distractor_step
        Step of a grid of further positions to compare with, in pixels; 0 adds none.
    detector
        ``score_map``, or ``corners`` as in the GCNv2 paper.
    focus
        Exponent of the score-map loss.
    positive_weight
        Of the corner loss.
    detector_weight
        Weight of the detector's loss beside the descriptor's.
    """

    descriptor: Literal["contrastive", "triplet"] = "contrastive"
    sampling: TrainedSampling = "learned"
    temperature: float = 0.06
    relaxed_weight: float = 0.3
    margin: float = 1.0
    radius: float = 4.0
    across_batch: bool = False
    distractor_step: int = 0
    detector: Literal["score_map", "corners"] = "score_map"
    focus: float = 0.0
    positive_weight: float = 60.0
    detector_weight: float = 6.0


@dataclass(frozen=True)
class ScheduleOptions:
    """How long, and how fast.

    The learning rate rises over `warmup` steps, stays, and falls to nothing as a half cosine over the last `decay`
    of `steps`. A checkpoint from before the fall is kept, so that a finished training can be made longer.

    Attributes
    ----------
    steps, warmup, decay
        In optimiser steps.
    batch
        Pairs per step and process.
    optimiser
        ``muon`` for the hidden convolutions and AdamW for the rest, or ``adamw`` for all.
    learning_rate, weight_decay, clip
        Of AdamW; `clip` bounds the gradient's norm.
    muon_learning_rate
        Of Muon; it rises and falls with the other.
    precision
        Of the network's forward and backward pass, of the descriptors' similarities and of Muon's orthogonalisation:
        ``fp32``, or ``bf16``, where weights, losses and the optimisers' states stay in fp32. bf16 is faster on GPUs and
        on processors with AVX512-BF16 or AMX, and far slower on others.
    average
        Decay of the exponential moving average of the weights; the average is what is validated and exported.
    validate_every, checkpoint_every
        In steps, 1 or more.
    keep_every
        In steps; such a checkpoint is kept as ``at_STEP.pt``, for a mean of several (`train-export --checkpoints`).
        0 keeps none.
    """

    steps: int = 60000
    warmup: int = 500
    decay: int = 12000
    batch: int = 4
    optimiser: Literal["muon", "adamw"] = "muon"
    learning_rate: float = 2e-3
    muon_learning_rate: float = 0.02
    weight_decay: float = 1e-4
    clip: float = 10.0
    precision: Literal["fp32", "bf16"] = "fp32"
    average: float = 0.999
    validate_every: int = 2000
    checkpoint_every: int = 500
    keep_every: int = 0


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that a training run depends on.

    Attributes
    ----------
    model
        Name of the network.
    seed
        Of initial weights and of the sequence of pairs.
    initial_weights
        Weights to train further: ``default`` for those that the package ships, or a weights file. Empty: from scratch.
    """

    model: str = "gcnv2_tiny"
    seed: int = 0
    initial_weights: str = ""
    data: DataOptions = field(default_factory=DataOptions)
    warp: WarpOptions = field(default_factory=WarpOptions)
    photometric: PhotometricOptions = field(default_factory=PhotometricOptions)
    target: TargetOptions = field(default_factory=TargetOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and for the record in checkpoints and weights."""
        return dataclasses.asdict(self)


def load_config(path: str | Path) -> TrainingConfig:
    """Read a configuration; keys that are left out keep their defaults.

    Where there is an entry ``based_on``, the name of another configuration relative to the file's folder, they keep
    what that one says.

    Raises
    ------
    ConfigError
        If the file or one that it is based on is missing, is no YAML mapping, or holds a key or value that does not
        belong there, or if a file is based on itself.
    """
    path = Path(path)
    return config_from_dict(_read(path, ()), source=str(path))


def _read(path: Path, derived: tuple[Path, ...]) -> Any:
    """The content of a file with that of the files it is based on; `derived` are those that are based on it."""
    chain = (*derived, path)
    if path.resolve() in [other.resolve() for other in derived]:
        raise ConfigError(f"{derived[0]}: based_on leads back to where it began: {' -> '.join(map(str, chain))}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        asked = f", on which {derived[-1]} is based" if derived else ""
        raise ConfigError(f"{path}{asked}: cannot read the training configuration: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no text in UTF-8; expected a training configuration in YAML") from error
    # What looks like a date and is none is a ValueError.
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict) or "based_on" not in content:
        return content or {}
    base = content.pop("based_on")
    if not isinstance(base, str):
        raise ConfigError(f"{path}: based_on must be the name of a file, got {base!r}")
    base_path = path.parent / base
    base_content = _read(base_path, chain)
    # So that an error in it is told of the right file.
    config_from_dict(base_content, source=str(base_path))
    return _changed(base_content, content)


def _changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with other values; those of a section that both have are exchanged one by one."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _changed(base[key], value) if both else value
    return merged


def config_from_dict(content: Any, *, source: str = "configuration") -> TrainingConfig:
    """Build a configuration from plain values; `source` names them in errors."""
    config = _build(TrainingConfig, content, source, "")
    if (wrong := out_of_range(config)) is not None:
        raise ConfigError(f"{source}: {wrong}")
    if any(extent % 16 for extent in config.data.size):
        raise ConfigError(f"{source}: data.size must be multiples of 16 from 32 up, got {list(config.data.size)}")
    if not 0 <= config.data.sequence_share < 1:
        raise ConfigError(f"{source}: data.sequence_share must be in [0, 1), got {config.data.sequence_share}")
    if config.schedule.warmup + config.schedule.decay > config.schedule.steps:
        raise ConfigError(
            f"{source}: schedule.warmup + schedule.decay exceed schedule.steps = {config.schedule.steps}; lower them"
        )
    return config


def _build(kind: type, content: Any, source: str, prefix: str) -> Any:
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: {prefix or 'the file'} must be a mapping of names to values, got {content!r}")
    hints = typing.get_type_hints(kind)
    unknown = [key for key in content if key not in hints]
    if unknown:
        raise ConfigError(f"{source}: no such key {prefix}{unknown[0]}; known here: {', '.join(hints)}")
    values = {key: _convert(hints[key], value, source, f"{prefix}{key}") for key, value in content.items()}
    return kind(**values)


def _convert(hint: Any, value: Any, source: str, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, source, f"{name}.")  # type: ignore[arg-type]
    origin = typing.get_origin(hint)
    if origin is Literal:
        if value in typing.get_args(hint):
            return value
        raise ConfigError(f"{source}: {name} must be one of {', '.join(typing.get_args(hint))}, got {value!r}")
    if origin is tuple:
        inner = typing.get_args(hint)
        if not isinstance(value, list | tuple) or (inner[-1] is not ... and len(value) != len(inner)):
            raise ConfigError(
                f"{source}: {name} must be a list of {'values' if inner[-1] is ... else len(inner)}, got {value!r}"
            )
        return tuple(_convert(inner[0], item, source, name) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ConfigError(f"{source}: {name} is beyond the largest float there is") from error
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 2e-3 as text.
        try:
            return float(value)
        except ValueError:
            pass
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{source}: {name} must be {hint.__name__}, got {value!r}")
    return value
