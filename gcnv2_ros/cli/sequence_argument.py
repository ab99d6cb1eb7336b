# SPDX-License-Identifier: Apache-2.0
"""A sequence with its reader's options as one argument, for the subcommands that take several."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..sequences import Sequence

SEQUENCE_HELP = (
    "TUM, EuRoC, KITTI or picture folder, bag, video, or room:OPTIONS; options of its reader follow an @: "
    "clip@clock_offset=-0.011, or drive.mcap@image=/front/image,depth="
)

_WITH_OPTIONS = re.compile(r"(?P<spec>.+?)@(?P<options>[a-z_]+=[^@]*)")


def open_described(text: str, **further: bool | float | str) -> Sequence:
    """Open ``SPEC`` or ``SPEC@NAME=VALUE,NAME=VALUE``; see `gcnv2_ros.sequences.open_sequence`.

    Values are read as true or false, as numbers, and otherwise as text. A path that exists as it stands has no options.
    `further` options are those that have arguments of their own.

    Raises
    ------
    SequenceError
        If nothing fits, or the reader does not know an option.
    """
    from ..sequences import SequenceError, open_sequence

    found = _WITH_OPTIONS.fullmatch(text)
    if found is None or Path(text).exists():
        return open_sequence(text, **further)
    options: dict[str, bool | float | str] = {}
    for entry in found["options"].split(","):
        name, equals, value = entry.partition("=")
        if not equals:
            raise SequenceError(
                f"options of a sequence are written as NAME=VALUE,NAME=VALUE after the @, got {entry!r}"
            )
        options[name] = _parsed(value)
    return open_sequence(found["spec"], **options, **further)


def _parsed(text: str) -> bool | float | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text
