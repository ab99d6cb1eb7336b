# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 calibration`: calibration files of other programs as files of ROS, a stereo pair's with rectification."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .common import check_folder

_FILE = "calibration file of ROS, OpenCV, ORB-SLAM, Kalibr or EuRoC; FILE#NAME for one camera of several"


def add_parsers(subparsers: Any) -> None:
    """Add `calibration`."""
    parser = subparsers.add_parser("calibration", help="convert calibration files to ROS; rectify a stereo pair")
    parser.add_argument("camera", metavar="FILE", help=_FILE)
    parser.add_argument("right", metavar="RIGHT", nargs="?", help="the same of a stereo pair's right camera")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="gets camera.yaml, or left.yaml and right.yaml"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Read, rectify where there are two, and write."""
    import yaml

    from ..calibration_files import read_calibration
    from ..camera import CameraError
    from ..files import atomic_write, refuse_existing
    from ..stereo_calibration import read_stereo_calibration

    if arguments.right is None:
        cameras = {"camera": read_calibration(arguments.camera)}
    else:
        cameras = dict(zip(("left", "right"), read_stereo_calibration(arguments.camera, arguments.right), strict=True))
    check_folder(arguments.out)
    targets = {name: arguments.out / f"{name}.yaml" for name in cameras}
    for target in targets.values():
        refuse_existing(target, CameraError)
    for name, camera in cameras.items():
        atomic_write(targets[name], yaml.safe_dump({**camera.to_dict(), "camera_name": name}, sort_keys=False))
        print(
            f"{targets[name]}: {camera.width}x{camera.height}, fx {camera.fx:.2f}, fy {camera.fy:.2f}, {camera.model}"
        )
    if "right" in cameras:
        rectified = cameras["left"].rectified()
        print(f"baseline {cameras['right'].baseline:.4f} m, rectified fx {rectified.fx:.2f}")
