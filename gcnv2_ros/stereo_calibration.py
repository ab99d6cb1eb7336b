# SPDX-License-Identifier: Apache-2.0
"""A stereo pair's calibration from files that say how its cameras stand to each other, with the rectification."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration_files import CalibrationEntry, read_entry
from .camera import Camera, CameraError
from .geometry import invert_pose, rectify_pair

_LARGEST_SKEW = 1e-3


def read_stereo_calibration(left: str | Path, right: str | Path) -> tuple[Camera, Camera]:
    """The two cameras of a stereo pair, with rectification and projection.

    Where the cameras stand is taken from ``T_BS`` of EuRoC's two files, from ``T_cn_cnm1`` of a Kalibr camchain, or
    from ``Stereo.T_c1_c2`` of ORB-SLAM3's settings. Files of ROS that hold a stereo pair's projections are taken as
    they are.

    Parameters
    ----------
    left, right
        Files, or ``FILE#NAME``, as `gcnv2_ros.calibration_files.read_calibration` takes them.

    Raises
    ------
    CameraError
        If a file cannot be read, or neither says where the cameras stand.
    GeometryError
        If the cameras cannot be rectified; see `gcnv2_ros.geometry.rectify_pair`.
    """
    entries = read_entry(left), read_entry(right)
    cameras = entries[0].camera, entries[1].camera
    if cameras[1].baseline and cameras[0].projection is not None:
        return cameras
    transform = _left_to_right(*entries)
    if transform is None:
        raise CameraError(
            f"{left} and {right} do not say where the cameras stand: expected T_BS in both (EuRoC), one file with "
            "T_cn_cnm1 (Kalibr) or Stereo.T_c1_c2 (ORB-SLAM3), or the projection matrices of a stereo pair (ROS)"
        )
    if not np.linalg.norm(transform[:3, 3]) > 0.0:
        raise CameraError(f"{left} and {right} are at one place; a stereo pair has two")
    return rectify_pair(*cameras, transform)


def _left_to_right(left: CalibrationEntry, right: CalibrationEntry) -> NDArray[np.float64] | None:
    """Takes points from the left to the right optical frame; None if the files do not say."""
    if all(isinstance(entry.content, dict) and "T_BS" in entry.content for entry in (left, right)):
        body_from_left, body_from_right = (
            _transform(entry.content["T_BS"], "T_BS", entry.file) for entry in (left, right)
        )
        return invert_pose(body_from_right) @ body_from_left
    if Path(left.file) != Path(right.file):
        return None
    if re.fullmatch(r"cam\d+", left.name):
        from_left, from_right = (_from_first(entry) for entry in (left, right))
        return None if from_left is None or from_right is None else from_right @ invert_pose(from_left)
    if "Stereo.T_c1_c2" in left.content and {left.name, right.name} == {"Camera1", "Camera2"}:
        first_from_second = _transform(left.content["Stereo.T_c1_c2"], "Stereo.T_c1_c2", left.file)
        return invert_pose(first_from_second) if left.name == "Camera1" else first_from_second
    return None


def _from_first(entry: CalibrationEntry) -> NDArray[np.float64] | None:
    """Takes points from the optical frame of a camchain's first camera to that of this one."""
    transform = np.eye(4)
    for number in range(1, int(entry.name[3:]) + 1):
        name = f"cam{number}"
        step = entry.content.get(name)
        if not isinstance(step, dict) or "T_cn_cnm1" not in step:
            return None
        transform = _transform(step["T_cn_cnm1"], f"T_cn_cnm1 of {name}", entry.file) @ transform
    return transform


def _transform(value: Any, name: str, file: str) -> NDArray[np.float64]:
    try:
        numbers = np.array(value["data"] if isinstance(value, dict) else value, np.float64)
        matrix = numbers.reshape(4, 4)
    except (KeyError, TypeError, ValueError) as error:
        raise CameraError(f"the calibration file {file} is not usable: {name} must be 4 x 4 numbers") from error
    rotation = matrix[:3, :3]
    skew = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if not (skew < _LARGEST_SKEW and np.linalg.det(rotation) > 0 and np.isfinite(matrix).all()):
        raise CameraError(f"the calibration file {file} is not usable: {name} holds no rotation")
    return matrix
