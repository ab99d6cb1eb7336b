# SPDX-License-Identifier: Apache-2.0
"""TUM RGB-D folders (Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems", IROS 2012)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..calibration_files import read_calibration
from ..camera import Camera
from ..image_size import size_text
from .base import Frame, Sequence, SequenceError
from .reading import PoseTable, check_size, numbers, option_to_ns, read_depth, read_picture, read_table, seconds_to_ns

DEPTH_SCALE = 5000.0
"""Units of a depth image's values in a metre."""

# The benchmark's own calibration of its three Kinects' colour cameras: fx fy cx cy, then k1 k2 p1 p2 k3.
_PUBLISHED: dict[str, tuple[tuple[float, float, float, float], tuple[float, ...]]] = {
    "freiburg1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "freiburg2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), ()),
}
_PUBLISHED_SIZE = (640, 480)
_CAMERA_NAME = re.compile(r"(?<![a-z0-9])(?:freiburg|fr)([123])(?!\d)")


@dataclass(frozen=True)
class _Entry:
    stamp_ns: int
    image: Path
    depth: Path | None


class TumSequence(Sequence):
    """A folder with ``rgb.txt`` (and ``depth.txt``, ``groundtruth.txt``) or ``associations.txt``.

    Images without a depth image near enough in time are left out; a folder without depth gives images alone.
    The calibration is the folder's ``camera.yaml``, or the benchmark's own if the folder's name tells the camera
    (freiburg1, fr2, ...) and the first image has the size that it is for, 640x480.

    Parameters
    ----------
    path
        The folder.
    clock_offset
        Seconds to add to an image's stamp to get the motion capture's time of the same instant (-0.01 fits
        freiburg1).
    longest_difference
        Seconds up to which a colour and a depth image are taken as one frame, if there is no ``associations.txt``.

    Attributes
    ----------
    notes
        Sentences on what is missing: the calibration that the folder's name speaks of and its images do not fit.

    Raises
    ------
    SequenceError
        If the folder is none of the kind; the sentence names the file that is missing or wrong.
    """

    def __init__(self, path: str | Path, *, clock_offset: float = 0.0, longest_difference: float = 0.02) -> None:
        folder = Path(path)
        self.name = folder.resolve().name
        self.notes: list[str] = []
        self._offset_ns = option_to_ns("clock_offset", clock_offset)
        if (folder / "associations.txt").is_file():
            self._entries = _read_associations(folder)
        elif (folder / "rgb.txt").is_file():
            self._entries = _associate(folder, option_to_ns("longest_difference", longest_difference))
        else:
            raise SequenceError(f"{folder} is not a TUM RGB-D folder: it has neither associations.txt nor rgb.txt")
        if not self._entries:
            raise SequenceError(f"{folder} has no frame: {_lack(folder, longest_difference)}")
        truth = folder / "groundtruth.txt"
        self._poses = _read_poses(truth) if truth.is_file() else None
        self._calibration = str(folder / "camera.yaml")
        if (folder / "camera.yaml").is_file():
            self.camera = read_calibration(folder / "camera.yaml")
        elif named := _CAMERA_NAME.search(folder.resolve().name.lower()):
            self._take_published(f"freiburg{named[1]}")

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Frame:
        position = self._position(index)
        entry = self._entries[position]
        image = read_picture(entry.image)
        check_size(image, entry.image, self.camera, self._calibration)
        depth = None if entry.depth is None else read_depth(entry.depth, DEPTH_SCALE)
        if depth is not None and depth.shape != image.shape[:2]:
            raise SequenceError(
                f"{entry.depth} is {depth.shape[1]}x{depth.shape[0]} and its image {image.shape[1]}x{image.shape[0]}: "
                "depth must be registered to the image"
            )
        pose = None if self._poses is None else self._poses.at(entry.stamp_ns + self._offset_ns)
        return Frame(position, entry.stamp_ns, image, depth, pose=pose)

    def _take_published(self, name: str) -> None:
        """Take a camera's published calibration if it is for the folder's images."""
        intrinsics, coefficients = _PUBLISHED[name]
        camera = Camera(*_PUBLISHED_SIZE, *intrinsics, "plumb_bob" if coefficients else "none", coefficients)
        first = self._entries[0].image
        size = read_picture(first).shape[1::-1]
        if size == _PUBLISHED_SIZE:
            self.camera, self._calibration = camera, f"the published calibration of {name}"
        else:
            self.notes.append(
                f"no calibration: that of {name}, which the folder is named after, is for "
                f"{size_text(*_PUBLISHED_SIZE)}, and {first} is {size_text(*size)}; give its own in {self._calibration}"
            )


def is_tum_folder(folder: Path) -> bool:
    """Whether `TumSequence` would try to read the folder."""
    return (folder / "associations.txt").is_file() or (folder / "rgb.txt").is_file()


def _read_associations(folder: Path) -> list[_Entry]:
    path = folder / "associations.txt"
    entries = []
    for line, row in read_table(path, 4):
        # The benchmark's tool writes the list first that it was given first: colour or depth.
        colour_first = not any(part.startswith("depth") for part in PurePath(row[1]).parts[-2:])
        stamp, image, depth = (row[0], row[1], row[3]) if colour_first else (row[2], row[3], row[1])
        entries.append(_Entry(seconds_to_ns(stamp, path, line), folder / image, folder / depth))
    return sorted(entries, key=lambda entry: entry.stamp_ns)


def _lack(folder: Path, longest_difference: float) -> str:
    """Why a folder has no frame; its lists are readable."""
    if (folder / "associations.txt").is_file():
        return "associations.txt lists none"
    if not _read_list(folder / "rgb.txt"):
        return "rgb.txt lists no image"
    return f"no image of rgb.txt has a depth image within {longest_difference} s"


def _associate(folder: Path, longest_difference: int) -> list[_Entry]:
    """Pair images with depth images, the closest in time first, each used once."""
    images = _read_list(folder / "rgb.txt")
    if not (folder / "depth.txt").is_file():
        return [_Entry(stamp, image, None) for stamp, image in images]
    depths = _read_list(folder / "depth.txt")
    candidates, first = [], 0
    for i, (stamp, _) in enumerate(images):
        while first < len(depths) and depths[first][0] < stamp - longest_difference:
            first += 1
        k = first
        while k < len(depths) and depths[k][0] <= stamp + longest_difference:
            candidates.append((abs(depths[k][0] - stamp), i, k))
            k += 1
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, k in sorted(candidates):
        if i not in partner and k not in taken:
            partner[i] = k
            taken.add(k)
    return [_Entry(*images[i], depths[partner[i]][1]) for i in sorted(partner)]


def _read_list(path: Path) -> list[tuple[int, Path]]:
    rows = [(seconds_to_ns(row[0], path, line), path.parent / row[1]) for line, row in read_table(path, 2)]
    return sorted(rows)


def _read_poses(path: Path) -> PoseTable:
    rows = [(seconds_to_ns(row[0], path, line), numbers(row[1:8], path, line)) for line, row in read_table(path, 8)]
    return PoseTable.from_rows(rows, path)
