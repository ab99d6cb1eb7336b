# SPDX-License-Identifier: Apache-2.0
"""Ray casting of textured rectangles: exact depth at pixel centres, images without aliasing.

For a rectangle with origin o and unit axes e_s, e_t, a pixel's ray r = (x, y, 1) meets its plane at depth z with
``z r = s e_s + t e_t + o`` (all in the camera's frame), so that ``(s, t, 1) / z = [e_s e_t o]^-1 r``: three numbers
that are linear in r. The surface with the largest 1 / z is seen. Nothing here approximates the geometry.

Images are cast at two by two rays a pixel and averaged, each ray looked up in a mip pyramid (Williams, "Pyramidal
parametrics", SIGGRAPH 1983) at the level of its footprint, linearly between levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ..camera import Camera

SUPERSAMPLING = 2

_NEAR = 1e-3
_ROW = 1024


@dataclass(frozen=True, eq=False)
class Face:
    """A textured rectangle, seen from one side.

    Attributes
    ----------
    origin
        float64 (3,), the corner in the world at the texture's top left, metres.
    axis_s, axis_t
        float64 (3,), unit vectors along the texture's rows and columns. Their cross product points away from
        whoever can see the face.
    size
        Extent in metres along the two axes.
    texture
        uint8 (h, w) or (h, w, 3), spanning the rectangle.
    enclosing
        The face belongs to the convex shell around everything: its plane has no edges, which leaves no cracks.
    """

    origin: NDArray[np.float64]
    axis_s: NDArray[np.float64]
    axis_t: NDArray[np.float64]
    size: tuple[float, float]
    texture: NDArray[np.uint8]
    enclosing: bool = False

    @cached_property
    def pyramid(self) -> list[NDArray[np.uint8]]:
        """The texture and its halvings, down to a few pixels."""
        levels = [self.texture]
        while min(levels[-1].shape[:2]) > 2:
            height, width = levels[-1].shape[:2]
            half = cv2.resize(levels[-1], ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
            levels.append(np.asarray(half, np.uint8))
        return levels


class RayGrid:
    """The viewing rays of a regular grid of samples over the image, with what speeds up casting them.

    Parameters
    ----------
    camera
        Its pixels, or for an image supersampled n times those of ``camera.scaled(n * width, n * height)``.
    dtype
        float64 for exact depth, float32 for shading.
    """

    def __init__(self, camera: Camera, dtype: type[np.floating]) -> None:
        self.shape = camera.height, camera.width
        self.camera = camera
        grid = camera.pixel_grid
        with np.errstate(invalid="ignore"):
            self._column_range = _nan_range(grid[..., 0], axis=0)
            self._row_range = _nan_range(grid[..., 1], axis=1)
        # Without distortion x depends on the column alone and y on the row alone, which broadcasting makes cheap.
        separable = camera.model == "none"
        self.x = np.ascontiguousarray(grid[:1, :, 0] if separable else grid[..., 0], dtype)
        self.y = np.ascontiguousarray(grid[:, :1, 1] if separable else grid[..., 1], dtype)

    def windows(self, lowest: NDArray[np.float64], highest: NDArray[np.float64]) -> list[tuple[slice, slice] | None]:
        """Rows and columns in which rays lie within given ranges of (x, y), each (N, 2); None where there are none."""
        spans = []
        for axis, (low, high) in ((1, self._row_range), (0, self._column_range)):
            hit = np.logical_and.reduce([high >= lowest[:, axis, None], low <= highest[:, axis, None]])
            first, last = hit.argmax(axis=1), hit.shape[1] - hit[:, ::-1].argmax(axis=1)
            # One sample more on either side, as the ends of the range are rounded.
            spans.append((np.maximum(first - 1, 0), last + 1, hit.any(axis=1)))
        (top, bottom, in_rows), (left, right, in_columns) = spans
        return [
            (slice(int(top[k]), int(bottom[k])), slice(int(left[k]), int(right[k])))
            if in_rows[k] and in_columns[k]
            else None
            for k in range(len(lowest))
        ]

    def part(self, window: tuple[slice, slice]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """x and y within a window, of shapes that broadcast to it."""
        rows, columns = window
        x = self.x[:, columns] if self.x.shape[0] == 1 else self.x[rows, columns]
        y = self.y[rows] if self.y.shape[1] == 1 else self.y[rows, columns]
        return x, y


@dataclass(frozen=True, eq=False)
class _Seen:
    """A face that faces the camera, its inverse matrix and the window of the image it may appear in."""

    face: Face
    inverse: NDArray[np.float64]
    window: tuple[slice, slice]


class Scene:
    """A set of faces to be cast from any pose."""

    def __init__(self, faces: Sequence[Face]) -> None:
        self.faces = list(faces)
        self._origins = np.stack([face.origin for face in faces])
        self._axes = np.array([[face.axis_s, face.axis_t] for face in faces], np.float64)
        self._away = np.cross(self._axes[:, 0], self._axes[:, 1])
        sides = self._axes * np.array([face.size for face in faces])[:, :, None]
        self._corners = self._origins[:, None] + np.stack(
            [np.zeros_like(self._origins), sides[:, 0], sides[:, 0] + sides[:, 1], sides[:, 1]], axis=1
        )

    def depth(self, pose: NDArray[np.float64], grid: RayGrid) -> NDArray[np.float32]:
        """Depth along the optical axis, exact at every sample.

        Parameters
        ----------
        pose
            float64 (4, 4), camera to world.
        grid
            Of the image's pixels, float64.

        Returns
        -------
        numpy.ndarray
            float32 (H, W) metres, NaN where a ray meets nothing.
        """
        _, _, inverse_depth = self._cast(pose, grid)
        with np.errstate(divide="ignore"):
            depth = 1.0 / inverse_depth
        return np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)

    def image(self, pose: NDArray[np.float64], grid: RayGrid) -> NDArray[np.float32]:
        """Radiance of what is seen, averaged over SUPERSAMPLING x SUPERSAMPLING samples a pixel.

        Parameters
        ----------
        pose
            float64 (4, 4), camera to world.
        grid
            Of the supersampled image, float32.

        Returns
        -------
        numpy.ndarray
            float32 (H, W) or (H, W, 3), in the textures' units; 0 where a ray meets nothing.
        """
        seen, identity, inverse_depth = self._cast(pose, grid)
        samples = np.zeros((*grid.shape, *self.faces[0].texture.shape[2:]), np.float32)
        step = 1.0 / np.sqrt(grid.camera.fx * grid.camera.fy)
        for number, one in enumerate(seen):
            mask = identity[one.window] == number
            if not mask.any():
                continue
            x, y = (np.broadcast_to(values, mask.shape)[mask] for values in grid.part(one.window))
            z = 1.0 / inverse_depth[one.window][mask]
            samples[one.window][mask] = _shade(one.face, one.inverse.astype(np.float32), x, y, z, step)
        height, width = grid.shape
        size = (width // SUPERSAMPLING, height // SUPERSAMPLING)
        return np.asarray(cv2.resize(samples, size, interpolation=cv2.INTER_AREA), np.float32)

    def _cast(
        self, pose: NDArray[np.float64], grid: RayGrid
    ) -> tuple[list[_Seen], NDArray[np.int16], NDArray[np.floating]]:
        """The faces in view, which of them each ray meets first (-1: none), and 1 / z there."""
        best = np.zeros(grid.shape, grid.x.dtype)
        identity = np.full(grid.shape, -1, np.int16)
        seen = self._in_view(pose, grid)
        for number, one in enumerate(seen):
            x, y = grid.part(one.window)
            row_s, row_t, row_one = one.inverse.astype(grid.x.dtype)
            nearest, winner = best[one.window], identity[one.window]
            inverse_z = (row_one[0] * x + row_one[2]) + row_one[1] * y
            hit = inverse_z > nearest
            if not one.face.enclosing:
                if not hit.any():
                    continue
                for row, extent in ((row_s, one.face.size[0]), (row_t, one.face.size[1])):
                    along = (row[0] * x + row[2]) + row[1] * y
                    # A hair's breadth more than the face, so that no ray slips between two that share an edge.
                    hit &= along >= -1e-5 * inverse_z
                    hit &= along <= inverse_z.dtype.type(extent + 1e-5) * inverse_z
            np.copyto(nearest, inverse_z, where=hit)
            np.copyto(winner, np.int16(number), where=hit)
        return seen, identity, best

    def _in_view(self, pose: NDArray[np.float64], grid: RayGrid) -> list[_Seen]:
        """What may be seen, the nearest first: what lies behind is then soon found to be hidden."""
        rotation, offsets = pose[:3, :3], self._origins - pose[:3, 3]
        corners = (self._corners - pose[:3, 3]) @ rotation
        facing = np.sum(self._away * offsets, axis=1) > _NEAR
        candidates = np.flatnonzero(facing & (corners[:, :, 2].max(axis=1) > _NEAR))
        if not len(candidates):
            return []
        inverses = np.linalg.inv(
            np.concatenate([self._axes[candidates], offsets[candidates, None]], axis=1) @ rotation
        ).transpose(0, 2, 1)
        corners = corners[candidates]
        lowest, highest = np.empty((2, len(candidates), 2))
        whole = corners[:, :, 2].min(axis=1) >= _NEAR
        directions = corners[whole, :, :2] / corners[whole, :, 2:]
        lowest[whole], highest[whole] = directions.min(axis=1), directions.max(axis=1)
        for k in np.flatnonzero(~whole):
            part = _clipped(corners[k])
            directions = part[:, :2] / part[:, 2:]
            lowest[k], highest[k] = directions.min(axis=0), directions.max(axis=0)
        windows = grid.windows(lowest, highest)
        return [
            _Seen(self.faces[candidates[k]], inverses[k], window)
            for k in np.argsort(corners[:, :, 2].mean(axis=1), kind="stable")
            if (window := windows[k]) is not None
        ]


def _shade(
    face: Face,
    inverse: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    step: float,
) -> NDArray[np.float32]:
    """Texture values (N,) or (N, 3) where the rays (x, y, 1) meet the face at depth z; samples are `step` apart."""
    (a0, a1, a2), (b0, b1, b2), (c0, c1, _) = inverse
    s = (a0 * x + a1 * y + a2) * z
    t = (b0 * x + b1 * y + b2) * z
    texels = face.texture.shape[1] / face.size[0], face.texture.shape[0] / face.size[1]
    # Squared lengths of the steps on the texture that one sample to the right and one down make.
    right = ((a0 - s * c0) * np.float32(texels[0])) ** 2 + ((b0 - t * c0) * np.float32(texels[1])) ** 2
    down = ((a1 - s * c1) * np.float32(texels[0])) ** 2 + ((b1 - t * c1) * np.float32(texels[1])) ** 2
    # On a slanted face a footprint is long and narrow. Its mean side keeps the texture sharp; half of its long side
    # bounds the aliasing that the averaging of neighbouring samples can take.
    area = np.abs(np.linalg.det(inverse.astype(np.float64))) * texels[0] * texels[1]
    mean_side = np.float32(step * area**0.5) * z * np.sqrt(z)
    long_side = np.float32(step) * z * np.sqrt(right + down)
    level = np.log2(np.maximum(np.maximum(mean_side, 0.5 * long_side), 1.0))
    lower = np.minimum(level.astype(np.int8), len(face.pyramid) - 1)
    values = np.empty((len(s), *face.texture.shape[2:]), np.float32)
    for k in range(int(lower.min()), int(lower.max()) + 1):
        chosen = np.flatnonzero(lower == k)
        if not len(chosen):
            continue
        u, v = s[chosen] / np.float32(face.size[0]), t[chosen] / np.float32(face.size[1])
        share = level[chosen] - k
        fine = _sample(face.pyramid[k], u, v)
        if k + 1 < len(face.pyramid) and share.any():
            share = share.reshape(-1, *(1,) * (fine.ndim - 1))
            fine += np.minimum(share, 1.0) * (_sample(face.pyramid[k + 1], u, v) - fine)
        values[chosen] = fine
    return values


def _sample(image: NDArray[np.uint8], u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bilinear values of a texture at coordinates that run from 0 to 1 across it, (N,) or (N, 3)."""
    # cv2.remap takes no map of more than 32767 rows or columns: fold the list into rows.
    padded = -(-len(u) // _ROW) * _ROW
    maps = np.zeros((2, padded), np.float32)
    maps[0, : len(u)] = u * np.float32(image.shape[1]) - np.float32(0.5)
    maps[1, : len(v)] = v * np.float32(image.shape[0]) - np.float32(0.5)
    columns, rows = maps.reshape(2, -1, _ROW)
    values = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return values.reshape(padded, *image.shape[2:])[: len(u)].astype(np.float32)


def _clipped(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of a convex polygon in front of the camera (Sutherland and Hodgman's clipping by one plane)."""
    kept: list[NDArray[np.float64]] = []
    for first, second in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if first[2] >= _NEAR:
            kept.append(first)
        if (first[2] >= _NEAR) != (second[2] >= _NEAR):
            kept.append(first + (_NEAR - first[2]) / (second[2] - first[2]) * (second - first))
    return np.array(kept)


def _nan_range(values: NDArray[np.float64], axis: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest value along an axis, NaN left out; an empty range where all are NaN."""
    known = ~np.isnan(values)
    return (
        np.min(values, axis=axis, where=known, initial=np.inf),
        np.max(values, axis=axis, where=known, initial=-np.inf),
    )
