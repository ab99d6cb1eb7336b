# SPDX-License-Identifier: Apache-2.0
"""One pass over a sequence with several frontends: features with depth, times by stage, and the frames kept to show."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..features import Features
from ..frame_features import extract_frame, extract_right, is_rectified_pair
from ..sequences import Frame
from ..sequences import Sequence as FrameSequence
from .frontends import Frontend, check_frontends_differ
from .homography import EvaluationError

Progress = Callable[[int, int], None]
STAGES = ("preprocess", "forward", "decode")


@dataclass(frozen=True, eq=False)
class Recording:
    """The features that each frontend found in each frame of a sequence, and what is known of the frames.

    Attributes
    ----------
    name
        Of the sequence.
    camera, baseline
        As the sequence has them.
    image_size
        Width and height.
    stamps_ns
        int64 (N,).
    poses
        Camera-to-world of each frame, None where unknown.
    depth_source
        ``image``, ``stereo`` or ``none``: where the features' depth comes from.
    features
        Of each frame, by the frontend's label, with depth where there is any.
    seconds
        float64 (N, 3) extraction times of `STAGES`, by label.
    right
        Features of the right images, by label; empty without a rectified right image.
    frames
        The frames that were asked to be kept, by index.
    notes
        Sentences on what the sequence lacks and what was left out for it.
    """

    name: str
    camera: Camera | None
    baseline: float | None
    image_size: tuple[int, int]
    stamps_ns: NDArray[np.int64]
    poses: list[NDArray[np.float64] | None]
    depth_source: str
    features: dict[str, list[Features]]
    seconds: dict[str, NDArray[np.float64]]
    right: dict[str, list[Features]]
    frames: dict[int, Frame]
    notes: list[str] = field(default_factory=list)

    @property
    def truth(self) -> NDArray[np.float64]:
        """Poses as float64 (N, 4, 4), NaN where unknown."""
        unknown = np.full((4, 4), np.nan)
        return np.stack([unknown if pose is None else pose for pose in self.poses])

    @property
    def has_truth(self) -> bool:
        """Whether two frames or more have a pose."""
        return sum(pose is not None for pose in self.poses) > 1


def record(
    sequence: FrameSequence,
    frontends: Sequence[Frontend],
    *,
    max_keypoints: int,
    frames: int | None = None,
    keep: Iterable[int] = (),
    progress: Progress | None = None,
) -> Recording:
    """Run every frontend on every frame.

    Parameters
    ----------
    sequence
        Where the frames come from; each is read once.
    frontends
        With labels that differ.
    max_keypoints
        The budget of all of them.
    frames
        At most so many, from the first.
    keep
        Indices of frames to keep.
    progress
        Called with the number of frames done and their total.

    Raises
    ------
    EvaluationError
        If two frontends have the same label, the stamps do not ascend, or there are fewer than two frames.
    """
    check_frontends_differ(frontends)
    labels = [frontend.label for frontend in frontends]
    total = len(sequence) if frames is None else min(frames, len(sequence))
    if total < 2:
        raise EvaluationError(f"{sequence.name} has {total} frame{'s' * (total != 1)}; an evaluation needs two or more")
    kept: dict[int, Frame] = {}
    wanted = set(keep)
    stamps: list[int] = []
    poses: list[NDArray[np.float64] | None] = []
    features: dict[str, list[Features]] = {label: [] for label in labels}
    right: dict[str, list[Features]] = {label: [] for label in labels}
    seconds: dict[str, list[tuple[float, float, float]]] = {label: [] for label in labels}
    size = (0, 0)
    source = "none"
    with contextlib.ExitStack() as stack:
        extractors = {frontend.label: stack.enter_context(frontend.create(max_keypoints)) for frontend in frontends}
        for index in range(total):
            frame = sequence[index]
            if stamps and frame.stamp_ns <= stamps[-1]:
                raise EvaluationError(
                    f"{sequence.name}: frame {index} is stamped {frame.stamp_ns} ns, not later than the one before "
                    f"({stamps[-1]} ns); frames must be in the order of time"
                )
            stamps.append(frame.stamp_ns)
            poses.append(frame.pose)
            size = (frame.image.shape[1], frame.image.shape[0])
            for label, extractor in extractors.items():
                found = extract_frame(extractor, frame)
                timings = extractor.last_timings
                seconds[label].append((timings.preprocess, timings.forward, timings.decode))
                if frame.depth is not None:
                    source = "image"
                elif is_rectified_pair(frame, sequence):
                    source = "stereo"
                    found, other = extract_right(extractor, found, frame, sequence)
                    right[label].append(other)
                features[label].append(found)
            if index in wanted:
                kept[index] = frame
            if progress is not None:
                progress(index + 1, total)
    recording = Recording(
        name=sequence.name,
        camera=sequence.camera,
        baseline=sequence.baseline,
        image_size=size,
        stamps_ns=np.array(stamps, np.int64),
        poses=poses,
        depth_source=source,
        features=features,
        seconds={label: np.array(values) for label, values in seconds.items()},
        right={label: found for label, found in right.items() if found},
        frames=kept,
    )
    return replace(recording, notes=[*sequence.notes, *_missing(recording)])


def _missing(recording: Recording) -> list[str]:
    """What cannot be evaluated, and what would be needed for it."""
    notes = []
    if recording.camera is None:
        notes.append("no calibration: relative pose, odometry and trajectories are left out")
    known = sum(pose is not None for pose in recording.poses)
    if known < 2:
        notes.append("no ground truth: relative pose and trajectory errors are left out")
    elif known < len(recording.poses):
        notes.append(
            f"{len(recording.poses) - known} of {len(recording.poses)} frames have no ground truth and are not judged"
        )
    if recording.depth_source == "none":
        notes.append("no depth: relative pose and odometry are left out")
    return notes
