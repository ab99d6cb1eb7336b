# SPDX-License-Identifier: Apache-2.0
"""Furniture and other things: each a function from where it stands to the boxes that it consists of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import pictures as paint
from . import textures
from .boxes import Box, Footing, any_finish, any_surface, finish, place
from .textures import Picture


def _cabinet(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, depth, height = rng.uniform(0.6, 1.6), rng.uniform(0.35, 0.6), rng.choice([0.55, 0.8, 1.1, 1.9])
    wood = any_surface(rng)
    boxes = [place(footing, (0.0, depth / 2, height / 2), (width, depth, height), finish(paint.drawers, rng), wood)]
    return boxes + _clutter(footing, (width, depth, height), rng)


def _shelf(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, depth, levels = rng.uniform(0.7, 1.5), rng.uniform(0.28, 0.38), int(rng.integers(3, 6))
    board, pitch = 0.025, rng.uniform(0.32, 0.4)
    height = levels * pitch + board
    wood = any_surface(rng)
    boxes = [place(footing, (0.0, 0.006, height / 2), (width - 2 * board, 0.012, height - 0.002), wood)]
    for side in (-1, 1):
        boxes.append(place(footing, (side * (width - board) / 2, depth / 2, height / 2), (board, depth, height), wood))
    for level in range(levels + 1):
        boxes.append(
            place(footing, (0.0, depth / 2, level * pitch + board / 2), (width - 2 * board, depth, board), wood)
        )
    for level in range(levels):
        shelf = Footing(footing.point(0.0, 0.015, level * pitch + board), footing.right)
        boxes += _books(shelf, width - 2 * board - 0.02, depth - 0.05, pitch - board - 0.03, rng)
    return boxes


def wall_shelf(footing: Footing, rng: np.random.Generator) -> list[Box]:
    """A board on the wall with books on it; the footing is on the wall, at the board's height."""
    width, depth = rng.uniform(0.6, 1.2), 0.24
    board = place(footing, (0.0, depth / 2, 0.012), (width, depth, 0.024), any_surface(rng))
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
            front = any_finish(
                (paint.book_spines, paint.book_spines, paint.book_spines, paint.carton, paint.poster), rng
            )
            cover = finish(textures.fabric, rng)
            boxes.append(place(footing, (left + across / 2, deep / 2, tall / 2), (across, deep, tall), front, cover))
        left += across + rng.uniform(0.01, 0.06)
    return boxes


def _desk(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, depth, height = rng.uniform(1.1, 1.8), rng.uniform(0.6, 0.75), rng.uniform(0.7, 0.76)
    wood, leg = any_surface(rng), any_surface(rng)
    boxes = [place(footing, (0.0, depth / 2, height - 0.015), (width, depth, 0.03), wood)]
    for x in (-width / 2 + 0.04, width / 2 - 0.04):
        for y in (0.04, depth - 0.04):
            boxes.append(place(footing, (x, y, (height - 0.03) / 2), (0.05, 0.05, height - 0.03), leg))
    if rng.random() < 0.6:
        boxes.append(
            place(
                footing,
                (width / 2 - 0.3, depth / 2, 0.32),
                (0.4, depth - 0.12, 0.6),
                finish(paint.drawers, rng),
                wood,
            )
        )
    return boxes + _clutter(footing, (width, depth, height), rng)


def _sofa(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, cloth = rng.uniform(1.3, 2.1), any_finish((textures.fabric, textures.carpet), rng)
    boxes = [
        place(footing, (0.0, 0.4, 0.21), (width, 0.75, 0.42), cloth),
        place(footing, (0.0, 0.11, 0.62), (width, 0.2, 0.4), cloth),
    ]
    for side in (-1, 1):
        boxes.append(place(footing, (side * (width / 2 + 0.08), 0.4, 0.31), (0.15, 0.75, 0.62), cloth))
    for x in np.arange(-width / 2 + 0.3, width / 2 - 0.25, rng.uniform(0.5, 0.9)):
        boxes.append(
            place(footing, (float(x), 0.3, 0.6), (0.4, 0.13, 0.34), any_finish((textures.rug, textures.fabric), rng))
        )
    return boxes


def _pillar(footing: Footing, rng: np.random.Generator) -> list[Box]:
    side, material = rng.uniform(0.25, 0.4), any_finish((textures.bricks, textures.concrete, textures.tiles), rng)
    return [place(footing, (0.0, side / 2, 1.2), (side, side, 2.4), material)]


def _cartons(footing: Footing, rng: np.random.Generator) -> list[Box]:
    """One to three cardboard boxes on top of one another, each turned a little."""
    boxes, level, size = [], 0.0, rng.uniform([0.3, 0.25, 0.2], [0.55, 0.5, 0.4])
    for _ in range(int(rng.integers(1, 4))):
        turn = rng.normal(0, 0.25)
        right = np.cos(turn) * footing.right + np.sin(turn) * footing.front
        centre = footing.point(0.0, 0.3, level + size[2] / 2)
        card = finish(paint.carton, rng)
        boxes.append(Box(centre, right, (size[0], size[1], size[2]), card, card, card))
        level += size[2] + 0.001
        size = size * rng.uniform(0.6, 0.95)
    return boxes


def _low_table(footing: Footing, rng: np.random.Generator) -> list[Box]:
    width, depth, height = rng.uniform(0.6, 1.1), rng.uniform(0.45, 0.7), rng.uniform(0.35, 0.48)
    wood, edge = any_finish((textures.planks, textures.tiles, textures.lacquer), rng), any_surface(rng)
    boxes = [place(footing, (0.0, depth / 2, height - 0.02), (width, depth, 0.04), edge, edge, wood)]
    for x in (-width / 2 + 0.05, width / 2 - 0.05):
        boxes.append(place(footing, (x, depth / 2, (height - 0.04) / 2), (0.05, depth - 0.06, height - 0.04), edge))
    cover = any_finish((paint.poster, paint.document, paint.painting), rng)
    edge = finish(textures.lacquer, rng)
    boxes.append(
        place(footing, (rng.uniform(-0.1, 0.1), depth / 2, height + 0.02), (0.28, 0.21, 0.04), edge, edge, cover)
    )
    return boxes


def _stool(footing: Footing, rng: np.random.Generator) -> list[Box]:
    wood = any_surface(rng)
    boxes = [place(footing, (0.0, 0.0, 0.45), (0.4, 0.4, 0.05), wood, wood, finish(textures.fabric, rng))]
    for x in (-0.16, 0.16):
        for y in (-0.16, 0.16):
            boxes.append(place(footing, (x, y, 0.21), (0.04, 0.04, 0.42), wood))
    return boxes


def _floor_rug(footing: Footing, rng: np.random.Generator) -> list[Box]:
    size = rng.uniform(1.2, 2.4), rng.uniform(0.8, 1.5), 0.01
    return [place(footing, (0.0, 0.0, 0.006), size, finish(textures.rug, rng))]


def _clutter(footing: Footing, size: tuple[float, float, float], rng: np.random.Generator) -> list[Box]:
    """Things on top of a piece of furniture: screens, books, cartons, framed pictures."""
    width, depth, height = size
    boxes, left = [], -width / 2 + 0.03
    black = finish(_black, rng)
    while left < width / 2 - 0.3:
        spot = Footing(footing.point(left, 0.05, height + 0.001), footing.right)
        kind, used = rng.random(), rng.uniform(0.2, 0.3)
        if kind < 0.3 and left < width / 2 - 0.62 and depth > 0.4:
            used = rng.uniform(0.5, 0.6)
            boxes.append(place(spot, (used / 2, 0.14, 0.26), (used, 0.03, 0.33), finish(paint.screen, rng), black))
            boxes.append(place(spot, (used / 2, 0.12, 0.05), (0.06, 0.04, 0.1), black))
            boxes.append(place(spot, (used / 2, 0.14, 0.004), (0.2, 0.16, 0.008), black))
        elif kind < 0.55:
            boxes += _books(
                Footing(spot.point(used / 2, 0.0, 0.0), spot.right), used, min(depth - 0.1, 0.22), 0.27, rng
            )
        elif kind < 0.75:
            tall = rng.uniform(0.1, 0.3)
            boxes.append(place(spot, (used / 2, 0.12, tall / 2), (used, 0.2, tall), finish(paint.carton, rng)))
        elif kind < 0.9:
            picture, frame = any_finish(paint.HANGING, rng), finish(textures.lacquer, rng)
            boxes.append(place(spot, (used / 2, 0.05, used * 0.6), (used, 0.02, used * 1.2), picture, frame))
        left += used + rng.uniform(0.02, 0.15)
    return boxes


AGAINST_WALLS: tuple[Callable[[Footing, np.random.Generator], list[Box]], ...] = (
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
ANYWHERE: tuple[Callable[[Footing, np.random.Generator], list[Box]], ...] = (
    _cartons,
    _cartons,
    _low_table,
    _stool,
    _floor_rug,
)


def _black(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    return np.full((height, width, 3), 28, np.uint8)
