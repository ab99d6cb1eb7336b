# SPDX-License-Identifier: Apache-2.0
"""The node's counts as diagnostic_msgs, for /diagnostics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from ..extraction import ModelInfo
from ..tracking import TrackStatistics
from .statistics import WINDOW_SECONDS, Snapshot

if TYPE_CHECKING:
    from builtin_interfaces.msg import Time


def diagnostic_array(stamp: Time, statuses: Sequence[DiagnosticStatus]) -> DiagnosticArray:
    """The statuses of all cameras, reported at `stamp`."""
    array = DiagnosticArray(status=list(statuses))
    array.header.stamp = stamp
    return array


def diagnostic_status(
    *,
    name: str,
    state: str,
    info: ModelInfo | None,
    snapshot: Snapshot,
    topic: str,
    image_timeout: float,
    unmatched: str,
    tracks: TrackStatistics | None = None,
) -> DiagnosticStatus:
    """The status of one camera.

    Parameters
    ----------
    name
        The node's full name, with the camera's where there are several.
    state
        Label of the lifecycle state.
    info
        What the extractor is; None while there is none.
    snapshot
        The counts.
    topic
        Name of the image topic.
    image_timeout
        Seconds without an image that deserve a warning; 0: none do.
    unmatched
        Why messages may find no partners, in words.
    tracks
        What became of the latest frame's keypoints; None without tracking.
    """
    level, message = _summary(state, snapshot, topic, image_timeout, unmatched)
    values = {
        "state": state,
        "image topic": topic,
        "input rate (Hz)": f"{snapshot.input_rate:.1f}",
        "output rate (Hz)": f"{snapshot.output_rate:.1f}",
        "latency median (ms)": _milliseconds(snapshot.latency_median),
        "latency p99 (ms)": _milliseconds(snapshot.latency_p99),
        "frames received": str(snapshot.received),
        "frames processed": str(snapshot.processed),
        "frames dropped": str(snapshot.dropped_total),
        **{f"frames dropped: {cause}": str(count) for cause, count in sorted(snapshot.dropped.items())},
        **{f"messages unmatched: {role}": str(count) for role, count in sorted(snapshot.unmatched.items())},
        **{f"messages lost: {role}": str(count) for role, count in sorted(snapshot.lost.items())},
        "keypoints": "" if snapshot.keypoints is None else str(snapshot.keypoints),
        **_tracks(tracks),
        "model": info.model if info else "",
        "weights": (info.weights or "") if info else "",
        "runtime": info.runtime if info else "",
        "device": info.device if info else "",
        "precision": info.precision if info else "",
        "last error": snapshot.last_error,
    }
    return DiagnosticStatus(
        level=level,
        name=f"{name.lstrip('/')}: features",
        message=message,
        hardware_id=info.device if info else "",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _tracks(tracks: TrackStatistics | None) -> dict[str, str]:
    if tracks is None:
        return {}
    return {
        "tracks followed": str(tracks.followed),
        "track length mean (frames)": f"{tracks.mean_length:.1f}",
        "track length longest (frames)": str(tracks.longest),
        "tracks since the start": str(tracks.total),
    }


def _summary(state: str, snapshot: Snapshot, topic: str, image_timeout: float, unmatched: str) -> tuple[bytes, str]:
    if state != "active":
        return DiagnosticStatus.OK, state
    if image_timeout and snapshot.silence > image_timeout:
        return DiagnosticStatus.WARN, f"no image on {topic} for {snapshot.silence:.0f} s"
    if snapshot.last_error_age < WINDOW_SECONDS:
        if snapshot.output_rate == 0.0:
            return DiagnosticStatus.ERROR, f"no frame can be processed: {snapshot.last_error}"
        what = "cannot be processed" if snapshot.last_error_cost_frame else "are incomplete"
        return DiagnosticStatus.WARN, f"some frames {what}: {snapshot.last_error}"
    # Other messages may come more often than images; that some of those have no image is no fault.
    if snapshot.input_rate > 0.0 and snapshot.output_rate == 0.0 and snapshot.unmatched.get("image"):
        return DiagnosticStatus.WARN, f"no frame is complete: {unmatched}"
    return DiagnosticStatus.OK, f"{snapshot.output_rate:.1f} of {snapshot.input_rate:.1f} frames/s"


def _milliseconds(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{1e3 * seconds:.2f}"
