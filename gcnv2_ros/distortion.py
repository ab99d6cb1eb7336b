# SPDX-License-Identifier: Apache-2.0
"""Lens models: from ideal to distorted normalised image coordinates and back.

Normalised coordinates are (X/Z, Y/Z) of a point in the camera's optical frame; the camera matrix turns the
distorted ones into pixels. The models and their coefficients are those of sensor_msgs/CameraInfo:

- ``none``: a pinhole, no coefficients;
- ``plumb_bob``: k1 k2 p1 p2 k3 (Brown-Conrady);
- ``rational_polynomial``: k1 k2 p1 p2 k3 k4 k5 k6, and where a driver gives them s1 s2 s3 s4 (thin prism) and
  tau_x tau_y (tilted sensor), as OpenCV orders them;
- ``equidistant``: k1 k2 k3 k4 (Kannala and Brandt, "A generic camera model and calibration method for
  conventional, wide-angle, and fish-eye lenses", PAMI 2006, in OpenCV's parameters).

A polynomial fitted within the image folds back on itself somewhere outside of it. Both directions give NaN
beyond that radius instead of a plausible wrong answer. OpenCV's inverse does not tell when it has not converged, and
its way of asking for more iterations differs between OpenCV 4 and 5; so the inverse here is Newton's method.
"""

from __future__ import annotations

import functools
import math
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from .compilation import import_compiled

DistortionModel = Literal["none", "plumb_bob", "rational_polynomial", "equidistant"]

COEFFICIENT_COUNTS: dict[str, tuple[int, ...]] = {
    "none": (0,),
    "plumb_bob": (5,),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
"""Numbers of coefficients that each model takes; shorter lists are filled with zeros."""

_MAX_ITERATIONS = 40
# The error that a step of Newton's method leaves is about the square of the step. Where the model is steep, next to a
# pole of its denominator, steps are short far away from the solution too; the residual tells.
_STEP_CONVERGED = 1e-7
_RESIDUAL_ACCEPTED = 1e-8


def compiled() -> ModuleType | None:
    """`gcnv2_ros.compiled_distortion`, or None without numba; see `gcnv2_ros.compilation.import_compiled`."""
    return import_compiled("gcnv2_ros.compiled_distortion")


@functools.lru_cache(maxsize=64)
def valid_radius(model: DistortionModel, coefficients: tuple[float, ...]) -> float:
    """Largest ideal normalised radius up to which the radial part of the model can be inverted.

    Infinite for a model that never folds back. A fisheye's is at most tan(90 degrees), which is infinite too.
    """
    if model == "none":
        return math.inf
    if model == "equidistant":
        return math.tan(_fold_angle(coefficients))
    k1, k2, _, _, k3, k4, k5, k6 = _padded(coefficients)[:8]
    # With s = r^2 the distorted radius is r N(s) / D(s); its derivative has the sign of the numerator below.
    numerator, denominator = Polynomial([1.0, k1, k2, k3]), Polynomial([1.0, k4, k5, k6])
    slope = numerator * denominator + Polynomial([0.0, 2.0]) * (
        numerator.deriv() * denominator - numerator * denominator.deriv()
    )
    return math.sqrt(min(_first_positive_root(slope), _first_positive_root(denominator)))


def distort(
    model: DistortionModel, coefficients: tuple[float, ...], ideal: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Ideal to distorted normalised coordinates, (N, 2) to float64 (N, 2); NaN beyond `valid_radius`."""
    points = np.array(ideal, dtype=np.float64).reshape(-1, 2)
    if model == "none" or not len(points):
        return points
    points[~(np.hypot(points[:, 0], points[:, 1]) <= valid_radius(model, coefficients))] = np.nan
    if model == "equidistant":
        return _distort_equidistant(coefficients, points)
    return np.stack(_polynomial(coefficients, points[:, 0], points[:, 1])[:2], axis=1)


def undistort(
    model: DistortionModel, coefficients: tuple[float, ...], distorted: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Distorted to ideal normalised coordinates, (N, 2) to float64 (N, 2).

    NaN where the model has no inverse within its valid radius (for a fisheye: at and beyond 90 degrees).
    """
    target = np.array(distorted, dtype=np.float64).reshape(-1, 2)
    if model == "none" or not len(target):
        return target
    if model == "equidistant":
        return _undistort_equidistant(coefficients, target)
    limit = valid_radius(model, coefficients)
    *terms, tau_x, tau_y = _padded(coefficients)
    if not (tau_x or tau_y) and (loops := compiled()) is not None:
        loops.undistort(tuple(map(float, terms)), limit, _STEP_CONVERGED, _RESIDUAL_ACCEPTED, _MAX_ITERATIONS, target)
        return target
    target_x, target_y = np.ascontiguousarray(target.T)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        # Starting from the right side of the root, Newton's steps on a barrel or a pincushion never pass it.
        start = np.minimum(1.0, limit / np.maximum(np.hypot(target_x, target_y), 1e-300))
        x, y = target_x * start, target_y * start
        for _ in range(_MAX_ITERATIONS):
            value_x, value_y, (xx, xy, yx, yy) = _polynomial(coefficients, x, y)
            value_x -= target_x
            value_y -= target_y
            determinant = xx * yy - xy * yx
            step_x = (yy * value_x - xy * value_y) / determinant
            step_y = (xx * value_y - yx * value_x) / determinant
            x -= step_x
            y -= step_y
            moving = np.maximum(np.abs(step_x), np.abs(step_y)) > _STEP_CONVERGED
            moving |= np.maximum(np.abs(value_x), np.abs(value_y)) > _RESIDUAL_ACCEPTED
            if not moving.any():
                break
        good = ~moving & (np.hypot(x, y) <= limit) & (determinant > 0)
    return np.where(good[:, None], np.stack([x, y], axis=1), np.nan)


def _padded(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    """The 14 coefficients of the Brown-Conrady family, those that are not given being 0."""
    return (*coefficients, *(0.0,) * 14)[:14]


def _polynomial(
    coefficients: tuple[float, ...], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[NDArray[np.float64], ...]]:
    """The Brown-Conrady family without its limits, at (N,) `x` and `y`.

    Both values and the four entries of the Jacobian by rows, each (N,).
    """
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tau_x, tau_y = _padded(coefficients)
    square_x, square_y = x * x, y * y
    square = square_x + square_y
    radial = 1.0 + square * (k1 + square * (k2 + square * k3))
    slope = 2.0 * k1 + square * (4.0 * k2 + square * (6.0 * k3))
    if k4 or k5 or k6:
        denominator = 1.0 + square * (k4 + square * (k5 + square * k6))
        radial = radial / denominator
        slope = (slope - radial * (2.0 * k4 + square * (4.0 * k5 + square * (6.0 * k6)))) / denominator
    mixed = x * y
    value_x, value_y = x * radial, y * radial
    xx, yy = radial + square_x * slope, radial + square_y * slope
    xy = yx = mixed * slope
    if p1 or p2:
        value_x += 2 * p1 * mixed + p2 * (square + 2 * square_x)
        value_y += p1 * (square + 2 * square_y) + 2 * p2 * mixed
        along_x, along_y = 2 * p1 * x + 2 * p2 * y, 2 * p1 * y + 2 * p2 * x
        xx, xy, yx, yy = xx + along_y + 4 * p2 * x, xy + along_x, yx + along_x, yy + along_y + 4 * p1 * y
    if s1 or s2 or s3 or s4:
        prism_x, prism_y = s1 + 2 * s2 * square, s3 + 2 * s4 * square
        value_x += square * (s1 + s2 * square)
        value_y += square * (s3 + s4 * square)
        xx, xy = xx + 2 * x * prism_x, xy + 2 * y * prism_x
        yx, yy = yx + 2 * x * prism_y, yy + 2 * y * prism_y
    if not (tau_x or tau_y):
        return value_x, value_y, (xx, xy, yx, yy)
    tilt = _tilt(tau_x, tau_y)
    tilted_x, tilted_y, scale = tilt[:, :2] @ np.stack([value_x, value_y]) + tilt[:, 2:]
    value_x, value_y = tilted_x / scale, tilted_y / scale
    # Quotient rule of the projective map, chained with the derivatives above.
    a, b = (tilt[0, :2, None] - value_x * tilt[2, :2, None]) / scale
    c, d = (tilt[1, :2, None] - value_y * tilt[2, :2, None]) / scale
    return value_x, value_y, (a * xx + b * yx, a * xy + b * yy, c * xx + d * yx, c * xy + d * yy)


def _tilt(tau_x: float, tau_y: float) -> NDArray[np.float64]:
    """Homography of a tilted sensor (Scheimpflug), (3, 3), as OpenCV defines tau_x and tau_y."""
    cos_x, sin_x, cos_y, sin_y = math.cos(tau_x), math.sin(tau_x), math.cos(tau_y), math.sin(tau_y)
    rotation = np.array([[cos_y, 0, -sin_y], [0, 1, 0], [sin_y, 0, cos_y]]) @ np.array(
        [[1, 0, 0], [0, cos_x, sin_x], [0, -sin_x, cos_x]]
    )
    along_z = np.array([[rotation[2, 2], 0, -rotation[0, 2]], [0, rotation[2, 2], -rotation[1, 2]], [0, 0, 1]])
    return np.asarray(along_z @ rotation, np.float64)


def _distort_equidistant(coefficients: tuple[float, ...], points: NDArray[np.float64]) -> NDArray[np.float64]:
    radius = np.hypot(points[:, 0], points[:, 1])
    distorted = _fisheye_radius(coefficients)(np.arctan(radius))
    return points * np.divide(distorted, radius, out=np.ones_like(radius), where=radius > 1e-12)[:, None]


def _undistort_equidistant(coefficients: tuple[float, ...], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of the fisheye, which is one equation in the angle to the optical axis."""
    radius = np.hypot(target[:, 0], target[:, 1])
    limit = _fold_angle(coefficients)
    polynomial = _fisheye_radius(coefficients)
    slope = polynomial.deriv()
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        angle = np.minimum(radius, limit)
        for _ in range(_MAX_ITERATIONS):
            step = (polynomial(angle) - radius) / slope(angle)
            angle = angle - step
            if not np.any(np.abs(step) > _STEP_CONVERGED):
                break
        # A radius that the lens does not reach may be that of an angle beyond the fold, on either side of the axis.
        good = (np.abs(polynomial(angle) - radius) <= _RESIDUAL_ACCEPTED) & (angle >= 0)
        good &= (angle <= limit) & (angle < math.pi / 2)
        scale = np.divide(np.tan(angle), radius, out=np.ones_like(radius), where=radius > 1e-12)
    return np.where(good[:, None], target * scale[:, None], np.nan)


def _fisheye_radius(coefficients: tuple[float, ...]) -> Polynomial:
    k1, k2, k3, k4 = coefficients
    return Polynomial([0.0, 1.0, 0.0, k1, 0.0, k2, 0.0, k3, 0.0, k4])


@functools.lru_cache(maxsize=64)
def _fold_angle(coefficients: tuple[float, ...]) -> float:
    """Angle to the optical axis, at most 90 degrees, at which the fisheye's polynomial stops growing."""
    return min(_first_positive_root(_fisheye_radius(coefficients).deriv()), math.pi / 2)


def _first_positive_root(polynomial: Polynomial) -> float:
    """Smallest positive real root of a polynomial; infinite if there is none."""
    # A leading coefficient next to zero has its root out of all reach, and would overflow the companion matrix.
    roots = polynomial.trim(1e-20).roots()
    real = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)]
    return float(real.min()) if len(real) else math.inf
