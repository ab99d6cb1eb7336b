# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 colmap`: pictures to a COLMAP database of this package's features, and on request to a reconstruction."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import check_folder, open_and_tell

if TYPE_CHECKING:
    from ..camera import Camera
    from ..features import Features
    from ..sequences import Sequence

_FRAMES_A_LINE = 20


def add_parsers(subparsers: Any) -> None:
    """Add `colmap`."""
    parser = subparsers.add_parser("colmap", help="write a COLMAP database of features and verified matches, or map it")
    parser.add_argument(
        "images",
        metavar="IMAGES",
        help="folder of pictures, used where they are; or a data set, bag, video or room:seed=1, whose frames are "
        "written to OUT/images",
    )
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="folder for database.db, of which there must be none yet (and images/, sparse/)",
    )
    parser.add_argument(
        "--frontend",
        default="gcnv2_tiny",
        help="MODEL[=WEIGHTS][@WIDTHxHEIGHT], e.g. orb or gcnv2_tiny@640x480 (default: %(default)s)",
    )
    parser.add_argument("--max-keypoints", type=int, default=2000, help="at most so many (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th frame (default: all)")
    parser.add_argument(
        "--pairs",
        choices=("exhaustive", "sequential"),
        default="exhaustive",
        help="match all images with all, or each with those that follow it, for videos (default: %(default)s)",
    )
    parser.add_argument(
        "--overlap", type=int, default=10, help="sequential: how many that follow (default: %(default)s)"
    )
    parser.add_argument(
        "--ratio", type=float, default=0.8, help="of the ratio test, 1.0 for hardly any (default: %(default)s)"
    )
    parser.add_argument(
        "--camera",
        metavar="FILE",
        default="",
        help="calibration file of ROS, OpenCV, ORB-SLAM, Kalibr or EuRoC, or 'unknown' (default: the sequence's own, "
        "camera.yaml in a folder of pictures)",
    )
    parser.add_argument("--map", action="store_true", help="reconstruct with pycolmap into OUT/sparse")
    parser.set_defaults(run=run_colmap)


def run_colmap(arguments: argparse.Namespace) -> None:
    """Extract, match, verify, write; map where asked to."""
    from ..calibration_files import read_calibration
    from ..colmap import ColmapError, image_pairs, load_pycolmap, reconstruct, write_database
    from ..evaluation.frontends import parse_frontend
    from ..files import refuse_existing

    if arguments.every < 1:
        raise ColmapError(f"--every must be at least 1, got {arguments.every}")
    # Whatever would fail after the extraction is looked at first: that can take hours.
    load_pycolmap()
    check_folder(arguments.out)
    database = arguments.out / "database.db"
    refuse_existing(database, ColmapError)
    if not 0.0 < arguments.ratio <= 1.0:
        raise ColmapError(f"--ratio must be above 0 and at most 1, got {arguments.ratio}")
    sequence = open_and_tell(arguments.images)
    if arguments.camera == "unknown":
        camera = None
    else:
        camera = read_calibration(arguments.camera) if arguments.camera else sequence.camera
    count = len(range(0, len(sequence), arguments.every))
    pairs = image_pairs(count, arguments.pairs, overlap=arguments.overlap)
    frontend = parse_frontend(arguments.frontend)
    images, names, features = _extracted(sequence, arguments, frontend.create(arguments.max_keypoints), camera)
    summary = write_database(database, images, names, features, pairs, camera=camera, ratio=arguments.ratio)
    print(
        f"{database}: {summary.images} images, {summary.keypoints} keypoints, {summary.inliers} verified matches "
        f"in {summary.verified_pairs} pairs"
    )
    if not arguments.map:
        sparse = str(arguments.out / "sparse")
        mapper = ["colmap", "mapper", "--database_path", str(database), "--image_path", str(images)]
        print(f"map it with: {shlex.join(['mkdir', '-p', sparse])} && {shlex.join([*mapper, '--output_path', sparse])}")
        return
    model = reconstruct(database, images, arguments.out / "sparse", calibrated=camera is not None)
    print(
        f"{arguments.out / 'sparse'}: {model.num_reg_images()} of {summary.images} images registered, "
        f"{model.num_points3D()} points, reprojection error {model.compute_mean_reprojection_error():.2f} px"
    )


def _extracted(
    sequence: Sequence, arguments: argparse.Namespace, extractor: Any, camera: Camera | None
) -> tuple[Path, list[str], list[Features]]:
    """Folder and names of the pictures, written there first unless the sequence is a folder of them; their features."""
    import cv2

    from ..colmap import ColmapError, check_size
    from ..files import atomic_path
    from ..sequences import ImageSequence

    pictures = sequence.pictures if isinstance(sequence, ImageSequence) else []
    images = pictures[0].parent if pictures else arguments.out / "images"
    names: list[str] = []
    features: list[Features] = []
    with extractor:
        for index in range(0, len(sequence), arguments.every):
            frame = sequence[index]
            names.append(pictures[index].name if pictures else f"{index:06d}.png")
            check_size(names[-1], frame.gray.shape[1::-1], camera)
            if not pictures:
                with atomic_path(images / names[-1]) as temporary:
                    if not cv2.imwrite(str(temporary), frame.image):
                        raise ColmapError(f"{images / names[-1]}: could not be written")
            features.append(extractor.extract(frame.gray))
            if len(names) % _FRAMES_A_LINE == 0:
                print(f"{arguments.images}: {len(names)} images", file=sys.stderr, flush=True)
    return images, names, features
