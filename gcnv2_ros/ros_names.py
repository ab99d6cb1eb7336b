# SPDX-License-Identifier: Apache-2.0
"""Names of ROS nodes, topics and coordinate frames, without a ROS installation."""

from __future__ import annotations

import re

from .errors import GCNv2Error

# As the ROS middleware has it: tokens between slashes, none of which begins with a digit.
_TOKENS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


class RosNameError(GCNv2Error):
    """A name that no node, namespace or topic can have."""


def frame_name(frame: str) -> str:
    """A coordinate frame's name without the slash that ROS 1 once put before it."""
    return frame.removeprefix("/")


def full_namespace(namespace: str) -> str:
    """A namespace with a slash before it and none behind: ``robot``, ``/robot`` and ``/robot/`` are one.

    Returns
    -------
    str
        Such as ``/robot``, and an empty text for no namespace.

    Raises
    ------
    RosNameError
        If it is no name.
    """
    name = namespace.strip("/")
    return f"/{_checked(name, 'a namespace', namespace)}" if name else ""


def full_node_name(node: str, namespace: str = "") -> str:
    """The full name of a node, such as ``/robot/gcnv2_frontend``.

    Parameters
    ----------
    node
        With a slash before it the name is full already.
    namespace
        Where the node is, unless its name is full.

    Raises
    ------
    RosNameError
        If one of them is no name.
    """
    before = "" if node.startswith("/") else full_namespace(namespace)
    return f"{before}/{_checked(node.strip('/'), 'the name of a node', node)}"


def full_topic_name(topic: str) -> str:
    """The full name of a topic of no namespace: ``image`` and ``/image`` are one.

    Raises
    ------
    RosNameError
        If it is no name.
    """
    return f"/{_checked(topic.removeprefix('/'), 'the name of a topic', topic)}"


def _checked(name: str, what: str, given: str) -> str:
    if not _TOKENS.fullmatch(name):
        raise RosNameError(
            f"{given!r} cannot be {what}: between single slashes, names have letters, digits and _, and do not begin "
            "with a digit"
        )
    return name
