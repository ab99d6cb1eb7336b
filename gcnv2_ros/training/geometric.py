# SPDX-License-Identifier: Apache-2.0
"""Pairs of frames of a sequence with depth and pose, as the GCN papers trained on: real parallax, real occlusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..geometry import dense_flow
from ..sequences import Frame, Sequence
from .blobs import picture_blobs
from .pairs import NO_POINTS, View, strongest_within
from .photometric import PhotometricOptions, photometric_change
from .pictures import TrainingDataError

Detect = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]

# Rendering a frame takes longer than training on it: the latest ones are kept.
_CACHED_FRAMES = 64
_ATTEMPTS = 8
# Pairs of frames that are tried until both have depth and pose. Those that lack them are read once.
_SEARCHED_PAIRS = 2000


@dataclass(frozen=True)
class _Seen:
    """A frame with its keypoints."""

    frame: Frame
    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]


class GeometricPairs:
    """Windows of two frames of one sequence; depth and pose say where each pixel of one is in the other.

    A pixel counts as seen only if the second frame's depth confirms it (`gcnv2_ros.geometry.dense_flow`).

    Parameters
    ----------
    sequence
        With calibration, depth and pose. Frames that lack depth or pose are left out.
    detect
        What the detector learns: uint8 (H, W) to keypoints (K, 2) and scores (K,).
    photometric
        Changes to each view.
    largest_gap
        Frames are at most so many apart.
    least_overlap
        Pairs of windows that share less than this are drawn again, and given up after a few attempts.
    blobs
        Whether views come with their blobs.

    Raises
    ------
    TrainingDataError
        If the sequence has no calibration, fewer than two frames, or none with both depth and pose.
    """

    def __init__(
        self,
        sequence: Sequence,
        detect: Detect,
        photometric: PhotometricOptions,
        *,
        largest_gap: int = 30,
        least_overlap: float = 0.2,
        blobs: bool = False,
    ) -> None:
        if sequence.camera is None or not any(frame.has_truth for frame in sequence):
            lacking = "no calibration" if sequence.camera is None else "no frame with both depth and pose"
            raise TrainingDataError(f"{sequence.name} needs calibration, depth and poses to train on; it has {lacking}")
        if len(sequence) < 2:
            raise TrainingDataError(f"{sequence.name} has one frame; training pairs are of two")
        self._sequence = sequence
        self._camera: Camera = sequence.camera
        self._detect = detect
        self._photometric = photometric
        self._largest_gap = min(largest_gap, len(sequence) - 1)
        self._least_overlap = least_overlap
        self._blobs = blobs
        self._without_truth: set[int] = set()
        self._seen = lru_cache(maxsize=_CACHED_FRAMES)(self._look)

    def _look(self, index: int) -> _Seen | None:
        """A frame with its keypoints, or None where it has no depth or no pose."""
        frame = self._sequence[index]
        if not frame.has_truth:
            self._without_truth.add(index)
            return None
        return _Seen(frame, *self._detect(frame.gray))

    def _draw_frames(self, rng: np.random.Generator) -> tuple[_Seen, _Seen]:
        for _ in range(_SEARCHED_PAIRS):
            gap = int(rng.integers(1, self._largest_gap + 1))
            start = int(rng.integers(len(self._sequence) - gap))
            if not self._without_truth.isdisjoint((start, start + gap)):
                continue
            first, second = self._seen(start), self._seen(start + gap)
            if first is not None and second is not None:
                return first, second
        raise TrainingDataError(
            f"{self._sequence.name}: hardly any two frames up to {self._largest_gap} apart have both depth and pose "
            f"(none of {_SEARCHED_PAIRS} pairs); leave it out, or cut it to the part with ground truth"
        )

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[View, View, NDArray[np.float32]]:
        """Draw two windows of `size` (width, height); see `gcnv2_ros.training.pairs.PairSource`.

        Raises
        ------
        TrainingDataError
            If the frames are smaller than the windows, see nothing in common, or hardly ever have depth and pose.
        """
        width, height = size
        if self._camera.width < width or self._camera.height < height:
            raise TrainingDataError(
                f"{self._sequence.name} has frames of {self._camera.width}x{self._camera.height}; the views of "
                f"{width}x{height} (data.size) do not fit in"
            )
        drawn = None
        for _ in range(_ATTEMPTS):
            first, second = self._draw_frames(rng)
            if rng.random() < 0.5:
                first, second = second, first
            flow, valid = dense_flow(first.frame, second.frame, self._camera)
            flow = np.where(valid[..., None], flow, np.nan).astype(np.float32)
            corner = rng.integers(0, (self._camera.width - width + 1, self._camera.height - height + 1))
            window = flow[corner[1] : corner[1] + height, corner[0] : corner[0] + width]
            if np.isnan(window[..., 0]).all():
                continue
            # The second window is laid over what the first one sees.
            middle = np.nanmedian(window.reshape(-1, 2), axis=0) - (width / 2, height / 2)
            limit = (self._camera.width - width, self._camera.height - height)
            other = np.clip(np.rint(middle), 0, limit).astype(int)
            moved = window - other.astype(np.float32)
            with np.errstate(invalid="ignore"):
                inside = np.all((moved >= 0) & (moved <= (width - 1, height - 1)), axis=2)
            drawn = (first, corner, second, other, np.where(inside[..., None], moved, np.nan).astype(np.float32))
            if inside.mean() >= self._least_overlap:
                break
        if drawn is None:
            raise TrainingDataError(
                f"{self._sequence.name}: frames up to {self._largest_gap} apart see nothing in common; check its poses"
            )
        first, corner, second, other, moved = drawn
        return self._view(rng, first, corner, size), self._view(rng, second, other, size), moved

    def _view(self, rng: np.random.Generator, seen: _Seen, corner: NDArray[np.int_], size: tuple[int, int]) -> View:
        width, height = size
        gray = np.ascontiguousarray(seen.frame.gray[corner[1] : corner[1] + height, corner[0] : corner[0] + width])
        keypoints = seen.keypoints - corner
        near = np.all((keypoints > -4) & (keypoints < np.array(size) + 3), axis=1)
        changed = photometric_change(rng, gray, self._photometric)
        blobs = strongest_within(picture_blobs([gray], 1.0), size) if self._blobs else NO_POINTS
        return View(changed, keypoints[near], seen.scores[near], np.ones((height, width), bool), blobs=blobs)
