# SPDX-License-Identifier: Apache-2.0
"""The interface of all extractors."""

from __future__ import annotations

import abc
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

    def extract(self, gray: Image, *, mask: Mask | None = None) -> Features:
        """Features of one image.

        Parameters
        ----------
        gray
            uint8 (H, W), at least 32x32 pixels.
        mask
            uint8 or bool (H, W), nonzero where keypoints are wanted: one whose nearest pixel is 0 is dropped before the
            best ones are taken. None: everywhere.

        Raises
        ------
        ExtractionError
            If the image or the mask is not as described.
        """
        return self.extract_batch([gray], masks=[mask])[0]

    def extract_batch(self, grays: Sequence[Image], *, masks: Sequence[Mask | None] | None = None) -> list[Features]:
        """Features of several images, e.g. of a stereo pair; those of equal size go through the network together.

        Parameters
        ----------
        grays
            Images as for `extract`.
        masks
            As many masks; None: no mask for any image.

        Raises
        ------
        ExtractionError
            If an image or a mask is not as described, or the numbers differ.
        """
        if masks is None:
            masks = [None] * len(grays)
        if len(masks) != len(grays):
            raise ExtractionError(f"expected one mask (or None) an image, got {len(masks)} for {len(grays)} images")
        for gray, mask in zip(grays, masks):
            check_image(gray, mask)
        return self._extract(grays, masks)

    @abc.abstractmethod
    def _extract(self, grays: Sequence[Image], masks: Sequence[Mask | None]) -> list[Features]:
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
