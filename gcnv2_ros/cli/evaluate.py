# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 evaluate`: frontends on sequences, from a recording to figures with intervals and a page with pictures."""

from __future__ import annotations

import argparse
import datetime
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import SEQUENCE_HELP, check_charts, check_folder, check_positive
from .progress import progress_bars

if TYPE_CHECKING:
    from ..evaluation.frontends import Frontend


def add_parsers(subparsers: Any) -> None:
    """Add `evaluate`."""
    parser = subparsers.add_parser("evaluate", help="compare frontends on sequences: table, JSON, trajectories, report")
    parser.add_argument(
        "frontends",
        nargs="+",
        metavar="FRONTEND",
        help="MODEL[=WEIGHTS][@CAMERA_WxH][@WxH], e.g. gcnv2_tiny orb sift orb@320x240; the reference is added where "
        "it is not named",
    )
    parser.add_argument(
        "--sequence", action="append", required=True, metavar="SEQUENCE", help=f"may be repeated; {SEQUENCE_HELP}"
    )
    parser.add_argument("--reference", default="orb", help="frontend to compare with (default: %(default)s)")
    parser.add_argument("--max-keypoints", type=int, default=1000, help="budget an image (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=None, help="at most so many of each sequence (default: all)")
    parser.add_argument("--runs", type=int, default=3, help="of the odometry, a frame apart (default: %(default)s)")
    parser.add_argument("--no-odometry", action="store_true", help="leave the odometry out")
    parser.add_argument(
        "--orbslam3",
        type=Path,
        default=None,
        metavar="VOCABULARY",
        help="run ORB-SLAM3 too (pip install pyorbslam3, GPL), with this DBoW2 vocabulary (.txt or .txt.xz)",
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the networks (default: all)")
    parser.add_argument(
        "--out", type=Path, default=Path("gcnv2_evaluation"), help="folder of the results (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate sequence by sequence, print, write."""
    from ..evaluation.comparison import Comparison, ComparisonOptions, compare
    from ..evaluation.frontends import check_frontends_differ, parse_frontend
    from ..evaluation.orbslam3 import check_orbslam3, with_orbslam3
    from ..evaluation.output import text_tables, write_outputs
    from ..evaluation.trajectory import check_evo
    from ..sequences import open_sequence

    check_positive(runs=arguments.runs, max_keypoints=arguments.max_keypoints, frames=arguments.frames)
    check_folder(arguments.out)
    check_charts()
    if arguments.orbslam3 is not None or not arguments.no_odometry:
        check_evo()
    frontends = [parse_frontend(text, threads=arguments.threads) for text in arguments.frontends]
    reference = parse_frontend(arguments.reference, threads=arguments.threads)
    if reference.label not in [frontend.label for frontend in frontends]:
        frontends.append(reference)
    check_frontends_differ(frontends)
    if arguments.orbslam3 is not None:
        check_orbslam3(arguments.orbslam3)
    # All of them are opened first, too: what cannot be read should not come out after hours.
    sequences = [open_sequence(text) for text in arguments.sequence]
    options = ComparisonOptions(
        max_keypoints=arguments.max_keypoints,
        frames=arguments.frames,
        reference=reference.label,
        odometry=not arguments.no_odometry,
        runs=arguments.runs,
    )
    comparisons: list[Comparison] = []
    for sequence in sequences:
        with progress_bars(f"{sequence.name}: ") as bars:
            comparison = compare(sequence, frontends, options, progress=bars)
            if arguments.orbslam3 is not None:
                comparison = with_orbslam3(comparison, sequence, arguments.orbslam3, progress=bars("ORB-SLAM3"))
        for note in comparison.recording.notes:
            print(f"{sequence.name}: {note}")
        print(text_tables(comparison, reference.label), flush=True)
        comparisons.append(comparison)
    paths = write_outputs(
        arguments.out,
        comparisons,
        {
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
            "reference": reference.label,
            "max_keypoints": arguments.max_keypoints,
            "frontends": {frontend.label: _describe(frontend) for frontend in frontends},
        },
    )
    print(f"wrote {paths[0]}, {paths[1].name} and {len(paths) - 2} trajectories")


def _describe(frontend: Frontend) -> str:
    options = frontend.options
    size = (
        f"images resized to {options.input_width}x{options.input_height}"
        if options.input_width
        else "images as they are"
    )
    if frontend.camera_size is not None:
        size = "images reduced to {}x{}, then ".format(*frontend.camera_size) + size.removeprefix("images ")
    weights = "" if options.weights == "default" else f", weights {Path(options.weights).name}"
    return f"model {options.model}{weights}, {size}"
