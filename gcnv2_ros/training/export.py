# SPDX-License-Identifier: Apache-2.0
"""From a training run to a weights file: fold, choose thresholds, record how it was made."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..extraction import DecodeOptions, ExtractorOptions
from ..image_size import size_text
from ..networks.common import FeatureNetwork
from ..sequences.reading import read_gray
from ..weights import Detector, Sampling, Weights, WeightsError, WeightsMetadata, load_weights, save_weights
from .checkpoint import load_checkpoint
from .config import config_from_dict
from .fold import fold_normalisation
from .pictures import find_photographs, tile_paths
from .trainable import create_trainable, released_state
from .validation import CANDIDATES, INPUT_SIZES, Validation, extractor_of

_KEYPOINTS_AT_THRESHOLD = {(640, 480): 1000, (320, 240): 500}
_THRESHOLD_PICTURES = 40
_SMOOTHINGS = (0.0, 0.7, 1.0, 1.3, 1.6, 2.0)
# As shares of the distance that training keeps. Close peaks may differ by a pixel from view to view, and a smaller
# input shows the same scene with fewer pixels. Lower ones would be matched better still, and be worth less: such
# keypoints crowd together.
_LEAST_RADIUS = {(640, 480): 0.75, (320, 240): 0.5}


def recommend_decoding(
    network: FeatureNetwork, pictures: Sequence[Path], *, apart: int, sampling: Sampling, pairs: int = 24
) -> tuple[Detector, dict[str, int], dict[str, float]]:
    """With what keypoints, and how the score map is read, the validation pairs are matched most accurately.

    Parameters
    ----------
    network
        Without normalisation.
    pictures
        Set aside from training.
    apart
        How many pixels training keeps keypoints apart. It is the largest radius that is tried.
    sampling
        How the network was trained to be read.
    pairs
        How many pairs are matched.

    Returns
    -------
    detector : str
        ``blobs`` if they are matched better than the network's own keypoints, on average over the input sizes.
    nms_radius : dict
        The score map's best radius per input size.
    smoothing : dict
        The best smoothing with it, per input size.
    """
    validation = Validation(list(pictures), count=pairs, sampling=sampling)
    nms_radius, smoothing = {}, {}
    advantage = 0.0
    for size in INPUT_SIZES:
        radii = range(max(round(_LEAST_RADIUS[size] * apart), 1), max(apart, 1) + 1)
        accuracy = validation.accuracy_by_decoding(network, size, radii=radii, smoothings=_SMOOTHINGS)
        name = size_text(*size)
        nms_radius[name], smoothing[name] = max(accuracy, key=lambda choice: (accuracy[choice], *choice))
        advantage += validation.accuracy_of_blobs(network, size) - max(accuracy.values())
    return "blobs" if advantage > 0 else "network", nms_radius, smoothing


def recommend_thresholds(
    network: FeatureNetwork, pictures: Sequence[Path], nms_radius: Mapping[str, int], smoothing: Mapping[str, float]
) -> dict[str, float]:
    """Detector thresholds per input size that leave a typical picture its full number of keypoints.

    The threshold is the lower quartile, over pictures, of the score of the 1000th best keypoint at 640x480 and of the
    500th at 320x240: textured pictures keep that many, plain ones keep fewer.
    """
    thresholds = {}
    for size in INPUT_SIZES:
        wanted, name = _KEYPOINTS_AT_THRESHOLD[size], size_text(*size)
        options = ExtractorOptions(model=network.name, input_width=size[0], input_height=size[1])
        decode = DecodeOptions(
            max_keypoints=wanted,
            score_threshold=0.0,
            candidates=CANDIDATES,
            nms_radius=nms_radius[name],
            smoothing=smoothing[name],
        )
        last = []
        with extractor_of(network, options, decode) as extractor:
            for path in pictures[:_THRESHOLD_PICTURES]:
                response = extractor.extract(read_gray(path)).response
                last.append(float(response[-1]) if len(response) else 0.0)
        value = max(float(np.percentile(last, 25)), 1e-4)
        thresholds[name] = float(f"{value:.2g}")
    return thresholds


def average_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several states of one training, which often does better than each of them.

    Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging Weights Leads to Wider Optima and Better
    Generalization", UAI 2018 (arXiv 1803.05407). Normalisation's running mean and variance are averaged too; whole
    numbers are taken from the last state.
    """
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[-1].items()
    }


def export_run(
    folder: str | Path,
    target: str | Path,
    *,
    checkpoints: Sequence[str] = ("last.pt",),
    weights: Sequence[str | Path] = (),
    note: str = "",
    licence: str = "",
) -> WeightsMetadata:
    """Write the moving average of a run as half-precision weights with metadata.

    Parameters
    ----------
    folder
        Folder of the run.
    target
        The ``.safetensors`` file to write.
    checkpoints
        Names in `folder`, or paths from there; of several the mean of their moving averages is written, under the
        record of the last.
    weights
        Weights files, e.g. those with which the training began; each goes into the mean as the checkpoints together do.
    note
        A sentence for the record.
    licence
        Under which the weights may be used, by its short name; empty where nothing is to be said.

    Raises
    ------
    CheckpointError
        If a checkpoint is missing or not readable.
    WeightsError
        If one of the weights is missing or of another network, or its descriptors are read in another way.
    """
    loaded = [load_checkpoint(Path(folder) / name) for name in checkpoints]
    checkpoint = loaded[-1]
    config = config_from_dict(checkpoint.config, source=str(folder))
    network = create_trainable(config)
    network.load_state_dict(average_weights([one.average for one in loaded]))
    network = fold_normalisation(network)
    others = [load_weights(path, model=config.model) for path in weights]
    network.load_state_dict(average_weights([*(_state_for(network, other) for other in others), network.state_dict()]))
    pictures = [path for where in config.data.validation for path in find_photographs(where, split="validation")]
    recipe = {key: value for key, value in checkpoint.config.items() if key not in ("data", "initial_weights")}
    training: dict[str, Any] = {
        "steps": checkpoint.step,
        "averaged_steps": [one.step for one in loaded],
        "averaged_weights": [other.sha256 for other in others],
        "initial": checkpoint.initial,
        "images": 2 * checkpoint.pairs,
        "recipe": recipe,
        "data": [
            {**_prepared_record(Path(where)), "weight": count} for where, count in Counter(config.data.pictures).items()
        ],
        "sequences": list(config.data.sequences),
        "validation": checkpoint.history[-1] if checkpoint.history else {},
        "revision": _git_revision(),
        "torch": torch.__version__,
        "note": note,
    }
    apart = round(config.target.suppression)
    nms_radius = {size_text(*size): apart for size in INPUT_SIZES}
    smoothing: dict[str, float] = {}
    detector: Detector = "blobs" if config.target.blob_share else "network"
    if pictures:
        detector, nms_radius, smoothing = recommend_decoding(
            network, pictures, apart=apart, sampling=config.loss.sampling
        )
    metadata = WeightsMetadata(
        model=config.model,
        sampling=config.loss.sampling,
        detector=detector,
        score_thresholds=recommend_thresholds(network, pictures, nms_radius, smoothing) if pictures else {},
        smoothing=smoothing,
        candidates=CANDIDATES,
        nms_radius=nms_radius,
        input_sizes=INPUT_SIZES,
        training=share_sources(training),
        licence=licence,
    )
    state, learned = released_state(network)
    save_weights(target, state, metadata, learned_sampling=learned)
    return metadata


def share_sources(training: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a training in which no folder's source is told twice.

    Trainings that begin with each other's weights mostly have the same pictures, and each record holds those of all
    before it.

    Parameters
    ----------
    training
        As `export_run` makes it; records of earlier trainings, under ``initial``, may be results of this function.

    Returns
    -------
    dict
        The same with an entry ``sources``: what was each folder's ``source`` by a digest of it, which stands in its
        place.
    """
    sources: dict[str, Any] = {}

    def without(record: Mapping[str, Any]) -> dict[str, Any]:
        sources.update(record.get("sources", {}))
        shared = {key: value for key, value in record.items() if key != "sources"}
        shared["data"] = [dict(folder) for folder in record.get("data", ())]
        for folder in shared["data"]:
            source = folder.get("source")
            if isinstance(source, Mapping):
                folder["source"] = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:12]
                sources[folder["source"]] = source
        if earlier := record.get("initial", {}).get("training"):
            shared["initial"] = {**record["initial"], "training": without(earlier)}
        return shared

    return {**without(training), "sources": sources}


def _state_for(network: FeatureNetwork, weights: Weights) -> Mapping[str, Tensor]:
    """`weights` under the names of a network without normalisation that reads its descriptors as they do."""
    learned = weights.learned_sampling
    state = {**weights.state_dict, **({} if learned is None else learned.tensors())}
    own = network.state_dict()
    if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in own.items()}:
        raise WeightsError(
            f"{weights.path} cannot be averaged with the training: its sampling is {weights.metadata.sampling}, or its "
            "learned coefficients have another shape"
        )
    return state


def _prepared_record(folder: Path) -> dict[str, Any]:
    """How a folder of training pictures was made: teacher, number, and the corpus where it came from one."""
    record: dict[str, Any] = {"pictures": len(tile_paths(folder))}
    for name in ("prepared.json", "source.json"):
        if (folder / name).exists():
            record[name.removesuffix(".json")] = json.loads((folder / name).read_text(encoding="utf-8"))
    return record


def _git_revision() -> str:
    """The revision of the checkout that this module is in, or an empty string where there is none."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
