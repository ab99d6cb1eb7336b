# SPDX-License-Identifier: Apache-2.0
"""What numba keeps of compiled loops may be damaged, or be kept from being written: they work, and say so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba is not installed")

_PROCESS = """
import numpy as np
from gcnv2_ros.compilation import import_compiled

compiled = import_compiled("gcnv2_ros.compiled_distortion")
points = np.array([[0.1, -0.2]])
compiled.undistort((0.0,) * 12, 10.0, 1e-12, 1e-12, 20, points)
np.testing.assert_allclose(points, [[0.1, -0.2]], atol=1e-9)
"""


def warnings_of_a_start(folder: Path) -> str:
    """What a process says that takes its compiled loops from `folder`, or keeps them there."""
    result = subprocess.run(
        [sys.executable, "-c", _PROCESS],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scramble(path: Path) -> None:
    path.write_bytes(b"\xff" * 1000)


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [truncate, empty, scramble])
def test_damaged_files_of_numba_are_told_of_once_and_made_again(
    ending: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    assert warnings_of_a_start(tmp_path) == ""
    (path,) = tmp_path.glob(f"*/compiled_distortion.undistort-*.{ending}")
    neighbour = path.with_name(f"compiled_distortion.undistorted-1.py311.{ending}")
    neighbour.write_bytes(b"of another function")
    damage(path)
    told = warnings_of_a_start(tmp_path)
    assert f"keeps of undistort in {path.parent} cannot be used" in told
    assert "deleted and compiled again" in told
    assert neighbour.is_file()
    assert warnings_of_a_start(tmp_path) == ""


def test_files_that_numba_may_not_read_are_done_without(tmp_path: Path) -> None:
    warnings_of_a_start(tmp_path)
    (path,) = tmp_path.glob("*/compiled_distortion.undistort-*.nbi")
    path.unlink()
    # In the place of a file, a folder can be neither read nor written, by root either.
    path.mkdir()
    told = warnings_of_a_start(tmp_path)
    assert f"cannot be kept in {path.parent} (" in told
    assert "set NUMBA_CACHE_DIR to another folder" in told


_BROKEN = """
import sys
from pathlib import Path

Path(sys.argv[1], "numba.py").write_text("raise AttributeError('_ARRAY_API not found')")
sys.path.insert(0, sys.argv[1])
from gcnv2_ros.extraction.kernels import compiled

assert compiled() is None
"""


def test_a_numba_that_fails_to_load_is_done_without(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", _BROKEN, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "numba is done without" in result.stderr
    assert "_ARRAY_API not found" in result.stderr
