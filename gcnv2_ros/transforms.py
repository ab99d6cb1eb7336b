# SPDX-License-Identifier: Apache-2.0
"""How coordinate frames are turned against each other over time, from tf's transforms: what gravity's direction needs.

A small part of what tf2 does, without ROS: rotations only, interpolated in time, along the tree of frames.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import GCNv2Error
from .geometry import interpolate_pose, pose_from_quaternion
from .ros_names import frame_name
from .stamps import NANOSECONDS, nanoseconds_of
from .succession import Step, Succession

# Publishers of one frame get out of step by less.
_LATE = NANOSECONDS


class TransformError(GCNv2Error):
    """A rotation that the transforms received so far do not give."""


@dataclass
class _Link:
    """From a frame to its parent: quaternions (4,) over ascending stamps in nanoseconds; one for all times if fixed."""

    parent: str
    fixed: bool
    succession: Succession
    stamps: list[int] = field(default_factory=list)
    quaternions: list[NDArray[np.float64]] = field(default_factory=list)


class RotationBuffer:
    """Keeps the latest transforms and answers how one frame is turned in another; for use from several threads.

    Parameters
    ----------
    history
        Seconds of transforms that are kept. A single one that is further ahead of the latest of its frame, or more
        than a second older, is left out. If the next one goes on from it, time has jumped: what is older than the
        history goes, and after a jump back, as when a recording is played again, all that was known of the frame.
    longest_gap
        Seconds between two transforms of a frame over which is interpolated.
    longest_hold
        Seconds for which the latest transform of a frame holds: that of an image's time often comes after the image.
    """

    def __init__(self, *, history: float = 10.0, longest_gap: float = 1.0, longest_hold: float = 0.2) -> None:
        self._history, self._longest_gap, self._longest_hold = (
            round(seconds * NANOSECONDS) for seconds in (history, longest_gap, longest_hold)
        )
        self._links: dict[str, _Link] = {}
        self._lock = threading.Lock()

    def add(self, transform: Any, *, fixed: bool) -> None:
        """Take one transform.

        Parameters
        ----------
        transform
            A geometry_msgs/TransformStamped, or anything with its attributes. One whose rotation is no quaternion is
            left out.
        fixed
            Whether it holds at all times, as those of ``/tf_static`` do.
        """
        child, parent = frame_name(transform.child_frame_id), frame_name(transform.header.frame_id)
        rotation = transform.transform.rotation
        quaternion = np.array([rotation.x, rotation.y, rotation.z, rotation.w], np.float64)
        length = float(np.linalg.norm(quaternion))
        if not np.isfinite(length) or length < 1e-6 or child == parent:
            return
        quaternion /= length
        stamp = 0 if fixed else nanoseconds_of(transform.header.stamp)
        with self._lock:
            link = self._links.get(child)
            if link is None or (link.parent, link.fixed) != (parent, fixed):
                succession = Succession(late_ns=_LATE, gap_ns=self._history)
                link = self._links[child] = _Link(parent, fixed, succession)
            verdict = link.succession.judge(stamp)
            if verdict.step is Step.IS_OFF:
                return
            if verdict.step is Step.GOES_BACK:
                link.stamps.clear()
                link.quaternions.clear()
            if verdict.counts:
                link.succession.advance(stamp)
            at = bisect_left(link.stamps, stamp)
            if at < len(link.stamps) and link.stamps[at] == stamp:
                link.quaternions[at] = quaternion
                return
            link.stamps.insert(at, stamp)
            link.quaternions.insert(at, quaternion)
            old = bisect_left(link.stamps, link.stamps[-1] - self._history)
            del link.stamps[:old], link.quaternions[:old]

    def rotation(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """The rotation that takes vectors from the frame `source` to the frame `target` at a time.

        Returns
        -------
        numpy.ndarray
            float64 (3, 3).

        Raises
        ------
        TransformError
            If the transforms do not connect the two frames, or there are none for that time; the sentence says which.
        """
        target, source = frame_name(target), frame_name(source)
        with self._lock:
            up, down = self._path(source), self._path(target)
            common = next((frame for frame in up if frame in down), None)
            if common is None:
                raise TransformError(
                    f"tf does not connect the frame {source!r} with {target!r}: the former leads up to {up[-1]!r}, the "
                    f"latter to {down[-1]!r}"
                )
            source_to_common = self._chained(up[: up.index(common)], stamp_ns)
            target_to_common = self._chained(down[: down.index(common)], stamp_ns)
        return target_to_common.T @ source_to_common

    def _path(self, frame: str) -> list[str]:
        """The frame and those above it; where parents run in a circle, as far as its beginning."""
        path = [frame]
        while (link := self._links.get(path[-1])) is not None and link.parent not in path:
            path.append(link.parent)
        return path

    def _chained(self, frames: list[str], stamp_ns: int) -> NDArray[np.float64]:
        """Rotation from the first frame to the parent of the last."""
        rotation = np.eye(3)
        for frame in frames:
            rotation = self._at(frame, self._links[frame], stamp_ns) @ rotation
        return rotation

    def _at(self, frame: str, link: _Link, stamp_ns: int) -> NDArray[np.float64]:
        last = link.stamps[-1]
        if link.fixed or last <= stamp_ns <= last + self._longest_hold:
            return pose_from_quaternion(np.zeros(3), link.quaternions[-1])[:3, :3]
        after = bisect_left(link.stamps, stamp_ns)
        neighbours = slice(max(after - 1, 0), after + 1)
        quaternions = np.array(link.quaternions[neighbours]).reshape(-1, 4)
        pose = interpolate_pose(
            np.array(link.stamps[neighbours], np.int64),
            np.zeros((len(quaternions), 3)),
            quaternions,
            stamp_ns,
            longest_gap=self._longest_gap,
        )
        if pose is None:
            raise TransformError(
                f"tf has no transform from {frame!r} to {link.parent!r} for {_seconds(stamp_ns)}; it has some from "
                f"{_seconds(link.stamps[0])} to {_seconds(last)} (is it by the same clock?)"
            )
        return pose[:3, :3]


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns / NANOSECONDS:.3f} s"
