# SPDX-License-Identifier: Apache-2.0
"""What makes a file a picture worth training on: it decodes, is opaque, has texture, and is not there already."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..libraries import import_library

OPAQUE = 250
"""Alpha from which a pixel counts as opaque: lossy formats do not keep 255."""


def decode(content: bytes, name: str) -> NDArray[np.uint8] | None:
    """Decode a picture with OpenCV, or with Pillow where OpenCV does not know the format.

    Parameters
    ----------
    content
        The file.
    name
        Its name, for the message.

    Returns
    -------
    numpy.ndarray or None
        uint8 (H, W), (H, W, 3) in BGR or (H, W, 4) in BGRA; None for content that neither can read.

    Raises
    ------
    MissingDependencyError, LibraryError
        OpenCV cannot read it and Pillow, which reads DDS and TGA too, is not installed, or is and cannot be imported.
    """
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    if image is None:
        pillow = import_library("PIL.Image", f"decoding {name}", "pip install Pillow")
        try:
            with pillow.open(io.BytesIO(content)) as picture:
                return np.ascontiguousarray(np.asarray(picture.convert("RGBA"), np.uint8)[..., [2, 1, 0, 3]])
        except (OSError, ValueError, NotImplementedError):
            return None
    if image.dtype == np.uint16:
        return np.right_shift(image, 8).astype(np.uint8)
    return image.astype(np.uint8) if image.dtype == np.uint8 else None


def without_margin(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut away the rows and columns at the border that have no opaque pixel.

    Parameters
    ----------
    image
        uint8 (H, W) or (H, W, channels). Without an alpha channel, or with nothing opaque, it comes back as it is.
    """
    if image.ndim == 2 or image.shape[2] != 4:
        return image
    opaque = image[..., 3] >= OPAQUE
    rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if rows.size else image


def transparent_share(image: NDArray[np.uint8]) -> float:
    """Share of the pixels that are not opaque; 0 for a picture without an alpha channel."""
    return float((image[..., 3] < OPAQUE).mean()) if image.ndim == 3 and image.shape[2] == 4 else 0.0


def is_normal_map(image: NDArray[np.uint8]) -> bool:
    """Whether the colours are surface normals: unit vectors in red, green, blue, most of them facing the viewer.

    Parameters
    ----------
    image
        uint8 (H, W), which is none, or (H, W, 3 or 4) in BGR order.
    """
    if image.ndim == 2:
        return False
    normals = image[::4, ::4, 2::-1].astype(np.float32) / 127.5 - 1.0
    length = np.linalg.norm(normals, axis=-1)
    return bool(((np.abs(length - 1.0) < 0.15) & (normals[..., 2] > 0.4)).mean() > 0.9)


def to_gray(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Turn a decoded picture gray and reduce it until its longer side is at most `max_side` pixels.

    Parameters
    ----------
    image
        uint8 (H, W), (H, W, 3) in BGR or (H, W, 4) in BGRA; the alpha channel is ignored.
    max_side
        Pixels.
    """
    codes = {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY}
    gray = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, codes[image.shape[2]]), np.uint8)
    scale = max_side / max(gray.shape)
    if scale >= 1.0:
        return gray
    size = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)


def textured_share(gray: NDArray[np.uint8]) -> float:
    """Share of the 16 x 16 cells, at a longer side of 640 pixels, that hold a step of at least 24 gray levels.

    A step is the range of gray levels within 3 x 3 pixels. A gradient or a dark, even surface has next to none: there
    is no keypoint to learn from.
    """
    scale = 640 / max(gray.shape)
    small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    window = np.ones((3, 3), np.uint8)
    steps = np.asarray(cv2.subtract(cv2.dilate(small, window), cv2.erode(small, window)))
    rows, columns = steps.shape[0] // 16, steps.shape[1] // 16
    cells = steps[: rows * 16, : columns * 16].reshape(rows, 16, columns, 16).max(axis=(1, 3))
    return float((cells >= 24).mean()) if cells.size else 0.0


def difference_hash(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Perceptual hash of 256 bits: where a 17 x 16 reduction of the picture grows brighter to the right.

    Unchanged by size and brightness; copies differ in a few bits, unrelated pictures in about a hundred or more.

    Returns
    -------
    numpy.ndarray
        uint8 (32,).
    """
    small = np.asarray(cv2.resize(gray, (17, 16), interpolation=cv2.INTER_AREA), np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1])


def is_repeat(code: NDArray[np.uint8], known: Sequence[NDArray[np.uint8]], *, most_bits: int = 24) -> bool:
    """Whether a hash is within `most_bits` bits of one that is known already."""
    if not known:
        return False
    return bool((np.unpackbits(np.array(known) ^ code, axis=1).sum(axis=1) <= most_bits).any())
