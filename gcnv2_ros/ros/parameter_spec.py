# SPDX-License-Identifier: Apache-2.0
"""What is known of one parameter of a node: type, default, range, choices, meaning."""

from __future__ import annotations

import array
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from ..errors import GCNv2Error

Scalar = bool | int | float | str
Value = Scalar | list[str] | list[int] | list[float]

_TYPE_NAMES: dict[type, str] = {bool: "bool", int: "integer", float: "double", str: "string"}


class ParameterError(GCNv2Error):
    """A parameter's value that the node cannot work with."""


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter.

    Attributes
    ----------
    name, default, description
        The default's Python type is the parameter's type. A list is never empty: an empty list in a parameter file has
        no type, and ROS refuses or forgets it.
    live
        Whether it may change while the node runs. The others are read-only: they are given at the start.
    minimum, maximum
        The range of a number, or of each number of a list; both ends included.
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
        return _TYPE_NAMES[self._scalar_type] + ("_array" if isinstance(self.default, list) else "")

    @property
    def constraint(self) -> str:
        """The range or the choices in words; empty where there is none."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:g} to {self.maximum:g}"
        return ""

    @property
    def _scalar_type(self) -> Any:
        return type(self.default[0] if isinstance(self.default, list) else self.default)

    def checked(self, value: Any) -> Value:
        """`value`, if it fits; a whole number is taken for a double too.

        Raises
        ------
        ParameterError
            If it has another type, or lies outside of the range or the choices.
        """
        if not isinstance(self.default, list):
            return self._checked_scalar(value, value)
        if not isinstance(value, list | tuple | array.array) or not len(value):
            raise self._wrong_type(value)
        entries: Any = [self._checked_scalar(entry, list(value)) for entry in value]
        checked: Value = entries
        return checked

    def _checked_scalar(self, value: Any, given: Any) -> Scalar:
        kind = self._scalar_type
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self._wrong_type(given)
        if self.choices and value not in self.choices:
            raise ParameterError(f"the parameter {self.name!r} must be {self.constraint}, got {given!r}")
        # Written so that NaN is outside.
        if self.minimum is not None and self.maximum is not None and not self.minimum <= value <= self.maximum:
            raise ParameterError(f"the parameter {self.name!r} must be in {self.constraint}, got {given!r}")
        checked: Scalar = value
        return checked

    def _wrong_type(self, value: Any) -> ParameterError:
        return ParameterError(f"the parameter {self.name!r} must be of the type {self.type_name}, got {value!r}")

    def descriptor(self) -> ParameterDescriptor:
        """The ROS descriptor, for tools that list or edit parameters."""
        descriptor = ParameterDescriptor(
            name=self.name,
            description=self.description,
            additional_constraints=self.constraint if self.choices else "",
            read_only=not self.live,
        )
        if self.minimum is not None and self.maximum is not None:
            if self._scalar_type is int:
                descriptor.integer_range = [IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum))]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum))
                ]
        return descriptor
