# SPDX-License-Identifier: Apache-2.0
"""The correspondence sampler: dense flow in; positions, descriptors, validity and ground-truth matches out.

It does not know whether the flow came from a homography, from depth and pose, or from an optical-flow data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks.common import STRIDE


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


def sample_channels(dense: Tensor, uv: Tensor) -> Tensor:
    """Sample dense stride-16 channels bilinearly at pixel positions.

    Parameters
    ----------
    dense
        (B, C, H / 16, W / 16); the cell (i, j) is centred on pixel (16 j + 7.5, 16 i + 7.5).
    uv
        (B, N, 2) pixels; NaN gives zeros.

    Returns
    -------
    torch.Tensor
        (B, N, C).
    """
    extent = torch.tensor([dense.shape[3], dense.shape[2]], device=uv.device) * STRIDE
    grid = (2 * torch.nan_to_num(uv, nan=-1e6) + 1) / extent - 1
    missing = torch.isnan(uv[..., 0])
    sampled = torch.nn.functional.grid_sample(
        dense, grid[:, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[:, :, 0].transpose(1, 2).masked_fill(missing[..., None], 0.0)


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
    dense_a: Tensor, dense_b: Tensor, flow: Tensor, queries: Tensor, *, distractor_step: int = 0
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
        query=sample_channels(dense_a, torch.where(query_valid[..., None], queries, torch.nan)),
        database=sample_channels(dense_b, database_uv),
        query_valid=query_valid,
        database_valid=~torch.isnan(database_uv[..., 0]),
    )
