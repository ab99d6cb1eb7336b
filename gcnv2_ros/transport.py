# SPDX-License-Identifier: Apache-2.0
"""How Fast DDS must be set up for camera images; nothing here imports ROS."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

TRANSPORT_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"

LARGE_DATA = "LARGE_DATA?max_msg_size=4MB&sockets_size=4MB&non_blocking=true&tcp_negotiation_timeout=50"
"""Value of `TRANSPORT_VARIABLE` with which images pass between processes without loss."""

PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS looks for profiles: since version 3 (ROS 2 Kilted), and before."""


_PROFILE = Path("config") / "fastdds" / "large_images.xml"
_SHARE = Path("share") / "gcnv2_ros"


def large_images(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables with which Fast DDS passes large images between processes of one machine.

    They name the package's shared-memory profile; where its file is not installed, they are `LARGE_DATA`.

    Parameters
    ----------
    environment
        The variables as they are; ``AMENT_PREFIX_PATH`` says where packages are installed.
    """
    prefixes = [Path(prefix) for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    folders = [Path(__file__).resolve().parents[1], *(prefix / _SHARE for prefix in (*prefixes, Path(sys.prefix)))]
    profile = next((folder / _PROFILE for folder in folders if (folder / _PROFILE).is_file()), None)
    if profile is None:
        return {TRANSPORT_VARIABLE: LARGE_DATA}
    return dict.fromkeys(PROFILE_VARIABLES, str(profile))


def chosen_by_user(environment: Mapping[str, str]) -> str:
    """The variable by which the environment already says how Fast DDS is set up; an empty string where none does."""
    return next((name for name in (TRANSPORT_VARIABLE, *PROFILE_VARIABLES) if environment.get(name)), "")
