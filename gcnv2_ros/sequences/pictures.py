# SPDX-License-Identifier: Apache-2.0
"""Procedural pictures: what hangs on the walls of the room and what is printed on its furniture.

The functions have the signature of `textures.Material`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..libraries import import_library
from .textures import Material, Picture, fractal_noise, lacquer, planks, random_colour, tinted

_LETTERS = np.array(list("ABCDEFGHKLMNPRSTUVXYZabdefghkmnprstuvxyz0123456789&#%+?"))
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
)


def write_lines(
    canvas: Picture,
    box: tuple[int, int, int, int],
    letter_height: float,
    colour: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Fill `box` (left, top, right, bottom) of `canvas` with lines of random words, drawn in place."""
    left, top, right, bottom = box
    font, scale = int(rng.choice(_FONTS)), max(letter_height, 5.0) / 22.0
    stroke = max(1, round(scale * rng.uniform(1.0, 2.2)))
    line_height = max(letter_height, 5.0) * 1.7
    baseline = top + max(letter_height, 5.0)
    while baseline < bottom:
        x, end = float(left), right - (rng.uniform(0, 0.4) * (right - left) if rng.random() < 0.3 else 0)
        while True:
            word = "".join(rng.choice(_LETTERS, int(rng.integers(2, 9))))
            (width, _), _ = cv2.getTextSize(word, font, scale, stroke)
            if x + width > end:
                break
            cv2.putText(canvas, word, (int(x), int(baseline)), font, scale, colour.tolist(), stroke, cv2.LINE_AA)
            x += width + letter_height * 0.7
        baseline += line_height


def poster(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Printed poster: a gradient, geometric shapes, a headline and smaller text."""
    first, second = random_colour(rng), random_colour(rng)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    canvas = np.ascontiguousarray(np.broadcast_to(first + ramp * (second - first), (height, width, 3)).astype(np.uint8))
    size = min(height, width)
    for _ in range(int(rng.integers(5, 14))):
        colour = random_colour(rng, saturation=0.75).tolist()
        x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height * 0.8))
        reach = rng.uniform(0.05, 0.28) * size
        kind = int(rng.integers(4))
        if kind == 0:
            cv2.circle(canvas, (x, y), max(2, int(reach)), colour, -1, cv2.LINE_AA)
        elif kind == 1:
            cv2.circle(canvas, (x, y), max(2, int(reach)), colour, max(1, int(reach * 0.25)), cv2.LINE_AA)
        else:
            corners = 3 if kind == 2 else int(rng.integers(4, 8))
            angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
            points = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1).astype(np.int32)
            cv2.fillPoly(canvas, [points], colour, cv2.LINE_AA)
    ink = random_colour(rng, value=rng.choice([0.05, 0.97]), saturation=0.1)
    margin = int(0.06 * width)
    write_lines(canvas, (margin, int(0.06 * height), width - margin, int(0.2 * height)), 0.09 * size, ink, rng)
    write_lines(canvas, (margin, int(0.82 * height), width - margin, int(0.96 * height)), 0.03 * size, ink, rng)
    return canvas


def document(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Pages of print pinned to a board, or one sheet if the area is small."""
    if min(height, width) * texel < 0.45:
        canvas = np.full((height, width, 3), int(rng.integers(215, 250)), np.uint8)
        ink = np.full(3, rng.uniform(10, 70), np.float32)
        margin = max(2, int(0.08 * width))
        write_lines(canvas, (margin, margin, width - margin, int(height * 0.22)), 0.022 / texel, ink, rng)
        write_lines(canvas, (margin, int(height * 0.26), width - margin, height - margin), 0.009 / texel, ink, rng)
        return canvas
    board = np.array([90, 140, 175], np.float32) * np.float32(rng.uniform(0.7, 1.1))
    canvas = tinted(1.0 + 0.1 * fractal_noise(height, width, (0.006 / texel,) * 2, rng, octaves=2), board)
    for _ in range(int(rng.integers(6, 16) * max(1.0, height * width * texel**2))):
        sheet_h, sheet_w = (round(side / texel) for side in rng.permutation([0.297, 0.21]) * rng.uniform(0.5, 1.0))
        if sheet_h + 4 > height or sheet_w + 4 > width:
            continue
        y, x = int(rng.integers(height - sheet_h)), int(rng.integers(width - sheet_w))
        maker = document if rng.random() < 0.6 else poster
        canvas[y : y + sheet_h, x : x + sheet_w] = maker(sheet_h, sheet_w, texel, rng, rng)
        pin = max(2, round(0.005 / texel))
        cv2.circle(
            canvas,
            (x + sheet_w // 2, y + 2 * pin),
            pin,
            random_colour(rng, saturation=0.9).tolist(),
            -1,
            cv2.LINE_AA,
        )
    return canvas


def painting(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Abstract painting: overlapping strokes of a small palette over a washed ground."""
    palette = [random_colour(rng, saturation=0.65) for _ in range(6)]
    canvas = tinted(1.0 + 0.12 * fractal_noise(height, width, (0.3 / texel,) * 2, rng, octaves=6), palette[0])
    for _ in range(int(rng.integers(60, 160))):
        start = rng.uniform(0, 1, 2) * [width, height]
        heading, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.4) * min(height, width)
        bend = rng.normal(0, 1.2)
        steps = np.linspace(0, 1, 12)
        curve = start + reach * np.stack(
            [steps * np.cos(heading + bend * steps), steps * np.sin(heading + bend * steps)], 1
        )
        thickness = max(1, int(rng.uniform(0.01, 0.06) * min(height, width)))
        colour = (palette[int(rng.integers(6))] * rng.uniform(0.8, 1.2)).clip(0, 255).tolist()
        cv2.polylines(canvas, [curve.astype(np.int32)], False, colour, thickness, cv2.LINE_AA)
    relief = 1.0 + 0.04 * fractal_noise(height, width, (0.006 / texel,) * 2, rng, octaves=2)
    return np.clip(canvas * relief[..., None], 0, 255).astype(np.uint8)


def landscape(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Ridges of hills behind one another under a cloudy sky, trees in front."""
    sky = np.linspace(0.75, 1.15, height, dtype=np.float32)[:, None]
    clouds = fractal_noise(height, width, (height / 3, width / 2), rng, octaves=7)
    canvas = tinted(sky + 0.2 * np.clip(clouds - 0.3, 0, 1), np.array([215, 175, 140], np.float32))
    columns = np.arange(width)
    for k in range(5):
        level = height * (0.4 + 0.13 * k)
        ridge = level - height * 0.07 * fractal_noise(1, width, (1.0, width / (2 + k)), rng, octaves=7)[0]
        outline = np.stack([columns, ridge], 1).astype(np.int32)
        area = np.concatenate([outline, [[width, height], [0, height]]])
        shade = np.array([120, 110, 95], np.float32) * (1.0 - 0.17 * k) + np.array([0, 12, 0], np.float32) * k
        cv2.fillPoly(canvas, [area.astype(np.int32)], shade.tolist())
        for _ in range(int(rng.integers(4, 14)) * (k > 1)):
            x = int(rng.integers(width))
            y, tall = int(ridge[x]), height * rng.uniform(0.02, 0.045) * k
            tree = np.array([[x - tall / 4, y + 3], [x + tall / 4, y + 3], [x, y - tall]])
            cv2.fillPoly(canvas, [tree.astype(np.int32)], (shade * 0.6).tolist(), cv2.LINE_AA)
    mottle = 1.0 + 0.05 * fractal_noise(height, width, (0.02 / texel,) * 2, rng, octaves=4)
    return np.clip(canvas * mottle[..., None], 0, 255).astype(np.uint8)


def chart(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """A sheet of statistics: grid, bars, curves and labels, or a map with contour lines."""
    size = min(height, width)
    if rng.random() < 0.5:
        relief = fractal_noise(height, width, (0.4 * size,) * 2, rng, octaves=5)
        bands = np.floor(relief * 3).astype(np.float32)
        canvas = tinted(1.0 + 0.1 * bands, np.array([150, 190, 175], np.float32))
        contours = cv2.morphologyEx(bands, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
        canvas[contours] = 60
        canvas[relief < -1.2] = (205, 160, 110)
        for _ in range(12):
            x, y = int(rng.integers(width)), int(rng.integers(height))
            cv2.circle(canvas, (x, y), max(2, size // 90), (30, 30, 160), -1, cv2.LINE_AA)
            write_lines(
                canvas,
                (x + 4, y - 4, min(width, x + size // 4), y + 3),
                size / 40,
                np.zeros(3, np.float32),
                rng,
            )
        return canvas
    canvas = np.full((height, width, 3), 240, np.uint8)
    stroke = max(1, size // 200)
    for k in range(1, 10):
        cv2.line(canvas, (0, k * height // 10), (width, k * height // 10), (190, 190, 190), stroke)
        cv2.line(canvas, (k * width // 10, 0), (k * width // 10, height), (190, 190, 190), stroke)
    count = int(rng.integers(6, 15))
    for k in range(count):
        left = int((0.1 + 0.85 * k / count) * width)
        top = int(height * rng.uniform(0.25, 0.85))
        colour = random_colour(rng, saturation=0.75).tolist()
        cv2.rectangle(canvas, (left, top), (left + int(0.6 * width / count), int(0.9 * height)), colour, -1)
    for _ in range(3):
        values = 0.5 * height + 0.15 * height * fractal_noise(1, width, (1.0, width / 6), rng)[0]
        curve = np.stack([np.arange(width), values], 1).astype(np.int32)
        cv2.polylines(canvas, [curve], False, random_colour(rng, saturation=0.9).tolist(), 3 * stroke, cv2.LINE_AA)
    black = np.zeros(3, np.float32)
    write_lines(canvas, (width // 20, height // 30, width, height // 8), size / 16, black, rng)
    write_lines(canvas, (width // 10, int(0.92 * height), width, int(0.99 * height)), size / 40, black, rng)
    return canvas


def code_grid(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """A board of random black and white squares, like a printed code, with a white margin."""
    cell = min(height, width) / int(rng.integers(8, 20))
    cells = max(2, round(height / cell) - 2), max(2, round(width / cell) - 2)
    pattern = np.pad((rng.random(cells) < 0.5).astype(np.uint8) * 225 + 15, 1, constant_values=245)
    enlarged = cv2.resize(pattern, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.merge([enlarged] * 3), np.uint8)


def window(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """A window: bright panes with a blurred view, frame and glazing bars."""
    view = landscape(height, width, texel, style, rng)
    bright = np.clip(
        0.5 * np.asarray(cv2.GaussianBlur(view, (0, 0), max(1.0, 0.012 / texel)), np.float32) + 120, 0, 255
    )
    canvas = np.ascontiguousarray(bright.astype(np.uint8))
    frame = max(3, round(0.06 / texel))
    colour = random_colour(rng, saturation=0.15, value=0.85).tolist()
    for k in range(1, 2 + int(width * texel > 1.0)):
        x = k * width // (2 + int(width * texel > 1.0))
        cv2.line(canvas, (x, 0), (x, height), colour, frame)
    cv2.line(canvas, (0, height // 3), (width, height // 3), colour, frame // 2)
    cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), colour, 2 * frame)
    cv2.rectangle(canvas, (frame, frame), (width - 1 - frame, height - 1 - frame), (70, 70, 70), max(1, frame // 8))
    return canvas


def door(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """A panelled door with handle, frame and hinges."""
    canvas = (planks if style.random() < 0.4 else lacquer)(height, width, texel, style, rng)
    frame, line = round(0.07 / texel), max(1, round(0.006 / texel))
    dark, light = (canvas.mean((0, 1)) * 0.55).tolist(), (canvas.mean((0, 1)) * 1.2).clip(0, 255).tolist()
    cv2.rectangle(canvas, (0, 0), (width - 1, height + 2 * frame), light, 2 * frame)
    cv2.rectangle(canvas, (frame, frame), (width - 1 - frame, height), dark, line)
    for top, bottom in ((0.12, 0.45), (0.53, 0.92)):
        for left, right in ((0.18, 0.47), (0.54, 0.83)):
            first, last = (int(left * width), int(top * height)), (int(right * width), int(bottom * height))
            cv2.rectangle(canvas, first, last, dark, 2 * line)
            cv2.rectangle(canvas, (first[0] + 3 * line, first[1] + 3 * line), last, light, line)
    knob = int(0.89 * width), int(0.52 * height)
    cv2.rectangle(
        canvas,
        (knob[0] - 4 * line, knob[1] - 12 * line),
        (knob[0] + 4 * line, knob[1] + 12 * line),
        (60, 90, 110),
        -1,
    )
    cv2.line(canvas, knob, (knob[0] - round(0.1 / texel), knob[1]), (170, 190, 200), 3 * line, cv2.LINE_AA)
    return canvas


def drawers(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """The front of a cabinet: drawers and doors with handles."""
    canvas = (planks if style.random() < 0.5 else lacquer)(height, width, texel, style, rng)
    line = max(1, round(0.005 / texel))
    columns = max(1, round(width * texel / style.uniform(0.4, 0.7)))
    metal = style.uniform(20, 230)
    for k in range(columns):
        left, right = k * width // columns, (k + 1) * width // columns - 1
        rows = int(rng.integers(1, max(2, int(height * texel / 0.2)) + 1))
        for m in range(rows):
            top, bottom = m * height // rows, (m + 1) * height // rows - 1
            cv2.rectangle(canvas, (left, top), (right, bottom), (25, 25, 25), line)
            cv2.rectangle(
                canvas,
                (left + 2 * line, top + 2 * line),
                (right - 2 * line, bottom - 2 * line),
                (120, 130, 140),
                line,
            )
            centre, half = ((left + right) // 2, (top + bottom) // 2), round(0.06 / texel)
            cv2.line(
                canvas,
                (centre[0] - half, centre[1]),
                (centre[0] + half, centre[1]),
                (metal,) * 3,
                3 * line,
                cv2.LINE_AA,
            )
    return canvas


def book_spines(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """A row of books seen from the front: spines of many colours and thicknesses with titles and bands."""
    canvas = np.full((height, width, 3), 25, np.uint8)
    x = 0
    while x < width:
        right = x + max(4, round(rng.uniform(0.012, 0.05) / texel))
        top = int(height * rng.uniform(0.0, 0.22))
        colour = random_colour(rng, saturation=0.8, value=rng.uniform(0.2, 0.9))
        canvas[top:, x : min(right - 1, width)] = colour
        canvas[top:, x : x + 1] = colour * 0.5
        band = height * rng.uniform(0.05, 0.12)
        light = random_colour(rng, saturation=0.4, value=0.95)
        for y in (top + band, height - band):
            canvas[int(y) : int(y + max(2, band * 0.3)), x : min(right - 1, width)] = light
        if right - x > 7 and right < width:
            label = np.full((right - x - 2, max(8, int(height - top - 3 * band)), 3), colour.astype(np.uint8), np.uint8)
            write_lines(label, (3, 0, label.shape[1] - 2, len(label) - 1), (right - x) * 0.45, light, rng)
            turned = cv2.rotate(label, cv2.ROTATE_90_CLOCKWISE)
            y = int(top + 1.5 * band)
            space = canvas[y : y + len(turned), x : x + turned.shape[1]]
            space[:] = turned[: len(space), : space.shape[1]]
        x = right
    return canvas


def carton(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """A side of a cardboard box: corrugation, tape, a shipping label and a printed mark."""
    tone = 1.0 + 0.05 * fractal_noise(height, width, (0.3 / texel, 0.01 / texel), rng, octaves=3)
    canvas = tinted(tone, np.array([90, 135, 170], np.float32) * np.float32(style.uniform(0.75, 1.1)))
    tape = round(0.05 / texel)
    canvas[:, width // 2 - tape // 2 : width // 2 + tape // 2] = (110, 165, 195)
    if min(height, width) * texel > 0.15:
        label_h, label_w = round(0.1 / texel), round(0.13 / texel)
        y = int(rng.integers(max(1, height - label_h)))
        x = int(rng.integers(max(1, width - label_w)))
        sheet = document(label_h, label_w, texel, rng, rng)
        stripes = np.repeat(rng.random(label_w) < 0.5, max(1, round(0.002 / texel)))[:label_w]
        sheet[-label_h // 3 : -2, stripes[: sheet.shape[1]]] = 10
        space = canvas[y : y + label_h, x : x + label_w]
        space[:] = sheet[: space.shape[0], : space.shape[1]]
        write_lines(
            canvas,
            (int(0.06 * width), int(0.7 * height), int(0.6 * width), int(0.95 * height)),
            0.05 / texel,
            np.array([30, 40, 60], np.float32),
            rng,
        )
    return canvas


def screen(height: int, width: int, texel: float, style: np.random.Generator, rng: np.random.Generator) -> Picture:
    """A monitor: dark bezel around text windows or a picture."""
    canvas = np.full((height, width, 3), 22, np.uint8)
    bezel = max(2, round(0.018 / texel))
    inner_h, inner_w = height - 2 * bezel, width - 2 * bezel
    if inner_h < 8 or inner_w < 8:
        return canvas
    content = landscape(inner_h, inner_w, texel, style, rng)
    for _ in range(int(rng.integers(0, 4))):
        h, w = (int(side * rng.uniform(0.3, 0.8)) for side in (inner_h, inner_w))
        y, x = int(rng.integers(inner_h - h)), int(rng.integers(inner_w - w))
        paper, ink = (235, 20) if rng.random() < 0.5 else (35, 220)
        content[y : y + h, x : x + w] = paper
        content[y : y + max(2, h // 12), x : x + w] = (150, 100, 60)
        write_lines(
            content,
            (x + 4, y + h // 8, x + w - 3, y + h - 3),
            0.009 / texel,
            np.full(3, ink, np.float32),
            rng,
        )
    canvas[bezel:-bezel, bezel:-bezel] = content
    return canvas


HANGING: tuple[Material, ...] = (poster, poster, painting, landscape, chart, document, code_grid)


def packaged_photographs() -> list[Picture]:
    """The photographs that scikit-image carries within its wheel, as BGR; nothing is downloaded.

    Raises
    ------
    MissingDependencyError, LibraryError
        If scikit-image is not installed, or is and cannot be imported.
    """
    data = import_library("skimage.data", "a synthetic room with photographs", "pip install scikit-image")
    names = (
        "astronaut",
        "camera",
        "chelsea",
        "coffee",
        "coins",
        "hubble_deep_field",
        "moon",
        "page",
        "rocket",
        "text",
    )
    pictures = []
    for name in names:
        image = np.asarray(getattr(data, name)(), np.uint8)
        pictures.append(
            np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR), np.uint8)
        )
    return pictures


def fitted(picture: Picture, height: int, width: int) -> Picture:
    """A given picture cut to the shape asked for about its centre, and resized without aliasing."""
    rows, columns = picture.shape[:2]
    scale = max(height / rows, width / columns)
    cut_h, cut_w = min(rows, max(1, round(height / scale))), min(columns, max(1, round(width / scale)))
    top, left = (rows - cut_h) // 2, (columns - cut_w) // 2
    cut = picture[top : top + cut_h, left : left + cut_w]
    return np.asarray(
        cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC),
        np.uint8,
    )
