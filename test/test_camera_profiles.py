# SPDX-License-Identifier: Apache-2.0
"""Camera profiles: all that are shipped fit the node, and one that does not says why."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from gcnv2_ros.ros.camera_profiles import CHECKS, ProfileError, load_profile, profile_names
from gcnv2_ros.ros.parameters import PARAMETERS, FrontendOptions
from gcnv2_ros.ros.topics import camera_topics

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = {spec.name: spec.default for spec in PARAMETERS}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "config" / "cameras").glob("*.yaml")))
def test_every_shipped_profile_sets_up_a_working_node(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert name in profile_names()
    options = FrontendOptions.from_values({**DEFAULTS, **profile.parameters})
    topics = camera_topics(options, "")
    for image in topics.images:
        assert profile.remappings.get(image.base, "").startswith("/"), f"{image.base} has no topic of the driver"
    for info in (topics.camera_info, topics.right_camera_info):
        assert info is None or info in profile.remappings or "calibration_file" in profile.description
    used = {image.base for image in topics.images} | {topics.camera_info, topics.right_camera_info, "imu"}
    assert set(profile.remappings) <= used, "a topic that this mode does not have"


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_is_in_the_documentation(name: str) -> None:
    text = (ROOT / "docs" / "camera_profiles.md").read_text()
    row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), None)
    assert row is not None
    profile = load_profile(name)
    assert profile.checked in row
    assert str(profile.parameters["mode"]) in row


def write(folder: Path, **changes: object) -> Path:
    lines = {
        "description": "a camera",
        "remappings": "{image: /front/image_raw}",
        "parameters": "{mode: mono}",
        "checked": f'"{CHECKS[1]}"',
        **changes,
    }
    path = folder / "mine.yaml"
    path.write_text("\n".join(f"{key}: {value}" for key, value in lines.items() if value is not None))
    return path


def test_a_profile_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, parameters="{mode: rgbd, sync_slop: 1}"))
    assert profile.name == "mine"
    assert profile.remappings == {"image": "/front/image_raw"}
    assert profile.parameters == {"mode": "rgbd", "sync_slop": 1.0}
    own = load_profile(write(tmp_path, remappings="{image: ~/image_raw, camera_info: camera/info}"))
    assert own.remappings == {"image": "~/image_raw", "camera_info": "camera/info"}


def test_the_mode_multi_has_topics_of_its_cameras(tmp_path: Path) -> None:
    parameters = "{mode: multi, cameras: [left, right]}"
    remappings = "{left/image: /a, right/camera_info: /b}"
    assert load_profile(write(tmp_path, parameters=parameters, remappings=remappings)).remappings["left/image"] == "/a"
    with pytest.raises(ProfileError, match="no topic 'rear/image'"):
        load_profile(write(tmp_path, parameters=parameters, remappings="{rear/image: /a}"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": "{mod: mono}"}, "no parameter 'mod' .did you mean 'mode'"),
        ({"parameters": "{mode: threed}"}, "mine.yaml: the parameter 'mode' must be one of"),
        ({"parameters": "{input_width: wide}"}, "'input_width' must be of the type integer"),
        ({"parameters": "[mode]"}, "must map the node's parameters"),
        ({"remappings": "{imgae: /a}"}, "no topic 'imgae' .did you mean 'image'"),
        ({"remappings": "{image: 'two words'}"}, "is no name of a topic"),
        ({"remappings": "{image: '~image'}"}, "'~image', to which 'image' is remapped, is no name of a topic"),
        ({"remappings": "{image: 3}"}, "3, to which 'image' is remapped"),
        ({"remappings": "3"}, "must map the node's topics"),
        ({"checked": "by eye"}, "'checked' must be one of"),
        ({"checked": None}, "'checked' is missing"),
        ({"description": "''"}, "which camera"),
        ({"topics": "{}"}, "'topics' is unknown"),
        ({"parameters": "{mode: ["}, "cannot be read as YAML"),
    ],
)
def test_a_profile_that_does_not_fit_says_why(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        load_profile(write(tmp_path, **changes))


def test_a_profile_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"no camera profile 'realsense' .*realsense_d455, "):
        load_profile("realsense")
    with pytest.raises(ProfileError, match="no such camera profile"):
        load_profile(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(ProfileError, match="expected a mapping"):
        load_profile(tmp_path / "list.yaml")
