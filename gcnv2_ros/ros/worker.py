# SPDX-License-Identifier: Apache-2.0
"""A thread that works on frames, and the queue in which they wait for it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_LOGGER = logging.getLogger(__name__)

Item = TypeVar("Item")


class FrameQueue(Generic[Item]):
    """Frames wait here, those of each camera in a lane of their own; when there are too many, the oldest goes.

    Parameters
    ----------
    capacity
        How many may wait in a lane. 1: only the newest.
    lanes
        How many cameras there are.
    """

    def __init__(self, capacity: int, lanes: int = 1) -> None:
        if capacity < 1 or lanes < 1:
            raise ValueError(f"capacity and lanes must be at least 1, got {capacity} and {lanes}")
        self._capacity = capacity
        self._lanes: list[deque[Item]] = [deque() for _ in range(lanes)]
        self._condition = threading.Condition()
        self._closed = False

    def put(self, item: Item, lane: int = 0) -> int:
        """Add a frame; returns how many were dropped for it. A closed queue drops the frame itself."""
        with self._condition:
            if self._closed:
                return 1
            waiting = self._lanes[lane]
            dropped = 0
            while len(waiting) >= self._capacity:
                waiting.popleft()
                dropped += 1
            waiting.append(item)
            self._condition.notify()
            return dropped

    def get(self, gather: float = 0.0) -> list[Item] | None:
        """The oldest frame of each lane that has one, as soon as there is any; None once the queue is closed.

        Parameters
        ----------
        gather
            Seconds that the first frame waits for those of the other lanes.
        """
        with self._condition:
            self._condition.wait_for(lambda: any(self._lanes) or self._closed)
            if gather > 0.0 and len(self._lanes) > 1:
                self._condition.wait_for(lambda: all(self._lanes) or self._closed, gather)
            return None if self._closed else [waiting.popleft() for waiting in self._lanes if waiting]

    def close(self) -> list[int]:
        """Wake and dismiss who waits; returns how many frames were still waiting in each lane."""
        with self._condition:
            self._closed = True
            left = [len(waiting) for waiting in self._lanes]
            for waiting in self._lanes:
                waiting.clear()
            self._condition.notify_all()
            return left


class Worker(Generic[Item]):
    """One thread that takes frames from a queue and works on them.

    Parameters
    ----------
    work
        Called in the thread with the frames that are there, one a camera at most. What it raises goes to `failed`, and
        the next frames are taken.
    failed
        Called with the frames and the exception, in the thread. What it raises is logged by Python's logging.
    capacity, lanes
        How many frames may wait; see `FrameQueue`.
    gather
        Seconds that a frame waits for those of the other cameras.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], None],
        failed: Callable[[list[Item], Exception], None],
        *,
        capacity: int,
        lanes: int = 1,
        gather: float = 0.0,
    ) -> None:
        self._work = work
        self._failed = failed
        self._gather = gather
        self._queue: FrameQueue[Item] = FrameQueue(capacity, lanes)
        # A daemon, so that a network that never returns cannot keep the process alive.
        self._thread = threading.Thread(target=self._run, name="gcnv2-extraction", daemon=True)
        self._thread.start()

    def submit(self, item: Item, lane: int = 0) -> int:
        """Hand over a frame; returns how many were dropped for it."""
        return self._queue.put(item, lane)

    def stop(self, timeout: float) -> tuple[list[int], bool]:
        """Dismiss the waiting frames and let the current ones end.

        Parameters
        ----------
        timeout
            Seconds to wait for them.

        Returns
        -------
        dismissed : list of int
            How many frames were waiting in each lane.
        ended : bool
            Whether the thread ended in time.
        """
        dismissed = self._queue.close()
        self._thread.join(timeout)
        return dismissed, not self._thread.is_alive()

    def _run(self) -> None:
        while (items := self._queue.get(self._gather)) is not None:
            try:
                self._work(items)
            except Exception as error:
                self._tell(items, error)

    def _tell(self, items: list[Item], error: Exception) -> None:
        try:
            self._failed(items, error)
        except Exception:
            # Who counts and logs failures may fail too; without this thread the node would look alive and do nothing.
            _LOGGER.exception("the failure of a frame (%s: %s) could not be told", type(error).__name__, error)
