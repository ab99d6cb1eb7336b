# SPDX-License-Identifier: Apache-2.0
"""Start the frontend and play a sequence to it: ``ros2 launch gcnv2_ros replay.launch.py sequence:=drive.mcap``.

Takes all arguments of ``frontend.launch.py`` beside its own. Everything ends when the sequence has been played.
"""

from __future__ import annotations

import sys

from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

PACKAGE = "gcnv2_ros"

OWN_ARGUMENTS = {
    "sequence": (None, "TUM, EuRoC, KITTI or picture folder, bag, video, or room:OPTIONS"),
    "rate": ("1.0", "speed; 0: as fast as it goes"),
    "frames": ("", "at most so many (empty: all)"),
    "clock": ("false", "true: publish /clock, and the frontend goes by it"),
    "wait": ("60.0", "seconds to wait for the frontend"),
}
"""Launch arguments of this file: default (None: must be given) and meaning."""


def _play(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The frontend, with settings that fit a recording, and the player."""

    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    clock = value("clock").lower()
    if clock not in ("true", "false"):
        raise RuntimeError(f"the launch argument clock cannot be {value('clock')!r}; it is true or false")
    # The player is started by the module's name: a ROS installation does not put `gcnv2` on the path.
    command = [sys.executable, "-m", "gcnv2_ros.cli.main", "replay", value("sequence")]
    command += ["--rate", value("rate"), "--wait", value("wait")]
    command += ["--frames", value("frames")] if value("frames") else []
    command += ["--clock"] if clock == "true" else []
    command += ["--node", LaunchConfiguration("name"), "--namespace", LaunchConfiguration("namespace")]
    frontend = PathJoinSubstitution([FindPackageShare(PACKAGE), "launch", "frontend.launch.py"])
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(frontend),
            launch_arguments=[("use_sim_time", clock), ("subscribe_reliability", "reliable")],
        ),
        ExecuteProcess(cmd=command, output="screen", emulate_tty=True, on_exit=[Shutdown(reason="the replay ended")]),
    ]


def generate_launch_description() -> LaunchDescription:
    """The arguments, the frontend, the player."""
    arguments = [
        DeclareLaunchArgument(name, description=meaning)
        if default is None
        else DeclareLaunchArgument(name, default_value=default, description=meaning)
        for name, (default, meaning) in OWN_ARGUMENTS.items()
    ]
    arguments += [
        DeclareLaunchArgument("name", default_value="gcnv2_frontend", description="name of the frontend"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the frontend and the topics"),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_play)])
