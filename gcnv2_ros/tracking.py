# SPDX-License-Identifier: Apache-2.0
"""Following keypoints from frame to frame: which keypoint of this image shows the point of which one of the last.

Descriptors decide, among the keypoints near the place where a track is expected by its own motion; what contradicts the
motion of all others, by the epipolar geometry of the two images, is not followed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import GCNv2Error
from .features import Features, Metric
from .matching import Matches, match_near, usual_distance

_NUMBERS = 2**31
_LEAST_FOR_EPIPOLAR = 16
_RANSAC_CONFIDENCE = 0.995
_RANSAC_ITERATIONS = 500
_FLOW_WINDOW = (15, 15)
_FLOW_LEVELS = 1


class TrackingError(GCNv2Error):
    """A tracking option out of its range, or features that do not go with those before."""


@dataclass(frozen=True)
class TrackerOptions:
    """How keypoints are followed.

    Attributes
    ----------
    radius
        Distance from the expected place within which a keypoint is looked for, as a share of the image's width.
    max_descriptor_distance
        Largest distance of descriptors: differing bits, or Euclidean distance. None: 30% of the bits, or 0.9.
    ratio
        Of the ratio test among the keypoints near the expected place; 1: no other may be nearer.
    epipolar_distance
        Pixels from the epipolar line beyond which a match is an outlier; 0: no such test.
    longest_gap
        Seconds between two frames after which nothing is followed.
    refinement
        Where an image is given, positions follow the optical flow (Lucas-Kanade) up to so many pixels away from the
        detected keypoint, which makes tracks smoother than detections are; 0: positions stay as detected.

    Raises
    ------
    TrackingError
        If a value is out of its range.
    """

    radius: float = 0.06
    max_descriptor_distance: float | None = None
    ratio: float = 0.9
    epipolar_distance: float = 2.0
    longest_gap: float = 1.0
    refinement: float = 1.5

    def __post_init__(self) -> None:
        limits = {
            "radius": (0.001, 1.0),
            "max_descriptor_distance": (0.0, math.inf),
            "ratio": (0.01, 1.0),
            "epipolar_distance": (0.0, 100.0),
            "longest_gap": (0.001, math.inf),
            "refinement": (0.0, 10.0),
        }
        for name, (lowest, highest) in limits.items():
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                raise TrackingError(f"the tracker's {name} must be between {lowest} and {highest}, got {value}")


@dataclass(frozen=True)
class TrackStatistics:
    """What became of the latest frame's keypoints.

    Attributes
    ----------
    keypoints
        Their number.
    followed
        How many of them continue a track of the frame before.
    mean_length, longest
        Frames that the tracks of `followed` have been seen in so far, this one included; 0 without any.
    total
        Tracks since the start.
    """

    keypoints: int = 0
    followed: int = 0
    mean_length: float = 0.0
    longest: int = 0
    total: int = 0


@dataclass(frozen=True, eq=False)
class _Tracked:
    """The latest frame."""

    features: Features
    stamp_ns: int
    velocity: NDArray[np.float64]  # (N, 2) pixels a second; NaN where a track has been seen once
    length: NDArray[np.int64]
    image: NDArray[np.uint8] | None


class FeatureTracker:
    """Gives every keypoint the number of its track.

    A track ends at the first frame in which it is not found: what is found again later has a new number. Numbers count
    up from 0; after 2^31 tracks they start over, long after the first ones have ended.

    Parameters
    ----------
    options
        How keypoints are followed.
    """

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self.options = options or TrackerOptions()
        self._previous: _Tracked | None = None
        self._total = 0
        self._statistics = TrackStatistics()

    @property
    def statistics(self) -> TrackStatistics:
        """Of the latest frame."""
        return self._statistics

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames that the track of each keypoint of the latest frame has been seen in, int64 (N,); 1: a new track."""
        return np.zeros(0, np.int64) if self._previous is None else self._previous.length.copy()

    def reset(self) -> None:
        """End all tracks; numbers go on where they are."""
        self._previous = None

    def accepts(self, features: Features) -> bool:
        """Whether `features` are of the kind and image size of those before, so that they can continue tracks."""
        return self._previous is None or _kind(features) == _kind(self._previous.features)

    def update(self, features: Features, stamp_ns: int, *, image: NDArray[np.uint8] | None = None) -> Features:
        """Number the keypoints of the next frame.

        Parameters
        ----------
        features
            In any state; `track_id` is replaced.
        stamp_ns
            Time of the image. One that is not later than the last, or later by more than `longest_gap`, ends all
            tracks.
        image
            uint8 (H, W), the image, for the refinement of positions; None: positions stay.

        Returns
        -------
        Features
            With `track_id` filled, and `uv` refined where a keypoint continues a track.

        Raises
        ------
        TrackingError
            If metric or descriptor width are not those of the frame before, or the image has another size.
        """
        self._check(features, image)
        previous = self._previous
        if previous is not None and not 0 < stamp_ns - previous.stamp_ns <= 1e9 * self.options.longest_gap:
            previous = None
        count = len(features)
        number = np.full(count, -1, np.int64)
        length = np.ones(count, np.int64)
        velocity = np.full((count, 2), np.nan)
        if previous is not None and count and len(previous.features):
            seconds = (stamp_ns - previous.stamp_ns) / 1e9
            matches = self._match(previous, features, seconds)
            a, b = matches.index_a, matches.index_b
            features = self._refine(previous, features, matches, image)
            number[b] = previous.features.track_id[a]
            length[b] = previous.length[a] + 1
            velocity[b] = (features.uv[b].astype(np.float64) - previous.features.uv[a]) / seconds
        started = np.flatnonzero(number < 0)
        number[started] = (self._total + np.arange(len(started))) % _NUMBERS
        self._total += len(started)
        features = features.with_arrays(track_id=number.astype(np.int32))
        self._previous = _Tracked(features, stamp_ns, velocity, length, image)
        followed = length[length > 1]
        self._statistics = TrackStatistics(
            keypoints=count,
            followed=len(followed),
            mean_length=float(followed.mean()) if len(followed) else 0.0,
            longest=int(followed.max(initial=0)),
            total=self._total,
        )
        return features

    def _check(self, features: Features, image: NDArray[np.uint8] | None) -> None:
        width, height = features.image_size
        if image is not None and image.shape != (height, width):
            raise TrackingError(f"an image of shape {image.shape} does not go with features of {width}x{height} pixels")
        if self._previous is not None and not self.accepts(features):
            raise TrackingError(
                f"features of (metric, width, image size) {_kind(features)} cannot continue tracks of "
                f"{_kind(self._previous.features)}; reset the tracker"
            )

    def _match(self, previous: _Tracked, features: Features, seconds: float) -> Matches:
        """Tracks and the keypoints that continue them."""
        before = previous.features
        limit = self.options.max_descriptor_distance
        if limit is None:
            limit = usual_distance(before.metric, before.descriptors.shape[1])
        matches = match_near(
            before.descriptors,
            before.uv + seconds * _expected_velocity(previous.velocity),
            features.descriptors,
            features.uv.astype(np.float64),
            metric=before.metric,
            radius=self.options.radius * before.image_size[0],
            ratio=self.options.ratio,
            max_distance=limit,
        )
        if not self.options.epipolar_distance or len(matches) < _LEAST_FOR_EPIPOLAR:
            return matches
        # In an order of their places, so that the samples that are drawn do not depend on that of the keypoints.
        order = np.lexsort(before.uv[matches.index_a].T)
        _, inliers = cv2.findFundamentalMat(
            before.uv[matches.index_a[order]],
            features.uv[matches.index_b[order]],
            cv2.FM_RANSAC,
            self.options.epipolar_distance,
            _RANSAC_CONFIDENCE,
            _RANSAC_ITERATIONS,
        )
        # Without a geometry, as of a scene that does not move at all, nothing contradicts it.
        if inliers is None or inliers.size != len(matches) or not inliers.any():
            return matches
        kept = np.sort(order[inliers.ravel().astype(bool)])
        return Matches(matches.index_a[kept], matches.index_b[kept], matches.distance[kept])

    def _refine(
        self, previous: _Tracked, features: Features, matches: Matches, image: NDArray[np.uint8] | None
    ) -> Features:
        """Move followed keypoints to where the optical flow takes their last position, if that is near enough."""
        if not self.options.refinement or image is None or previous.image is None or not len(matches):
            return features
        detected = features.uv[matches.index_b]
        flowed, status, _ = cv2.calcOpticalFlowPyrLK(
            previous.image,
            image,
            previous.features.uv[matches.index_a][:, None],
            detected[:, None].copy(),
            winSize=_FLOW_WINDOW,
            maxLevel=_FLOW_LEVELS,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )
        flowed = flowed.reshape(-1, 2)
        near = np.linalg.norm(flowed - detected, axis=1) <= self.options.refinement
        width, height = features.image_size
        inside = np.all((flowed >= 0) & (flowed <= [width - 1, height - 1]), axis=1)
        moved = np.flatnonzero((status.ravel() == 1) & near & inside)
        uv = features.uv.copy()
        uv[matches.index_b[moved]] = flowed[moved]
        return features.with_arrays(uv=uv)


def _expected_velocity(velocity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each track's own velocity; for those that have none yet, the median of the others."""
    known = np.isfinite(velocity[:, 0])
    if not known.any():
        return np.zeros_like(velocity)
    return np.where(known[:, None], velocity, np.median(velocity[known], axis=0))


def _kind(features: Features) -> tuple[Metric, int, tuple[int, int]]:
    return (*features.kind, features.image_size)
