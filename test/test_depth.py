# SPDX-License-Identifier: Apache-2.0
"""Depth: units, depth at keypoints, and that nothing is invented across an edge."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gcnv2_ros.depth import DepthError, metric_depth, sample_depth

SIZE = (60, 40)


@given(arrays.arrays(np.uint16, (3, 4)))
def test_millimetres_become_metres_and_zero_is_unknown(millimetres: np.ndarray) -> None:
    metres = metric_depth(millimetres)
    assert metres.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(metres), millimetres == 0)
    np.testing.assert_allclose(metres[millimetres > 0], millimetres[millimetres > 0] / 1000.0, rtol=1e-6)


@given(arrays.arrays(np.float32, (3, 4)))
def test_floats_are_metres_and_what_is_no_distance_is_unknown(values: np.ndarray) -> None:
    metres = metric_depth(values)
    good = np.isfinite(values) & (values > 0)
    np.testing.assert_array_equal(metres[good], values[good])
    assert np.isnan(metres[~good]).all()


@pytest.mark.parametrize("image", [np.zeros((3, 4), np.uint8), np.zeros((3, 4, 1), np.uint16), np.zeros(3, np.float32)])
def test_other_arrays_are_no_depth(image: np.ndarray) -> None:
    with pytest.raises(DepthError, match="millimetres"):
        metric_depth(image)


@given(data=st.data())
@settings(max_examples=200)
def test_at_a_step_the_depth_is_that_of_one_side_or_unknown(data: st.DataObject) -> None:
    """A straight edge anywhere, at any angle, with holes, in a depth image of any resolution."""
    near = data.draw(st.floats(0.3, 8.0))
    far = near * data.draw(st.floats(1.08, 4.0))
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    scale = data.draw(st.sampled_from([0.5, 1.0, 2.0]))
    width, height = round(SIZE[0] * scale), round(SIZE[1] * scale)
    angle, offset = data.draw(st.floats(0, np.pi)), data.draw(st.floats(-15, 15))
    rows, columns = np.mgrid[0:height, 0:width]
    # The signed distance to the edge, in pixels of the image.
    distance = ((columns + 0.5) / scale - 0.5 - 30) * np.cos(angle) + ((rows + 0.5) / scale - 0.5 - 20) * np.sin(angle)
    depth = np.where(distance < offset, near, far).astype(np.float32)
    depth[rng.random(depth.shape) < data.draw(st.floats(0, 0.5))] = np.nan
    uv = rng.uniform((-0.5, -0.5), (SIZE[0] - 0.5, SIZE[1] - 0.5), (200, 2))
    found = sample_depth(depth, uv, SIZE)

    known = np.isfinite(found)
    assert np.isin(found[known], depth[np.isfinite(depth)]).all()
    # The depth is that of the side on which the keypoint lies, up to the pixel's own extent.
    side = (uv - (30, 20)) @ (np.cos(angle), np.sin(angle)) - offset
    away = known & (np.abs(side) > 0.75 / min(scale, 1.0))
    np.testing.assert_array_equal(found[away], np.where(side[away] < 0, np.float32(near), np.float32(far)))
    if not np.isnan(depth).any():
        assert known[np.abs(side) > 3 / min(scale, 1.0)].all(), "away from the edge depth must not get lost"
        # In the outermost pixels of the depth image the other side may lie outside of it.
        inner = np.all((uv >= 1 / scale - 0.5) & (uv <= np.array(SIZE) - 0.5 - 1 / scale), axis=1)
        at_edge = inner & (np.abs(side) < 0.5 / max(scale, 1.0))
        assert not known[at_edge].any() or (np.abs(distance - offset) > 1.5 / scale).all()


def test_a_slanted_surface_keeps_its_depth() -> None:
    # A floor seen at a grazing angle changes by some per cent from row to row.
    depth = np.repeat(np.linspace(2, 3, SIZE[1], dtype=np.float32)[:, None], SIZE[0], axis=1)
    uv = np.array([[10.2, 10.4], [30.0, 20.0], [50.4, 37.6]])
    np.testing.assert_array_equal(sample_depth(depth, uv, SIZE), depth[[10, 20, 38], [10, 30, 50]])


def test_unknown_depth_stays_unknown_and_a_hole_beside_does_not_matter() -> None:
    depth = np.full((SIZE[1], SIZE[0]), 2.0, np.float32)
    depth[5, 5], depth[5, 6], depth[5, 7], depth[5, 8] = np.nan, 0.0, -1.0, np.inf
    uv = np.array([[5, 5], [6, 5], [7, 5], [8, 5], [6, 6], [4, 4]], float)
    np.testing.assert_array_equal(sample_depth(depth, uv, SIZE), np.array([np.nan] * 4 + [2, 2], np.float32))


def test_outside_of_the_image_and_at_nan_there_is_no_depth() -> None:
    depth = np.full((SIZE[1], SIZE[0]), 2.0, np.float32)
    uv = np.array([[-0.4, 0], [59.4, 39.4], [-0.6, 5], [5, 39.6], [np.nan, 3], [np.inf, 3], [1e30, 1e30]])
    np.testing.assert_array_equal(sample_depth(depth, uv, SIZE), np.array([2, 2] + [np.nan] * 5, np.float32))
    assert sample_depth(depth, np.zeros((0, 2)), SIZE).shape == (0,)


@given(st.integers(1, 4), st.floats(0, SIZE[0] - 1), st.floats(0, SIZE[1] - 1))
def test_a_depth_image_of_another_resolution_is_read_at_the_same_place(factor: int, u: float, v: float) -> None:
    rows, columns = np.mgrid[0 : SIZE[1] * factor, 0 : SIZE[0] * factor]
    smooth = (10 + 0.02 * (columns + 0.5) / factor + 0.01 * (rows + 0.5) / factor).astype(np.float32)
    expected = 10 + 0.02 * (u + 0.5) + 0.01 * (v + 0.5)
    assert sample_depth(smooth, [[u, v]], SIZE)[0] == pytest.approx(expected, abs=0.02)
    smaller = cv2.resize(smooth, (30, 20), interpolation=cv2.INTER_AREA)
    assert sample_depth(smaller, [[u, v]], SIZE)[0] == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("shape", [(40, 40), (60, 40), (0, 0), (40,)])
def test_a_depth_image_that_does_not_belong_to_the_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DepthError):
        sample_depth(np.ones(shape, np.float32), [[1, 1]], SIZE)
