# SPDX-License-Identifier: Apache-2.0
"""Decoding: suppression against a plain loop, order of steps, sub-pixel positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.extraction.decode import DecodeSettings, find_keypoints, refine, smooth, spread
from gcnv2_ros.extraction.suppression import Scratch, suppress

pytestmark = pytest.mark.usefixtures("loops")

PLAIN = DecodeSettings(
    max_keypoints=1000,
    score_threshold=0.1,
    nms_radius=4,
    border=0,
    smoothing=0.0,
    candidates="all",
    subpixel=False,
    bucket_columns=0,
    bucket_rows=0,
)


def reference_suppression(scores: np.ndarray, threshold: float, radius: int) -> list[tuple[int, int]]:
    """Visit by descending score, then row-major; keep what is there, remove its neighbourhood."""
    height, width = scores.shape
    pixels = [
        (-scores[y, x], y, x) for y in range(height) for x in range(width) if scores[y, x] > np.float32(threshold)
    ]
    removed = np.zeros(scores.shape, bool)
    kept = []
    for _, y, x in sorted(pixels):
        if not removed[y, x]:
            kept.append((x, y))
            removed[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1] = True
    return kept


def pairs(columns: np.ndarray, rows: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(columns.tolist(), rows.tolist()))


@st.composite
def score_maps(draw: st.DrawFn) -> np.ndarray:
    """Noise of a drawn number of levels (few levels: many equal scores), rough or smooth."""
    shape = (draw(st.integers(1, 50)), draw(st.integers(1, 50)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 50, 10**6]))
    values = rng.random(shape)
    if draw(st.booleans()):
        values = (values + np.roll(values, 1, 0) + np.roll(values, 1, 1) + np.roll(values, -1, 0)) / 4
    return (np.floor(values * levels) / levels).astype(np.float32)


def peaks(scores: np.ndarray) -> np.ndarray:
    """The map with 0 wherever one of the eight neighbours scores higher."""
    framed = np.pad(scores, 1, constant_values=-1.0)
    height, width = scores.shape
    highest = np.max([framed[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    return np.where(scores >= highest, scores, np.float32(0.0))


thresholds = st.sampled_from([0.0, 0.2, 0.5, 0.9])
radii = st.integers(0, 9)


@settings(deadline=None, max_examples=200)
@given(score_maps(), thresholds, radii)
def test_suppression_keeps_what_a_plain_loop_keeps(scores: np.ndarray, threshold: float, radius: int) -> None:
    expected = reference_suppression(scores, threshold, radius)
    assert pairs(*suppress(scores, threshold=threshold, radius=radius)) == expected


@settings(deadline=None, max_examples=200)
@given(score_maps(), thresholds, radii, st.integers(1, 2000))
def test_of_peaks_only_suppression_keeps_what_a_plain_loop_over_them_keeps(
    scores: np.ndarray, threshold: float, radius: int, limit: int
) -> None:
    expected = reference_suppression(peaks(scores), threshold, radius)
    found = pairs(*suppress(scores, threshold=threshold, radius=radius, peaks_only=True, limit=limit))
    assert found[:limit] == expected[:limit]


@settings(deadline=None, max_examples=100)
@given(score_maps(), thresholds, radii, st.integers(1, 30))
def test_a_limit_changes_nothing_for_the_first_accepted(
    scores: np.ndarray, threshold: float, radius: int, limit: int
) -> None:
    def accept(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return (columns + rows) % 3 > 0

    expected = [(x, y) for x, y in reference_suppression(scores, threshold, radius) if (x + y) % 3 > 0]
    columns, rows = suppress(scores, threshold=threshold, radius=radius, limit=limit, accept=accept)
    accepted = accept(columns, rows)
    assert pairs(columns[accepted], rows[accepted])[:limit] == expected[:limit]


def test_a_large_map_takes_rounds_and_visits_alike() -> None:
    rng = np.random.default_rng(5)
    noise = rng.random((240, 320), dtype=np.float32)
    ramp = np.add.outer(np.linspace(0, 0.4, 240), np.linspace(0, 0.5, 320)).astype(np.float32)
    for scores in (noise, noise**6, ramp, (noise + 9 * ramp) / 10, np.full_like(noise, 0.5)):
        expected = reference_suppression(scores, 0.01, 4)
        assert pairs(*suppress(scores, threshold=0.01, radius=4)) == expected
        assert pairs(*suppress(scores, threshold=0.01, radius=4, limit=300))[:300] == expected[:300]


def test_scratch_memory_carries_nothing_from_call_to_call() -> None:
    rng = np.random.default_rng(6)
    scratch = Scratch()
    for shape, radius in (((30, 40), 4), ((30, 40), 4), ((20, 50), 2), ((28, 38), 5), ((30, 40), 4)):
        scores = rng.random(shape, dtype=np.float32)
        found = suppress(scores, threshold=0.3, radius=radius, scratch=scratch)
        assert pairs(*found) == reference_suppression(scores, 0.3, radius)


def test_a_map_that_is_part_of_a_larger_one_is_read_as_such() -> None:
    padded = np.random.default_rng(7).random((48, 64), dtype=np.float32)
    part = padded[:41, :55]
    assert pairs(*suppress(part, threshold=0.2, radius=3)) == reference_suppression(part, 0.2, 3)


def test_nan_is_never_a_keypoint() -> None:
    scores = np.full((20, 20), np.nan, np.float32)
    scores[5, 7] = 0.5
    assert pairs(*suppress(scores, threshold=0.1, radius=3)) == [(7, 5)]


def test_the_threshold_itself_is_not_enough() -> None:
    scores = np.zeros((20, 20), np.float32)
    scores[4, 4], scores[12, 12] = 0.25, np.nextafter(np.float32(0.25), np.float32(1))
    found = find_keypoints(scores, replace(PLAIN, score_threshold=0.25))
    assert found.uv.tolist() == [[12, 12]]


def test_a_point_in_the_border_suppresses_before_it_is_dropped() -> None:
    scores = np.zeros((40, 40), np.float32)
    scores[7, 20], scores[9, 20], scores[30, 30] = 0.9, 0.8, 0.5
    found = find_keypoints(scores, replace(PLAIN, border=8))
    assert found.uv.tolist() == [[30, 30]]


def test_the_border_is_as_wide_on_every_side() -> None:
    scores = np.full((40, 50), 0.5, np.float32)
    found = find_keypoints(scores, replace(PLAIN, border=8, nms_radius=0, max_keypoints=10**4))
    assert found.uv.min(axis=0).tolist() == [8, 8]
    assert found.uv.max(axis=0).tolist() == [50 - 9, 40 - 9]
    assert len(found.uv) == (50 - 16) * (40 - 16)


def test_masked_points_suppress_but_do_not_take_places() -> None:
    scores = np.zeros((40, 40), np.float32)
    scores[10, 10], scores[10, 12], scores[30, 30], scores[30, 10] = 0.9, 0.8, 0.7, 0.6

    def keep(uv: np.ndarray) -> np.ndarray:
        return uv[:, 0] > 11

    found = find_keypoints(scores, replace(PLAIN, max_keypoints=1), keep=keep)
    assert found.uv.tolist() == [[30, 30]]


def test_the_best_are_taken_in_descending_order() -> None:
    scores = np.random.default_rng(8).random((60, 80), dtype=np.float32)
    everything = find_keypoints(scores, PLAIN)
    best = find_keypoints(scores, replace(PLAIN, max_keypoints=17))
    assert len(best.uv) == 17
    np.testing.assert_array_equal(best.uv, everything.uv[:17])
    assert (np.diff(everything.score) <= 0).all()
    columns, rows = best.uv.astype(int).T
    np.testing.assert_array_equal(best.score, scores[rows, columns])


def test_nothing_above_the_threshold_gives_no_keypoints() -> None:
    found = find_keypoints(np.zeros((32, 32), np.float32), replace(PLAIN, subpixel=True))
    assert found.uv.shape == (0, 2)
    assert found.score.shape == (0,)


@pytest.mark.parametrize(("width", "height"), [(80, 80), (160, 80), (80, 160)])
def test_buckets_spread_keypoints_over_the_image(width: int, height: int) -> None:
    scores = np.random.default_rng(9).random((height, width), dtype=np.float32) * 0.4 + 0.1
    scores[: height // 2, : width // 2] += 0.5
    plain = find_keypoints(scores, replace(PLAIN, max_keypoints=40))
    spread_out = find_keypoints(scores, replace(PLAIN, max_keypoints=40, bucket_columns=2, bucket_rows=2))
    assert (plain.uv < (width // 2, height // 2)).all()
    quadrant = (spread_out.uv >= (width // 2, height // 2)) @ [1, 2]
    assert np.bincount(quadrant, minlength=4).tolist() == [10, 10, 10, 10]
    assert (np.diff(spread_out.score) <= 0).all()


def test_places_that_a_cell_does_not_fill_go_to_the_best_of_the_rest() -> None:
    cell = np.array([0, 0, 0, 1, 0, 0, 1, 0])
    assert spread(cell, share=2, limit=4).tolist() == [0, 1, 3, 6]
    assert spread(cell, share=2, limit=6).tolist() == [0, 1, 2, 3, 4, 6]
    assert spread(cell, share=3, limit=100).tolist() == list(range(8))
    assert spread(cell, share=1, limit=1).tolist() == [0]


@settings(deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0, np.pi), st.floats(0.8, 2.5), st.floats(0.8, 2.5))
def test_a_quadratic_peak_of_logits_is_found_exactly(x: float, y: float, turn: float, wide: float, high: float) -> None:
    columns, rows = np.meshgrid(np.arange(21) - 10 - x, np.arange(17) - 8 - y)
    along = (columns * np.cos(turn) + rows * np.sin(turn)) / wide
    across = (rows * np.cos(turn) - columns * np.sin(turn)) / high
    logits = 1.0 - 0.5 * (along**2 + across**2)
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    offsets = refine(scores, np.array([10]), np.array([8]))
    np.testing.assert_allclose(offsets, [[x, y]], atol=2e-3)


def test_refined_gaussian_peaks_are_much_nearer_to_the_truth_than_pixels() -> None:
    rng = np.random.default_rng(10)
    errors = []
    for _ in range(200):
        centre = rng.uniform(-0.5, 0.5, 2)
        rows, columns = np.mgrid[-8:9, -8:9]
        squared = (columns - centre[0]) ** 2 + (rows - centre[1]) ** 2
        scores = (0.5 * np.exp(-squared / 2) + 0.01).astype(np.float32)
        errors.append(refine(scores, np.array([8]), np.array([8]))[0] - centre)
    assert np.linalg.norm(errors, axis=1).max() < 0.1


def test_refinement_moves_at_most_half_a_pixel_and_not_at_edges_or_on_plateaus() -> None:
    scores = np.full((10, 10), 0.2, np.float32)
    scores[5, 6], scores[5, 5] = 0.9, 0.6
    assert (np.abs(refine(scores, np.array([5]), np.array([5]))) <= 0.5).all()
    corners = np.array([0, 9, 0, 9]), np.array([0, 0, 9, 9])
    assert not refine(scores, *corners).any()
    assert not refine(np.ones((10, 10), np.float32), np.array([4]), np.array([4])).any()


def test_equal_scores_across_an_edge_do_not_meet() -> None:
    scores = np.random.default_rng(13).random((60, 90), dtype=np.float32) * np.float32(0.4)
    scores[10::12, 0] = scores[9::12, -1] = 0.9
    scores[0, 10::12] = scores[-1, 20::12] = 0.8
    assert pairs(*suppress(scores, threshold=0.05, radius=5)) == reference_suppression(scores, 0.05, 5)


def test_smoothing_brings_a_peak_together_that_is_spread_over_pixels() -> None:
    scores = np.full((40, 60), 0.01, np.float32)
    scores[10, 20] = 0.5
    # As sure of a keypoint, but not of its pixel.
    scores[25:28, 39:42] = 0.3
    scores[25, 39] = 0.32
    plain = find_keypoints(scores, replace(PLAIN, score_threshold=0.015, nms_radius=4))
    smoothed = find_keypoints(scores, replace(PLAIN, score_threshold=0.015, nms_radius=4, smoothing=1.3))
    assert plain.uv.tolist() == [[20, 10], [39, 25]]
    assert smoothed.uv.tolist() == [[40, 26], [20, 10]]
    assert (np.diff(smoothed.score) <= 0).all()
    assert smoothed.score.max() < 0.32


def test_the_slope_of_a_peak_holds_keypoints_only_where_all_pixels_are_candidates() -> None:
    across, down = np.meshgrid(np.arange(41), np.arange(31))
    scores = np.exp(-((across - 20) ** 2 + (down - 15) ** 2) / 50).astype(np.float32)
    slopes = find_keypoints(scores, PLAIN)
    summit = find_keypoints(scores, replace(PLAIN, candidates="peaks"))
    assert slopes.uv[0].tolist() == [20, 15]
    assert len(slopes.uv) > 4
    assert summit.uv.tolist() == [[20, 15]]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), deviation=st.floats(0.3, 3.0))
def test_smoothing_keeps_range_order_and_what_is_uniform(seed: int, deviation: float) -> None:
    scores = np.random.default_rng(seed).random((37, 53), dtype=np.float32)
    smoothed = smooth(scores, deviation)
    scratch = Scratch()
    smooth(scores.T, deviation, scratch=scratch)
    np.testing.assert_array_equal(smooth(scores, deviation, scratch=scratch), smoothed)
    assert smoothed.shape == scores.shape
    assert smoothed.dtype == np.float32
    assert scores.min() - 1e-6 <= smoothed.min() <= smoothed.max() <= scores.max() + 1e-6
    assert smoothed.std() < scores.std()
    np.testing.assert_allclose(smooth(np.full((37, 53), 0.3, np.float32), deviation), 0.3, rtol=1e-4)
    np.testing.assert_allclose(smooth(scores[:, ::-1].copy(), deviation)[:, ::-1], smoothed, rtol=1e-3, atol=1e-6)
