# SPDX-License-Identifier: Apache-2.0
"""Image sizes as text."""

from __future__ import annotations


def size_text(width: int, height: int) -> str:
    """How a size is written: ``640x480``."""
    return f"{width}x{height}"


def read_size(text: str) -> tuple[int, int] | None:
    """Width and height of what is written as ``640x480``; None if it is not, or either of them is 0."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        return None
    return int(width), int(height)
