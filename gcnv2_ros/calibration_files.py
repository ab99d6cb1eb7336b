# SPDX-License-Identifier: Apache-2.0
"""Calibration files of ROS, OpenCV, ORB-SLAM, Kalibr and EuRoC, told apart by their entries."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .camera import Camera, CameraError, model_named
from .files import user_path
from .settings_files import SettingsError, read_settings

_LARGEST_SKEW = 1e-3

_ORB_SLAM_MODELS = {"PinHole": "plumb_bob", "Rectified": "none", "KannalaBrandt8": "equidistant"}
_ORB_SLAM_COEFFICIENTS = {
    "plumb_bob": ("k1", "k2", "p1", "p2", "k3"),
    "none": (),
    "equidistant": ("k1", "k2", "k3", "k4"),
}


def read_calibration(path: str | Path, *, frame_id: str = "") -> Camera:
    """Read one camera from a calibration file.

    Known are files of ROS (camera_calibration, camera_info_manager), of OpenCV (its calibration sample, RTAB-Map), of
    ORB-SLAM2 and ORB-SLAM3 (their settings), of Kalibr (a camchain) and of the EuRoC data set (sensor.yaml).

    Parameters
    ----------
    path
        The file; a leading ``~`` is the home folder. ``FILE#NAME`` is the camera of that name in a file that holds
        several: ``cam1`` of Kalibr's, ``Camera2`` of ORB-SLAM's.
    frame_id
        Name of the camera's optical frame.

    Raises
    ------
    CameraError
        If the file is missing, is no YAML, is of another kind, lacks an entry, is uncalibrated, or holds several
        cameras and none of them is named; the sentence names the file.
    """
    return replace(read_entry(path).camera, frame_id=frame_id)


@dataclass(frozen=True, eq=False)
class CalibrationEntry:
    """One camera of a calibration file.

    Attributes
    ----------
    file, name
        The file, and the camera's name in it, which may be empty.
    content
        The whole file, parsed.
    camera
        The camera.
    """

    file: str
    name: str
    content: Any
    camera: Camera


def read_entry(path: str | Path) -> CalibrationEntry:
    """Read one camera with what surrounds it; arguments and errors as `read_calibration`."""
    file, name = _split(user_path(path, CameraError))
    try:
        content = read_settings(file)
    except SettingsError as error:
        raise CameraError(str(error)) from error
    try:
        cameras = _cameras(content)
        if name and name not in cameras:
            raise CameraError(f"it holds no camera {name!r}, only {', '.join(filter(None, cameras)) or 'one unnamed'}")
        if not name and len(cameras) > 1:
            first = f"{file}#{next(iter(cameras))}"
            raise CameraError(
                f"it holds {', '.join(cameras)}; say which by {first}, or, where that cannot be said, make a file of "
                f"one by `gcnv2 calibration {first} --out FOLDER`"
            )
        name = name or next(iter(cameras))
        return CalibrationEntry(file, name, content, cameras[name]())
    except CameraError as error:
        raise CameraError(f"the calibration file {file} is not usable: {error}") from error


def camera_from_intrinsics(content: Any) -> Camera:
    """The camera of one entry of a Kalibr camchain, or of a ``sensor.yaml`` of EuRoC.

    Raises
    ------
    CameraError
        If an entry is missing or wrong, or there are none.
    """
    if not isinstance(content, dict):
        raise CameraError(
            "expected the entries camera_model, resolution, intrinsics, distortion_model and distortion_coeffs "
            f"(distortion_coefficients in a sensor.yaml), got {str(content)[:40]!r}"
        )
    try:
        if content["camera_model"] != "pinhole":
            raise CameraError(f"a camera of the model {content['camera_model']!r} is not supported, only 'pinhole'")
        width, height = content["resolution"]
        fx, fy, cx, cy = content["intrinsics"]
        name = "distortion_coeffs" if "distortion_coeffs" in content else "distortion_coefficients"
        model = str(content["distortion_model"])
        coefficients = [] if model == "none" else [float(number) for number in content[name]]
        return Camera(
            width, height, fx, fy, cx, cy, model_named(model, coefficients, "'distortion_model'"), tuple(coefficients)
        )
    except KeyError as error:
        raise CameraError(f"the entry {error} is missing") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise CameraError(
            "resolution must be 2 numbers of pixels, intrinsics 4 numbers, and the distortion coefficients a list of "
            f"numbers: {error}"
        ) from error


def rigid_transform(value: Any, name: str) -> NDArray[np.float64]:
    """A transform of rotation and translation, float64 (4, 4), from rows of numbers or from a matrix with ``data``.

    Raises
    ------
    CameraError
        If it is none; the sentence has its `name`.
    """
    try:
        matrix = np.array(value["data"] if isinstance(value, dict) else value, np.float64).reshape(4, 4)
    except (KeyError, TypeError, ValueError) as error:
        raise CameraError(f"{name} must be 4 x 4 numbers") from error
    rotation = matrix[:3, :3]
    with np.errstate(invalid="ignore", over="ignore"):
        skew = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if not (np.isfinite(matrix).all() and skew < _LARGEST_SKEW and np.linalg.det(rotation) > 0):
        raise CameraError(f"{name} holds no rotation")
    return matrix


def _split(path: Path) -> tuple[str, str]:
    """File and name of the camera in it."""
    file, sign, name = str(path).rpartition("#")
    return (file, name) if sign and Path(file).is_file() and not path.exists() else (str(path), "")


def _cameras(content: Any) -> dict[str, Callable[[], Camera]]:
    """How to read each camera of a file, by its name; a file's only camera may have none."""
    if isinstance(content, dict):
        names = [str(key) for key in content]
        lower = {str(key).lower(): value for key, value in content.items()}
        if "camera_matrix" in lower:
            if lower.get("fisheye_model"):
                lower["distortion_model"] = "equidistant"
            return {"": partial(Camera.from_dict, lower)}
        if "intrinsics" in content:
            return {"": partial(camera_from_intrinsics, content)}
        if chain := [name for name in names if re.fullmatch(r"cam\d+", name)]:
            return {name: partial(camera_from_intrinsics, content[name]) for name in chain}
        if "LEFT.K" in content:
            # What stands under "Camera." is then the rectified pair's, which the recorded images are not of.
            return {side: partial(_from_orb_slam2_stereo, content, side) for side in ("LEFT", "RIGHT")}
        if settings := sorted({found[1] for name in names if (found := re.match(r"(Camera\d*)\.fx$", name))}):
            return {name: partial(_from_orb_slam, content, name) for name in settings}
    raise CameraError(
        "expected image_width, image_height, camera_matrix, ... of ROS or OpenCV, Camera.fx, ... of ORB-SLAM, or "
        "camera_model, intrinsics, ... of Kalibr or EuRoC"
    )


def _from_orb_slam(content: dict[str, Any], name: str) -> Camera:
    kind = str(content.get("Camera.type", "PinHole"))
    if kind not in _ORB_SLAM_MODELS:
        raise CameraError(f"Camera.type {kind!r} is unknown; known are {', '.join(_ORB_SLAM_MODELS)}")
    model = _ORB_SLAM_MODELS[kind]
    try:
        fx, fy, cx, cy = (float(content[f"{name}.{number}"]) for number in ("fx", "fy", "cx", "cy"))
        coefficients = [float(content.get(f"{name}.{number}", 0.0)) for number in _ORB_SLAM_COEFFICIENTS[model]]
    except KeyError as error:
        raise CameraError(f"the entry {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise CameraError(f"the entries of {name} must be numbers: {error}") from error
    try:
        width, height = (int(content[f"Camera.{side}"]) for side in ("width", "height"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CameraError(
            "Camera.width and Camera.height, the image's size in pixels, are missing; add them"
        ) from error
    return Camera(width, height, fx, fy, cx, cy, model_named(model, coefficients, "Camera.type"), tuple(coefficients))


def _from_orb_slam2_stereo(content: dict[str, Any], side: str) -> Camera:
    entries = {
        "image_width": "width",
        "image_height": "height",
        "camera_matrix": "K",
        "distortion_coefficients": "D",
        "rectification_matrix": "R",
        "projection_matrix": "P",
    }
    missing = [f"{side}.{entry}" for entry in entries.values() if f"{side}.{entry}" not in content]
    if missing:
        raise CameraError(f"the entry {missing[0]!r} is missing")
    return Camera.from_dict({name: content[f"{side}.{entry}"] for name, entry in entries.items()})
