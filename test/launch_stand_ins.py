# SPDX-License-Identifier: Apache-2.0
"""Stand-ins of the few classes of launch and launch_ros that the launch files use; they keep what they are given.

Those packages are on no package index. Where they are installed, the stand-ins still serve: what is tested is what a
launch file asks for, not what launch makes of it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PROFILE = REPOSITORY / "config" / "fastdds" / "large_images.xml"


class LaunchConfiguration:
    """Reads an argument's value from the context, as the real one does."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: SimpleNamespace) -> str:
        return context.launch_configurations[self.name]


def _recorder(kind: str) -> Callable[..., SimpleNamespace]:
    """A class that keeps the arguments it is made with."""
    return lambda *args, **kwargs: SimpleNamespace(kind=kind, args=args, **kwargs)


_RECORDED = {
    "launch": ("LaunchContext", "LaunchDescription", "LaunchDescriptionEntity"),
    "launch.actions": (
        "DeclareLaunchArgument",
        "ExecuteProcess",
        "IncludeLaunchDescription",
        "LogInfo",
        "OpaqueFunction",
        "SetEnvironmentVariable",
        "Shutdown",
    ),
    "launch.launch_description_sources": ("PythonLaunchDescriptionSource",),
    "launch.substitutions": ("PathJoinSubstitution",),
    "launch_ros": (),
    "launch_ros.actions": ("Node",),
    "launch_ros.parameter_descriptions": ("ParameterValue",),
    "launch_ros.substitutions": ("FindPackageShare",),
}


def load_launch_file(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A launch file of the package as a module, in an environment in which nobody has set Fast DDS up."""
    for module_name, classes in _RECORDED.items():
        stand_in = ModuleType(module_name)
        vars(stand_in).update({each: _recorder(each) for each in classes})
        monkeypatch.setitem(sys.modules, module_name, stand_in)
    vars(sys.modules["launch.substitutions"])["LaunchConfiguration"] = LaunchConfiguration
    for variable in list(os.environ):
        if variable.startswith(("FASTDDS_", "FASTRTPS_")) or variable == "ROS_DISTRO":
            monkeypatch.delenv(variable)
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), REPOSITORY / "launch" / f"{name}.launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def declared_arguments(launch_file: ModuleType) -> list[SimpleNamespace]:
    """The declared launch arguments in their order."""
    (entities,) = launch_file.generate_launch_description().args
    return [entity for entity in entities if entity.kind == "DeclareLaunchArgument"]


def arguments_of(launch_file: ModuleType) -> dict[str, SimpleNamespace]:
    """The declared launch arguments by name."""
    return {argument.args[0]: argument for argument in declared_arguments(launch_file)}


def values_of(launch_file: ModuleType, **given: str) -> dict[str, str]:
    """The value of every argument, with some given and the others at their defaults."""
    arguments = arguments_of(launch_file)
    assert set(given) <= set(arguments)
    return {name: getattr(argument, "default_value", "") for name, argument in arguments.items()} | given


def launch(launch_file: ModuleType, **given: str) -> list[SimpleNamespace]:
    """What is launched with some arguments given and the others at their defaults."""
    context = SimpleNamespace(launch_configurations=values_of(launch_file, **given))
    (entities,) = launch_file.generate_launch_description().args
    actions = []
    for entity in entities:
        if entity.kind == "OpaqueFunction":
            actions += entity.function(context)
    return actions


def environment_of(actions: list[SimpleNamespace]) -> dict[str, Any]:
    """The environment variables that are set."""
    return {action.args[0]: action.args[1] for action in actions if action.kind == "SetEnvironmentVariable"}
