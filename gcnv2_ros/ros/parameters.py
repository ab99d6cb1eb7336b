# SPDX-License-Identifier: Apache-2.0
"""The parameters of the frontend node: one table, from which they are declared, checked and documented."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..errors import GCNv2Error
from ..extraction import DecodeOptions, ExtractorOptions

Value = bool | int | float | str

AUTOMATIC = -1
"""The value of a number that stands for the recommended one."""


class ParameterError(GCNv2Error):
    """A parameter's value that the node cannot work with."""


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter.

    Attributes
    ----------
    name, default, description
        The default's Python type is the parameter's type.
    live
        Whether it may change while the node runs. The others are read-only: they are given at the start.
    minimum, maximum
        The range of a number, both ends included.
    choices
        The values of a string; empty: any.
    """

    name: str
    default: Value
    description: str
    live: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def type_name(self) -> str:
        """The ROS name of the parameter's type."""
        return {bool: "bool", int: "integer", float: "double", str: "string"}[type(self.default)]

    @property
    def constraint(self) -> str:
        """The range or the choices in words; empty where there is neither."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:g} to {self.maximum:g}"
        return ""

    def checked(self, value: Any) -> Value:
        """`value`, if it fits; a whole number is taken for a double too.

        Raises
        ------
        ParameterError
            If it has another type, or lies outside of the range or the choices.
        """
        kind: Any = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ParameterError(f"the parameter {self.name!r} is a {self.type_name}, got {value!r}")
        if self.choices and value not in self.choices:
            raise ParameterError(f"the parameter {self.name!r} must be {self.constraint}, got {value!r}")
        # Written so that NaN is outside.
        if self.minimum is not None and self.maximum is not None and not self.minimum <= value <= self.maximum:
            raise ParameterError(f"the parameter {self.name!r} must be in {self.constraint}, got {value!r}")
        checked: Value = value
        return checked

    def descriptor(self) -> ParameterDescriptor:
        """The ROS descriptor, for tools that list or edit parameters."""
        descriptor = ParameterDescriptor(
            name=self.name,
            description=self.description,
            additional_constraints=self.constraint if self.choices else "",
            read_only=not self.live,
        )
        if self.minimum is not None and self.maximum is not None:
            if isinstance(self.default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum))]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum))
                ]
        return descriptor


_MODEL = ExtractorOptions()
_DECODE = DecodeOptions()
_RELIABILITY = ("best_effort", "reliable")

PARAMETERS: tuple[ParameterSpec, ...] = (
    ParameterSpec(
        "autostart",
        True,
        "Configure and activate at the start. false: wait for lifecycle transitions from outside.",
    ),
    ParameterSpec("model", _MODEL.model, "Name of the network (gcnv2, gcnv2_tiny, ...), or orb for OpenCV's ORB."),
    ParameterSpec(
        "weights",
        _MODEL.weights,
        "default: the weights that the package ships for the model; else a weights file.",
    ),
    ParameterSpec("runtime", _MODEL.runtime, "Inference engine by name; auto: the best one that is installed."),
    ParameterSpec("device", _MODEL.device, "auto (CUDA where there is one, else the CPU), cpu, cuda or cuda:N."),
    ParameterSpec(
        "precision",
        _MODEL.precision,
        "Arithmetic of the network. auto: what suits the device.",
        choices=("auto", "fp32", "fp16", "bf16"),
    ),
    ParameterSpec(
        "input_width",
        _MODEL.input_width,
        "Width in pixels to which images are resized for the network; 0 with input_height 0: the image's own size.",
        minimum=0,
        maximum=8192,
    ),
    ParameterSpec(
        "input_height",
        _MODEL.input_height,
        "Height in pixels to which images are resized for the network; 0 with input_width 0: the image's own size.",
        minimum=0,
        maximum=8192,
    ),
    ParameterSpec(
        "threads",
        _MODEL.threads,
        "CPU threads of the inference engine; 0: the engine's own choice.",
        minimum=0,
        maximum=1024,
    ),
    ParameterSpec(
        "max_keypoints",
        _DECODE.max_keypoints,
        "At most so many keypoints an image, the best ones.",
        live=True,
        minimum=1,
        maximum=20000,
    ),
    ParameterSpec(
        "score_threshold",
        float(AUTOMATIC),
        "Keypoints score above it; below 0: what the weights recommend for the input size.",
        live=True,
        minimum=-1.0,
        maximum=1.0,
    ),
    ParameterSpec(
        "nms_radius",
        AUTOMATIC,
        "A keypoint suppresses others within this distance in network pixels; -1: 4 at 320x240, 8 at 640x480.",
        live=True,
        minimum=-1,
        maximum=256,
    ),
    ParameterSpec(
        "border",
        AUTOMATIC,
        "Keypoints closer than this to an edge are dropped, in network pixels; -1: 8 at 320x240, 16 at 640x480.",
        live=True,
        minimum=-1,
        maximum=1024,
    ),
    ParameterSpec(
        "subpixel",
        _DECODE.subpixel,
        "Refine positions by a quadratic fit to the detector's logits.",
        live=True,
    ),
    ParameterSpec(
        "bucket_columns",
        _DECODE.bucket_columns,
        "Spread keypoints over a grid with so many columns; 0, or bucket_rows 0: no grid.",
        live=True,
        minimum=0,
        maximum=256,
    ),
    ParameterSpec(
        "bucket_rows",
        _DECODE.bucket_rows,
        "Spread keypoints over a grid with so many rows; 0, or bucket_columns 0: no grid.",
        live=True,
        minimum=0,
        maximum=256,
    ),
    ParameterSpec(
        "image_transport",
        "raw",
        "raw: sensor_msgs/Image on image. compressed: sensor_msgs/CompressedImage on image/compressed.",
        choices=("raw", "compressed"),
    ),
    ParameterSpec(
        "queue",
        "latest",
        "latest: the newest frame waits for the network, older ones are dropped. all: every frame waits, for replay.",
        choices=("latest", "all"),
    ),
    ParameterSpec(
        "queue_limit",
        2000,
        "Frames that may wait with queue: all; beyond it the oldest is dropped. Mind the memory.",
        minimum=1,
        maximum=100_000,
    ),
    ParameterSpec(
        "subscribe_reliability",
        "best_effort",
        "QoS of the image subscription. reliable never matches a best-effort camera; use it for replay.",
        choices=_RELIABILITY,
    ),
    ParameterSpec("subscribe_depth", 5, "QoS history depth of the image subscription.", minimum=1, maximum=10000),
    ParameterSpec(
        "publish_reliability",
        "reliable",
        "QoS of the published features and debug images.",
        choices=_RELIABILITY,
    ),
    ParameterSpec("publish_depth", 5, "QoS history depth of the published features.", minimum=1, maximum=10000),
    ParameterSpec(
        "image_timeout",
        5.0,
        "Seconds without an image after which a warning names the topic and its publishers; 0: never.",
        live=True,
        minimum=0.0,
        maximum=86400.0,
    ),
    ParameterSpec(
        "debug_image_rate",
        5.0,
        "At most so many debug images a second, and only while somebody subscribes; 0: none.",
        live=True,
        minimum=0.0,
        maximum=1000.0,
    ),
)
"""Every parameter of the node, in the order of the documentation."""

_SPECS = {spec.name: spec for spec in PARAMETERS}

# Names that ROS itself gives to every node.
_FOREIGN_NAMES = ("use_sim_time", "start_type_description_service")
_FOREIGN_PREFIXES = ("qos_overrides.",)


@dataclass(frozen=True)
class FrontendOptions:
    """The parameters' values as the node uses them; attributes beside the first two are named as the parameters.

    Attributes
    ----------
    extractor
        What the extractor is built from.
    decode
        How keypoints are chosen; may change while the node runs.
    """

    extractor: ExtractorOptions
    decode: DecodeOptions
    autostart: bool
    image_transport: str
    queue: str
    queue_limit: int
    subscribe_reliability: str
    subscribe_depth: int
    publish_reliability: str
    publish_depth: int
    image_timeout: float
    debug_image_rate: float

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> FrontendOptions:
        """Check the values of all parameters, each by itself and together.

        Raises
        ------
        ParameterError, ExtractionError
            With a sentence that names the parameter.
        """
        checked = {name: spec.checked(values[name]) for name, spec in _SPECS.items()}

        def take(*names: str) -> dict[str, Any]:
            return {name: checked.pop(name) for name in names}

        extractor = ExtractorOptions(
            **take("model", "weights", "runtime", "device", "precision", "input_width", "input_height", "threads")
        )
        decode = take("max_keypoints", "subpixel", "bucket_columns", "bucket_rows")
        # The two can only be set one after the other with the usual tools, so half a grid is no grid and no error.
        if not (decode["bucket_columns"] and decode["bucket_rows"]):
            decode["bucket_columns"] = decode["bucket_rows"] = 0
        for name, value in take("score_threshold", "nms_radius", "border").items():
            decode[name] = None if value < 0 else value
        return FrontendOptions(extractor=extractor, decode=DecodeOptions(**decode), **checked)  # type: ignore[arg-type]


def declare_parameters(node: Node) -> None:
    """Declare every parameter, with the values given at the start or the defaults.

    Given parameters that are not in the table are reported as a warning and ignored. The node must have been made with
    ``automatically_declare_parameters_from_overrides=True``, or what was given cannot be seen.

    Raises
    ------
    ParameterError
        If a given value has the wrong type, or is outside of its range or choices.
    """
    given = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
    for name in given:
        if name in _SPECS:
            node.undeclare_parameter(name)
        elif name not in _FOREIGN_NAMES and not name.startswith(_FOREIGN_PREFIXES):
            near = difflib.get_close_matches(name, _SPECS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            node.get_logger().warning(f"the parameter {name!r} is not one of this node's and is ignored{hint}")
            node.undeclare_parameter(name)
    for spec in PARAMETERS:
        value = spec.checked(given.get(spec.name, spec.default))
        node.declare_parameter(spec.name, value, spec.descriptor(), ignore_override=True)


def current_options(node: Node, changes: Iterable[Parameter] = ()) -> FrontendOptions:
    """The options from the node's parameters, as they would be with `changes`.

    Raises
    ------
    ParameterError, ExtractionError
        With a sentence that names the parameter.
    """
    values = {name: node.get_parameter(name).value for name in _SPECS}
    values.update({change.name: change.value for change in changes if change.name in _SPECS})
    return FrontendOptions.from_values(values)
