# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 replay`: a sequence through the extractor into a bag, or onto ROS topics for the running node."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from ..errors import GCNv2Error
from .common import (
    SEQUENCE_HELP,
    add_extractor_arguments,
    check_folder,
    check_positive,
    check_ros,
    decode_options,
    extractor_options,
    open_and_tell,
)
from .progress import progress_bars

# Of the options onto ROS topics; None of the parser tells that one was not given.
_ONLINE = {"rate": 1.0, "clock": False, "reliability": "reliable", "namespace": "", "wait": 10.0}


def add_parsers(subparsers: Any) -> None:
    """Add `replay`."""
    parser = subparsers.add_parser(
        "replay", help="a sequence into a bag with its features (OUT given), or onto ROS topics for the running node"
    )
    parser.add_argument("sequence", metavar="SEQUENCE", help=SEQUENCE_HELP)
    parser.add_argument(
        "out",
        type=Path,
        nargs="?",
        default=None,
        metavar="OUT",
        help="NAME.mcap, or a folder: extract every frame, as fast as it goes; without it, publish on ROS topics",
    )
    parser.add_argument("--frames", type=int, default=None, help="at most so many (default: all)")
    parser.add_argument(
        "--node",
        default="gcnv2_frontend",
        help="name of the frontend, in the namespace unless it begins with / (default: %(default)s)",
    )
    online = parser.add_argument_group("onto ROS topics")
    online.add_argument("--rate", type=float, default=None, help="speed; 0: as fast as it goes (default: 1.0)")
    online.add_argument(
        "--clock", action="store_true", default=None, help="publish /clock, for nodes with use_sim_time"
    )
    online.add_argument(
        "--reliability",
        choices=("reliable", "best_effort"),
        default=None,
        help="of the images (default: reliable)",
    )
    online.add_argument("--namespace", default=None, help="of the topics and of the frontend (default: none)")
    online.add_argument("--wait", type=float, default=None, help="seconds to wait for a subscriber (default: 10)")
    add_extractor_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Replay, with a bar of progress, and say what became of the frames."""
    given = [name for name in _ONLINE if getattr(arguments, name) is not None]
    if arguments.out is not None and given:
        raise GCNv2Error(
            f"--{given[0]} is for a replay onto ROS topics, and {arguments.out} is to be a bag; leave one out"
        )
    vars(arguments).update({name: value for name, value in _ONLINE.items() if name not in given})
    if not (math.isfinite(arguments.rate) and arguments.rate >= 0):
        raise GCNv2Error(f"--rate must be 0 or more, got {arguments.rate}")
    check_positive(frames=arguments.frames)
    sequence = open_and_tell(arguments.sequence)
    if arguments.out is not None:
        check_folder(arguments.out.parent)
        _offline(arguments, sequence)
    else:
        _online(arguments, sequence)


def _offline(arguments: argparse.Namespace, sequence: Any) -> None:
    from ..extraction import create_extractor
    from ..replay import replay_to_bag

    with (
        create_extractor(extractor_options(arguments), decode_options(arguments)) as extractor,
        progress_bars() as bars,
    ):
        counts = replay_to_bag(
            sequence,
            arguments.out,
            extractor,
            node=arguments.node,
            frames=arguments.frames,
            progress=bars(sequence.name),
            say=_say,
        )
    print(f"{arguments.out}: " + ", ".join(f"{topic} ({count})" for topic, count in counts.items()))


def _online(arguments: argparse.Namespace, sequence: Any) -> None:
    check_ros("publishing on ROS topics")
    from ..ros.online_replay import replay_online

    with progress_bars() as bars:
        outcome = replay_online(
            sequence,
            rate=arguments.rate,
            clock=arguments.clock,
            reliability=arguments.reliability,
            namespace=arguments.namespace,
            node_name=arguments.node,
            wait=arguments.wait,
            frames=arguments.frames,
            progress=bars(sequence.name),
            say=_say,
        )
    for sentence in outcome.sentences():
        print(sentence)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
