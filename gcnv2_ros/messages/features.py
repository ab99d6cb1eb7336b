# SPDX-License-Identifier: Apache-2.0
"""How `Features` lie in the bytes of a sensor_msgs/PointCloud2: schema version 1.

One point a keypoint, fields at fixed offsets, little-endian; see `SCHEMA` for names, types and meanings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GCNv2Error
from ..features import DESCRIPTOR_BYTES, Features, Metric

SCHEMA_VERSION = 1


class FeaturesMessageError(GCNv2Error):
    """A PointCloud2 that cannot be read as features; the sentence names the field that is wrong."""


@dataclass(frozen=True)
class SchemaField:
    """One scalar field of the features message.

    Attributes
    ----------
    name
        Name of the PointField.
    dtype
        NumPy type, little-endian.
    meaning
        What it is, with its unit and the value that stands for unknown.
    """

    name: str
    dtype: str
    meaning: str


SCHEMA: tuple[SchemaField, ...] = (
    SchemaField("x", "<f4", "undistorted viewing ray, x / z in the optical frame; NaN without calibration"),
    SchemaField("y", "<f4", "undistorted viewing ray, y / z in the optical frame; NaN without calibration"),
    SchemaField("z", "<f4", "1; NaN without calibration"),
    SchemaField("u", "<f4", "column in the image as received, pixels; 0 is the centre of the leftmost pixel"),
    SchemaField("v", "<f4", "row in the image as received, pixels; 0 is the centre of the topmost pixel"),
    SchemaField("response", "<f4", "detector score; points come in descending order"),
    SchemaField("size", "<f4", "nominal diameter of the described patch, pixels of the image as received"),
    SchemaField("angle", "<f4", "orientation in degrees, clockwise in the image; -1: none"),
    SchemaField("octave", "<i4", "pyramid level; 0"),
    SchemaField("track_id", "<i4", "number of the track; -1: untracked"),
    SchemaField("depth", "<f4", "metres along the optical axis; NaN: unknown"),
    SchemaField("right_u", "<f4", "column of the match in the right image, pixels; -1: unknown"),
)
"""The scalar fields in the order of the message; the field ``descriptor`` follows them."""

DESCRIPTOR_FIELD = "descriptor"
OPTIONAL_ARRAYS = ("size", "angle", "track_id", "depth", "right_u")
"""Fields that are arrays of `Features` of the same name, and may be missing in a message."""


def point_dtype(metric: Metric = "hamming", width: int = DESCRIPTOR_BYTES) -> np.dtype:
    """The structured type of one point: 80 bytes for the 32-byte descriptor.

    Parameters
    ----------
    metric
        ``hamming`` (uint8 descriptors) or ``l2`` (float32 descriptors).
    width
        Columns of a descriptor.
    """
    descriptor = "u1" if metric == "hamming" else "<f4"
    scalars: list[Any] = [(field.name, field.dtype) for field in SCHEMA]
    return np.dtype([*scalars, (DESCRIPTOR_FIELD, descriptor, (width,))])


def feature_points(features: Features, rays: NDArray[np.floating] | None = None) -> NDArray:
    """The points of a features message, a structured array (N,) of `point_dtype`.

    Parameters
    ----------
    features
        May be empty.
    rays
        (N, 3), undistorted viewing rays with z = 1; None writes NaN.

    Raises
    ------
    FeaturesMessageError
        If `rays` does not go with the features.
    """
    count = len(features)
    points = np.zeros(count, point_dtype(features.metric, features.descriptors.shape[1]))
    if rays is None:
        for axis in "xyz":
            points[axis] = np.nan
    elif np.shape(rays) != (count, 3):
        raise FeaturesMessageError(f"rays must be ({count}, 3) to go with the features, got shape {np.shape(rays)}")
    else:
        points["x"], points["y"], points["z"] = np.asarray(rays).T
    points["u"], points["v"] = features.uv.T
    points["response"] = features.response
    for name in OPTIONAL_ARRAYS:
        points[name] = getattr(features, name)
    points[DESCRIPTOR_FIELD] = features.descriptors
    return points
