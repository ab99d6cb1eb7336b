# SPDX-License-Identifier: Apache-2.0
"""A video file, taken as the frames of one camera."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..calibration_files import read_calibration
from .base import Frame, Sequence, SequenceError
from .reading import check_rate, check_size, stamp_at

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ogv")

_REMEMBERED_BYTES = 64 << 20


class VideoSequence(Sequence):
    """Frames of a video in BGR, not turned by the file's orientation.

    The calibration is ``NAME.yaml`` beside ``NAME.mp4``, if there is one. Frames are decoded one after the other:
    going on is cheap, going back within the last 64 MB of pictures too, and going back further starts anew at the
    beginning, since seeking in compressed video does not reach the same frame with every codec.

    Parameters
    ----------
    path
        The file.
    rate
        Frames a second that the stamps are made from; the first frame is at one second. None: what the file says.

    Raises
    ------
    SequenceError
        If the file cannot be decoded, holds no frame or does not say its rate, or if the rate is not positive or too
        low for its frames to have stamps.
    """

    def __init__(self, path: str | Path, *, rate: float | None = None) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise SequenceError(f"the video {path} does not exist")
        self.name = self._path.stem
        self._capture = self._opened()
        told = self._capture.get(cv2.CAP_PROP_FPS)
        if rate is None and not (np.isfinite(told) and told > 0):
            raise SequenceError(f"{path} does not say how many frames a second it has; give rate")
        self._rate = told if rate is None else rate
        self._next = 0
        self._count = self._counted()
        if not self._count:
            raise SequenceError(f"{path} holds no frame that can be decoded; it may be cut off")
        check_rate(self._rate, self._count, self._path)
        self._remembered: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._calibration = self._path.with_suffix(".yaml")
        self.camera = read_calibration(self._calibration) if self._calibration.is_file() else None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Frame:
        position = self._position(index)
        image = self._picture(position)
        check_size(image, self._path, self.camera, self._calibration)
        return Frame(position, stamp_at(position, self._rate), image)

    def _picture(self, position: int) -> NDArray[np.uint8]:
        if position in self._remembered:
            return self._remembered[position].copy()
        if position < self._next:
            self._restart()
        while self._next < position and self._capture.grab():
            self._next += 1
        good, picture = self._capture.read()
        if not good:
            raise SequenceError(f"{self._path} cannot be decoded at frame {self._next} of {self._count}")
        self._next += 1
        image: NDArray[np.uint8] = np.asarray(picture, np.uint8)
        self._remembered[position] = image
        while len(self._remembered) > 1 and len(self._remembered) * image.nbytes > _REMEMBERED_BYTES:
            self._remembered.popitem(last=False)
        return image.copy()

    def _opened(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise SequenceError(f"{self._path} cannot be opened as a video; it may be cut off, or its codec unknown")
        # A calibration belongs to the pixels as the sensor gave them.
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return capture

    def _restart(self) -> None:
        self._capture.release()
        self._capture = self._opened()
        self._next = 0

    def _counted(self) -> int:
        """Number of frames that can be decoded: what the file says is an estimate, so a seek to its end tests it."""
        told = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, told - 1)
        exact = told > 0 and self._capture.grab() and not self._capture.grab()
        self._restart()
        if exact:
            return told
        count = 0
        while self._capture.grab():
            count += 1
        self._restart()
        return count


def is_video(path: Path) -> bool:
    """Whether `VideoSequence` would try to read the file."""
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
