# SPDX-License-Identifier: Apache-2.0
"""What a weights file says about itself: conventions, recommended thresholds, provenance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar, get_args

from ..errors import GCNv2Error
from ..image_size import read_size, size_text

Sampling = Literal["bicubic", "half_pixel", "learned", "legacy"]
Candidates = Literal["peaks", "all"]
Detector = Literal["network", "blobs"]
Value = TypeVar("Value")

SCHEMA_VERSION = 1

_ANY_SIZE = "640x480"


class WeightsError(GCNv2Error):
    """A weights file that cannot be used: absent, damaged, of another network, or of no known format."""


@dataclass(frozen=True)
class WeightsMetadata:
    """Conventions and provenance of a set of weights.

    Attributes
    ----------
    model
        Name of the network.
    sampling
        How descriptors are read from the dense map: ``half_pixel`` (bilinear, cell (i, j) centred on pixel
        (16 j + 7.5, 16 i + 7.5)), ``bicubic`` or ``learned`` (so centred too, the second by coefficients in the file,
        see `gcnv2_ros.extraction.sampling`), or ``legacy`` (the sampling that the authors' weights were trained with).
    bit_order
        ``msb_first``: channel 0 is the most significant bit of byte 0.
    detector
        Recommended detector: the network's, or ``blobs`` (`gcnv2_ros.extraction.blobs`). What is recommended below is
        for the network's.
    score_thresholds
        Recommended detector threshold by network input size, as ``{"320x240": 0.1}``.
    smoothing
        Recommended smoothing of the score map by network input size: standard deviations in network pixels.
    candidates
        Recommended choice of pixels that may be keypoints: ``peaks`` of the score map, or ``all``.
    nms_radius
        Recommended suppression radius in network pixels by network input size; empty: the published choice, which grows
        with the input size.
    input_sizes
        Network input sizes (width, height) that the weights were trained or tuned for.
    training
        Provenance: whatever the training run recorded (JSON values).
    licence
        Licence of the weights, or an empty string where unknown.

    Raises
    ------
    WeightsError
        If a value is not one of those described above.
    """

    model: str
    sampling: Sampling = "half_pixel"
    bit_order: str = "msb_first"
    detector: Detector = "network"
    score_thresholds: Mapping[str, float] = field(default_factory=dict)
    smoothing: Mapping[str, float] = field(default_factory=dict)
    candidates: Candidates = "all"
    nms_radius: Mapping[str, int] = field(default_factory=dict)
    input_sizes: tuple[tuple[int, int], ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""

    def __post_init__(self) -> None:
        if self.sampling not in get_args(Sampling):
            raise WeightsError(f"sampling must be one of {', '.join(get_args(Sampling))}, got {self.sampling!r}")
        if self.bit_order != "msb_first":
            raise WeightsError(f"bit_order must be msb_first, got {self.bit_order!r}")
        if self.candidates not in get_args(Candidates):
            raise WeightsError(f"candidates must be one of {', '.join(get_args(Candidates))}, got {self.candidates!r}")
        if self.detector not in get_args(Detector):
            raise WeightsError(f"detector must be one of {', '.join(get_args(Detector))}, got {self.detector!r}")
        for size, threshold in self.score_thresholds.items():
            _parse_size(size)
            if not 0.0 <= threshold < 1.0:
                raise WeightsError(f"the score threshold of {size} must be in [0, 1), got {threshold}")
        for size, deviation in self.smoothing.items():
            _parse_size(size)
            if not 0.0 <= deviation < math.inf:
                raise WeightsError(f"the smoothing of {size} must be at least 0 pixels, got {deviation}")
        for size, radius in self.nms_radius.items():
            _parse_size(size)
            if radius < 0:
                raise WeightsError(f"the suppression radius of {size} must be at least 0, got {radius}")

    def score_threshold(self, width: int, height: int) -> float | None:
        """Recommended threshold for a network input of `width` x `height` pixels.

        A size that is not listed takes the threshold of the listed size that is nearest in area; None if no size
        is listed.
        """
        return _of_nearest_size(self.score_thresholds, width, height)

    def recommended_smoothing(self, width: int, height: int) -> float:
        """Recommended smoothing for a network input of `width` x `height` pixels, found like the threshold; else 0."""
        return _of_nearest_size(self.smoothing, width, height) or 0.0

    def recommended_radius(self, width: int, height: int) -> int | None:
        """Recommended suppression radius for a network input of `width` x `height` pixels, found like the threshold."""
        return _of_nearest_size(self.nms_radius, width, height)

    def to_json(self) -> str:
        """The metadata as a JSON object, as it stands in the header of a safetensors file."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> WeightsMetadata:
        """Undo `to_json`. Entries that this version does not know are ignored.

        Raises
        ------
        WeightsError
            If the text is not such an object, or of a newer schema version.
        """
        try:
            entries = json.loads(text)
            version = entries.pop("schema_version")
            if version != SCHEMA_VERSION:
                raise WeightsError(f"weights metadata of schema version {version}, expected {SCHEMA_VERSION}")
            known = {name: entries[name] for name in WeightsMetadata.__dataclass_fields__ if name in entries}
            sizes = known.get("input_sizes", ())
            known["input_sizes"] = tuple((int(width), int(height)) for width, height in sizes)
            for name in ("score_thresholds", "smoothing"):
                known[name] = {str(size): float(value) for size, value in known.get(name, {}).items()}
            radii = known.pop("nms_radius", None)
            if radii is not None:
                # Earlier files have one radius, for all sizes.
                radii = {_ANY_SIZE: radii} if isinstance(radii, int) else radii
                known["nms_radius"] = {str(size): int(radius) for size, radius in radii.items()}
            return WeightsMetadata(**known)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise WeightsError(f"weights metadata that cannot be read ({error!r})") from error


def _of_nearest_size(values: Mapping[str, Value], width: int, height: int) -> Value | None:
    exact = values.get(size_text(width, height))
    if exact is not None or not values:
        return exact
    area = math.log(width * height)
    return values[min(values, key=lambda size: abs(math.log(math.prod(_parse_size(size))) - area))]


def _parse_size(size: str) -> tuple[int, int]:
    read = read_size(size)
    if read is None:
        raise WeightsError(f"an input size is written as WIDTHxHEIGHT, e.g. 320x240, got {size!r}")
    return read
