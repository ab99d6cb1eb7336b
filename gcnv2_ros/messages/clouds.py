# SPDX-License-Identifier: Apache-2.0
"""How structured arrays lie in a sensor_msgs/PointCloud2: fields, codes of their types, and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

POINT_FIELD_TYPES: dict[int, np.dtype] = {
    1: np.dtype(np.int8),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int16),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int32),
    6: np.dtype(np.uint32),
    7: np.dtype(np.float32),
    8: np.dtype(np.float64),
}
"""The types of values by their codes in sensor_msgs/PointField."""

_CODES = {dtype: code for code, dtype in POINT_FIELD_TYPES.items()}


@dataclass(frozen=True)
class CloudField:
    """One field of a cloud's points, as a sensor_msgs/PointField has it.

    Attributes
    ----------
    name
        Its name.
    offset
        Bytes from the start of a point.
    datatype
        Code of its type, see `POINT_FIELD_TYPES`.
    count
        Values a point.
    """

    name: str
    offset: int
    datatype: int
    count: int


@lru_cache(maxsize=16)
def cloud_fields(dtype: np.dtype) -> tuple[CloudField, ...]:
    """The fields of points of a structured type, in their order.

    Raises
    ------
    KeyError
        If a field is of a type that a PointCloud2 does not have.
    """
    fields: Any = dtype.fields or {}
    return tuple(
        CloudField(name, offset, _CODES[field.base.newbyteorder("=")], field.shape[0] if field.shape else 1)
        for name, (field, offset, *_) in fields.items()
    )


def cloud_bytes(points: NDArray) -> NDArray[np.uint8]:
    """The bytes of contiguous structured points (N,), one after the other, uint8 of one dimension; no copy."""
    return points.view(np.uint8) if len(points) else np.zeros(0, np.uint8)


def float_points(**columns: ArrayLike) -> NDArray:
    """Structured points (N,) of float32 fields, little-endian, by their names and in their order; columns are (N,)."""
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    points = np.empty(len(next(iter(arrays.values()))), np.dtype([(name, "<f4") for name in arrays]))
    for name, column in arrays.items():
        points[name] = column
    return points
