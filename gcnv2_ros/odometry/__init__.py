# SPDX-License-Identifier: Apache-2.0
"""The reference backend: RGB-D and stereo visual odometry on features alone, to judge and demonstrate frontends."""

from __future__ import annotations

from .odometry import Odometry, run_odometry
from .options import OdometryError, OdometryOptions
from .results import TrackResult, Trajectory

__all__ = ["Odometry", "OdometryError", "OdometryOptions", "TrackResult", "Trajectory", "run_odometry"]
