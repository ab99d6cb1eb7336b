# SPDX-License-Identifier: Apache-2.0
"""Options that several subcommands share."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import GCNv2Error
from ..files import check_file
from ..image_size import read_size
from ..libraries import import_library

if TYPE_CHECKING:
    from ..extraction import DecodeOptions, ExtractorOptions
    from ..sequences import Sequence

SEQUENCE_HELP = (
    "TUM, EuRoC, KITTI or picture folder, bag, video, or room:OPTIONS; options of its reader follow an @: "
    "clip@clock_offset=-0.011, or drive.mcap@image=/front/image,depth="
)

MODEL_HELP = (
    "network (gcnv2_tiny, gcnv2, gcnv2_mobile), orb, sift, or aliked-n16 or aliked-n16rot, which need --weights "
    "(default: %(default)s)"
)

ROS_ADVICE = "source a ROS 2 installation, or, in the clone of this package: pip install '.[ros]'"
"""How to get what the ROS side of the package needs."""


def open_and_tell(spec: str, **options: Any) -> Sequence:
    """Open a sequence as `open_sequence` does, and tell on standard error what it lacks or leaves out."""
    from ..sequences import open_sequence

    sequence = open_sequence(spec, **options)
    for note in sequence.notes:
        print(f"{sequence.name}: {note}", file=sys.stderr)
    return sequence


def add_extractor_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what an extractor is built from, named as the node's parameters."""
    group = parser.add_argument_group("extractor")
    group.add_argument("--model", default="gcnv2_tiny", help=MODEL_HELP)
    group.add_argument("--weights", default="default", help="weights file (default: what the package ships)")
    group.add_argument(
        "--runtime", default="auto", help="auto, openvino, onnxruntime, torch or torch_compile (default: %(default)s)"
    )
    group.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N; of Intel gpu, gpu:N or npu (default: %(default)s)"
    )
    group.add_argument("--precision", default="auto", help="auto, fp32, fp16, bf16 or int8 (default: %(default)s)")
    group.add_argument(
        "--input-size", default="", metavar="WxH", help="network input, e.g. 320x240 (default: the image's own size)"
    )
    group.add_argument("--max-keypoints", type=int, default=1000, help="at most so many (default: %(default)s)")
    group.add_argument(
        "--score-threshold", type=float, default=None, help="lowest score (default: what is recommended)"
    )
    group.add_argument(
        "--detector", default="auto", help="auto, network or blobs (default: what the weights recommend)"
    )


def extractor_options(arguments: argparse.Namespace) -> ExtractorOptions:
    """`ExtractorOptions` from the arguments of `add_extractor_arguments`.

    Raises
    ------
    ExtractionError
        If a value is out of its range.
    """
    from ..extraction import ExtractorOptions

    width, height = parse_size(arguments.input_size)
    return ExtractorOptions(
        model=arguments.model,
        weights=arguments.weights,
        runtime=arguments.runtime,
        device=arguments.device,
        precision=arguments.precision,
        input_width=width,
        input_height=height,
    )


def decode_options(arguments: argparse.Namespace) -> DecodeOptions:
    """`DecodeOptions` from the arguments of `add_extractor_arguments`."""
    from ..extraction import DecodeOptions

    return DecodeOptions(
        max_keypoints=arguments.max_keypoints, score_threshold=arguments.score_threshold, detector=arguments.detector
    )


def check_positive(**counts: int | None) -> None:
    """Refuse counts below 1, given by the names of their options, ``roll_pairs`` for ``--roll-pairs``; None is all.

    Raises
    ------
    GCNv2Error
        With the option's name.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise GCNv2Error(f"--{name.replace('_', '-')} must be 1 or more, got {count}")


def check_threads(threads: int, default: str = "all") -> None:
    """Refuse a negative number of threads; `default` is what 0 stands for.

    Raises
    ------
    GCNv2Error
        With the number.
    """
    if threads < 0:
        raise GCNv2Error(f"--threads must be 0, for {default}, or more, got {threads}")


def check_charts() -> None:
    """Refuse to begin without matplotlib, which draws the charts once everything is measured.

    Raises
    ------
    MissingDependencyError, LibraryError
        If it is not installed, or is and cannot be imported.
    """
    import_library("matplotlib", "the charts of the results", "pip install matplotlib")


def check_ros(purpose: str) -> None:
    """Refuse to go on without ROS 2.

    Parameters
    ----------
    purpose
        What needs it: the subject of the errors' sentence.

    Raises
    ------
    MissingDependencyError, LibraryError
        If its Python libraries are not installed, or are and cannot be imported.
    """
    for module in ("rclpy", "sensor_msgs.msg"):
        import_library(module, purpose, ROS_ADVICE)


def check_folder(path: Path) -> None:
    """Refuse a folder for results that cannot be made or written to, before the work whose results they are.

    Raises
    ------
    GCNv2Error
        With what is in the way.
    """
    nearest = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not nearest.is_dir():
        raise GCNv2Error(f"{path} is to be a folder, and {nearest} is none; remove it or name another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise GCNv2Error(f"{path}: there is no permission to write to {nearest}; name another folder")


def check_result(path: Path, ending: str, kind: str) -> None:
    """Refuse a file for a result that has another ending than its kind, or cannot be written, before the work.

    Raises
    ------
    GCNv2Error
        With the ending, or with what is in the way.
    OSError
        If it is a folder, a device or a pipe.
    """
    check_file(path)
    if path.suffix != ending:
        raise GCNv2Error(f"{path}: {kind} ends in {ending}; name it {path.with_suffix(ending)}")
    check_folder(path.parent)


def parse_size(text: str) -> tuple[int, int]:
    """Read ``WxH``; an empty text is (0, 0).

    Raises
    ------
    ExtractionError
        If the text is something else.
    """
    from ..extraction import ExtractionError

    if not text:
        return (0, 0)
    size = read_size(text)
    if size is None:
        raise ExtractionError(f"a size is written as WIDTHxHEIGHT, both at least 1, e.g. 320x240, got {text!r}")
    return size
