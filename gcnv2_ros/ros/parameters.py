# SPDX-License-Identifier: Apache-2.0
"""The parameters of the frontend node, and the options that the node makes of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..extraction import DecodeOptions, ExtractorOptions
from ..masks import MaskOptions
from ..stereo import StereoOptions
from .parameter_spec import ParameterError, ParameterSpec, Value
from .parameter_table import AUTOMATIC, NO_LABEL, PARAMETERS
from .synchronization import SyncOptions

__all__ = [
    "AUTOMATIC",
    "PARAMETERS",
    "FrontendOptions",
    "ParameterError",
    "ParameterSpec",
    "Value",
    "current_options",
]

_CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")
# Names of topics, of which this is a part, have at most some 250 letters.
_LONGEST_CAMERA_NAME = 100

_SPECS = {spec.name: spec for spec in PARAMETERS}


@dataclass(frozen=True)
class FrontendOptions:
    """The parameters' values as the node uses them; attributes beside those listed are named as the parameters.

    Attributes
    ----------
    extractor
        What the extractor is built from.
    decode
        How keypoints are chosen; may change while the node runs.
    synchronization
        How the messages of a frame are brought together.
    masks
        What masks mean; may change while the node runs.
    stereo
        How a pair is matched; may change while the node runs.
    imu_rotations
        The parameter `imu_rotation`: one quaternion x, y, z, w for each camera.
    """

    extractor: ExtractorOptions
    decode: DecodeOptions
    synchronization: SyncOptions
    masks: MaskOptions
    stereo: StereoOptions
    autostart: bool
    mode: str
    cameras: tuple[str, ...]
    batch_wait: float
    image_transport: str
    depth_transport: str
    mask_transport: str
    stretch: str
    rectify: bool
    rectified_input: bool
    calibration_file: str
    right_calibration_file: str
    mask_source: str
    mask_file: str
    right_mask_file: str
    tracking: bool
    vins: bool
    rtabmap: bool
    upright: str
    upright_fixed_frame: str
    imu_rotations: tuple[tuple[float, ...], ...]
    queue: str
    queue_limit: int
    subscribe_reliability: str
    subscribe_depth: int
    publish_reliability: str
    publish_depth: int
    image_timeout: float
    debug_image_rate: float

    @property
    def rectified(self) -> bool:
        """Whether features are those of a rectified image, be it rectified before it came or in the node."""
        return self.rectify or self.rectified_input or self.mode == "stereo"

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> FrontendOptions:
        """Check the values of all parameters, each by itself and together.

        Raises
        ------
        GCNv2Error
            With a sentence that names the parameter.
        """
        checked = {name: spec.checked(values[name]) for name, spec in _SPECS.items()}

        def take(*names: str) -> dict[str, Any]:
            return {name: checked.pop(name) for name in names}

        _check_rtabmap(checked)
        extractor = ExtractorOptions(
            **take("model", "weights", "runtime", "device", "precision", "input_width", "input_height", "threads")
        )
        decode = take("max_keypoints", "detector", "candidates", "subpixel", "bucket_columns", "bucket_rows")
        # The two can only be set one after the other with the usual tools, so half a grid is no grid and no error.
        if not (decode["bucket_columns"] and decode["bucket_rows"]):
            decode["bucket_columns"] = decode["bucket_rows"] = 0
        for name, value in take("score_threshold", "smoothing", "nms_radius", "border").items():
            decode[name] = None if value < 0 else value
        sync = take("sync", "sync_slop", "sync_queue")
        crop = take("crop_left", "crop_top", "crop_right", "crop_bottom")
        mask = take("mask_keep", "mask_labels")
        stereo = take("stereo_max_distance", "stereo_max_disparity", "stereo_row_tolerance")
        if stereo["stereo_max_disparity"] < 0:
            stereo["stereo_max_disparity"] = None
        cameras = _checked_cameras(checked.pop("cameras"))  # type: ignore[arg-type]
        count = len(cameras) if checked["mode"] == "multi" else 1
        imu_rotations = _checked_rotations(checked.pop("imu_rotation"), count)  # type: ignore[arg-type]
        return FrontendOptions(
            extractor=extractor,
            decode=DecodeOptions(**decode),
            synchronization=SyncOptions(sync["sync"], sync["sync_slop"], sync["sync_queue"]),
            masks=MaskOptions(
                keep=mask["mask_keep"],
                labels=tuple(label for label in mask["mask_labels"] if label != NO_LABEL),
                border=tuple(crop.values()),  # type: ignore[arg-type]
            ),
            stereo=StereoOptions(
                max_descriptor_distance=None if stereo["stereo_max_distance"] < 0 else stereo["stereo_max_distance"],
                max_disparity=stereo["stereo_max_disparity"],
                row_tolerance=stereo["stereo_row_tolerance"],
            ),
            cameras=cameras,
            imu_rotations=imu_rotations,
            **checked,  # type: ignore[arg-type]
        )


def _check_rtabmap(values: Mapping[str, Any]) -> None:
    if values["rtabmap"] and values["rectify"]:
        raise ParameterError(
            "the parameter 'rtabmap' goes with rectified images only and sends them as they came, so 'rectify' must be "
            "false; give the node the images of a rectifying node (image_rect)"
        )
    transports = ("image_transport", "depth_transport") if values["mode"] == "rgbd" else ("image_transport",)
    for name in transports:
        if values["rtabmap"] and values[name] != "raw":
            raise ParameterError(
                f"the parameter 'rtabmap' needs raw images to send along, so {name!r} must be raw, got {values[name]!r}"
            )


def _checked_cameras(names: list[str]) -> tuple[str, ...]:
    for name in names:
        if len(name) > _LONGEST_CAMERA_NAME:
            raise ParameterError(
                f"the parameter 'cameras' holds a name of {len(name)} letters, {name[:20]}...; at most "
                f"{_LONGEST_CAMERA_NAME} leave room for the rest of a topic's name"
            )
        if not _CAMERA_NAME.fullmatch(name):
            raise ParameterError(
                f"the parameter 'cameras' holds {name!r}, which can be no part of a topic's name: letters, digits and _"
            )
    if len(set(names)) != len(names):
        raise ParameterError(f"the parameter 'cameras' holds a name twice: {', '.join(names)}")
    return tuple(names)


def _checked_rotations(numbers: list[float], cameras: int) -> tuple[tuple[float, ...], ...]:
    """One quaternion a camera; a single one holds for all."""
    if len(numbers) not in (4, 4 * cameras):
        raise ParameterError(
            f"the parameter 'imu_rotation' must have 4 numbers, or 4 for each of {cameras} cameras, got {len(numbers)}"
        )
    quaternions = np.reshape(numbers, (-1, 4))
    lengths = np.linalg.norm(quaternions, axis=1, keepdims=True)
    if np.any(np.abs(lengths - 1.0) > 0.01):
        raise ParameterError(f"the parameter 'imu_rotation' must hold quaternions of length 1, got {numbers}")
    return tuple(map(tuple, np.broadcast_to(quaternions / lengths, (cameras, 4)).tolist()))


def current_options(node: Node, changes: Iterable[Parameter] = ()) -> FrontendOptions:
    """The options from the node's parameters, as they would be with `changes`.

    Raises
    ------
    GCNv2Error
        With a sentence that names the parameter.
    """
    values = {name: node.get_parameter(name).value for name in _SPECS}
    values.update({change.name: change.value for change in changes if change.name in _SPECS})
    return FrontendOptions.from_values(values)
