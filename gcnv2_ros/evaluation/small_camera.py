# SPDX-License-Identifier: Apache-2.0
"""An extractor as it would do behind a camera of fewer pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..extraction import Extractor, ModelInfo
from ..extraction.extractor import Image, Mask, marked
from ..extraction.preprocess import InputGeometry, resize, resize_mask
from ..features import Features


class SmallCamera(Extractor):
    """Hands an extractor images reduced to a size, and returns its features in pixels of the images as they were.

    Parameters
    ----------
    extractor
        What sees the reduced images; closed with this one.
    size
        Width and height of the reduced images.
    """

    def __init__(self, extractor: Extractor, size: tuple[int, int]) -> None:
        super().__init__(extractor.decode_options)
        self._extractor = extractor
        self._size = size

    @property
    def info(self) -> ModelInfo:
        """Of the extractor within."""
        return self._extractor.info

    def close(self) -> None:
        """Close the extractor within."""
        self._extractor.close()

    def _extract(self, grays: Sequence[Image], masks: Sequence[Mask | None], rolls: Sequence[float]) -> list[Features]:
        self._extractor.decode_options = self._decode_options
        found = self._extractor.extract_batch(
            [resize(gray, self._size) for gray in grays],
            masks=[None if mask is None else resize_mask(mask, self._size) for mask in masks],
            rolls=rolls,
        )
        self._last_timings = self._extractor.last_timings
        return [self._enlarged(features, gray, mask) for features, gray, mask in zip(found, grays, masks)]

    def _enlarged(self, features: Features, gray: Image, mask: Mask | None) -> Features:
        geometry = InputGeometry.of((gray.shape[1], gray.shape[0]), self._size, 1)
        enlarged = replace(
            features,
            uv=geometry.to_image(features.uv),
            image_size=geometry.image_size,
            size=features.size * np.float32(geometry.mean_scale),
        )
        # The reduced mask is only near the truth.
        return enlarged if mask is None else enlarged.select(marked(mask, enlarged.uv))
