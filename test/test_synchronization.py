# SPDX-License-Identifier: Apache-2.0
"""Bringing messages together: the same behaviour from message_filters and from the package's own synchroniser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import Image

from gcnv2_ros.ros.synchronization import (
    MessageFiltersSynchronizer,
    StampSynchronizer,
    SynchronizationError,
    Synchronizer,
    SyncOptions,
    create_synchronizer,
    message_filters_installed,
    stamp_ns,
)

KINDS = [
    pytest.param(StampSynchronizer, id="own"),
    pytest.param(
        MessageFiltersSynchronizer,
        id="message_filters",
        marks=pytest.mark.skipif(
            not message_filters_installed(),
            reason="message_filters is on no package index; it comes with a ROS 2 installation",
        ),
    ),
]
MILLISECOND = 1_000_000


def message(milliseconds: float) -> Image:
    """An image with a stamp."""
    result = Image()
    nanoseconds = round(milliseconds * MILLISECOND)
    result.header.stamp.sec, result.header.stamp.nanosec = divmod(nanoseconds, 1_000_000_000)
    return result


class Rig:
    """A synchroniser, and what came out of it in milliseconds."""

    def __init__(self, kind: Callable[..., Synchronizer], options: SyncOptions, names: tuple[str, ...]) -> None:
        self.sets: list[tuple[float, ...]] = []
        self.unmatched: Counter[str] = Counter()
        self._synchronizer = kind(names, options, self._on_set, self._on_unmatched)

    def _on_set(self, messages: tuple[Any, ...]) -> None:
        self.sets.append(tuple(stamp_ns(message) / MILLISECOND for message in messages))

    def _on_unmatched(self, name: str, count: int) -> None:
        self.unmatched[name] += count

    def add(self, name: str, *milliseconds: float) -> None:
        """Messages of one input."""
        for stamp in milliseconds:
            self._synchronizer.add(name, message(stamp))

    def clear(self) -> None:
        """Give up what waits."""
        self._synchronizer.clear()


def rig(kind: Callable[..., Synchronizer], *, names: tuple[str, ...] = ("image", "depth"), **options: Any) -> Rig:
    """A rig with some options."""
    return Rig(kind, SyncOptions(**options), names)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_equal_stamps_form_a_set_in_the_order_of_the_inputs_whoever_comes_first(kind: Any, method: str) -> None:
    sync = rig(kind, method=method)
    sync.add("image", 10, 70)
    assert sync.sets == []
    sync.add("depth", 10)
    sync.add("depth", 130)
    sync.add("image", 130)
    assert sync.sets == [(10, 10), (130, 130)]
    assert not sync.unmatched


@pytest.mark.parametrize("kind", KINDS)
def test_exact_takes_no_neighbour(kind: Any) -> None:
    sync = rig(kind, method="exact")
    sync.add("image", 10)
    sync.add("depth", 10.001)
    assert sync.sets == []


@pytest.mark.parametrize("kind", KINDS)
def test_approximate_takes_neighbours_within_the_slop_and_the_nearest_of_several(kind: Any) -> None:
    sync = rig(kind, slop=0.01)
    sync.add("depth", 100, 106, 120)
    sync.add("image", 105)
    assert sync.sets == [(105, 106)]
    sync.add("image", 135)
    assert len(sync.sets) == 1, "15 ms are more than the slop"
    sync.add("image", 112)
    assert sync.sets[-1] == (112, 120), "106 has been used already"


@pytest.mark.parametrize("kind", KINDS)
def test_the_slop_itself_is_near_enough_and_without_one_equal_stamps_are(kind: Any) -> None:
    sync = rig(kind, slop=0.01)
    sync.add("depth", 100)
    sync.add("image", 110)
    assert sync.sets == [(110, 100)]
    sync = rig(kind, slop=0.0)
    sync.add("depth", 100, 200)
    sync.add("image", 200, 300)
    assert sync.sets == [(200, 200)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_of_three_spans_no_more_than_the_slop(kind: Any) -> None:
    sync = rig(kind, names=("image", "right", "mask"), slop=0.01)
    sync.add("right", 94)
    sync.add("mask", 106)
    sync.add("image", 100)
    assert sync.sets == [], "right and mask are 12 ms apart"
    sync.add("mask", 99)
    assert sync.sets == [(100, 94, 99)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_a_full_queue_gives_up_the_oldest_and_counts_it(kind: Any, method: str) -> None:
    sync = rig(kind, method=method, queue=3)
    sync.add("image", 0, 100, 200, 300, 400)
    assert sync.unmatched == {"image": 2}
    sync.add("depth", 100)
    assert sync.sets == []
    sync.add("depth", 200, 400)
    assert sync.sets == [(200, 200), (400, 400)]
    sync.clear()
    assert sync.unmatched == {"image": 3, "depth": 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_a_clock_that_jumps_back_starts_anew(kind: Any, method: str) -> None:
    sync = rig(kind, method=method, queue=3)
    # The depth camera is off at the end of the recording, so that late images fill their queue.
    sync.add("image", 60_000, 60_100, 60_200)
    sync.add("image", 0)
    sync.add("depth", 0)
    assert sync.sets == [(0, 0)]
    assert sync.unmatched == {"image": 3}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_a_clock_that_goes_back_a_little_costs_what_waited_and_one_message(kind: Any, method: str) -> None:
    sync = rig(kind, method=method, queue=5)
    sync.add("image", *range(900, 1000, 10))
    for stamp in range(0, 2000, 33):
        sync.add("image", stamp)
        sync.add("depth", stamp)
    assert sync.sets == [(stamp, stamp) for stamp in range(33, 2000, 33)]
    # The ten of before, and the first one of the new time, which may have been one that is late.
    assert sync.unmatched == {"image": 11}


@pytest.mark.parametrize("kind", KINDS)
def test_sets_after_a_clock_has_gone_back_a_little_go_on(kind: Any) -> None:
    sync = rig(kind)
    for stamp in (900, 933, 966, 500, 533, 566):
        sync.add("image", stamp)
        sync.add("depth", stamp)
    assert sync.sets == [(stamp, stamp) for stamp in (900, 933, 966, 533, 566)]
    assert sync.unmatched == {"image": 1, "depth": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_that_comes_out_of_its_turn_is_given_up_and_counted(kind: Any) -> None:
    sync = rig(kind)
    sync.add("image", 33, 66, 99)
    sync.add("depth", 66, 33, 99)
    assert sync.sets == [(66, 66), (99, 99)]
    assert sync.unmatched == {"image": 1, "depth": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_have_changed_places_keep_what_waits(kind: Any) -> None:
    sync = rig(kind)
    sync.add("image", 66, 33, 99)
    sync.add("depth", 33, 66, 99)
    assert sync.sets == [(33, 33), (66, 66), (99, 99)]
    assert not sync.unmatched


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_message_is_in_one_set_or_waits_or_is_counted(kind: Any, data: st.DataObject) -> None:
    sync = rig(kind, slop=0.01, queue=4)
    steps = data.draw(
        st.lists(st.tuples(st.sampled_from(["image", "depth"]), st.integers(0, 200)), max_size=60, unique=True)
    )
    for name, stamp in steps:
        sync.add(name, stamp)
    assert all(abs(image - depth) <= 10 for image, depth in sync.sets)
    for position in (0, 1):
        used = [stamps[position] for stamps in sync.sets]
        assert len(set(used)) == len(used)
    sync.clear()
    for name in ("image", "depth"):
        assert sync.unmatched[name] + len(sync.sets) == sum(step[0] == name for step in steps)


def test_what_is_created_is_message_filters_where_it_is_installed() -> None:
    sync = create_synchronizer(("a", "b"), SyncOptions(), lambda messages: None, lambda name, count: None)
    assert sync.library == ("message_filters" if message_filters_installed() else "gcnv2_ros")


@pytest.mark.skipif(message_filters_installed(), reason="message_filters is installed")
def test_without_message_filters_a_sentence_says_where_it_comes_from() -> None:
    with pytest.raises(SynchronizationError, match="ROS 2 installation"):
        rig(MessageFiltersSynchronizer)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"method": "about"}, "sync"),
        ({"slop": -1.0}, "sync_slop"),
        ({"slop": float("nan")}, "sync_slop"),
        ({"queue": 0}, "sync_queue"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], name: str) -> None:
    with pytest.raises(SynchronizationError, match=name):
        SyncOptions(**options)
