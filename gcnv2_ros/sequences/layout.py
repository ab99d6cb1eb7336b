# SPDX-License-Identifier: Apache-2.0
"""The room's contents: shell, furniture and pictures, placed at random around the space that the camera moves in.

World frame: origin in the middle of the floor, z up. Everything is a box that stands upright.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from . import pictures as paint
from . import textures
from .textures import Material, Picture

CLEARANCE = 0.35
"""Metres that are kept free around the space the camera moves in."""

_UP = np.array([0.0, 0.0, 1.0])
_LAMP_DEPTH = 0.06


@dataclass(frozen=True, eq=False)
class Footing:
    """Where a thing stands: a point on the floor or elsewhere, and its directions to the right and to the front."""

    origin: NDArray[np.float64]
    right: NDArray[np.float64]

    @property
    def front(self) -> NDArray[np.float64]:
        """Unit vector towards whoever looks at the thing from the front and has `right` on the right-hand side."""
        return _front(self.right)

    def point(self, right: float, front: float, up: float) -> NDArray[np.float64]:
        """A point given by its distances along right, front and up."""
        return np.asarray(self.origin + right * self.right + front * self.front + up * _UP, np.float64)


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
        half = 0.5 * (width * np.abs(self.right) + depth * np.abs(_front(self.right)) + height * _UP)
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
            kind = _FURNITURE[int(rng.integers(len(_FURNITURE)))]
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
            layout.add(_wall_shelf(shelf, rng))
    for _ in range(14):
        spot = np.array([*rng.uniform([-width / 2 + 0.4, -depth / 2 + 0.4], [width / 2 - 0.4, depth / 2 - 0.4]), 0.0])
        turn = rng.uniform(0, 2 * np.pi)
        loose = _LOOSE[int(rng.integers(len(_LOOSE)))]
        layout.add(loose(Footing(spot, np.array([np.cos(turn), np.sin(turn), 0.0])), rng))
    return layout


def visible_surfaces(layout: Layout) -> list[Surface]:
    """The shell and all faces of the boxes that can be seen from somewhere in the camera's space."""
    low, high = layout.free
    low, high = low - CLEARANCE, high + CLEARANCE  # a right camera stands a little beside the space
    stand = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    surfaces = list(layout.surfaces)
    for box in layout.boxes:
        for surface in _sides(box):
            if np.max((stand - surface.origin) @ surface.normal) > 0:
                surfaces.append(surface)
    return surfaces


def _sides(box: Box) -> list[Surface]:
    width, depth, height = box.size
    front = _front(box.right)
    sides = []
    for normal, across, distance, finish in (
        (front, width, depth / 2, box.front),
        (-front, width, depth / 2, box.side),
        (box.right, depth, width / 2, box.side),
        (-box.right, depth, width / 2, box.side),
    ):
        right = -_front(normal)
        origin = box.centre + distance * normal - across / 2 * right + height / 2 * _UP
        sides.append(Surface(origin, right, -_UP, (across, height), finish, lamp=box.lamp))
    for sign in (1.0, -1.0):
        down = sign * front
        origin = box.centre + sign * height / 2 * _UP - width / 2 * box.right - depth / 2 * down
        sides.append(Surface(origin, box.right, down, (width, depth), box.top, lamp=box.lamp))
    return sides


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
        walls.append((Footing(-distance * inward, -_front(inward)), length))
    return walls


def _build_shell(layout: Layout, rng: np.random.Generator) -> None:
    width, depth, height = layout.size
    common, accent = (_any(textures.WALLS, rng) for _ in range(2))
    special = int(rng.integers(4))
    for number, (wall, length) in enumerate(_walls(layout)):
        origin = wall.point(-length / 2, 0.0, height)
        finish = accent if number == special else common
        layout.surfaces.append(Surface(origin, wall.right, -_UP, (length, height), finish, enclosing=True))
    floor, ceiling = _any(textures.FLOORS, rng), _any(textures.CEILINGS, rng)
    along, across = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    corner = np.array([-width / 2, depth / 2, 0.0])
    layout.surfaces.append(Surface(corner, along, -across, (width, depth), floor, enclosing=True, coarseness=1.2))
    corner = np.array([-width / 2, -depth / 2, height])
    layout.surfaces.append(Surface(corner, along, across, (width, depth), ceiling, enclosing=True, coarseness=1.6))


def _hang_lamps(layout: Layout, rng: np.random.Generator) -> None:
    width, depth, height = layout.size
    if rng.random() < 0.4:
        for x in np.linspace(-width / 2, width / 2, int(rng.integers(3, 6)) + 1)[1:-1]:
            wood = _surface(rng)
            centre = np.array([x, 0.0, height - 0.09])
            layout.add(
                [Box(centre, np.array([1.0, 0.0, 0.0]), (0.14, depth - 0.02, 0.17), wood, wood, wood)],
                gap=0.0,
            )
    for x in np.linspace(-width / 2, width / 2, int(rng.integers(2, 4)) + 1)[:-1] + 0.6:
        centre = np.array([x, rng.uniform(-0.3, 0.3) * depth, height - _LAMP_DEPTH / 2 - 0.002])
        size = rng.uniform(0.25, 0.6), rng.uniform(0.25, 1.2), _LAMP_DEPTH
        glow = _finish(_glow, rng)
        lamp = Box(centre, np.array([1.0, 0.0, 0.0]), size, glow, glow, glow, lamp=True)
        if layout.add([lamp]):
            for shift in (-0.35, 0.0, 0.35):
                layout.lights.append((centre + np.array([0.0, shift * size[1], -_LAMP_DEPTH]), -_UP))


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
    front, edge = _finish(material, rng), _surface(rng)
    for _ in range(attempts):
        along = rng.uniform(-1, 1) * (length - size[0]) / 2
        spot = Footing(footing.point(along, 0.002, height), footing.right)
        if layout.add([_box(spot, (0.0, size[1] / 2, 0.0), size, front, edge)]):
            return spot
    return None


def _box(
    footing: Footing,
    centre: tuple[float, float, float],
    size: tuple[float, float, float],
    front: Finish,
    side: Finish | None = None,
    top: Finish | None = None,
) -> Box:
    """A box whose middle is at `centre` (right, front, up) of the footing."""
    return Box(footing.point(*centre), footing.right, size, front, side or front, top or side or front)


def _cabinet(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, depth, height = rng.uniform(0.6, 1.6), rng.uniform(0.35, 0.6), rng.choice([0.55, 0.8, 1.1, 1.9])
    wood = _surface(rng)
    boxes = [_box(footing, (0.0, depth / 2, height / 2), (width, depth, height), _finish(paint.drawers, rng), wood)]
    return boxes + _clutter(footing, (width, depth, height), rng)


def _shelf(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, depth, levels = rng.uniform(0.7, 1.5), rng.uniform(0.28, 0.38), int(rng.integers(3, 6))
    board, pitch = 0.025, rng.uniform(0.32, 0.4)
    height = levels * pitch + board
    wood = _surface(rng)
    boxes = [_box(footing, (0.0, 0.006, height / 2), (width - 2 * board, 0.012, height - 0.002), wood)]
    for side in (-1, 1):
        boxes.append(_box(footing, (side * (width - board) / 2, depth / 2, height / 2), (board, depth, height), wood))
    for level in range(levels + 1):
        boxes.append(
            _box(footing, (0.0, depth / 2, level * pitch + board / 2), (width - 2 * board, depth, board), wood)
        )
    for level in range(levels):
        shelf = Footing(footing.point(0.0, 0.015, level * pitch + board), footing.right)
        boxes += _books(shelf, width - 2 * board - 0.02, depth - 0.05, pitch - board - 0.03, rng)
    return boxes


def _wall_shelf(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, depth = rng.uniform(0.6, 1.2), 0.24
    board = _box(footing, (0.0, depth / 2, 0.012), (width, depth, 0.024), _surface(rng))
    return [
        board,
        *_books(Footing(footing.point(0.0, 0.0, 0.024), footing.right), width, depth - 0.03, 0.28, rng),
    ]


def _books(footing: Footing, width: float, depth: float, height: float, rng: np.random.Generator) -> list[Box]:
    """Rows of books and other things side by side on a board, with gaps."""
    boxes, left = [], -width / 2
    while left < width / 2 - 0.08:
        across = min(rng.uniform(0.1, 0.45), width / 2 - left)
        if rng.random() < 0.8:
            tall, deep = rng.uniform(0.6, 1.0) * height, rng.uniform(0.6, 1.0) * depth
            front = _any((paint.book_spines, paint.book_spines, paint.book_spines, paint.carton, paint.poster), rng)
            cover = _finish(textures.fabric, rng)
            boxes.append(_box(footing, (left + across / 2, deep / 2, tall / 2), (across, deep, tall), front, cover))
        left += across + rng.uniform(0.01, 0.06)
    return boxes


def _desk(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, depth, height = rng.uniform(1.1, 1.8), rng.uniform(0.6, 0.75), rng.uniform(0.7, 0.76)
    wood, leg = _surface(rng), _surface(rng)
    boxes = [_box(footing, (0.0, depth / 2, height - 0.015), (width, depth, 0.03), wood)]
    for x in (-width / 2 + 0.04, width / 2 - 0.04):
        for y in (0.04, depth - 0.04):
            boxes.append(_box(footing, (x, y, (height - 0.03) / 2), (0.05, 0.05, height - 0.03), leg))
    if rng.random() < 0.6:
        boxes.append(
            _box(
                footing,
                (width / 2 - 0.3, depth / 2, 0.32),
                (0.4, depth - 0.12, 0.6),
                _finish(paint.drawers, rng),
                wood,
            )
        )
    return boxes + _clutter(footing, (width, depth, height), rng)


def _sofa(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, cloth = rng.uniform(1.3, 2.1), _any((textures.fabric, textures.carpet), rng)
    boxes = [
        _box(footing, (0.0, 0.4, 0.21), (width, 0.75, 0.42), cloth),
        _box(footing, (0.0, 0.11, 0.62), (width, 0.2, 0.4), cloth),
    ]
    for side in (-1, 1):
        boxes.append(_box(footing, (side * (width / 2 + 0.08), 0.4, 0.31), (0.15, 0.75, 0.62), cloth))
    for x in np.arange(-width / 2 + 0.3, width / 2 - 0.25, rng.uniform(0.5, 0.9)):
        boxes.append(_box(footing, (float(x), 0.3, 0.6), (0.4, 0.13, 0.34), _any((textures.rug, textures.fabric), rng)))
    return boxes


def _pillar(footing: Footing, rng: np.random.Generator) -> list[Box]:
    side, material = rng.uniform(0.25, 0.4), _any((textures.bricks, textures.concrete, textures.tiles), rng)
    return [_box(footing, (0.0, side / 2, 1.2), (side, side, 2.4), material)]


def _cartons(footing: Footing, rng: np.random.Generator) -> list[Box]:
    """One to three cardboard boxes on top of one another, each turned a little."""
    boxes, level, size = [], 0.0, rng.uniform([0.3, 0.25, 0.2], [0.55, 0.5, 0.4])
    for _ in range(int(rng.integers(1, 4))):
        turn = rng.normal(0, 0.25)
        right = np.cos(turn) * footing.right + np.sin(turn) * footing.front
        centre = footing.point(0.0, 0.3, level + size[2] / 2)
        card = _finish(paint.carton, rng)
        boxes.append(Box(centre, right, (size[0], size[1], size[2]), card, card, card))
        level += size[2] + 0.001
        size = size * rng.uniform(0.6, 0.95)
    return boxes


def _low_table(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, depth, height = rng.uniform(0.6, 1.1), rng.uniform(0.45, 0.7), rng.uniform(0.35, 0.48)
    wood, edge = _any((textures.planks, textures.tiles, textures.lacquer), rng), _surface(rng)
    boxes = [_box(footing, (0.0, depth / 2, height - 0.02), (width, depth, 0.04), edge, edge, wood)]
    for x in (-width / 2 + 0.05, width / 2 - 0.05):
        boxes.append(_box(footing, (x, depth / 2, (height - 0.04) / 2), (0.05, depth - 0.06, height - 0.04), edge))
    cover = _any((paint.poster, paint.document, paint.painting), rng)
    edge = _finish(textures.lacquer, rng)
    boxes.append(
        _box(footing, (rng.uniform(-0.1, 0.1), depth / 2, height + 0.02), (0.28, 0.21, 0.04), edge, edge, cover)
    )
    return boxes


def _stool(footing: Footing, rng: np.random.Generator) -> list[Box]:
    wood = _surface(rng)
    boxes = [_box(footing, (0.0, 0.0, 0.45), (0.4, 0.4, 0.05), wood, wood, _finish(textures.fabric, rng))]
    for x in (-0.16, 0.16):
        for y in (-0.16, 0.16):
            boxes.append(_box(footing, (x, y, 0.21), (0.04, 0.04, 0.42), wood))
    return boxes


def _floor_rug(footing: Footing, rng: np.random.Generator) -> list[Box]:
    size = rng.uniform(1.2, 2.4), rng.uniform(0.8, 1.5), 0.01
    return [_box(footing, (0.0, 0.0, 0.006), size, _finish(textures.rug, rng))]


def _clutter(footing: Footing, size: tuple[float, float, float], rng: np.random.Generator) -> list[Box]:
    """Things on top of a piece of furniture: screens, books, cartons, framed pictures."""
    width, depth, height = size
    boxes, left = [], -width / 2 + 0.03
    black = _finish(_black, rng)
    while left < width / 2 - 0.3:
        spot = Footing(footing.point(left, 0.05, height + 0.001), footing.right)
        kind, used = rng.random(), rng.uniform(0.2, 0.3)
        if kind < 0.3 and left < width / 2 - 0.62 and depth > 0.4:
            used = rng.uniform(0.5, 0.6)
            boxes.append(_box(spot, (used / 2, 0.14, 0.26), (used, 0.03, 0.33), _finish(paint.screen, rng), black))
            boxes.append(_box(spot, (used / 2, 0.12, 0.05), (0.06, 0.04, 0.1), black))
            boxes.append(_box(spot, (used / 2, 0.14, 0.004), (0.2, 0.16, 0.008), black))
        elif kind < 0.55:
            boxes += _books(
                Footing(spot.point(used / 2, 0.0, 0.0), spot.right), used, min(depth - 0.1, 0.22), 0.27, rng
            )
        elif kind < 0.75:
            tall = rng.uniform(0.1, 0.3)
            boxes.append(_box(spot, (used / 2, 0.12, tall / 2), (used, 0.2, tall), _finish(paint.carton, rng)))
        elif kind < 0.9:
            picture, frame = _any(paint.HANGING, rng), _finish(textures.lacquer, rng)
            boxes.append(_box(spot, (used / 2, 0.05, used * 0.6), (used, 0.02, used * 1.2), picture, frame))
        left += used + rng.uniform(0.02, 0.15)
    return boxes


_FURNITURE: tuple[Callable[[Footing, np.random.Generator], list[Box]], ...] = (
    _cabinet,
    _cabinet,
    _shelf,
    _shelf,
    _desk,
    _desk,
    _sofa,
    _cartons,
    _pillar,
)
_LOOSE: tuple[Callable[[Footing, np.random.Generator], list[Box]], ...] = (
    _cartons,
    _cartons,
    _low_table,
    _stool,
    _floor_rug,
)


def _front(right: NDArray[np.float64]) -> NDArray[np.float64]:
    """The horizontal direction a quarter turn from `right`, clockwise as seen from above: right x up."""
    return np.array([right[1], -right[0], 0.0])


def _finish(material: Material, rng: np.random.Generator) -> Finish:
    return Finish(material, int(rng.integers(2**31)))


def _any(materials: Sequence[Material], rng: np.random.Generator) -> Finish:
    return _finish(materials[int(rng.integers(len(materials)))], rng)


def _surface(rng: np.random.Generator) -> Finish:
    return _any(textures.SURFACES, rng)


def _photograph(picture: Picture) -> Material:
    def hung(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
        return paint.fitted(picture, height, width)

    return hung


def _glow(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    return np.full((height, width, 3), 250, np.uint8)


def _black(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    return np.full((height, width, 3), 28, np.uint8)
