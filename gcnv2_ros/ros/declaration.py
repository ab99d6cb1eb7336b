# SPDX-License-Identifier: Apache-2.0
"""Declaring a node's parameters: what was given at the start or the defaults, and a word on names that are not its."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from rclpy.node import Node

from .parameter_spec import ParameterSpec, Value

# Names that ROS itself gives to every node.
_FOREIGN_NAMES = ("use_sim_time", "start_type_description_service")
_FOREIGN_PREFIXES = ("qos_overrides.",)


def declare_parameters(
    node: Node, specs: Sequence[ParameterSpec], *, partner: Callable[[], Sequence[ParameterSpec]] = tuple
) -> dict[str, Value]:
    """Declare every parameter of a table, with the values given at the start or the defaults.

    Given parameters that are not in the table are reported as a warning and ignored. The node must have been made with
    ``automatically_declare_parameters_from_overrides=True``, or what was given cannot be seen.

    Parameters
    ----------
    node
        Whose parameters they are.
    specs
        The table.
    partner
        Gives the parameters of the node that is launched beside this one and may read the same file: given under
        ``/**``, they reach this node too. One line says that they are its partner's; a warning each would be noise.
        Called only where there is a name that is not this node's.

    Returns
    -------
    dict
        The values by name.

    Raises
    ------
    ParameterError
        If a given value has the wrong type, or is outside of its range or choices.
    """
    names = [spec.name for spec in specs]
    parameters = node.get_parameters_by_prefix("")
    given = {name: parameter.value for name, parameter in parameters.items() if not _is_of_ros(name)}
    for name in given:
        node.undeclare_parameter(name)
    others = [name for name in given if name not in names]
    of_partner = {spec.name for spec in partner()} if others else set()
    known = sorted(of_partner.intersection(others))
    if known:
        node.get_logger().info(f"not this node's but those of the one beside it, and ignored here: {', '.join(known)}")
    for name in others:
        if name not in of_partner:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            node.get_logger().warning(f"the parameter {name!r} is not one of this node's and is ignored{hint}")
    values = {}
    for spec in specs:
        values[spec.name] = spec.checked(given.get(spec.name, spec.default))
        node.declare_parameter(spec.name, values[spec.name], spec.descriptor(), ignore_override=True)
    return values


def _is_of_ros(name: str) -> bool:
    return name in _FOREIGN_NAMES or name.startswith(_FOREIGN_PREFIXES)
