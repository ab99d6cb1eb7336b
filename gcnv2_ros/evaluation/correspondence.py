# SPDX-License-Identifier: Apache-2.0
"""Repeatability and matching accuracy between frames whose depth and poses are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..depth import sample_depth
from ..features import Features
from ..geometry import invert_pose, transform_points
from ..matching import Matches, match
from ..sequences import Frame
from .homography import THRESHOLDS, share_near

GAP = 10
"""Frames between the two of a pair."""

_DEPTH_TOLERANCE = 0.05


@dataclass(frozen=True)
class CorrespondenceScores:
    """Scores of one pair of frames.

    Attributes
    ----------
    first, second
        Indices of the frames.
    keypoints
        Fewer of both frames' keypoint counts.
    judged
        Mutual nearest neighbours whose true position in the second frame is known.
    accuracy
        Share of them within 3 and 5 px of the truth (MMA; 0 where there is none).
    repeatability
        Share of the keypoints seen by both frames that have a keypoint of the other within 3 px of their true position
        there; mean of both directions.
    """

    first: int
    second: int
    keypoints: int
    judged: int
    accuracy: tuple[float, float]
    repeatability: float


def true_positions(
    features: Features, first: Frame, second: Frame, camera: Camera
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where the keypoints of one frame are in another.

    Parameters
    ----------
    features
        Of the first frame.
    first, second
        Frames with depth and pose.
    camera
        Of both.

    Returns
    -------
    uv : numpy.ndarray
        float64 (N, 2), pixels of the second frame; NaN unknown.
    visible : numpy.ndarray
        bool (N,): inside the second frame and, by its depth (within 5%), not hidden there.
    """
    if first.depth is None or second.depth is None or first.pose is None or second.pose is None:
        raise ValueError("both frames need depth and pose")
    metres = sample_depth(first.depth, features.uv, features.image_size)
    local = camera.rays(features.uv).astype(np.float64) * metres[:, None]
    moved = transform_points(invert_pose(second.pose) @ first.pose, local)
    uv = camera.project(moved)
    with np.errstate(invalid="ignore"):
        inside = np.all((uv >= 0) & (uv <= [camera.width - 1, camera.height - 1]), axis=1)
    columns, rows = np.rint(np.where(inside[:, None], uv, 0)).astype(np.intp).T
    with np.errstate(invalid="ignore"):
        visible = inside & (np.abs(second.depth[rows, columns] / moved[:, 2] - 1.0) <= _DEPTH_TOLERANCE)
    return uv, visible


def judged_matches(
    features: tuple[Features, Features], first: Frame, second: Frame, camera: Camera, *, limit: float = THRESHOLDS[0]
) -> tuple[Matches, NDArray[np.bool_]]:
    """Mutual matches whose truth is known, and for each whether it is within `limit` pixels of it."""
    truth, visible = true_positions(features[0], first, second, camera)
    matches = match(*features)
    judged = visible[matches.index_a]
    kept = Matches(matches.index_a[judged], matches.index_b[judged], matches.distance[judged])
    error = np.linalg.norm(truth[kept.index_a] - features[1].uv[kept.index_b], axis=1)
    return kept, error <= limit


def score_frames(
    features: tuple[Features, Features], first: Frame, second: Frame, camera: Camera
) -> CorrespondenceScores:
    """Score the features of two frames with depth and pose, with mutual nearest neighbours and no ratio test."""
    a, b = features
    truth, visible = true_positions(a, first, second, camera)
    backward, visible_back = true_positions(b, second, first, camera)
    matches = match(a, b)
    judged = visible[matches.index_a]
    index_a, index_b = matches.index_a[judged], matches.index_b[judged]
    error = np.linalg.norm(truth[index_a] - b.uv[index_b], axis=1)
    near, near5 = (float(np.mean(error <= limit)) if len(error) else 0.0 for limit in THRESHOLDS)
    repeatability = (
        share_near(truth[visible], b.uv, THRESHOLDS[0]) + share_near(backward[visible_back], a.uv, THRESHOLDS[0])
    ) / 2
    return CorrespondenceScores(
        first.index, second.index, min(len(a), len(b)), len(error), (near, near5), repeatability
    )


def spread_pairs(count: int, pairs: int, gap: int = GAP) -> Sequence[tuple[int, int]]:
    """At most `pairs` pairs of frames `gap` apart, evenly spread over a sequence of `count` frames."""
    starts = max(count - gap, 0)
    chosen = np.unique(np.linspace(0, starts - 1, min(pairs, starts)).astype(int)) if starts else ()
    return [(int(start), int(start) + gap) for start in chosen]
