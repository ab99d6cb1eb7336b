# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 quantize`: the calibration with which weights run in eight bits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .common import SEQUENCE_HELP, check_folder, check_positive, open_and_tell, parse_size


def add_parsers(subparsers: Any) -> None:
    """Add `quantize`."""
    parser = subparsers.add_parser("quantize", help="calibrate weights for precision int8 on images")
    parser.add_argument("model", metavar="MODEL", help="network, e.g. gcnv2_tiny")
    parser.add_argument("images", metavar="IMAGES", help=SEQUENCE_HELP)
    parser.add_argument("--weights", default="default", help="weights file (default: what the package ships)")
    parser.add_argument("--count", type=int, default=24, help="images, evenly spread (default: %(default)s)")
    parser.add_argument("--input-size", default="320x240", metavar="WxH", help="network input (default: %(default)s)")
    parser.add_argument(
        "--float-layers",
        nargs="*",
        default=None,
        metavar="NAME",
        help="convolutions to leave in float (default: the first one)",
    )
    parser.add_argument(
        "--out", type=Path, default=None, metavar="FILE.int8.json", help="file to write (default: beside the weights)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Calibrate and write."""
    import numpy as np

    from ..extraction.export import network_stride
    from ..extraction.options import ExtractionError, ExtractorOptions
    from ..extraction.preprocess import InputGeometry, check_image, network_input
    from ..extraction.quantization import calibrate, calibration_path, save_calibration
    from ..files import check_file
    from ..weights import load_weights

    weights = load_weights(arguments.weights, model=arguments.model)
    target = arguments.out or calibration_path(weights)
    if arguments.out is None and arguments.weights == "default" and target.exists():
        raise ExtractionError(
            f"the shipped weights have their calibration, {target}; choose precision int8, and nothing more. To make "
            f"another, name its file with --out"
        )
    check_file(target)
    check_folder(target.parent)
    check_positive(count=arguments.count)
    width, height = parse_size(arguments.input_size)
    size = ExtractorOptions(model=arguments.model, input_width=width, input_height=height).input_size
    sequence = open_and_tell(arguments.images)
    stride = network_stride(arguments.model)
    batches = []
    for index in np.unique(np.linspace(0, len(sequence) - 1, arguments.count).round().astype(int)).tolist():
        gray = sequence[index].gray
        check_image(gray)
        geometry = InputGeometry.of((gray.shape[1], gray.shape[0]), size, stride)
        batches.append(network_input([gray], [geometry]))
    calibration = calibrate(arguments.model, weights, batches, float_layers=arguments.float_layers)
    save_calibration(target, calibration)
    inside = ", ".join(calibration.float_layers) or "none"
    print(f"{target}: {arguments.model} with {weights.path.name}, {calibration.images} images, in float: {inside}")
