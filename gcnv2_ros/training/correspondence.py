# SPDX-License-Identifier: Apache-2.0
"""The correspondence sampler: dense flow in; positions, descriptors, validity and ground-truth matches out.

It does not know whether the flow came from a homography, from depth and pose, or from an optical-flow data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..extraction.kernels import CUBIC
from ..networks.common import STRIDE
from ..weights import LearnedSampling

TrainedSampling = Literal["bicubic", "half_pixel", "learned"]
"""How descriptors can be read from the dense map in training."""


@dataclass(frozen=True)
class Correspondences:
    """Queries in the first images, the database of positions in the second ones, and which belongs to which.

    Attributes
    ----------
    query_uv
        (B, Q, 2), pixels of the first images.
    database_uv
        (B, M, 2), pixels of the second images. The first Q are the true positions of the queries.
    query, database
        (B, Q, C) and (B, M, C), dense channels sampled there.
    query_valid
        bool (B, Q): the query exists and is seen in the second image. Its match is the database position of the
        same number.
    database_valid
        bool (B, M): the position exists.
    """

    query_uv: Tensor
    database_uv: Tensor
    query: Tensor
    database: Tensor
    query_valid: Tensor
    database_valid: Tensor

    def similarity(self, query: Tensor, database: Tensor, *, across_batch: bool) -> Tensor:
        """Inner products of codes made from `query` and `database`: (B, Q, M), or (1, B Q, B M) across the batch."""
        if across_batch:
            return (query.flatten(0, 1) @ database.flatten(0, 1).T)[None]
        return query @ database.transpose(1, 2)

    def neutral(self, radius: float, *, across_batch: bool) -> Tensor:
        """Pairs that are neither a match nor a fair negative.

        Returns
        -------
        torch.Tensor
            bool, shaped as `similarity`: the database position does not exist, or it is not the match but lies
            within `radius` pixels of it.
        """
        count, queries, positions = len(self.query_uv), self.query_uv.shape[1], self.database_uv.shape[1]
        truth = self.database_uv[:, :queries]
        near = torch.cdist(torch.nan_to_num(truth, nan=-1e4), torch.nan_to_num(self.database_uv, nan=1e4)) <= radius
        own = torch.eye(queries, positions, dtype=torch.bool, device=truth.device)
        within = (near & ~own) | ~self.database_valid[:, None, :]
        if not across_batch:
            return within
        absent = ~self.database_valid.flatten()
        full = absent.expand(count * queries, -1).clone().view(count, queries, count, positions)
        image = torch.arange(count, device=truth.device)
        full[image, :, image] = within
        return full.view(1, count * queries, count * positions)


def grid_positions(size: tuple[int, int], step: int, *, device: torch.device | None = None) -> Tensor:
    """The full (step 1) or sub-sampled grid of pixel positions of an image of `size` (width, height): (N, 2)."""
    columns = torch.arange((step - 1) / 2, size[0], step, device=device)
    rows = torch.arange((step - 1) / 2, size[1], step, device=device)
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([u.flatten(), v.flatten()], dim=1)


def sample_channels(
    dense: Tensor, uv: Tensor, *, sampling: TrainedSampling = "half_pixel", learned: LearnedSampling | None = None
) -> Tensor:
    """Sample dense stride-16 channels at pixel positions.

    Parameters
    ----------
    dense
        (B, C, H / 16, W / 16); the cell (i, j) is centred on pixel (16 j + 7.5, 16 i + 7.5).
    uv
        (B, N, 2) pixels; NaN gives zeros.
    sampling
        As `gcnv2_ros.extraction.sampling.sample_descriptors` understands it.
    learned
        Coefficients of ``learned`` sampling.

    Returns
    -------
    torch.Tensor
        (B, N, C).
    """
    missing = torch.isnan(uv[..., 0])
    place = (torch.nan_to_num(uv, nan=0.0).float() + 0.5) / STRIDE - 0.5
    if learned is not None:
        return _sample_as_learned(dense, place, learned).masked_fill(missing[..., None], 0.0)
    # As a product with the weights of all cells, of which few are not zero, this is several times faster on a CPU than
    # grid_sample, whose derivative of the bicubic kind is slow. In half precision signs would change.
    with torch.autocast(dense.device.type, enabled=False):
        along = _cell_weights(place[..., 1], dense.shape[2], sampling)
        across = _cell_weights(place[..., 0], dense.shape[3], sampling)
        weights = (along[..., :, None] * across[..., None, :]).flatten(2)
        sampled = weights @ dense.float().flatten(2).transpose(1, 2)
    return sampled.masked_fill(missing[..., None], 0.0)


def _cell_weights(place: Tensor, cells: int, sampling: TrainedSampling) -> Tensor:
    """Along one direction: the weights (B, N, `cells`) of cells at positions (B, N), which are in cells."""
    first = place.floor()
    rest = place - first
    if sampling == "bicubic":
        steps = torch.arange(-1, 3, device=place.device)
        weights = _cubic(rest[..., None] - steps)
    else:
        steps = torch.arange(0, 2, device=place.device)
        weights = torch.stack([1 - rest, rest], dim=-1)
    # The outermost cells stand for those beyond them.
    taps = (first[..., None].long() + steps).clamp(0, cells - 1)
    return torch.zeros(*place.shape, cells, device=place.device).scatter_add_(-1, taps, weights)


def _cubic(distance: Tensor) -> Tensor:
    """Cubic convolution's weight of cells at `distance` from a place, in cells and at most 2."""
    distance = distance.abs()
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance <= 1, near, far)


def _sample_as_learned(dense: Tensor, place: Tensor, learned: LearnedSampling) -> Tensor:
    """Channels (B, N, C) at places (B, N, 2), which are in cells."""
    batch, channels, height, width = dense.shape
    with torch.autocast(dense.device.type, enabled=False):
        columns, across, across_partner = _kernel_taps(place[..., 0], width, learned.kernel[0])
        rows, along, along_partner = _kernel_taps(place[..., 1], height, learned.kernel[1])
        cells = dense.float().permute(0, 2, 3, 1).reshape(-1, channels)
        rows = (rows + height * torch.arange(batch, device=dense.device)[:, None, None]) * width
        own = torch.zeros(*place.shape[:2], channels, device=dense.device)
        partner = torch.zeros_like(own)
        # Row by row, since all sixteen cells of every place at once are more than a processor's cache holds.
        for row in range(rows.shape[-1]):
            values = nn.functional.embedding(rows[..., row, None] + columns, cells)
            real, imaginary = (values * across).sum(dim=-2), (values * across_partner).sum(dim=-2)
            own = own + along[..., row, :] * real - along_partner[..., row, :] * imaginary
            partner = partner + along[..., row, :] * imaginary + along_partner[..., row, :] * real
        sampled = own + partner.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        if learned.mixing is None:
            return sampled
        blocks = sampled.unflatten(-1, (len(learned.mixing), -1))
        return sampled + torch.einsum("bnkc,kcd->bnkd", blocks, learned.mixing).flatten(-2)


def _kernel_taps(place: Tensor, cells: int, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Along one direction: the four cells about each place (B, N, 4), and their weights by channel.

    The weights are those of the kernel's real and imaginary part, both (B, N, 4, C).
    """
    first = place.floor()
    steps = torch.arange(-1, 3, device=place.device)
    distance = (place - first)[..., None] - steps
    waves = [torch.ones_like(distance)]
    for harmonic in range(1, coefficients.shape[1] // 2 + 1):
        angle = torch.pi / 2 * harmonic * distance
        waves += [angle.cos(), angle.sin()]
    window = (1 + torch.cos(torch.pi / 2 * distance)) / 2
    windowed = window[..., None] * torch.stack(waves, dim=-1)
    # The outermost cells stand for those beyond them.
    taps = (first[..., None].long() + steps).clamp(0, cells - 1)
    return taps, _cubic(distance)[..., None] + windowed @ coefficients[0], windowed @ coefficients[1]


def lookup_flow(flow: Tensor, uv: Tensor) -> Tensor:
    """Bilinear look-up of dense flow.

    Parameters
    ----------
    flow
        (B, H, W, 2): pixel in the second image for each pixel of the first, NaN unknown.
    uv
        (B, N, 2) pixels of the first image; NaN allowed.

    Returns
    -------
    torch.Tensor
        (B, N, 2); NaN where any of the four surrounding pixels is unknown or `uv` lies outside.
    """
    batch, height, width = flow.shape[:3]
    limit = torch.tensor([width - 1, height - 1], device=uv.device, dtype=uv.dtype)
    inside = ((uv >= 0) & (uv <= limit)).all(dim=-1)
    position = torch.where(inside[..., None], uv, torch.zeros_like(uv))
    low = torch.minimum(position.floor(), limit - 1).long()
    fraction = position - low
    image = torch.arange(batch, device=uv.device)[:, None]
    result = torch.zeros_like(uv)
    for dy in (0, 1):
        for dx in (0, 1):
            weight_x = fraction[..., 0] if dx else 1 - fraction[..., 0]
            weight_y = fraction[..., 1] if dy else 1 - fraction[..., 1]
            result = result + (weight_x * weight_y)[..., None] * flow[image, low[..., 1] + dy, low[..., 0] + dx]
    return torch.where(inside[..., None], result, torch.full_like(result, torch.nan))


def sample_correspondences(
    dense_a: Tensor,
    dense_b: Tensor,
    flow: Tensor,
    queries: Tensor,
    *,
    distractor_step: int = 0,
    sampling: TrainedSampling = "half_pixel",
    learned: LearnedSampling | None = None,
) -> Correspondences:
    """Sample both images' dense channels at corresponding positions.

    Parameters
    ----------
    dense_a, dense_b
        (B, C, H / 16, W / 16) channels of the first and second images.
    flow
        (B, H, W, 2), see `lookup_flow`.
    queries
        (B, Q, 2) pixels of the first images, e.g. keypoints, or `grid_positions` expanded over the batch.
    distractor_step
        Adds the grid of this step to the database, as positions that belong to no query; 0 adds none.
    sampling, learned
        How the channels are sampled, see `sample_channels`.
    """
    truth = lookup_flow(flow, queries)
    query_valid = ~torch.isnan(truth[..., 0])
    database_uv = truth
    if distractor_step:
        size = (dense_b.shape[3] * STRIDE, dense_b.shape[2] * STRIDE)
        grid = grid_positions(size, distractor_step, device=truth.device)
        database_uv = torch.cat([truth, grid.expand(len(truth), -1, -1)], dim=1)
    return Correspondences(
        query_uv=queries,
        database_uv=database_uv,
        query=sample_channels(
            dense_a, torch.where(query_valid[..., None], queries, torch.nan), sampling=sampling, learned=learned
        ),
        database=sample_channels(dense_b, database_uv, sampling=sampling, learned=learned),
        query_valid=query_valid,
        database_valid=~torch.isnan(database_uv[..., 0]),
    )
