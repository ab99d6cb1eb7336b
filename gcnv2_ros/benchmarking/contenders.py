# SPDX-License-Identifier: Apache-2.0
"""What is measured: the package's extraction stage by stage, OpenCV's ORB, and the original pipeline re-enacted.

Every contender takes a bgr8 image message to a features message. Each stage is timed by the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..extraction import DecodeOptions, ExtractorOptions, create_extractor
from ..extraction.decode import Keypoints, find_keypoints
from ..extraction.network import chosen_detector, decode_settings, forward_and_find, pixel_scores
from ..extraction.options import resolved_border, resolved_radius
from ..extraction.preprocess import InputGeometry, network_input
from ..extraction.runtimes import create_runtime
from ..extraction.sampling import describer_of
from ..extraction.suppression import Scratch
from ..features import Features
from ..messages.features import feature_points
from ..messages.pixels import converted_pixels
from ..networks import create_network
from ..weights import Weights

STAGES = ("decode image", "resize", "forward", "suppress", "sample", "encode")
"""Stages of the package's own extraction."""

EXTRACTION = ("resize", "forward", "suppress", "sample", "extract")
"""Stages from a gray image to features, of any contender."""

PYTHON_SUPPRESSION = "suppress in Python"
"""The stage of the original pipeline that is C++ there; none of `EXTRACTION`, so that no ratio holds it."""

DESCRIBED_EACH = 3
"""Points that the original pipeline describes for each keypoint wanted; suppression then leaves some of them."""


@dataclass(frozen=True)
class Measured:
    """One frame.

    Attributes
    ----------
    features
        What came of it.
    described
        Points that were described for them.
    stages
        Seconds of each stage by the clock.
    processor
        Seconds of all of them by the processors.
    """

    features: Features
    described: int
    stages: dict[str, float]
    processor: float


class Contender(Protocol):
    """Something that makes features of an image message."""

    name: str

    def run(self, message: Any) -> Measured:
        """Take one message through all stages."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class _Clock:
    """Collects the seconds of one stage after another."""

    def __init__(self) -> None:
        self._processor = time.process_time()
        self._last = time.perf_counter()
        self.stages: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages[stage] = now - self._last
        self._last = now

    def measured(self, features: Features, *, described: int) -> Measured:
        return Measured(features, described, self.stages, time.process_time() - self._processor)


def image_message(bgr: NDArray[np.uint8]) -> Any:
    """A bgr8 image (H, W, 3) with the fields of a sensor_msgs/Image; ROS need not be installed."""
    height, width = bgr.shape[:2]
    data = np.ascontiguousarray(bgr).reshape(-1)
    return SimpleNamespace(height=height, width=width, encoding="bgr8", is_bigendian=0, step=3 * width, data=data)


def message_encoder() -> Callable[[Features], Any]:
    """What turns features into a PointCloud2 message; without ROS, into the message's points alone."""
    try:
        from std_msgs.msg import Header

        from ..ros.features_msg import encode_features
    except ImportError:
        return feature_points
    header = Header()
    return lambda features: encode_features(features, header)


class NetworkContender:
    """The package's own extraction, its steps called one by one; gives what `Extractor.extract` gives."""

    def __init__(self, options: ExtractorOptions, weights: Weights, decode: DecodeOptions) -> None:
        self.detector = chosen_detector(decode, weights.metadata)
        self.runtime = create_runtime(options, weights, detector=self.detector == "network")
        self.name = f"{options.model} {self.runtime.name} {self.runtime.precision}"
        self.options, self.decode = options, decode
        self._metadata = weights.metadata
        self._describe = describer_of(weights, self.runtime.stride)
        self._scratch = Scratch()
        self._aside = ThreadPoolExecutor(1)
        self._encode = message_encoder()

    def run(self, message: Any) -> Measured:
        """Take one message through all stages."""
        clock = _Clock()
        gray = converted_pixels(message, "mono")
        clock.mark("decode image")
        image_size = (gray.shape[1], gray.shape[0])
        geometry = InputGeometry.of(image_size, self.options.input_size, self.runtime.stride)
        batch = network_input([gray], [geometry])
        clock.mark("resize")
        settings = decode_settings(self.decode, self._metadata, geometry.content_size)

        def find(scores: NDArray[np.float32] | None) -> Keypoints:
            scores = pixel_scores(batch[0, 0], scores, geometry.content_size, settings, self._scratch)
            return find_keypoints(scores, settings, scratch=self._scratch)

        (dense,), (found,) = forward_and_find(self.runtime, batch, self.detector, [find], self._aside)
        clock.mark("forward")
        keypoints = found()
        clock.mark("suppress")
        described = self._describe(dense, keypoints.uv)
        size = np.full(len(keypoints.uv), self.runtime.stride * geometry.mean_scale, np.float32)
        features = Features(geometry.to_image(keypoints.uv), keypoints.score, described, image_size, size=size)
        clock.mark("sample")
        self._encode(features)
        clock.mark("encode")
        return clock.measured(features, described=len(described))

    def close(self) -> None:
        """Close the runtime."""
        self._aside.shutdown()
        self.runtime.close()


class OrbContender:
    """cv2.ORB with the same number of keypoints, on the image in its own size."""

    name = "cv2.ORB"

    def __init__(self, decode: DecodeOptions) -> None:
        self._extractor = create_extractor(ExtractorOptions(model="orb"), decode)
        self._encode = message_encoder()

    def run(self, message: Any) -> Measured:
        """Take one message through all stages."""
        clock = _Clock()
        gray = converted_pixels(message, "mono")
        clock.mark("decode image")
        features = self._extractor.extract(gray)
        clock.mark("extract")
        self._encode(features)
        clock.mark("encode")
        return clock.measured(features, described=len(features))

    def close(self) -> None:
        """Close the extractor."""
        self._extractor.close()


class OriginalContender:
    """The original pipeline re-enacted: one TorchScript module, eager, one frame at a time, then suppression on a grid.

    As the released modules do, the module thresholds the score map, sorts the points, samples their descriptors with
    grid_sample and binarises them; suppression follows outside, over points that all have descriptors by then. It is
    written here in Python, where the original has C++, and is therefore a stage of its own, `PYTHON_SUPPRESSION`.
    """

    name = "original pipeline"

    def __init__(
        self, options: ExtractorOptions, weights: Weights, decode: DecodeOptions, *, score_threshold: float
    ) -> None:
        network = create_network(options.model)
        network.load_state_dict(weights.state_dict)
        if options.threads:
            torch.set_num_threads(options.threads)
        self._stride = network.stride
        traced = torch.jit.trace(network.eval(), torch.zeros(1, 1, 4 * self._stride, 4 * self._stride))
        self._module = torch.jit.script(_OriginalModule(traced, score_threshold))
        self._options, self._decode = options, decode
        self._encode = message_encoder()

    def run(self, message: Any) -> Measured:
        """Take one message through all stages."""
        clock = _Clock()
        gray = converted_pixels(message, "mono")
        clock.mark("decode image")
        image_size = (gray.shape[1], gray.shape[0])
        geometry = InputGeometry.of(image_size, self._options.input_size, self._stride)
        batch = network_input([gray], [geometry])
        clock.mark("resize")
        with torch.inference_mode():
            points, descriptors = (tensor.numpy() for tensor in self._module(torch.from_numpy(batch)))
        clock.mark("forward")
        size = geometry.content_size
        kept = _on_grid(points, size, resolved_radius(self._decode, size), resolved_border(self._decode, size))
        kept = kept[: self._decode.max_keypoints]
        uv = geometry.to_image(points[kept, :2])
        features = Features(uv, points[kept, 2], descriptors[kept], image_size)
        clock.mark(PYTHON_SUPPRESSION)
        self._encode(features)
        clock.mark("encode")
        return clock.measured(features, described=len(points))

    def close(self) -> None:
        """Nothing to free."""


def threshold_of_its_kind(
    options: ExtractorOptions, weights: Weights, decode: DecodeOptions, images: Sequence[NDArray[np.uint8]]
) -> float:
    """The score that `DESCRIBED_EACH` pixels exceed for each keypoint wanted, in the median over images.

    The original pipeline describes every pixel above its threshold: a few thousand of a score map that was trained for
    one. That of other weights can be so wide that a threshold which leaves as many keypoints after suppression leaves a
    third of all pixels before it, to be sorted and described at the pipeline's expense.

    Parameters
    ----------
    options
        Of the original pipeline.
    weights
        Whose score map counts.
    decode
        How many keypoints are wanted.
    images
        bgr8 images (H, W, 3).
    """
    thresholds = []
    with closing(create_runtime(options, weights)) as runtime:
        for image in images:
            gray = converted_pixels(image_message(image), "mono")
            geometry = InputGeometry.of((gray.shape[1], gray.shape[0]), options.input_size, runtime.stride)
            scores = runtime.infer(network_input([gray], [geometry])).scores.ravel()
            exceeding = min(DESCRIBED_EACH * decode.max_keypoints, scores.size - 1)
            thresholds.append(float(np.partition(scores, -exceeding - 1)[-exceeding - 1]))
    return float(np.median(thresholds))


class _OriginalModule(torch.nn.Module):
    def __init__(self, network: torch.nn.Module, threshold: float) -> None:
        super().__init__()
        self.network = network
        self.threshold = threshold

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        dense, scores = self.network(image)
        plane = scores[0, 0]
        height, width = plane.size(0), plane.size(1)
        found = torch.nonzero(plane > self.threshold)
        values, order = torch.sort(plane[found[:, 0], found[:, 1]], descending=True)
        place = found[order].flip(1).to(torch.float32)
        extent = torch.tensor([width, height], dtype=torch.float32)
        grid = (place / (extent / 2) - 1).view(1, 1, -1, 2)
        sampled = torch.nn.functional.grid_sample(dense, grid, mode="bilinear", align_corners=True)[0, :, 0].t()
        bits = (sampled > 0).view(-1, 32, 8).to(torch.int32)
        powers = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.int32)
        return torch.cat([place, values.unsqueeze(1)], 1), (bits * powers).sum(2).to(torch.uint8)


def _on_grid(points: NDArray[np.float32], size: tuple[int, int], radius: int, border: int) -> NDArray[np.intp]:
    width, height = size
    taken = np.zeros((height + 2 * radius + 16, width + 2 * radius + 16), bool)
    side = 2 * radius + 1
    kept = []
    for index, (column, row) in enumerate(points[:, :2].astype(np.intp).tolist()):
        if not taken[row + radius, column + radius]:
            taken[row : row + side, column : column + side] = True
            if border <= column < width - border and border <= row < height - border:
                kept.append(index)
    return np.array(kept, np.intp)
