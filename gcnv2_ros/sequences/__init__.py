# SPDX-License-Identifier: Apache-2.0
"""Where frames come from: data sets on disk and the synthetic room, behind one interface."""

from __future__ import annotations

import inspect
import math
import re
import typing
from dataclasses import fields
from numbers import Real
from pathlib import Path
from typing import Any

from .bag_file import is_rosbag
from .base import Frame, Sequence, SequenceError
from .euroc import EurocSequence, is_euroc_folder
from .images import ImageSequence, pictures_in
from .kitti import KittiSequence, is_kitti_folder
from .room import RoomOptions, SyntheticRoom
from .rosbag import RosbagSequence
from .tum import TumSequence, is_tum_folder
from .video import VideoSequence, is_video

__all__ = [
    "EurocSequence",
    "Frame",
    "ImageSequence",
    "KittiSequence",
    "RoomOptions",
    "RosbagSequence",
    "Sequence",
    "SequenceError",
    "SyntheticRoom",
    "TumSequence",
    "VideoSequence",
    "open_sequence",
    "split_options",
]

_WITH_OPTIONS = re.compile(r"(?P<spec>.+?)@(?P<options>[a-z_]+=[^@]*)")


def open_sequence(spec: str | Path, **options: Any) -> Sequence:
    """Open whatever `spec` names.

    Parameters
    ----------
    spec
        ``room`` or ``room:frames=120,seed=3`` for the synthetic room (the names of `RoomOptions`), or the path of a
        TUM RGB-D folder, a EuRoC folder, a KITTI odometry folder, a folder of pictures, a bag (ROS 1, or rosbag2 with
        sqlite3 or MCAP) or a video. Write ``./room`` for a folder of that name. A text may go on with options,
        ``SPEC@NAME=VALUE,NAME=VALUE``, values being read as true or false, as numbers, and otherwise as text; a path
        that exists as it stands has none, and the room has its own after the colon.
    options
        Keyword options of the reader that fits, such as ``clock_offset`` (TUM), ``rectify`` (EuRoC), ``image`` (the
        topic in a bag) or ``rate`` (pictures, video).

    Raises
    ------
    SequenceError
        If nothing fits, and the sentence says what is there instead; or if the reader does not take an option.
    """
    described: dict[str, Any] = {}
    if isinstance(spec, str):
        spec, described = split_options(spec)
    if twice := described.keys() & options.keys():
        raise SequenceError(f"the option {min(twice)} of {spec} is given twice, after the @ and by itself")
    options = described | options
    name, _, details = str(spec).partition(":")
    if name == "room" and isinstance(spec, str):
        if described:
            raise SequenceError(
                f"the room takes no options after an @, and {', '.join(described)} stands there: write "
                "room:NAME=VALUE, e.g. room:seed=3"
            )
        if unknown := [name for name in options if name not in _options_of(SyntheticRoom)]:
            own = ", ".join(entry.name for entry in fields(RoomOptions))
            raise SequenceError(
                f"the room has no option {unknown[0]!r}; it has {own}, which are written as room:NAME=VALUE"
            )
        return _opened(SyntheticRoom, spec, options, RoomOptions.parse(details))
    path = Path(spec)
    if not path.exists():
        raise SequenceError(
            f"there is no sequence {spec}; give a folder, a bag, a video, or room:seed=1 for the synthetic room"
        )
    for fits, kind, called in (
        (is_tum_folder, TumSequence, "a TUM RGB-D folder"),
        (is_euroc_folder, EurocSequence, "a EuRoC folder"),
        (is_kitti_folder, KittiSequence, "a KITTI odometry folder"),
        (is_rosbag, RosbagSequence, "a bag"),
        (is_video, VideoSequence, "a video"),
        (pictures_in, ImageSequence, "a folder of pictures"),
    ):
        if fits(path):
            if unknown := [option for option in options if option not in _options_of(kind)]:
                raise SequenceError(
                    f"{spec} is {called}, which has no option {unknown[0]!r}; it has {', '.join(_options_of(kind))}"
                )
            return _opened(kind, spec, options, path)
    raise SequenceError(
        f"{spec} is no sequence that can be read: expected a folder with rgb.txt or associations.txt (TUM), with "
        "mav0/cam0/data.csv (EuRoC), image_0 and times.txt (KITTI), metadata.yaml (rosbag2) or with pictures; "
        f"a .bag, .mcap or .db3 file or a video, and found {_description(path)}"
    )


def split_options(spec: str) -> tuple[str, dict[str, Any]]:
    """The path in a text that `open_sequence` takes, or what else names the sequence, and the options after its ``@``.

    Raises
    ------
    SequenceError
        If an option is not written as NAME=VALUE, or given twice.
    """
    found = _WITH_OPTIONS.fullmatch(spec)
    if found is None or Path(spec).exists():
        return spec, {}
    options: dict[str, Any] = {}
    for entry in found["options"].split(","):
        name, equals, value = entry.partition("=")
        if not equals:
            raise SequenceError(
                f"options of a sequence are written as NAME=VALUE,NAME=VALUE after the @, got {entry!r}"
            )
        if name in options:
            raise SequenceError(f"the option {name} of {found['spec']} is given twice")
        options[name] = _parsed(value)
    return found["spec"], options


def _parsed(text: str) -> bool | float | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _options_of(kind: type[Sequence]) -> list[str]:
    """Names of the options that a reader takes."""
    parameters = inspect.signature(kind).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def _opened(kind: Any, spec: str | Path, options: dict[str, Any], argument: Path | RoomOptions) -> Sequence:
    hints = typing.get_type_hints(kind.__init__)
    for name, value in options.items():
        if expected := _expected(hints[name], value):
            raise SequenceError(f"the option {name} of {spec} must be {expected}, got {value!r}")
    opened: Sequence = kind(argument, **options)
    return opened


def _expected(hint: Any, value: Any) -> str:
    """What an option annotated with `hint` must be, or an empty text where `value` is that or nothing plain."""
    kinds = set(typing.get_args(hint)) or {hint}
    if float in kinds:
        fits = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        expected = "a finite number"
    elif bool in kinds:
        fits, expected = isinstance(value, bool), "true or false"
    elif str in kinds:
        fits, expected = isinstance(value, str | Path), "a text"
    else:
        return ""
    return "" if fits or (value is None and type(None) in kinds) else expected


def _description(path: Path) -> str:
    """What is there, for a message."""
    if not path.is_dir():
        return f"a file of {path.stat().st_size} bytes"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir())
    if not names:
        return "an empty folder"
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
