# SPDX-License-Identifier: Apache-2.0
"""Keypoints with depth as a cloud of 3-D points, for RViz and for mapping.

Unlike `features_msg` this is an ordinary sensor_msgs/PointCloud2 with the fields that viewers know: x, y, z, response,
and rgb (a colour image's) or intensity (a gray one's).
"""

from __future__ import annotations

import array

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from ..errors import GCNv2Error
from ..features import Features


class PointsMessageError(GCNv2Error):
    """Rays or an image that do not go with the features."""


def encode_points(
    features: Features,
    rays: NDArray[np.floating],
    header: Header,
    *,
    image: NDArray[np.uint8] | None = None,
) -> PointCloud2:
    """Encode the features that have a depth as points in the camera's optical frame.

    Parameters
    ----------
    features
        Those with depth and ray become points, in their order; the others are left out.
    rays
        (N, 3), undistorted viewing rays with z = 1; a row of NaN is unknown.
    header
        The image's header; it goes into the message untouched.
    image
        uint8, the image of the features: (H, W, 3) BGR for the field ``rgb``, as PCL packs it into the bits of a
        float32 (0x00RRGGBB); (H, W) gray for the field ``intensity``, 0 to 255. None: neither field.

    Returns
    -------
    sensor_msgs.msg.PointCloud2
        Little-endian, height 1, all float32: x, y, z in metres, ``response``, ``rgb`` or ``intensity``; no NaN.

    Raises
    ------
    PointsMessageError
        If `rays` or `image` does not go with the features.
    """
    if np.shape(rays) != (len(features), 3):
        raise PointsMessageError(
            f"rays must be ({len(features)}, 3) to go with the features, got shape {np.shape(rays)}"
        )
    points = rays * features.depth[:, None].astype(np.float64)
    known = np.isfinite(points).all(axis=1) & (features.depth > 0)
    names = ["x", "y", "z", "response"]
    columns = [*points[known].T, features.response[known]]
    if image is not None:
        name, values = _appearance(image, features, known)
        names.append(name)
        columns.append(values)
    cloud = np.stack([np.asarray(column, "<f4") for column in columns], axis=1)
    step = cloud.dtype.itemsize * len(names)
    # rclpy takes an array of bytes as it is, whereas it walks over every element of bytes or ndarrays.
    data = array.array("B")
    data.frombytes(cloud.tobytes())
    message = PointCloud2(
        header=header,
        height=1,
        width=len(cloud),
        fields=[
            PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
            for index, name in enumerate(names)
        ],
        is_bigendian=False,
        point_step=step,
        row_step=step * len(cloud),
        is_dense=True,
    )
    message.data = data
    return message


def _appearance(image: NDArray[np.uint8], features: Features, known: NDArray[np.bool_]) -> tuple[str, NDArray]:
    """Name and values of the field that shows what the image has at the nearest pixel of each point."""
    width, height = features.image_size
    if image.dtype != np.uint8 or image.shape not in ((height, width), (height, width, 3)):
        raise PointsMessageError(
            f"the image must be uint8 ({height}, {width}) or ({height}, {width}, 3) to go with the features, "
            f"got {image.dtype.name} {image.shape}"
        )
    columns, rows = np.clip(np.rint(features.uv[known]), 0, (width - 1, height - 1)).astype(int).T
    values = image[rows, columns]
    if image.ndim == 2:
        return "intensity", values
    blue, green, red = values.astype("<u4").T
    return "rgb", np.ascontiguousarray(red << 16 | green << 8 | blue, "<u4").view("<f4")
