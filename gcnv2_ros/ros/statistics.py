# SPDX-License-Identifier: Apache-2.0
"""What the node counts: frames, rates, latencies, drops by cause, errors."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

WINDOW_SECONDS = 10.0
"""Rates and latencies are those of the latest so many seconds."""

# Enough for a window at 200 frames a second.
_LATENCY_SAMPLES = 2000


@dataclass(frozen=True)
class Snapshot:
    """The counts at one moment.

    Attributes
    ----------
    received, processed
        Frames since the node was activated.
    dropped
        Frames by the cause for which they were not processed, since the node was activated.
    input_rate, output_rate
        Frames a second over the latest `WINDOW_SECONDS`.
    latency_median, latency_p99
        Seconds from the receipt of the last of a frame's messages to the publishing of its features, over the same
        time; NaN without frames.
    keypoints
        Number in the latest frame; None before the first.
    silence
        Seconds since the latest image, or since the activation before the first one.
    last_error
        The latest error's sentence; empty without one.
    last_error_age
        Seconds since that error; infinite without one.
    last_error_cost_frame
        Whether that error cost a frame, and not only something that belongs to one.
    unmatched, lost
        Messages by topic role that found no partners, or that the middleware lost, since the node was activated. Those
        of the role ``image`` are among the dropped frames too.
    """

    received: int
    processed: int
    dropped: dict[str, int]
    input_rate: float
    output_rate: float
    latency_median: float
    latency_p99: float
    keypoints: int | None
    silence: float
    last_error: str
    last_error_age: float
    last_error_cost_frame: bool = True
    unmatched: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)

    @property
    def dropped_total(self) -> int:
        """Frames dropped for any cause."""
        return sum(self.dropped.values())


class Statistics:
    """Counts frames from several threads.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything and start anew."""
        with self._lock:
            self._start = self._clock()
            self._received = self._processed = 0
            self._dropped: Counter[str] = Counter()
            self._unmatched: Counter[str] = Counter()
            self._lost: Counter[str] = Counter()
            self._arrivals: deque[float] = deque()
            self._departures: deque[float] = deque()
            self._latencies: deque[tuple[float, float]] = deque(maxlen=_LATENCY_SAMPLES)
            self._keypoints: int | None = None
            self._last_arrival = self._start
            self._last_error = ""
            self._last_error_time = -float("inf")
            self._last_error_cost_frame = False

    def now(self) -> float:
        """The clock's time."""
        return self._clock()

    def count_received(self, at: float) -> None:
        """A frame came at `at`."""
        with self._lock:
            self._received += 1
            self._last_arrival = at
            self._arrivals.append(at)

    def count_processed(self, received_at: float, keypoints: int) -> None:
        """The features of the frame that came at `received_at` are published."""
        with self._lock:
            now = self._clock()
            self._processed += 1
            self._keypoints = keypoints
            self._departures.append(now)
            self._latencies.append((now, now - received_at))

    def count_dropped(self, cause: str, count: int = 1) -> None:
        """So many frames will not be processed."""
        with self._lock:
            self._dropped[cause] += count

    def count_lost(self, role: str, count: int) -> None:
        """The middleware lost so many messages; without its image there is no frame."""
        with self._lock:
            self._lost[role] += count
            if role == "image":
                self._dropped["lost in transport"] += count

    def count_unmatched(self, role: str, count: int) -> None:
        """So many messages found no partners; without its image there is no frame."""
        with self._lock:
            self._unmatched[role] += count
            if role == "image":
                self._dropped["unmatched"] += count

    def note_error(self, sentence: str, *, cost_frame: bool = True) -> None:
        """Remember the latest error, and whether it cost a frame or only something that belongs to one."""
        with self._lock:
            self._last_error, self._last_error_time = sentence, self._clock()
            self._last_error_cost_frame = cost_frame

    def snapshot(self) -> Snapshot:
        """The counts as they stand."""
        with self._lock:
            now = self._clock()
            begin = now - WINDOW_SECONDS
            for times in (self._arrivals, self._departures):
                while times and times[0] < begin:
                    times.popleft()
            while self._latencies and self._latencies[0][0] < begin:
                self._latencies.popleft()
            span = max(min(WINDOW_SECONDS, now - self._start), 1e-3)
            latencies = [latency for _, latency in self._latencies]
            median, p99 = np.percentile(latencies, [50, 99]) if latencies else (np.nan, np.nan)
            return Snapshot(
                self._received,
                self._processed,
                dict(self._dropped),
                len(self._arrivals) / span,
                len(self._departures) / span,
                float(median),
                float(p99),
                self._keypoints,
                now - self._last_arrival,
                self._last_error,
                now - self._last_error_time,
                self._last_error_cost_frame,
                dict(self._unmatched),
                dict(self._lost),
            )
