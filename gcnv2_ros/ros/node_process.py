# SPDX-License-Identifier: Apache-2.0
"""The frontend's node as a process of its own, in a ROS domain of its own, and what it takes of the machine."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.context import Context

from ..errors import GCNv2Error
from ..transport import set_up_large_images

_STOP_SECONDS = 30.0
_PRINTED_LINES = 8


class NodeProcessError(GCNv2Error):
    """The node did not start, or ended by itself."""


@dataclass(frozen=True)
class NodeProcess:
    """A running node, and a context of the domain that it is in."""

    process: subprocess.Popen
    context: Context

    def check(self, when: str) -> None:
        """Do nothing while the node runs.

        Raises
        ------
        NodeProcessError
            If it has ended; `when` completes the sentence.
        """
        if self.process.poll() is not None:
            raise NodeProcessError(f"the node ended with exit code {self.process.returncode} {when}")

    def processor_seconds(self) -> float | None:
        """Processor time that all threads of the node have taken so far; None where there is no /proc."""
        try:
            text = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return None
        # The name, in brackets, may hold spaces; time in user and in kernel mode are the 14th and the 15th field.
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Resident memory of the node; needs /proc."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running_node(parameters: Sequence[str]) -> Iterator[NodeProcess]:
    """Start the node with `parameters`, ``NAME:=VALUE``, and stop it at the end.

    This process's environment is set to the node's domain and transport.

    Raises
    ------
    NodeProcessError
        As it leaves the block, with what the node printed last.
    """
    # A domain of its own, so that neither a robot on the network nor another run is disturbed.
    domain = random.SystemRandom().randint(1, 100)
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    set_up_large_images(os.environ)
    arguments = [item for parameter in parameters for item in ("-p", parameter)]
    command = [sys.executable, "-m", "gcnv2_ros.ros.frontend", "--ros-args", *arguments]
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield NodeProcess(process, context)
        except NodeProcessError as error:
            log.seek(0)
            last = "\n".join(log.read().strip().splitlines()[-_PRINTED_LINES:])
            raise NodeProcessError(f"{error}; it printed:\n{last}") from error
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            rclpy.try_shutdown(context=context)
