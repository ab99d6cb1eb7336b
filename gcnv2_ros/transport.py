# SPDX-License-Identifier: Apache-2.0
"""How Fast DDS must be set up for camera images; nothing here imports ROS."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from .installation import installed_paths

TRANSPORT_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"

LARGE_DATA = "LARGE_DATA?max_msg_size=4MB&sockets_size=4MB&non_blocking=true&tcp_negotiation_timeout=50"
"""Value of `TRANSPORT_VARIABLE` with which images pass between processes without loss."""

PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS looks for profiles: since version 3 (ROS 2 Kilted), and before."""

_BEFORE_KILTED = ("humble", "iron", "jazzy")


def profile_variable(environment: Mapping[str, str]) -> str:
    """The one of `PROFILE_VARIABLES` that Fast DDS reads in the ROS distribution that ``ROS_DISTRO`` names.

    ROS 2 from the Python package index names none; it is Kilted or later.
    """
    return PROFILE_VARIABLES[environment.get("ROS_DISTRO") in _BEFORE_KILTED]


def large_images(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables with which Fast DDS passes large images between processes of one machine.

    They name the package's shared-memory profile; where its file is not installed, they are `LARGE_DATA`.

    Parameters
    ----------
    environment
        The variables as they are; ``AMENT_PREFIX_PATH`` says where packages are installed, ``ROS_DISTRO`` which ROS.
    """
    profiles = installed_paths("config/fastdds/large_images.xml", environment)
    if not profiles:
        return {TRANSPORT_VARIABLE: LARGE_DATA}
    return {profile_variable(environment): str(profiles[0])}


def set_up_large_images(environment: MutableMapping[str, str]) -> None:
    """Add `large_images` to the variables, unless the user has chosen how Fast DDS is set up.

    Fast DDS reads them when a process makes its first node; later they have no effect on it.
    """
    if not chosen_by_user(environment):
        environment.update(large_images(environment))


def chosen_by_user(environment: Mapping[str, str]) -> str:
    """The variable by which the environment already says how Fast DDS is set up; an empty string where none does."""
    return next((name for name in (TRANSPORT_VARIABLE, *PROFILE_VARIABLES) if environment.get(name)), "")
