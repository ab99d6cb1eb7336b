# SPDX-License-Identifier: Apache-2.0
"""16-bit images to 8 bits by a window of brightness that follows the scene slowly.

Thermal cameras and many infrared and industrial ones use a small part of the 16 bits, which a fixed scale would turn
into a nearly black picture. A window fitted to each image anew flickers, and features flicker with it. The window here
rests while the scene's brightness stays about the same, and otherwise moves by a small step an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import GCNv2Error

_SAMPLES = 20_000


class StretchError(GCNv2Error):
    """An option of the stretch out of its range, or an image that has no 16 bits."""


@dataclass(frozen=True)
class StretchOptions:
    """How the window is found and how it moves.

    Attributes
    ----------
    low, high
        Percentiles of an image's values, 0 to 100, between which its content lies.
    margin
        Room on either side of the content, as a share of its span: small hot or cold things stay distinct.
    dead_band
        Share of the window's width by which an edge may be off before it moves.
    slew
        Largest step of an edge from one image to the next, as a share of the window's width. A value's gray level
        changes by at most about ``2 * 255 * slew`` from one image to the next.
    minimum_span
        Least width of the window in values, so that the noise of a featureless view is not blown up.
    """

    low: float = 0.5
    high: float = 99.5
    margin: float = 0.1
    dead_band: float = 0.1
    slew: float = 0.01
    minimum_span: float = 64.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < self.high <= 100.0:
            raise StretchError(f"low must be less than high, both percentiles, got {self.low} and {self.high}")
        for name, least, most in (("margin", 0.0, 10.0), ("dead_band", 0.0, 1.0), ("slew", 0.0, 1.0)):
            if not least <= getattr(self, name) <= most:
                raise StretchError(f"{name} must be between {least} and {most}, got {getattr(self, name)}")
        if not (math.isfinite(self.minimum_span) and self.minimum_span >= 1.0):
            raise StretchError(f"minimum_span must be at least 1, got {self.minimum_span}")


class Stretch:
    """The window of one camera; call it with each of the camera's images in turn.

    The first image sets the window to the image's percentiles with their margins. From then on each edge that is off
    by more than the dead band moves towards where the image wants it. When more than half of the pixels lie outside of
    the window (the lens cap comes off, a thermal camera changes its range) the window is set anew at once, since
    nothing could be seen through the old one.

    Parameters
    ----------
    options
        See `StretchOptions`.
    """

    def __init__(self, options: StretchOptions | None = None) -> None:
        self._options = options or StretchOptions()
        self._window: tuple[float, float] | None = None
        self._table = np.zeros(0, np.uint8)

    @property
    def window(self) -> tuple[float, float] | None:
        """The values that become 0 and 255; None before the first image."""
        return self._window

    def __call__(self, image: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Let the window follow an image, and give the image through it.

        Parameters
        ----------
        image
            uint16 of any shape, with at least one value.

        Returns
        -------
        numpy.ndarray
            uint8 of that shape: the window's values spread evenly over 0 to 255, what is outside at its ends.

        Raises
        ------
        StretchError
            If the image is not uint16 or holds nothing.
        """
        self.follow(image)
        return self._table[image]

    def apply(self, image: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """An image through the window as it stands; the first image of all sets it."""
        if self._window is None:
            self.follow(image)
        return self._table[image]

    def follow(self, image: NDArray[np.uint16]) -> None:
        """Let the window follow an image, as a call does."""
        if image.dtype != np.uint16 or not image.size:
            raise StretchError(f"expected an image of 16-bit values, got {image.dtype.name} {image.shape}")
        # A regular part of the pixels is enough for percentiles, and is the same part in every image.
        step = max(1, math.isqrt(image.size // _SAMPLES))
        sample = image[::step, ::step] if image.ndim >= 2 else image[:: step * step]
        wanted = self._wanted(sample)
        if self._window is None or np.mean((sample < self._window[0]) | (sample > self._window[1])) > 0.5:
            self._set(wanted)
            return
        low, high = self._window
        width = high - low
        edges = []
        for edge, target in ((low, wanted[0]), (high, wanted[1])):
            difference = target - edge
            excess = max(abs(difference) - self._options.dead_band * width, 0.0)
            edges.append(edge + math.copysign(min(excess, self._options.slew * width), difference))
        if (edges[0], edges[1]) != self._window:
            self._set(_widened(edges[0], edges[1], self._options.minimum_span))

    def reset(self, window: tuple[float, float] | None = None) -> None:
        """Go on from a window that there was before; None: forget it, and the next image sets it."""
        if window is None:
            self._window = None
        elif window != self._window:
            self._set(window)

    def _wanted(self, sample: NDArray[np.uint16]) -> tuple[float, float]:
        """The window of these values alone."""
        options = self._options
        low, high = np.percentile(sample, [options.low, options.high])
        room = options.margin * (high - low)
        return _widened(float(low - room), float(high + room), options.minimum_span)

    def _set(self, window: tuple[float, float]) -> None:
        self._window = window
        low, high = window
        levels = (np.arange(1 << 16, dtype=np.float32) - low) * (255.0 / (high - low))
        self._table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _widened(low: float, high: float, span: float) -> tuple[float, float]:
    """The window, or one of the width `span` about the same middle if it is narrower."""
    if high - low >= span:
        return low, high
    middle = (low + high) / 2
    return middle - span / 2, middle + span / 2
