# SPDX-License-Identifier: Apache-2.0
"""The extractor that runs a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ..features import DESCRIPTOR_BYTES, Features
from . import kernels
from .blobs import BLOB_THRESHOLD, blob_deviation, blob_radius, blob_response
from .decode import DecodeSettings, Keep, Keypoints, find_keypoints
from .extractor import Extractor, Image, Mask, marked
from .options import DecodeOptions, ExtractionError, ExtractorOptions, resolved_border, resolved_radius
from .preprocess import InputGeometry, network_input
from .results import ModelInfo, Timings
from .runtimes import Runtime
from .sampling import describer_of
from .suppression import Scratch

if TYPE_CHECKING:
    from ..weights import Candidates, Detector, Weights, WeightsMetadata

FALLBACK_SCORE_THRESHOLD = 1 / 256
"""Used where the weights recommend none: the score of a detector that expects one keypoint a cell and has seen nothing
of the image. It leaves the choice to `max_keypoints`."""


class NetworkExtractor(Extractor):
    """Preprocess, a network in some runtime, decode.

    A keypoint's `size` is the network's stride, 16 of its pixels, in pixels of the image: the spacing of the dense
    descriptors, and about the detail that one of them describes.

    Parameters
    ----------
    options
        What `runtime` was built from.
    weights
        The weights that `runtime` runs.
    runtime
        The network, closed with the extractor.
    decode
        How keypoints are chosen.
    """

    def __init__(self, options: ExtractorOptions, weights: Weights, runtime: Runtime, decode: DecodeOptions) -> None:
        super().__init__(decode)
        self._options = options
        self._metadata = weights.metadata
        self._describe = describer_of(weights, runtime.stride)
        self._weights_name, self._weights_sha256 = weights.path.name, weights.sha256
        self._runtime = runtime
        self._scratch = Scratch()
        self._aside: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="keypoints")
        # So that the first frame does not wait for it.
        kernels.compiled()

    @property
    def info(self) -> ModelInfo:
        """What the features are made with, as it stands now."""
        size = self._options.input_size
        decode = self._decode_options
        settings = None if size is None else decode_settings(decode, self._metadata, size)
        return ModelInfo(
            model=self._options.model,
            weights=self._weights_name,
            weights_sha256=self._weights_sha256,
            input_size=size,
            descriptor_width=DESCRIPTOR_BYTES,
            metric="hamming",
            bit_order=self._metadata.bit_order,
            sampling=self._metadata.sampling,
            max_keypoints=decode.max_keypoints,
            score_threshold=settings.score_threshold if settings else decode.score_threshold,
            smoothing=settings.smoothing if settings else decode.smoothing,
            detector=chosen_detector(decode, self._metadata),
            candidates=_candidates(decode, self._metadata),
            nms_radius=settings.nms_radius if settings else decode.nms_radius,
            border=settings.border if settings else decode.border,
            subpixel=decode.subpixel,
            runtime=self._runtime.name,
            device=self._runtime.device,
            precision=self._runtime.precision,
        )

    def close(self) -> None:
        """Close the runtime."""
        if self._aside is not None:
            self._aside.shutdown()
        self._aside = None
        self._runtime.close()

    def _extract(self, grays: Sequence[Image], masks: Sequence[Mask | None], rolls: Sequence[float]) -> list[Features]:
        if self._aside is None:
            raise ExtractionError("this extractor is closed")
        decode = self._decode_options
        stride = self._runtime.stride
        geometries = [
            InputGeometry.of((gray.shape[1], gray.shape[0]), self._options.input_size, stride, roll)
            for gray, roll in zip(grays, rolls)
        ]
        together: dict[tuple[int, int], list[int]] = {}
        for index, geometry in enumerate(geometries):
            together.setdefault(geometry.padded_size, []).append(index)
        results: dict[int, Features] = {}
        seconds = np.zeros(3)
        for indices in together.values():
            marks = [time.perf_counter()]
            batch = network_input([grays[i] for i in indices], [geometries[i] for i in indices])
            marks.append(time.perf_counter())
            finds = [
                partial(self._find, image, geometries[index], masks[index], decode)
                for index, image in zip(indices, batch[:, 0])
            ]
            detector = chosen_detector(decode, self._metadata)
            descriptors, keypoints = forward_and_find(self._runtime, batch, detector, finds, self._aside)
            marks.append(time.perf_counter())
            for index, dense, found in zip(indices, descriptors, keypoints):
                results[index] = self._described(dense, found(), geometries[index])
            marks.append(time.perf_counter())
            seconds += np.diff(marks)
        self._last_timings = Timings(*seconds.tolist())
        return [results[index] for index in range(len(grays))]

    def _find(
        self,
        image: NDArray[np.float32],
        geometry: InputGeometry,
        mask: Mask | None,
        decode: DecodeOptions,
        scores: NDArray[np.float32] | None,
    ) -> Keypoints:
        # Thresholds and distances stay those of an image without roll.
        settings = decode_settings(decode, self._metadata, self._options.input_size or geometry.image_size)
        scores = pixel_scores(image, scores, geometry.occupied_size, settings, self._scratch)
        keep: Keep | None = None if mask is None else partial(_is_unmasked, mask, geometry)
        if geometry.is_surrounded:
            # The border lies along the image's edges, not along those of the canvas.
            scores = np.where(geometry.covered(), scores, np.float32(0.0))
            keep = partial(_is_wanted, mask, geometry, settings.border)
            settings = replace(settings, border=0)
        return find_keypoints(scores, settings, keep=keep, scratch=self._scratch)

    def _described(self, dense: NDArray[np.float32], keypoints: Keypoints, geometry: InputGeometry) -> Features:
        count = len(keypoints.uv)
        return Features(
            geometry.to_image(keypoints.uv),
            keypoints.score,
            self._describe(dense, keypoints.uv),
            geometry.image_size,
            size=np.full(count, self._runtime.stride * geometry.mean_scale, np.float32),
            angle=np.full(count, geometry.angle, np.float32),
        )


def forward(
    runtime: Runtime, batch: NDArray[np.float32], detector: Detector
) -> tuple[NDArray[np.float32], Sequence[NDArray[np.float32] | None]]:
    """Run what `detector` needs of a network on a batch (B, 1, H, W): dense descriptors (B, C, h, w) and score maps.

    There are B score maps, each (H, W), or None where the detector is not the network's.
    """
    if detector == "network":
        raw = runtime.infer(batch)
        return raw.descriptors, list(raw.scores[:, 0])
    return runtime.describe(batch), [None] * len(batch)


def forward_and_find(
    runtime: Runtime,
    batch: NDArray[np.float32],
    detector: Detector,
    finds: Sequence[Callable[[NDArray[np.float32] | None], Keypoints]],
    aside: Executor,
) -> tuple[NDArray[np.float32], Sequence[Callable[[], Keypoints]]]:
    """`forward`, and what finds the keypoints meanwhile where they are of the image alone.

    Parameters
    ----------
    runtime, batch, detector
        As for `forward`.
    finds
        For each image, finds keypoints in its score map, or without one where there is none.
    aside
        Where that is done while the network runs, one image after the other.

    Returns
    -------
    descriptors : numpy.ndarray
        float32 (B, C, h, w).
    keypoints : sequence of callables
        For each image, gives its keypoints: waits for them, or finds them now.
    """
    searches = [] if detector == "network" else [aside.submit(find, None) for find in finds]
    try:
        descriptors, score_maps = forward(runtime, batch, detector)
    except BaseException:
        # One that goes on would use memory that the next call takes for something else.
        wait(searches)
        raise
    if searches:
        return descriptors, [search.result for search in searches]
    return descriptors, [partial(find, scores) for find, scores in zip(finds, score_maps)]


def pixel_scores(
    image: NDArray[np.float32],
    scores: NDArray[np.float32] | None,
    size: tuple[int, int],
    settings: DecodeSettings,
    scratch: Scratch,
) -> NDArray[np.float32]:
    """What keypoints are chosen by, of a network's input `image` (H, W) and its score map from `forward`.

    `size` (width, height) is that of the part without padding, which is what the result covers. It may lie in memory of
    `scratch`, and is valid until that is used again.
    """
    width, height = size
    if scores is None:
        return blob_response(image[:height, :width], settings.blob_deviation, scratch=scratch)
    return scores[:height, :width]


def decode_settings(decode: DecodeOptions, metadata: WeightsMetadata, size: tuple[int, int]) -> DecodeSettings:
    """`decode` with all that it leaves open filled in, for weights with `metadata` and an input of `size`."""
    threshold, radius, smoothing = decode.score_threshold, decode.nms_radius, decode.smoothing
    blobs = chosen_detector(decode, metadata) == "blobs"
    if blobs:
        threshold = BLOB_THRESHOLD if threshold is None else threshold
        radius = blob_radius(size) if radius is None else radius
        smoothing = 0.0
    if threshold is None:
        threshold = metadata.score_threshold(*size)
    if radius is None:
        radius = metadata.recommended_radius(*size)
    return DecodeSettings(
        max_keypoints=decode.max_keypoints,
        score_threshold=FALLBACK_SCORE_THRESHOLD if threshold is None else threshold,
        smoothing=metadata.recommended_smoothing(*size) if smoothing is None else smoothing,
        candidates=_candidates(decode, metadata),
        nms_radius=resolved_radius(decode, size) if radius is None else radius,
        border=resolved_border(decode, size),
        subpixel=decode.subpixel,
        bucket_columns=decode.bucket_columns,
        bucket_rows=decode.bucket_rows,
        blob_deviation=blob_deviation(size) if blobs else 0.0,
    )


def chosen_detector(decode: DecodeOptions, metadata: WeightsMetadata) -> Detector:
    """The detector that `decode` asks for, or leaves to weights with `metadata`."""
    return metadata.detector if decode.detector == "auto" else cast("Detector", decode.detector)


def _candidates(decode: DecodeOptions, metadata: WeightsMetadata) -> Candidates:
    if decode.candidates != "auto":
        return cast("Candidates", decode.candidates)
    return "peaks" if chosen_detector(decode, metadata) == "blobs" else metadata.candidates


def _is_wanted(mask: Mask | None, geometry: InputGeometry, border: int, uv: NDArray[np.float32]) -> NDArray[np.bool_]:
    inside = geometry.is_inside(uv, border)
    if mask is not None:
        inside[inside] = _is_unmasked(mask, geometry, uv[inside])
    return inside


def _is_unmasked(mask: Mask, geometry: InputGeometry, uv: NDArray[np.float32]) -> NDArray[np.bool_]:
    return marked(mask, geometry.to_image(uv))
