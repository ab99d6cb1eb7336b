# SPDX-License-Identifier: Apache-2.0
"""`Features` as sensor_msgs/PointCloud2 and back: schema version 1.

One point a keypoint, fields at fixed offsets, little-endian; see `SCHEMA` for names, types and meanings. Readers should
take offsets, types and counts from the message's field list, as `decode_features` does: later schema versions may
append fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from ..features import DESCRIPTOR_BYTES, Features, FeaturesError, Metric
from ..messages.clouds import POINT_FIELD_TYPES, cloud_fields
from ..messages.features import (
    DESCRIPTOR_FIELD,
    OPTIONAL_ARRAYS,
    SCHEMA,
    SCHEMA_VERSION,
    FeaturesMessageError,
    SchemaField,
    feature_points,
    point_dtype,
)
from ..stamps import nanoseconds_of
from .cloud_msg import cloud_message

__all__ = [
    "DESCRIPTOR_FIELD",
    "SCHEMA",
    "SCHEMA_VERSION",
    "FeaturesMessageError",
    "ReceivedFeatures",
    "SchemaField",
    "decode_features",
    "describe_schema",
    "encode_features",
    "point_dtype",
]

_DESCRIPTOR_MEANING = "binary descriptor, compared by Hamming distance, or float descriptor, compared by L2 distance"

_POINT_FIELD_NAMES = {code: dtype.name.upper() for code, dtype in POINT_FIELD_TYPES.items()}

ByteOrder = Literal["<", ">"]

_REQUIRED_FIELDS = ("u", "v", "response", DESCRIPTOR_FIELD)
_INTEGER_FIELDS = ("octave", "track_id")

# NumPy holds the size of an array's element in a C int.
_LARGEST_POINT_STEP = 2**31 - 1


@dataclass(frozen=True, eq=False)
class ReceivedFeatures:
    """What a features message holds.

    Attributes
    ----------
    features
        The keypoints. The message does not carry the image's size; see `decode_features`.
    rays
        float32 (N, 3), viewing rays with z = 1 in the optical frame; NaN without calibration.
    octave
        int32 (N,), pyramid level.
    header
        The message's header, which is that of the image.
    """

    features: Features
    rays: NDArray[np.float32]
    octave: NDArray[np.int32]
    header: Header

    @property
    def stamp_ns(self) -> int:
        """The image's time stamp in nanoseconds."""
        return nanoseconds_of(self.header.stamp)


def describe_schema(metric: Metric = "hamming", width: int = DESCRIPTOR_BYTES) -> dict[str, Any]:
    """The layout as values for JSON: version, byte order, bytes a point, and each field with its meaning."""
    dtype = point_dtype(metric, width)
    meanings = {field.name: field.meaning for field in SCHEMA} | {DESCRIPTOR_FIELD: _DESCRIPTOR_MEANING}
    return {
        "schema_version": SCHEMA_VERSION,
        "byte_order": "little",
        "point_step": dtype.itemsize,
        "fields": [
            {
                "name": field.name,
                "offset": field.offset,
                "datatype": _POINT_FIELD_NAMES[field.datatype].lower(),
                "count": field.count,
                "meaning": meanings[field.name],
            }
            for field in cloud_fields(dtype)
        ],
    }


def encode_features(features: Features, header: Header, rays: NDArray[np.floating] | None = None) -> PointCloud2:
    """Encode features as a PointCloud2 of schema version 1.

    Parameters
    ----------
    features
        May be empty; the message is then a cloud of no points.
    header
        The image's header; it goes into the message untouched.
    rays
        (N, 3), undistorted viewing rays with z = 1; None writes NaN.

    Raises
    ------
    FeaturesMessageError
        If `rays` does not go with the features.
    """
    points = feature_points(features, rays)
    return cloud_message(points, header, is_dense=rays is not None and bool(np.isfinite(rays).all()))


def decode_features(message: PointCloud2, *, image_size: tuple[int, int] = (0, 0)) -> ReceivedFeatures:
    """Read features from any PointCloud2 that names the fields ``u``, ``v``, ``response`` and ``descriptor``.

    Fields are found by name: order, offsets, gaps, padded rows, either byte order and further fields do not matter.
    Missing optional fields get the values that stand for unknown.

    Parameters
    ----------
    message
        sensor_msgs/PointCloud2, from rclpy or from a bag reader.
    image_size
        Width and height to put into the features. The message does not carry them; (0, 0) stands for unknown.

    Raises
    ------
    FeaturesMessageError
        If a field is missing, has the wrong type or count, or lies outside of its point, if the data are shorter
        than the message's sizes say, if a position or a float descriptor is not finite, or if the responses are not in
        descending order.
    """
    points = _structured_points(message)
    names = points.dtype.names or ()
    count = len(points)

    def scalar(name: str, unknown: float) -> NDArray:
        dtype = np.int32 if name in _INTEGER_FIELDS else np.float32
        return points[name].astype(dtype) if name in names else np.full(count, unknown, dtype)

    descriptors: Any = points[DESCRIPTOR_FIELD]
    metric: Metric = "hamming" if descriptors.dtype == np.uint8 else "l2"
    uv = np.stack([scalar("u", 0.0), scalar("v", 0.0)], axis=1)
    if not np.isfinite(uv).all():
        raise FeaturesMessageError("the features message has keypoints whose position (u, v) is NaN or infinite")
    if metric == "l2" and not np.isfinite(descriptors).all():
        raise FeaturesMessageError("the features message has descriptors with values that are NaN or infinite")
    optional = {name: scalar(name, 0.0) for name in OPTIONAL_ARRAYS if name in names}
    try:
        features = Features(
            uv,
            scalar("response", 0.0),
            descriptors.astype(np.uint8 if metric == "hamming" else np.float32),
            image_size,
            metric,
            **optional,
        )
    except FeaturesError as error:
        raise FeaturesMessageError(f"the features message holds no valid features: {error}") from error
    rays = np.stack([scalar(axis, np.nan) for axis in "xyz"], axis=1)
    return ReceivedFeatures(features, rays, scalar("octave", 0), message.header)


def _structured_points(message: PointCloud2) -> NDArray:
    """The message's points as a structured array (N,) of the fields that the schema knows."""
    order: ByteOrder = ">" if message.is_bigendian else "<"
    known = {field.name for field in SCHEMA} | {DESCRIPTOR_FIELD}
    formats: dict[str, tuple[Any, int]] = {}
    for field in message.fields:
        if field.name not in known:
            continue
        if field.name in formats:
            raise FeaturesMessageError(f"the field {field.name!r} appears twice in the features message")
        formats[field.name] = (_checked_format(field, order, message.point_step), field.offset)
    _require(formats)
    if message.point_step > _LARGEST_POINT_STEP:
        raise FeaturesMessageError(
            f"points of {message.point_step} bytes (point_step) are no features; at most {_LARGEST_POINT_STEP} are read"
        )
    dtype = np.dtype(
        {
            "names": list(formats),
            "formats": [entry for entry, _ in formats.values()],
            "offsets": [offset for _, offset in formats.values()],
            "itemsize": message.point_step,
        }
    )
    height, width = message.height, message.width
    if height == 0 or width == 0:
        return np.zeros(0, dtype)
    needed = (height - 1) * message.row_step + width * message.point_step
    if height > 1 and message.row_step < width * message.point_step:
        raise FeaturesMessageError(
            f"row_step is {message.row_step}, less than {width} points of {message.point_step} bytes"
        )
    if len(message.data) < needed:
        raise FeaturesMessageError(
            f"data has {len(message.data)} bytes; {height} x {width} points of {message.point_step} bytes need {needed}"
        )
    rows = np.ndarray((height, width), dtype, message.data, strides=(message.row_step, message.point_step))
    return rows.reshape(-1)


def _checked_format(
    field: PointField, order: ByteOrder, point_step: int
) -> tuple[np.dtype, tuple[int, ...]] | np.dtype:
    """The NumPy format of one field in the byte order `order`."""
    base = POINT_FIELD_TYPES.get(field.datatype)
    if base is None:
        raise FeaturesMessageError(f"the field {field.name!r} has the unknown datatype {field.datatype}")
    if field.name == DESCRIPTOR_FIELD:
        allowed = base == np.uint8 or base.kind == "f"
        expected = "UINT8 or FLOAT32"
    elif field.name in _INTEGER_FIELDS:
        allowed, expected = base.kind in "iu", "INT32"
    else:
        allowed, expected = base.kind == "f", "FLOAT32"
    if not allowed:
        raise FeaturesMessageError(
            f"the field {field.name!r} has the datatype {_POINT_FIELD_NAMES[field.datatype]}, expected {expected}"
        )
    if field.count < 1 or (field.count != 1 and field.name != DESCRIPTOR_FIELD):
        raise FeaturesMessageError(
            f"the field {field.name!r} has the count {field.count}, expected "
            f"{'1 or more' if field.name == DESCRIPTOR_FIELD else '1'}"
        )
    end = field.offset + base.itemsize * field.count
    if end > point_step:
        raise FeaturesMessageError(
            f"the field {field.name!r} ends at byte {end} of a point of {point_step} bytes (point_step)"
        )
    ordered = base.newbyteorder(order)
    return (ordered, (field.count,)) if field.name == DESCRIPTOR_FIELD else ordered


def _require(names: Iterable[str]) -> None:
    missing = [name for name in _REQUIRED_FIELDS if name not in names]
    if missing:
        raise FeaturesMessageError(
            f"the features message lacks the field {', '.join(map(repr, missing))}; is it from ~/features?"
        )
