# SPDX-License-Identifier: Apache-2.0
"""Decoding's inner loops, compiled by numba.

`suppression`, `decode` and `sampling` hold the same in NumPy, for where it is absent.

Importing this compiles, or takes what an earlier import has compiled and kept. No function holds the GIL.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..compilation import compiled

# A change of what is defined in this file is seen in what is kept of it; of what is defined elsewhere it is not.
_CHANNELS = 256
MIXED_BLOCK = 64
"""Of how many adjacent channels the blocks are that `mix` mixes: a constant, without which it is half as fast."""
_2B, _3B, _4B, _5B, _6B, _7B = (steps * MIXED_BLOCK for steps in range(2, 8))
_2C, _3C, _4C, _5C, _6C, _7C = (steps * _CHANNELS for steps in range(2, 8))


@compiled("int64[::1](float32[:, ::1], float32, int64)")
def suppress_peaks(scores: NDArray[np.float32], threshold: np.float32, radius: int) -> NDArray[np.int64]:
    """`suppression.suppress` with `peaks_only`: the flat positions of all kept pixels, in the order of visits."""
    height, width = scores.shape
    bits = scores.view(np.int32)
    # The bits of positive floats rank as the floats do; negated, the highest score comes first, equal ones by position.
    keys = np.empty(height * width, np.int64)
    # Of each column the highest of three rows, with a column on either side that is lower than everything.
    highest = np.full(width + 2, -np.inf, np.float32)
    peak = np.empty(width, np.bool_)
    count = 0
    for row in range(height):
        above, here, below = scores[max(row - 1, 0)], scores[row], scores[min(row + 1, height - 1)]
        # Loops without branches, of which the compiler makes vector instructions; few pixels are left to branch for.
        for column in range(width):
            highest[column + 1] = max(max(above[column], below[column]), here[column])
        for column in range(width):
            score = here[column]
            beside = (score >= highest[column]) & (score >= highest[column + 2])
            peak[column] = (score > threshold) & (score >= highest[column + 1]) & beside
        for column in range(width):
            if peak[column]:
                keys[count] = row * width + column - (np.int64(bits[row, column]) << 32)
                count += 1
    keys = keys[:count]
    keys.sort()
    # A frame of `radius` saves every check for the map's edges.
    removed = np.zeros((height + 2 * radius, width + 2 * radius), np.bool_)
    kept = 0
    for key in keys:
        position = key & 0xFFFFFFFF
        row = position // width
        column = position - row * width
        if removed[row + radius, column + radius]:
            continue
        removed[row : row + 2 * radius + 1, column : column + 2 * radius + 1] = True
        keys[kept] = position
        kept += 1
    return keys[:kept].copy()


@compiled("void(float32[:, ::1], int64[::1], int64[::1], float32, float32[:, ::1])")
def refine(
    scores: NDArray[np.float32],
    columns: NDArray[np.int64],
    rows: NDArray[np.int64],
    least: np.float32,
    offsets: NDArray[np.float32],
) -> None:
    """`decode.refine` with shifts of any size; `offsets` (N, 2) takes the result.

    Scores count as at least `least` away from 0 and from 1.
    """
    height, width = scores.shape
    logits = np.empty((3, 3))
    for index in range(len(columns)):
        column, row = columns[index], rows[index]
        offsets[index] = 0.0
        if not (0 < column < width - 1 and 0 < row < height - 1):
            continue
        for y in range(3):
            for x in range(3):
                score = min(max(scores[row + y - 1, column + x - 1], least), 1 - least)
                logits[y, x] = math.log(score / (1 - score))
        # As in NumPy: nothing is left of a plateau to be rounded.
        logits -= logits[1, 1]
        left = logits[0, 0] + logits[1, 0] + logits[2, 0]
        right = logits[0, 2] + logits[1, 2] + logits[2, 2]
        above = logits[0, 0] + logits[0, 1] + logits[0, 2]
        below = logits[2, 0] + logits[2, 1] + logits[2, 2]
        whole = above + below + logits[1, 0] + logits[1, 1] + logits[1, 2]
        slope_x, slope_y = (right - left) / 6, (below - above) / 6
        curve_xx, curve_yy = left + right - 2 * whole / 3, above + below - 2 * whole / 3
        curve_xy = (logits[0, 0] + logits[2, 2] - logits[0, 2] - logits[2, 0]) / 4
        determinant = curve_xx * curve_yy - curve_xy * curve_xy
        if curve_xx < 0.0 and determinant > 0.0:
            offsets[index, 0] = (curve_xy * slope_y - curve_yy * slope_x) / determinant
            offsets[index, 1] = (curve_xy * slope_x - curve_xx * slope_y) / determinant


@compiled("float32(float32, float32, float32)", fastmath={"contract"})
def smaller_curvature(xx: np.float32, yy: np.float32, xy: np.float32) -> np.float32:
    """The smaller absolute eigenvalue of a Hessian whose eigenvalues have one sign; of any other, 0."""
    half_difference = (xx - yy) * np.float32(0.5)
    mean = abs(xx + yy) * np.float32(0.5)
    return np.float32(max(mean - math.sqrt(half_difference * half_difference + xy * xy), np.float32(0.0)))


@compiled("void(float32[:, ::1], float32[:, ::1], float32, float32, float32[:, ::1])", fastmath={"contract"})
def blob_response(
    fine: NDArray[np.float32],
    coarse: NDArray[np.float32],
    fine_variance: np.float32,
    coarse_variance: np.float32,
    response: NDArray[np.float32],
) -> None:
    """`blobs.blob_response` of an image blurred twice, with both variances; `response` takes the result."""
    height, width = fine.shape
    quarter = np.float32(0.25)
    two = np.float32(2.0)
    response[0], response[height - 1] = 0.0, 0.0
    for row in range(1, height - 1):
        a, b, c = fine[row - 1], fine[row], fine[row + 1]
        d, e, f = coarse[row - 1], coarse[row], coarse[row + 1]
        into = response[row]
        into[0], into[width - 1] = 0.0, 0.0
        for x in range(1, width - 1):
            of_fine = smaller_curvature(
                b[x - 1] - two * b[x] + b[x + 1],
                a[x] - two * b[x] + c[x],
                quarter * ((a[x - 1] - a[x + 1]) - (c[x - 1] - c[x + 1])),
            )
            of_coarse = smaller_curvature(
                e[x - 1] - two * e[x] + e[x + 1],
                d[x] - two * e[x] + f[x],
                quarter * ((d[x - 1] - d[x + 1]) - (f[x - 1] - f[x + 1])),
            )
            into[x] = fine_variance * of_fine + coarse_variance * of_coarse


@compiled("UniTuple(float32, 4)(float32, float32)")
def cubic_weights(rest: np.float32, a: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """The weights of cubic convolution for the four cells about a place that is `rest` beyond the second of them.

    `a` is an argument, not a constant from elsewhere, whose change would not be seen in what is kept of this.
    """
    left = 1 - rest
    first = a * rest * left * left
    fourth = a * left * rest * rest
    second = ((a + 2) * rest - (a + 3)) * rest * rest + 1
    third = ((a + 2) * left - (a + 3)) * left * left + 1
    return np.float32(first), np.float32(second), np.float32(third), np.float32(fourth)


@compiled(
    "void(float32[:, ::1], int64, float32[::1], float32[::1], bool_, float32, float32[:, ::1])", fastmath={"contract"}
)
def sample(
    cells: NDArray[np.float32],
    width: int,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    bicubic: bool,
    a: np.float32,
    sampled: NDArray[np.float32],
) -> None:
    """`sampling.sample_descriptors` of cells (h `width`, C) at places `x`, `y` (N,) in cells.

    `a` is the parameter of cubic convolution; `sampled` (N, C) takes the result.
    """
    height = cells.shape[0] // width
    channels = cells.shape[1]
    taps = 4 if bicubic else 2
    columns, rows = np.zeros(4, np.int64), np.zeros(4, np.int64)
    across, along = np.zeros(4, np.float32), np.zeros(4, np.float32)
    for point in range(len(x)):
        for place, extent, cell, weight in ((x[point], width, columns, across), (y[point], height, rows, along)):
            if not bicubic:
                place = min(max(place, np.float32(0.0)), np.float32(extent - 1))
            before = math.floor(place)
            rest = place - np.float32(before)
            if bicubic:
                weight[0], weight[1], weight[2], weight[3] = cubic_weights(rest, a)
            else:
                weight[0], weight[1] = 1 - rest, rest
            for tap in range(taps):
                # The outermost cells stand for those beyond them.
                cell[tap] = min(max(before + tap - (1 if bicubic else 0), 0), extent - 1)
        into = sampled[point]
        into[:] = 0.0
        for row in range(taps):
            start = rows[row] * width
            for column in range(0, taps, 2):
                first, second = cells[start + columns[column]], cells[start + columns[column + 1]]
                of_first, of_second = along[row] * across[column], along[row] * across[column + 1]
                for channel in range(channels):
                    into[channel] += of_first * first[channel] + of_second * second[channel]


@compiled(
    "UniTuple(float32, 2)(UniTuple(UniTuple(float32, 4), 2), float32, float32, float32, float32)",
    fastmath={"contract"},
)
def weigh(
    weights: tuple[tuple[np.float32, ...], ...], v0: np.float32, v1: np.float32, v2: np.float32, v3: np.float32
) -> tuple[np.float32, np.float32]:
    """The sums of four values by the weights' real parts, which come first, and by their imaginary parts."""
    (r0, r1, r2, r3), (i0, i1, i2, i3) = weights
    return r0 * v0 + r1 * v1 + r2 * v2 + r3 * v3, i0 * v0 + i1 * v1 + i2 * v2 + i3 * v3


@compiled(
    "void(float32[:, ::1], int64, float32[::1], float32[::1], float32[:, :, :, :, ::1], float32[:, ::1])",
    fastmath={"contract"},
)
def sample_by_kernel(
    cells: NDArray[np.float32],
    width: int,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    kernel: NDArray[np.float32],
    sampled: NDArray[np.float32],
) -> None:
    """`sample` with ``learned`` sampling; `kernel` (2, phases, 2, 4, C) as `sampling.tabulate` makes it; C is 256."""
    if cells.shape[1] != _CHANNELS or kernel.shape[2:] != (2, 4, _CHANNELS):
        raise ValueError("a learned kernel and the map that it reads have 256 channels")
    height = cells.shape[0] // width
    phases = kernel.shape[1]
    flat = cells.reshape(-1)
    rows = np.zeros(4, np.int64)
    patch = np.empty(16 * _CHANNELS, np.float32)
    own, partner = np.empty(_CHANNELS, np.float32), np.empty(_CHANNELS, np.float32)
    for point in range(len(x)):
        left = math.floor(x[point])
        phase = min(int((x[point] - np.float32(left)) * np.float32(phases)), phases - 1)
        across = kernel[0, phase].reshape(-1)
        above = math.floor(y[point])
        phase = min(int((y[point] - np.float32(above)) * np.float32(phases)), phases - 1)
        along = kernel[1, phase].reshape(-1)
        # The four cells of a row are read as one piece: the compiler can then address all of it with few registers. At
        # the left and the right edge, where an outermost cell stands for those beyond it, they are put together first.
        inside = left >= 1 and left + 2 < width
        for tap in range(4):
            row = min(max(above + tap - 1, 0), height - 1) * width
            rows[tap] = (row + left - 1) * _CHANNELS if inside else 4 * tap * _CHANNELS
            if inside:
                continue
            for step in range(4):
                cell = cells[row + min(max(left + step - 1, 0), width - 1)]
                into = patch[(4 * tap + step) * _CHANNELS : (4 * tap + step + 1) * _CHANNELS]
                for c in range(_CHANNELS):
                    into[c] = cell[c]
        source = flat if inside else patch
        row0, row1 = source[rows[0] : rows[0] + _4C], source[rows[1] : rows[1] + _4C]
        row2, row3 = source[rows[2] : rows[2] + _4C], source[rows[3] : rows[3] + _4C]
        for c in range(_CHANNELS):
            weights = (
                (across[c], across[c + _CHANNELS], across[c + _2C], across[c + _3C]),
                (across[c + _4C], across[c + _5C], across[c + _6C], across[c + _7C]),
            )
            real0, imaginary0 = weigh(weights, row0[c], row0[c + _CHANNELS], row0[c + _2C], row0[c + _3C])
            real1, imaginary1 = weigh(weights, row1[c], row1[c + _CHANNELS], row1[c + _2C], row1[c + _3C])
            real2, imaginary2 = weigh(weights, row2[c], row2[c + _CHANNELS], row2[c + _2C], row2[c + _3C])
            real3, imaginary3 = weigh(weights, row3[c], row3[c + _CHANNELS], row3[c + _2C], row3[c + _3C])
            weights = (
                (along[c], along[c + _CHANNELS], along[c + _2C], along[c + _3C]),
                (along[c + _4C], along[c + _5C], along[c + _6C], along[c + _7C]),
            )
            real_of_real, imaginary_of_real = weigh(weights, real0, real1, real2, real3)
            real_of_imaginary, imaginary_of_imaginary = weigh(weights, imaginary0, imaginary1, imaginary2, imaginary3)
            own[c] = real_of_real - imaginary_of_imaginary
            partner[c] = imaginary_of_real + real_of_imaginary
        descriptor = sampled[point]
        for c in range(0, _CHANNELS, 2):
            descriptor[c] = own[c] + partner[c + 1]
            descriptor[c + 1] = own[c + 1] + partner[c]


@compiled("void(float32[:, ::1], float32[:, :, ::1], float32[:, ::1])", fastmath={"contract"})
def mix(sampled: NDArray[np.float32], matrices: NDArray[np.float32], mixed: NDArray[np.float32]) -> None:
    """`sampling.mix` in blocks of `MIXED_BLOCK`, the identity being part of `matrices`; `mixed` takes the result."""
    if matrices.shape[1:] != (MIXED_BLOCK, MIXED_BLOCK) or sampled.shape[1] != len(matrices) * MIXED_BLOCK:
        raise ValueError("the matrices do not fit the channels, or have another size than is compiled for")
    flat = matrices.reshape(-1)
    # Block by block, so that its matrix stays in the nearest cache; eight rows of it at a time, so that what has been
    # summed is loaded and stored once for eight products.
    for block in range(len(matrices)):
        channels = slice(block * MIXED_BLOCK, (block + 1) * MIXED_BLOCK)
        for point in range(len(sampled)):
            given, into = sampled[point, channels], mixed[point, channels]
            for c in range(MIXED_BLOCK):
                into[c] = 0.0
            for first in range(0, MIXED_BLOCK, 8):
                start = (block * MIXED_BLOCK + first) * MIXED_BLOCK
                rows = flat[start : start + 8 * MIXED_BLOCK]
                v0, v1, v2, v3 = given[first], given[first + 1], given[first + 2], given[first + 3]
                v4, v5, v6, v7 = given[first + 4], given[first + 5], given[first + 6], given[first + 7]
                for c in range(MIXED_BLOCK):
                    into[c] += (
                        (v0 * rows[c] + v1 * rows[c + MIXED_BLOCK] + v2 * rows[c + _2B] + v3 * rows[c + _3B])
                        + (v4 * rows[c + _4B] + v5 * rows[c + _5B] + v6 * rows[c + _6B] + v7 * rows[c + _7B])
                    )  # fmt: skip


@compiled(
    "void(float32[:, ::1], int64, float32[::1], float32[::1], float32[:, :, :, :, ::1], float32[:, :, ::1], "
    "float32[:, :, ::1], uint8[:, ::1])"
)
def describe(
    cells: NDArray[np.float32],
    width: int,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    kernel: NDArray[np.float32],
    matrices: NDArray[np.float32],
    memory: NDArray[np.float32],
    packed: NDArray[np.uint8],
) -> None:
    """`sampling.describe` with ``learned`` sampling and mixing; `packed` (N, C / 8) takes the result.

    `memory` (2, M, C) holds M keypoints' channels at a time, few enough to stay in a near cache from one step to the
    next; the other arguments are those of `sample_by_kernel` and `mix`.
    """
    for start in range(0, len(x), memory.shape[1]):
        end = min(start + memory.shape[1], len(x))
        sampled, mixed = memory[0, : end - start], memory[1, : end - start]
        sample_by_kernel(cells, width, x[start:end], y[start:end], kernel, sampled)
        mix(sampled, matrices, mixed)
        # What `pack_descriptors` does.
        for point in range(end - start):
            channels, into = mixed[point], packed[start + point]
            for byte in range(_CHANNELS // 8):
                bits = 0
                for c in range(8 * byte, 8 * byte + 8):
                    bits = 2 * bits + (1 if channels[c] > 0 else 0)
                into[byte] = bits
