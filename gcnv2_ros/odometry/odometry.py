# SPDX-License-Identifier: Apache-2.0
"""Visual odometry on features with depth: predict, match near, solve, refine; recognise the place after a loss.

The local map follows ORB-SLAM (Mur-Artal, Montiel, Tardos, T-RO 2015, sections V and VI), much reduced: points are
looked for that the keyframes sharing most points with the latest frame have seen, so that a place seen before holds
the camera when it comes back. With a vocabulary, loops are closed beyond that.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..features import Features, Metric
from ..geometry import invert_pose
from ..vocabulary import Vocabulary
from ..vocabulary.query import check_scoring
from .bundle import adjust, require_gtsam
from .keyframes import Keyframe, KeyframeMap, Observation
from .localisation import Localisation, Localiser
from .loops import LoopCloser
from .options import OdometryError, OdometryOptions
from .pose import Pinhole
from .recognition import likely_keyframes, words_of
from .results import TrackResult, Trajectory

# Longer pauses than so many times the latest step between frames make the motion unpredictable.
_LONGEST_STEP = 5.0


class Odometry:
    """The motion of one camera from its features; frames come one by one through `track`.

    The same frames give the same poses, bit for bit, on the same machine.

    Parameters
    ----------
    camera
        Of the image in whose pixels the features are.
    options
        The settings.
    vocabulary
        Of 256-bit descriptors. With it, loops are closed, and a lost camera's keyframes are ranked by their words;
        without it, and with other descriptors, there are no loops, and keyframes are ranked by matching descriptors.

    Raises
    ------
    MissingDependencyError, LibraryError
        If gtsam is not installed, or is and cannot be imported.
    VocabularyError
        If the vocabulary asks for another score than L1.
    """

    def __init__(
        self, camera: Camera, options: OdometryOptions | None = None, *, vocabulary: Vocabulary | None = None
    ) -> None:
        require_gtsam()
        if vocabulary is not None:
            check_scoring(vocabulary)
        self.options = options = options or OdometryOptions()
        self._camera = camera
        self._vocabulary = vocabulary
        self._pinhole = Pinhole(
            camera.fx, camera.fy, camera.cx, camera.cy, options.pixel_sigma, options.inverse_depth_sigma
        )
        self._map = KeyframeMap(self._pinhole)
        self._localiser = Localiser(self._map, self._pinhole, options)
        self._loops = LoopCloser(self._map, self._localiser, self._pinhole, options)
        self._stamp_ns: int | None = None
        # Where the latest tracked frame was and what it saw; None when lost.
        self._latest: Localisation | None = None
        # Motion from the latest frame but one to the latest, in the optical frame, and the seconds that it took.
        self._motion: tuple[NDArray[np.float64], float] | None = None
        self._most_inliers = 0

    @property
    def keyframes(self) -> tuple[Keyframe, ...]:
        """The keyframes in the order of time, with their poses as refined so far."""
        return tuple(self._map.keyframes)

    @property
    def descriptor_kind(self) -> tuple[Metric, int] | None:
        """`Features.kind` of the map, which further frames must have; None before the first keyframe."""
        return self._map.keyframes[0].observation.features.kind if self._map.keyframes else None

    @property
    def motion(self) -> tuple[NDArray[np.float64], float] | None:
        """The latest motion, float64 (4, 4), the latest frame in the optical frame of the one before, and its seconds.

        Without what corrections of the map add. None after the start and after a loss.
        """
        return self._motion

    @property
    def reference(self) -> Keyframe | None:
        """The keyframe that shares the most points with the latest frame; None when lost."""
        if self._latest is None:
            return None
        return next(iter(self._map.neighbours(self._latest.points, 1)), self._map.keyframes[-1])

    @property
    def points(self) -> NDArray[np.float64]:
        """The points that the keyframes see, float64 (P, 3), world."""
        return self._map.positions[self._map.points_of(self._map.keyframes)]

    def track(self, features: Features, stamp_ns: int, *, rays: NDArray[np.floating] | None = None) -> TrackResult:
        """Find the camera's pose at one time.

        Parameters
        ----------
        features
            With depth where it is known.
        stamp_ns
            Nanoseconds; later than the frame before.
        rays
            (N, 3) viewing rays with z = 1, where the features come with them; None: the camera makes them.

        Raises
        ------
        OdometryError
            If the stamp is not later than the one before, the descriptors are of another kind than before, or there are
            not as many rays as features.
        """
        if self._stamp_ns is not None and stamp_ns <= self._stamp_ns:
            raise OdometryError(f"the frame at {stamp_ns} ns does not come after the one at {self._stamp_ns} ns")
        observation = self._observe(features, rays)
        self._check_descriptors(features)
        if not self._map.keyframes:
            self._stamp_ns = stamp_ns
            return self._start(observation, stamp_ns)
        latest, seconds = self._latest, (stamp_ns - (self._stamp_ns or 0)) * 1e-9
        self._stamp_ns = stamp_ns
        found = None
        if latest is not None and (found := self._follow(observation, latest, seconds)) is not None:
            self._motion = invert_pose(latest.pose) @ found.pose, seconds
        else:
            found, self._motion = self._relocalise(observation), None
        self._latest = found
        if found is None:
            return TrackResult(stamp_ns, None, False, 0, 0, False)
        self._most_inliers = max(self._most_inliers, len(found.points))
        keyframe = len(found.points) < self.options.keyframe_share * self._most_inliers
        loop = False
        if keyframe:
            found, loop = self._add_keyframe(observation, found)
            self._latest = found
        return TrackResult(stamp_ns, found.pose.copy(), True, found.matches, len(found.points), keyframe, loop)

    def _observe(self, features: Features, rays: NDArray[np.floating] | None) -> Observation:
        ideal = self._camera.undistort(features.uv) if rays is None else np.asarray(rays, np.float64)[:, :2]
        if len(ideal) != len(features):
            raise OdometryError(f"there are {len(ideal)} rays for {len(features)} features")
        seen = np.isfinite(ideal).all(axis=1)
        features, pixels = features.select(seen), self._pinhole.pixels(ideal[seen])
        depth = features.depth.astype(np.float64)
        depth[~((depth > 0) & (depth <= self.options.max_depth))] = np.nan
        return Observation(features, pixels, depth)

    def _check_descriptors(self, features: Features) -> None:
        expected = self.descriptor_kind
        if expected is not None and features.kind != expected:
            raise OdometryError(
                f"the descriptors are {features.kind[1]} columns compared by {features.kind[0]}, "
                f"those of the frames before {expected[1]} compared by {expected[0]}"
            )

    def _start(self, observation: Observation, stamp_ns: int) -> TrackResult:
        """Make the first keyframe, if there are points enough for one."""
        if np.isfinite(observation.depth).sum() < self.options.min_start_points:
            return TrackResult(stamp_ns, None, False, 0, 0, False)
        keyframe = self._keyframe(observation, np.eye(4))
        self._map.add(keyframe)
        keypoints = keyframe.seen
        self._latest = Localisation(np.eye(4), keypoints, keyframe.points[keypoints], 0)
        self._most_inliers = len(keypoints)
        return TrackResult(stamp_ns, np.eye(4), True, 0, 0, True)

    def _keyframe(self, observation: Observation, pose: NDArray[np.float64]) -> Keyframe:
        points = np.full(len(observation), -1, np.intp)
        return Keyframe(observation, pose, points, words_of(self._vocabulary, observation.features))

    def _follow(self, observation: Observation, latest: Localisation, seconds: float) -> Localisation | None:
        """Track from the latest frame: near the predicted places, then anywhere in the image."""
        window = self._map.neighbours(latest.points, self.options.window)
        if self._map.keyframes[-1] not in window:
            window.append(self._map.keyframes[-1])
        points = self._map.points_of(window)
        predicted = invert_pose(latest.pose @ self._predicted_motion(seconds))
        return self._localiser.near(observation, points, predicted) or self._localiser.anywhere(observation, points)

    def _predicted_motion(self, seconds: float) -> NDArray[np.float64]:
        """The latest motion going on at constant velocity."""
        if self._motion is None:
            return np.eye(4)
        motion, lasted = self._motion
        share = seconds / lasted
        predicted = np.eye(4)
        if share <= _LONGEST_STEP:
            predicted[:3, :3] = cv2.Rodrigues(share * cv2.Rodrigues(motion[:3, :3])[0])[0]
            predicted[:3, 3] = share * motion[:3, 3]
        return predicted

    def _relocalise(self, observation: Observation) -> Localisation | None:
        """Look for the camera in the whole map: in the likeliest keyframes, each with its neighbours."""
        count = self.options.relocalisation_candidates
        features = observation.features
        for keyframe in likely_keyframes(
            self._map, features, self._vocabulary, count, self._localiser.max_distance(features)
        ):
            window = self._map.neighbours(keyframe.points[keyframe.seen], self.options.window)
            found = self._localiser.anywhere(observation, self._map.points_of(window))
            if found is not None:
                return found
        return None

    def _add_keyframe(self, observation: Observation, found: Localisation) -> tuple[Localisation, bool]:
        """Make the latest frame a keyframe, close a loop if it does, and refine the window.

        Returns where the frame is then, and whether a loop was closed.
        """
        keyframe = self._keyframe(observation, found.pose)
        keyframe.points[found.keypoints] = found.points
        self._map.add(keyframe)
        loop = self._loops.close(keyframe)
        window = self._map.neighbours(keyframe.points[keyframe.seen] if loop else found.points, self.options.window)
        if keyframe not in window:
            window = [*window[:-1], keyframe]
        around = [
            neighbour
            for neighbour in self._map.neighbours(self._map.points_of(window), 2 * self.options.window)
            if neighbour not in window
        ]
        adjust(self._map, window, around, self._pinhole)
        if len(self._map.keyframes) > self.options.max_keyframes:
            self._map.forget_oldest()
        keypoints = keyframe.seen
        self._most_inliers = len(found.points)
        return Localisation(keyframe.pose, keypoints, keyframe.points[keypoints], found.matches), loop


def run_odometry(
    features: Iterable[tuple[int, Features]],
    camera: Camera,
    options: OdometryOptions | None = None,
    *,
    vocabulary: Vocabulary | None = None,
) -> Trajectory:
    """Track a whole sequence.

    Parameters
    ----------
    features
        Stamps in nanoseconds, ascending, with the features of each frame.
    camera, options, vocabulary
        As `Odometry` takes them.

    Raises
    ------
    OdometryError
        As `Odometry.track`.
    """
    odometry = Odometry(camera, options, vocabulary=vocabulary)
    results: list[TrackResult] = []
    anchors: list[tuple[Keyframe, NDArray[np.float64]] | None] = []
    for stamp_ns, found in features:
        result = odometry.track(found, stamp_ns)
        reference = odometry.reference
        results.append(result)
        if result.pose is None or reference is None:
            anchors.append(None)
        else:
            anchors.append((reference, invert_pose(reference.pose) @ result.pose))
    poses = np.full((len(results), 4, 4), np.nan)
    for index, anchor in enumerate(anchors):
        if anchor is not None:
            poses[index] = anchor[0].pose @ anchor[1]
    return Trajectory(
        np.array([result.stamp_ns for result in results], np.int64),
        poses,
        np.array([result.tracked for result in results], bool),
        tuple(results),
    )
