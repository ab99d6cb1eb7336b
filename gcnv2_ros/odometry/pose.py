# SPDX-License-Identifier: Apache-2.0
"""The pose of one camera from points of known position: RANSAC for a start, then robust least squares.

Poses here take points of the world to the optical frame. Pixels are those of a pinhole without lens distortion.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import transform_points

# 95% quantiles of chi-square with one and two degrees of freedom: where Huber's cost turns from square to linear,
# and, for the reprojection error, where a match is an outlier.
CHI_SQUARE_1 = 3.841
CHI_SQUARE_2 = 5.991

_RANSAC_ROUNDS = 500
_RANSAC_CONFIDENCE = 0.9999
_RANSAC_THRESHOLD = 3.0
_ROUNDS = 10
_CONVERGED = 1e-8
# Far points hold a position less than a rotation, by the square of their distance; rounding alone leaves 1e-16.
_LEAST_HOLD = 1e-12


@dataclass(frozen=True)
class Pinhole:
    """Focal lengths and principal point in pixels, and the noise of what is measured.

    Attributes
    ----------
    fx, fy, cx, cy
        Of the image without lens distortion.
    pixel_sigma
        Standard deviation of a keypoint's place in pixels.
    inverse_depth_sigma
        Standard deviation of 1 / depth in 1/m.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    pixel_sigma: float
    inverse_depth_sigma: float

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The camera matrix K, float64 (3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def pixels(self, ideal: NDArray[np.floating]) -> NDArray[np.float64]:
        """Normalised coordinates (N, 2) to pixels, float64 (N, 2)."""
        return np.asarray(ideal, np.float64) * (self.fx, self.fy) + (self.cx, self.cy)

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points in the optical frame (N, 3) to pixels, float64 (N, 2); NaN where they are not in front."""
        z = np.where(points[:, 2:] > 1e-6, points[:, 2:], np.nan)
        return self.pixels(points[:, :2] / z)

    def backproject(self, pixels: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels (N, 2) with depth (N,) to points in the optical frame, float64 (N, 3)."""
        ideal = (pixels - (self.cx, self.cy)) / (self.fx, self.fy)
        return np.column_stack([ideal, np.ones(len(ideal))]) * depth[:, None]


def ransac_pose(
    points: NDArray[np.float64], pixels: NDArray[np.float64], pinhole: Pinhole
) -> NDArray[np.float64] | None:
    """A pose that many points agree with: RANSAC over AP3P, which draws the same samples in every run, then SQPnP.

    Parameters
    ----------
    points
        float64 (M, 3), world.
    pixels
        float64 (M, 2).

    Returns
    -------
    numpy.ndarray or None
        float64 (4, 4), world to optical frame; None if there is none.
    """
    if len(points) < 4:
        return None
    found, _, _, inliers = cv2.solvePnPRansac(
        points, pixels, pinhole.matrix, None, iterationsCount=_RANSAC_ROUNDS,
        reprojectionError=_RANSAC_THRESHOLD * pinhole.pixel_sigma, confidence=_RANSAC_CONFIDENCE,
        flags=cv2.SOLVEPNP_AP3P,
    )  # fmt: skip
    if not found or inliers is None:
        return None
    # The pose that came with the inliers is EPnP's, which is wrong half of the time where the points lie in a plane.
    agreed = inliers.ravel()
    try:
        found, rotation, translation = cv2.solvePnP(
            points[agreed], pixels[agreed], pinhole.matrix, None, flags=cv2.SOLVEPNP_SQPNP
        )
    except cv2.error:  # points in one line or in one place
        return None
    if not found or not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
        return None
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(rotation)[0]
    pose[:3, 3] = translation.ravel()
    return pose


def refine_pose(
    pose: NDArray[np.float64],
    points: NDArray[np.float64],
    pixels: NDArray[np.float64],
    depth: NDArray[np.float64],
    pinhole: Pinhole,
) -> NDArray[np.float64] | None:
    """Minimise reprojection and inverse-depth errors under Huber's cost by Gauss-Newton.

    Parameters
    ----------
    pose
        float64 (4, 4), world to optical frame, near the solution.
    points, pixels
        float64 (M, 3) and (M, 2).
    depth
        float64 (M,), metres; NaN where it was not measured.

    Returns
    -------
    numpy.ndarray or None
        float64 (4, 4); None if the points do not hold the pose in all directions.
    """
    for _ in range(_ROUNDS):
        local = transform_points(pose, points)
        usable = local[:, 2] > 1e-6
        local, measured, inverse_depth = local[usable], pixels[usable], 1.0 / depth[usable]
        x, y, inverse_z = local[:, 0] / local[:, 2], local[:, 1] / local[:, 2], 1.0 / local[:, 2]
        residual = (pinhole.pixels(np.column_stack([x, y])) - measured) / pinhole.pixel_sigma
        zero, one = np.zeros_like(x), np.ones_like(x)
        # Derivatives by a translation, then a rotation, of the camera-frame points.
        by_x = np.column_stack([inverse_z, zero, -x * inverse_z, -x * y, one + x * x, -y])
        by_y = np.column_stack([zero, inverse_z, -y * inverse_z, -one - y * y, x * y, x])
        by_depth = np.column_stack([zero, zero, -inverse_z * inverse_z, -y * inverse_z, x * inverse_z, zero])
        weight = _huber(np.einsum("md,md->m", residual, residual), CHI_SQUARE_2)
        deep = np.isfinite(inverse_depth)
        depth_residual = (inverse_z[deep] - inverse_depth[deep]) / pinhole.inverse_depth_sigma
        depth_weight = _huber(depth_residual**2, CHI_SQUARE_1)
        jacobian = np.concatenate(
            [
                by_x * (pinhole.fx / pinhole.pixel_sigma),
                by_y * (pinhole.fy / pinhole.pixel_sigma),
                by_depth[deep] / pinhole.inverse_depth_sigma,
            ]
        )
        weights = np.concatenate([weight, weight, depth_weight])
        residuals = np.concatenate([residual[:, 0], residual[:, 1], depth_residual])
        normal = jacobian.T @ (jacobian * weights[:, None])
        if not _holds(normal):
            return None
        step = -np.linalg.solve(normal, jacobian.T @ (weights * residuals))
        change = np.eye(4)
        change[:3, :3] = cv2.Rodrigues(step[3:])[0]
        change[:3, 3] = step[:3]
        pose = change @ pose
        if np.abs(step).max() < _CONVERGED:
            break
    return pose


def agreeing(
    pose: NDArray[np.float64], points: NDArray[np.float64], pixels: NDArray[np.float64], pinhole: Pinhole
) -> NDArray[np.bool_]:
    """Which points (M, 3) reproject to their pixels (M, 2) within the noise: bool (M,)."""
    apart = (pinhole.project(transform_points(pose, points)) - pixels) / pinhole.pixel_sigma
    return np.asarray(np.nan_to_num(np.einsum("md,md->m", apart, apart), nan=np.inf) < CHI_SQUARE_2)


def _holds(normal: NDArray[np.float64]) -> bool:
    """Whether normal equations (6, 6) have one solution."""
    if not np.isfinite(normal).all():
        return False
    smallest, *_, largest = np.linalg.eigvalsh(normal)
    return bool(smallest > _LEAST_HOLD * largest)


def _huber(squared: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Weights of iteratively reweighted least squares for squared residuals."""
    return np.sqrt(limit / np.maximum(squared, limit))
