# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 benchmark-features`: homography, relative-pose, roll and tilt scores of any set of frontends, side by side."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from pathlib import Path
from typing import Any

from ..errors import GCNv2Error
from .common import SEQUENCE_HELP, check_charts, check_folder, check_positive, open_and_tell


def add_parsers(subparsers: Any) -> None:
    """Add `benchmark-features`."""
    parser = subparsers.add_parser(
        "benchmark-features", help="score frontends on homographies, relative pose, roll and tilt, with intervals"
    )
    parser.add_argument(
        "frontends",
        nargs="+",
        metavar="FRONTEND",
        help="MODEL[=WEIGHTS][@CAMERA_WxH][@WxH], e.g. orb gcnv2_tiny gcnv2_tiny@320x240",
    )
    parser.add_argument("--pictures", type=Path, default=None, help="folder of held-out pictures for homographies")
    parser.add_argument("--split", default=None, help="take only this split of the folder's index.csv")
    parser.add_argument("--pairs", type=int, default=100, help="synthetic homography pairs (default: %(default)s)")
    parser.add_argument("--roll-pairs", type=int, default=20, help="pairs a roll angle (default: %(default)s)")
    parser.add_argument("--tilt-pairs", type=int, default=20, help="pairs a tilt angle (default: %(default)s)")
    parser.add_argument("--oxford", type=Path, action="append", default=[], help="folder of an Oxford sequence (graf)")
    parser.add_argument("--sequence", default=None, help=f"with depth and poses, for relative pose; {SEQUENCE_HELP}")
    parser.add_argument("--budgets", type=int, nargs="+", default=[500, 1000], help="keypoints (default: 500 1000)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    parser.add_argument("--out", type=Path, default=None, help="folder for benchmark.json, benchmark.md, benchmark.png")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Collect the data, run, print and write."""
    from ..evaluation.benchmark import BenchmarkData, run_benchmark
    from ..evaluation.frontends import check_frontends_differ, check_names_differ, parse_frontend
    from ..evaluation.homography import load_oxford_sequence, synthetic_pairs
    from ..evaluation.tables import markdown_tables, plot_results
    from ..files import atomic_write
    from ..training.pictures import find_photographs

    if arguments.pictures is None and not arguments.oxford and arguments.sequence is None:
        raise GCNv2Error("there is nothing to compare frontends on: give --pictures, --oxford or --sequence")
    check_positive(
        pairs=arguments.pairs,
        roll_pairs=arguments.roll_pairs,
        tilt_pairs=arguments.tilt_pairs,
        budgets=min(arguments.budgets),
    )
    frontends = [parse_frontend(text, threads=arguments.threads) for text in arguments.frontends]
    check_frontends_differ(frontends)
    # Twice the same is once; a folder given as `.` has its own name.
    oxford = dict.fromkeys(folder.absolute() for folder in arguments.oxford)
    named = [("pose", "the relative pose of --sequence"), *((folder.name, f"--oxford {folder}") for folder in oxford)]
    if arguments.pictures is not None:
        named.insert(0, ("synthetic", f"--pictures {arguments.pictures}"))
    check_names_differ("parts of the benchmark", named, "rename the folder")
    if arguments.out is not None:
        check_folder(arguments.out)
        check_charts()
    homographies = {}
    rolls, tilts = {}, {}
    if arguments.pictures is not None:
        pictures = find_photographs(arguments.pictures, split=arguments.split)
        homographies["synthetic"] = synthetic_pairs(pictures, count=arguments.pairs, seed=7)
        rolls = {
            roll: synthetic_pairs(pictures, count=arguments.roll_pairs, seed=8, roll=roll) for roll in range(0, 181, 15)
        }
        tilts = {
            tilt: synthetic_pairs(pictures, count=arguments.tilt_pairs, seed=9, tilt=tilt) for tilt in range(15, 76, 15)
        }
    for folder in oxford:
        homographies[folder.name] = load_oxford_sequence(folder)
    sequence = open_and_tell(arguments.sequence) if arguments.sequence else None
    results = run_benchmark(
        frontends,
        BenchmarkData(homographies, rolls, tilts, sequence),
        budgets=arguments.budgets,
        say=lambda text: print(text, flush=True),
    )
    tables = markdown_tables(results)
    print(tables)
    if arguments.out is not None:
        record = {
            "date": datetime.date.today().isoformat(),
            "machine": platform.machine(),
            "frontends": {
                frontend.label: {**vars(frontend.options), "camera_size": frontend.camera_size}
                for frontend in frontends
            },
            "results": results,
        }
        atomic_write(arguments.out / "benchmark.json", json.dumps(record, indent=1))
        atomic_write(arguments.out / "benchmark.md", tables)
        plot_results(results, arguments.out / "benchmark.png")
        print(f"wrote {arguments.out}")
