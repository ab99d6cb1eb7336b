# SPDX-License-Identifier: Apache-2.0
"""Pairwise relative pose on an RGB-D sequence: the score that separates features best on real data.

The odometry error of a whole sequence misranks features (keyframe placement dominates it); the pose between two frames
a fixed gap apart does not. All frontends go through the same matching and the same PnP, several times a pair
(`gcnv2_ros.evaluation.draws`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..depth import sample_depth
from ..features import Features
from ..geometry import invert_pose
from ..matching import match
from ..sequences import Frame
from ..sequences import Sequence as FrameSequence
from .draws import drawn_orders
from .homography import EvaluationError

DRAWS = 5
"""Estimates of each pose."""
GAPS = (5, 10, 15, 20, 30)
START_STEP = 2
SUCCESS_DEGREES = 3.0
SUCCESS_METRES = 0.05
CURVE_DEGREES = 5.0
CURVE_METRES = 0.10
_REPROJECTION_ERROR = 3.0
_MINIMUM_INLIERS = 6


@dataclass(frozen=True)
class PoseEstimate:
    """One draw's pose of a camera relative to another.

    Attributes
    ----------
    pose
        float64 (4, 4), points of the first optical frame to the second; None if too few matches agree.
    inliers
        Matches that the pose explains.
    """

    pose: NDArray[np.float64] | None
    inliers: int


@dataclass(frozen=True)
class PoseResult:
    """The pose between two frames, as estimated and as it was.

    Attributes
    ----------
    start, gap
        Index of the first frame; the second is `gap` frames later.
    roll
        True roll between the two in degrees, 0 to 180.
    matches
        Mutual nearest neighbours with depth.
    inliers
        Those that the pose explains; median of the draws.
    rotation_errors, translation_errors
        Degrees and metres, of each draw; infinite where no pose was found.
    """

    start: int
    gap: int
    roll: float
    matches: int
    inliers: float
    rotation_errors: tuple[float, ...]
    translation_errors: tuple[float, ...]

    @property
    def success(self) -> float:
        """Share of the draws that are within 3 degrees and 5 cm of the truth."""
        return float(np.mean(self._relative_errors(SUCCESS_DEGREES, SUCCESS_METRES) < 1))

    @property
    def area(self) -> float:
        """Area under the success curve, from thresholds of nothing up to 5 degrees and 10 cm, in [0, 1]; mean."""
        return float(np.mean(np.maximum(0, 1 - self._relative_errors(CURVE_DEGREES, CURVE_METRES))))

    def _relative_errors(self, degrees: float, metres: float) -> NDArray[np.float64]:
        return np.maximum(np.array(self.rotation_errors) / degrees, np.array(self.translation_errors) / metres)


def frame_pairs(count: int, gaps: Sequence[int] = GAPS) -> Iterator[tuple[int, int]]:
    """Starts and gaps of the pairs of a sequence of `count` frames: every second start, every gap that fits."""
    for start in range(0, count, START_STEP):
        for gap in gaps:
            if start + gap < count:
                yield start, gap


def estimate_poses(
    first: Features, second: Features, camera: Camera, *, draws: int = DRAWS
) -> tuple[list[PoseEstimate], int]:
    """Pose of the second camera relative to the first by PnP on mutual matches.

    Parameters
    ----------
    first
        With the depth of its keypoints.
    second
        Its depth is not used.
    camera
        Of both.
    draws
        How many estimates are made of the same matches.

    Returns
    -------
    estimates : list of PoseEstimate
        One for each draw.
    matches : int
        Mutual nearest neighbours with depth.
    """
    matches = match(first, second)
    metres = first.depth[matches.index_a]
    known = ~np.isnan(metres)
    points = camera.rays(first.uv[matches.index_a][known]).astype(np.float64) * metres[known, None]
    # The pixels of a pinhole with the same matrix, so that the reprojection error stays in pixels.
    pixels = camera.undistort(second.uv[matches.index_b][known]) * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    usable = np.isfinite(points).all(axis=1) & np.isfinite(pixels).all(axis=1)
    points, pixels = points[usable], pixels[usable]
    orders = drawn_orders(len(points), draws)
    return [_estimate_pose(points[order], pixels[order], camera) for order in orders], len(points)


def _estimate_pose(points: NDArray[np.float64], pixels: NDArray[np.float64], camera: Camera) -> PoseEstimate:
    if len(points) < _MINIMUM_INLIERS:
        return PoseEstimate(None, 0)
    found, rotation, translation, inliers = cv2.solvePnPRansac(
        points, pixels, camera.matrix, None, iterationsCount=1000, reprojectionError=_REPROJECTION_ERROR,
        confidence=0.9999, flags=cv2.SOLVEPNP_AP3P,
    )  # fmt: skip
    if not found or inliers is None or len(inliers) < _MINIMUM_INLIERS:
        return PoseEstimate(None, 0)
    chosen = inliers.ravel()
    _, rotation, translation = cv2.solvePnP(
        points[chosen], pixels[chosen], camera.matrix, None, rotation, translation, useExtrinsicGuess=True
    )
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(rotation)[0]
    pose[:3, 3] = translation.ravel()
    return PoseEstimate(pose, len(chosen))


def roll_between(relative: NDArray[np.float64]) -> float:
    """Roll about the optical axis of a relative pose, in degrees from 0 to 180."""
    return float(abs(np.degrees(np.arctan2(relative[1, 0] - relative[0, 1], relative[0, 0] + relative[1, 1]))))


def score_pose_pairs(
    features: Sequence[Features], frames: Sequence[Frame], camera: Camera, gaps: Sequence[int] = GAPS
) -> list[PoseResult]:
    """Estimate and judge the pose of every pair of `frame_pairs` whose frames have both depth and pose.

    Parameters
    ----------
    features
        Of each frame.
    frames
        All frames of a sequence, one after the other: the gap of a pair is counted in them.
    camera
        Of all frames.
    """
    measured: list[Features] = []
    poses: list[NDArray[np.float64] | None] = []
    for frame, found in zip(frames, features):
        if frame.depth is None:
            measured.append(found)
            poses.append(None)
        else:
            measured.append(found.with_arrays(depth=sample_depth(frame.depth, found.uv, found.image_size)))
            poses.append(frame.pose)
    return score_measured_pairs(measured, poses, camera, gaps)


def score_measured_pairs(
    features: Sequence[Features],
    poses: Sequence[NDArray[np.float64] | None],
    camera: Camera,
    gaps: Sequence[int] = GAPS,
    *,
    draws: int = DRAWS,
) -> list[PoseResult]:
    """As `score_pose_pairs`, of features that carry the depth of their keypoints.

    Parameters
    ----------
    features
        Of each frame, with depth.
    poses
        Camera-to-world of each frame; pairs with a None are left out, of all frontends alike.
    camera
        Of all frames.
    gaps
        Between the frames of a pair.
    draws
        How many estimates are made of each pose.
    """
    results = []
    for start, gap in frame_pairs(len(features), gaps):
        first, second = poses[start], poses[start + gap]
        if first is None or second is None:
            continue
        truth = invert_pose(second) @ first
        estimates, matches = estimate_poses(features[start], features[start + gap], camera, draws=draws)
        errors = [_errors(estimate.pose, truth) for estimate in estimates]
        results.append(
            PoseResult(
                start,
                gap,
                roll_between(truth),
                matches,
                inliers=float(np.median([estimate.inliers for estimate in estimates])),
                rotation_errors=tuple(degrees for degrees, _ in errors),
                translation_errors=tuple(metres for _, metres in errors),
            )
        )
    return results


def _errors(pose: NDArray[np.float64] | None, truth: NDArray[np.float64]) -> tuple[float, float]:
    """Degrees and metres between a relative pose and the true one."""
    if pose is None:
        return float("inf"), float("inf")
    difference = pose[:3, :3] @ truth[:3, :3].T
    degrees = float(np.degrees(np.linalg.norm(cv2.Rodrigues(difference)[0])))
    return degrees, float(np.linalg.norm(pose[:3, 3] - truth[:3, 3]))


def frames_to_score(sequence: FrameSequence) -> list[Frame]:
    """All frames of a sequence for `score_pose_pairs`.

    Raises
    ------
    EvaluationError
        If the sequence has no calibration, or no pair of frames with depth and pose.
    """
    if sequence.camera is None:
        raise EvaluationError(f"{sequence.name} has no calibration; the pose score needs one")
    frames = list(sequence)
    known = [frame.has_truth for frame in frames]
    if not any(known[start] and known[start + gap] for start, gap in frame_pairs(len(frames))):
        raise EvaluationError(
            f"{sequence.name} has {sum(known)} frames with both depth and ground truth, of {len(frames)}, and no two "
            f"of them {', '.join(map(str, GAPS))} frames apart; the pose score is of such pairs"
        )
    return frames
