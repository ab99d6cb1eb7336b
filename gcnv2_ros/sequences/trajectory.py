# SPDX-License-Identifier: Apache-2.0
"""The camera's way through the synthetic room: a sum of sines in closed form, known at every instant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A smooth hand-held walk that never leaves a given space.

    The position follows two sines an axis, whose amplitudes sum to the half-extent of the space. The view turns
    about steadily while it looks to and fro, nods, and rolls by one sine.

    Attributes
    ----------
    free
        float64 (2, 3): lowest and highest corner of the space.
    roll
        Amplitude of the roll in radians.
    speed
        How fast time runs: 1.0 is a calm walk, of 0.25 to 0.4 m/s and 10 degrees/s on average.
    phases
        float64 (3, 4): phases of position, angles and roll, and the direction of turning in the last one's sign.
    """

    free: NDArray[np.float64]
    roll: float
    speed: float
    phases: NDArray[np.float64]

    @classmethod
    def random(cls, free: NDArray[np.float64], rng: np.random.Generator, *, roll: float, speed: float) -> Trajectory:
        """A trajectory with random phases, so that every seed starts elsewhere and looks elsewhere."""
        return cls(free, roll, speed, rng.uniform(-math.pi, math.pi, (3, 4)))

    def pose(self, seconds: float) -> NDArray[np.float64]:
        """Camera-to-world pose, float64 (4, 4), of the optical frame (x right, y down, z forward) at a time."""
        time = self.speed * seconds
        centre, half = self.free.mean(0), 0.5 * (self.free[1] - self.free[0])
        slow = 2 * math.pi / np.array([29.0, 23.0, 17.0])
        quick = 2 * math.pi / np.array([13.3, 11.1, 9.7])
        sway = 0.8 * np.sin(slow * time + self.phases[0, :3]) + 0.2 * np.sin(quick * time + self.phases[1, :3])
        turning = math.copysign(2 * math.pi / 50.0, self.phases[2, 3])
        yaw = self.phases[0, 3] + turning * time + 0.5 * math.sin(2 * math.pi / 16.0 * time + self.phases[1, 3])
        pitch = -0.12 + 0.2 * math.sin(2 * math.pi / 12.0 * time + self.phases[2, 0])
        roll = self.roll * math.sin(2 * math.pi / 9.0 * time + self.phases[2, 1])
        pose = np.eye(4)
        pose[:3, :3] = look_rotation(yaw, pitch, roll)
        pose[:3, 3] = centre + half * sway
        return pose


def look_rotation(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Rotation (3, 3) of an optical frame in a world with z up.

    Parameters
    ----------
    yaw
        Direction of view about z, radians from the world's x axis.
    pitch
        Upwards, radians.
    roll
        Turn of the camera about its optical axis, radians, clockwise as seen from behind the camera.
    """
    level = np.array(
        [[math.sin(yaw), 0.0, math.cos(yaw)], [-math.cos(yaw), 0.0, math.sin(yaw)], [0.0, -1.0, 0.0]],
        np.float64,
    )
    cos_p, sin_p, cos_r, sin_r = math.cos(pitch), math.sin(pitch), math.cos(roll), math.sin(roll)
    nod = np.array([[1.0, 0.0, 0.0], [0.0, cos_p, -sin_p], [0.0, sin_p, cos_p]])
    tilt = np.array([[cos_r, -sin_r, 0.0], [sin_r, cos_r, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(level @ nod @ tilt, np.float64)
