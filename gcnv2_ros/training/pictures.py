# SPDX-License-Identifier: Apache-2.0
"""The pictures that self-supervised training draws its views from, with keypoints that a teacher found once.

A prepared set is a folder of gray PNG files, each with a ``.npy`` beside it: float32 (K, 3) of u, v and score in
pixels of the picture. `prepare_pictures` cuts a folder of photographs (any sizes) into such tiles and asks the
teacher; it can be stopped and called again, and goes on where it was.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import GCNv2Error
from ..files import atomic_path, atomic_write
from ..sequences import SequenceError
from ..sequences.reading import is_picture, read_gray
from .warps import picture_pyramid


class TrainingDataError(GCNv2Error):
    """A training set that is missing, empty or damaged."""


@dataclass(frozen=True)
class Picture:
    """A gray picture, its halvings, and its keypoints.

    Attributes
    ----------
    pyramid
        uint8 (H, W), (H / 2, W / 2), ...
    keypoints
        float32 (K, 2), pixels of the largest level.
    scores
        float32 (K,), the teacher's.
    """

    pyramid: list[NDArray[np.uint8]]
    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]


def find_photographs(
    folder: str | Path, *, split: str | None = None, categories: Sequence[str] | None = None
) -> list[Path]:
    """The picture files of a folder, sorted by name.

    Parameters
    ----------
    folder
        Any folder of pictures, or a corpus with an ``index.csv`` that names a ``split`` for each file.
    split
        Keep only this split (``train`` or ``validation``). A folder without an index is all ``train``.
    categories
        Keep only pictures that the index lists under one of these.

    Raises
    ------
    TrainingDataError
        If there is no such folder, no such picture in it, no index that would tell categories, or one that is no table
        of files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TrainingDataError(f"{folder}: no such folder of pictures")
    index = folder / "index.csv"
    if index.exists():
        chosen = [
            folder / row["file"]
            for row in _index_rows(index)
            if (split is None or row.get("split", "train") == split)
            and (categories is None or row.get("category") in categories)
        ]
    elif categories is not None:
        raise TrainingDataError(f"{folder}: no index.csv that tells the categories of its pictures")
    else:
        chosen = [path for path in folder.rglob("*") if is_picture(path) and not _in_hidden_folder(path, folder)]
        chosen = [] if split == "validation" else chosen
    if not chosen:
        wanted = [f"the split {split!r}"] if split else []
        wanted += [f"the categories {', '.join(categories)}"] if categories else []
        raise TrainingDataError(f"{folder}: no pictures{' of ' if wanted else ''}{' and '.join(wanted)} in this folder")
    return sorted(chosen)


def _index_rows(index: Path) -> list[dict[str, str]]:
    """The rows of an ``index.csv``, each with a file."""
    expected = "expected text in UTF-8 with a line for each picture, and before them the columns' names: file,split"
    try:
        # Spreadsheets write a mark of the byte order before the first line.
        with index.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if "file" not in (reader.fieldnames or ()):
                raise TrainingDataError(f"{index} has no column 'file'; {expected}")
            rows = []
            for row in reader:
                if not row["file"]:
                    raise TrainingDataError(f"{index}, line {reader.line_num}: no file is named; {expected}")
                rows.append(row)
            return rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"{index} is no table; {expected}") from error


def _in_hidden_folder(path: Path, root: Path) -> bool:
    """Whether a folder between the two is hidden, as those of thumbnails are."""
    return any(part.startswith(".") for part in path.relative_to(root).parts[:-1])


def tiles_of(picture: NDArray[np.uint8], *, short_side: int = 512, overlap: float = 0.1) -> Iterator[NDArray[np.uint8]]:
    """Cut a gray picture into tiles: the whole of it reduced, then its parts at full resolution.

    Parameters
    ----------
    picture
        uint8 (H, W).
    short_side
        The whole picture is reduced to this shorter side, and never enlarged; the parts have 4/3 of it as width
        and it as height, and are taken only where the picture is at least 1.6 times as large.
    overlap
        Share of a part that its neighbours may repeat.

    Yields
    ------
    numpy.ndarray
        uint8 tiles; the order is deterministic.
    """
    height, width = picture.shape
    factor = short_side / min(height, width)
    if factor < 1:
        reduced = (max(1, round(width * factor)), max(1, round(height * factor)))
        yield cv2.resize(picture, reduced, interpolation=cv2.INTER_AREA)  # type: ignore[misc]
    else:
        yield picture
    if factor > 1 / 1.6:
        return
    part_width, part_height = short_side * 4 // 3, short_side
    columns = max(1, int((width - overlap * part_width) // ((1 - overlap) * part_width)))
    rows = max(1, int((height - overlap * part_height) // ((1 - overlap) * part_height)))
    for top in np.linspace(0, height - part_height, rows).astype(int):
        for left in np.linspace(0, width - part_width, columns).astype(int):
            yield np.ascontiguousarray(picture[top : top + part_height, max(left, 0) : left + part_width])


def prepare_pictures(
    photographs: Sequence[Path],
    target: str | Path,
    detect: Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]],
    *,
    teacher: str,
    folder: str | Path = "",
    short_side: int = 512,
    flattest: float = 3.0,
    stages: Sequence[str] = ("whole", "parts"),
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write tiles and the teacher's keypoints for `photographs` into the folder `target`.

    Whole pictures of all photographs come first, then parts, so that a run that is stopped early has seen all.

    Parameters
    ----------
    photographs
        Picture files that OpenCV reads.
    target
        Made if missing; tiles that it already has, from the same teacher, are kept.
    detect
        The teacher: uint8 (H, W) to keypoints float32 (K, 2) and scores float32 (K,).
    teacher
        What the teacher is, for the record in ``prepared.json``.
    folder
        What `photographs` are in. Tiles are named after their photograph, those of photographs that share a name after
        its path from here too: another folder would prepare them once more.
    short_side
        See `tiles_of`.
    flattest
        Tiles whose standard deviation of gray levels is below this are left out.
    stages
        ``whole`` for the reduced pictures, ``parts`` for the parts at full resolution.
    progress
        Called with the number of photographs done (once a stage) and their total.

    Returns
    -------
    int
        Number of tiles in the folder.

    Raises
    ------
    TrainingDataError
        If the folder was prepared by another teacher, or a photograph cannot be read.
    """
    target = Path(target)
    target.mkdir(parents=True, exist_ok=True)
    record = {"teacher": teacher, "short_side": short_side}
    record_path = target / "prepared.json"
    if record_path.exists() and json.loads(record_path.read_text()) != record:
        raise TrainingDataError(
            f"{target} was prepared as {record_path.read_text()}, not as {record}: use another folder"
        )
    atomic_write(record_path, json.dumps(record))
    names = _tile_names(photographs, Path(folder))
    for turn, stage in enumerate(stages):
        for number, path in enumerate(photographs):
            try:
                picture = read_gray(path)
            except SequenceError as error:
                raise TrainingDataError(f"{error}; mend it or take it away") from error
            for position, tile in enumerate(tiles_of(picture, short_side=short_side)):
                stem = target / f"{names[path]}_{position:03d}"
                if (position == 0) != (stage == "whole") or float(tile.std()) < flattest:
                    continue
                if not stem.with_suffix(".npy").exists():
                    _write_tile(stem, tile, *detect(tile))
            if progress is not None:
                progress(number + 1 + turn * len(photographs), len(stages) * len(photographs))
    return len(tile_paths(target))


def _tile_names(photographs: Sequence[Path], folder: Path) -> dict[Path, str]:
    """What the tiles of each photograph are called, without their number."""
    stems = {path: path.stem.replace(".", "_") for path in photographs}
    occurring = Counter(stems.values())
    names = {}
    for path, stem in stems.items():
        inside = path.relative_to(folder) if path.is_relative_to(folder) else path
        digest = hashlib.sha256(inside.as_posix().encode()).hexdigest()[:10]
        # Most have the name that they had before names were told apart, so that folders of then can be gone on with.
        names[path] = stem if occurring[stem] == 1 else f"{stem}_{digest}"
    return names


def _write_tile(
    stem: Path, tile: NDArray[np.uint8], keypoints: NDArray[np.float32], scores: NDArray[np.float32]
) -> None:
    with atomic_path(stem.with_suffix(".png")) as temporary:
        cv2.imwrite(str(temporary), tile)
    # The array is written last: a tile counts as done only when it is there.
    with atomic_path(stem.with_suffix(".npy")) as temporary:
        np.save(temporary, np.column_stack([keypoints, scores]).astype(np.float32))


def tile_paths(folder: str | Path) -> list[Path]:
    """The ``.npy`` files of a prepared set, sorted by name."""
    # A name that begins with a dot is one that `atomic_path` was writing when the process was killed.
    return sorted(path for path in Path(folder).glob("*.npy") if not path.name.startswith("."))


def brighten(picture: NDArray[np.uint8], *, white: float = 230.0, most: float = 4.0) -> NDArray[np.uint8]:
    """Expose a dark picture as a camera would: scaled so that its brightest parts reach `white`, at most by `most`."""
    gain = min(white / max(float(np.percentile(picture, 99.5)), 1.0), most)
    return np.clip(picture * gain + 0.5, 0, 255).astype(np.uint8) if gain > 1 else picture


def load_pictures(folder: str | Path) -> list[Picture]:
    """Read a prepared set into memory, sorted by name.

    Raises
    ------
    TrainingDataError
        If the folder holds no prepared tile or one of them cannot be read.
    """
    pictures = []
    for path in tile_paths(folder):
        damaged = f"{path}: not a prepared tile (a PNG and a (K, 3) array); delete it and prepare the folder again"
        try:
            image = read_gray(path.with_suffix(".png"))
            table = np.load(path, allow_pickle=False)
        except (SequenceError, OSError, EOFError, ValueError) as error:
            raise TrainingDataError(f"{damaged} ({error})") from error
        # Of an archive numpy makes something that is no array.
        if not isinstance(table, np.ndarray) or table.ndim != 2 or table.shape[1] != 3:
            raise TrainingDataError(damaged)
        pyramid = picture_pyramid(brighten(image))
        pictures.append(Picture(pyramid, table[:, :2].copy(), table[:, 2].copy()))
    if not pictures:
        raise TrainingDataError(
            f"{folder}: no prepared tiles here; run `gcnv2 train-prepare` on a folder of pictures first"
        )
    return pictures
