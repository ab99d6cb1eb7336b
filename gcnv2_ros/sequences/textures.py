# SPDX-License-Identifier: Apache-2.0
"""Procedural surfaces: plaster, bricks, planks, tiles and other materials, drawn at a physical scale.

Every material is a function ``(height, width, texel, style, rng)`` to uint8 (height, width, 3) BGR, with `texel` the
metres that a texture pixel spans. The generator `style` decides colours and proportions, `rng` every detail: two
sides of one cupboard share the state of the first, and are of one wood without being the same board twice.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Material = Callable[[int, int, float, np.random.Generator, np.random.Generator], Picture]


def fractal_noise(
    height: int, width: int, cell: tuple[float, float], rng: np.random.Generator, *, octaves: int = 4
) -> NDArray[np.float32]:
    """Smooth random field, float32 (height, width), about zero with a standard deviation of about one.

    Parameters
    ----------
    cell
        Height and width in pixels of the coarsest octave's features; each further octave has half of both and
        0.6 of the amplitude.
    """
    field = np.zeros((height, width), np.float32)
    amplitude, total = 1.0, 0.0
    for octave in range(octaves):
        rows = max(2, int(np.ceil(height / max(cell[0] / 2**octave, 1.0))) + 1)
        columns = max(2, int(np.ceil(width / max(cell[1] / 2**octave, 1.0))) + 1)
        grid = rng.standard_normal((rows, columns), dtype=np.float32)
        if grid.shape != field.shape:
            grid = np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
        field += np.float32(amplitude) * grid
        total += amplitude**2
        amplitude *= 0.6
    return field * np.float32(1.4 / np.sqrt(total))


def random_colour(
    rng: np.random.Generator,
    *,
    saturation: float = 0.5,
    value: float | None = None,
    hue: tuple[float, float] = (0.0, 180.0),
) -> NDArray[np.float32]:
    """A BGR colour, float32 (3,) in 0..255, with a hue from a range of OpenCV's half-degrees."""
    brightness = rng.uniform(0.25, 0.95) if value is None else value
    channels = [rng.uniform(*hue), 255 * saturation * rng.uniform(0.2, 1.0), 255 * brightness]
    pixel = np.array([[channels]], np.uint8)
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0], np.float32)


def tinted(tone: NDArray[np.float32], colour: NDArray[np.float32]) -> Picture:
    """Colour a field of relative brightness (1.0 is `colour` itself) by way of a lookup table."""
    quantised = np.clip(tone * np.float32(128.0), 0, 255).astype(np.uint8)
    table = np.clip(np.arange(256, dtype=np.float32)[:, None] / 128.0 * colour, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.merge([quantised] * 3), table.reshape(256, 1, 3)), np.uint8)


def plaster(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Painted wall: nearly flat, a little mottled, with a few scuffs and filled holes."""
    tone = 1.0 + 0.012 * fractal_noise(height, width, (0.5 / texel, 0.5 / texel), rng)
    tone += 0.012 * fractal_noise(height, width, (0.02 / texel, 0.02 / texel), rng, octaves=2)
    area = height * width * texel**2
    for _ in range(rng.poisson(1.5 * area)):
        centre = int(rng.integers(width)), int(rng.integers(height))
        length, angle = rng.uniform(0.01, 0.12) / texel, rng.uniform(0, np.pi)
        end = int(centre[0] + length * np.cos(angle)), int(centre[1] + length * np.sin(angle))
        cv2.line(tone, centre, end, float(rng.uniform(0.8, 0.93)), max(1, round(0.004 / texel)), cv2.LINE_AA)
    for _ in range(rng.poisson(0.8 * area)):
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(tone, centre, max(1, round(rng.uniform(0.003, 0.012) / texel)), float(rng.uniform(0.55, 0.9)), -1)
    return tinted(tone, random_colour(style, saturation=0.22, value=style.uniform(0.72, 0.9)))


def wallpaper(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Printed paper: a motif repeated on a staggered grid over faint stripes."""
    pitch = round(style.uniform(0.16, 0.3) / texel)
    motif = np.ones((pitch, pitch), np.float32)
    petals, reach = int(style.integers(3, 8)), pitch * style.uniform(0.18, 0.3)
    depth = float(style.choice([-1, 1])) * style.uniform(0.12, 0.3)
    turn = style.uniform(0, np.pi)
    for k in range(petals):
        angle = turn + 2 * np.pi * k / petals
        centre = int(pitch / 2 + reach * np.cos(angle)), int(pitch / 2 + reach * np.sin(angle))
        axes = max(1, int(reach * 0.62)), max(1, int(reach * 0.26))
        cv2.ellipse(motif, centre, axes, float(np.degrees(angle)), 0, 360, 1.0 + depth, -1, cv2.LINE_AA)
    cv2.circle(motif, (pitch // 2, pitch // 2), max(2, int(reach * 0.3)), 1.0 - depth, -1, cv2.LINE_AA)
    block = np.vstack([np.hstack([motif, motif * 0.97]), np.hstack([np.roll(motif, pitch // 2, 1), motif * 0.97])])
    repeats = -(-height // len(block)), -(-width // block.shape[1])
    tone = np.tile(block, repeats)[:height, :width]
    tone = tone + 0.02 * fractal_noise(height, width, (0.15 / texel, 0.15 / texel), rng, octaves=4)
    return tinted(tone.astype(np.float32), random_colour(style, saturation=0.4, value=style.uniform(0.55, 0.8)))


def bricks(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Brickwork in running bond, each brick with its own tone, rough, with light or dark joints."""
    brick_w, brick_h, joint = 0.24 / texel, 0.08 / texel, 0.012 / texel
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    course = (rows // brick_h).astype(np.int32)
    along = columns + np.where(course % 2 == 1, brick_w / 2, 0).astype(np.float32)
    tones = rng.normal(1.0, 0.16, (int(course.max()) + 1, int(width // brick_w) + 2)).astype(np.float32)
    tone = tones[course, (along // brick_w).astype(np.int32)]
    rough = fractal_noise(height, width, (0.05 / texel, 0.05 / texel), rng, octaves=4)
    tone = tone * (1.0 + 0.07 * rough)
    # The joints' edges are displaced by the roughness, so that they are not ruler-straight.
    wobble = rough * np.float32(0.0012 / texel)
    mortar = ((along % brick_w) + wobble < joint) | ((rows % brick_h) + wobble < joint)
    joint_tone = style.choice([0.55, 1.5])
    tone = np.where(mortar, np.float32(joint_tone) * (1.0 + 0.06 * rough), tone).astype(np.float32)
    soft = np.asarray(cv2.GaussianBlur(tone, (0, 0), max(0.4, 0.0015 / texel)), np.float32)
    return tinted(soft, random_colour(style, saturation=0.6, hue=(2, 16), value=style.uniform(0.4, 0.65)))


def concrete(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Cast concrete: stains of all sizes, formwork joints, tie holes and pores."""
    tone = 1.0 + 0.09 * fractal_noise(height, width, (0.8 / texel, 0.8 / texel), rng, octaves=7)
    tone += 0.04 * fractal_noise(height, width, (0.012 / texel, 0.012 / texel), rng, octaves=2)
    panel_w, panel_h = round(1.2 / texel), round(0.9 / texel)
    thickness = max(1, round(0.006 / texel))
    for x in range(panel_w, width, panel_w):
        cv2.line(tone, (x, 0), (x, height), 0.7, thickness)
    for y in range(panel_h, height, panel_h):
        cv2.line(tone, (0, y), (width, y), 0.7, thickness)
    for x in range(panel_w // 4, width, panel_w // 2):
        for y in range(panel_h // 2, height, panel_h):
            cv2.circle(tone, (x, y), max(2, round(0.014 / texel)), 0.4, -1, cv2.LINE_AA)
    for _ in range(rng.poisson(25 * height * width * texel**2)):
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(tone, centre, max(1, round(rng.uniform(0.001, 0.006) / texel)), float(rng.uniform(0.5, 0.8)), -1)
    return tinted(tone, random_colour(style, saturation=0.08, value=style.uniform(0.5, 0.7)))


def planks(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Floorboards or veneer: long boards with grain along the columns, of staggered lengths, with gaps and knots."""
    board = max(4, round(style.uniform(0.09, 0.2) / texel))
    grain = fractal_noise(height, width, (0.02 / texel, 0.7 / texel), rng, octaves=4)
    fine = fractal_noise(height, width, (0.005 / texel, 0.12 / texel), rng, octaves=2)
    tone = 1.0 + 0.09 * grain + 0.05 * fine
    gap = max(1, round(0.003 / texel))
    for top in range(0, height, board):
        bottom, left = min(top + board, height), int(-rng.uniform(0, 1.2) / texel)
        while left < width:
            right = left + max(8, round(rng.uniform(0.7, 1.8) / texel))
            cell = tone[top:bottom, max(left, 0) : min(right, width)]
            if cell.size:
                # Rolling the grain makes neighbouring boards end in different figures.
                cell[:] = np.roll(cell, int(rng.integers(cell.shape[1])), axis=1) * rng.normal(1.0, 0.1)
                if rng.random() < 0.35 and cell.shape[1] > 30:
                    centre = (
                        int(rng.integers(15, cell.shape[1] - 10)),
                        int(rng.integers(1, max(2, len(cell) - 1))),
                    )
                    size = rng.uniform(0.008, 0.02) / texel
                    for ring, shade in ((1.6, 0.8), (1.0, 0.55), (0.5, 0.7)):
                        axes = max(1, int(size * ring * 1.5)), max(1, int(size * ring))
                        patch = np.ascontiguousarray(cell)
                        cv2.ellipse(patch, centre, axes, 0, 0, 360, shade, -1, cv2.LINE_AA)
                        cell[:] = patch
                cell[:, -gap:] *= 0.45
            left = right
        tone[bottom - gap : bottom] *= 0.45
    wood = style.uniform([55, 95, 135], [95, 130, 175]) * style.uniform(0.55, 1.05)
    return tinted(tone.astype(np.float32), wood.astype(np.float32))


def tiles(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Stone tiles with chips of terrazzo or veins, in one tone or as a checkerboard, with joints."""
    pitch, joint = max(8, round(style.choice([0.2, 0.3, 0.45]) / texel)), max(1, round(0.005 / texel))
    counts = -(-height // pitch), -(-width // pitch)
    tones = rng.normal(1.0, 0.045, counts)
    if style.random() < 0.4:
        tones *= np.where(np.add.outer(np.arange(counts[0]), np.arange(counts[1])) % 2, 0.55, 1.15)
    tone = np.kron(tones, np.ones((pitch, pitch)))[:height, :width].astype(np.float32)
    if style.random() < 0.5:
        chips = fractal_noise(height, width, (0.02 / texel, 0.02 / texel), rng, octaves=2)
        tone *= np.where(chips > 1.0, np.float32(1.25), np.where(chips < -1.1, np.float32(0.6), np.float32(1.0)))
    else:
        veins = np.abs(fractal_noise(height, width, (0.5 / texel, 0.5 / texel), rng, octaves=6))
        tone *= 1.0 - 0.35 * np.exp(-veins * 14.0) + 0.03 * veins
    tone[(np.arange(height) % pitch) < joint] = 0.6
    tone[:, (np.arange(width) % pitch) < joint] = 0.6
    return tinted(tone, random_colour(style, saturation=0.2, value=style.uniform(0.5, 0.75)))


def carpet(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Short pile: fine noise on a plain ground with slow variation and a few stains."""
    tone = 1.0 + 0.11 * fractal_noise(height, width, (0.01 / texel, 0.01 / texel), rng, octaves=2)
    tone += 0.05 * fractal_noise(height, width, (0.4 / texel, 0.4 / texel), rng)
    stains = np.zeros_like(tone)
    for _ in range(rng.poisson(0.5 * height * width * texel**2)):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = [max(2, round(value / texel)) for value in rng.uniform(0.02, 0.08, 2)]
        cv2.ellipse(stains, centre, axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(0.1, 0.3)), -1)
    tone -= stains
    return tinted(tone, random_colour(style, saturation=0.45, value=style.uniform(0.3, 0.6)))


def rug(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Woven rug: borders around a field of rotated squares and medallions, over a coarse weave."""
    palette = [random_colour(style, saturation=0.6) for _ in range(5)]
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = palette[0]
    margin = 0
    for k in range(4):
        margin += round(style.uniform(0.03, 0.09) / texel)
        if 2 * margin + 4 < min(height, width):
            canvas[margin:-margin, margin:-margin] = palette[(k + 1) % 5]
    pitch = max(10, round(style.uniform(0.14, 0.26) / texel))
    for y in range(margin + pitch, height - margin - pitch // 2, pitch):
        for x in range(margin + pitch, width - margin - pitch // 2, pitch):
            for size, colour in ((0.42, palette[int(rng.integers(5))]), (0.2, palette[int(rng.integers(5))])):
                square = cv2.boxPoints(((float(x), float(y)), (pitch * size * 1.4,) * 2, 45.0))
                cv2.fillPoly(canvas, [square.astype(np.int32)], colour.tolist(), cv2.LINE_AA)
    weave = 1.0 + 0.1 * fractal_noise(height, width, (0.008 / texel, 0.016 / texel), rng, octaves=2)
    return np.clip(canvas * weave[..., None], 0, 255).astype(np.uint8)


def ceiling_panels(
    height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator
) -> Picture:
    """Suspended ceiling: 60 cm panels with the fissures of mineral fibre, some lighter than others."""
    pitch = max(8, round(0.6 / texel))
    counts = -(-height // pitch), -(-width // pitch)
    tone = np.kron(rng.normal(1.0, 0.02, counts), np.ones((pitch, pitch)))[:height, :width].astype(np.float32)
    fissures = fractal_noise(height, width, (0.02 / texel, 0.05 / texel), rng, octaves=2)
    tone *= np.where(fissures > 1.5, np.float32(0.8), np.float32(1.0))
    rail = max(2, round(0.018 / texel))
    tone[(np.arange(height) % pitch) < rail] = 0.86
    tone[:, (np.arange(width) % pitch) < rail] = 0.86
    return tinted(tone, random_colour(style, saturation=0.05, value=0.85))


def lacquer(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Painted wood or metal: flat, with worn spots near the edges."""
    tone = 1.0 + 0.015 * fractal_noise(height, width, (0.1 / texel, 0.1 / texel), rng)
    edge = np.minimum.outer(
        np.minimum(np.arange(height), np.arange(height)[::-1]),
        np.minimum(np.arange(width), np.arange(width)[::-1]),
    )
    worn = fractal_noise(height, width, (0.03 / texel, 0.03 / texel), rng) - edge * np.float32(texel / 0.012)
    tone = np.where(worn > 0.9, tone * 0.7, tone)
    return tinted(tone.astype(np.float32), random_colour(style, saturation=0.5))


def fabric(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Upholstery: stripes or a check, over a weave."""
    colours = np.stack([random_colour(style, saturation=0.4), random_colour(style, saturation=0.4)])
    pitch = style.uniform(0.04, 0.12) / texel
    across = (np.arange(width) // pitch % 2).astype(np.float32)
    down = (np.arange(height) // pitch % 2).astype(np.float32) if style.random() < 0.5 else np.zeros(height, np.float32)
    mix = 0.5 * (across[None, :] + down[:, None])
    weave = 1.0 + 0.08 * fractal_noise(height, width, (0.008 / texel, 0.008 / texel), rng, octaves=2)
    canvas = (colours[0] + mix[..., None] * (colours[1] - colours[0])) * weave[..., None]
    return np.clip(canvas, 0, 255).astype(np.uint8)


WALLS: tuple[Material, ...] = (plaster, plaster, wallpaper, bricks, concrete)
FLOORS: tuple[Material, ...] = (planks, planks, tiles, carpet, concrete)
CEILINGS: tuple[Material, ...] = (ceiling_panels, plaster, concrete)
SURFACES: tuple[Material, ...] = (planks, lacquer, lacquer, fabric)
