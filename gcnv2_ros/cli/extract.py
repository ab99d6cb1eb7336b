# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 extract`: features of picture files, as arrays or drawn. `gcnv2 convert-weights`: weights to safetensors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..drawing import draw_keypoints
from ..errors import GCNv2Error
from ..files import atomic_path
from .common import add_extractor_arguments, check_folder, check_result, decode_options, extractor_options


class PictureError(GCNv2Error):
    """A picture whose result cannot be written."""


def add_parsers(subparsers: Any) -> None:
    """Add `extract` and `convert-weights`."""
    extract = subparsers.add_parser("extract", help="extract features of pictures to .npz files, or draw them")
    extract.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture files")
    extract.add_argument("--out", type=Path, default=None, help="folder for the results (default: beside each picture)")
    extract.add_argument("--draw", action="store_true", help="write IMAGE.keypoints.png instead of IMAGE.npz")
    add_extractor_arguments(extract)
    extract.set_defaults(run=run_extract)

    convert = subparsers.add_parser(
        "convert-weights",
        help="convert a state dict, a checkpoint or the authors' TorchScript archive to safetensors with metadata",
    )
    convert.add_argument(
        "source", type=Path, metavar="IN", help="state dict, checkpoint, TorchScript archive or .safetensors file"
    )
    convert.add_argument("target", type=Path, metavar="OUT", help=".safetensors file to write")
    convert.add_argument("--model", default=None, help="network (default: the one that the shapes fit)")
    convert.add_argument(
        "--sampling",
        choices=("bicubic", "half_pixel", "legacy"),
        default=None,
        help="how descriptors are sampled (default: as the file says, or legacy of TorchScript, half_pixel)",
    )
    convert.set_defaults(run=run_convert)


def run_extract(arguments: argparse.Namespace) -> None:
    """Extract and write, one picture after the other."""
    from ..extraction import create_extractor
    from ..sequences import Frame
    from ..sequences.reading import read_picture

    if arguments.out is not None:
        check_folder(arguments.out)
    targets = _targets(arguments.images, arguments.out, ".keypoints.png" if arguments.draw else ".npz")
    with create_extractor(extractor_options(arguments), decode_options(arguments)) as extractor:
        for path, target in targets:
            gray = Frame(0, 0, read_picture(path)).gray
            features = extractor.extract(gray)
            if arguments.draw:
                with atomic_path(target) as temporary:
                    if not cv2.imwrite(str(temporary), draw_keypoints(gray, features)):
                        raise PictureError(f"{target}: could not be written")
            else:
                with atomic_path(target) as temporary:
                    np.savez_compressed(
                        temporary,
                        uv=features.uv,
                        response=features.response,
                        descriptors=features.descriptors,
                        size=features.size,
                        angle=features.angle,
                        image_size=np.array(features.image_size),
                        model_info=np.array(extractor.info.to_json()),
                    )
            milliseconds = 1e3 * extractor.last_timings.total
            print(f"{target}: {len(features)} keypoints in {milliseconds:.1f} ms")
            sys.stdout.flush()


def _targets(pictures: Iterable[Path], out: Path | None, ending: str) -> list[tuple[Path, Path]]:
    """Each picture and the file to write for it; two pictures for one file are refused before anything is written."""
    targets: dict[Path, tuple[Path, Path]] = {}
    for path in pictures:
        target = (out or path.parent) / f"{path.stem}{ending}"
        other, _ = targets.setdefault(target.resolve(), (path, target))
        if other is not path:
            raise PictureError(
                f"{other} and {path} would both be written to {target}; extract them one after the other, with another "
                "--out each"
            )
    return list(targets.values())


def run_convert(arguments: argparse.Namespace) -> None:
    """Convert and say what the file is."""
    from ..weights import convert_weights

    check_result(arguments.target, ".safetensors", "a weights file")
    metadata = convert_weights(arguments.source, arguments.target, model=arguments.model, sampling=arguments.sampling)
    print(f"{arguments.target}: {metadata.model}, sampling {metadata.sampling}")
