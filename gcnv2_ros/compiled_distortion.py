# SPDX-License-Identifier: Apache-2.0
"""The inverse of the Brown-Conrady lens model, compiled by numba; `gcnv2_ros.distortion` holds the same in NumPy.

For a frame's keypoints NumPy's calls cost more than the arithmetic in them. Importing this compiles, or takes what an
earlier import has compiled and kept.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .compilation import compiled


@compiled("void(UniTuple(float64, 12), float64, float64, float64, int64, float64[:, ::1])")
def undistort(
    coefficients: tuple[float, ...],
    limit: float,
    converged: float,
    accepted: float,
    iterations: int,
    points: NDArray[np.float64],
) -> None:
    """Distorted normalised coordinates to ideal ones, in place.

    Parameters
    ----------
    coefficients
        k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4.
    limit
        Largest valid radius.
    converged, accepted, iterations
        Newton's method stops at a step no longer than the first along either axis, taken from where the residual is no
        larger than the second, and gives up after so many steps.
    points
        float64 (N, 2); NaN afterwards where there is no inverse within `limit`.
    """
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = coefficients
    for index in range(len(points)):
        target_x, target_y = points[index, 0], points[index, 1]
        points[index] = np.nan
        start = min(1.0, limit / max(math.hypot(target_x, target_y), 1e-300))
        x, y = target_x * start, target_y * start
        for _ in range(iterations):
            square_x, square_y, mixed = x * x, y * y, x * y
            square = square_x + square_y
            denominator = 1.0 + square * (k4 + square * (k5 + square * k6))
            radial = (1.0 + square * (k1 + square * (k2 + square * k3))) / denominator
            slope = 2.0 * k1 + square * (4.0 * k2 + square * (6.0 * k3))
            slope -= radial * (2.0 * k4 + square * (4.0 * k5 + square * (6.0 * k6)))
            slope /= denominator
            prism_x, prism_y = 2.0 * s1 + 4.0 * s2 * square, 2.0 * s3 + 4.0 * s4 * square
            value_x = x * radial + 2.0 * p1 * mixed + p2 * (square + 2.0 * square_x) + square * (s1 + s2 * square)
            value_y = y * radial + p1 * (square + 2.0 * square_y) + 2.0 * p2 * mixed + square * (s3 + s4 * square)
            cross = mixed * slope + 2.0 * p1 * x + 2.0 * p2 * y
            xx = radial + square_x * slope + 2.0 * p1 * y + 6.0 * p2 * x + x * prism_x
            yy = radial + square_y * slope + 6.0 * p1 * y + 2.0 * p2 * x + y * prism_y
            xy, yx = cross + y * prism_x, cross + x * prism_y
            determinant = xx * yy - xy * yx
            value_x -= target_x
            value_y -= target_y
            step_x = (yy * value_x - xy * value_y) / determinant
            step_y = (xx * value_y - yx * value_x) / determinant
            x -= step_x
            y -= step_y
            if max(abs(step_x), abs(step_y)) <= converged and max(abs(value_x), abs(value_y)) <= accepted:
                if math.hypot(x, y) <= limit and determinant > 0.0:
                    points[index, 0], points[index, 1] = x, y
                break
