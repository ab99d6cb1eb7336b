# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures, taken as the frames of one camera."""

from __future__ import annotations

import re
from pathlib import Path

from ..calibration_files import read_calibration
from .base import Frame, Sequence, SequenceError
from .reading import PICTURE_SUFFIXES, check_rate, check_size, is_picture, read_picture, stamp_at


class ImageSequence(Sequence):
    """Pictures of a folder in the order of their names, numbers in them counted as numbers.

    The calibration is the folder's ``camera.yaml`` if there is one.

    Parameters
    ----------
    path
        The folder.
    rate
        Frames a second that the stamps are made from; the first frame is at one second.

    Attributes
    ----------
    pictures
        The file of each frame.

    Raises
    ------
    SequenceError
        If the folder holds no picture, or the rate is not positive or too low for its frames to have stamps.
    """

    def __init__(self, path: str | Path, *, rate: float = 30.0) -> None:
        folder = Path(path)
        self.pictures = pictures_in(folder)
        if not self.pictures:
            raise SequenceError(f"{folder} holds no picture ({', '.join(PICTURE_SUFFIXES)})")
        check_rate(rate, len(self.pictures), folder)
        self._rate = rate
        self.name = folder.resolve().name
        self._calibration = folder / "camera.yaml"
        self.camera = read_calibration(self._calibration) if self._calibration.is_file() else None

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Frame:
        position = self._position(index)
        image = read_picture(self.pictures[position])
        check_size(image, self.pictures[position], self.camera, self._calibration)
        return Frame(position, stamp_at(position, self._rate), image)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in natural order: ``2.png`` before ``10.png``."""
    if not folder.is_dir():
        return []
    files = filter(is_picture, folder.iterdir())
    return sorted(files, key=lambda path: [(part.zfill(40), part) for part in re.split(r"(\d+)", path.name)])
