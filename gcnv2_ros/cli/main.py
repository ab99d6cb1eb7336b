# SPDX-License-Identifier: Apache-2.0
"""Entry point of the `gcnv2` command: one module of this package a group of subcommands."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from ..errors import GCNv2Error

# Subcommand modules, in the order of the help. Each has add_parsers(subparsers) and imports what is heavy only when
# it runs, so that `gcnv2 --help` is quick.
MODULES = (
    "demo",
    "extract",
    "doctor",
    "train",
    "benchmark",
    "replay",
    "evaluate",
    "export",
    "quantize",
    "bench",
    "bag",
    "calibration",
    "view",
    "vocabulary",
    "colmap",
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="gcnv2", description="GCNv2 keypoints and binary descriptors: extract, demonstrate, train, evaluate."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in MODULES:
        importlib.import_module(f".{name}", __package__).add_parsers(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors that the package or the system raises on purpose become one line on standard error.

    Returns
    -------
    int
        0, or 1 after an error or where nobody reads standard output any more, or 130 after Ctrl-C.
    """
    parsed = build_parser().parse_args(arguments)
    try:
        code = int(parsed.run(parsed) or 0)
        sys.stdout.flush()
        return code
    except GCNv2Error as error:
        print(f"gcnv2 {parsed.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader, `head` for example, has what it wants. What is left would be written at exit and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A path that cannot be written or read, a full disk.
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
        print(f"gcnv2 {parsed.command}: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
