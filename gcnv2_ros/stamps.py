# SPDX-License-Identifier: Apache-2.0
"""Times in nanoseconds, as the package counts them, and as messages have them."""

from __future__ import annotations

from typing import Any

NANOSECONDS = 1_000_000_000
"""In a second."""


def nanoseconds_of(stamp: Any) -> int:
    """A builtin_interfaces/Time, or anything with its `sec` and `nanosec`, in nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def seconds_and_nanoseconds(stamp_ns: int) -> tuple[int, int]:
    """`sec` and `nanosec` of a time in nanoseconds."""
    return divmod(int(stamp_ns), NANOSECONDS)
