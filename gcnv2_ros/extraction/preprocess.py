# SPDX-License-Identifier: Apache-2.0
"""From gray images to the network's input, and from network pixels back to image pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..features import wrapped_degrees
from .options import MINIMUM_SIDE, ExtractionError

CANVAS_TILTS = (5.0, 15.0, 45.0)
"""A tilted image lies in a canvas that holds every tilt up to the next of these degrees: few sizes for engines that
prepare themselves for each size of input, and little canvas to compute while the tilt is small."""

# Content beyond the image's edges is the image mirrored: network and blur meet no artificial edge there.
_FILL = cv2.BORDER_REFLECT_101


@dataclass(frozen=True)
class InputGeometry:
    """How one image lies in the network's input.

    Without roll it is resized to `content_size` and padded on the right and at the bottom. A roll is taken out by
    quarter turns, exactly, and by a tilt of at most 45 degrees about the image's centre. A turned image lies somewhere
    within the input, whole, and its surroundings are filled. Whatever the roll, the network sees the scene in the same
    scale.

    Attributes
    ----------
    image_size
        Width and height of the image.
    content_size
        Width and height of the resized image in the network's input, after the quarter turns and without the tilt.
    padded_size
        Width and height of the network's input, multiples of the stride.
    turns
        Quarter turns of the image, counter-clockwise, 0 to 3.
    tilt
        Degrees of the turn that follows, counter-clockwise, -45 to 45.
    origin
        Column and row in the network's input of the content's top-left pixel, before the tilt.
    """

    image_size: tuple[int, int]
    content_size: tuple[int, int]
    padded_size: tuple[int, int]
    turns: int = 0
    tilt: float = 0.0
    origin: tuple[int, int] = (0, 0)

    @staticmethod
    def of(
        image_size: tuple[int, int], input_size: tuple[int, int] | None, stride: int, roll: float = 0.0
    ) -> InputGeometry:
        """Geometry for an image of `image_size` in a network of `stride`.

        Parameters
        ----------
        image_size
            Width and height.
        input_size
            The size to which an image without roll is resized; None keeps the image's size.
        stride
            The input's sides are multiples of it.
        roll
            Degrees, clockwise, by which the image's content is turned; the network sees it upright.
        """
        content = image_size if input_size is None else input_size
        roll = math.remainder(roll, 360.0)
        turns = math.floor(roll / 90.0 + 0.5)
        tilt = roll - 90.0 * turns
        if turns % 2:
            # The scale belongs to the upright image's directions; where they have the same one, this swaps the sides.
            content = (
                max(1, round(image_size[1] * content[0] / image_size[0])),
                max(1, round(image_size[0] * content[1] / image_size[1])),
            )
        turned_size = image_size if turns % 2 == 0 else image_size[::-1]
        extent = _tilted_extent(turned_size, content, abs(tilt)) if tilt else content
        # A network answers differently from place to place within a cell. So that the image's centre keeps its place
        # in the cell under any roll, the content starts where that is so, and otherwise moves by whole cells.
        placed = [
            _placed(*sides, stride) for sides in zip(image_size if input_size is None else input_size, content, extent)
        ]
        (left, width), (top, height) = placed
        return InputGeometry(image_size, content, (width, height), turns % 4, tilt, (left, top))

    @property
    def scale(self) -> tuple[float, float]:
        """Image pixels per network pixel, along the network's rows and columns."""
        width, height = self.image_size if self.turns % 2 == 0 else self.image_size[::-1]
        return (width / self.content_size[0], height / self.content_size[1])

    @property
    def mean_scale(self) -> float:
        """Image pixels per network pixel, the geometric mean of both directions."""
        return math.sqrt(self.scale[0] * self.scale[1])

    @property
    def angle(self) -> float:
        """`Features.angle` of this image's keypoints: the roll taken out, in [0, 360) degrees; -1 for none."""
        if not (self.turns or self.tilt):
            return -1.0
        angle = (90.0 * self.turns + self.tilt) % 360.0
        # Of float32, in which features have it, what is nearly a full turn is one.
        return angle if wrapped_degrees(angle) > 0.0 else 0.0

    @property
    def is_surrounded(self) -> bool:
        """Whether the image lies somewhere within the network's input, instead of filling its top left."""
        return self.tilt != 0.0 or self.origin != (0, 0)

    @property
    def occupied_size(self) -> tuple[int, int]:
        """Width and height of the part of the network's input, from its top left, that is image and surroundings."""
        return self.padded_size if self.is_surrounded else self.content_size

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Network pixels to image pixels: float64 (2, 3), to be applied to (column, row, 1)."""
        angle = math.radians(self.tilt)
        cosine, sine = math.cos(angle), math.sin(angle)
        linear = _QUARTER_TURNS[self.turns] @ np.array([[cosine, -sine], [sine, cosine]]) @ np.diag(self.scale)
        content_centre, image_centre = ((np.array(size) - 1.0) / 2.0 for size in (self.content_size, self.image_size))
        network_centre = content_centre + self.origin
        return np.column_stack((linear, image_centre - linear @ network_centre))

    def to_image(self, uv: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map (N, 2) positions from network pixels to image pixels; in both, a pixel's centre is an integer."""
        if self.turns or self.tilt:
            matrix = self.matrix
            return (np.asarray(uv, np.float64) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return ((uv + 0.5) * np.asarray(self.scale) - 0.5).astype(np.float32)

    def to_network(self, uv: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map (N, 2) positions from image pixels to network pixels."""
        matrix = self.matrix
        return np.asarray((np.asarray(uv, np.float64) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T)

    def is_inside(self, uv: NDArray[np.floating], border: float = 0.0) -> NDArray[np.bool_]:
        """Whether (N, 2) network positions lie in the image, `border` network pixels or more from its edges."""
        border_u, border_v = border * np.asarray(self.scale if self.turns % 2 == 0 else self.scale[::-1])
        width, height = self.image_size
        u, v = (self.to_image(uv) + 0.5).T
        inside: NDArray[np.bool_] = (
            (u >= border_u) & (u <= width - border_u) & (v >= border_v) & (v <= height - border_v)
        )
        return inside

    def covered(self) -> NDArray[np.bool_]:
        """Where in the network's input the image lies, with one network pixel around it: bool (H', W')."""
        left, top = -0.5 - max(self.scale), -0.5 - max(self.scale)
        right, bottom = (side - 0.5 + max(self.scale) for side in self.image_size)
        corners = self.to_network(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]))
        width, height = self.padded_size
        filled = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(filled, np.rint(corners * 2**_POLYGON_BITS).astype(np.int32), 1, shift=_POLYGON_BITS)
        return filled.view(np.bool_)


# Clockwise in the image, by 0, 90, 180 and 270 degrees.
_QUARTER_TURNS = tuple(
    np.array(matrix, np.float64)
    for matrix in ([[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]])
)
_ROTATIONS = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
_POLYGON_BITS = 4
_LEAST_BLUR = 0.1


def _placed(plain: int, content: int, extent: float, stride: int) -> tuple[int, int]:
    """Where content starts along one side of the network's input, and how long that side is.

    The start is the first one that leaves room for `extent` about the content's centre and puts that centre, to the
    nearest pixel, on the place in a cell that it has in an input that starts with content of length `plain`.
    """
    lead = (plain - content) // 2 % stride
    start = lead + math.ceil(((extent - content) / 2 - lead) / stride) * stride
    return start, math.ceil((start + (content + extent) / 2) / stride) * stride


def _tilted_extent(image_size: tuple[int, int], content: tuple[int, int], tilt: float) -> tuple[float, float]:
    """Sides, in network pixels, of a box around an image under every tilt up to the next of `CANVAS_TILTS`."""
    # A roll just below 45 degrees is rounded to a quarter turn and a tilt just beyond it.
    largest = math.radians(next((limit for limit in CANVAS_TILTS if tilt <= limit), CANVAS_TILTS[-1]))
    sides = []
    for along, across in (image_size, image_size[::-1]):
        # |along cos t + across sin t| is largest at the angle of the diagonal, or at the end of the range before it.
        angle = min(largest, math.atan2(across, along))
        sides.append(along * math.cos(angle) + across * math.sin(angle))
    # Rounded, or the last digit could cost a whole cell.
    return (round(sides[0] * content[0] / image_size[0], 6), round(sides[1] * content[1] / image_size[1], 6))


def check_image(image: NDArray[np.uint8], mask: NDArray | None = None) -> None:
    """Refuse what is no gray 8-bit image of at least 32x32 pixels, and a mask that does not go with it.

    Raises
    ------
    ExtractionError
        Saying what the image is and what was expected.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 2:
        got = f"{image.dtype.name} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ExtractionError(f"expected a gray image, uint8 (height, width), got {got}")
    if min(image.shape) < MINIMUM_SIDE:
        raise ExtractionError(
            f"the image is {image.shape[1]}x{image.shape[0]} pixels; expected at least {MINIMUM_SIDE}x{MINIMUM_SIDE}"
        )
    if mask is not None and (mask.shape != image.shape or mask.dtype not in (np.uint8, np.bool_)):
        raise ExtractionError(
            f"the mask must be uint8 or bool {image.shape} like its image, got {mask.dtype.name} {mask.shape}"
        )


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to `size` (width, height): averaging areas where it shrinks, interpolating linearly where it grows.

    Both keep u_new + 0.5 proportional to u + 0.5.
    """
    height, width = image.shape
    if (width, height) == size:
        return image
    # cv2.INTER_AREA is only that when neither direction grows.
    shrunk = (min(width, size[0]), min(height, size[1]))
    resized: NDArray[Any] = image
    if shrunk != (width, height):
        resized = cv2.resize(resized, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != size:
        resized = cv2.resize(resized, size, interpolation=cv2.INTER_LINEAR)
    return resized


def resize_mask(mask: NDArray[np.uint8] | NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a mask to `size` (width, height), to 0 and 255; it is only near the truth of the image's own mask."""
    # OpenCV 4's ORB takes nothing less than 255 for set on all levels of its pyramid but the first.
    binary = np.where(mask, np.uint8(255), np.uint8(0))
    return np.asarray(cv2.resize(binary, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def upright(image: NDArray[np.uint8], geometry: InputGeometry) -> NDArray[np.uint8]:
    """The image as the network is to see it: resized, and turned upright by the roll of `geometry`.

    Without tilt it is turned by quarters and resized as `resize` does. A tilted image is resampled once, bilinearly,
    by a transform that turns and resizes; where it shrinks, a Gaussian before that brings the blur up to that of
    averaging areas.

    Parameters
    ----------
    image
        uint8 (H, W).
    geometry
        For an image of that size.

    Returns
    -------
    numpy.ndarray
        uint8 of `geometry.occupied_size`.
    """
    if geometry.tilt:
        along_u, along_v = geometry.scale if geometry.turns % 2 == 0 else geometry.scale[::-1]
        deviations = _prefilter_deviation(along_u), _prefilter_deviation(along_v)
        if max(deviations) > 0.0:
            # A deviation of 0 would stand for one that OpenCV chooses; that of the least blur leaves pixels alone.
            sigma_u, sigma_v = (max(deviation, _LEAST_BLUR) for deviation in deviations)
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_u, sigmaY=sigma_v, borderType=_FILL), np.uint8)
        warped: NDArray[Any] = cv2.warpAffine(
            image,
            geometry.matrix,
            geometry.padded_size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=_FILL,
        )
        return warped
    rotation = _ROTATIONS[geometry.turns]
    turned: NDArray[Any] = image if rotation is None else cv2.rotate(image, rotation)
    resized = resize(turned, geometry.content_size)
    if geometry.is_surrounded:
        (left, top), (width, height), (rows, columns) = geometry.origin, geometry.padded_size, resized.shape
        bordered: NDArray[Any] = cv2.copyMakeBorder(
            resized, top, height - top - rows, left, width - left - columns, _FILL
        )
        return bordered
    return resized


def _prefilter_deviation(scale: float) -> float:
    """Standard deviation in image pixels of the blur before bilinear sampling every `scale` pixels; 0: none is needed.

    The mean over `scale` pixels has the variance (scale^2 - 1) / 12, of which bilinear sampling at any phase brings
    1/6 by itself.
    """
    return math.sqrt(max(0.0, (scale**2 - 1.0) / 12.0 - 1.0 / 6.0))


def network_input(images: Sequence[NDArray[np.uint8]], geometries: Sequence[InputGeometry]) -> NDArray[np.float32]:
    """Turn upright, resize, pad and scale images into one batch.

    Parameters
    ----------
    images
        uint8 (H, W) each.
    geometries
        Where each one goes; all have the same `padded_size`.

    Returns
    -------
    numpy.ndarray
        float32 (B, 1, H', W') in [0, 1], H' and W' those of `padded_size`. The padding repeats an image's last column
        and row.
    """
    padded_width, padded_height = geometries[0].padded_size
    batch = np.empty((len(images), 1, padded_height, padded_width), np.float32)
    for plane, image, geometry in zip(batch[:, 0], images, geometries):
        width, height = geometry.occupied_size
        np.multiply(upright(image, geometry), np.float32(1 / 255), out=plane[:height, :width])
        plane[:height, width:] = plane[:height, width - 1 : width]
        plane[height:] = plane[height - 1]
    return batch
