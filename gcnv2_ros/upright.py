# SPDX-License-Identifier: Apache-2.0
"""Which way is up: the camera's roll from the direction of gravity, and that direction from an IMU.

Learned features without an orientation of their own are lost when the camera rolls. An extractor that is told the roll
turns the image upright first (`Extractor.extract`); this module says how far.

A direction of gravity is a vector (3,) that points down, of any length. The optical frame is that of REP 103: x to the
right in the image, y down, z forward.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import GCNv2Error
from .stamps import NANOSECONDS
from .succession import Succession

STANDARD_GRAVITY = 9.80665
SMALLEST_TILT = 15.0
"""Degrees between the optical axis and the vertical below which there is no telling roll from yaw. An error of the
gravity's direction comes out larger by 1 / sin(15 degrees), nearly four times, at this limit."""


class UprightError(GCNv2Error):
    """A vector or a setting from which no direction of gravity follows."""


def roll_of(gravity: ArrayLike, *, smallest_tilt: float = SMALLEST_TILT) -> float | None:
    """The camera's roll: by how much the scene is turned in the image.

    Parameters
    ----------
    gravity
        (3,), pointing down, in the optical frame.
    smallest_tilt
        Degrees; a camera that looks up or down more steeply than this has no roll.

    Returns
    -------
    float or None
        Degrees in (-180, 180], positive where the scene is turned clockwise in the image, that is where the camera is
        turned counter-clockwise as seen from behind it. 0 for an upright camera. None where the camera looks along
        gravity, and for a vector that is zero or not finite.

    Raises
    ------
    UprightError
        If `gravity` does not have three components.
    """
    x, y, z = _vector(gravity, "gravity").tolist()
    across = math.hypot(x, y)
    if not math.isfinite(across + abs(z)) or math.degrees(math.atan2(across, abs(z))) < smallest_tilt or across == 0.0:
        return None
    # Adding 0 turns -0 into 0, of which atan2 makes 180 and not -180 degrees.
    return math.degrees(math.atan2(-x + 0.0, y))


class _State(NamedTuple):
    stamp_ns: int
    gravity: NDArray[np.float64]
    angular_velocity: NDArray[np.float64] | None


class GravityFilter:
    """Direction of gravity in an IMU's frame: a complementary filter of its gyroscope and its accelerometer.

    The gyroscope carries the direction along; the accelerometer, which measures the opposite of gravity when nothing
    else accelerates it, pulls it back slowly. Its pull is the weaker the further its reading is from 9.8 m/s^2.
    Mahony, Hamel, Pflimlin, "Nonlinear Complementary Filters on the Special Orthogonal Group", IEEE TAC 2008, section
    IV, without the bias: a constant gyroscope bias b leaves an error of about ``b * time_constant``.

    Measurements may come from one thread while another asks. Measurements that are not finite, or that are not later
    than the latest one, are left out, and so is a single one that is off by more than `longest_gap`. If the next one
    goes on from that one, time has jumped, as where a recording is played again, and the filter starts anew.

    Parameters
    ----------
    time_constant
        Seconds in which the accelerometer's pull takes out most (63%) of an error, while there is a gyroscope.
    time_constant_without_gyroscope
        The same for measurements without angular velocity, where it is also the lag behind a rotation.
    history
        Seconds for which past directions can be asked for: images come later than the measurements of their time.
    longest_gap
        Seconds between measurements, and from the latest one to the time asked for, that may be bridged.

    Raises
    ------
    UprightError
        If a setting is not positive.
    """

    def __init__(
        self,
        *,
        time_constant: float = 1.0,
        time_constant_without_gyroscope: float = 0.05,
        history: float = 5.0,
        longest_gap: float = 0.5,
    ) -> None:
        settings = {
            "time_constant": time_constant,
            "time_constant_without_gyroscope": time_constant_without_gyroscope,
            "history": history,
            "longest_gap": longest_gap,
        }
        for name, value in settings.items():
            if not (math.isfinite(value) and value > 0.0):
                raise UprightError(f"{name} must be a positive number of seconds, got {value}")
        self._time_constant = time_constant
        self._time_constant_without_gyroscope = time_constant_without_gyroscope
        self._history_ns = round(history * NANOSECONDS)
        self._longest_gap_ns = round(longest_gap * NANOSECONDS)
        self._succession = Succession(late_ns=self._longest_gap_ns, gap_ns=self._longest_gap_ns)
        self._states: deque[_State] = deque()
        self._lock = threading.Lock()

    def update(self, stamp_ns: int, angular_velocity: ArrayLike | None, linear_acceleration: ArrayLike) -> None:
        """Take one measurement.

        Parameters
        ----------
        stamp_ns
            Its time in nanoseconds.
        angular_velocity
            (3,) rad/s in the IMU's frame; None: no gyroscope.
        linear_acceleration
            (3,) m/s^2 in the IMU's frame, gravity's reaction included, as REP 145 has it: an IMU at rest with z up
            measures +9.8 along z.

        Raises
        ------
        UprightError
            If a vector does not have three components.
        """
        acceleration = _vector(linear_acceleration, "linear_acceleration")
        rate = None if angular_velocity is None else _vector(angular_velocity, "angular_velocity")
        strength = float(np.linalg.norm(acceleration))
        if not math.isfinite(strength) or strength == 0.0 or (rate is not None and not np.isfinite(rate).all()):
            return
        measured = -acceleration / strength
        with self._lock:
            if not self._succession.judge(stamp_ns).counts:
                return
            self._succession.advance(stamp_ns)
            if self._states and not 0 < stamp_ns - self._states[-1].stamp_ns <= self._longest_gap_ns:
                self._states.clear()
            if not self._states:
                self._states.append(_State(stamp_ns, measured, rate))
                return
            latest = self._states[-1]
            seconds = (stamp_ns - latest.stamp_ns) / NANOSECONDS
            constant = self._time_constant_without_gyroscope
            gravity = latest.gravity
            if rate is not None:
                constant = self._time_constant
                # The mean of both ends' rates is exact to the second order.
                mean = rate if latest.angular_velocity is None else (rate + latest.angular_velocity) / 2.0
                gravity = _carried(gravity, mean, seconds)
            # A reading that is off by 1 m/s^2 pulls half as much as one that is right.
            weight = 1.0 / (1.0 + (strength - STANDARD_GRAVITY) ** 2)
            pull = -math.expm1(-weight * seconds / constant)
            self._states.append(_State(stamp_ns, _unit((1.0 - pull) * gravity + pull * measured, measured), rate))
            while stamp_ns - self._states[0].stamp_ns > self._history_ns:
                self._states.popleft()

    def gravity_at(self, stamp_ns: int) -> NDArray[np.float64] | None:
        """Unit vector (3,) that points down, in the IMU's frame, at a time.

        Between measurements it is interpolated; after the latest one the latest angular velocity carries it on.

        Returns
        -------
        numpy.ndarray or None
            float64 (3,). None before the first measurement that is still known, and more than `longest_gap` after the
            latest.
        """
        with self._lock:
            if not self._states or stamp_ns < self._states[0].stamp_ns:
                return None
            latest = self._states[-1]
            ahead = stamp_ns - latest.stamp_ns
            if ahead >= 0:
                if ahead > self._longest_gap_ns:
                    return None
                if latest.angular_velocity is None:
                    return latest.gravity.copy()
                return _carried(latest.gravity, latest.angular_velocity, ahead / NANOSECONDS)
            # Images are recent, so the search goes back from the latest.
            after = latest
            for state in reversed(self._states):
                if state.stamp_ns <= stamp_ns:
                    break
                after = state
            share = (stamp_ns - state.stamp_ns) / (after.stamp_ns - state.stamp_ns)
            return _unit((1.0 - share) * state.gravity + share * after.gravity, after.gravity)


def _vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    vector = np.asarray(values, np.float64)
    if vector.shape != (3,):
        raise UprightError(f"{name} must have three components, got the shape {vector.shape}")
    return vector


def _unit(vector: NDArray[np.float64], otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
    """`vector` with length 1; `otherwise` where two opposite directions have cancelled out."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-9 else otherwise


def _carried(gravity: NDArray[np.float64], rate: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
    """A direction that is fixed in the world, as a frame sees it after turning at `rate` for some time (Rodrigues)."""
    speed = float(np.linalg.norm(rate))
    if speed == 0.0:
        return gravity.copy()
    axis, angle = rate / speed, -speed * seconds
    turned: NDArray[np.float64] = (
        gravity * math.cos(angle)
        + np.cross(axis, gravity) * math.sin(angle)
        + axis * (axis @ gravity) * (1.0 - math.cos(angle))
    )
    return turned
