# SPDX-License-Identifier: Apache-2.0
"""What the replay launch file asks for, against stand-ins of launch's classes, which are on no package index."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gcnv2_ros.cli.main import build_parser

REPOSITORY = Path(__file__).resolve().parents[1]


class LaunchConfiguration:
    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: SimpleNamespace) -> str:
        return context.launch_configurations[self.name]


def recorder(kind: str) -> Any:
    return lambda *args, **kwargs: SimpleNamespace(kind=kind, args=args, **kwargs)


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    actions = ("DeclareLaunchArgument", "ExecuteProcess", "IncludeLaunchDescription", "OpaqueFunction", "Shutdown")
    contents: dict[str, dict[str, Any]] = {
        "launch": {name: recorder(name) for name in ("LaunchContext", "LaunchDescription", "LaunchDescriptionEntity")},
        "launch.actions": {name: recorder(name) for name in actions},
        "launch.launch_description_sources": {
            "PythonLaunchDescriptionSource": recorder("PythonLaunchDescriptionSource")
        },
        "launch.substitutions": {
            "LaunchConfiguration": LaunchConfiguration,
            "PathJoinSubstitution": recorder("PathJoinSubstitution"),
        },
        "launch_ros": {},
        "launch_ros.substitutions": {"FindPackageShare": recorder("FindPackageShare")},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("replay_launch", REPOSITORY / "launch" / "replay.launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launch(launch_file: ModuleType, **given: str) -> tuple[SimpleNamespace, SimpleNamespace, dict[str, str]]:
    """The included frontend, the player and all arguments."""
    (entities,) = launch_file.generate_launch_description().args
    declared = {entity.args[0]: entity for entity in entities if entity.kind == "DeclareLaunchArgument"}
    values = {name: getattr(entity, "default_value", "") for name, entity in declared.items()} | given
    assert all(entity.description for entity in declared.values())
    context = SimpleNamespace(launch_configurations=values)
    (function,) = (entity.function for entity in entities if entity.kind == "OpaqueFunction")
    frontend, player = function(context)
    return frontend, player, values


def command_of(player: SimpleNamespace, values: dict[str, str]) -> list[str]:
    return [values[part.name] if isinstance(part, LaunchConfiguration) else part for part in player.cmd]


def test_the_sequence_must_be_given(launch_file: ModuleType) -> None:
    (entities,) = launch_file.generate_launch_description().args
    (sequence,) = (entity for entity in entities if entity.args[:1] == ("sequence",))
    assert not hasattr(sequence, "default_value")


@pytest.mark.parametrize("clock", ["true", "false"])
def test_the_player_gets_a_command_line_that_it_understands(launch_file: ModuleType, clock: str) -> None:
    given = {"sequence": "room:frames=3", "rate": "0.5", "clock": clock, "frames": "2", "namespace": "robot"}
    frontend, player, values = launch(launch_file, **given)
    command = command_of(player, values)
    assert command[:4] == [sys.executable, "-m", "gcnv2_ros.cli.main", "replay"]
    read = build_parser().parse_args(command[3:])
    assert (read.sequence, read.rate, read.frames) == ("room:frames=3", 0.5, 2)
    assert bool(read.clock) == (clock == "true")
    assert (read.namespace, read.node, read.out) == ("robot", "gcnv2_frontend", None)
    assert dict(frontend.launch_arguments)["use_sim_time"] == clock


def test_the_frontend_s_launch_file_exists_and_takes_what_it_is_given(launch_file: ModuleType) -> None:
    frontend, _, _ = launch(launch_file, sequence="x")
    (path,) = frontend.args[0].args
    parts = path.args[0][1:]
    text = REPOSITORY.joinpath(*parts).read_text()
    assert all(f'"{name}"' in text for name, _ in frontend.launch_arguments)


def test_everything_ends_with_the_replay(launch_file: ModuleType) -> None:
    _, player, _ = launch(launch_file, sequence="x")
    assert [action.kind for action in player.on_exit] == ["Shutdown"]


def test_a_clock_that_is_neither_true_nor_false_is_named(launch_file: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="clock cannot be 'maybe'"):
        launch(launch_file, sequence="x", clock="maybe")
