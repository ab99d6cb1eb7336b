# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 to-bag`: any sequence as a bag that plays."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import GCNv2Error
from .common import SEQUENCE_HELP, check_folder, check_positive, open_and_tell

TOPIC_ROLES = ("image", "depth", "right", "camera_info", "right_camera_info", "ground_truth")


def add_parsers(subparsers: Any) -> None:
    """Add `to-bag`."""
    parser = subparsers.add_parser("to-bag", help="write a sequence as a bag that `ros2 bag play` plays")
    parser.add_argument(
        "sequence",
        metavar="SEQUENCE",
        help=SEQUENCE_HELP,
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="NAME.mcap (one file), NAME.bag (ROS 1) or NAME (a rosbag2 folder)"
    )
    parser.add_argument(
        "--format",
        choices=("mcap", "sqlite3", "ros1"),
        default=None,
        help="default: by OUT's suffix, and mcap without one",
    )
    parser.add_argument(
        "--depth-encoding",
        choices=("32FC1", "16UC1"),
        default="32FC1",
        help="metres as they are, or millimetres (default: %(default)s)",
    )
    parser.add_argument("--frames", type=int, default=None, help="write at most so many (default: all)")
    parser.add_argument("--no-tf", action="store_true", help="leave /tf out; /ground_truth has the poses")
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="ROLE=TOPIC",
        help=f"of a SEQUENCE that is a bag; ROLE is {', '.join(TOPIC_ROLES)}; an empty TOPIC leaves it out",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Write the bag, with a line of progress, and say what is in it."""
    from ..sequences.bag_writer import write_bag

    check_positive(frames=arguments.frames)
    check_folder(arguments.out.parent)
    sequence = open_and_tell(arguments.sequence, **_topics(arguments.topic))
    counts = write_bag(
        sequence,
        arguments.out,
        bag_format=arguments.format,
        depth_encoding=arguments.depth_encoding,
        tf=not arguments.no_tf,
        frames=arguments.frames,
        progress=_progress if sys.stderr.isatty() else None,
    )
    print(f"{arguments.out}: " + ", ".join(f"{topic} ({count})" for topic, count in counts.items()))


def _topics(entries: list[str]) -> dict[str, str]:
    topics = {}
    for entry in entries:
        role, equals, topic = entry.partition("=")
        if role not in TOPIC_ROLES or not equals:
            raise GCNv2Error(f"--topic takes ROLE=TOPIC with ROLE one of {', '.join(TOPIC_ROLES)}, got {entry!r}")
        topics[role] = topic
    return topics


def _progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} frames", end="\n" if done == total else "", file=sys.stderr, flush=True)
