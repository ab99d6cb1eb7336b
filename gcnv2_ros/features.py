# SPDX-License-Identifier: Apache-2.0
"""Features: the one value that all parts of the package exchange, and the packing of binary descriptors."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import GCNv2Error

Metric = Literal["hamming", "l2"]

DESCRIPTOR_BITS = 256
DESCRIPTOR_BYTES = DESCRIPTOR_BITS // 8


class FeaturesError(GCNv2Error):
    """Arrays that do not form a valid set of features."""


def pack_descriptors(channels: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Binarise descriptor channels by sign and pack them into bytes.

    Bit k of a descriptor is ``channel[k] > 0``; channel 0 becomes the most significant bit of byte 0, as
    `numpy.packbits` does. This is the only place in the package that decides the bit order;
    `gcnv2_ros.extraction.compiled` follows it.

    Parameters
    ----------
    channels
        Float (N, D), D a multiple of 8. Zero and NaN give a 0 bit.

    Returns
    -------
    numpy.ndarray
        uint8 (N, D // 8).
    """
    values = np.asarray(channels)
    if values.ndim != 2 or values.shape[1] % 8:
        raise FeaturesError(f"descriptor channels must be (N, D) with D a multiple of 8, got shape {values.shape}")
    return np.packbits(values > 0, axis=1)


def unpack_descriptors(descriptors: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Undo the packing: uint8 (N, B) to bool (N, 8 B), column k being channel k."""
    return np.unpackbits(np.asarray(descriptors, dtype=np.uint8), axis=1).astype(bool)


@dataclass(frozen=True, eq=False)
class Features:
    """Keypoints and descriptors of one image.

    N may be 0 everywhere. Arrays are contiguous; every per-keypoint array has length N (the constructor
    fills those that are left out).

    Attributes
    ----------
    uv
        float32 (N, 2), column and row in pixels of the image as received; the centre of the top-left pixel is (0, 0).
    response
        float32 (N,), detector score, in descending order.
    descriptors
        uint8 (N, 32) with the metric ``hamming``, or float32 (N, D) with the metric ``l2``.
    image_size
        Width and height in pixels of the image as received.
    metric
        How descriptors are compared.
    size
        float32 (N,), nominal diameter of the described patch in pixels of the image as received.
    angle
        float32 (N,), orientation in degrees [0, 360), clockwise in the image as OpenCV has it; -1 means none.
    depth
        float32 (N,), metres along the optical axis; NaN where unknown.
    right_u
        float32 (N,), column of the match in the right image of a rectified pair; -1 where unknown.
    track_id
        int32 (N,), -1 where untracked.

    Raises
    ------
    FeaturesError
        If shapes, lengths or the order of the responses do not fit the description above.
    """

    uv: NDArray[np.float32]
    response: NDArray[np.float32]
    descriptors: NDArray[np.uint8] | NDArray[np.float32]
    image_size: tuple[int, int]
    metric: Metric = "hamming"
    size: NDArray[np.float32] = field(default_factory=lambda: _UNSET)
    angle: NDArray[np.float32] = field(default_factory=lambda: _UNSET)
    depth: NDArray[np.float32] = field(default_factory=lambda: _UNSET)
    right_u: NDArray[np.float32] = field(default_factory=lambda: _UNSET)
    track_id: NDArray[np.int32] = field(default_factory=lambda: _UNSET)

    def __post_init__(self) -> None:
        set_array = object.__setattr__
        uv = np.ascontiguousarray(self.uv, dtype=np.float32)
        if uv.ndim != 2 or uv.shape[1] != 2:
            raise FeaturesError(f"uv must be (N, 2), got shape {uv.shape}")
        count = len(uv)
        set_array(self, "uv", uv)
        for name, (dtype, default) in _PER_KEYPOINT.items():
            given = getattr(self, name)
            if given is _UNSET:
                array: NDArray = np.full(count, default, dtype)
            else:
                array = np.ascontiguousarray(given, dtype=dtype)
            if array.shape != (count,):
                raise FeaturesError(f"{name} must be ({count},) to go with uv, got shape {array.shape}")
            set_array(self, name, array)
        descriptors = np.ascontiguousarray(self.descriptors)
        if self.metric not in ("hamming", "l2"):
            raise FeaturesError(f"metric must be 'hamming' or 'l2', got {self.metric!r}")
        expected = np.dtype(np.uint8 if self.metric == "hamming" else np.float32)
        if descriptors.ndim != 2 or len(descriptors) != count or descriptors.dtype != expected:
            raise FeaturesError(
                f"descriptors must be {expected.name} ({count}, D) for the metric {self.metric!r}, "
                f"got {descriptors.dtype.name} {descriptors.shape}"
            )
        set_array(self, "descriptors", descriptors)
        width, height = (int(extent) for extent in self.image_size)
        set_array(self, "image_size", (width, height))
        if count > 1 and not bool(np.all(self.response[:-1] >= self.response[1:])):
            raise FeaturesError("response must be in descending order")

    def __len__(self) -> int:
        return len(self.uv)

    @property
    def kind(self) -> tuple[Metric, int]:
        """Metric and number of columns of the descriptors: only those of one kind can be compared."""
        return self.metric, self.descriptors.shape[1]

    def select(self, index: ArrayLike) -> Features:
        """The features at `index`: a boolean mask (N,), or integer positions in ascending order."""
        picked = {name: getattr(self, name)[index] for name in ("uv", "descriptors", *_PER_KEYPOINT)}
        return Features(image_size=self.image_size, metric=self.metric, **picked)

    def with_arrays(self, **arrays: NDArray) -> Features:
        """A copy with some arrays replaced, e.g. ``features.with_arrays(depth=metres)``."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return Features(**{**values, **arrays})

    @staticmethod
    def empty(image_size: tuple[int, int], *, metric: Metric = "hamming", width: int = DESCRIPTOR_BYTES) -> Features:
        """No features, for an image of `image_size` (width, height) and descriptors of `width` columns."""
        descriptors: NDArray = np.zeros((0, width), np.uint8 if metric == "hamming" else np.float32)
        return Features(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), descriptors, image_size, metric)


def wrapped_degrees(degrees: ArrayLike) -> NDArray[np.float32]:
    """Angles as `Features.angle` has them: float32, in [0, 360)."""
    angle = np.mod(degrees, 360.0).astype(np.float32)
    # Of what is a little less than a full turn, rounding makes one.
    return np.where(angle < 360.0, angle, np.float32(0.0))


_UNSET: NDArray = np.zeros(0)
_PER_KEYPOINT: dict[str, tuple[type, float]] = {
    "response": (np.float32, 0.0),
    "size": (np.float32, 16.0),
    "angle": (np.float32, -1.0),
    "depth": (np.float32, np.nan),
    "right_u": (np.float32, -1.0),
    "track_id": (np.int32, -1),
}
