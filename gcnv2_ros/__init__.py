# SPDX-License-Identifier: Apache-2.0
"""GCNv2 keypoints and 256-bit binary descriptors for ROS 2."""

from .errors import GCNv2Error
from .features import Features

__all__ = ["Features", "GCNv2Error"]
