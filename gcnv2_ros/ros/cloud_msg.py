# SPDX-License-Identifier: Apache-2.0
"""Structured arrays as sensor_msgs/PointCloud2 messages."""

from __future__ import annotations

import array

from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from ..messages.clouds import cloud_bytes, cloud_fields


def cloud_message(points: NDArray, header: Header, *, is_dense: bool) -> PointCloud2:
    """A cloud of height 1.

    Parameters
    ----------
    points
        Structured array (N,), contiguous and little-endian.
    header
        It goes into the message untouched.
    is_dense
        Whether no value is NaN or infinite.
    """
    # rclpy takes an array of bytes as it is, whereas it walks over every element of bytes or ndarrays.
    data = array.array("B")
    data.frombytes(cloud_bytes(points).data)
    message = PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=[PointField(**vars(field)) for field in cloud_fields(points.dtype)],
        is_bigendian=False,
        point_step=points.dtype.itemsize,
        row_step=points.nbytes,
        is_dense=is_dense,
    )
    message.data = data
    return message
