# SPDX-License-Identifier: Apache-2.0
"""What an extractor tells about itself and about its latest call."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ..features import Metric

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Timings:
    """Wall-clock seconds of the stages of one call, for all its images together.

    Attributes
    ----------
    preprocess
        Resize, pad, scale to [0, 1].
    forward
        The network, with copies to and from the device; for ORB, detection and description.
    decode
        From score map and dense descriptors to `Features`. Keypoints that are of the image alone are looked for while
        the network runs; what has to be waited for counts here.
    """

    preprocess: float
    forward: float
    decode: float

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return self.preprocess + self.forward + self.decode


@dataclass(frozen=True)
class ModelInfo:
    """What another program must know to use the features of this extractor.

    Attributes
    ----------
    model
        Name of the network, or ``orb``.
    weights, weights_sha256
        Name of the weights file and its SHA-256; None for ORB.
    input_size
        Width and height of the network's input before padding; None where it is the image's own.
    descriptor_width
        Columns of a descriptor: bytes for ``hamming``, floats for ``l2``.
    metric
        How descriptors are compared.
    bit_order
        ``msb_first``: channel 0 is the most significant bit of byte 0. ORB's bits have an order of their own: ``orb``.
    sampling
        How descriptors were read from the dense map; None for ORB.
    max_keypoints, score_threshold, smoothing, detector, candidates, nms_radius, border
        Decoding as it stands. Threshold, smoothing (standard deviation), radius (Chebyshev) and border, all but the
        threshold in network pixels, are None where they depend on the size of the image or there are none; so are
        `detector` (``network`` or ``blobs``) and `candidates` (``peaks`` or ``all``) where there is no score map.
    runtime, device, precision
        What runs the network, where, and in which arithmetic.
    schema_version
        Version of this description and of the features message.
    """

    model: str
    weights: str | None
    weights_sha256: str | None
    input_size: tuple[int, int] | None
    descriptor_width: int
    metric: Metric
    bit_order: str
    sampling: str | None
    max_keypoints: int
    score_threshold: float | None
    smoothing: float | None
    detector: str | None
    candidates: str | None
    nms_radius: int | None
    border: int | None
    subpixel: bool
    runtime: str
    device: str
    precision: str
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """One JSON object with the attributes as its keys."""
        return json.dumps(asdict(self))
