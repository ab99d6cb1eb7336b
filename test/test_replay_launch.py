# SPDX-License-Identifier: Apache-2.0
"""replay.launch.py, as far as it can be tested without a ROS installation: what it asks for."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import launch_stand_ins
from launch_stand_ins import REPOSITORY, LaunchConfiguration, arguments_of, load_launch_file, values_of

from gcnv2_ros.cli.main import build_parser


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launch file as a module."""
    return load_launch_file("replay", monkeypatch)


def launch(launch_file: ModuleType, **given: str) -> tuple[SimpleNamespace, SimpleNamespace, dict[str, str]]:
    """The included frontend, the player and all arguments."""
    frontend, player = launch_stand_ins.launch(launch_file, **given)
    return frontend, player, values_of(launch_file, **given)


def command_of(player: SimpleNamespace, values: dict[str, str]) -> list[str]:
    return [values[part.name] if isinstance(part, LaunchConfiguration) else part for part in player.cmd]


def test_the_sequence_must_be_given(launch_file: ModuleType) -> None:
    assert not hasattr(arguments_of(launch_file)["sequence"], "default_value")


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


def test_the_frontend_s_launch_file_exists_and_takes_what_it_is_given(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontend, _, _ = launch(launch_file, sequence="x")
    (path,) = frontend.args[0].args
    parts = path.args[0][1:]
    assert REPOSITORY.joinpath(*parts) == REPOSITORY / "launch" / "frontend.launch.py"
    taken = arguments_of(load_launch_file("frontend", monkeypatch))
    assert {name for name, _ in frontend.launch_arguments} <= set(taken)


def test_everything_ends_with_the_replay(launch_file: ModuleType) -> None:
    _, player, _ = launch(launch_file, sequence="x")
    assert [action.kind for action in player.on_exit] == ["Shutdown"]


def test_a_clock_that_is_neither_true_nor_false_is_named(launch_file: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="clock cannot be 'maybe'"):
        launch(launch_file, sequence="x", clock="maybe")
