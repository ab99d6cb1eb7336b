# SPDX-License-Identifier: Apache-2.0
"""Rotations between frames from tf's transforms, against the algebra of random rotations."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcnv2_ros.geometry import pose_from_quaternion
from gcnv2_ros.transforms import RotationBuffer, TransformError
from gcnv2_ros.upright import roll_of

SECOND = 1_000_000_000

quaternions = st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1)


def rotation(quaternion: list[float]) -> np.ndarray:
    return pose_from_quaternion(np.zeros(3), quaternion)[:3, :3]


def about_z(degrees: float) -> list[float]:
    half = np.radians(degrees) / 2
    return [0.0, 0.0, float(np.sin(half)), float(np.cos(half))]


def transform(parent: str, child: str, quaternion: list[float], stamp_ns: int = 0) -> SimpleNamespace:
    """What a geometry_msgs/TransformStamped holds."""
    sec, nanosec = divmod(stamp_ns, SECOND)
    x, y, z, w = quaternion
    header = SimpleNamespace(frame_id=parent, stamp=SimpleNamespace(sec=sec, nanosec=nanosec))
    turned = SimpleNamespace(rotation=SimpleNamespace(x=x, y=y, z=z, w=w))
    return SimpleNamespace(header=header, child_frame_id=child, transform=turned)


def turning(buffer: RotationBuffer, times: list[float], *, rate: float = 30.0) -> None:
    """A base that turns in odom by so many degrees a second, at times in seconds."""
    for time in times:
        buffer.add(transform("odom", "base", about_z(rate * time), round(time * SECOND)), fixed=False)


@given(parents=st.lists(st.integers(0, 100), min_size=1, max_size=8), data=st.data())
def test_frames_of_a_tree_are_connected_both_ways(parents: list[int], data: st.DataObject) -> None:
    buffer = RotationBuffer()
    to_root = [np.eye(3)]
    for number, chosen in enumerate(parents, start=1):
        parent = chosen % number
        quaternion = data.draw(quaternions)
        fixed = data.draw(st.booleans())
        buffer.add(transform(f"/{parent}", str(number), quaternion, 5 * SECOND), fixed=fixed)
        to_root.append(to_root[parent] @ rotation(quaternion))
    source, target = (data.draw(st.integers(0, len(parents))) for _ in range(2))
    found = buffer.rotation(str(target), f"/{source}", 5 * SECOND)
    np.testing.assert_allclose(found, to_root[target].T @ to_root[source], atol=1e-9)
    np.testing.assert_allclose(buffer.rotation(str(source), str(target), 5 * SECOND), found.T, atol=1e-9)


@given(
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=30, unique_by=lambda time: round(time * 1000)), st.floats(0, 1)
)
def test_a_steady_rotation_is_interpolated_exactly_whatever_the_order_within_a_second(
    times: list[float], share: float
) -> None:
    buffer = RotationBuffer()
    turning(buffer, times)
    first, last = min(times), max(times)
    asked = first + share * (last - first)
    found = buffer.rotation("odom", "base", round(asked * SECOND))
    np.testing.assert_allclose(found, rotation(about_z(30.0 * asked)), atol=1e-6)


def test_the_latest_transform_holds_for_a_moment_and_no_longer() -> None:
    buffer = RotationBuffer(longest_hold=0.2)
    turning(buffer, [1.0, 1.5])
    latest = rotation(about_z(45.0))
    np.testing.assert_allclose(buffer.rotation("odom", "base", round(1.7 * SECOND)), latest, atol=1e-12)
    with pytest.raises(TransformError, match=r"from 'base' to 'odom' for 1.701 s; it has some from 1.000 s to 1.500 s"):
        buffer.rotation("odom", "base", round(1.701 * SECOND))
    with pytest.raises(TransformError, match=r"for 0.999 s"):
        buffer.rotation("odom", "base", round(0.999 * SECOND))


def test_nothing_is_interpolated_over_a_long_gap() -> None:
    buffer = RotationBuffer(longest_gap=1.0)
    turning(buffer, [1.0, 1.1, 3.0, 3.1])
    buffer.rotation("odom", "base", round(3.05 * SECOND))
    with pytest.raises(TransformError, match=r"for 2.000 s"):
        buffer.rotation("odom", "base", 2 * SECOND)


def test_a_static_transform_holds_at_all_times_and_may_be_replaced() -> None:
    buffer = RotationBuffer()
    buffer.add(transform("base", "camera", about_z(10.0), 50 * SECOND), fixed=True)
    np.testing.assert_allclose(buffer.rotation("base", "camera", 1), rotation(about_z(10.0)), atol=1e-12)
    buffer.add(transform("base", "camera", about_z(20.0), 2 * SECOND), fixed=True)
    np.testing.assert_allclose(buffer.rotation("base", "camera", 10**18), rotation(about_z(20.0)), atol=1e-12)


def test_frames_that_are_not_connected_are_named() -> None:
    buffer = RotationBuffer()
    with pytest.raises(TransformError, match=r"does not connect the frame 'camera' with 'odom'"):
        buffer.rotation("odom", "camera", SECOND)
    buffer.add(transform("base", "camera", about_z(0.0)), fixed=True)
    buffer.add(transform("map", "odom", about_z(0.0)), fixed=True)
    with pytest.raises(TransformError, match=r"the former leads up to 'base', the latter to 'map'"):
        buffer.rotation("odom", "camera", SECOND)


def test_parents_in_a_circle_do_not_hang() -> None:
    buffer = RotationBuffer()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        buffer.add(transform(parent, child, about_z(0.0)), fixed=True)
    with pytest.raises(TransformError):
        buffer.rotation("odom", "a", SECOND)


def test_a_frame_that_gets_another_parent_leaves_the_first() -> None:
    buffer = RotationBuffer()
    buffer.add(transform("odom", "base", about_z(30.0), SECOND), fixed=False)
    buffer.add(transform("map", "base", about_z(60.0), SECOND), fixed=False)
    np.testing.assert_allclose(buffer.rotation("map", "base", SECOND), rotation(about_z(60.0)), atol=1e-12)
    with pytest.raises(TransformError):
        buffer.rotation("odom", "base", SECOND)


def test_time_that_jumps_back_starts_anew_and_old_transforms_go() -> None:
    buffer = RotationBuffer(history=10.0)
    turning(buffer, [100.0 + 0.1 * step for step in range(200)], rate=1.0)
    with pytest.raises(TransformError, match=r"from 109.900 s to 119.900 s"):
        buffer.rotation("odom", "base", 105 * SECOND)
    turning(buffer, [0.95, 1.0])
    np.testing.assert_allclose(buffer.rotation("odom", "base", SECOND), rotation(about_z(30.0)), atol=1e-12)
    with pytest.raises(TransformError):
        buffer.rotation("odom", "base", 110 * SECOND)


@pytest.mark.parametrize("odd", [0.0, 4.9, 15.3, 1e6])
def test_a_single_transform_whose_stamp_is_off_costs_nothing(odd: float) -> None:
    buffer = RotationBuffer(history=5.0)
    turning(buffer, [8.0, 9.0, 10.0])
    for stamp in (odd, 10.1, odd, odd, 10.2):
        turning(buffer, [stamp])
    for time in (8.5, 10.05, 10.15):
        found = buffer.rotation("odom", "base", round(time * SECOND))
        np.testing.assert_allclose(found, rotation(about_z(30.0 * time)), atol=1e-6)


def test_time_that_jumps_ahead_is_followed_from_the_second_transform_on() -> None:
    buffer = RotationBuffer(history=5.0)
    turning(buffer, [8.0, 9.0, 100.0, 100.1])
    np.testing.assert_allclose(buffer.rotation("odom", "base", 100_100_000_000), rotation(about_z(3003.0)), atol=1e-6)
    with pytest.raises(TransformError, match=r"it has some from 100.100 s to 100.100 s"):
        buffer.rotation("odom", "base", 9 * SECOND)


def test_a_run_that_starts_again_within_the_history_is_not_mixed_with_the_one_before() -> None:
    buffer = RotationBuffer(history=10.0)
    for step in range(160):
        buffer.add(transform("odom", "base", about_z(60.0), round(0.05 * step * SECOND)), fixed=False)
    for step in range(80):
        stamp = round((0.02 + 0.05 * step) * SECOND)
        buffer.add(transform("odom", "base", about_z(0.0), stamp), fixed=False)
        if step == 0:
            # By itself it may as well be one whose stamp is off.
            continue
        found = buffer.rotation("odom", "base", stamp + 15_000_000)
        np.testing.assert_allclose(found, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("quaternion", [[0.0] * 4, [float("nan"), 0, 0, 1], [float("inf"), 0, 0, 1]])
def test_what_is_no_rotation_is_left_out(quaternion: list[float]) -> None:
    buffer = RotationBuffer()
    turning(buffer, [1.0])
    buffer.add(transform("odom", "base", quaternion, SECOND + 1), fixed=False)
    np.testing.assert_allclose(buffer.rotation("odom", "base", SECOND + 2), rotation(about_z(30.0)), atol=1e-12)
    buffer.add(transform("base", "base", about_z(0.0), SECOND + 1), fixed=False)
    buffer.rotation("odom", "base", SECOND + 2)


def test_gravity_of_a_camera_on_a_moving_base() -> None:
    buffer = RotationBuffer()
    # REP 103: the base's x axis points forward; the optical frame's z axis points forward, its y axis down.
    buffer.add(transform("base", "camera", [-0.5, 0.5, -0.5, 0.5]), fixed=True)
    for seconds in (1, 2):
        # The base rolls about its x axis, 20 degrees a second, its right side going down.
        half = np.radians(20.0 * seconds) / 2
        roll = [float(np.sin(half)), 0.0, 0.0, float(np.cos(half))]
        buffer.add(transform("odom", "base", roll, seconds * SECOND), fixed=False)
    gravity = buffer.rotation("camera", "odom", round(1.5 * SECOND)) @ [0.0, 0.0, -1.0]
    # A camera that is turned clockwise, as seen from behind it, sees the scene turned counter-clockwise.
    assert roll_of(gravity) == pytest.approx(-30.0)


def test_gravity_of_a_camera_that_is_turned_by_a_quarter() -> None:
    buffer = RotationBuffer()
    half = float(np.sqrt(0.5))
    buffer.add(transform("map", "camera", [0.0, -half, 0.0, half]), fixed=True)
    assert roll_of(buffer.rotation("camera", "map", SECOND) @ [0.0, 0.0, -1.0]) == pytest.approx(90.0)
