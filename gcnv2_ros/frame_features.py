# SPDX-License-Identifier: Apache-2.0
"""The features of one frame of a sequence, with depth where the frame has any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .depth import sample_depth
from .extraction import Extractor
from .features import Features
from .stereo import match_stereo

if TYPE_CHECKING:
    from .sequences import Frame, Sequence


def extract_frame(extractor: Extractor, frame: Frame) -> Features:
    """Features of the (left) image, with depth from the depth image; `Extractor.last_timings` is that of the image."""
    features = extractor.extract(frame.gray)
    if frame.depth is not None:
        features = features.with_arrays(depth=sample_depth(frame.depth, features.uv, features.image_size))
    return features


def is_rectified_pair(frame: Frame, sequence: Sequence) -> bool:
    """Whether the frame is a rectified, calibrated stereo pair."""
    return frame.right is not None and sequence.stereo is not None


def extract_right(extractor: Extractor, left: Features, frame: Frame, sequence: Sequence) -> tuple[Features, Features]:
    """The left features with depth from stereo, and the right ones, of a frame for which `is_rectified_pair` holds."""
    gray = frame.right_gray
    if gray is None or sequence.stereo is None:
        raise ValueError(f"frame {frame.index} of {sequence.name} is no rectified pair")
    right = extractor.extract(gray)
    focal, baseline = sequence.stereo
    matched = match_stereo(left, right, focal=focal, baseline=baseline, left_image=frame.gray, right_image=gray)
    return matched, right
