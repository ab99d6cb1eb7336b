# SPDX-License-Identifier: Apache-2.0
"""Camera profiles: which topics and parameters of the frontend go with a camera's driver or a data set's bags.

A profile is a YAML file with the keys ``description``, ``remappings`` (the node's relative topic: the driver's topic),
``parameters`` (of the node) and ``checked`` (what the profile rests on). The package's own lie in ``config/cameras``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import GCNv2Error, did_you_mean
from ..installation import installed_paths
from .parameter_spec import ParameterError, Value
from .parameter_table import PARAMETERS

CHECKS = ("run here on the data set", "from the driver's documentation", "from the data set's documentation")
"""What a profile may rest on."""

TOPICS = ("image", "camera_info", "depth", "right/image", "right/camera_info", "mask", "imu")
"""Relative topics of the node that a profile may remap; in the mode multi also NAME/image, NAME/camera_info
and NAME/mask."""

_KEYS = ("description", "remappings", "parameters", "checked")
_TOPIC = re.compile(r"(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_SPECS = {spec.name: spec for spec in PARAMETERS}


class ProfileError(GCNv2Error):
    """A camera profile that does not exist or cannot be used."""


@dataclass(frozen=True)
class CameraProfile:
    """How the node is set up for one camera.

    Attributes
    ----------
    name
        The file's name without its suffix.
    description
        The camera, and how its driver is to be started.
    remappings
        Topic of the driver by relative topic of the node.
    parameters
        Values of the node's parameters by name, checked each by itself.
    checked
        One of `CHECKS`.
    """

    name: str
    description: str
    remappings: Mapping[str, str]
    parameters: Mapping[str, Value]
    checked: str


def profile_folders() -> tuple[Path, ...]:
    """Folders that hold the package's profiles, the first one preferred."""
    return tuple(installed_paths("config/cameras"))


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that come with the package, sorted."""
    return tuple(sorted({path.stem for folder in profile_folders() for path in folder.glob("*.yaml")}))


def load_profile(name_or_path: str | Path) -> CameraProfile:
    """Read a profile and check it against the node's parameters.

    Parameters
    ----------
    name_or_path
        A name of `profile_names`, or the path of a YAML file.

    Raises
    ------
    ProfileError
        If there is no such profile, or it holds something that the node does not know or would not accept.
    """
    path = _find(str(name_or_path))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProfileError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ProfileError(f"{path}: expected a mapping with the keys {', '.join(_KEYS)}")
    for key in content:
        if key not in _KEYS:
            raise ProfileError(
                f"{path}: the key {key!r} is unknown{did_you_mean(key, _KEYS)}; a profile has {', '.join(_KEYS)}"
            )
    for key in _KEYS:
        if key not in content:
            raise ProfileError(f"{path}: the key {key!r} is missing")
    if not isinstance(content["description"], str) or not content["description"].strip():
        raise ProfileError(f"{path}: 'description' must say which camera this is for")
    if content["checked"] not in CHECKS:
        raise ProfileError(
            f"{path}: 'checked' must be one of {', '.join(map(repr, CHECKS))}, got {content['checked']!r}"
        )
    parameters = _parameters(path, content["parameters"])
    return CameraProfile(
        name=path.stem,
        description=content["description"].strip(),
        remappings=_remappings(path, content["remappings"], parameters),
        parameters=parameters,
        checked=content["checked"],
    )


def _find(name: str) -> Path:
    path = Path(name)
    if path.suffix == ".yaml" or path.parent != Path():
        if not path.is_file():
            raise ProfileError(f"{path}: there is no such camera profile")
        return path
    for folder in profile_folders():
        path = folder / f"{name}.yaml"
        if path.is_file():
            return path
    known = profile_names()
    raise ProfileError(
        f"there is no camera profile {name!r}{did_you_mean(name, known)}; the package has "
        f"{', '.join(known) or 'none installed'}; or give the path of a .yaml file"
    )


def _parameters(path: Path, given: Any) -> dict[str, Value]:
    if not isinstance(given, dict):
        raise ProfileError(f"{path}: 'parameters' must map the node's parameters to their values, got {given!r}")
    checked = {}
    for name, value in given.items():
        spec = _SPECS.get(name)
        if spec is None:
            raise ProfileError(f"{path}: the node has no parameter {name!r}{did_you_mean(name, _SPECS)}")
        try:
            checked[name] = spec.checked(value)
        except ParameterError as error:
            raise ProfileError(f"{path}: {error}") from error
    return checked


def _remappings(path: Path, given: Any, parameters: Mapping[str, Value]) -> dict[str, str]:
    if not isinstance(given, dict):
        raise ProfileError(f"{path}: 'remappings' must map the node's topics to the driver's, got {given!r}")
    topics: tuple[str, ...] = TOPICS
    if parameters.get("mode") == "multi":
        cameras: Any = parameters.get("cameras", _SPECS["cameras"].default)
        topics = (*topics, *(f"{name}/{topic}" for name in cameras for topic in ("image", "camera_info", "mask")))
    for topic, target in given.items():
        if topic not in topics:
            raise ProfileError(f"{path}: the node has no topic {topic!r}{did_you_mean(topic, topics)}")
        if not isinstance(target, str) or not _TOPIC.fullmatch(target):
            raise ProfileError(f"{path}: {target!r}, to which {topic!r} is remapped, is no name of a topic")
    return dict(given)
