# SPDX-License-Identifier: Apache-2.0
"""The interface of all extractors."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..features import Features
from .options import DecodeOptions, ExtractionError
from .preprocess import check_image
from .results import ModelInfo, Timings

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8] | NDArray[np.bool_]


class Extractor(abc.ABC):
    """Makes features of gray images.

    One call at a time; `decode_options` may be set from another thread while a call runs, and holds from the next call
    on. Usable as a context manager that closes it.
    """

    def __init__(self, decode: DecodeOptions) -> None:
        self._decode_options = decode
        self._last_timings = Timings(0.0, 0.0, 0.0)

    @property
    def decode_options(self) -> DecodeOptions:
        """How keypoints are chosen; may be set at any time."""
        return self._decode_options

    @decode_options.setter
    def decode_options(self, options: DecodeOptions) -> None:
        if not isinstance(options, DecodeOptions):
            raise ExtractionError(f"decode_options must be DecodeOptions, got {type(options).__name__}")
        self._decode_options = options

    @property
    def last_timings(self) -> Timings:
        """Durations of the stages of the latest call; zeros before the first."""
        return self._last_timings

    @property
    @abc.abstractmethod
    def info(self) -> ModelInfo:
        """What the features are made with, as it stands now."""

    def extract(self, gray: Image, *, mask: Mask | None = None, roll: float = 0.0) -> Features:
        """Features of one image.

        Parameters
        ----------
        gray
            uint8 (H, W), at least 32x32 pixels.
        mask
            uint8 or bool (H, W), nonzero where keypoints are wanted: one whose nearest pixel is 0 is dropped before the
            best ones are taken. None: everywhere.
        roll
            Degrees, clockwise in the image, by which the camera's roll turns the scene (`gcnv2_ros.upright.roll_of`).
            A network sees the image turned back, upright; positions are those of the image as received, and `angle`
            of every keypoint is the roll, in [0, 360). 0: the image is taken as it is, and `angle` is -1. ORB finds
            each keypoint's orientation by itself and takes no notice of the roll.

        Raises
        ------
        ExtractionError
            If the image, the mask or the roll is not as described.
        """
        return self.extract_batch([gray], masks=[mask], rolls=[roll])[0]

    def extract_batch(
        self,
        grays: Sequence[Image],
        *,
        masks: Sequence[Mask | None] | None = None,
        rolls: Sequence[float] | None = None,
    ) -> list[Features]:
        """Features of several images, e.g. of a stereo pair; those of equal size go through the network together.

        Parameters
        ----------
        grays
            Images as for `extract`.
        masks
            As many masks; None: no mask for any image.
        rolls
            As many rolls in degrees, as for `extract`; None: 0 for every image. Images of equal size whose rolls need
            canvases of equal size go through the network together too.

        Raises
        ------
        ExtractionError
            If an image, a mask or a roll is not as described, or the numbers differ.
        """
        if masks is None:
            masks = [None] * len(grays)
        if len(masks) != len(grays):
            raise ExtractionError(f"expected one mask (or None) an image, got {len(masks)} for {len(grays)} images")
        if rolls is None:
            rolls = [0.0] * len(grays)
        if len(rolls) != len(grays):
            raise ExtractionError(f"expected one roll an image, got {len(rolls)} for {len(grays)} images")
        for gray, mask, roll in zip(grays, masks, rolls):
            check_image(gray, mask)
            if not math.isfinite(roll):
                raise ExtractionError(f"the roll must be a finite number of degrees, got {roll}")
        return self._extract(grays, masks, rolls)

    @abc.abstractmethod
    def _extract(self, grays: Sequence[Image], masks: Sequence[Mask | None], rolls: Sequence[float]) -> list[Features]:
        """Features of checked images; sets `_last_timings`."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free what the extractor holds. It must not be used afterwards; closing again does nothing."""

    def __enter__(self) -> Extractor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def marked(mask: Mask, uv: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether the mask is nonzero at the pixel nearest to each of the positions (N, 2), in image pixels."""
    height, width = mask.shape
    nearest = np.floor(uv + 0.5).astype(np.intp)
    columns, rows = np.clip(nearest[:, 0], 0, width - 1), np.clip(nearest[:, 1], 0, height - 1)
    return mask[rows, columns] != 0
