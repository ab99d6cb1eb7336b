# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures, taken as the frames of one camera."""

from __future__ import annotations

import re
from pathlib import Path

from ..camera import Camera
from .base import Frame, Sequence, SequenceError
from .reading import PICTURE_SUFFIXES, check_size, is_picture, read_picture

_START_NS = 1_000_000_000


class ImageSequence(Sequence):
    """Pictures of a folder in the order of their names, numbers in them counted as numbers.

    The calibration is the folder's ``camera.yaml`` if there is one.

    Parameters
    ----------
    path
        The folder.
    rate
        Frames a second that the stamps are made from; the first frame is at one second.

    Raises
    ------
    SequenceError
        If the folder holds no picture or the rate is not positive.
    """

    def __init__(self, path: str | Path, *, rate: float = 30.0) -> None:
        folder = Path(path)
        if not rate > 0:
            raise SequenceError(f"the rate of a sequence must be positive, got {rate}")
        self._rate = rate
        self._pictures = pictures_in(folder)
        if not self._pictures:
            raise SequenceError(f"{folder} holds no picture ({', '.join(PICTURE_SUFFIXES)})")
        self.name = folder.resolve().name
        self._calibration = folder / "camera.yaml"
        self.camera = Camera.from_yaml(self._calibration) if self._calibration.is_file() else None

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Frame:
        position = self._position(index)
        image = read_picture(self._pictures[position])
        check_size(image, self._pictures[position], self.camera, self._calibration)
        return Frame(position, _START_NS + round(position * 1e9 / self._rate), image)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in natural order: ``2.png`` before ``10.png``."""
    if not folder.is_dir():
        return []
    files = filter(is_picture, folder.iterdir())
    return sorted(files, key=lambda path: [(part.zfill(40), part) for part in re.split(r"(\d+)", path.name)])
