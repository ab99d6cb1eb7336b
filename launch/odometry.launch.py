# SPDX-License-Identifier: Apache-2.0
"""Start frontend and odometry: ``ros2 launch gcnv2_ros odometry.launch.py mode:=rgbd image:=... depth:=...``.

``ros2 launch gcnv2_ros odometry.launch.py --show-args`` lists the arguments. What is not among them is set in a
parameter file (params_file), which both nodes read: entries under ``gcnv2_frontend:`` or ``gcnv2_odometry:``.
"""

from __future__ import annotations

import os

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from gcnv2_ros.transport import chosen_by_user, profile_variable
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

PACKAGE = "gcnv2_ros"

TOPICS = {
    "image": ("image", "image topic; in the mode stereo the rectified left one"),
    "camera_info": ("camera_info", "its calibration topic"),
    "depth": ("depth", "mode rgbd: topic of the depth image registered to the image"),
    "right_image": ("right/image", "mode stereo: topic of the rectified right image"),
    "right_camera_info": ("right/camera_info", "mode stereo: its calibration topic"),
}
"""Launch arguments that name topics: the frontend's own name of each, and what it is."""

FRONTEND_PARAMETERS: dict[str, tuple[type, str, str]] = {
    "mode": (str, "rgbd", "rgbd or stereo"),
    "model": (str, "gcnv2_tiny", "network: gcnv2_tiny, gcnv2, ..., or orb"),
    "max_keypoints": (int, "1000", "at most so many keypoints an image"),
}
"""Launch arguments that are parameters of the frontend: type, default, meaning."""

ODOMETRY_PARAMETERS: dict[str, tuple[type, str, str]] = {
    "odom_frame": (str, "odom", "frame in which poses are given"),
    "publish_tf": (bool, "true", "publish the transform from odom_frame to the camera"),
    "vocabulary": (
        str,
        "none",
        "none, gcnv2_tiny, gcnv2 or a file: that of the frontend's weights; closes loops",
    ),
}
"""Launch arguments that are parameters of the odometry: type, default, meaning."""

SHARED_PARAMETERS: dict[str, tuple[type, str, str]] = {
    "queue": (str, "latest", "latest: drop older frames; all: keep every frame"),
    "use_sim_time": (bool, "false", "true: time from /clock"),
}
"""Launch arguments that are parameters of both: type, default, meaning."""


def _environment(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Make room for images in Fast DDS's shared memory, unless the user has set it up."""
    chosen = chosen_by_user(os.environ)
    if chosen:
        return [LogInfo(msg=f"{chosen} is set: Fast DDS stays as it is")]
    profile = PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "fastdds", "large_images.xml"])
    return [SetEnvironmentVariable(profile_variable(os.environ), profile)]


def _parameters(context: LaunchContext, *tables: dict[str, tuple[type, str, str]]) -> list[object]:
    """What a node reads: the parameter file if there is one, then the launch arguments of `tables`."""
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for table in tables
        for name, (kind, _, _) in table.items()
    }
    file = LaunchConfiguration("params_file").perform(context)
    return [given, *([file] if file else [])]


def _nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    common: dict[str, str | bool | LaunchConfiguration] = {
        "package": PACKAGE,
        "namespace": LaunchConfiguration("namespace"),
        "output": "screen",
        "emulate_tty": True,
    }
    return [
        Node(
            executable="gcnv2_frontend",
            name="gcnv2_frontend",
            parameters=_parameters(context, FRONTEND_PARAMETERS, SHARED_PARAMETERS),
            remappings=[(topic, LaunchConfiguration(argument)) for argument, (topic, _) in TOPICS.items()],
            **common,
        ),
        Node(
            executable="gcnv2_odometry",
            name="gcnv2_odometry",
            parameters=_parameters(context, ODOMETRY_PARAMETERS, SHARED_PARAMETERS),
            remappings=[("features", "gcnv2_frontend/features")],
            **common,
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """The arguments, the transport, the two nodes."""
    arguments = [
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes and their topics"),
        DeclareLaunchArgument(
            "params_file",
            default_value="",
            description="parameter file for both nodes; overrides the launch arguments",
        ),
        *(
            DeclareLaunchArgument(argument, default_value=topic, description=meaning)
            for argument, (topic, meaning) in TOPICS.items()
        ),
        *(
            DeclareLaunchArgument(name, default_value=default, description=meaning)
            for table in (FRONTEND_PARAMETERS, ODOMETRY_PARAMETERS, SHARED_PARAMETERS)
            for name, (_, default, meaning) in table.items()
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_environment), OpaqueFunction(function=_nodes)])
