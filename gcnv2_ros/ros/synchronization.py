# SPDX-License-Identifier: Apache-2.0
"""Bringing the messages of one frame together: image and depth, left and right, image and mask, by their stamps.

ROS's own package message_filters does it where it is installed, and a small equivalent where it is not. Both hold a
short queue of each input; a set is given on as soon as its last message is there. On top of either, unmatched messages
are counted, sets go on in the order of their stamps, and a clock that jumps back (a recording that loops) empties the
queues, whose later stamps would otherwise keep all that follows from being matched.
"""

from __future__ import annotations

import abc
import enum
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..errors import GCNv2Error
from ..stamps import nanoseconds_of

JUMP_NS = 1_000_000_000
"""A stamp that lies so much before the newest one of its input is that of a clock that has jumped back."""

_NANOSECOND = 1e-9

OnSet = Callable[[tuple[Any, ...]], None]
OnUnmatched = Callable[[str, int], None]


class SynchronizationError(GCNv2Error):
    """Options of the synchronisation that make no sense, or a library that is not there."""


@dataclass(frozen=True)
class SyncOptions:
    """How messages are matched.

    Attributes
    ----------
    method
        ``exact``: equal stamps. ``approximate``: stamps that differ by no more than `slop`.
    slop
        Seconds. Of several sets the one with the nearest stamps is taken. Half the period of the frames or more can
        bring a message together with that of the next frame after one was lost.
    queue
        How many messages of each input may wait.
    """

    method: str = "approximate"
    slop: float = 0.01
    queue: int = 10

    def __post_init__(self) -> None:
        if self.method not in ("exact", "approximate"):
            raise SynchronizationError(f"sync must be 'exact' or 'approximate', got {self.method!r}")
        if not 0.0 <= self.slop < float("inf"):
            raise SynchronizationError(f"sync_slop must be a number of seconds, got {self.slop}")
        if self.queue < 1:
            raise SynchronizationError(f"sync_queue must be at least 1, got {self.queue}")


class _Place(enum.Enum):
    """Where a stamp lies among those before it."""

    AHEAD = enum.auto()
    BEHIND = enum.auto()
    GONE_BACK = enum.auto()


class _Order:
    """Tells a stamp that comes out of its turn from a clock that has gone back, which the next one goes on from."""

    def __init__(self) -> None:
        self.newest: int | None = None
        self._behind: int | None = None

    def place(self, stamp: int) -> _Place:
        """Where the next stamp lies."""
        if self.newest is not None and stamp < self.newest:
            if self._behind is None or stamp <= self._behind:
                self._behind = stamp
                return _Place.BEHIND
            place = _Place.GONE_BACK
        else:
            place = _Place.AHEAD
        self.newest, self._behind = stamp, None
        return place


class Synchronizer(abc.ABC):
    """Takes messages of several inputs and gives on those that belong together; for use from one thread.

    Parameters
    ----------
    names
        Names of the inputs.
    options
        How they are matched.
    on_set
        Called with one message of each input, in the order of `names`.
    on_unmatched
        Called with an input's name and how many of its messages were given up.
    """

    library = ""

    def __init__(self, names: Sequence[str], options: SyncOptions, on_set: OnSet, on_unmatched: OnUnmatched) -> None:
        self.names = tuple(names)
        self._options = options
        self._on_set = on_set
        self._on_unmatched = on_unmatched
        self._orders = {name: _Order() for name in self.names}
        self._order_of_sets = _Order()
        self._pending = dict.fromkeys(self.names, 0)

    def add(self, name: str, message: Any) -> None:
        """Take a message with a header; may call `on_set` and `on_unmatched` before it returns."""
        stamp = stamp_ns(message)
        newest = self._orders[name].newest
        if newest is not None and stamp < newest - JUMP_NS:
            self.clear()
        if self._orders[name].place(stamp) is _Place.GONE_BACK:
            self._give_up_later(name, stamp)
        before = self._waiting()
        self._add(self.names.index(name), stamp, message)
        before[name] += 1
        after = self._waiting()
        for other in self.names:
            # What neither waits nor has gone on in a set was pushed out, or was in a set that came out of its turn.
            given_up = before[other] - after[other] - self._pending[other]
            self._pending[other] = 0
            if given_up > 0:
                self._on_unmatched(other, given_up)

    def clear(self) -> None:
        """Give up all waiting messages."""
        waiting = self._waiting()
        for queue in self._queues():
            queue.clear()
        self._orders = {name: _Order() for name in self.names}
        self._order_of_sets = _Order()
        for name, count in waiting.items():
            if count:
                self._on_unmatched(name, count)

    def _deliver(self, *messages: Any) -> None:
        if self._order_of_sets.place(stamp_ns(messages[0])) is _Place.BEHIND:
            return
        for name in self.names:
            self._pending[name] += 1
        self._on_set(messages)

    def _give_up_later(self, name: str, stamp: int) -> None:
        """Give up the messages of an input that the time has not come to again."""
        queue = self._queues()[self.names.index(name)]
        later = [key for key, message in queue.items() if stamp_ns(message) > stamp]
        for key in later:
            del queue[key]
        if later:
            self._on_unmatched(name, len(later))

    def _waiting(self) -> dict[str, int]:
        """How many messages of each input wait."""
        return {name: len(queue) for name, queue in zip(self.names, self._queues())}

    @abc.abstractmethod
    def _add(self, index: int, stamp: int, message: Any) -> None:
        """Queue a message and call `_deliver` with the sets that it completes."""

    @abc.abstractmethod
    def _queues(self) -> Sequence[dict[Any, Any]]:
        """The messages of each input that wait, by keys of the library's own."""


class StampSynchronizer(Synchronizer):
    """The package's own synchroniser."""

    library = "gcnv2_ros"

    def __init__(self, names: Sequence[str], options: SyncOptions, on_set: OnSet, on_unmatched: OnUnmatched) -> None:
        super().__init__(names, options, on_set, on_unmatched)
        self._messages: list[dict[int, Any]] = [{} for _ in names]
        self._slop_ns = 0 if options.method == "exact" else round(options.slop * 1e9)

    def _add(self, index: int, stamp: int, message: Any) -> None:
        queue = self._messages[index]
        queue[stamp] = message
        while len(queue) > self._options.queue:
            del queue[min(queue)]
        stamps = self._best_set(index, stamp)
        if stamps is not None:
            self._deliver(*(queue.pop(chosen) for queue, chosen in zip(self._messages, stamps)))

    def _best_set(self, index: int, stamp: int) -> tuple[int, ...] | None:
        """The stamps, one an input, of the complete set with the new message that spans the least time."""
        if stamp not in self._messages[index]:
            return None
        near = [
            [stamp] if position == index else [other for other in queue if abs(other - stamp) <= self._slop_ns]
            for position, queue in enumerate(self._messages)
        ]
        sets = [stamps for stamps in itertools.product(*near) if max(stamps) - min(stamps) <= self._slop_ns]
        # Of equally near ones the earliest.
        return min(sets, key=lambda stamps: (sum(abs(other - stamp) for other in stamps), stamps), default=None)

    def _queues(self) -> Sequence[dict[Any, Any]]:
        return self._messages


class MessageFiltersSynchronizer(Synchronizer):
    """ROS's message_filters behind the same interface.

    Raises
    ------
    SynchronizationError
        If message_filters is not installed.
    """

    library = "message_filters"

    def __init__(self, names: Sequence[str], options: SyncOptions, on_set: OnSet, on_unmatched: OnUnmatched) -> None:
        super().__init__(names, options, on_set, on_unmatched)
        if not message_filters_installed():
            raise SynchronizationError(
                "message_filters is not installed; it comes with a ROS 2 installation (ros-$ROS_DISTRO-message-filters)"
            )
        import message_filters

        self._filters = [message_filters.SimpleFilter() for _ in names]
        if options.method == "exact" or options.slop == 0.0:
            self._synchronizer = message_filters.TimeSynchronizer(self._filters, options.queue)
        else:
            # It takes only sets that span less than what it is given.
            slop = options.slop + _NANOSECOND
            self._synchronizer = message_filters.ApproximateTimeSynchronizer(self._filters, options.queue, slop)
        self._synchronizer.registerCallback(self._deliver)

    def _add(self, index: int, stamp: int, message: Any) -> None:
        self._filters[index].signalMessage(message)

    def _queues(self) -> Sequence[dict[Any, Any]]:
        queues: Sequence[dict[Any, Any]] = self._synchronizer.queues
        return queues


def create_synchronizer(
    names: Sequence[str], options: SyncOptions, on_set: OnSet, on_unmatched: OnUnmatched
) -> Synchronizer:
    """That of message_filters where it is installed, else the package's own; parameters as of `Synchronizer`."""
    kind = MessageFiltersSynchronizer if message_filters_installed() else StampSynchronizer
    return kind(names, options, on_set, on_unmatched)


@cache
def message_filters_installed() -> bool:
    """Whether message_filters can be imported."""
    try:
        import message_filters  # noqa: F401
    # Like other packages with compiled parts it can fail in more ways than ImportError.
    except Exception:
        return False
    return True


def stamp_ns(message: Any) -> int:
    """The time stamp of a message's header in nanoseconds."""
    return nanoseconds_of(message.header.stamp)
