# SPDX-License-Identifier: Apache-2.0
"""What the node says in its log about faults that come again and again: each kind at once, then only now and then."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..camera import CameraError
from ..errors import GCNv2Error, sentence_of
from ..messages.pixels import ImageError
from .statistics import Statistics

REPEAT_SECONDS = 60.0


class Throttle:
    """Lets the first of each kind pass, and then one of a kind at most every `interval` seconds.

    Parameters
    ----------
    interval
        Seconds.
    clock
        Monotonic seconds.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: dict[str, float] = {}
        self._held_back: Counter[str] = Counter()

    def admit(self, kind: str) -> int | None:
        """How many of `kind` were held back since the latest that passed; None if this one is held back too."""
        with self._lock:
            now = self._clock()
            latest = self._latest.get(kind)
            if latest is not None and now - latest < self._interval:
                self._held_back[kind] += 1
                return None
            self._latest[kind] = now
            return self._held_back.pop(kind, 0)


def more_of_kind(held_back: int) -> str:
    """What follows a sentence that a `Throttle` has let pass, or an empty text."""
    return f" ({held_back} more of this kind since it was last reported)" if held_back else ""


class Reporter:
    """Counts faults and logs them, throttled by kind; may be used from any thread.

    Parameters
    ----------
    logger
        The node's logger.
    statistics
        Where dropped frames and the latest error are counted.
    """

    def __init__(self, logger: Any, statistics: Statistics) -> None:
        self._logger = logger
        self._statistics = statistics
        self._throttle = Throttle(REPEAT_SECONDS)

    def warn(self, kind: str, sentence: str) -> None:
        """Log a warning."""
        held_back = self._throttle.admit(kind)
        if held_back is not None:
            self._logger.warning(sentence + more_of_kind(held_back))

    def tell(self, kind: str, sentence: str) -> None:
        """Log what is no fault, as long as it does not come again and again."""
        held_back = self._throttle.admit(kind)
        if held_back is not None:
            self._logger.info(sentence + more_of_kind(held_back))

    def failed(self, what: str, error: Exception) -> None:
        """Log at once, and remember, that something the node was asked to do did not work."""
        self._statistics.note_error(sentence_of(error))
        self._logger.error(f"{what}: {_explanation(error)}")

    def dropped(self, topic: str, error: Exception) -> None:
        """Count and log a frame that could not be processed."""
        kind = _kind(error)
        self._statistics.count_dropped(kind)
        self._statistics.note_error(sentence_of(error))
        held_back = self._throttle.admit(kind)
        if held_back is not None:
            self._logger.error(f"a frame from {topic} is dropped: {_explanation(error)}{more_of_kind(held_back)}")

    def degraded(self, what: str, error: Exception) -> None:
        """Log, and remember, that a frame is published without something that belongs to it."""
        self._statistics.note_error(sentence_of(error), cost_frame=False)
        self.warn(f"{what}: {_kind(error)}", f"{what}: {_explanation(error)}")


def _kind(error: Exception) -> str:
    if isinstance(error, ImageError):
        return error.kind
    return "not calibrated" if isinstance(error, CameraError) else "processing failed"


def _explanation(error: Exception) -> str:
    """The sentence of an error that was raised on purpose; the whole traceback of any other."""
    if isinstance(error, GCNv2Error):
        return str(error)
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
