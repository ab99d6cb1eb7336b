# SPDX-License-Identifier: Apache-2.0
"""Keypoints with depth as a cloud of 3-D points, for RViz and for mapping.

Unlike `features_msg` this is an ordinary sensor_msgs/PointCloud2 with the fields that viewers know: x, y, z, response,
and rgb (a colour image's) or intensity (a gray one's).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from ..depth import points_in_space
from ..errors import GCNv2Error
from ..features import Features
from ..messages.clouds import float_points
from .cloud_msg import cloud_message


class PointsMessageError(GCNv2Error):
    """An image that does not go with the features."""


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
    FeaturesError
        If `rays` does not go with the features.
    PointsMessageError
        If `image` does not.
    """
    points = points_in_space(features, rays)
    known = np.isfinite(points[:, 2])
    x, y, z = points[known].T
    shown = {} if image is None else _appearance(image, features, known)
    return cloud_message(float_points(x=x, y=y, z=z, response=features.response[known], **shown), header, is_dense=True)


def _appearance(image: NDArray[np.uint8], features: Features, known: NDArray[np.bool_]) -> dict[str, NDArray]:
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
        return {"intensity": values}
    blue, green, red = values.astype("<u4").T
    return {"rgb": np.ascontiguousarray(red << 16 | green << 8 | blue, "<u4").view("<f4")}
