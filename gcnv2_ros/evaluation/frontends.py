# SPDX-License-Identifier: Apache-2.0
"""What is compared: frontends by a short text such as ``gcnv2_tiny@320x240``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from ..image_size import read_size
from .homography import EvaluationError
from .small_camera import SmallCamera


@dataclass(frozen=True)
class Frontend:
    """A named way of extracting features; see `parse_frontend`."""

    label: str
    options: ExtractorOptions
    camera_size: tuple[int, int] | None = None

    def create(self, max_keypoints: int) -> Extractor:
        """Build the extractor, asked for `max_keypoints` without a score threshold.

        OpenCV's ORB and SIFT keep their own limits of contrast, and find fewer where there is little of it.
        """
        extractor = create_extractor(self.options, DecodeOptions(max_keypoints=max_keypoints, score_threshold=0.0))
        return extractor if self.camera_size is None else SmallCamera(extractor, self.camera_size)


def parse_frontend(text: str, *, threads: int = 0) -> Frontend:
    """Read ``MODEL[=WEIGHTS][@CAMERA_SIZE][@SIZE]``, sizes as WIDTHxHEIGHT.

    ``orb``, ``gcnv2_tiny``, ``gcnv2_tiny@320x240`` and ``gcnv2_tiny=runs/new.safetensors@640x480`` are examples; the
    size is that to which images are resized before extraction, and without it their own. Of two sizes, as in
    ``gcnv2_tiny@320x240@480x360``, the first is that of a camera: images are reduced to it before they are resized. The
    label of a frontend with a weights file is the file's name.

    Raises
    ------
    EvaluationError
        If a size cannot be read, or there are more than two.
    """
    rest, *sizes = text.split("@")
    model, _, weights = rest.partition("=")
    if len(sizes) > 2:
        raise EvaluationError(f"the frontend {text!r} has {len(sizes)} sizes; at most two are read, @CAMERA_SIZE@SIZE")
    read = [_parse_size(size, text) for size in sizes]
    input_width, input_height = read[-1] if read else (0, 0)
    name = (
        model if not weights or model.startswith("aliked") else weights.rsplit("/", 1)[-1].removesuffix(".safetensors")
    )
    options = ExtractorOptions(
        model=model,
        weights=weights or "default",
        input_width=input_width,
        input_height=input_height,
        threads=threads,
    )
    return Frontend("@".join([name, *sizes]), options, read[0] if len(read) == 2 else None)


def check_frontends_differ(frontends: Sequence[Frontend]) -> None:
    """Refuse two frontends of one label.

    Raises
    ------
    EvaluationError
        If there are such.
    """
    check_names_differ(
        "frontends",
        ((frontend.label, f"{frontend.options.model}={frontend.options.weights}") for frontend in frontends),
        "name each once, and give weights files names of their own",
    )


def check_names_differ(what: str, named: Iterable[tuple[str, str]], remedy: str) -> None:
    """Refuse two things of one name: results go by it, and one would take the other's place.

    Parameters
    ----------
    what
        Several of them, for the message.
    named
        The name of each, and what it is.
    remedy
        What is to be done about it, for the message.

    Raises
    ------
    EvaluationError
        If two have one name.
    """
    known: dict[str, str] = {}
    for name, description in named:
        if name in known:
            raise EvaluationError(
                f"two {what} have the name {name!r}, by which their results go: {known[name]} and {description}; "
                f"{remedy}"
            )
        known[name] = description


def _parse_size(size: str, text: str) -> tuple[int, int]:
    read = read_size(size)
    if read is None:
        raise EvaluationError(f"the frontend {text!r} has the size @{size}; expected @WIDTHxHEIGHT, e.g. @320x240")
    return read
