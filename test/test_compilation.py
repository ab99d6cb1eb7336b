# SPDX-License-Identifier: Apache-2.0
"""What numba keeps between starts may be damaged: loops are then compiled anew, and it is said where it lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", exc_type=ImportError, reason="numba is not installed")

_MODULE = """
from gcnv2_ros.compilation import compiled

@compiled("int64(int64)")
def doubled(value):
    return 2 * value
"""


def start(folder: Path) -> subprocess.CompletedProcess[str]:
    """Import the module of `folder` in a process of its own, and call what it compiles."""
    repository = str(Path(__file__).resolve().parents[1])
    return subprocess.run(
        [sys.executable, "-c", "import loops; print(loops.doubled(21))"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), repository]), "NUMBA_CACHE_DIR": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_damaged_loops_are_compiled_anew(tmp_path: Path, suffix: str, share: float) -> None:
    (tmp_path / "loops.py").write_text(_MODULE)
    first = start(tmp_path)
    assert (first.stdout, first.stderr) == ("42\n", "")
    (kept,) = (tmp_path / "__pycache__").glob(f"*{suffix}")
    content = kept.read_bytes()
    kept.write_bytes(content[: int(share * len(content))])
    again = start(tmp_path)
    assert again.stdout == "42\n"
    assert str(tmp_path / "loops.py") in again.stderr
