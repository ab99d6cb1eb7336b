# SPDX-License-Identifier: Apache-2.0
"""Start the frontend node: ``ros2 launch gcnv2_ros frontend.launch.py image:=/camera/image_raw``.

``ros2 launch gcnv2_ros frontend.launch.py --show-args`` lists the arguments. Parameters come from the parameter file;
the camera profile overrides it, and arguments that are given override both. An argument that names a topic overrides
the profile when it is given.
"""

from __future__ import annotations

import os

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from gcnv2_ros.ros.camera_profiles import CameraProfile, load_profile
from gcnv2_ros.ros.parameter_spec import ParameterSpec, Value
from gcnv2_ros.ros.parameter_table import PARAMETERS
from gcnv2_ros.transport import LARGE_DATA, TRANSPORT_VARIABLE, chosen_by_user, profile_variable
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

PACKAGE = "gcnv2_ros"


USE_SIM_TIME = ParameterSpec("use_sim_time", False, "true: time from /clock.")

PARAMETER_ARGUMENTS = (*PARAMETERS, USE_SIM_TIME)
"""Launch arguments that are parameters of the node: all of its own, and one that every node has."""

TOPIC_ARGUMENTS = {
    "image": "image topic; with image_transport:=compressed the topic without /compressed",
    "camera_info": "calibration topic",
    "right/image": "image topic of the right camera, for the mode stereo",
    "right/camera_info": "calibration topic of the right camera",
    "depth": "topic of the registered depth image, for the mode rgbd",
    "mask": "topic of masks or label images, for mask_source",
    "imu": "IMU topic, for upright:=imu",
}
"""Launch arguments that name topics of the node. Those of the mode multi keep their names, CAMERA/image and so on."""


TRANSPORTS = ("shared_memory", "large_data", "none")


def _environment(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Set Fast DDS up for images, for the node and for what is launched after it, unless the user has done so."""
    # With large_data a process is deaf to all that run without it, so it is not the default: the camera's driver, RViz
    # and the recorder would all need it too.
    transport = LaunchConfiguration("transport").perform(context)
    if transport == "none":
        return []
    chosen = chosen_by_user(os.environ)
    if chosen:
        return [LogInfo(msg=f"{chosen} is set: Fast DDS stays as it is")]
    if transport == "large_data":
        return [SetEnvironmentVariable(TRANSPORT_VARIABLE, LARGE_DATA)]
    profile = PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "fastdds", "large_images.xml"])
    return [SetEnvironmentVariable(profile_variable(os.environ), profile)]


def _read(text: str, default: Value) -> Value:
    """The value that a launch argument's text stands for, of the type of a parameter's default; lists by commas."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if isinstance(default, list):
        items = [item.strip() for item in text.strip("[] ").split(",")]
        if not all(items):
            raise ValueError(text)
        return [type(default[0])(item) for item in items]
    return type(default)(text)


def _for_node(value: Value) -> Value | ParameterValue:
    # launch_ros reads plain strings as YAML, which makes numbers of some.
    return ParameterValue(value, value_type=str) if isinstance(value, str) else value


def _given_parameters(context: LaunchContext) -> list[dict[str, Value | ParameterValue]]:
    """The parameters that are given as launch arguments: none or one dictionary, for the node action."""
    parameters = {}
    for spec in PARAMETER_ARGUMENTS:
        text = LaunchConfiguration(spec.name).perform(context)
        if not text:
            continue
        try:
            parameters[spec.name] = _for_node(_read(text, spec.default))
        except ValueError as error:
            raise RuntimeError(
                f"the launch argument {spec.name} cannot be {text!r}; it is: {spec.description}"
            ) from error
    return [parameters] if parameters else []


def _camera_profile(context: LaunchContext) -> CameraProfile | None:
    name = LaunchConfiguration("camera").perform(context)
    return load_profile(name) if name else None


def _profile_parameters(profile: CameraProfile | None) -> list[dict[str, Value | ParameterValue]]:
    """The parameters of the profile: none or one dictionary, for the node action."""
    if profile is None or not profile.parameters:
        return []
    return [{name: _for_node(value) for name, value in profile.parameters.items()}]


def _remappings(context: LaunchContext, profile: CameraProfile | None) -> list[tuple[str, str]]:
    """Topics by the arguments that are given, else by the profile, else unchanged."""
    remappings = {topic: topic for topic in TOPIC_ARGUMENTS}
    if profile is not None:
        remappings.update(profile.remappings)
    for topic in TOPIC_ARGUMENTS:
        given = LaunchConfiguration(topic).perform(context)
        if given != topic:
            remappings[topic] = given
    return list(remappings.items())


def _node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    profile = _camera_profile(context)
    return [
        Node(
            package=PACKAGE,
            executable="gcnv2_frontend",
            name=LaunchConfiguration("name"),
            namespace=LaunchConfiguration("namespace"),
            parameters=[
                LaunchConfiguration("params_file"),
                *_profile_parameters(profile),
                *_given_parameters(context),
            ],
            remappings=_remappings(context, profile),
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            output="screen",
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """The arguments, the transport, the node."""
    arguments = [
        DeclareLaunchArgument("name", default_value="gcnv2_frontend", description="name of the node"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the node and its topics"),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "frontend.yaml"]),
            description="parameter file",
        ),
        DeclareLaunchArgument(
            "camera",
            default_value="",
            description="camera profile: a name (realsense_d455, zed, ...; see config/cameras) or a .yaml file",
        ),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
        DeclareLaunchArgument(
            "transport",
            default_value=TRANSPORTS[0],
            choices=list(TRANSPORTS),
            description="Fast DDS for images, unless its environment variables are set. shared_memory: a larger "
            "segment, works with all other processes; large_data: TCP, every process must use it; none: untouched",
        ),
        *(
            DeclareLaunchArgument(name, default_value=name, description=meaning)
            for name, meaning in TOPIC_ARGUMENTS.items()
        ),
        *(
            DeclareLaunchArgument(
                spec.name, default_value="", description=f"{spec.description} (empty: as in params_file)"
            )
            for spec in PARAMETER_ARGUMENTS
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_environment), OpaqueFunction(function=_node)])
