# SPDX-License-Identifier: Apache-2.0
"""Pictures for people: keypoints on a frame, matches between two frames."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .features import Features
from .matching import Matches

_SUBPIXEL_SHIFT = 4


def draw_keypoints(gray: NDArray[np.uint8], features: Features) -> NDArray[np.uint8]:
    """Draw a dot at each keypoint, from blue (weakest response) to red (strongest).

    Parameters
    ----------
    gray
        uint8 (H, W), the image that the features were extracted from.
    features
        Its features.

    Returns
    -------
    numpy.ndarray
        uint8 (H, W, 3), BGR.
    """
    canvas = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8)
    # Ranks rather than responses: detectors differ in how their scores are distributed.
    rank = np.linspace(255, 0, max(len(features), 1)).astype(np.uint8)
    colours = cv2.applyColorMap(rank[:, None], cv2.COLORMAP_JET)[:, 0]
    radius = max(2, round(min(gray.shape) / 160))
    # The strongest are drawn last, on top.
    for (u, v), colour in zip(features.uv[::-1], colours[: len(features)][::-1]):
        cv2.circle(canvas, _fixed(u, v), radius << _SUBPIXEL_SHIFT, colour.tolist(), 1, cv2.LINE_AA, _SUBPIXEL_SHIFT)
    return canvas


def draw_matches(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    first_features: Features,
    second_features: Features,
    matches: Matches,
    *,
    right: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Draw two gray images side by side with a line for each match.

    Parameters
    ----------
    first, second
        uint8 (H, W) each; the lower one is padded in black.
    first_features, second_features
        Their features.
    matches
        Index pairs into the two.
    right
        bool (M,): green where true, red where false. None: all lines yellow.

    Returns
    -------
    numpy.ndarray
        uint8 (H, W1 + W2, 3), BGR.
    """
    height = max(first.shape[0], second.shape[0])
    canvas = np.zeros((height, first.shape[1] + second.shape[1], 3), np.uint8)
    canvas[: first.shape[0], : first.shape[1]] = first[..., None]
    canvas[: second.shape[0], first.shape[1] :] = second[..., None]
    offset = np.array([first.shape[1], 0], np.float32)
    for number, (a, b) in enumerate(zip(matches.index_a, matches.index_b)):
        colour = (0, 220, 220) if right is None else ((80, 220, 80) if right[number] else (60, 60, 240))
        start, end = first_features.uv[a], second_features.uv[b] + offset
        cv2.line(canvas, _fixed(*start), _fixed(*end), colour, 1, cv2.LINE_AA, _SUBPIXEL_SHIFT)
    return canvas


def _fixed(u: float, v: float) -> tuple[int, int]:
    """Pixel coordinates in OpenCV's fixed-point form."""
    return round(float(u) * (1 << _SUBPIXEL_SHIFT)), round(float(v) * (1 << _SUBPIXEL_SHIFT))
