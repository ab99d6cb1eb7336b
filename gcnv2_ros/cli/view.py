# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 view`: a sequence or the running node's topics in Rerun's viewer, or as a Rerun file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import GCNv2Error
from .common import (
    SEQUENCE_HELP,
    add_extractor_arguments,
    check_result,
    check_ros,
    decode_options,
    extractor_options,
    open_and_tell,
)

# With one of them X11 or Wayland, and so Rerun's viewer, has somewhere to open a window.
_DISPLAY_VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY")


class ViewArgumentError(GCNv2Error):
    """Options of `gcnv2 view` that do not go together, or not with this machine."""


class NothingSeenError(GCNv2Error):
    """A live view to which no features came."""


def add_parsers(subparsers: Any) -> None:
    """Add `view`."""
    parser = subparsers.add_parser("view", help="images, keypoints, matches, depth and trajectory in Rerun's viewer")
    parser.add_argument("sequence", nargs="?", default=None, metavar="SEQUENCE", help=SEQUENCE_HELP)
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.rrd", help="write a file (default: the viewer)")
    parser.add_argument("--frames", type=int, default=None, help="at most so many frames (default: all)")
    parser.add_argument("--step", type=int, default=1, help="every so many frames only (default: %(default)s)")
    live = parser.add_argument_group("live")
    live.add_argument("--live", action="store_true", help="show topics of a running node in place of a sequence")
    live.add_argument("--node", default="/gcnv2_frontend", help="the frontend node (default: %(default)s)")
    live.add_argument("--image", default="/image", help="its image topic, raw (default: %(default)s)")
    live.add_argument(
        "--odometry",
        default="/gcnv2_odometry/odometry",
        help="nav_msgs/Odometry of the camera's path (default: %(default)s)",
    )
    live.add_argument("--seconds", type=float, default=None, help="stop after so long (default: at Ctrl-C)")
    add_extractor_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Show a sequence or what is on the air."""
    if arguments.live == (arguments.sequence is not None):
        raise ViewArgumentError("give a sequence, or --live for the topics of a running node")
    if arguments.step < 1 or (arguments.frames is not None and arguments.frames < 1):
        raise ViewArgumentError("--step and --frames must be at least 1")
    if arguments.out is not None:
        check_result(arguments.out, ".rrd", "a Rerun file")
    # Written so that NaN is refused too.
    if arguments.seconds is not None and not arguments.seconds > 0:
        raise ViewArgumentError(f"--seconds must be above 0, got {arguments.seconds:g}")
    if arguments.out is None and sys.platform == "linux" and not any(map(os.environ.get, _DISPLAY_VARIABLES)):
        raise ViewArgumentError(
            f"no display for Rerun's viewer ({' and '.join(_DISPLAY_VARIABLES)} are not set): use --out FILE.rrd"
        )
    if arguments.live:
        check_ros("`gcnv2 view --live`")
        from ..ros.live_view import run_live

        count = run_live(
            node=arguments.node,
            image=arguments.image,
            odometry=arguments.odometry,
            out=arguments.out,
            seconds=arguments.seconds,
        )
        if not count:
            raise NothingSeenError(
                f"no features of {arguments.node} came: is the node running, active, and is that its name (--node)?"
            )
    else:
        count = view_sequence(arguments)
    print(f"{count} frames" + (f" in {arguments.out}; open it with: rerun {arguments.out}" if arguments.out else ""))


def view_sequence(arguments: argparse.Namespace) -> int:
    """Extract and show frame by frame; returns how many."""
    from ..depth import sample_depth
    from ..extraction import create_extractor
    from ..visualisation import RerunView

    sequence = open_and_tell(arguments.sequence)
    indices = range(0, len(sequence), arguments.step)[: arguments.frames]
    with (
        RerunView(arguments.out) as view,
        create_extractor(extractor_options(arguments), decode_options(arguments)) as extractor,
    ):
        camera = sequence.camera
        if camera is not None:
            view.show_camera(camera)
        for index in indices:
            frame = sequence[index]
            view.set_time(frame.stamp_ns, frame.index)
            features = extractor.extract(frame.gray)
            view.show_image(frame.image)
            if frame.right is not None:
                view.show_image(frame.right, right=True)
            if frame.pose is not None:
                view.show_pose(frame.pose)
            rays = None
            if frame.depth is not None:
                view.show_depth(frame.depth)
                features = features.with_arrays(depth=sample_depth(frame.depth, features.uv, features.image_size))
                rays = None if camera is None else camera.rays(features.uv)
            matches = view.show_features(features, rays)
            print(f"frame {frame.index}: {len(features)} keypoints, {matches} matches", flush=True)
    return len(indices)
