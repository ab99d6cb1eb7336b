# SPDX-License-Identifier: Apache-2.0
"""Matching against a brute-force search."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gcnv2_ros.features import Features, Metric
from gcnv2_ros.hamming import nearest_of_many
from gcnv2_ros.matching import MatchingError, match, match_descriptors, match_near, match_pairs, usual_distance

# Two bytes of few values: many equal descriptors and equal distances.
descriptors = npst.arrays(np.uint8, st.tuples(st.integers(0, 30), st.just(2)), elements=st.sampled_from([0, 1, 3, 255]))


def hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.unpackbits(a[:, None] ^ b[None], axis=2).sum(axis=2, dtype=int)


def brute_force(
    distances: np.ndarray, *, mutual: bool, ratio: float | None, max_distance: float | None
) -> list[tuple[int, int, float]]:
    found = []
    if distances.size == 0:
        return found
    for i, row in enumerate(distances):
        j = int(row.argmin())
        others = np.delete(row, j)
        if mutual and int(distances[:, j].argmin()) != i:
            continue
        if ratio is not None and len(others) and not row[j] < ratio * others.min():
            continue
        if max_distance is not None and row[j] > max_distance:
            continue
        found.append((i, j, float(row[j])))
    return found


@settings(deadline=None)
@given(
    descriptors,
    descriptors,
    st.booleans(),
    st.sampled_from([None, 0.7, 1.0]),
    st.sampled_from([None, 0.0, 3.0]),
)
def test_hamming_matches_are_those_of_brute_force(
    a: np.ndarray, b: np.ndarray, mutual: bool, ratio: float | None, max_distance: float | None
) -> None:
    matches = match_descriptors(a, b, mutual=mutual, ratio=ratio, max_distance=max_distance)
    expected = brute_force(hamming(a, b), mutual=mutual, ratio=ratio, max_distance=max_distance)
    found = zip(matches.index_a.tolist(), matches.index_b.tolist(), matches.distance.tolist())
    assert list(found) == expected


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([255, 256, 257, 700]))
def test_many_descriptors_match_as_few_do(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    b = rng.integers(0, 256, (300, 32), dtype=np.uint8)
    matches = match_descriptors(a, b, ratio=0.95)
    expected = brute_force(hamming(a, b), mutual=True, ratio=0.95, max_distance=None)
    assert list(zip(matches.index_a.tolist(), matches.index_b.tolist(), matches.distance.tolist())) == expected


def test_distances_of_floats_are_euclidean() -> None:
    a = np.array([[0.0, 0.0], [10.0, 0.0]], np.float32)
    b = np.array([[9.0, 0.0], [3.0, 4.0], [-50.0, 0.0]], np.float32)
    matches = match_descriptors(a, b, metric="l2")
    assert matches.index_a.tolist() == [0, 1]
    assert matches.index_b.tolist() == [1, 0]
    np.testing.assert_allclose(matches.distance, [5.0, 1.0], rtol=1e-6)


def test_a_shuffled_set_finds_itself() -> None:
    rng = np.random.default_rng(3)
    a = rng.integers(0, 256, (500, 32), dtype=np.uint8)
    order = rng.permutation(500)
    matches = match_descriptors(a[order], a)
    np.testing.assert_array_equal(matches.index_b, order)
    assert not matches.distance.any()


def test_features_are_matched_by_their_own_metric() -> None:
    bits = Features(np.zeros((1, 2)), np.ones(1), np.zeros((1, 32), np.uint8), (64, 64))
    floats = Features(np.zeros((1, 2)), np.ones(1), np.zeros((1, 32), np.float32), (64, 64), metric="l2")
    assert len(match(bits, bits)) == len(match(floats, floats)) == 1
    assert len(match(bits, Features.empty((64, 64)))) == 0
    with pytest.raises(MatchingError, match="hamming and l2"):
        match(bits, floats)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.0}, "ratio"),
        ({"ratio": 1.5}, "ratio"),
        ({"max_distance": -1}, "max_distance"),
        ({"metric": "l1"}, "l1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    a = np.zeros((2, 32), np.uint8)
    with pytest.raises(MatchingError, match=message):
        match_descriptors(a, a, **options)


def test_descriptors_of_different_widths_are_refused() -> None:
    with pytest.raises(MatchingError, match=r"\(2, 32\) and \(2, 64\)"):
        match_descriptors(np.zeros((2, 32), np.uint8), np.zeros((2, 64), np.uint8))


@given(seed=st.integers(0, 10_000), points=st.integers(0, 40), keypoints=st.integers(0, 40))
@settings(max_examples=25)
def test_matching_within_any_distance_is_matching_by_descriptors_alone(seed: int, points: int, keypoints: int) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct bytes, so that ties and near neighbours occur.
    a = rng.integers(0, 3, (points, 32), dtype=np.uint8)
    b = rng.integers(0, 3, (keypoints, 32), dtype=np.uint8)
    expected, pixels = rng.uniform(0, 100, (points, 2)), rng.uniform(0, 100, (keypoints, 2))
    near = match_near(a, expected, b, pixels, metric="hamming", radius=1e3, ratio=0.9, max_distance=30)
    all_of_them = match_descriptors(a, b, ratio=0.9, max_distance=30)
    np.testing.assert_array_equal(near.index_a, all_of_them.index_a)
    np.testing.assert_array_equal(near.index_b, all_of_them.index_b)
    np.testing.assert_array_equal(near.distance, all_of_them.distance)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_matches_lie_within_the_radius_and_points_without_a_place_have_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected, pixels = rng.uniform(0, 100, (20, 2)), rng.uniform(0, 100, (30, 2))
    expected[3] = np.nan
    same = rng.integers(0, 256, (30, 32), dtype=np.uint8)
    found = match_near(same[:20], expected, same, pixels, metric="hamming", radius=20.0, ratio=1.0, max_distance=None)
    assert 3 not in found.index_a
    assert (np.linalg.norm(expected[found.index_a] - pixels[found.index_b], axis=1) <= 20.0).all()


@given(
    seed=st.integers(0, 10_000),
    points=st.sampled_from([0, 1, 256, 257, 600]),
    metric=st.sampled_from(["hamming", "l2"]),
    ratio=st.sampled_from([None, 0.9]),
)
@settings(max_examples=25, deadline=None)
def test_many_points_match_near_their_places_as_all_near_pairs_do(
    seed: int, points: int, metric: Metric, ratio: float | None
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 3, (count, 32), dtype=np.uint8) for count in (points, 300))
    if metric == "l2":
        a, b = a.astype(np.float32), b.astype(np.float32)
    expected, pixels = rng.uniform(0, 100, (points, 2)), rng.uniform(0, 100, (300, 2))
    expected[::7] = np.nan
    apart = expected[:, None] - pixels
    near = np.argwhere(apart[..., 0] ** 2 + apart[..., 1] ** 2 <= 15.0**2)
    options = {"metric": metric, "ratio": ratio, "max_distance": usual_distance(metric, 32)}
    found = match_near(a, expected, b, pixels, radius=15.0, **options)
    plain = match_pairs(a, b, near[:, 0], near[:, 1], **options)
    for name in ("index_a", "index_b", "distance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_the_memory_of_matching_near_grows_with_the_keypoints_and_not_with_their_square() -> None:
    def most(count: int) -> int:
        rng = np.random.default_rng(0)
        descriptors, uv = rng.integers(0, 256, (count, 32), dtype=np.uint8), rng.uniform(0, 640, (count, 2))
        tracemalloc.start()
        found = match_near(descriptors, uv, descriptors, uv, metric="hamming", radius=38.0, max_distance=77.0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(found) == count
        return peak

    assert most(4000) < 2.5 * most(2000)


@settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.sampled_from([None, 0.8, 1.0]),
    # About as far as the nearest of 32 bytes is: the second nearest often is farther than that.
    st.sampled_from([None, 22.0, 40.0]),
    st.sampled_from([4, 32, 61]),
)
@example(0, 0.8, 22.0, 32)
def test_matches_among_given_pairs_are_those_of_brute_force(
    seed: int, ratio: float | None, max_distance: float | None, width: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 3, (12, width), dtype=np.uint8), rng.integers(0, 3, (15, width), dtype=np.uint8)
    allowed = rng.random((12, 15)) < 0.4
    distances = np.where(allowed, hamming(a, b), np.inf)
    # What a descriptor is not paired with is infinitely far, and no match.
    expected = [
        found
        for found in brute_force(distances, mutual=True, ratio=ratio, max_distance=max_distance)
        if np.isfinite(found[2])
    ]
    pairs = rng.permutation(np.argwhere(allowed))
    matches = match_pairs(a, b, pairs[:, 0], pairs[:, 1], ratio=ratio, max_distance=max_distance)
    assert list(zip(matches.index_a.tolist(), matches.index_b.tolist(), matches.distance.tolist())) == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 1023, 1024, 3000]), st.sampled_from([4, 32, 61]))
def test_the_nearest_of_many_are_those_of_brute_force(seed: int, count: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    few, many = rng.integers(0, 3, (7, width), dtype=np.uint8), rng.integers(0, 3, (count, width), dtype=np.uint8)
    found, bits = nearest_of_many(few, many)
    expected = hamming(few, many)
    np.testing.assert_array_equal(found, expected.argmin(axis=1))
    np.testing.assert_array_equal(bits, expected.min(axis=1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_float_descriptor_that_is_not_finite_matches_none(value: float) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((20, 16)).astype(np.float32)
    broken = a.copy()
    broken[3, 5] = value
    others = [*range(3), *range(4, 20)]
    for first, second in ((a, broken), (broken, a), (broken, broken)):
        for mutual in (False, True):
            matches = match_descriptors(first, second, metric="l2", mutual=mutual, ratio=0.9)
            assert matches.index_a.tolist() == matches.index_b.tolist() == others
        pairs = np.arange(20)
        assert match_pairs(first, second, pairs, pairs, metric="l2").index_a.tolist() == others
    assert len(match_descriptors(a, broken[3:4], metric="l2")) == 0
