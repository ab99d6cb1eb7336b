# SPDX-License-Identifier: Apache-2.0
"""Reading descriptors from the dense map, against torch and against the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.extraction.sampling import PHASES, describe, mix, sample_descriptors, tabulate, with_identity
from gcnv2_ros.features import pack_descriptors

pytestmark = pytest.mark.usefixtures("loops")


def grid_sample(dense: np.ndarray, grid: np.ndarray, *, align_corners: bool) -> np.ndarray:
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(dense)[None],
        torch.from_numpy(grid.astype(np.float32))[None, None],
        padding_mode="border",
        align_corners=align_corners,
    )
    return sampled[0, :, 0].T.numpy()


@pytest.mark.parametrize("cells", [(2, 3), (15, 20), (1, 4), (3, 1)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_descriptors_are_sampled_as_torch_does(cells: tuple[int, int], channels_last: bool) -> None:
    rng = np.random.default_rng(11)
    height, width = cells
    dense = rng.standard_normal((256, height, width)).astype(np.float32)
    given_map = np.ascontiguousarray(dense.transpose(1, 2, 0)).transpose(2, 0, 1) if channels_last else dense
    size = np.array([width, height]) * 16
    uv = rng.uniform(-0.5, size - 0.5, (200, 2)).astype(np.float32)
    half_pixel = sample_descriptors(given_map, uv, stride=16, sampling="half_pixel")
    np.testing.assert_allclose(half_pixel, grid_sample(dense, (2 * uv + 1) / size - 1, align_corners=False), atol=1e-4)
    legacy = sample_descriptors(given_map, uv, stride=16, sampling="legacy")
    np.testing.assert_allclose(legacy, grid_sample(dense, uv / (size / 2) - 1, align_corners=True), atol=1e-4)


def keys_kernel(distance: float) -> float:
    """Keys 1981, eq. 4, with a = -1."""
    s = abs(distance)
    return s**3 - 2 * s**2 + 1 if s < 1 else -(s**3) + 5 * s**2 - 8 * s + 4 if s < 2 else 0.0


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_bicubic_descriptors_are_cubic_convolutions_of_a_map_that_continues_as_its_edge(
    width: int, height: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((256, height, width)).astype(np.float32)
    uv = rng.uniform(-0.5, (16 * width - 0.5, 16 * height - 0.5), (9, 2)).astype(np.float32)
    framed = np.pad(dense, ((0, 0), (2, 2), (2, 2)), mode="edge")
    expected = np.zeros((9, 256))
    for point, (u, v) in enumerate((uv + 0.5) / 16 - 0.5):
        for row in range(-2, height + 2):
            for column in range(-2, width + 2):
                weight = keys_kernel(u - column) * keys_kernel(v - row)
                expected[point] += weight * framed[:, row + 2, column + 2]
    sampled = sample_descriptors(dense, uv, stride=16, sampling="bicubic")
    np.testing.assert_allclose(sampled, expected, atol=1e-3)


def learned_kernel(coefficients: np.ndarray, distance: float) -> np.ndarray:
    """A channel's kernel along one direction: coefficients (2, 1 + 2 M, C) to complex weights (C,)."""
    real, imaginary = coefficients.astype(float)
    if abs(distance) >= 2:
        return np.zeros(real.shape[1], complex)
    terms = real + 1j * imaginary
    waves = terms[0]
    for harmonic in range(1, len(terms) // 2 + 1):
        angle = np.pi * harmonic * distance / 2
        waves = waves + terms[2 * harmonic - 1] * np.cos(angle) + terms[2 * harmonic] * np.sin(angle)
    return keys_kernel(distance) + (1 + np.cos(np.pi * distance / 2)) / 2 * waves


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_learned_kernels_weigh_the_cells_of_each_channel_for_itself_and_for_the_other_of_its_pair(
    width: int, height: int, harmonics: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((256, height, width)).astype(np.float32)
    coefficients = rng.standard_normal((2, 2, 1 + 2 * harmonics, 256)).astype(np.float32) / 4
    # Places for which the kernel is tabulated.
    place = (
        rng.integers(-PHASES // 2, (width * PHASES - PHASES // 2, height * PHASES - PHASES // 2), (6, 2)) + 0.5
    ) / PHASES
    framed = np.pad(dense, ((0, 0), (2, 2), (2, 2)), mode="edge")
    expected = np.zeros((6, 256))
    for point, (u, v) in enumerate(place):
        for row in range(-2, height + 2):
            for column in range(-2, width + 2):
                weight = learned_kernel(coefficients[0], u - column) * learned_kernel(coefficients[1], v - row)
                product = weight * framed[:, row + 2, column + 2]
                expected[point] += product.real
                expected[point, 0::2] += product.imag[1::2]
                expected[point, 1::2] += product.imag[0::2]
    uv = ((place + 0.5) * 16 - 0.5).astype(np.float32)
    sampled = sample_descriptors(dense, uv, stride=16, sampling="learned", kernel=tabulate(coefficients))
    np.testing.assert_allclose(sampled, expected, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_a_learned_kernel_without_waves_is_the_cubic_one_at_the_nearest_of_its_places(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((256, 4, 5)).astype(np.float32)
    uv = rng.uniform(-0.5, (79.5, 63.5), (50, 2)).astype(np.float32)
    kernel = tabulate(np.zeros((2, 2, 1, 256), np.float32))
    learned = sample_descriptors(dense, uv, stride=16, sampling="learned", kernel=kernel)
    step = 16 / PHASES
    nearest = ((np.floor((uv - 7.5) / step) + 0.5) * step + 7.5).astype(np.float32)
    np.testing.assert_allclose(learned, sample_descriptors(dense, nearest, stride=16, sampling="bicubic"), atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 70), st.sampled_from([(8, 1), (8, 2), (8, 4), (256, 16), (256, 4)]), st.integers(0, 2**32 - 1))
def test_mixing_adds_to_each_channel_what_its_blocks_matrix_takes_from_the_others(
    count: int, shape: tuple[int, int], seed: int
) -> None:
    channels, blocks = shape
    rng = np.random.default_rng(seed)
    size = channels // blocks
    sampled = rng.standard_normal((count, channels)).astype(np.float32)
    mixing = rng.standard_normal((blocks, size, size)).astype(np.float32)
    expected = sampled.astype(float)
    for block, matrix in enumerate(mixing):
        own = slice(block * size, (block + 1) * size)
        for point in range(count):
            expected[point, own] += sum(sampled[point, own][source] * matrix[source] for source in range(size))
    np.testing.assert_allclose(mix(sampled, with_identity(mixing)), expected, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100), st.sampled_from([None, 1, 4, 16]), st.integers(0, 2**32 - 1))
def test_descriptors_are_the_signs_of_what_is_sampled_and_mixed(count: int, blocks: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel = tabulate(rng.normal(0, 0.2, (2, 2, 5, 256)).astype(np.float32))
    matrices = None
    if blocks is not None:
        matrices = with_identity(rng.normal(0, 0.1, (blocks, 256 // blocks, 256 // blocks)).astype(np.float32))
    dense = rng.standard_normal((256, 6, 8), np.float32)
    uv = rng.uniform(0, (127, 95), (count, 2)).astype(np.float32)
    read = sample_descriptors(dense, uv, stride=16, sampling="learned", kernel=kernel)
    expected = pack_descriptors(read if matrices is None else mix(read, matrices))
    packed = describe(dense, uv, stride=16, sampling="learned", kernel=kernel, matrices=matrices)
    np.testing.assert_array_equal(packed, expected)


@pytest.mark.parametrize("sampling", ["half_pixel", "bicubic", "legacy"])
def test_descriptors_need_no_learned_kernel(sampling: str) -> None:
    rng = np.random.default_rng(7)
    dense = rng.standard_normal((256, 6, 8), np.float32)
    uv = rng.uniform(0, (127, 95), (40, 2)).astype(np.float32)
    expected = pack_descriptors(sample_descriptors(dense, uv, stride=16, sampling=sampling))
    np.testing.assert_array_equal(describe(dense, uv, stride=16, sampling=sampling), expected)


@pytest.mark.parametrize("sampling", ["half_pixel", "bicubic"])
def test_the_centre_of_a_cell_reads_that_cell(sampling: str) -> None:
    dense = np.random.default_rng(12).standard_normal((8, 5, 6)).astype(np.float32)
    uv = np.array([[16 * 4 + 7.5, 16 * 3 + 7.5], [7.5, 7.5], [16 * 5 + 7.5, 16 * 4 + 7.5]], np.float32)
    sampled = sample_descriptors(dense, uv, stride=16, sampling=sampling)
    np.testing.assert_array_equal(sampled, [dense[:, 3, 4], dense[:, 0, 0], dense[:, 4, 5]])


@pytest.mark.parametrize("sampling", ["half_pixel", "bicubic", "legacy"])
def test_no_keypoints_have_no_descriptors(sampling: str) -> None:
    sampled = sample_descriptors(
        np.zeros((256, 3, 4), np.float32), np.zeros((0, 2), np.float32), stride=16, sampling=sampling
    )
    assert sampled.shape == (0, 256)


@pytest.mark.parametrize(("sampling", "kernel"), [("learned", None), ("bicubic", tabulate(np.zeros((2, 2, 1, 256))))])
def test_a_kernel_belongs_to_learned_sampling(sampling: str, kernel: np.ndarray | None) -> None:
    dense, uv = np.zeros((256, 4, 5), np.float32), np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match=sampling):
        sample_descriptors(dense, uv, stride=16, sampling=sampling, kernel=kernel)
