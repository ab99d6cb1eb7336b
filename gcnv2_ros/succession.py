# SPDX-License-Identifier: Apache-2.0
"""Whether messages follow each other in time: one that is off tells nothing, the one after it whether time has jumped.

A driver's hiccup, or a second source on the topic, stamps single messages far off. A recording that starts again, or a
robot that was switched off, stamps all that follow. Frames, measurements of an IMU and transforms are judged alike.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Step(enum.Enum):
    """What a message is to those before it."""

    GOES_ON = "goes on"
    GOES_BACK = "goes back"
    REPEATS = "repeats"
    COMES_LATE = "comes late"
    IS_OFF = "is off"


@dataclass(frozen=True)
class Verdict:
    """What to do with a message.

    Attributes
    ----------
    step
        With `Step.GOES_ON` and `Step.GOES_BACK` it counts, and with the latter nothing of what was before does. The
        others are to be left out.
    sentence
        Why, for the log; empty where it simply goes on.
    """

    step: Step
    sentence: str = ""

    @property
    def counts(self) -> bool:
        """Whether the message is to be used."""
        return self.step in (Step.GOES_ON, Step.GOES_BACK)


class Succession:
    """Judges messages by their stamps, one after the other.

    Parameters
    ----------
    late_ns
        Nanoseconds. A message that is late by more does not come late: its stamp is off, or time has jumped.
    gap_ns
        Nanoseconds. Messages that are further apart do not go on from each other.
    """

    def __init__(self, *, late_ns: int = 1_000_000_000, gap_ns: int = 10_000_000_000) -> None:
        self._late_ns = late_ns
        self._gap_ns = gap_ns
        self._latest: int | None = None
        self._off: int | None = None

    def judge(self, stamp_ns: int) -> Verdict:
        """What the next message is; one that counts is to be told by `advance` once it has been used."""
        off, self._off = self._off, None
        if self._latest is None:
            return Verdict(Step.GOES_ON)
        step = stamp_ns - self._latest
        if off is not None and 0 < stamp_ns - off < abs(step):
            # Ahead any two in a row will do: a slow stream's are always far apart.
            if step > 0:
                return Verdict(Step.GOES_ON)
            if stamp_ns - off <= self._gap_ns:
                return Verdict(Step.GOES_BACK, f"time went back by {-step * 1e-9:.1f} s")
        if 0 < step <= self._gap_ns:
            return Verdict(Step.GOES_ON)
        seconds = f"{stamp_ns * 1e-9:.3f} s"
        if step == 0:
            return Verdict(
                Step.REPEATS, f"its stamp, {seconds}, is that of the latest one; does the driver stamp its images?"
            )
        if -self._late_ns <= step < 0:
            return Verdict(Step.COMES_LATE, f"its stamp is {-step * 1e-6:.0f} ms before that of the latest one")
        self._off = stamp_ns
        return Verdict(
            Step.IS_OFF,
            f"its stamp, {seconds}, is {abs(step) * 1e-9:.1f} s {'after' if step > 0 else 'before'} that of the latest "
            "one; time has jumped only if the next message goes on from it",
        )

    def advance(self, stamp_ns: int) -> None:
        """Take note of the latest message that was used."""
        self._latest = stamp_ns

    def restart(self) -> None:
        """Forget the messages so far: the next one counts whatever its stamp."""
        self._latest = self._off = None
