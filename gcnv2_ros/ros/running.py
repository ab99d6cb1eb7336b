# SPDX-License-Identifier: Apache-2.0
"""Running a node until the process is told to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node

from ..errors import GCNv2Error

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

SomeNode = TypeVar("SomeNode", bound=Node)


class _Stopped(BaseException):
    """A signal asks the process to end; not a KeyboardInterrupt, which can set Python's exit code even if caught."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped


class RosStartError(GCNv2Error):
    """ROS cannot start, for an argument, a file or a variable of the environment that it cannot read."""


def init_ros(arguments: Sequence[str] | None = None, context: Context | None = None) -> None:
    """Start ROS.

    Parameters
    ----------
    arguments
        Of ROS; None: the process's.
    context
        What is started; None: the process's own.

    Raises
    ------
    RosStartError
        With what is wrong.
    """
    try:
        rclpy.init(args=None if arguments is None else list(arguments), context=context)
    # rclpy's own error has no public name; its text says which argument, file or variable is wrong.
    except Exception as error:
        raise RosStartError(f"cannot start: {error}") from error


def run_node(
    name: str,
    create: Callable[[], SomeNode],
    *,
    arguments: Sequence[str] | None = None,
    start: Callable[[SomeNode], bool] = lambda node: True,
    close: Callable[[SomeNode], None] = lambda node: None,
) -> int:
    """Make a node and spin it until the process is told to stop; then destroy it.

    Parameters
    ----------
    name
        Of the node, for what is logged while there is none.
    create
        Makes it. A `GCNv2Error` of it is logged.
    arguments
        Of ROS; None: the process's.
    start
        Called with the node before it spins; tells whether it may. What went wrong is in the log.
    close
        Called with the node before it is destroyed, when signals are ignored.

    Returns
    -------
    int
        The process's exit code: 0 after SIGINT, SIGTERM or a shutdown of ROS, 1 if the node cannot start.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, _stop)
    node: SomeNode | None = None
    try:
        init_ros(arguments)
        node = create()
        if not start(node):
            return 1 if rclpy.ok() else 0
        rclpy.spin(node)
    except RosStartError as error:
        get_logger(name).fatal(str(error))
        return 1
    except GCNv2Error as error:
        get_logger(name).fatal(f"cannot start: {error}")
        return 1
    except (_Stopped, ExternalShutdownException):
        pass
    except Exception:
        # What a signal raises is lost if it comes in a finaliser; spinning on ROS's closed context then fails.
        if rclpy.ok():
            raise
    finally:
        # A terminal and ros2 launch both send SIGINT; the second one must not cut the end short.
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if node is not None:
            close(node)
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
