# SPDX-License-Identifier: Apache-2.0
"""Geometry between images: rigid poses, homographies, stereo pairs, and dense correspondences from depth and pose.

A pose is float64 (4, 4) and takes points from the camera's optical frame to the world. Quaternions are (x, y, z, w).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .camera import Camera, CameraError
from .errors import GCNv2Error

if TYPE_CHECKING:
    from .sequences.base import Frame

# Pixels: what a calibration file's rounding leaves, and no more, as it makes every depth wrong by as much disparity.
_COLUMN_TOLERANCE = 0.05


class GeometryError(GCNv2Error):
    """Input from which the geometry that was asked for does not follow."""


def pose_from_quaternion(translation: ArrayLike, quaternion: ArrayLike) -> NDArray[np.float64]:
    """Pose (4, 4) from a translation (3,) and a quaternion (4,) of any length but zero."""
    q = np.asarray(quaternion, dtype=np.float64)
    norm = np.linalg.norm(q)
    if q.shape != (4,) or not np.isfinite(norm) or norm < 1e-9:
        raise GeometryError(f"a rotation needs a quaternion of four finite numbers that are not all zero, got {q}")
    x, y, z, w = q / norm
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = np.asarray(translation, dtype=np.float64)
    return pose


def quaternion_of(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """The quaternion, w not negative, of a rotation (3, 3).

    It is an eigenvector (Bar-Itzhack, "New Method for Extracting the Quaternion from a Rotation Matrix", JGCD 2000),
    and so that of the nearest rotation where the matrix is one but for rounding.
    """
    (a, b, c), (d, e, f), (g, h, i) = rotation
    symmetric = np.array(
        [
            [a - e - i, b + d, c + g, h - f],
            [b + d, e - a - i, f + h, c - g],
            [c + g, f + h, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    x, y, z, w = np.linalg.eigh(symmetric)[1][:, -1].tolist()
    return (x, y, z, w) if w >= 0 else (-x, -y, -z, -w)


def interpolate_pose(
    stamps: NDArray[np.int64],
    translations: NDArray[np.float64],
    quaternions: NDArray[np.float64],
    stamp: int,
    *,
    longest_gap: int | None = None,
) -> NDArray[np.float64] | None:
    """Pose at a time between two known ones: translation linear, rotation spherical-linear (slerp).

    Parameters
    ----------
    stamps
        int64 (K,), ascending, nanoseconds.
    translations, quaternions
        float64 (K, 3) and (K, 4).
    stamp
        The time asked for, nanoseconds.
    longest_gap
        Nanoseconds between known poses over which to interpolate; None: any.

    Returns
    -------
    numpy.ndarray or None
        float64 (4, 4); None within a longer gap, and before the first and after the last known pose: nothing is
        extrapolated.
    """
    after = int(np.searchsorted(stamps, stamp))
    if after < len(stamps) and stamps[after] == stamp:
        return pose_from_quaternion(translations[after], quaternions[after])
    if after == 0 or after == len(stamps):
        return None
    gap = int(stamps[after]) - int(stamps[after - 1])
    if longest_gap is not None and gap > longest_gap:
        return None
    share = (stamp - int(stamps[after - 1])) / gap
    translation = (1 - share) * translations[after - 1] + share * translations[after]
    first = quaternions[after - 1] / np.linalg.norm(quaternions[after - 1])
    second = quaternions[after] / np.linalg.norm(quaternions[after])
    cosine = float(first @ second)
    if cosine < 0:  # q and -q are the same rotation: go the short way round
        second, cosine = -second, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-8:
        return pose_from_quaternion(translation, first)
    weights = np.sin([(1 - share) * angle, share * angle]) / np.sin(angle)
    return pose_from_quaternion(translation, weights[0] * first + weights[1] * second)


def invert_pose(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a rigid pose (4, 4)."""
    inverse = np.eye(4)
    inverse[:3, :3] = pose[:3, :3].T
    inverse[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return inverse


def transform_points(pose: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Apply a pose (4, 4) to points (..., 3); float64 of the same shape."""
    return np.asarray(points, dtype=np.float64) @ pose[:3, :3].T + pose[:3, 3]


def warp_homography(homography: ArrayLike, uv: ArrayLike) -> NDArray[np.float64]:
    """Apply a homography (3, 3) to pixels (N, 2): float64 (N, 2), NaN for pixels that it sends to or past infinity.

    "Past infinity" is where the third homogeneous coordinate is not positive; a homography scaled to H[2, 2] = 1, as
    OpenCV gives it, and the inverse and products of such ones have the right sign.
    """
    points = np.asarray(uv, dtype=np.float64).reshape(-1, 2)
    matrix = np.asarray(homography, dtype=np.float64)
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    scale = mapped[:, 2:]
    in_front = scale > 1e-12
    return np.where(in_front, mapped[:, :2] / np.where(in_front, scale, 1.0), np.nan)


def backproject(depth: NDArray[np.floating], camera: Camera) -> NDArray[np.float64]:
    """Points in the optical frame of every pixel of a depth image.

    Parameters
    ----------
    depth
        (H, W), metres along the optical axis, NaN unknown; H and W are the camera's.

    Returns
    -------
    numpy.ndarray
        float64 (H, W, 3), NaN where the depth or the ray is unknown.
    """
    if depth.shape != (camera.height, camera.width):
        raise GeometryError(
            f"a depth image of {depth.shape[1]}x{depth.shape[0]} does not belong to a camera of "
            f"{camera.width}x{camera.height}; use Camera.scaled"
        )
    z = depth.astype(np.float64)[..., None]
    return np.concatenate([camera.pixel_grid * z, z], axis=2)


def check_rectified(camera: Camera, name: str) -> None:
    """Refuse a camera whose images are, by its calibration, not the rectified ones that its projection is for.

    Parameters
    ----------
    camera
        A camera with a projection.
    name
        Of the camera, for the sentence.

    Raises
    ------
    CameraError
        If it has no projection, or the images are distorted, turned or of another pinhole than the projection's.
    """
    if camera.projection is None:
        raise CameraError(f"the {name} camera's calibration has no projection matrix, so it is not that of a pair")
    view = camera.rectified()
    turned = camera.rectification is not None and not np.allclose(camera.rectification, np.eye(3), atol=1e-6)
    other = not (
        np.allclose([camera.fx, camera.fy], [view.fx, view.fy], rtol=1e-3)
        and np.allclose([camera.cx, camera.cy], [view.cx, view.cy], rtol=0.0, atol=_COLUMN_TOLERANCE)
    )
    reasons = [
        reason
        for reason, holds in (
            (f"its lens distorts them ({camera.model})", camera.model != "none"),
            ("R is not the identity", turned),
            ("K is not that of P", other),
        )
        if holds
    ]
    if reasons:
        raise CameraError(
            f"by its calibration the {name} camera's images are not rectified: {' and '.join(reasons)}; depth by "
            "stereo needs rectified ones"
        )


def rectified_pair_geometry(left: Camera, right: Camera) -> tuple[float, float]:
    """Focal length in pixels and baseline in metres of a stereo pair, from what it is rectified by.

    Raises
    ------
    CameraError
        If a camera has no projection, or the two projections are not those of a rectified pair, side by side.
    """
    left_view, right_view = left.rectified(), right.rectified()
    if not np.allclose([left_view.fy, left_view.cy], [right_view.fy, right_view.cy], rtol=1e-3, atol=0.5):
        raise CameraError(
            "the projection matrices of the left and right camera differ in their rows, so their images are no "
            "rectified pair"
        )
    if not np.isclose(left_view.fx, right_view.fx, rtol=1e-3) or abs(left_view.cx - right_view.cx) > _COLUMN_TOLERANCE:
        raise CameraError(
            f"the projection matrices of the left and right camera differ in their columns (fx {left_view.fx:g} and "
            f"{right_view.fx:g}, cx {left_view.cx:g} and {right_view.cx:g} pixels): what is infinitely far must have "
            "the disparity 0; calibrate with zero disparity, as ROS's cameracalibrator and OpenCV's "
            "CALIB_ZERO_DISPARITY do"
        )
    baseline = right.baseline
    if baseline is None or baseline <= 0:
        swapped = (left.baseline or 0.0) > 0 or (baseline or 0.0) < 0
        raise CameraError(
            f"the projection matrix of the right camera gives a baseline of {baseline or 0:g} m, expected a positive "
            "one (P[3] = -fx * baseline); "
            + ("left and right are swapped" if swapped else "only pairs whose cameras stand side by side work")
        )
    return left_view.fx, baseline


def rectify_pair(left: Camera, right: Camera, left_to_right: ArrayLike) -> tuple[Camera, Camera]:
    """Fill rectification and projection of a stereo pair (OpenCV's method after Bouguet, no invalid pixel shown).

    Parameters
    ----------
    left, right
        Cameras of one image size with ``none``, ``plumb_bob`` or ``rational_polynomial`` lenses.
    left_to_right
        (4, 4): takes points from the left to the right optical frame, metres.

    Raises
    ------
    GeometryError
        If the sizes differ or a lens is a fisheye.
    """
    if (left.width, left.height) != (right.width, right.height):
        raise GeometryError(
            "both cameras of a stereo pair must have one image size, got "
            f"{left.width}x{left.height} and {right.width}x{right.height}"
        )
    if "equidistant" in (left.model, right.model):
        raise GeometryError(
            "stereo rectification of fisheye (equidistant) cameras is not supported; rectify them beforehand"
        )
    transform = np.asarray(left_to_right, dtype=np.float64)
    r1, r2, p1, p2, *_ = cv2.stereoRectify(
        left.matrix,
        np.array(left.coefficients or (0.0,) * 4),
        right.matrix,
        np.array(right.coefficients or (0.0,) * 4),
        (left.width, left.height),
        transform[:3, :3],
        transform[:3, 3:],
        alpha=0,
    )
    return (
        replace(left, rectification=np.asarray(r1, np.float64), projection=np.asarray(p1, np.float64)),
        replace(right, rectification=np.asarray(r2, np.float64), projection=np.asarray(p2, np.float64)),
    )


def dense_flow(
    frame_a: Frame, frame_b: Frame, camera: Camera, *, tolerance: float = 0.02
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where every pixel of one frame is seen in another, from depth and poses.

    A pixel counts as seen if its point lies inside image b and the surface that b measures there is the same one:
    inverse depth, which a plane makes linear in the image, is interpolated bilinearly in b's depth image, so that a
    slanted wall passes a tight test while a mixture across an edge fails it.

    Parameters
    ----------
    frame_a, frame_b
        Frames with depth and pose, both of `camera`.
    tolerance
        Largest accepted difference of the two depths, as a share of the depth.

    Returns
    -------
    flow : numpy.ndarray
        float32 (H, W, 2): column and row in image b of each pixel of image a; NaN where there is none.
    valid : numpy.ndarray
        bool (H, W): the pixel's point is inside image b and not occluded there.

    Raises
    ------
    GeometryError
        If a frame lacks depth or pose, or the images are not of the camera's size.
    """
    depth_a, pose_a = _depth_and_pose(frame_a)
    depth_b, pose_b = _depth_and_pose(frame_b)
    if depth_b.shape != (camera.height, camera.width):
        raise GeometryError(f"the depth image of frame {frame_b.index} has another size than the camera")
    points = transform_points(invert_pose(pose_b) @ pose_a, backproject(depth_a, camera)).reshape(-1, 3)
    flow = camera.project(points).reshape(camera.height, camera.width, 2).astype(np.float32)
    inside = np.all((flow >= 0) & (flow <= [camera.width - 1, camera.height - 1]), axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse_depth = np.where(depth_b > 0, 1.0 / depth_b, np.nan).astype(np.float32)
    seen = _bilinear(inverse_depth, np.where(inside[..., None], flow, 0.0))
    depth_in_b = points[:, 2].reshape(seen.shape)
    with np.errstate(invalid="ignore"):
        valid = inside & (np.abs(seen * depth_in_b - 1.0) <= tolerance)
    return flow, valid


def _bilinear(image: NDArray[np.floating], uv: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values of an image (H, W) at pixels (..., 2) within it; cv2.remap rounds positions to a 32nd of a pixel."""
    height, width = image.shape
    left = np.clip(uv[..., 0].astype(np.intp), 0, width - 2)
    top = np.clip(uv[..., 1].astype(np.intp), 0, height - 2)
    right_share, lower_share = uv[..., 0] - left, uv[..., 1] - top
    corner = top * width + left
    flat = image.ravel()
    upper = flat[corner] * (1 - right_share) + flat[corner + 1] * right_share
    lower = flat[corner + width] * (1 - right_share) + flat[corner + width + 1] * right_share
    return np.asarray(upper * (1 - lower_share) + lower * lower_share)


def _depth_and_pose(frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    if frame.depth is None or frame.pose is None:
        missing = "depth" if frame.depth is None else "pose"
        raise GeometryError(f"dense correspondences need depth and pose, and frame {frame.index} has no {missing}")
    return frame.depth, frame.pose
