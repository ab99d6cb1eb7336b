# SPDX-License-Identifier: Apache-2.0
"""KITTI odometry folders (Geiger, Lenz, Urtasun, "Are we ready for autonomous driving?", CVPR 2012)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from .base import Frame, Sequence, SequenceError
from .images import pictures_in
from .reading import check_size, numbers, read_picture, read_table, seconds_to_ns


class KittiSequence(Sequence):
    """A folder ``sequences/NN`` with ``image_0`` and ``image_1`` (gray) or ``image_2`` and ``image_3`` (colour).

    The images are rectified; `notes` tells where ``calib.txt`` has no pair that depth follows from. Poses are read from
    ``poses.txt`` in the folder, or from ``poses/NN.txt`` in it or beside ``sequences``, where the benchmark has them;
    the world is the optical frame of ``image_0`` at the first line. Frames are the pictures that are there, and a
    picture's number is its line in ``times.txt`` and in the poses, so that a part of a sequence can be read.

    Parameters
    ----------
    path
        The folder.
    colour
        Read the colour cameras (default: the gray ones if they are there).
    poses
        File of the ground truth, if it is elsewhere.

    Raises
    ------
    SequenceError
        If the folder is none of the kind; the sentence names the file that is missing or wrong.
    """

    def __init__(self, path: str | Path, *, colour: bool | None = None, poses: str | Path | None = None) -> None:
        folder = Path(path)
        if colour is None:
            colour = not (folder / "image_0").is_dir()
        left, right = (2, 3) if colour else (0, 1)
        self.name = f"kitti-{folder.resolve().name}"
        self._left = _numbered(folder / f"image_{left}")
        self._right = _numbered(folder / f"image_{right}") if (folder / f"image_{right}").is_dir() else {}
        if not self._left:
            raise SequenceError(f"{folder} is not a KITTI odometry folder: it has no pictures in image_{left}")
        self._numbers = sorted(self._left.keys() & self._right.keys() if self._right else self._left.keys())
        if not self._numbers:
            raise SequenceError(f"{folder} has no frame: image_{left} and image_{right} have no picture in common")
        self._stamps = _read_times(folder / "times.txt")
        self._check_count(folder / "times.txt", len(self._stamps))
        truth = Path(poses) if poses is not None else _poses_of(folder)
        self._poses = _read_poses(truth) if truth is not None else None
        if self._poses is not None:
            self._check_count(truth, len(self._poses))
        # Projections are from image_0's frame; a camera's own frame is shifted by this.
        self._shift = np.zeros(3)
        self._calibration = folder / "calib.txt"
        if self._calibration.is_file():
            self._calibrate(self._calibration, left, right)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Frame:
        position = self._position(index)
        number = self._numbers[position]
        pose = None
        if self._poses is not None:
            pose = self._poses[number].copy()
            pose[:3, 3] += pose[:3, :3] @ self._shift
        image = self._picture(self._left[number], self.camera)
        right = self._picture(self._right[number], self.right_camera) if self._right else None
        return Frame(position, self._stamps[number], image, right=right, pose=pose)

    def _picture(self, path: Path, camera: Camera | None) -> NDArray[np.uint8]:
        image = read_picture(path)
        check_size(image, path, camera, self._calibration, "all pictures must have the size of the first")
        return image

    def _calibrate(self, path: Path, left: int, right: int) -> None:
        projections = _read_projections(path)
        missing = [
            f"P{camera}" for camera in (left, right) if camera not in projections and (camera == left or self._right)
        ]
        if missing:
            raise SequenceError(
                f"{path} has no line {' or '.join(missing)}; it has {', '.join(f'P{number}' for number in projections)}"
            )
        height, width = read_picture(self._left[self._numbers[0]]).shape[:2]
        k, self._shift = _decomposed(projections[left])
        sizes = (width, height, k[0, 0], k[1, 1], k[0, 2], k[1, 2])
        self.camera = Camera(*sizes, projection=np.column_stack([k, np.zeros(3)]), frame_id=f"image_{left}")
        if self._right:
            k_right, shift = _decomposed(projections[right])
            sizes = (width, height, k_right[0, 0], k_right[1, 1], k_right[0, 2], k_right[1, 2])
            projection = np.column_stack([k_right, -k_right @ (shift - self._shift)])
            self.right_camera = Camera(*sizes, projection=projection, frame_id=f"image_{right}")
            self._take_pair()

    def _check_count(self, path: Path | None, count: int) -> None:
        if count <= self._numbers[-1]:
            raise SequenceError(
                f"{path} has {count} lines, and the picture {self._left[self._numbers[-1]]} needs line "
                f"{self._numbers[-1] + 1}"
            )


def is_kitti_folder(folder: Path) -> bool:
    """Whether `KittiSequence` would try to read the folder."""
    return any((folder / name).is_dir() for name in ("image_0", "image_2")) and any(
        (folder / name).is_file() for name in ("times.txt", "calib.txt")
    )


def _numbered(folder: Path) -> dict[int, Path]:
    """Pictures by the number that is their name."""
    return {int(path.stem): path for path in pictures_in(folder) if path.stem.isdecimal()}


def _read_times(path: Path) -> list[int]:
    if not path.is_file():
        raise SequenceError(f"{path} is missing: it gives the time of each picture in seconds")
    return [seconds_to_ns(row[0], path, line) for line, row in read_table(path, 1)]


def _poses_of(folder: Path) -> Path | None:
    name = f"{folder.resolve().name}.txt"
    places = (folder / "poses.txt", folder / "poses" / name, folder.resolve().parent.parent / "poses" / name)
    return next((path for path in places if path.is_file()), None)


def _read_poses(path: Path) -> list[NDArray[np.float64]]:
    poses = []
    for line, row in read_table(path, 12):
        pose = np.eye(4)
        pose[:3] = np.reshape(numbers(row[:12], path, line), (3, 4))
        if not np.all(np.isfinite(pose)) or abs(np.linalg.det(pose[:3, :3]) - 1) > 1e-3:
            raise SequenceError(f"{path}, line {line}: expected a rotation and a translation as 3x4 numbers")
        poses.append(pose)
    return poses


def _read_projections(path: Path) -> dict[int, NDArray[np.float64]]:
    """The 3x4 matrices P0 to P3 by number; the line Tr, of the laser scanner, is left out."""
    projections = {}
    for line, row in read_table(path, 1):
        name = row[0].rstrip(":")
        if name.startswith("P") and name[1:].isdecimal():
            values = numbers(row[1:], path, line)
            if len(values) != 12 or values[0] <= 0 or values[5] <= 0 or values[10] != 1:
                raise SequenceError(f"{path}, line {line}: expected the 12 numbers of a 3x4 projection, got {values}")
            projections[int(name[1:])] = np.reshape(values, (3, 4))
    return projections


def _decomposed(projection: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Camera matrix (3, 3), and the camera's centre (3,) in the frame that the projection is from."""
    k = projection[:, :3]
    return k, np.asarray(-np.linalg.solve(k, projection[:, 3]), np.float64)
