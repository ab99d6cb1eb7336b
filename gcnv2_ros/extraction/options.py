# SPDX-License-Identifier: Apache-2.0
"""What can be chosen about an extractor: when it is built, and while it runs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..errors import GCNv2Error

MINIMUM_SIDE = 32
"""Smallest width and height of an image, and of the network's input, in pixels."""

LARGEST_SMOOTHING = 16.0
"""Network pixels; a wider blur would leave no keypoint where it was."""

MOST_KEYPOINTS = 1_000_000
"""Of an image; OpenCV's ORB reserves memory for as many as it is asked for, and from 2**31 on takes no number."""

_REFERENCE_SIDE = 240
_RADIUS_AT_REFERENCE = 4
_BORDER_AT_REFERENCE = 8

CANDIDATES = ("auto", "peaks", "all")
"""What `DecodeOptions.candidates` may be."""
DETECTORS = ("auto", "network", "blobs")
"""What `DecodeOptions.detector` may be."""
PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")
"""What `ExtractorOptions.precision` may be."""
DEVICE_INDEX = r"(0|[1-9]\d?)"
"""Pattern of a device's number. torch keeps it in eight bits, and takes a larger one for another without a word."""
_DEVICE = re.compile(rf"auto|cpu|(cuda|gpu)(:{DEVICE_INDEX})?|npu")


class ExtractionError(GCNv2Error):
    """An image, an option or a device that extraction cannot work with."""


def is_intel(device: str) -> bool:
    """Whether a device is a GPU or NPU of Intel's, which OpenVINO alone runs on."""
    return device.startswith(("gpu", "npu"))


def refuse_intel(device: str) -> None:
    """Refuse Intel's GPUs and NPUs, for all runtimes but OpenVINO.

    Raises
    ------
    ExtractionError
        If it is one of them.
    """
    if is_intel(device):
        raise ExtractionError(
            f"device {device} is one of Intel's, which the runtime openvino alone runs on; choose that, or cpu or cuda"
        )


@dataclass(frozen=True)
class DecodeOptions:
    """How keypoints are chosen; all of it may change while the extractor runs.

    Attributes
    ----------
    detector
        What scores the pixels: ``network``, its score map; ``blobs``, `gcnv2_ros.extraction.blobs` on the network's
        input image. ``auto`` takes what the weights recommend.
    max_keypoints
        At most so many keypoints an image, the best ones; 1 to `MOST_KEYPOINTS`.
    score_threshold
        Keypoints score above it. None takes what is recommended for the detector and the input size.
    smoothing
        Standard deviation in network pixels of a Gaussian blur of the network's score map, see
        `gcnv2_ros.extraction.decode.smooth`. None takes what the weights recommend for the input size; where they
        recommend nothing, and for 0, there is none. Not used by ``blobs``.
    nms_radius
        A keypoint suppresses others within this Chebyshev distance, in network pixels. None takes what is recommended:
        for ``blobs`` 2 at 320x240 and 3 at 640x480, for the network what the weights say; where they say nothing, the
        published choice scaled with the shorter side of the network's input: 4 at 320x240, 8 at 640x480. 0 suppresses
        nothing.
    border
        Keypoints closer than this to an edge are dropped, in network pixels. None scales with the shorter
        side of the network's input: 8 at 320x240, 16 at 640x480.
    subpixel
        Refine positions by a quadratic fit to the logits of the scores.
    bucket_columns, bucket_rows
        Spread keypoints over a grid of so many cells: each cell first gets its equal share of `max_keypoints`, then
        the best of the rest fill up what is left. 0 and 0: off.
    candidates
        Which pixels above the threshold may be keypoints: ``peaks``, those that score at least as high as all eight
        around them; ``all``, as in the original pipeline, which finds further keypoints on the slopes of a peak,
        beyond the suppression radius. ``auto``: peaks of ``blobs``, and of the network what the weights recommend;
        where they recommend nothing, all.

    Raises
    ------
    ExtractionError
        If a value is out of its range.
    """

    max_keypoints: int = 1000
    score_threshold: float | None = None
    smoothing: float | None = None
    nms_radius: int | None = None
    border: int | None = None
    subpixel: bool = True
    bucket_columns: int = 0
    bucket_rows: int = 0
    candidates: str = "auto"
    detector: str = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.max_keypoints <= MOST_KEYPOINTS:
            raise ExtractionError(f"max_keypoints must be from 1 to {MOST_KEYPOINTS}, got {self.max_keypoints}")
        if self.score_threshold is not None and not 0.0 <= self.score_threshold < 1.0:
            raise ExtractionError(f"score_threshold must be in [0, 1), got {self.score_threshold}")
        if self.smoothing is not None and not 0.0 <= self.smoothing <= LARGEST_SMOOTHING:
            raise ExtractionError(f"smoothing must be in [0, {LARGEST_SMOOTHING:g}], got {self.smoothing}")
        if self.candidates not in CANDIDATES:
            raise ExtractionError(f"candidates must be one of {', '.join(CANDIDATES)}, got {self.candidates!r}")
        if self.detector not in DETECTORS:
            raise ExtractionError(f"detector must be one of {', '.join(DETECTORS)}, got {self.detector!r}")
        for name in ("nms_radius", "border"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ExtractionError(f"{name} must not be negative, got {value}")
        if min(self.bucket_columns, self.bucket_rows) < 0 or (self.bucket_columns == 0) != (self.bucket_rows == 0):
            raise ExtractionError(
                f"bucket_columns and bucket_rows must both be 0 or both be positive, "
                f"got {self.bucket_columns} and {self.bucket_rows}"
            )


@dataclass(frozen=True)
class ExtractorOptions:
    """What an extractor is built from; fixed once it is built.

    Attributes
    ----------
    model
        Name of a network; ``orb`` or ``sift`` for those of OpenCV; ``aliked-n16`` or ``aliked-n16rot``.
    weights
        ``default``, or a weights file (see `gcnv2_ros.weights.load_weights`). Not used by ``orb`` and ``sift``.
    runtime
        ``auto`` or the name of an inference engine.
    device
        ``auto`` (CUDA where there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``; of Intel, by OpenVINO:
        ``gpu``, ``gpu:N`` or ``npu``.
    precision
        ``auto``, ``fp32``, ``fp16``, ``bf16`` or ``int8``. int8 needs a calibration beside the weights
        (`gcnv2_ros.extraction.quantization`).
    input_width, input_height
        The size to which images are resized for the network, in pixels. 0 and 0: the image's own size. Sizes that
        are no multiple of the network's stride are padded on the right and at the bottom.
    threads
        CPU threads of the inference engine, in the whole process; 0: the engine's own choice.

    Raises
    ------
    ExtractionError
        If a value is out of its range.
    """

    model: str = "gcnv2_tiny"
    weights: str = "default"
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    input_width: int = 0
    input_height: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise ExtractionError(f"device must be auto, cpu, cuda, cuda:N, gpu, gpu:N or npu, got {self.device!r}")
        if self.precision not in PRECISIONS:
            raise ExtractionError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.threads < 0:
            raise ExtractionError(f"threads must not be negative, got {self.threads}")
        size = (self.input_width, self.input_height)
        if size != (0, 0) and min(size) < MINIMUM_SIDE:
            raise ExtractionError(
                f"input_width and input_height must both be 0 or at least {MINIMUM_SIDE}, got {size[0]} and {size[1]}"
            )

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Width and height of the network's input before padding; None for the image's own size."""
        return (self.input_width, self.input_height) if self.input_width else None


def resolved_radius(options: DecodeOptions, input_size: tuple[int, int]) -> int:
    """The suppression radius in network pixels for a network input of `input_size` (width, height)."""
    return _scaled(options.nms_radius, _RADIUS_AT_REFERENCE, input_size)


def resolved_border(options: DecodeOptions, input_size: tuple[int, int]) -> int:
    """The border in network pixels for a network input of `input_size` (width, height)."""
    return _scaled(options.border, _BORDER_AT_REFERENCE, input_size)


def _scaled(chosen: int | None, at_reference: int, input_size: tuple[int, int]) -> int:
    if chosen is not None:
        return chosen
    return max(1, math.floor(at_reference * min(input_size) / _REFERENCE_SIDE + 0.5))
