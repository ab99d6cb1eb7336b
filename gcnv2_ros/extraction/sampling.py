# SPDX-License-Identifier: Apache-2.0
"""Reading descriptors from the dense map of a network at keypoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..features import pack_descriptors
from . import kernels
from .kernels import CUBIC

if TYPE_CHECKING:
    from ..weights import Sampling, Weights

Describer = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.uint8]]

PHASES = 32
"""A learned kernel is tabulated for so many places between two cells; a place takes the nearest."""

_CACHE_LINE = 64
"""In bytes."""
_CELLS_AT_ONCE = 1024
_DESCRIBED_AT_ONCE = 32
_PRODUCTS_AT_ONCE = 2**18
_STEPS = np.arange(-1, 3)


def describer_of(weights: Weights, stride: int) -> Describer:
    """`describe` as `weights` want it, of a network with `stride`: takes a dense map and positions."""
    learned = weights.learned_sampling
    if learned is None:
        return partial(describe, stride=stride, sampling=weights.metadata.sampling)
    return partial(
        describe,
        stride=stride,
        sampling="learned",
        kernel=tabulate(learned.kernel.numpy()),
        matrices=None if learned.mixing is None else with_identity(learned.mixing.numpy()),
    )


def describe(
    dense: NDArray[np.float32],
    uv: NDArray[np.float32],
    *,
    stride: int,
    sampling: Sampling,
    kernel: NDArray[np.float32] | None = None,
    matrices: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Binary descriptors of keypoints: the signs of what `sample_descriptors` and `mix` make of a dense map.

    Parameters
    ----------
    dense, uv, stride, sampling, kernel
        As `sample_descriptors` takes them.
    matrices
        As `mix` takes them; None: channels are not mixed.

    Returns
    -------
    numpy.ndarray
        uint8 (N, C / 8), packed as `pack_descriptors` does.
    """
    loops = kernels.compiled()
    if loops is None or kernel is None or matrices is None or matrices.shape[1] != loops.MIXED_BLOCK:
        sampled = sample_descriptors(dense, uv, stride=stride, sampling=sampling, kernel=kernel)
        return pack_descriptors(sampled if matrices is None else mix(sampled, matrices))
    cells, x, y = _in_cells(dense, uv, stride, sampling)
    packed = np.empty((len(uv), cells.shape[1] // 8), np.uint8)
    memory = aligned_empty((2, _DESCRIBED_AT_ONCE, cells.shape[1]))
    loops.describe(cells, dense.shape[2], x, y, kernel, matrices, memory, packed)
    return packed


def with_identity(mixing: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrices that `mix` takes: what is kept of each channel and what is added to it come out of one product.

    Parameters
    ----------
    mixing
        float32 (B, C / B, C / B): of each block of adjacent channels, what is added to it.
    """
    return np.add(mixing, np.eye(mixing.shape[1], dtype=np.float32), out=aligned_empty(mixing.shape))


def mix(sampled: NDArray[np.float32], matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mix channels that ``learned`` sampling read.

    A kernel reads each channel by a weighting of places of its own; where they are mixed, a bit of the descriptor
    depends on what many of these weightings find.

    Parameters
    ----------
    sampled
        float32 (N, C), what the kernel read.
    matrices
        float32 (B, C / B, C / B), see `with_identity`.

    Returns
    -------
    numpy.ndarray
        float32 (N, C): each block of channels multiplied by its matrix.
    """
    mixed = aligned_empty(sampled.shape)
    if (loops := kernels.compiled()) is not None and matrices.shape[1] == loops.MIXED_BLOCK:
        loops.mix(np.ascontiguousarray(sampled), matrices, mixed)
        return mixed
    # Few at a time: for larger matrices BLAS wakes threads, which then wait busily, for milliseconds, on the cores that
    # the network wants.
    step = max(1, _PRODUCTS_AT_ONCE // matrices[0].size)
    for start in range(0, len(sampled), step):
        part = slice(start, start + step)
        blocks, target = (
            channels[part].reshape(-1, *matrices.shape[:2]).swapaxes(0, 1) for channels in (sampled, mixed)
        )
        np.matmul(blocks, matrices, out=target)
    return mixed


def aligned_empty(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A float32 array of undefined content that starts with a cache line.

    Vector instructions read a whole line at once, and take nearly twice as long where each lies across two.
    """
    size = math.prod(shape)
    memory = np.empty(size + _CACHE_LINE // 4, np.float32)
    start = -memory.ctypes.data % _CACHE_LINE // 4
    return memory[start : start + size].reshape(shape)


def tabulate(coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of the four cells about a place, for each channel.

    Channels stand in pairs, 2 i and 2 i + 1. A channel's kernel along one direction is complex; at a distance d of a
    place from a cell's centre, in cells and |d| < 2, it is

        cubic(d) + (1 + cos(pi d / 2)) / 2 * (a_0 + sum_m a_m cos(pi m d / 2) + b_m sin(pi m d / 2))

    with the cubic convolution of ``bicubic`` sampling and complex a and b. What a cell holds of a channel is multiplied
    by the product of the kernels along both directions; the real part belongs to the channel itself, the imaginary part
    to the other one of its pair. A high m lets what a cell holds tell apart places within it, and a pair can hold a
    wave's phase, which a single channel cannot.

    Parameters
    ----------
    coefficients
        float32 (2, 2, 1 + 2 M, C): along columns and along rows, of the real and of the imaginary part, the a_0, a_1,
        b_1 and so on to b_M of C channels.

    Returns
    -------
    numpy.ndarray
        float32 (2, `PHASES`, 2, 4, C): along columns and along rows, by place, the real and the imaginary part.
    """
    rest = (np.arange(PHASES) + 0.5) / PHASES
    distance = rest[:, None] - _STEPS
    angle = np.pi / 2 * distance[..., None] * np.arange(1, coefficients.shape[2] // 2 + 1)
    waves = np.ones((*distance.shape, coefficients.shape[2]))
    waves[..., 1::2], waves[..., 2::2] = np.cos(angle), np.sin(angle)
    waves *= (1 + np.cos(np.pi / 2 * distance[..., None])) / 2
    kernel = (waves @ coefficients[:, :, None]).swapaxes(1, 2)
    kernel[:, :, 0] += _cubic_weights(rest.astype(np.float32))[..., None]
    table = aligned_empty(kernel.shape)
    table[:] = kernel
    return table


def sample_descriptors(
    dense: NDArray[np.float32],
    uv: NDArray[np.float32],
    *,
    stride: int,
    sampling: Sampling,
    kernel: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Interpolate a dense descriptor map at keypoints.

    Parameters
    ----------
    dense
        float32 (C, h, w), any memory layout; channels last is the fastest.
    uv
        float32 (N, 2), positions in network pixels.
    stride
        Network pixels per cell.
    sampling
        ``half_pixel``: bilinear; cell (i, j) is centred on ((j + 0.5) stride - 0.5, (i + 0.5) stride - 0.5), and
        beyond the outermost centres the map continues constantly. ``bicubic``: the same with cubic convolution
        (Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, eq. 4, with `CUBIC` as a).
        ``learned``: the same with `kernel`. ``legacy``: column u of an input W wide reads cell column
        u / W * (w - 1), which is what the original pipeline's grid, u / (W / 2) - 1 with corners aligned, amounts to.
    kernel
        Of ``learned`` sampling and of no other, as `tabulate` makes it.

    Returns
    -------
    numpy.ndarray
        float32 (N, C), not normalised again.

    Raises
    ------
    ValueError
        If a kernel is missing, or given for another sampling.
    """
    if (kernel is None) == (sampling == "learned"):
        raise ValueError(f"sampling is {sampling}, and a kernel is {'missing' if kernel is None else 'given'}")
    _, height, width = dense.shape
    cells, x, y = _in_cells(dense, uv, stride, sampling)
    loops = kernels.compiled()
    sampled = aligned_empty((len(uv), cells.shape[1]))
    if loops is not None:
        if kernel is not None:
            loops.sample_by_kernel(cells, width, x, y, kernel, sampled)
        else:
            loops.sample(cells, width, x, y, sampling == "bicubic", CUBIC, sampled)
        return sampled
    taps = _linear_taps if sampling in ("half_pixel", "legacy") else _cubic_taps
    column, across = taps(x, width)
    row, along = taps(y, height)
    corners = (row[:, :, None] * width + column[:, None, :]).reshape(len(uv), column.shape[1] ** 2)
    # Few at a time, so that the cells that are read out for them are still in the cache when they are summed.
    step = _CELLS_AT_ONCE // corners.shape[1]
    for start in range(0, len(uv), step):
        part = slice(start, start + step)
        values = cells.take(corners[part], axis=0)
        if kernel is None:
            weights = (along[part, :, None] * across[part, None, :]).reshape(-1, 1, corners.shape[1])
            np.matmul(weights, values, out=sampled[part, None])
        else:
            sampled[part] = _weigh(values, kernel, x[part], y[part])
    return sampled


def _weigh(
    values: NDArray[np.float32], kernel: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The 16 cells (N, 16, C) about each of N places, row by row, weighted by a learned kernel and summed: (N, C)."""
    across, along = (table.take(_phase(place), axis=0) for table, place in zip(kernel, (x, y)))
    rows = np.einsum("nrtc,nptc->nprc", values.reshape(len(x), 4, 4, -1), across)
    real = np.einsum("nprc,nprc->npc", rows, along)
    imaginary = np.einsum("nprc,nprc->nc", rows, along[:, ::-1])
    return real[:, 0] - real[:, 1] + imaginary.reshape(len(x), -1, 2)[:, :, ::-1].reshape(len(x), -1)


def _phase(place: NDArray[np.float32]) -> NDArray[np.intp]:
    rest = place - np.floor(place)
    # What is rounded up to a whole cell belongs to the last phase before it.
    return np.minimum((rest * np.float32(PHASES)).astype(np.intp), PHASES - 1)


def _in_cells(
    dense: NDArray[np.float32], uv: NDArray[np.float32], stride: int, sampling: Sampling
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """A dense map's cells (h w, C), and columns (N,) and rows (N,) in cells, the centre of the first one being 0."""
    channels, height, width = dense.shape
    if sampling == "legacy":
        x, y = (
            position * np.float32((extent - 1) / (extent * stride)) for position, extent in zip(uv.T, (width, height))
        )
    else:
        x, y = ((position + np.float32(0.5)) * np.float32(1 / stride) - np.float32(0.5) for position in uv.T)
    return np.ascontiguousarray(dense.transpose(1, 2, 0)).reshape(height * width, channels), x, y


def _linear_taps(place: NDArray[np.float32], cells: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Along one direction: for each of N positions the two cells that bilinear interpolation reads, and their weights.

    Both (N, 2).
    """
    place = np.clip(place, 0, cells - 1)
    # A map one cell wide or high has no second column or row; its weight is 0 then.
    first = np.minimum(place.astype(np.intp), max(cells - 2, 0))
    rest = place - first.astype(np.float32)
    return np.column_stack((first, np.minimum(first + 1, cells - 1))), np.column_stack((1 - rest, rest))


def _cubic_taps(place: NDArray[np.float32], cells: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The same for cubic convolution: the four cells about each position, the outermost standing for those beyond."""
    first = np.floor(place)
    taps = np.clip(first.astype(np.intp)[:, None] + _STEPS, 0, cells - 1)
    return taps, _cubic_weights(place - first)


def _cubic_weights(rest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (N, 4) of the four cells about places that are `rest` (N,) beyond the second of them."""
    left = 1 - rest
    a = np.float32(CUBIC)
    return np.column_stack(
        (
            a * rest * left * left,
            ((a + 2) * rest - (a + 3)) * rest * rest + 1,
            ((a + 2) * left - (a + 3)) * left * left + 1,
            a * left * rest * rest,
        )
    )
