# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: the table, what is made from it, and what is refused."""

from __future__ import annotations

import array
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_helpers import REPOSITORY

from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.extraction import DecodeOptions, ExtractionError, ExtractorOptions
from gcnv2_ros.masks import MaskOptions
from gcnv2_ros.ros.declaration import declare_parameters
from gcnv2_ros.ros.odometry_parameters import ODOMETRY_PARAMETERS
from gcnv2_ros.ros.parameter_docs import render_markdown, render_yaml
from gcnv2_ros.ros.parameters import (
    PARAMETERS,
    FrontendOptions,
    ParameterError,
    ParameterSpec,
    current_options,
)
from gcnv2_ros.ros.synchronization import SyncOptions
from gcnv2_ros.stereo import StereoOptions

DEFAULTS = {spec.name: spec.default for spec in PARAMETERS}
CONFIG = REPOSITORY / "config" / "frontend.yaml"


def options(**values: Any) -> FrontendOptions:
    """The options for some values and the defaults of the others."""
    return FrontendOptions.from_values({**DEFAULTS, **values})


def test_the_defaults_are_those_of_the_extractor() -> None:
    assert options().extractor == ExtractorOptions()
    assert options().decode == DecodeOptions()


def test_values_reach_the_options() -> None:
    chosen = options(
        model="orb",
        device="cuda:1",
        input_width=320,
        input_height=240,
        max_keypoints=7,
        score_threshold=0.25,
        smoothing=0.0,
        candidates="peaks",
        detector="blobs",
        nms_radius=0,
        border=3,
        subpixel=False,
        bucket_columns=4,
        bucket_rows=3,
        queue="all",
        image_timeout=2.0,
    )
    assert chosen.extractor == ExtractorOptions(model="orb", device="cuda:1", input_width=320, input_height=240)
    assert chosen.decode == DecodeOptions(7, 0.25, 0.0, 0, 3, False, 4, 3, "peaks", "blobs")
    assert (chosen.queue, chosen.image_timeout) == ("all", 2.0)


def test_values_of_masks_stereo_and_synchronisation_reach_the_options() -> None:
    chosen = options(
        mode="multi",
        cameras=["front", "deck/left"],
        sync="exact",
        sync_queue=3,
        mask_labels=array.array("q", [3, -1, 11]),
        mask_keep="zero",
        crop_left=1,
        crop_top=2,
        crop_right=3,
        crop_bottom=4,
        stereo_max_disparity=50,
        stereo_row_tolerance=1.0,
        imu_rotation=[0, 0, 0, 1, 1, 0, 0, 0],
    )
    assert (chosen.mode, chosen.cameras) == ("multi", ("front", "deck/left"))
    assert chosen.synchronization == SyncOptions("exact", 0.01, 3)
    assert chosen.masks == MaskOptions(keep="zero", labels=(3, 11), border=(1, 2, 3, 4))
    assert chosen.stereo == StereoOptions(max_disparity=50.0, row_tolerance=1.0)
    assert chosen.imu_rotations == ((0.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.0, 0.0))
    assert options().masks == MaskOptions()
    assert options().stereo == StereoOptions()
    assert options().synchronization == SyncOptions()


def test_half_a_grid_is_no_grid() -> None:
    assert options(bucket_columns=4).decode == DecodeOptions()
    assert options(bucket_rows=4).decode == DecodeOptions()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("max_keypoints", 0, "'max_keypoints' must be in 1 to 20000, got 0"),
        ("max_keypoints", 10.0, "'max_keypoints' must be of the type integer, got 10.0"),
        ("max_keypoints", True, "'max_keypoints' must be of the type integer, got True"),
        ("subpixel", 1, "'subpixel' must be of the type bool, got 1"),
        ("weights", 5, "'weights' must be of the type string, got 5"),
        ("score_threshold", float("nan"), "'score_threshold' must be in"),
        ("queue", "newest", "'queue' must be one of latest, all, got 'newest'"),
        ("model", None, "'model' must be of the type string, got None"),
        ("mode", "mono3d", "'mode' must be one of mono, stereo, rgbd, multi, got 'mono3d'"),
        ("cameras", ["front", "front"], "'cameras' holds a name twice"),
        ("cameras", ["front camera"], "'cameras' holds 'front camera'"),
        ("cameras", ["a" * 101], "'cameras' holds a name of 101 letters, aaaaaaaaaaaaaaaaaaaa...; at most 100"),
        ("cameras", [], "'cameras' must be of the type string_array, got"),
        ("cameras", "front", "'cameras' must be of the type string_array, got 'front'"),
        ("mask_labels", [1, 2.5], "'mask_labels' must be of the type integer_array, got"),
        ("mask_labels", [-2], "'mask_labels' must be in -1 to"),
        ("imu_rotation", [0.0, 0.0, 0.0], "'imu_rotation' must have 4 numbers"),
        ("imu_rotation", [0.5, 0.0, 0.0, 0.0], "'imu_rotation' must hold quaternions of length 1"),
        ("sync_slop", -0.1, "'sync_slop' must be in"),
    ],
)
def test_wrong_values_are_refused_by_name(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        options(**{name: value})


def test_values_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ExtractionError, match="input_width and input_height"):
        options(input_width=320)
    with pytest.raises(ExtractionError, match="device"):
        options(device="tpu")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rectify": True}, "'rectify' must be false"),
        ({"image_transport": "compressed"}, "'image_transport' must be raw, got 'compressed'"),
        ({"mode": "rgbd", "depth_transport": "compressed"}, "'depth_transport' must be raw, got 'compressed'"),
    ],
)
def test_what_cannot_be_sent_to_rtabmap_is_refused(values: dict[str, Any], sentence: str) -> None:
    assert options(rtabmap=True, depth_transport="compressed").rtabmap
    assert not options(**values).rtabmap
    with pytest.raises(ParameterError, match=sentence):
        options(rtabmap=True, **values)


def test_a_whole_number_will_do_for_a_double() -> None:
    threshold = options(score_threshold=0).decode.score_threshold
    assert threshold == 0.0
    assert isinstance(threshold, float)


@pytest.mark.parametrize("spec", PARAMETERS, ids=lambda spec: spec.name)
def test_every_parameter_is_described(spec: ParameterSpec) -> None:
    assert spec.checked(spec.default) == spec.default
    assert spec.description[0].isalnum()
    assert spec.description.endswith(".")
    descriptor = spec.descriptor()
    assert descriptor.read_only is not spec.live
    assert descriptor.description == spec.description
    scalar = spec.default[0] if isinstance(spec.default, list) else spec.default
    if isinstance(scalar, int | float) and not isinstance(scalar, bool):
        ranges = descriptor.integer_range if isinstance(scalar, int) else descriptor.floating_point_range
        assert (ranges[0].from_value, ranges[0].to_value) == (spec.minimum, spec.maximum)


def test_names_are_unique() -> None:
    assert len(DEFAULTS) == len(PARAMETERS)


def test_the_shipped_file_lists_every_parameter_with_its_default_and_a_comment() -> None:
    text = CONFIG.read_text()
    content = yaml.safe_load(text)
    assert content == {"/**": {"ros__parameters": DEFAULTS}}
    assert list(content["/**"]["ros__parameters"]) == [spec.name for spec in PARAMETERS]
    lines = text.splitlines()
    for spec in PARAMETERS:
        index = next(number for number, line in enumerate(lines) if line.strip().startswith(f"{spec.name}:"))
        comment = ""
        while lines[index - 1].strip().startswith("#"):
            index -= 1
            comment = f"{lines[index].strip().removeprefix('# ')} {comment}"
        assert spec.description in comment
        assert ("[live]" in comment) is spec.live
    assert text == render_yaml(), "write it anew: python -m gcnv2_ros.ros.parameter_docs yaml > config/frontend.yaml"


def test_the_markdown_table_has_a_row_for_every_parameter() -> None:
    rows = render_markdown().splitlines()[2:]
    assert len(rows) == len(PARAMETERS)
    columns = rows[0].count("|")
    for row, spec in zip(rows, PARAMETERS, strict=True):
        assert row.startswith(f"| `{spec.name}` | {spec.type_name} |")
        assert row.count("|") == columns
        assert spec.description in row


@pytest.fixture
def context() -> Iterator[Context]:
    """A ROS context of the test's own."""
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


def make_node(context: Context, *arguments: str) -> Node:
    """A node that is given parameters as on a command line."""
    return Node(
        "parameters",
        context=context,
        cli_args=["--ros-args", *arguments],
        automatically_declare_parameters_from_overrides=True,
    )


def test_given_values_are_declared_and_others_get_their_defaults(context: Context) -> None:
    node = make_node(context, "--params-file", str(CONFIG), "-p", "max_keypoints:=5", "-p", "score_threshold:=0")
    declare_parameters(node, PARAMETERS)
    assert current_options(node) == options(max_keypoints=5, score_threshold=0.0)
    assert node.get_parameter("cameras").value == ["front", "rear"]
    assert node.describe_parameter("model").read_only
    assert not node.describe_parameter("max_keypoints").read_only


def test_unknown_parameters_are_not_declared(context: Context) -> None:
    node = make_node(context, "-p", "max_keypoint:=5", "-p", "use_sim_time:=true")
    declare_parameters(node, PARAMETERS)
    assert not node.has_parameter("max_keypoint")
    assert node.get_parameter("use_sim_time").value is True


def test_parameters_of_the_odometry_in_a_common_file_are_no_misspellings(
    context: Context, capfd: pytest.CaptureFixture[str]
) -> None:
    node = make_node(context, "-p", "min_inliers:=20", "-p", "queue:=all", "-p", "min_inlers:=20")
    values = declare_parameters(node, PARAMETERS, partner=lambda: ODOMETRY_PARAMETERS)
    assert values["queue"] == "all"
    assert not node.has_parameter("min_inliers")
    log = capfd.readouterr().err
    assert "ignored here: min_inliers\n" in log
    assert "'min_inliers' is not one" not in log
    assert "'min_inlers' is not one of this node's" in log


def test_a_wrong_value_at_the_start_is_an_error_that_names_it(context: Context) -> None:
    for argument in ("max_keypoints:=many", "max_keypoints:=0", "subpixel:=3", "queue:=newest"):
        with pytest.raises(GCNv2Error, match=argument.split(":")[0]):
            declare_parameters(make_node(context, "-p", argument), PARAMETERS)


def test_changes_are_tried_on_without_being_made(context: Context) -> None:
    node = make_node(context)
    declare_parameters(node, PARAMETERS)
    changed = current_options(node, [Parameter("max_keypoints", value=9), Parameter("use_sim_time", value=True)])
    assert changed == options(max_keypoints=9)
    assert current_options(node, [Parameter("mask_labels", value=[5, 6])]) == options(mask_labels=[5, 6])
    assert current_options(node) == options()
    with pytest.raises(ParameterError):
        current_options(node, [Parameter("score_threshold", value=7.0)])
