# SPDX-License-Identifier: Apache-2.0
"""The launch file, as far as it can be tested without a ROS installation.

The packages launch and launch_ros are on no package index. Where they are not installed, this file runs the launch file
against stand-ins of the few classes that it uses, which keep what they are given; where they are, the stand-ins still
serve, since what is tested is what the launch file asks for, not what launch makes of it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from ros_helpers import REPOSITORY

from gcnv2_ros.ros.camera_profiles import ProfileError, load_profile
from gcnv2_ros.ros.parameters import PARAMETERS

LAUNCH_FILE = REPOSITORY / "launch" / "frontend.launch.py"
PROFILE = REPOSITORY / "config" / "fastdds" / "large_images.xml"
SPECS = {spec.name: spec for spec in PARAMETERS}


class LaunchConfiguration:
    """Reads an argument's value from the context, as the real one does."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: SimpleNamespace) -> str:
        return context.launch_configurations[self.name]


def recorder(kind: str) -> Callable[..., SimpleNamespace]:
    """A class that keeps the arguments it is made with."""
    return lambda *args, **kwargs: SimpleNamespace(kind=kind, args=args, **kwargs)


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launch file as a module."""
    contents: dict[str, dict[str, Any]] = {
        "launch": {name: recorder(name) for name in ("LaunchContext", "LaunchDescription", "LaunchDescriptionEntity")},
        "launch.actions": {
            name: recorder(name)
            for name in ("DeclareLaunchArgument", "LogInfo", "OpaqueFunction", "SetEnvironmentVariable")
        },
        "launch.substitutions": {
            "LaunchConfiguration": LaunchConfiguration,
            "PathJoinSubstitution": recorder("PathJoinSubstitution"),
        },
        "launch_ros": {},
        "launch_ros.actions": {"Node": recorder("Node")},
        "launch_ros.parameter_descriptions": {"ParameterValue": recorder("ParameterValue")},
        "launch_ros.substitutions": {"FindPackageShare": recorder("FindPackageShare")},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    for variable in list(os.environ):
        if variable.startswith(("FASTDDS_", "FASTRTPS_")) or variable == "ROS_DISTRO":
            monkeypatch.delenv(variable)
    spec = importlib.util.spec_from_file_location("frontend_launch", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments_of(launch_file: ModuleType) -> dict[str, SimpleNamespace]:
    """The declared launch arguments by name."""
    (entities,) = launch_file.generate_launch_description().args
    return {entity.args[0]: entity for entity in entities if entity.kind == "DeclareLaunchArgument"}


def launch(launch_file: ModuleType, **given: str) -> list[SimpleNamespace]:
    """What is launched with some arguments given and the others at their defaults."""
    values = {name: argument.default_value for name, argument in arguments_of(launch_file).items()}
    assert set(given) <= set(values)
    context = SimpleNamespace(launch_configurations={**values, **given})
    (entities,) = launch_file.generate_launch_description().args
    actions = []
    for entity in entities:
        if entity.kind == "OpaqueFunction":
            actions += entity.function(context)
    return actions


def node_of(actions: list[SimpleNamespace]) -> SimpleNamespace:
    """The launched node."""
    (node,) = (action for action in actions if action.kind == "Node")
    return node


def environment_of(actions: list[SimpleNamespace]) -> dict[str, Any]:
    """The environment variables that are set."""
    return {action.args[0]: action.args[1] for action in actions if action.kind == "SetEnvironmentVariable"}


def test_every_argument_is_described(launch_file: ModuleType) -> None:
    for name, argument in arguments_of(launch_file).items():
        assert argument.description, name


def test_arguments_are_what_people_change(launch_file: ModuleType) -> None:
    assert {
        "model",
        "weights",
        "device",
        "runtime",
        "precision",
        "score_threshold",
        "max_keypoints",
        "input_width",
        "input_height",
        "image",
        "camera_info",
        "namespace",
        "params_file",
        "log_level",
    } <= set(arguments_of(launch_file))


def test_parameter_arguments_are_parameters_of_the_node_with_their_types(launch_file: ModuleType) -> None:
    samples = {bool: "true", int: "5", float: "0.5", str: "some", list: "front,rear"}
    for name, (read, _) in launch_file.PARAMETER_ARGUMENTS.items():
        kind = bool if name == "use_sim_time" else type(SPECS[name].default)
        value = read(samples[kind])
        assert type(value) is kind, name


def test_arguments_left_out_leave_the_parameter_file_alone(launch_file: ModuleType) -> None:
    node = node_of(launch(launch_file))
    assert (node.package, node.executable) == ("gcnv2_ros", "gcnv2_frontend")
    (file,) = node.parameters
    assert file.name == "params_file"
    default = arguments_of(launch_file)["params_file"].default_value
    assert default.args[0][1:] == ["config", "frontend.yaml"]
    assert REPOSITORY.joinpath(*default.args[0][1:]).is_file()


def test_given_arguments_override_the_file(launch_file: ModuleType) -> None:
    given = {"model": "orb", "max_keypoints": "500", "score_threshold": "0.2", "autostart": "False"}
    _, overrides = node_of(launch(launch_file, **given)).parameters
    model = overrides.pop("model")
    assert (model.args, model.value_type) == (("orb",), str)
    assert overrides == {"max_keypoints": 500, "score_threshold": 0.2, "autostart": False}


@pytest.mark.parametrize(("name", "text"), [("max_keypoints", "many"), ("score_threshold", "x"), ("use_sim_time", "1")])
def test_an_argument_that_cannot_be_read_is_named(launch_file: ModuleType, name: str, text: str) -> None:
    with pytest.raises(RuntimeError, match=f"{name} cannot be '{text}'"):
        launch(launch_file, **{name: text})


def test_names_of_cameras_are_given_as_a_list(launch_file: ModuleType) -> None:
    for text in ("front,rear", "[front, rear]"):
        _, overrides = node_of(launch(launch_file, cameras=text)).parameters
        assert overrides == {"cameras": ["front", "rear"]}
    with pytest.raises(RuntimeError, match="cameras cannot be 'front,'"):
        launch(launch_file, cameras="front,")


def test_topics_are_remapped_to_the_arguments(launch_file: ModuleType) -> None:
    topics = {"image", "camera_info", "right/image", "right/camera_info", "depth", "mask", "imu"}
    node = node_of(launch(launch_file))
    assert dict(node.remappings) == {topic: topic for topic in topics}
    node = node_of(launch(launch_file, image="/camera/image_raw"))
    assert dict(node.remappings) == {topic: topic for topic in topics} | {"image": "/camera/image_raw"}
    assert {name: arguments_of(launch_file)[name].default_value for name in topics} == {name: name for name in topics}


def test_a_camera_profile_gives_topics_and_parameters_and_arguments_override_it(launch_file: ModuleType) -> None:
    profile = load_profile("realsense_d455")
    node = node_of(launch(launch_file, camera="realsense_d455"))
    assert profile.remappings.items() <= dict(node.remappings).items()
    _, parameters = node.parameters
    mode = parameters.pop("mode")
    assert (mode.args, mode.value_type) == ((profile.parameters["mode"],), str)
    assert set(parameters) == set(profile.parameters) - {"mode"}
    node = node_of(launch(launch_file, camera="realsense_d455", depth="/other/depth", mode="mono"))
    assert dict(node.remappings)["depth"] == "/other/depth"
    assert dict(node.remappings)["image"] == profile.remappings["image"]
    assert node.parameters[-1]["mode"].args == ("mono",)


def test_an_unknown_camera_profile_is_refused_with_the_known_ones(launch_file: ModuleType) -> None:
    with pytest.raises(ProfileError, match="realsense_d455"):
        launch(launch_file, camera="realsense_d456")


def test_the_transport_is_set_up_for_images_by_a_profile_that_exists(launch_file: ModuleType) -> None:
    environment = environment_of(launch(launch_file))
    assert list(environment) == ["FASTDDS_DEFAULT_PROFILES_FILE"]
    (parts,) = environment["FASTDDS_DEFAULT_PROFILES_FILE"].args
    assert parts[0].args == ("gcnv2_ros",)
    assert REPOSITORY.joinpath(*parts[1:]) == PROFILE


def test_older_distributions_get_the_older_variable(launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert list(environment_of(launch(launch_file))) == ["FASTRTPS_DEFAULT_PROFILES_FILE"]


def test_another_transport_can_be_chosen(launch_file: ModuleType) -> None:
    environment = environment_of(launch(launch_file, transport="large_data"))
    assert environment == {"FASTDDS_BUILTIN_TRANSPORTS": launch_file.LARGE_DATA}
    assert environment_of(launch(launch_file, transport="none")) == {}


@pytest.mark.parametrize(
    "variable", ["FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"]
)
def test_what_the_user_has_set_stays(launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "chosen by the user")
    actions = launch(launch_file)
    assert environment_of(actions) == {}
    assert any(action.kind == "LogInfo" and variable in action.msg for action in actions)
    assert environment_of(launch(launch_file, transport="large_data")) == {}


def test_the_profile_is_one_that_fast_dds_can_read() -> None:
    space = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"
    root = ElementTree.parse(PROFILE).getroot()
    declared = [element.text for element in root.iterfind(f".//{space}transport_descriptor/{space}transport_id")]
    used = [element.text for element in root.iterfind(f".//{space}userTransports/{space}transport_id")]
    assert used == declared
    (participant,) = root.iter(f"{space}participant")
    assert participant.get("is_default_profile") == "true"
    (size,) = root.iter(f"{space}segment_size")
    assert int(size.text or "0") > 10 * 640 * 480 * 3
