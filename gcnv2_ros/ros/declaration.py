# SPDX-License-Identifier: Apache-2.0
"""Declaring a node's parameters: what was given at the start or the defaults, and a word on names that are not its."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from rclpy.node import Node

from .parameter_spec import ParameterSpec, Value

# Names that ROS itself gives to every node.
_FOREIGN_NAMES = ("use_sim_time", "start_type_description_service")
_FOREIGN_PREFIXES = ("qos_overrides.",)


def declare_parameters(
    node: Node, specs: Sequence[ParameterSpec], *, partner: Sequence[ParameterSpec] = ()
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
        Parameters of the node that is launched beside this one and may read the same file: given under ``/**``, they
        reach this node too. One line says that they are its partner's; a warning each would be noise.

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
    partner_names = {spec.name for spec in partner}
    given = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
    not_here = sorted(partner_names.intersection(given).difference(names))
    if not_here:
        node.get_logger().info(
            f"not this node's but those of the one beside it, and ignored here: {', '.join(not_here)}"
        )
    for name in given:
        if name in names:
            node.undeclare_parameter(name)
        elif name not in _FOREIGN_NAMES and not name.startswith(_FOREIGN_PREFIXES):
            node.undeclare_parameter(name)
            if name not in not_here:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                node.get_logger().warning(f"the parameter {name!r} is not one of this node's and is ignored{hint}")
    values = {}
    for spec in specs:
        values[spec.name] = spec.checked(given.get(spec.name, spec.default))
        node.declare_parameter(spec.name, values[spec.name], spec.descriptor(), ignore_override=True)
    return values
