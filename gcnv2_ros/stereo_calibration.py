# SPDX-License-Identifier: Apache-2.0
"""A stereo pair's calibration from files that say how its cameras stand to each other, with the rectification."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration_files import CalibrationEntry, read_entry, rigid_transform
from .camera import Camera, CameraError
from .geometry import invert_pose, rectified_pair_geometry, rectify_pair


def read_stereo_calibration(left: str | Path, right: str | Path) -> tuple[Camera, Camera]:
    """The two cameras of a stereo pair, with rectification and projection.

    Where the cameras stand is taken from ``T_BS`` of EuRoC's two files, from ``T_cn_cnm1`` or ``T_cam_imu`` of a Kalibr
    camchain, or from ``Stereo.T_c1_c2`` or, of rectified images, ``Stereo.b`` of ORB-SLAM3's settings. Files of ROS and
    stereo settings of ORB-SLAM2 hold the pair's projections already, which are taken as they are.

    Parameters
    ----------
    left, right
        Files, or ``FILE#NAME``, as `gcnv2_ros.calibration_files.read_calibration` takes them.

    Raises
    ------
    CameraError
        If a file cannot be read, neither says where the cameras stand, or they are no pair side by side, the left one
        on the left.
    GeometryError
        If the cameras cannot be rectified; see `gcnv2_ros.geometry.rectify_pair`.
    """
    entries = read_entry(left), read_entry(right)
    cameras = entries[0].camera, entries[1].camera
    if not _are_a_pair(*cameras):
        transform = _left_to_right(*entries)
        if transform is None:
            raise CameraError(
                f"{left} and {right} do not say where the cameras stand: expected T_BS in both (EuRoC), one file with "
                "T_cn_cnm1 or T_cam_imu (Kalibr), Stereo.T_c1_c2 or Stereo.b (ORB-SLAM3), or the projection matrices "
                "of a stereo pair (ROS)"
            )
        if not np.linalg.norm(transform[:3, 3]) > 0.0:
            raise CameraError(f"{left} and {right} are at one place; a stereo pair has two")
        cameras = rectify_pair(*cameras, transform)
    try:
        rectified_pair_geometry(*cameras)
    except CameraError as error:
        raise CameraError(f"{left} and {right} are no stereo pair: {error}") from error
    return cameras


def _are_a_pair(left: Camera, right: Camera) -> bool:
    """Whether the projections are a stereo pair's, in whatever order; a single camera's have no baseline."""
    both = left.projection is not None and right.projection is not None
    return both and bool(left.baseline or right.baseline)


def _left_to_right(left: CalibrationEntry, right: CalibrationEntry) -> NDArray[np.float64] | None:
    """Takes points from the left to the right optical frame; None if the files do not say."""
    if all(isinstance(entry.content, dict) and "T_BS" in entry.content for entry in (left, right)):
        body_from_left, body_from_right = (_transform(entry, entry.content["T_BS"], "T_BS") for entry in (left, right))
        return invert_pose(body_from_right) @ body_from_left
    if Path(left.file).resolve() != Path(right.file).resolve():
        return None
    if re.fullmatch(r"cam\d+", left.name):
        for chained in (_from_first, _from_imu):
            from_left, from_right = chained(left), chained(right)
            if from_left is not None and from_right is not None:
                return from_right @ invert_pose(from_left)
        return None
    if "Stereo.T_c1_c2" in left.content and {left.name, right.name} == {"Camera1", "Camera2"}:
        first_from_second = _transform(left, left.content["Stereo.T_c1_c2"], "Stereo.T_c1_c2")
        return invert_pose(first_from_second) if left.name == "Camera1" else first_from_second
    if left.content.get("Camera.type") == "Rectified" and "Stereo.b" in left.content:
        # One entry stands for both cameras.
        transform = np.eye(4)
        transform[0, 3] = -_number(left, "Stereo.b")
        return transform
    return None


def _from_first(entry: CalibrationEntry) -> NDArray[np.float64] | None:
    """Takes points from the optical frame of a camchain's first camera to that of this one."""
    transform = np.eye(4)
    for number in range(1, int(entry.name[3:]) + 1):
        name = f"cam{number}"
        step = entry.content.get(name)
        if not isinstance(step, dict) or "T_cn_cnm1" not in step:
            return None
        transform = _transform(entry, step["T_cn_cnm1"], f"T_cn_cnm1 of {name}") @ transform
    return transform


def _from_imu(entry: CalibrationEntry) -> NDArray[np.float64] | None:
    """Takes points from the IMU's frame to a camera's, where a camchain says so."""
    camera = entry.content[entry.name]
    return _transform(entry, camera["T_cam_imu"], f"T_cam_imu of {entry.name}") if "T_cam_imu" in camera else None


def _transform(entry: CalibrationEntry, value: Any, name: str) -> NDArray[np.float64]:
    try:
        return rigid_transform(value, name)
    except CameraError as error:
        raise CameraError(f"the calibration file {entry.file} is not usable: {error}") from error


def _number(entry: CalibrationEntry, name: str) -> float:
    try:
        return float(entry.content[name])
    except (TypeError, ValueError) as error:
        raise CameraError(
            f"the calibration file {entry.file} is not usable: {name} must be a number, got {entry.content[name]!r}"
        ) from error
