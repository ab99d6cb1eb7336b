# SPDX-License-Identifier: Apache-2.0
"""What is compared: frontends by a short text such as ``gcnv2_tiny@320x240``."""

from __future__ import annotations

from dataclasses import dataclass

from ..extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from .homography import EvaluationError


@dataclass(frozen=True)
class Frontend:
    """A named way of extracting features; see `parse_frontend`."""

    label: str
    options: ExtractorOptions

    def create(self, max_keypoints: int) -> Extractor:
        """Build the extractor, with no score threshold: every frontend gets the same keypoint budget."""
        return create_extractor(self.options, DecodeOptions(max_keypoints=max_keypoints, score_threshold=0.0))


def parse_frontend(text: str, *, threads: int = 0) -> Frontend:
    """Read ``MODEL[=WEIGHTS][@WIDTHxHEIGHT]``.

    ``orb``, ``gcnv2_tiny``, ``gcnv2_tiny@320x240`` and ``gcnv2_tiny=runs/new.safetensors@640x480`` are examples; the
    size is that to which images are resized before extraction, and without it their own. The label of a frontend with
    a weights file is the file's name.

    Raises
    ------
    EvaluationError
        If the size cannot be read.
    """
    rest, _, size = text.partition("@")
    model, _, weights = rest.partition("=")
    width, _, height = size.partition("x")
    if size and not (width.isdecimal() and height.isdecimal()):
        raise EvaluationError(f"the frontend {text!r} ends in @{size}; expected @WIDTHxHEIGHT, e.g. @320x240")
    name = (
        model if not weights or model.startswith("aliked") else weights.rsplit("/", 1)[-1].removesuffix(".safetensors")
    )
    options = ExtractorOptions(
        model=model,
        weights=weights or "default",
        input_width=int(width or 0),
        input_height=int(height or 0),
        threads=threads,
    )
    return Frontend(f"{name}@{size}" if size else name, options)
