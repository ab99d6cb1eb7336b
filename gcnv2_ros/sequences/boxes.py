# SPDX-License-Identifier: Apache-2.0
"""Upright boxes: what the synthetic room is made of, and how each of their sides is finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from . import textures
from .textures import Material

UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class Footing:
    """Where a thing stands: a point on the floor or elsewhere, and its directions to the right and to the front."""

    origin: NDArray[np.float64]
    right: NDArray[np.float64]

    @property
    def front(self) -> NDArray[np.float64]:
        """Unit vector towards whoever looks at the thing from the front and has `right` on the right-hand side."""
        return front_of(self.right)

    def point(self, right: float, front: float, up: float) -> NDArray[np.float64]:
        """A point given by its distances along right, front and up."""
        return np.asarray(self.origin + right * self.right + front * self.front + up * UP, np.float64)


@dataclass(frozen=True, eq=False)
class Finish:
    """A material in one execution: surfaces with the same `key` have its colours and proportions in common."""

    material: Material
    key: int


@dataclass(frozen=True, eq=False)
class Box:
    """An upright box.

    Attributes
    ----------
    centre
        float64 (3,), metres in the world.
    right
        float64 (3,), horizontal unit vector along the width.
    size
        Width, depth and height in metres.
    front, side, top
        What its front, its other upright sides, and its top and bottom are painted with.
    lamp
        It gives light, and casts no shadow.
    """

    centre: NDArray[np.float64]
    right: NDArray[np.float64]
    size: tuple[float, float, float]
    front: Finish
    side: Finish
    top: Finish
    lamp: bool = False

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """Lowest and highest x, y, z, float64 (2, 3)."""
        width, depth, height = self.size
        half = 0.5 * (width * np.abs(self.right) + depth * np.abs(front_of(self.right)) + height * UP)
        return np.stack([self.centre - half, self.centre + half])


@dataclass(frozen=True, eq=False)
class Surface:
    """A rectangle yet to be painted and lit; the attributes are those of `rendering.Face`."""

    origin: NDArray[np.float64]
    axis_s: NDArray[np.float64]
    axis_t: NDArray[np.float64]
    size: tuple[float, float]
    finish: Finish
    enclosing: bool = False
    lamp: bool = False
    coarseness: float = 1.0

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector towards the side from which the surface is seen."""
        return -np.cross(self.axis_s, self.axis_t)


def sides_of(box: Box) -> list[Surface]:
    """The six faces of a box, seen from outside: front, back, right, left, top, bottom."""
    width, depth, height = box.size
    front = front_of(box.right)
    sides = []
    for normal, across, distance, finish in (
        (front, width, depth / 2, box.front),
        (-front, width, depth / 2, box.side),
        (box.right, depth, width / 2, box.side),
        (-box.right, depth, width / 2, box.side),
    ):
        right = -front_of(normal)
        origin = box.centre + distance * normal - across / 2 * right + height / 2 * UP
        sides.append(Surface(origin, right, -UP, (across, height), finish, lamp=box.lamp))
    for sign in (1.0, -1.0):
        down = sign * front
        origin = box.centre + sign * height / 2 * UP - width / 2 * box.right - depth / 2 * down
        sides.append(Surface(origin, box.right, down, (width, depth), box.top, lamp=box.lamp))
    return sides


def place(
    footing: Footing,
    centre: tuple[float, float, float],
    size: tuple[float, float, float],
    front: Finish,
    side: Finish | None = None,
    top: Finish | None = None,
) -> Box:
    """A box whose middle is at `centre` (right, front, up) of the footing."""
    return Box(footing.point(*centre), footing.right, size, front, side or front, top or side or front)


def front_of(right: NDArray[np.float64]) -> NDArray[np.float64]:
    """The horizontal direction a quarter turn from `right`, clockwise as seen from above: right x up."""
    return np.array([right[1], -right[0], 0.0])


def finish(material: Material, rng: np.random.Generator) -> Finish:
    """A new execution of a material."""
    return Finish(material, int(rng.integers(2**31)))


def any_finish(materials: Sequence[Material], rng: np.random.Generator) -> Finish:
    """A new execution of one of several materials."""
    return finish(materials[int(rng.integers(len(materials)))], rng)


def any_surface(rng: np.random.Generator) -> Finish:
    """A new execution of one of the materials that furniture is made of."""
    return any_finish(textures.SURFACES, rng)
