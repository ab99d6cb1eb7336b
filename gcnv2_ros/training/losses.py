# SPDX-License-Identifier: Apache-2.0
"""Losses for descriptors and for the detector."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..weights import LearnedSampling
from .config import LossOptions
from .correspondence import Correspondences, sample_correspondences


def relax(channels: Tensor) -> Tensor:
    """Smooth stand-in for the sign: tanh of the channels scaled to unit root mean square. (..., C) to (..., C)."""
    return torch.tanh(functional.normalize(channels, dim=-1) * channels.shape[-1] ** 0.5)


def binarise(channels: Tensor) -> Tensor:
    """Sign with a straight-through gradient: +1 or -1 forward, the gradient of `relax` backward."""
    smooth = relax(channels)
    return smooth + (torch.where(channels > 0, 1.0, -1.0) - smooth).detach()


def contrastive(
    pairs: Correspondences, *, temperature: float, radius: float, across_batch: bool, binary: bool
) -> Tensor:
    """Two-way InfoNCE: each point against all others of its image or of the batch, the match being the right answer.

    van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018 (arXiv 1807.03748),
    eq. 4, applied to similarities of codes in [-1, 1].

    Parameters
    ----------
    pairs
        Sampled correspondences.
    temperature
        Divides the similarities.
    radius
        Positions nearer than this to the match are neither right nor wrong, in pixels.
    across_batch
        Take the other images' positions as negatives too.
    binary
        Compare signs (straight-through) rather than their smooth relaxation.

    Returns
    -------
    torch.Tensor
        The mean over the valid queries; 0, with a gradient of 0, where there is none.
    """
    encode = binarise if binary else relax
    channels = pairs.query.shape[-1]
    query, database = encode(pairs.query), encode(pairs.database)
    similarity = pairs.similarity(query, database, across_batch=across_batch).float() / (channels * temperature)
    neutral = pairs.neutral(radius, across_batch=across_batch)
    valid = pairs.query_valid
    batch, queries = valid.shape
    positions = pairs.database_uv.shape[1]
    right = torch.arange(queries, device=valid.device).expand(batch, -1)
    if across_batch:
        right = (right + positions * torch.arange(batch, device=valid.device)[:, None]).reshape(1, -1)
        valid = valid.reshape(1, -1)
    forward = _mean_cross_entropy(similarity.masked_fill(neutral, -1e4)[valid], right[valid])
    # The way back has the same similarities, but other neighbours that do not count: those in the first image.
    mirrored = Correspondences(
        pairs.query_uv, pairs.query_uv, pairs.query, pairs.query, pairs.query_valid, pairs.query_valid
    )
    if across_batch:
        own = similarity.view(batch * queries, batch, positions)[:, :, :queries].reshape(1, batch * queries, -1)
    else:
        own = similarity[:, :, :queries]
    right = torch.arange(own.shape[1], device=valid.device).expand(len(own), -1)
    back = own.transpose(1, 2).masked_fill(mirrored.neutral(radius, across_batch=across_batch), -1e4)
    return (forward + _mean_cross_entropy(back[valid], right[valid])) / 2


def _mean_cross_entropy(logits: Tensor, right: Tensor) -> Tensor:
    """Of logits (N, C) and the right classes (N,); 0 where N is 0, of which PyTorch's own mean is NaN."""
    return functional.cross_entropy(logits, right, reduction="sum") / max(len(right), 1)


def relaxed_triplet(pairs: Correspondences, *, margin: float, radius: float, across_batch: bool) -> Tensor:
    """The GCNv2 paper's descriptor loss: triplets with relaxed hard negatives on the binary code.

    Tang et al. 2019 (arXiv 1902.11046), section III-A. For each query the negative is the database position nearest
    in descriptor space among those farther than `radius` pixels from the match.

    Parameters
    ----------
    pairs, radius, across_batch
        As for `contrastive`.
    margin
        In units of squared distance between codes of unit length (0 equal, 4 opposite).

    Returns
    -------
    torch.Tensor
        As of `contrastive`.
    """
    channels = pairs.query.shape[-1]
    query, database = binarise(pairs.query), binarise(pairs.database)
    distance = 2 - 2 * pairs.similarity(query, database, across_batch=across_batch) / channels
    positive = 2 - 2 * (query * database[:, : query.shape[1]]).sum(dim=-1) / channels
    own = torch.zeros_like(distance, dtype=torch.bool)
    batch, queries = pairs.query_valid.shape
    positions = pairs.database_uv.shape[1]
    if across_batch:
        right = torch.arange(queries) + positions * torch.arange(batch)[:, None]
        own[0, torch.arange(batch * queries), right.flatten()] = True
    else:
        own[:, torch.arange(queries), torch.arange(queries)] = True
    negative = distance.masked_fill(pairs.neutral(radius, across_batch=across_batch) | own, 8.0).amin(dim=-1)
    valid = pairs.query_valid
    losses = functional.relu(margin + positive - negative.view(batch, queries))[valid]
    # As in `_mean_cross_entropy`, 0 where there is none.
    return losses.sum() / max(len(losses), 1)


def score_map_loss(logits: Tensor, targets: Tensor, valid: Tensor, *, focus: float) -> Tensor:
    """Binary cross-entropy between score and target map, weighted by how wrong the score is.

    Li et al., "Generalized Focal Loss", NeurIPS 2020 (arXiv 2006.04388), eq. 2: the weight is |score - target|^focus;
    with `focus` 0 it is the plain cross-entropy. The sum is divided by the sum of the targets, so that the loss does
    not depend on how many keypoints there are.

    Parameters
    ----------
    logits, targets, valid
        (B, 1, H, W); targets in [0, 1], valid bool.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if focus:
        loss = loss * (torch.sigmoid(logits) - targets).abs().pow(focus)
    return (loss * valid).sum() / (targets * valid).sum().clamp_min(1.0)


def weighted_corner_loss(logits: Tensor, targets: Tensor, valid: Tensor, *, positive_weight: float) -> Tensor:
    """The GCNv2 paper's detector loss: cross-entropy on a binary corner mask, the few corners weighted up.

    Tang et al. 2019 (arXiv 1902.11046), section III-B. A pixel is positive where the target exceeds one half.
    """
    mask = (targets > 0.5).to(logits.dtype)
    weight = valid * (1 + (positive_weight - 1) * mask)
    loss = functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return (loss * weight).sum() / weight.sum().clamp_min(1.0)


def compute_losses(
    channels: Tensor,
    logits: Tensor,
    targets: Tensor,
    valid: Tensor,
    batch: dict[str, Tensor],
    options: LossOptions,
    *,
    learned: LearnedSampling | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """The losses of a batch.

    Parameters
    ----------
    channels
        (2 B, 256, H / 16, W / 16) descriptor channels, first views before second views.
    logits, targets, valid
        (2 B, 1, H, W).
    batch
        ``flow`` (B, H, W, 2) and ``queries`` (B, Q, 2).
    options
        Which losses.
    learned
        Coefficients of ``learned`` sampling.

    Returns
    -------
    losses : dict
        By name, and their weighted sum as ``loss``.
    codes : torch.Tensor
        (N, 256) channels at the valid queries, for watching the bits.
    """
    first, second = functional.normalize(channels, dim=1).chunk(2)
    pairs = sample_correspondences(
        first,
        second,
        batch["flow"],
        batch["queries"],
        distractor_step=options.distractor_step,
        sampling=options.sampling,
        learned=learned,
    )
    losses: dict[str, Tensor] = {}
    if options.descriptor == "contrastive":
        settings = {"temperature": options.temperature, "radius": options.radius, "across_batch": options.across_batch}
        losses["descriptor"] = contrastive(pairs, binary=True, **settings)  # type: ignore[arg-type]
        total = losses["descriptor"]
        if options.relaxed_weight:
            losses["relaxed"] = contrastive(pairs, binary=False, **settings)  # type: ignore[arg-type]
            total = total + options.relaxed_weight * losses["relaxed"]
    else:
        losses["descriptor"] = relaxed_triplet(
            pairs, margin=options.margin, radius=options.radius, across_batch=options.across_batch
        )
        total = losses["descriptor"]
    if options.detector == "score_map":
        losses["detector"] = score_map_loss(logits, targets, valid, focus=options.focus)
    else:
        losses["detector"] = weighted_corner_loss(logits, targets, valid, positive_weight=options.positive_weight)
    losses["loss"] = total + options.detector_weight * losses["detector"]
    return losses, pairs.query.detach()[pairs.query_valid]
