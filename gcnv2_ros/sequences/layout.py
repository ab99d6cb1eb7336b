# SPDX-License-Identifier: Apache-2.0
"""The room's contents: shell, furniture and pictures, placed at random around the space that the camera moves in.

World frame: origin in the middle of the floor, z up. Everything is a box that stands upright.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from . import pictures as paint
from . import textures
from .boxes import UP, Box, Footing, Surface, any_finish, any_surface, finish, front_of, place, sides_of
from .furniture import AGAINST_WALLS, ANYWHERE, wall_shelf
from .textures import Material, Picture

CLEARANCE = 0.35
"""Metres that are kept free around the space the camera moves in."""

_LAMP_DEPTH = 0.06


@dataclass(eq=False)
class Layout:
    """A furnished room.

    Attributes
    ----------
    size
        Width (x), depth (y) and height (z) in metres.
    free
        float64 (2, 3): lowest and highest corner of the space in which the camera moves.
    surfaces
        The six sides of the shell.
    boxes
        Everything inside.
    lights
        float64 (L, 3): points from which light falls, and its direction (L, 3) of strongest emission.
    """

    size: NDArray[np.float64]
    free: NDArray[np.float64]
    surfaces: list[Surface] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    lights: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=list)

    def add(self, boxes: Sequence[Box], *, gap: float = 0.04) -> bool:
        """Put the boxes of one thing in, unless one would enter the camera's space, a wall or another thing."""
        bounds = np.stack([box.bounds for box in boxes])
        lowest, highest = bounds[:, 0].min(0), bounds[:, 1].max(0)
        room = np.array([self.size[0] / 2, self.size[1] / 2, self.size[2]])
        if np.any(lowest < [-room[0], -room[1], -1e-9]) or np.any(highest > room):
            return False
        reach = self.free + np.array([[-CLEARANCE], [CLEARANCE]])
        if np.any(np.all((bounds[:, 0] < reach[1]) & (bounds[:, 1] > reach[0]), axis=1)):
            return False
        for other in self.boxes:
            taken = other.bounds
            if np.all((lowest < taken[1] + gap) & (highest > taken[0] - gap)):
                return False
        self.boxes += boxes
        return True


def furnish(rng: np.random.Generator, photographs: Sequence[Picture] = ()) -> Layout:
    """Build a room.

    Parameters
    ----------
    rng
        The same state gives the same room.
    photographs
        BGR pictures to hang beside the procedural ones.
    """
    width, depth, height = rng.uniform(4.8, 7.5), rng.uniform(4.4, 6.5), rng.uniform(2.5, 3.1)
    half = np.array([width / 2 - 1.3, depth / 2 - 1.25])
    layout = Layout(np.array([width, depth, height]), np.array([[*-half, 1.1], [*half, 1.65]]))
    hanging = list(paint.HANGING) + [_photograph(picture) for picture in photographs]
    _build_shell(layout, rng)
    _hang_lamps(layout, rng)
    walls = _walls(layout)
    window, door = (int(number) for number in rng.permutation(4)[:2])
    _add_window(layout, walls[window], rng)
    _add_to_wall(layout, walls[door], (0.95, 0.03, 2.05), 1.03, paint.door, rng, attempts=20)
    for wall, length in walls:
        for _ in range(int(rng.integers(2, 4))):
            kind = AGAINST_WALLS[int(rng.integers(len(AGAINST_WALLS)))]
            for _ in range(6):
                along = rng.uniform(-length / 2 + 0.5, length / 2 - 0.5)
                if layout.add(kind(Footing(wall.point(along, 0.06, 0.0), wall.right), rng)):
                    break
        for _ in range(int(rng.integers(6, 12))):
            size = rng.uniform(0.3, 1.3), rng.uniform(0.015, 0.04), rng.uniform(0.3, 1.0)
            material = hanging[int(rng.integers(len(hanging)))]
            _add_to_wall(layout, (wall, length), size, rng.uniform(1.2, height - 0.6), material, rng, attempts=8)
        if rng.random() < 0.6:
            shelf = Footing(wall.point(rng.uniform(-length / 3, length / 3), 0.01, rng.uniform(1.3, 1.7)), wall.right)
            layout.add(wall_shelf(shelf, rng))
    for _ in range(14):
        spot = np.array([*rng.uniform([-width / 2 + 0.4, -depth / 2 + 0.4], [width / 2 - 0.4, depth / 2 - 0.4]), 0.0])
        turn = rng.uniform(0, 2 * np.pi)
        loose = ANYWHERE[int(rng.integers(len(ANYWHERE)))]
        layout.add(loose(Footing(spot, np.array([np.cos(turn), np.sin(turn), 0.0])), rng))
    return layout


def visible_surfaces(layout: Layout) -> list[Surface]:
    """The shell and all faces of the boxes that can be seen from somewhere in the camera's space."""
    low, high = layout.free
    low, high = low - CLEARANCE, high + CLEARANCE  # a right camera stands a little beside the space
    stand = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    surfaces = list(layout.surfaces)
    for box in layout.boxes:
        for surface in sides_of(box):
            if np.max((stand - surface.origin) @ surface.normal) > 0:
                surfaces.append(surface)
    return surfaces


def _walls(layout: Layout) -> list[tuple[Footing, float]]:
    """The four walls, each as a footing in the middle of its foot that faces into the room, and its length."""
    width, depth, _ = layout.size
    walls = []
    for inward, distance, length in (
        (np.array([0.0, -1.0, 0.0]), depth / 2, width),
        (np.array([0.0, 1.0, 0.0]), depth / 2, width),
        (np.array([-1.0, 0.0, 0.0]), width / 2, depth),
        (np.array([1.0, 0.0, 0.0]), width / 2, depth),
    ):
        walls.append((Footing(-distance * inward, -front_of(inward)), length))
    return walls


def _build_shell(layout: Layout, rng: np.random.Generator) -> None:
    width, depth, height = layout.size
    common, accent = (any_finish(textures.WALLS, rng) for _ in range(2))
    special = int(rng.integers(4))
    for number, (wall, length) in enumerate(_walls(layout)):
        origin = wall.point(-length / 2, 0.0, height)
        finish = accent if number == special else common
        layout.surfaces.append(Surface(origin, wall.right, -UP, (length, height), finish, enclosing=True))
    floor, ceiling = any_finish(textures.FLOORS, rng), any_finish(textures.CEILINGS, rng)
    along, across = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    corner = np.array([-width / 2, depth / 2, 0.0])
    layout.surfaces.append(Surface(corner, along, -across, (width, depth), floor, enclosing=True, coarseness=1.2))
    corner = np.array([-width / 2, -depth / 2, height])
    layout.surfaces.append(Surface(corner, along, across, (width, depth), ceiling, enclosing=True, coarseness=1.6))


def _hang_lamps(layout: Layout, rng: np.random.Generator) -> None:
    width, depth, height = layout.size
    if rng.random() < 0.4:
        for x in np.linspace(-width / 2, width / 2, int(rng.integers(3, 6)) + 1)[1:-1]:
            wood = any_surface(rng)
            centre = np.array([x, 0.0, height - 0.09])
            layout.add(
                [Box(centre, np.array([1.0, 0.0, 0.0]), (0.14, depth - 0.02, 0.17), wood, wood, wood)],
                gap=0.0,
            )
    for x in np.linspace(-width / 2, width / 2, int(rng.integers(2, 4)) + 1)[:-1] + 0.6:
        centre = np.array([x, rng.uniform(-0.3, 0.3) * depth, height - _LAMP_DEPTH / 2 - 0.002])
        size = rng.uniform(0.25, 0.6), rng.uniform(0.25, 1.2), _LAMP_DEPTH
        glow = finish(_glow, rng)
        lamp = Box(centre, np.array([1.0, 0.0, 0.0]), size, glow, glow, glow, lamp=True)
        if layout.add([lamp]):
            for shift in (-0.35, 0.0, 0.35):
                layout.lights.append((centre + np.array([0.0, shift * size[1], -_LAMP_DEPTH]), -UP))


def _add_window(layout: Layout, wall: tuple[Footing, float], rng: np.random.Generator) -> None:
    size = rng.uniform(1.0, 2.0), 0.05, rng.uniform(1.0, 1.4)
    footing = _add_to_wall(layout, wall, size, 1.0 + size[2] / 2, paint.window, rng, attempts=20)
    if footing is not None:
        for along in (-0.3, 0.3):
            layout.lights.append((footing.point(along * size[0], 0.1, 0.0), footing.front))


def _add_to_wall(
    layout: Layout,
    wall: tuple[Footing, float],
    size: tuple[float, float, float],
    height: float,
    material: Material,
    rng: np.random.Generator,
    *,
    attempts: int,
) -> Footing | None:
    """Hang a flat box with its middle at `height` somewhere on the wall where nothing is; its footing if it fits."""
    footing, length = wall
    front, edge = finish(material, rng), any_surface(rng)
    for _ in range(attempts):
        along = rng.uniform(-1, 1) * (length - size[0]) / 2
        spot = Footing(footing.point(along, 0.002, height), footing.right)
        if layout.add([place(spot, (0.0, size[1] / 2, 0.0), size, front, edge)]):
            return spot
    return None


def _photograph(picture: Picture) -> Material:
    def hung(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
        return paint.fitted(picture, height, width)

    return hung


def _glow(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    return np.full((height, width, 3), 250, np.uint8)
