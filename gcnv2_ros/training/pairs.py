# SPDX-License-Identifier: Apache-2.0
"""Training pairs: two views, where each pixel of one lies in the other, and what the detector should say.

A pair is a function of the seed and its number alone, so that training resumes at any pair and any number of
loader processes gives the same sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..geometry import warp_homography
from .blobs import picture_blobs
from .correspondence import lookup_flow
from .photometric import PhotometricOptions, photometric_change
from .pictures import Picture
from .targets import draw_score_map, shi_tomasi_cells, suppress_weaker
from .warps import WarpOptions, homography_flow, magnification, random_views, warp_picture

_BLOB_AREA = 64
"""A view has at most one blob for so many of its pixels: about as many as the most keypoints that are asked for."""
NO_POINTS = np.zeros((0, 2), np.float32)

DetectorTarget = Literal["teacher", "shi_tomasi"]


@dataclass(frozen=True)
class TargetOptions:
    """How the detector's score maps are made.

    Attributes
    ----------
    source
        ``teacher``: the keypoints that came with the pictures, moved into both views. ``shi_tomasi``: the strongest
        corner of each 16x16 cell of the first view, moved into the second (the GCNv2 paper).
    full_score
        Teacher's score from which on a peak has height 1; weaker ones are proportionally lower.
    suppression
        A keypoint removes weaker ones within this distance in pixels of the view.
    keypoint_area
        A view has at most one keypoint for so many of its pixels, the strongest; both views of a pair share the
        score from which on keypoints count. 0: no limit.
    sigma_start, sigma_end, sigma_pairs
        Standard deviation of the peaks in pixels: from start to end over the first `sigma_pairs` pairs.
    sigma_growth
        The peaks of a view that shows its picture enlarged m times have a standard deviation of at least
        `sigma_growth` m pixels: an enlarged corner is blurred, and where it lies no longer certain to a pixel.
    queries
        Points per pair at which descriptors are compared.
    keypoint_share
        Share of them taken from keypoints, as far as there are any; the others are uniform over the overlap.
    blob_share
        Share of them taken from blobs, within `keypoint_share`: of weights that are to be read at blobs.
    """

    source: DetectorTarget = "teacher"
    full_score: float = 0.6
    suppression: float = 3.0
    keypoint_area: float = 0.0
    sigma_start: float = 1.7
    sigma_end: float = 0.9
    sigma_pairs: int = 40000
    sigma_growth: float = 0.0
    queries: int = 256
    keypoint_share: float = 0.75
    blob_share: float = 0.0


@dataclass(frozen=True)
class View:
    """One image of a pair.

    Attributes
    ----------
    image
        uint8 (H, W).
    keypoints, scores
        (K, 2) in pixels of the image, and (K,).
    valid
        bool (H, W), false where the image shows nothing of its picture.
    magnification
        Pixels of the image for one of the picture or recorded frame that it shows.
    blobs
        (M, 2) in pixels of the image: points in the middle of blobs.
    """

    image: NDArray[np.uint8]
    keypoints: NDArray[np.floating]
    scores: NDArray[np.floating]
    valid: NDArray[np.bool_]
    magnification: float = 1.0
    blobs: NDArray[np.floating] = field(default_factory=lambda: NO_POINTS)


class PairSource(Protocol):
    """Where pairs come from: pictures under homographies, or frames with depth and pose."""

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[View, View, NDArray[np.float32]]:
        """Draw two views of `size` (width, height) and the flow (H, W, 2) from the first to the second."""
        ...


@dataclass(frozen=True)
class HomographyPairs:
    """Pairs of views of one picture under random homographies and photometric changes; with `blobs`, with these too."""

    pictures: list[Picture]
    warp: WarpOptions
    photometric: PhotometricOptions
    blobs: bool = False

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[View, View, NDArray[np.float32]]:
        """Draw two views of a random picture; see `PairSource`."""
        picture = self.pictures[int(rng.integers(len(self.pictures)))]
        height, width = picture.pyramid[0].shape
        homographies = random_views(rng, (width, height), size, self.warp)
        magnifications = [magnification(homography, size) for homography in homographies]
        blobs = picture_blobs(picture.pyramid, float(np.sqrt(np.prod(magnifications)))) if self.blobs else NO_POINTS
        views = []
        for homography, magnified in zip(homographies, magnifications):
            image, valid = warp_picture(picture.pyramid, homography, size)
            keypoints = warp_homography(homography, picture.keypoints)
            with np.errstate(invalid="ignore"):
                u, v = keypoints.T
                near = (u > -4) & (u < size[0] + 3) & (v > -4) & (v < size[1] + 3)
            changed = photometric_change(rng, image, self.photometric)
            seen = strongest_within(warp_homography(homography, blobs), size)
            views.append(View(changed, keypoints[near], picture.scores[near], valid, magnified, seen))
        flow = homography_flow(homographies[1] @ np.linalg.inv(homographies[0]), size)
        return views[0], views[1], flow


class PairDataset(Dataset[dict[str, Tensor]]):
    """The numbered sequence of training pairs.

    Parameters
    ----------
    sources
        Pair sources, each with the share of the pairs that it provides.
    size
        Width and height of the views in pixels, multiples of 16.
    target
        How targets are made.
    seed
        Of the whole sequence.
    count
        Length of the sequence.
    """

    def __init__(
        self,
        sources: list[tuple[PairSource, float]],
        *,
        size: tuple[int, int],
        target: TargetOptions,
        seed: int,
        count: int,
    ) -> None:
        self.sources = [source for source, _ in sources]
        shares = np.array([share for _, share in sources])
        self.shares = shares / shares.sum()
        self.size = size
        self.target = target
        self.seed = seed
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Pair `number` as tensors.

        Returns
        -------
        dict
            ``images`` uint8 (2, 1, H, W); ``targets`` float32 (2, 1, H, W) in [0, 1]; ``valid`` bool (2, 1, H, W);
            ``flow`` float32 (H, W, 2), NaN where a pixel of the first view is not seen in the second;
            ``queries`` float32 (Q, 2), pixels of the first view, NaN where there were not enough.
        """
        rng = np.random.default_rng([self.seed, number])
        source = self.sources[int(rng.choice(len(self.sources), p=self.shares))]
        first, second, flow = source.draw(rng, self.size)
        if self.target.source == "shi_tomasi":
            corners = shi_tomasi_cells(first.image)
            moved = _move(flow, corners)
            kept = ~np.isnan(moved[:, 0])
            ones = np.ones(len(corners), np.float32)
            first = replace(first, keypoints=corners, scores=ones)
            second = replace(second, keypoints=moved[kept], scores=ones[kept])
        progress = min(number / max(self.target.sigma_pairs, 1), 1.0)
        sigma = self.target.sigma_start * (self.target.sigma_end / self.target.sigma_start) ** progress
        views = [
            _with_keypoints(view, suppress_weaker(view.keypoints, view.scores, self.target.suppression))
            for view in (first, second)
        ]
        weakest = self._weakest_score(views)
        first, second = (_with_keypoints(view, view.scores >= weakest) for view in views)
        targets = []
        for view in (first, second):
            heights = np.minimum(view.scores / self.target.full_score, 1.0)
            deviation = max(sigma, self.target.sigma_growth * view.magnification)
            targets.append(draw_score_map(view.keypoints, heights, self.size, deviation))
        return {
            "images": torch.from_numpy(np.stack([first.image, second.image])[:, None]),
            "targets": torch.from_numpy(np.stack(targets)[:, None]),
            "valid": torch.from_numpy(np.stack([first.valid, second.valid])[:, None]),
            "flow": torch.from_numpy(flow),
            "queries": torch.from_numpy(self._queries(rng, first, flow)),
        }

    def _weakest_score(self, views: list[View]) -> float:
        """The score from which on keypoints count, so that neither view has more than `keypoint_area` allows."""
        if not self.target.keypoint_area:
            return 0.0
        weakest = 0.0
        for view in views:
            inside = view.scores[_inside(view)]
            limit = max(1, int(view.valid.sum() / self.target.keypoint_area))
            if len(inside) > limit:
                weakest = max(weakest, float(np.partition(inside, -limit)[-limit]))
        return weakest

    def _queries(self, rng: np.random.Generator, view: View, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """Choose the points of the first view at which descriptors are compared."""
        wanted = self.target.queries
        queries = np.full((wanted, 2), np.nan, np.float32)
        most = int(wanted * self.target.keypoint_share)
        blobs = _some_of(rng, view.blobs, flow, min(int(wanted * self.target.blob_share), most))
        chosen = np.concatenate([blobs, _some_of(rng, view.keypoints, flow, most - len(blobs))])
        queries[: len(chosen)] = chosen
        rows, columns = np.nonzero(~np.isnan(flow[..., 0]))
        if len(rows):
            picked = rng.integers(len(rows), size=wanted - len(chosen))
            queries[len(chosen) :] = np.column_stack([columns[picked], rows[picked]])
        return queries


def _with_keypoints(view: View, kept: NDArray[np.intp] | NDArray[np.bool_]) -> View:
    return replace(view, keypoints=view.keypoints[kept], scores=view.scores[kept])


def _inside(view: View) -> NDArray[np.bool_]:
    """Which keypoints lie on valid pixels."""
    height, width = view.valid.shape
    columns, rows = np.rint(view.keypoints).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    inside[inside] = view.valid[rows[inside], columns[inside]]
    return inside


def strongest_within(points: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.floating]:
    """Of blobs (N, 2), the strongest first, those within a view of `size`, and no more than it may have."""
    with np.errstate(invalid="ignore"):
        inside = np.all((points >= 0) & (points <= np.array(size) - 1), axis=1)
    return points[inside][: size[0] * size[1] // _BLOB_AREA]


def _some_of(
    rng: np.random.Generator, points: NDArray[np.floating], flow: NDArray[np.float32], count: int
) -> NDArray[np.floating]:
    """A random choice of at most `count` points (N, 2) of the first view that are seen in the second."""
    seen = points[~np.isnan(_move(flow, points)[:, 0])]
    return seen[rng.permutation(len(seen))[:count]]


def _move(flow: NDArray[np.float32], points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Where points (N, 2) of the first view lie in the second; NaN where they are not seen."""
    uv = torch.from_numpy(np.asarray(points, np.float32))
    return lookup_flow(torch.from_numpy(flow)[None], uv[None])[0].numpy()
