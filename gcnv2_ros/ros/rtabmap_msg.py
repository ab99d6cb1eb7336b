# SPDX-License-Identifier: Apache-2.0
"""Features as the local features of an rtabmap_msgs/RGBDImage, which RTAB-Map takes instead of extracting its own.

Labbé, Michaud, "RTAB-Map as an Open-Source Lidar and Visual SLAM Library for Large-Scale and Long-Term Online
Operation", JFR 2019. rtabmap_msgs is needed only by `rgbd_image`; everything else is tested without it.
"""

from __future__ import annotations

import array
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..depth import points_in_space
from ..errors import GCNv2Error
from ..features import Features
from ..libraries import import_library

# OpenCV's numbers of matrix types.
_CV_TYPES = {np.dtype(np.uint8): 0, np.dtype(np.float32): 5}


class RtabmapMessageError(GCNv2Error):
    """Descriptors that no message for RTAB-Map can be made of."""


def compress_matrix(matrix: NDArray[np.uint8] | NDArray[np.float32]) -> bytes:
    """A matrix as RTAB-Map's ``uncompressData`` reads it: zlib data, then rows, columns and OpenCV's type as int32.

    Parameters
    ----------
    matrix
        uint8 or float32 (N, D). Without rows or columns the result is empty, as RTAB-Map has it.

    Raises
    ------
    RtabmapMessageError
        For another type or shape.
    """
    if matrix.ndim != 2 or matrix.dtype not in _CV_TYPES:
        raise RtabmapMessageError(
            f"a matrix for RTAB-Map must be uint8 or float32 (N, D), got {matrix.dtype} {matrix.shape}"
        )
    if not matrix.size:
        return b""
    little = np.ascontiguousarray(matrix, matrix.dtype.newbyteorder("<"))
    return zlib.compress(little.tobytes()) + struct.pack("<iii", *matrix.shape, _CV_TYPES[matrix.dtype])


def local_points(features: Features, rays: NDArray[np.floating] | None) -> NDArray[np.float32]:
    """Keypoints in space, float32 (N, 3) metres in the camera's optical frame; NaN where depth or ray is unknown.

    Parameters
    ----------
    features
        With `depth` where it is known.
    rays
        (N, 3), undistorted viewing rays with z = 1; None: no calibration, all NaN.

    Raises
    ------
    FeaturesError
        If `rays` do not go with the features.
    """
    if rays is None:
        return np.full((len(features), 3), np.nan, np.float32)
    return points_in_space(features, rays).astype(np.float32)


def fill_local_features(
    message: Any, features: Features, rays: NDArray[np.floating] | None, *, key_point: Any, point2: Any, point3: Any
) -> None:
    """Set `key_points`, `points` and `descriptors` of a message.

    Parameters
    ----------
    message
        rtabmap_msgs/RGBDImage, or anything with these attributes.
    features, rays
        As in `local_points`.
    key_point, point2, point3
        The classes rtabmap_msgs/KeyPoint, Point2f and Point3f.

    Raises
    ------
    FeaturesError
        If `rays` do not go with the features.
    """
    values = zip(
        features.uv.tolist(), features.size.tolist(), features.angle.tolist(), features.response.tolist()
    )  # fmt: skip
    message.key_points = [
        key_point(pt=point2(x=u, y=v), size=size, angle=angle, response=response, octave=0, class_id=-1)
        for (u, v), size, angle, response in values
    ]
    message.points = [point3(x=x, y=y, z=z) for x, y, z in local_points(features, rays).tolist()]
    message.descriptors = array.array("B", compress_matrix(features.descriptors))


def rgbd_image(
    features: Features,
    rays: NDArray[np.floating] | None,
    *,
    image: Any,
    camera_info: Any,
    depth: Any = None,
    depth_camera_info: Any = None,
) -> Any:
    """An rtabmap_msgs/RGBDImage with the images as they came and the features beside them.

    Parameters
    ----------
    features, rays
        As in `local_points`.
    image, camera_info
        sensor_msgs/Image and sensor_msgs/CameraInfo of the camera.
    depth
        sensor_msgs/Image: the depth image registered to the camera, or the right image of a stereo pair; None: none.
    depth_camera_info
        Its sensor_msgs/CameraInfo; None: that of the camera, which holds for a registered depth image.

    Raises
    ------
    MissingDependencyError
        Without rtabmap_msgs.
    FeaturesError
        If `rays` do not go with the features.
    """
    messages = require_rtabmap_msgs()
    message = messages.RGBDImage(header=image.header, rgb=image, rgb_camera_info=camera_info)
    message.depth_camera_info = camera_info if depth_camera_info is None else depth_camera_info
    if depth is not None:
        message.depth = depth
    fill_local_features(
        message, features, rays, key_point=messages.KeyPoint, point2=messages.Point2f, point3=messages.Point3f
    )
    return message


def require_rtabmap_msgs() -> Any:
    """The module rtabmap_msgs.msg.

    Raises
    ------
    MissingDependencyError, LibraryError
        If it is not installed, or is and cannot be imported.
    """
    return import_library(
        "rtabmap_msgs.msg", "the output for RTAB-Map", "sudo apt install ros-$ROS_DISTRO-rtabmap-msgs"
    )
