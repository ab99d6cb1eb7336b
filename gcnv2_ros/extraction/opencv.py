# SPDX-License-Identifier: Apache-2.0
"""OpenCV's keypoint detectors behind the extractor's interface, for side-by-side runs with the networks."""

from __future__ import annotations

import abc
import time
from collections.abc import Sequence

import cv2
import numpy as np

from ..features import Features, Metric, wrapped_degrees
from .extractor import Extractor, Image, Mask, marked
from .options import DecodeOptions, ExtractionError, ExtractorOptions
from .preprocess import InputGeometry, resize, resize_mask
from .results import ModelInfo, Timings


class OpenCVExtractor(Extractor):
    """A detector of OpenCV's with the library's own settings.

    Of the decode options only `max_keypoints` applies: scores, borders and neighbourhoods are the detector's own. Of
    the extractor options only the input size and nothing of the inference engine applies.

    Parameters
    ----------
    options
        The input size, if images are to be resized first.
    decode
        The number of keypoints.

    Raises
    ------
    ExtractionError
        If weights are named.

    Attributes
    ----------
    model, metric, descriptor_width, bit_order
        As in `ModelInfo`.
    offset
        By how many pixels of the image that the detector sees its keypoints lie too far to the right and too far down.
    """

    model: str
    metric: Metric
    descriptor_width: int
    bit_order: str
    offset = 0.0

    def __init__(self, options: ExtractorOptions, decode: DecodeOptions) -> None:
        super().__init__(decode)
        if options.weights != "default":
            raise ExtractionError(f"the model {self.model} has no weights, got {options.weights!r}; leave weights out")
        self._input_size = options.input_size

    @property
    def info(self) -> ModelInfo:
        """What the features are made with, as it stands now."""
        return ModelInfo(
            model=self.model,
            weights=None,
            weights_sha256=None,
            input_size=self._input_size,
            descriptor_width=self.descriptor_width,
            metric=self.metric,
            bit_order=self.bit_order,
            sampling=None,
            max_keypoints=self._decode_options.max_keypoints,
            score_threshold=None,
            smoothing=None,
            detector=None,
            candidates=None,
            nms_radius=None,
            border=None,
            subpixel=False,
            runtime="opencv",
            device="cpu",
            precision="uint8" if self.metric == "hamming" else "fp32",
        )

    @abc.abstractmethod
    def _detector(self, count: int) -> cv2.Feature2D:
        """OpenCV's object that finds the best `count` keypoints."""

    def close(self) -> None:
        """Nothing to free."""

    def _extract(self, grays: Sequence[Image], masks: Sequence[Mask | None], rolls: Sequence[float]) -> list[Features]:
        seconds = np.zeros(3)
        results = []
        detector = self._detector(self._decode_options.max_keypoints)
        for gray, mask in zip(grays, masks):
            marks = [time.perf_counter()]
            geometry = InputGeometry.of((gray.shape[1], gray.shape[0]), self._input_size, 1)
            image = resize(gray, geometry.content_size)
            resized_mask = None if mask is None else resize_mask(mask, geometry.content_size)
            marks.append(time.perf_counter())
            found, descriptors = detector.detectAndCompute(image, resized_mask)
            marks.append(time.perf_counter())
            results.append(self._features(found, descriptors, geometry, mask))
            marks.append(time.perf_counter())
            seconds += np.diff(marks)
        self._last_timings = Timings(*seconds.tolist())
        return results

    def _scaled(self, descriptors: np.ndarray) -> np.ndarray:
        """The descriptors as they are published, (N, D)."""
        return descriptors

    def _features(
        self,
        found: Sequence[cv2.KeyPoint],
        descriptors: np.ndarray | None,
        geometry: InputGeometry,
        mask: Mask | None,
    ) -> Features:
        if descriptors is None:
            return Features.empty(geometry.image_size, metric=self.metric, width=self.descriptor_width)
        uv = geometry.to_image(np.asarray(cv2.KeyPoint.convert(found)) - np.float32(self.offset))
        values = np.array([(point.response, point.size, point.angle) for point in found], np.float32)
        order = np.argsort(-values[:, 0], kind="stable")
        if mask is not None:
            # The resized mask is only near the truth.
            order = order[marked(mask, uv[order])]
        order = order[: self._decode_options.max_keypoints]
        response, size, angle = values[order].T
        # A direction changes where the image was resized by different factors in width and height.
        turned = np.arctan2(
            np.sin(np.radians(angle)) * geometry.scale[1], np.cos(np.radians(angle)) * geometry.scale[0]
        )
        return Features(
            uv[order],
            response,
            self._scaled(descriptors[order]),
            geometry.image_size,
            self.metric,
            size=size * np.float32(geometry.mean_scale),
            angle=wrapped_degrees(np.degrees(turned)),
        )
