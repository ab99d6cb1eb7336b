# SPDX-License-Identifier: Apache-2.0
"""Light of the synthetic room: computed once, on a coarse grid on every surface, and painted into the textures.

Surfaces are matt, so that a point looks the same from everywhere; only the exposure changes it over time.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import Box, Surface
from .layout import Layout
from .rendering import Face

_CELL = 0.14
_AMBIENT_REACH = 0.6
# Directions about a surface's normal (along s, along t, along the normal), spread over the hemisphere.
_HEMISPHERE = [
    (np.cos(turn) * np.sin(tilt), np.sin(turn) * np.sin(tilt), np.cos(tilt))
    for tilt, turns in ((0.5, 3), (1.1, 6))
    for turn in np.arange(turns) * 2 * np.pi / turns + tilt
]


def paint_and_light(
    layout: Layout, surfaces: Sequence[Surface], texel: float, seed: int, *, colour: bool
) -> list[Face]:
    """Paint every surface with its material and shade it.

    Parameters
    ----------
    texel
        Metres that a texture pixel spans.
    seed
        Of the materials' details and of the balance of the light.
    colour
        BGR textures; gray ones otherwise.
    """
    rng = np.random.default_rng([seed, 1])
    ambient, brightness = rng.uniform(0.35, 0.65), rng.uniform(0.75, 1.15)
    warmth = rng.uniform(-0.08, 0.08)
    tint = np.array([1.0 - warmth, 1.0, 1.0 + warmth], np.float32)
    maps = light_maps(layout, surfaces, ambient)
    faces = []
    for number, (surface, values) in enumerate(zip(surfaces, maps, strict=True)):
        pixel = texel * surface.coarseness
        width, height = (max(2, round(extent / pixel)) for extent in surface.size)
        style, details = (
            np.random.default_rng([seed, 5, surface.finish.key]),
            np.random.default_rng([seed, 2, number]),
        )
        picture = surface.finish.material(height, width, pixel, style, details)
        if not surface.lamp:
            light = cv2.resize(values * np.float32(brightness), (width, height), interpolation=cv2.INTER_LINEAR)
            shaded = [cv2.multiply(picture[..., k], light * tint[k], dtype=cv2.CV_8U) for k in range(3)]
            picture = np.asarray(cv2.merge(shaded), np.uint8)
        texture = picture if colour else np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
        faces.append(Face(surface.origin, surface.axis_s, surface.axis_t, surface.size, texture, surface.enclosing))
    return faces


def light_maps(layout: Layout, surfaces: Sequence[Surface], ambient: float) -> list[NDArray[np.float32]]:
    """Relative irradiance of each surface on a grid of its own, float32 (rows along t, columns along s)."""
    shapes, points, frames = [], [], []
    for surface in surfaces:
        columns, rows = (max(2, int(np.ceil(extent / _CELL))) for extent in surface.size)
        s = (np.arange(columns) + 0.5) / columns * surface.size[0]
        t = (np.arange(rows) + 0.5) / rows * surface.size[1]
        grid = surface.origin + s[None, :, None] * surface.axis_s + t[:, None, None] * surface.axis_t
        points.append((grid + 0.01 * surface.normal).reshape(-1, 3))
        frame = np.stack([surface.axis_s, surface.axis_t, surface.normal])
        frames.append(np.broadcast_to(frame, (rows * columns, 3, 3)))
        shapes.append((rows, columns))
    place = np.concatenate(points).astype(np.float32)
    axes = np.concatenate(frames).astype(np.float32)
    blockers = [box for box in layout.boxes if not box.lamp]

    surroundings = np.zeros(len(place), np.float32)
    total = 0.0
    for slant in _HEMISPHERE:
        ends = place + np.float32(_AMBIENT_REACH) * np.einsum("k,nkd->nd", np.asarray(slant, np.float32), axes)
        surroundings += np.float32(slant[2]) * ~(_blocked(place, ends, blockers) | _outside(ends, layout.size))
        total += slant[2]
    # More light comes from above than from below, as ceilings and upper walls are bright.
    irradiance = (surroundings / np.float32(total)) * (0.75 + 0.25 * axes[:, 2, 2])
    irradiance *= np.float32(ambient / irradiance.mean())

    direct = np.zeros(len(place), np.float32)
    for position, direction in layout.lights:
        to_light = position.astype(np.float32) - place
        square = np.sum(to_light**2, axis=1)
        distance = np.sqrt(square)
        received = np.maximum(np.sum(to_light * axes[:, 2], axis=1) / distance, 0)
        emitted = np.maximum(-(to_light @ direction.astype(np.float32)) / distance, 0) + 0.1
        direct += received * emitted / (square + 0.4) * ~_blocked(place, position.astype(np.float32), blockers)
    if direct.any():
        irradiance += direct * np.float32((1.0 - ambient) / direct.mean())

    # Near a lamp the light is many times that of a corner; a film's shoulder keeps both on the paper.
    irradiance = 1.3 * irradiance / (irradiance + np.float32(0.6 * np.mean(irradiance[: _shell_count(shapes)])))
    maps, start = [], 0
    for rows, columns in shapes:
        values = irradiance[start : start + rows * columns].reshape(rows, columns)
        maps.append(np.asarray(cv2.GaussianBlur(values, (3, 3), 0.7, borderType=cv2.BORDER_REPLICATE), np.float32))
        start += rows * columns
    return maps


def _shell_count(shapes: Sequence[tuple[int, int]]) -> int:
    """Number of grid points on the six sides of the room, which come first."""
    return sum(rows * columns for rows, columns in shapes[:6])


def _blocked(starts: NDArray[np.float32], ends: NDArray[np.float32], boxes: Sequence[Box]) -> NDArray[np.bool_]:
    """Whether a box lies between each start (N, 3) and its end (N, 3) or the common one (3,)."""
    origin = np.ascontiguousarray(starts.T)
    span = np.ascontiguousarray((ends - starts).T)
    length = np.sqrt(np.sum(span**2, axis=0))
    heading = span / length
    blocked = np.zeros(len(starts), bool)
    for box in boxes:
        # Most boxes are far from most rays: only where a ray meets the ball around a box is the box itself tested.
        radius = np.float32(0.5 * np.linalg.norm(box.size))
        x, y, z = (np.float32(value) - row for value, row in zip(box.centre, origin, strict=True))
        along = x * heading[0] + y * heading[1] + z * heading[2]
        near = (x * x + y * y + z * z - along * along <= radius**2) & (along > -radius) & (along < length + radius)
        chosen = np.flatnonzero(near & ~blocked)
        right = box.right.astype(np.float32)
        enter, leave = np.zeros(len(chosen), np.float32), np.full(len(chosen), 0.999, np.float32)
        x, y, z, dx, dy, dz = (row[chosen] for row in (x, y, z, *span))
        for position, rate, extent in (
            (right[0] * x + right[1] * y, right[0] * dx + right[1] * dy, box.size[0]),
            (right[1] * x - right[0] * y, right[1] * dx - right[0] * dy, box.size[1]),
            (z, dz, box.size[2]),
        ):
            rate = np.where(np.abs(rate) < 1e-7, np.float32(1e-7), rate)
            middle, reach = position / rate, np.float32(extent / 2) / np.abs(rate)
            np.maximum(enter, middle - reach, out=enter)
            np.minimum(leave, middle + reach, out=leave)
        blocked[chosen] = (enter < leave) & (leave > 1e-3)
    return blocked


def _outside(points: NDArray[np.float32], size: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points lie behind the room's walls, floor or ceiling."""
    half = size[:2] / 2
    return np.any(np.abs(points[:, :2]) > half, axis=1) | (points[:, 2] < 0) | (points[:, 2] > size[2])
