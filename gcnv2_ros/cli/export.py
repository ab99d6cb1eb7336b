# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 export`: a network with its weights as an ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .common import check_result, parse_size


def add_parsers(subparsers: Any) -> None:
    """Add `export`."""
    parser = subparsers.add_parser("export", help="write a network with its weights as an ONNX file")
    parser.add_argument("model", metavar="MODEL", help="network, e.g. gcnv2_tiny")
    parser.add_argument("target", type=Path, metavar="OUT.onnx", help="file to write")
    parser.add_argument("--weights", default="default", help="weights file (default: what the package ships)")
    parser.add_argument(
        "--input-size", default="", metavar="WxH", help="fixed input, e.g. 320x240 (default: any multiples of 16)"
    )
    parser.add_argument(
        "--batch", type=int, default=1, help="images in a batch, with --input-size (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Export and say what the file takes."""
    from ..extraction.export import export_onnx, network_stride
    from ..weights import load_weights

    check_result(arguments.target, ".onnx", "an ONNX file")
    width, height = parse_size(arguments.input_size)
    size = (width, height) if arguments.input_size else None
    weights = load_weights(arguments.weights, model=arguments.model)
    export_onnx(arguments.target, arguments.model, weights, input_size=size, batch=arguments.batch)
    if size is None:
        shape = f"(any batch, 1, height, width), both multiples of {network_stride(arguments.model)}"
    else:
        shape = f"({arguments.batch}, 1, {height}, {width})"
    megabytes = arguments.target.stat().st_size / 1e6
    print(f"{arguments.target}: {arguments.model} with {weights.path.name}, {megabytes:.1f} MB, input {shape}")
