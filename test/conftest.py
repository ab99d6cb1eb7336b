# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from gcnv2_ros.extraction import kernels

# Machines under load must not turn a correct property into a failure.
settings.register_profile("gcnv2_ros", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gcnv2_ros")

# Exported and compiled models of the tests' throwaway weights stay out of the user's cache.
os.environ.setdefault("GCNV2_ROS_CACHE", tempfile.mkdtemp(prefix="gcnv2_ros_test_cache_"))

# Networks here are small: on a loaded machine a second thread costs more in waiting than it gains.
torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["numpy", "numba"])
def loops(request: pytest.FixtureRequest) -> Iterator[None]:
    """Decoding's inner loops in NumPy and, where it is installed, compiled by numba: the same holds for both."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(kernels, "compiled", lambda: None)
        else:
            pytest.importorskip("numba", exc_type=ImportError)
            assert kernels.compiled() is not None
        yield
