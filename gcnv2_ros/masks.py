# SPDX-License-Identifier: Apache-2.0
"""Masks: where in an image no keypoint is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import GCNv2Error
from .files import user_path

# Otherwise values of 16 bits would be divided by 256, which makes small ones zero, and a camera's turn be undone.
_AS_STORED = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


class MaskError(GCNv2Error):
    """A mask that cannot be read or does not fit, or an option out of its range."""


@dataclass(frozen=True)
class MaskOptions:
    """What a mask's values mean, and what is cut off at the sides.

    Attributes
    ----------
    keep
        Which pixels of a mask keypoints may lie on: those that are ``nonzero`` (OpenCV's convention), or those that
        are ``zero``.
    labels
        Labels to leave out, such as those of people and cars; then the dynamic mask is a label image, whose values are
        class numbers, and `keep` is not used for it. Empty: it is a mask as the static one.
    border
        Pixels without keypoints at the left, top, right and bottom of the image.
    """

    keep: Literal["nonzero", "zero"] = "nonzero"
    labels: tuple[int, ...] = ()
    border: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        if self.keep not in ("nonzero", "zero"):
            raise MaskError(f"keep must be 'nonzero' or 'zero', got {self.keep!r}")
        object.__setattr__(self, "labels", tuple(int(label) for label in self.labels))
        border = tuple(int(side) for side in self.border)
        if len(border) != 4 or min(border) < 0:
            raise MaskError(f"border must be four numbers (left, top, right, bottom), none negative, got {self.border}")
        object.__setattr__(self, "border", border)


def keep_mask(
    size: tuple[int, int],
    *,
    static: NDArray | None = None,
    dynamic: NDArray | None = None,
    options: MaskOptions | None = None,
) -> NDArray[np.uint8] | None:
    """The mask for `Extractor.extract` of all that is masked: keypoints are kept where every part would keep them.

    Parameters
    ----------
    size
        Width and height of the image in pixels.
    static
        bool or integer (H, W), a mask that stays the same; None: none.
    dynamic
        bool or integer (H, W), a mask or label image that belongs to this image; None: none. A mask of another size
        than the image, both static and dynamic, is resized with the nearest pixel's value.
    options
        What their values mean.

    Returns
    -------
    numpy.ndarray or None
        uint8 (H, W), 255 where keypoints may lie and 0 where not; None where nothing is masked.

    Raises
    ------
    MaskError
        If a mask has channels, no pixels or values that are no integers, or if the border leaves nothing of the image.
    """
    options = options or MaskOptions()
    width, height = size
    left, top, right, bottom = options.border
    if left + right >= width or top + bottom >= height:
        raise MaskError(
            f"the mask border (left {left}, top {top}, right {right}, bottom {bottom}) leaves nothing of a "
            f"{width}x{height} image"
        )
    kept = []
    if static is not None:
        kept.append(_resized(_by_polarity(_checked(static, "static"), options), size))
    if dynamic is not None:
        mask = _checked(dynamic, "dynamic")
        chosen = ~np.isin(mask, options.labels) if options.labels else _by_polarity(mask, options)
        kept.append(_resized(chosen, size))
    if any(options.border):
        inner = np.zeros((height, width), bool)
        inner[top : height - bottom, left : width - right] = True
        kept.append(inner)
    if not kept:
        return None
    return np.where(np.logical_and.reduce(kept), np.uint8(255), np.uint8(0))


def load_mask(path: str | Path) -> NDArray[np.uint8]:
    """Read a mask from an image file.

    Parameters
    ----------
    path
        PNG or another format that keeps values as they are (a JPEG blurs them along every edge). A leading ``~`` is the
        home folder.

    Returns
    -------
    numpy.ndarray
        uint8 (H, W); of a colour image its gray values, of one of 16 bits 255 where it is not zero.

    Raises
    ------
    MaskError
        If the file is missing or holds no image.
    """
    file = user_path(path, MaskError)
    try:
        data = np.frombuffer(file.read_bytes(), np.uint8)
    except OSError as error:
        raise MaskError(f"cannot read the mask {file}: {error.strerror}") from error
    try:
        mask = cv2.imdecode(data, _AS_STORED) if data.size else None
    except cv2.error:
        mask = None
    if mask is None:
        raise MaskError(f"the mask {file} is no image that can be read; expected a PNG")
    if mask.dtype != np.uint8:
        return np.where(mask != 0, np.uint8(255), np.uint8(0))
    return np.asarray(mask, np.uint8)


def _checked(mask: NDArray, name: str) -> NDArray:
    if mask.ndim != 2 or not mask.size or mask.dtype.kind not in "bui":
        raise MaskError(
            f"the {name} mask must be (H, W) of booleans or integers, with pixels, got {mask.dtype.name} {mask.shape}"
        )
    return mask


def _by_polarity(mask: NDArray, options: MaskOptions) -> NDArray[np.bool_]:
    return mask != 0 if options.keep == "nonzero" else mask == 0


def _resized(kept: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    if kept.shape == (size[1], size[0]):
        return kept
    return cv2.resize(kept.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
