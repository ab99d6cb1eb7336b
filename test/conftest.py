# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

from __future__ import annotations

import os
import tempfile

import torch
from hypothesis import HealthCheck, settings

# Machines under load must not turn a correct property into a failure.
settings.register_profile("gcnv2_ros", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gcnv2_ros")

# Exported and compiled models of the tests' throwaway weights stay out of the user's cache.
os.environ.setdefault("GCNV2_ROS_CACHE", tempfile.mkdtemp(prefix="gcnv2_ros_test_cache_"))

# Networks here are small: on a loaded machine a second thread costs more in waiting than it gains.
torch.set_num_threads(1)
