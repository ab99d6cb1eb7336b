# SPDX-License-Identifier: Apache-2.0
"""Where the files that a build installs beside the Python package lie."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[1]
_SHARE = Path("share") / "gcnv2_ros"


def installed_paths(relative: str | Path, environment: Mapping[str, str] | None = None) -> list[Path]:
    """Where a file or folder of the repository that a build installs lies on this machine, the one to prefer first.

    Parameters
    ----------
    relative
        Its path in the repository, e.g. ``config/cameras``.
    environment
        ``AMENT_PREFIX_PATH`` of it says where ROS packages are installed; None: that of this process.

    Returns
    -------
    list of pathlib.Path
        Those that exist: the source tree's, ROS installations', pip's.
    """
    prefixes = (os.environ if environment is None else environment).get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    shares = [Path(prefix) / _SHARE for prefix in (*filter(None, prefixes), sys.prefix)]
    return [path for folder in (_REPOSITORY, *shares) if (path := folder / relative).exists()]
