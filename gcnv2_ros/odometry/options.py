# SPDX-License-Identifier: Apache-2.0
"""Settings of the odometry."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import GCNv2Error


class OdometryError(GCNv2Error):
    """Input or settings that the odometry cannot work with."""


@dataclass(frozen=True)
class OdometryOptions:
    """How the camera's motion is estimated.

    Attributes
    ----------
    max_hamming_distance
        Two binary descriptors that differ in more bits are no match. Not used with float descriptors.
    ratio
        A match counts only if the second nearest descriptor is farther by this factor (Lowe's test); in (0, 1].
    search_radius
        Pixels around a point's predicted place within which it is looked for.
    pixel_sigma
        Standard deviation of a keypoint's place in pixels.
    inverse_depth_sigma
        Standard deviation of 1 / depth in 1/m, in which the error of structured light and of stereo is the same at any
        distance; for a stereo pair that of the disparity divided by focal length times baseline. The default is
        more than a depth camera's own noise, since its depth and image are not of the same instant.
    max_depth
        Metres; farther measurements are taken as unknown.
    min_inliers
        A pose counts only if at least so many points agree with it.
    min_start_points
        The first keyframe has at least so many points of known depth.
    window
        Keyframes whose points are looked for, and which are refined together.
    keyframe_share
        A new keyframe is made when the inliers fall below this share of the most seen since the latest one.
    max_keyframes
        Beyond it the oldest keyframe is forgotten, with the points that only it has seen: bounds time and memory.
    relocalisation_candidates
        Keyframes that a lost camera's view is compared with in full, the likeliest ones.

    Raises
    ------
    OdometryError
        If a value is out of its range.
    """

    max_hamming_distance: int = 80
    ratio: float = 0.9
    search_radius: float = 40.0
    pixel_sigma: float = 1.0
    inverse_depth_sigma: float = 0.01
    max_depth: float = 20.0
    min_inliers: int = 15
    min_start_points: int = 30
    window: int = 8
    keyframe_share: float = 0.75
    max_keyframes: int = 300
    relocalisation_candidates: int = 5

    def __post_init__(self) -> None:
        limits = {
            "max_hamming_distance": (0, 4096),
            "ratio": (0.01, 1.0),
            "search_radius": (1.0, 10_000.0),
            "pixel_sigma": (0.01, 100.0),
            "inverse_depth_sigma": (1e-6, 10.0),
            "max_depth": (0.01, 1e6),
            "min_inliers": (6, 10_000),
            "min_start_points": (6, 10_000),
            "window": (2, 100),
            "keyframe_share": (0.0, 1.0),
            "max_keyframes": (2, 1_000_000),
            "relocalisation_candidates": (1, 1000),
        }
        for name, (lowest, highest) in limits.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and lowest <= value <= highest):
                raise OdometryError(f"{name} of the odometry must be between {lowest} and {highest}, got {value}")
        if self.window > self.max_keyframes:
            raise OdometryError(
                f"max_keyframes ({self.max_keyframes}) of the odometry must not be less than window ({self.window})"
            )
