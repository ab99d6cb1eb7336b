# SPDX-License-Identifier: Apache-2.0
"""odometry.launch.py, as far as it can be tested without a ROS installation: what it asks for."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from launch_stand_ins import PROFILE, arguments_of, environment_of, launch, load_launch_file
from ros_helpers import REPOSITORY

from gcnv2_ros.ros.odometry_parameters import ODOMETRY_PARAMETERS
from gcnv2_ros.ros.parameters import PARAMETERS


@pytest.fixture
def odometry_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launch file as a module."""
    return load_launch_file("odometry", monkeypatch)


def nodes_of(actions: list[SimpleNamespace]) -> dict[str, SimpleNamespace]:
    """The launched nodes by executable."""
    return {action.executable: action for action in actions if action.kind == "Node"}


def test_frontend_and_odometry_start_and_the_one_hears_the_other(odometry_file: ModuleType) -> None:
    nodes = nodes_of(launch(odometry_file))
    assert set(nodes) == {"gcnv2_frontend", "gcnv2_odometry"}
    for executable, node in nodes.items():
        assert (node.package, node.name, node.namespace.name) == ("gcnv2_ros", executable, "namespace")
    assert nodes["gcnv2_odometry"].remappings == [("features", "gcnv2_frontend/features")]


def test_topics_of_both_modes_are_remapped_to_the_arguments(odometry_file: ModuleType) -> None:
    frontend = nodes_of(launch(odometry_file))["gcnv2_frontend"]
    remapped = {topic: target.name for topic, target in frontend.remappings}
    assert set(remapped) == {"image", "camera_info", "depth", "right/image", "right/camera_info"}
    arguments = arguments_of(odometry_file)
    assert {topic: arguments[name].default_value for topic, name in remapped.items()} == {
        topic: topic for topic in remapped
    }


def test_arguments_are_parameters_of_the_nodes_with_their_types_and_values(odometry_file: ModuleType) -> None:
    nodes = nodes_of(launch(odometry_file))
    arguments = arguments_of(odometry_file)
    for executable, table in (("gcnv2_frontend", PARAMETERS), ("gcnv2_odometry", ODOMETRY_PARAMETERS)):
        specs = {spec.name: spec for spec in table}
        (given,) = nodes[executable].parameters
        for name, value in given.items():
            assert value.args[0].name == name
            if name == "use_sim_time":
                continue
            assert value.value_type is type(specs[name].default), name
            specs[name].checked(value.value_type(arguments[name].default_value))


def test_a_parameter_file_comes_last(odometry_file: ModuleType) -> None:
    for node in nodes_of(launch(odometry_file, params_file="/robot.yaml")).values():
        assert node.parameters[-1] == "/robot.yaml"


def test_the_transport_is_that_of_the_frontend_alone(
    odometry_file: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = environment_of(launch(odometry_file))
    (parts,) = environment["FASTDDS_DEFAULT_PROFILES_FILE"].args
    assert REPOSITORY.joinpath(*parts[1:]) == PROFILE
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "mine")
    assert environment_of(launch(odometry_file)) == {}
