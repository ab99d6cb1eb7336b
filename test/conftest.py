# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, settings

# Machines under load must not turn a correct property into a failure.
settings.register_profile("gcnv2_ros", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gcnv2_ros")

# Networks here are small: on a loaded machine a second thread costs more in waiting than it gains.
torch.set_num_threads(1)
