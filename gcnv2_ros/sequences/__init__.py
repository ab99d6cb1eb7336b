# SPDX-License-Identifier: Apache-2.0
"""Where frames come from: data sets on disk and the synthetic room, behind one interface."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from .base import Frame, Sequence, SequenceError
from .euroc import EurocSequence, is_euroc_folder
from .images import ImageSequence, pictures_in
from .room import RoomOptions, SyntheticRoom
from .tum import TumSequence, is_tum_folder

__all__ = [
    "EurocSequence",
    "Frame",
    "ImageSequence",
    "RoomOptions",
    "Sequence",
    "SequenceError",
    "SyntheticRoom",
    "TumSequence",
    "open_sequence",
]


def open_sequence(spec: str | Path, **options: Any) -> Sequence:
    """Open whatever `spec` names.

    Parameters
    ----------
    spec
        ``room`` or ``room:frames=120,seed=3`` for the synthetic room (the names of `RoomOptions`), or the path of a
        TUM RGB-D folder, a EuRoC folder or a folder of pictures. Write ``./room`` for a folder of that name.
    options
        Keyword options of the reader that fits, such as ``clock_offset`` (TUM), ``rectify`` (EuRoC) or ``rate``
        (pictures).

    Raises
    ------
    SequenceError
        If nothing fits; the sentence says what is there instead.
    """
    name, _, details = str(spec).partition(":")
    if name == "room" and isinstance(spec, str):
        return _opened(SyntheticRoom, spec, options, RoomOptions.parse(details))
    path = Path(spec)
    if not path.exists():
        raise SequenceError(f"there is no sequence {spec}; give a folder, or room:seed=1 for the synthetic room")
    for fits, kind in (
        (is_tum_folder, TumSequence),
        (is_euroc_folder, EurocSequence),
        (pictures_in, ImageSequence),
    ):
        if fits(path):
            return _opened(kind, spec, options, path)
    raise SequenceError(
        f"{spec} is no sequence that can be read: expected a folder with rgb.txt or associations.txt (TUM), with "
        f"mav0/cam0/data.csv (EuRoC) or with pictures, and found {_description(path)}"
    )


def _opened(kind: Any, spec: str | Path, options: dict[str, Any], *arguments: Any) -> Sequence:
    try:
        inspect.signature(kind).bind(*arguments, **options)
    except TypeError as error:
        raise SequenceError(f"{spec} is read by {kind.__name__}, which does not take {options}: {error}") from error
    opened: Sequence = kind(*arguments, **options)
    return opened


def _description(path: Path) -> str:
    """What is there, for a message."""
    if not path.is_dir():
        return f"a file of {path.stat().st_size} bytes"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir())
    if not names:
        return "an empty folder"
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
