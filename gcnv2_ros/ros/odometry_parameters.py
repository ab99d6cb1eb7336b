# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node ``gcnv2_odometry``."""

from __future__ import annotations

from ..odometry.options import OdometryOptions
from .parameter_spec import ParameterSpec

_DEFAULTS = OdometryOptions()

ODOMETRY_PARAMETERS: tuple[ParameterSpec, ...] = (
    ParameterSpec("odom_frame", "odom", "Frame in which poses are given: x forward, z up from the first keyframe."),
    ParameterSpec("publish_tf", True, "Publish the transform from odom_frame to the features' frame on /tf."),
    ParameterSpec(
        "queue",
        "latest",
        "latest: the newest features wait, older ones are dropped. all: every message waits, for replay.",
        choices=("latest", "all"),
    ),
    ParameterSpec(
        "subscribe_reliability",
        "reliable",
        "QoS of the features subscription; reliable never matches a best-effort publisher.",
        choices=("best_effort", "reliable"),
    ),
    ParameterSpec(
        "path_length",
        1000,
        "Latest poses in the path; 0: no path.",
        minimum=0,
        maximum=1_000_000,
    ),
    ParameterSpec(
        "vocabulary",
        "none",
        "none, gcnv2_tiny or gcnv2 (that of the shipped weights; default: gcnv2_tiny), or a file: closes loops, finds "
        "places after a loss.",
    ),
    ParameterSpec(
        "position_sigma",
        0.02,
        "Standard deviation of a position in metres that the covariances state; it is not estimated.",
        minimum=1e-6,
        maximum=1000.0,
    ),
    ParameterSpec(
        "rotation_sigma",
        0.01,
        "Standard deviation of a rotation in radians that the covariances state; it is not estimated.",
        minimum=1e-6,
        maximum=10.0,
    ),
    ParameterSpec(
        "min_inliers",
        _DEFAULTS.min_inliers,
        "A pose counts only if at least so many points agree with it.",
        minimum=6,
        maximum=10000,
    ),
    ParameterSpec(
        "search_radius",
        _DEFAULTS.search_radius,
        "Pixels around a point's predicted place within which it is looked for.",
        minimum=1.0,
        maximum=10000.0,
    ),
    ParameterSpec(
        "max_hamming_distance",
        _DEFAULTS.max_hamming_distance,
        "Binary descriptors that differ in more bits are no match.",
        minimum=0,
        maximum=4096,
    ),
    ParameterSpec(
        "inverse_depth_sigma",
        _DEFAULTS.inverse_depth_sigma,
        "Standard deviation of 1 / depth in 1/m; stereo: disparity error / (focal length * baseline).",
        minimum=1e-6,
        maximum=10.0,
    ),
    ParameterSpec(
        "max_depth",
        _DEFAULTS.max_depth,
        "Metres; farther measurements are taken as unknown.",
        minimum=0.01,
        maximum=1e6,
    ),
    ParameterSpec(
        "window",
        _DEFAULTS.window,
        "Keyframes whose points are looked for, and which are refined together.",
        minimum=2,
        maximum=100,
    ),
    ParameterSpec(
        "max_keyframes",
        _DEFAULTS.max_keyframes,
        "Beyond it the oldest keyframe is forgotten.",
        minimum=2,
        maximum=1_000_000,
    ),
)
"""Every parameter of the node; all are read when it starts."""
