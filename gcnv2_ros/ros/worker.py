# SPDX-License-Identifier: Apache-2.0
"""A thread that works on frames, and the queue in which they wait for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FrameQueue(Generic[Item]):
    """Frames wait here; when there are too many, the oldest goes.

    Parameters
    ----------
    capacity
        How many may wait. 1: only the newest.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._items: deque[Item] = deque()
        self._condition = threading.Condition()
        self._closed = False

    def put(self, item: Item) -> int:
        """Add a frame; returns how many were dropped for it. A closed queue drops the frame itself."""
        with self._condition:
            if self._closed:
                return 1
            dropped = 0
            while len(self._items) >= self._capacity:
                self._items.popleft()
                dropped += 1
            self._items.append(item)
            self._condition.notify()
            return dropped

    def get(self) -> Item | None:
        """The oldest frame, as soon as there is one; None once the queue is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed)
            return None if self._closed else self._items.popleft()

    def close(self) -> int:
        """Wake and dismiss who waits; returns how many frames were still waiting."""
        with self._condition:
            self._closed = True
            left = len(self._items)
            self._items.clear()
            self._condition.notify_all()
            return left


class Worker(Generic[Item]):
    """One thread that takes frames from a queue and works on them, one at a time.

    Parameters
    ----------
    work
        Called with each frame, in the thread. What it raises goes to `failed`, and the next frame is taken.
    failed
        Called with the frame and the exception, in the thread.
    capacity
        How many frames may wait; see `FrameQueue`.
    """

    def __init__(
        self, work: Callable[[Item], None], failed: Callable[[Item, Exception], None], *, capacity: int
    ) -> None:
        self._work = work
        self._failed = failed
        self._queue: FrameQueue[Item] = FrameQueue(capacity)
        # A daemon, so that a network that never returns cannot keep the process alive.
        self._thread = threading.Thread(target=self._run, name="gcnv2-extraction", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> int:
        """Hand over a frame; returns how many were dropped for it."""
        return self._queue.put(item)

    def stop(self, timeout: float) -> tuple[int, bool]:
        """Dismiss the waiting frames and let the current one end.

        Parameters
        ----------
        timeout
            Seconds to wait for it.

        Returns
        -------
        dismissed : int
            How many frames were waiting.
        ended : bool
            Whether the thread ended in time.
        """
        dismissed = self._queue.close()
        self._thread.join(timeout)
        return dismissed, not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._work(item)
            except Exception as error:
                self._failed(item, error)
