# SPDX-License-Identifier: Apache-2.0
"""EuRoC folders in ASL format (Burri et al., "The EuRoC micro aerial vehicle datasets", IJRR 2016)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..calibration_files import camera_from_intrinsics, rigid_transform
from ..camera import Camera, CameraError
from ..geometry import invert_pose, rectify_pair
from ..settings_files import SettingsError, read_settings
from .base import Frame, Sequence, SequenceError
from .reading import PoseTable, check_size, nanoseconds, numbers, read_picture, read_table


class EurocSequence(Sequence):
    """A folder with ``mav0/cam0`` and, for stereo, ``mav0/cam1``.

    A stereo pair's cameras carry the rectification and projection that OpenCV computes from the calibration; those of
    fisheye (equidistant) lenses, as TUM-VI has them, carry none and cannot be rectified.

    Parameters
    ----------
    path
        The folder that holds ``mav0``, or ``mav0`` itself.
    rectify
        Give rectified images, with cameras and poses to match, and `stereo`; otherwise the images are as recorded and
        give no depth by stereo.

    Raises
    ------
    SequenceError
        If the folder is none of the kind, or `rectify` is asked for without a second camera or with fisheye lenses.
    """

    def __init__(self, path: str | Path, *, rectify: bool = False) -> None:
        folder = _root(Path(path))
        if folder is None:
            raise SequenceError(f"{path} is not a EuRoC folder: it has no mav0/cam0/data.csv")
        self._folder = folder
        self.name = folder.resolve().parent.name if folder.name == "mav0" else folder.resolve().name
        self.camera, body_from_left = read_sensor_yaml(folder / "cam0" / "sensor.yaml")
        images = _read_image_list(folder / "cam0")
        self._left = images
        self._right: dict[int, Path] = {}
        self._stamps = sorted(images)
        fisheye = False
        if (folder / "cam1" / "data.csv").is_file():
            self._right = _read_image_list(folder / "cam1")
            self._stamps = sorted(images.keys() & self._right.keys())
            right, body_from_right = read_sensor_yaml(folder / "cam1" / "sensor.yaml")
            left_to_right = invert_pose(body_from_right) @ body_from_left
            fisheye = "equidistant" in (self.camera.model, right.model)
            if fisheye and rectify:
                raise SequenceError(
                    f"{folder} has fisheye (equidistant) cameras, which are not rectified here; open it without "
                    "rectify, or rectify its images beforehand"
                )
            pair = (self.camera, right) if fisheye else rectify_pair(self.camera, right, left_to_right)
            self.camera, self.right_camera = pair
        if not self._stamps:
            raise SequenceError(f"{folder} has no frame: cam0 and cam1 have no time stamp in common")
        truth = folder / "state_groundtruth_estimate0" / "data.csv"
        self._poses = _read_poses(truth) if truth.is_file() else None
        self._body_from_camera = body_from_left
        self._maps: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        if rectify:
            self._rectify(folder)
        elif self._right:
            advice = "fisheye (equidistant) ones are not rectified here" if fisheye else "give rectify=true"
            self.notes = [f"no depth by stereo: the images are as recorded, not rectified; {advice}"]

    def __len__(self) -> int:
        return len(self._stamps)

    def __getitem__(self, index: int) -> Frame:
        position = self._position(index)
        stamp = self._stamps[position]
        pictures = [self._picture("cam0", self._left[stamp], self.camera)]
        if self._right:
            pictures.append(self._picture("cam1", self._right[stamp], self.right_camera))
        if self._maps:
            pictures = [
                np.asarray(cv2.remap(picture, *maps, cv2.INTER_LINEAR), np.uint8)
                for picture, maps in zip(pictures, self._maps, strict=True)
            ]
        body = None if self._poses is None else self._poses.at(stamp)
        pose = None if body is None else body @ self._body_from_camera
        return Frame(position, stamp, pictures[0], right=pictures[1] if len(pictures) > 1 else None, pose=pose)

    def _picture(self, name: str, path: Path, camera: Camera | None) -> NDArray[np.uint8]:
        image = read_picture(path)
        # Rectification keeps the size.
        check_size(image, path, camera, self._folder / name / "sensor.yaml")
        return image

    def _rectify(self, folder: Path) -> None:
        if self.camera is None or self.right_camera is None:
            raise SequenceError(f"{folder} has one camera, and rectified images need two")
        self._maps = [self.camera.rectification_maps(), self.right_camera.rectification_maps()]
        turned = np.eye(4)
        if self.camera.rectification is not None:
            turned[:3, :3] = self.camera.rectification.T
        self._body_from_camera = self._body_from_camera @ turned
        self.camera, self.right_camera = self.camera.rectified(), self.right_camera.rectified()
        self._take_pair()


def is_euroc_folder(folder: Path) -> bool:
    """Whether `EurocSequence` would try to read the folder."""
    return _root(folder) is not None


def read_sensor_yaml(path: Path) -> tuple[Camera, NDArray[np.float64]]:
    """Read a camera's ``sensor.yaml``.

    Returns
    -------
    camera : Camera
    body_from_camera : numpy.ndarray
        float64 (4, 4), T_BS: the optical frame to the vehicle's body.

    Raises
    ------
    SequenceError
        If the file is missing or incomplete.
    """
    try:
        content = read_settings(path)
    except SettingsError as error:
        raise SequenceError(str(error)) from error
    try:
        camera = replace(camera_from_intrinsics(content), frame_id=path.parent.name)
        body_from_camera = rigid_transform(content.get("T_BS"), "T_BS")
    except CameraError as error:
        raise SequenceError(f"{path}: {error}") from error
    return camera, body_from_camera


def _root(path: Path) -> Path | None:
    """The folder that holds cam0."""
    return next((root for root in (path / "mav0", path) if (root / "cam0" / "data.csv").is_file()), None)


def _read_image_list(camera: Path) -> dict[int, Path]:
    path = camera / "data.csv"
    images = {}
    for line, (stamp, name, *_) in read_table(path, 2, separator=","):
        images[nanoseconds(stamp, path, line)] = camera / "data" / name
    return images


def _read_poses(path: Path) -> PoseTable:
    rows = []
    for line, row in read_table(path, 8, separator=","):
        x, y, z, qw, qx, qy, qz = numbers(row[1:8], path, line)
        rows.append((nanoseconds(row[0], path, line), [x, y, z, qx, qy, qz, qw]))
    return PoseTable.from_rows(rows, path)
