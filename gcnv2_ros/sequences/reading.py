# SPDX-License-Identifier: Apache-2.0
"""Reading what data sets are made of: pictures, depth images, tables of stamps and poses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..geometry import interpolate_pose
from ..image_size import size_text
from ..messages.pixels import ImageError, decode_file
from .base import SequenceError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp")

LATEST_SECOND = 2**31 - 1
"""A stamp of ROS 2 holds no more seconds."""

_LONGEST_GAP_NS = 250_000_000
_START_NS = 1_000_000_000
# Beyond it frames would have the same nanosecond.
_HIGHEST_RATE = 1e9


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name; one that is hidden by a dot, as macOS puts beside each, is none."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8, gray (H, W) if the file is gray and BGR (H, W, 3) otherwise; not turned by EXIF.

    Raises
    ------
    SequenceError
        If the file is missing, is no picture or is cut off.
    """
    return np.asarray(_decoded(path, "picture", cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION), np.uint8)


def read_gray(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 (H, W), turned as its EXIF says.

    Raises
    ------
    SequenceError
        If the file is missing, is no picture or is cut off.
    """
    return np.asarray(_decoded(path, "picture", cv2.IMREAD_GRAYSCALE), np.uint8)


def check_size(
    image: NDArray[np.uint8],
    name: str | Path,
    camera: Camera | None,
    calibration: str | Path | None,
    advice: str = "give the calibration of images of this size, or take this one away",
) -> None:
    """Refuse an image that its calibration, where there is one, is not for; the names are for the error's sentence.

    Raises
    ------
    SequenceError
        If the sizes differ; the sentence ends with the advice.
    """
    if camera is not None and (camera.height, camera.width) != image.shape[:2]:
        raise SequenceError(
            f"{name} is {size_text(*image.shape[1::-1])} and {calibration} is for "
            f"{size_text(camera.width, camera.height)}; {advice}"
        )


def read_depth(path: Path, scale: float) -> NDArray[np.float32]:
    """A 16-bit depth image as float32 (H, W) metres = value / `scale`, NaN where the value is 0.

    Raises
    ------
    SequenceError
        If the file is missing, is cut off or is no 16-bit image of one channel.
    """
    values = _decoded(path, "depth image", cv2.IMREAD_UNCHANGED)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise SequenceError(
            f"{path} must be a 16-bit image of one channel to hold depth, got {values.dtype} {values.shape}"
        )
    return np.where(values > 0, values / np.float32(scale), np.float32(np.nan)).astype(np.float32)


def _decoded(path: Path, what: str, flags: int) -> NDArray:
    """The image in a file, by OpenCV's ``IMREAD_`` flags; `what` it is to be is for the error's sentence."""
    if path.is_dir():
        raise SequenceError(f"{path} is a folder, and a {what} was expected; give its files, {path}/*.png")
    if not path.is_file():
        raise SequenceError(f"the {what} {path} does not exist")
    try:
        return decode_file(np.frombuffer(path.read_bytes(), np.uint8), path.suffix, flags)
    except OSError as error:
        raise SequenceError(f"cannot read the {what} {path}: {error.strerror}") from error
    except ImageError as error:
        raise SequenceError(f"{path} cannot be read as a {what}: {error}") from error


def read_table(path: Path, columns: int, *, separator: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Rows of a text table, each with its line number; lines that start with ``#`` and empty ones are left out.

    Raises
    ------
    SequenceError
        If the file cannot be read or a row has fewer columns; the sentence names file and line.
    """
    try:
        # Editors on Windows write a mark of the byte order before the first line.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SequenceError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        row = [entry.strip() for entry in line.split(separator)]
        if len(row) < columns:
            raise SequenceError(f"{path}, line {number}: expected {columns} columns, got {line.strip()!r}")
        yield number, row


def seconds_to_ns(text: str, path: Path, line: int) -> int:
    """A decimal number of seconds as whole nanoseconds, without the rounding of a float.

    Raises
    ------
    SequenceError
        If it is no number, or none that the stamp of a message holds; the sentence names file and line.
    """
    expected = f"{path}, line {line}: expected a time in seconds, 0 to {LATEST_SECOND}, got {text!r}"
    try:
        seconds = Decimal(text)
        if 0 <= seconds <= LATEST_SECOND:
            return round(seconds * 10**9)
    except InvalidOperation as error:
        raise SequenceError(expected) from error
    raise SequenceError(f"{expected}{' (nanoseconds?)' if seconds > 0 else ''}")


def nanoseconds(text: str, path: Path, line: int) -> int:
    """A whole number of nanoseconds, refused as `seconds_to_ns` does it."""
    expected = f"{path}, line {line}: expected a time in nanoseconds, 0 to {LATEST_SECOND * 10**9}, got {text!r}"
    try:
        stamp = int(text)
    except ValueError as error:
        raise SequenceError(expected) from error
    if not 0 <= stamp <= LATEST_SECOND * 10**9:
        raise SequenceError(expected)
    return stamp


def option_to_ns(name: str, seconds: float) -> int:
    """An option's seconds, negative ones too, as whole nanoseconds.

    Raises
    ------
    SequenceError
        If they are more than the stamp of a message holds.
    """
    if not abs(seconds) <= LATEST_SECOND:
        raise SequenceError(f"{name} is in seconds, at most {LATEST_SECOND} of them, got {seconds}")
    return round(float(seconds) * 1e9)


def check_rate(rate: float, frames: int, name: str | Path) -> None:
    """Refuse frames a second of which `stamp_at` would make no stamps.

    Raises
    ------
    SequenceError
        If the rate is not positive, or the last of the frames comes later than the stamp of a message can tell.
    """
    if not 0 < rate <= _HIGHEST_RATE:
        raise SequenceError(f"the rate of {name} must be positive and at most {_HIGHEST_RATE:.0e}, got {rate}")
    if _START_NS / 1e9 + (frames - 1) / float(rate) > LATEST_SECOND:
        raise SequenceError(
            f"the rate of {name} must be higher: at {rate} frames a second the last of {frames} comes later than the "
            f"{LATEST_SECOND} s that a stamp holds"
        )


def stamp_at(position: int, rate: float) -> int:
    """Nanoseconds of a frame of which the rate alone is known; the first is at one second, as 0 is 'unset' in ROS."""
    return _START_NS + round(position * 1e9 / float(rate))


@dataclass(frozen=True, eq=False)
class PoseTable:
    """Measured poses over time.

    Attributes
    ----------
    stamps
        int64 (K,), ascending nanoseconds.
    translations
        float64 (K, 3), metres.
    quaternions
        float64 (K, 4), x y z w.
    """

    stamps: NDArray[np.int64]
    translations: NDArray[np.float64]
    quaternions: NDArray[np.float64]

    @classmethod
    def from_rows(cls, rows: list[tuple[int, list[float]]], path: Path) -> PoseTable:
        """From rows of (stamp, [x, y, z, qx, qy, qz, qw]) in any order; of equal stamps the first counts.

        Raises
        ------
        SequenceError
            If there is no row or a number is not finite.
        """
        if not rows:
            raise SequenceError(f"{path} holds no pose")
        stamps, first = np.unique(np.array([stamp for stamp, _ in rows], np.int64), return_index=True)
        values = np.array([numbers for _, numbers in rows], np.float64)[first]
        if not np.all(np.isfinite(values)) or np.any(np.linalg.norm(values[:, 3:], axis=1) < 1e-6):
            raise SequenceError(f"{path} holds poses that are not finite or whose quaternion is zero")
        return cls(stamps, values[:, :3], values[:, 3:])

    def at(self, stamp_ns: int) -> NDArray[np.float64] | None:
        """The pose at a time, float64 (4, 4); None outside of the table and within gaps of more than 0.25 s."""
        return interpolate_pose(self.stamps, self.translations, self.quaternions, stamp_ns, longest_gap=_LONGEST_GAP_NS)


def numbers(row: list[str], path: Path, line: int) -> list[float]:
    """The entries of a table's row as floats."""
    try:
        return [float(entry) for entry in row]
    except ValueError as error:
        raise SequenceError(f"{path}, line {line}: expected numbers, got {' '.join(row)!r}") from error
