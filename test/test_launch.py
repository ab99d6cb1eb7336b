# SPDX-License-Identifier: Apache-2.0
"""frontend.launch.py, as far as it can be tested without a ROS installation: what it asks for."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from launch_stand_ins import PROFILE, arguments_of, declared_arguments, environment_of, launch, load_launch_file
from ros_helpers import REPOSITORY

from gcnv2_ros.ros.camera_profiles import ProfileError, load_profile
from gcnv2_ros.ros.parameters import PARAMETERS, ParameterSpec

SPECS = {spec.name: spec for spec in PARAMETERS}


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launch file as a module."""
    return load_launch_file("frontend", monkeypatch)


def node_of(actions: list[SimpleNamespace]) -> SimpleNamespace:
    """The launched node."""
    (node,) = (action for action in actions if action.kind == "Node")
    return node


@pytest.mark.parametrize("file", ["frontend", "odometry", "replay"])
def test_every_argument_is_described(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, argument in arguments_of(load_launch_file(file, monkeypatch)).items():
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


@pytest.mark.parametrize("spec", PARAMETERS, ids=lambda spec: spec.name)
def test_every_parameter_can_be_given_as_text(launch_file: ModuleType, spec: ParameterSpec) -> None:
    text = ",".join(map(str, spec.default)) if isinstance(spec.default, list) else str(spec.default)
    actions = launch(launch_file, **{spec.name: text})
    if text == "":
        assert len(node_of(actions).parameters) == 1
        return
    value = node_of(actions).parameters[-1][spec.name]
    value = value.args[0] if isinstance(value, SimpleNamespace) else value
    assert type(value) is type(spec.default)
    assert value == spec.default
    assert spec.checked(value) == spec.default


def test_no_parameter_has_the_name_of_another_argument(launch_file: ModuleType) -> None:
    names = [argument.args[0] for argument in declared_arguments(launch_file)]
    assert len(names) == len(set(names))
    assert {spec.name for spec in PARAMETERS} <= set(names)


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
