# SPDX-License-Identifier: Apache-2.0
"""Tracked features as the sensor_msgs/PointCloud that estimators in the manner of VINS-Fusion take.

Qin, Cao, Pan, Shen, "A General Optimization-based Framework for Global Pose Estimation with Multiple Sensors",
arXiv 1901.03642. One point a track; its channels go by position, not by name.
"""

from __future__ import annotations

import array
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import Point32
from numpy.typing import NDArray
from sensor_msgs.msg import ChannelFloat32, PointCloud
from std_msgs.msg import Header

from ..errors import GCNv2Error
from ..features import Features
from ..stamps import nanoseconds_of

CHANNELS: tuple[str, ...] = ("id", "camera", "u", "v", "velocity_x", "velocity_y", "spare_0", "spare_1", "spare_2")
"""The channels in their order: number of the track, number of the camera, pixels, velocity of the ray in 1/s, zeros."""

# Channels are float32, which holds whole numbers up to here.
_NUMBERS = 2**24


class VinsMessageError(GCNv2Error):
    """Features that no message for a VINS-style estimator can be made of."""


@dataclass(frozen=True, eq=False)
class TrackedRays:
    """What is kept of a frame until the next one, for velocities.

    Attributes
    ----------
    stamp_ns
        Time of the image.
    track_id
        int32 (N,).
    rays
        float32 (N, 3), z = 1.
    """

    stamp_ns: int
    track_id: NDArray[np.int32]
    rays: NDArray[np.float32]


def encode_vins(
    features: Features,
    rays: NDArray[np.floating],
    header: Header,
    *,
    previous: TrackedRays | None = None,
    camera: int = 0,
    max_points: int | None = None,
    lengths: NDArray[np.integer] | None = None,
) -> tuple[PointCloud, TrackedRays]:
    """Encode the tracks of one image.

    Parameters
    ----------
    features
        With `track_id`; keypoints without a track or without a ray are left out.
    rays
        (N, 3), undistorted viewing rays with z = 1; NaN unknown.
    header
        The image's header; it goes into the message untouched.
    previous
        What this function returned for the frame before. A track that is not in it gets the velocity 0.
    camera
        Number of the camera: 0, or 1 for the right one of a pair.
    max_points
        At most so many, those that have been followed longest; an estimator's time grows with them. None: all.
    lengths
        (N,), frames that each track has been seen in (`gcnv2_ros.tracking.FeatureTracker.lengths`), for `max_points`.
        Equally long tracks go by response.

    Returns
    -------
    message : sensor_msgs.msg.PointCloud
        Points are rays with z = 1; channels as `CHANNELS`. Track numbers are modulo 2^24: a float32 holds no more.
    current : TrackedRays
        To be given as `previous` with the next frame.

    Raises
    ------
    VinsMessageError
        If `rays` or `lengths` do not go with the features, or `max_points` comes without `lengths`.
    """
    count = len(features)
    if np.shape(rays) != (count, 3):
        raise VinsMessageError(f"rays must be ({count}, 3) to go with the features, got shape {np.shape(rays)}")
    if lengths is not None and np.shape(lengths) != (count,):
        raise VinsMessageError(f"lengths must be ({count},) to go with the features, got shape {np.shape(lengths)}")
    if max_points is not None and lengths is None:
        raise VinsMessageError("to take the longest tracks (max_points), their lengths must be given")
    usable = np.flatnonzero((features.track_id >= 0) & np.isfinite(rays).all(axis=1))
    current = TrackedRays(nanoseconds_of(header.stamp), features.track_id[usable], np.asarray(rays, np.float32)[usable])
    velocity = _velocity(current, previous)
    chosen = np.arange(len(usable))
    if max_points is not None and lengths is not None:
        longest = np.argsort(-np.asarray(lengths)[usable], kind="stable")
        chosen = np.sort(longest[:max_points])
    uv = features.uv[usable[chosen]]
    zeros = np.zeros(len(chosen))
    columns = (
        current.track_id[chosen] % _NUMBERS,
        np.full(len(chosen), camera),
        *uv.T,
        *velocity[chosen].T,
        *(zeros,) * 3,
    )
    message = PointCloud(
        header=header,
        points=[Point32(x=x, y=y, z=1.0) for x, y in current.rays[chosen, :2].tolist()],
        channels=[
            ChannelFloat32(name=name, values=array.array("f", np.asarray(values, np.float32).tobytes()))
            for name, values in zip(CHANNELS, columns)
        ],
    )
    return message, current


def _velocity(current: TrackedRays, previous: TrackedRays | None) -> NDArray[np.float64]:
    """Velocity (N, 2) of the rays in the plane z = 1, per second; 0 for tracks that are new."""
    velocity = np.zeros((len(current.track_id), 2))
    if previous is None or current.stamp_ns <= previous.stamp_ns:
        return velocity
    _, now, before = np.intersect1d(current.track_id, previous.track_id, return_indices=True)
    moved = current.rays[now, :2].astype(np.float64) - previous.rays[before, :2]
    velocity[now] = moved / ((current.stamp_ns - previous.stamp_ns) / 1e9)
    return velocity
