# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 demo`: play a sequence to the real node over real DDS and write a page about what it published."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GCNv2Error
from .common import MODEL_HELP, SEQUENCE_HELP, check_folder, check_positive, check_ros, open_and_tell, parse_size
from .demo_page import write_page

if TYPE_CHECKING:
    from ..sequences import Frame, Sequence


def add_parsers(subparsers: Any) -> None:
    """Add `demo`."""
    parser = subparsers.add_parser("demo", help="play a sequence to the node and write a page with what it published")
    parser.add_argument("--sequence", default="room:colour=true", help=f"{SEQUENCE_HELP} (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("gcnv2_demo"), help="folder of the page (default: %(default)s)"
    )
    parser.add_argument("--frames", type=int, default=150, help="play at most so many (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1.0, help="speed relative to the stamps (default: %(default)s)")
    parser.add_argument("--model", default="gcnv2_tiny", help=MODEL_HELP)
    parser.add_argument("--weights", default="default", help="weights file (default: what the package ships)")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N; of Intel gpu, gpu:N or npu (default: %(default)s)"
    )
    parser.add_argument("--input-size", default="640x480", metavar="WxH", help="network input (default: %(default)s)")
    parser.add_argument("--max-keypoints", type=int, default=1000, help="at most so many (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the network (default: all)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Render or read the frames, run the demonstration, write the page."""
    check_ros("`gcnv2 demo`")
    from ..ros.demonstration import run_demonstration

    check_positive(frames=arguments.frames)
    check_folder(arguments.out)
    width, height = parse_size(arguments.input_size)
    sequence = open_and_tell(arguments.sequence)
    frames = read_frames(sequence, arguments.frames)
    demonstration = run_demonstration(
        sequence,
        frames,
        parameters={
            "model": arguments.model,
            "weights": str(Path(arguments.weights).resolve()) if arguments.weights != "default" else "default",
            "device": arguments.device,
            "input_width": width,
            "input_height": height,
            "max_keypoints": arguments.max_keypoints,
            "threads": arguments.threads,
        },
        rate=arguments.rate,
        say=say,
    )
    if not demonstration.features:
        raise GCNv2Error("the node published nothing for any of the frames; see `gcnv2 doctor`")
    received = len(demonstration.features)
    counts = [len(features) for features in demonstration.features.values()]
    latencies = 1e3 * np.array(list(demonstration.latency.values()))
    say(
        f"{received} of {demonstration.published} frames came back as features "
        f"({demonstration.diagnostics.get('frames dropped', '?')} dropped by the node), "
        f"{received / demonstration.seconds:.1f} a second"
    )
    say(f"keypoints a frame: median {np.median(counts):.0f}, fewest {min(counts)}, most {max(counts)}")
    say(
        "latency from publishing to receiving: "
        f"median {np.median(latencies):.1f} ms, p99 {np.percentile(latencies, 99):.1f} ms"
    )
    page = write_page(arguments.out, sequence, frames, demonstration)
    say(f"wrote {page}")


def read_frames(sequence: Sequence, count: int) -> list[Frame]:
    """The first `count` frames, in memory, with a line of progress."""
    frames = []
    total = min(count, len(sequence))
    for index in range(total):
        frames.append(sequence[index])
        if sys.stderr.isatty():
            print(f"\rreading {sequence.name}: {index + 1} of {total}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return frames


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)
