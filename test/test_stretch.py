# SPDX-License-Identifier: Apache-2.0
"""The stretch from 16 to 8 bits: it shows what there is, and does not flicker."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.messages.stretch import Stretch, StretchError, StretchOptions

SHAPE = (60, 80)


def scene(low: float, high: float, *, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """Values between low and high, the same in every call but for the noise."""
    values = np.random.default_rng(0).uniform(low, high, SHAPE)
    values += noise * np.random.default_rng(seed).standard_normal(SHAPE)
    return np.clip(np.rint(values), 0, 65535).astype(np.uint16)


@given(low=st.integers(0, 60_000), span=st.integers(200, 5000))
@settings(max_examples=40)
def test_a_small_part_of_the_range_fills_the_gray_levels(low: int, span: int) -> None:
    image = scene(low, low + span)
    gray = Stretch()(image)
    assert gray.dtype == np.uint8
    assert gray.shape == SHAPE
    assert gray.min() < 40
    assert gray.max() > 215
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(gray.ravel()[order].astype(int)) >= 0).all(), "brighter must stay brighter"


@given(seed=st.integers(0, 1000), noise=st.floats(0, 20))
@settings(max_examples=20)
def test_a_still_scene_with_noise_keeps_its_gray_levels(seed: int, noise: float) -> None:
    stretch = Stretch()
    stretch(scene(7000, 8000, seed=seed, noise=noise))
    window = stretch.window
    for index in range(10):
        stretch(scene(7000, 8000, seed=seed + index + 1, noise=noise))
        assert stretch.window == window


@given(
    spans=st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 30_000)), min_size=1, max_size=15),
    slew=st.sampled_from([0.01, 0.05]),
)
@settings(max_examples=40)
def test_no_gray_level_jumps_while_the_scene_is_in_sight(spans: list[tuple[int, int]], slew: float) -> None:
    stretch = Stretch(StretchOptions(slew=slew))
    probe = np.arange(0, 65536, 64, dtype=np.uint16)
    first = scene(10_000, 20_000)
    stretch(first)
    for low, span in spans:
        image = scene(low, low + span)
        before, (lowest, highest) = stretch.apply(probe).astype(int), stretch.window
        in_sight = np.mean((image >= lowest) & (image <= highest))
        stretch(image)
        change = np.abs(stretch.apply(probe).astype(int) - before)
        if in_sight > 0.55:
            assert change.max() <= 2 * 255 * slew + 2


def test_the_window_follows_a_lasting_change() -> None:
    stretch = Stretch()
    stretch(scene(7000, 8000))
    for _ in range(300):
        gray = stretch(scene(7300, 8600))
    # Up to the dead band on either side.
    assert gray.min() < 60
    assert gray.max() > 195


def test_a_scene_out_of_the_window_is_shown_at_once() -> None:
    stretch = Stretch()
    stretch(scene(0, 100))
    gray = stretch(scene(30_000, 40_000))
    assert gray.min() < 40
    assert gray.max() > 215


def test_the_noise_of_a_black_image_is_not_blown_up() -> None:
    gray = Stretch()(scene(0, 3))
    assert np.ptp(gray) <= 16


def test_small_hot_things_are_not_drowned() -> None:
    image = scene(7000, 8000)
    image[:2, :2] = 8080
    gray = Stretch()(image)
    assert gray[0, 0] > gray[2:].max()


def test_applying_leaves_the_window_alone() -> None:
    stretch = Stretch()
    first = stretch(scene(7000, 8000))
    window = stretch.window
    stretch.apply(scene(0, 65_000))
    assert stretch.window == window
    np.testing.assert_array_equal(stretch.apply(scene(7000, 8000)), first)
    stretch.reset()
    assert stretch.window is None
    stretch.apply(scene(100, 1000))
    assert stretch.window != window


@given(st.integers(1, 5), st.integers(1, 5))
def test_images_of_any_shape_are_taken(height: int, width: int) -> None:
    for shape in ((height, width), (height, width, 3)):
        assert Stretch()(np.full(shape, 500, np.uint16)).shape == shape


def test_other_arrays_are_refused() -> None:
    for image in (np.zeros(SHAPE, np.uint8), np.zeros((0, 5), np.uint16)):
        with pytest.raises(StretchError):
            Stretch()(image)


@pytest.mark.parametrize(
    "options", [{"low": 60, "high": 50}, {"margin": -1}, {"slew": 2}, {"dead_band": -0.1}, {"minimum_span": 0}]
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(StretchError, match=next(iter(options))):
        StretchOptions(**options)
