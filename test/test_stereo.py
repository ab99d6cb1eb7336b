# SPDX-License-Identifier: Apache-2.0
"""Stereo: which pairs may match, how well the refinement finds the column, and what is refused."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.depth import sample_depth
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.features import Features
from gcnv2_ros.sequences import open_sequence
from gcnv2_ros.stereo import StereoError, StereoOptions, match_stereo

SIZE = (320, 240)
FOCAL, BASELINE = 200.0, 0.1
EUROC = Path(os.environ.get("GCNV2_ROS_DATA", "data")) / "euroc_v101_clip"


def features_at(uv: np.ndarray, descriptors: np.ndarray) -> Features:
    """Features at pixels (N, 2) with descriptors uint8 (N, 32)."""
    return Features(uv, np.zeros(len(uv)), descriptors, SIZE)


def random_descriptors(count: int, seed: int = 0) -> np.ndarray:
    """Descriptors that are all different, by about half of their bits."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)


@cache
def texture() -> np.ndarray:
    """A smooth random picture, float (240, 640) of gray levels, twice as wide as an image."""
    noise = np.random.default_rng(0).standard_normal((SIZE[1], 2 * SIZE[0]))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return 128 + 40 * smooth / smooth.std()


def view(shift: float) -> np.ndarray:
    """The picture seen `shift` pixels further to the right, uint8 (240, 320)."""
    rows, columns = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(np.float32)
    seen = cv2.remap(texture().astype(np.float32), columns + np.float32(shift), rows, cv2.INTER_LANCZOS4)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


@given(
    disparity=st.floats(0.6, 40.0),
    offset=st.floats(-6.0, 6.0),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=25)
def test_refinement_finds_the_column_from_pixels_away(disparity: float, offset: float, seed: int) -> None:
    # A wall at right angles to the axis: the right image is the left one moved by the disparity.
    uv = np.random.default_rng(seed).uniform((90, 20), (300, 220), (12, 2))
    wrong = np.column_stack([uv[:, 0] - disparity - offset, uv[:, 1]])
    descriptors = random_descriptors(12)
    found = match_stereo(
        features_at(uv, descriptors),
        features_at(wrong, descriptors),
        focal=FOCAL,
        baseline=BASELINE,
        left_image=view(0),
        right_image=view(disparity),
        options=StereoOptions(row_tolerance=7.0),
    )
    known = found.right_u >= 0
    assert known.sum() >= 10
    np.testing.assert_allclose(found.right_u[known], (uv[:, 0] - disparity)[known], atol=0.25)
    np.testing.assert_allclose(
        found.depth[known], FOCAL * BASELINE / (found.uv[:, 0] - found.right_u)[known], rtol=1e-3
    )


@given(data=st.data())
@settings(max_examples=60)
def test_without_images_the_matches_are_those_of_an_exhaustive_search(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 10_000))
    left_count, right_count = data.draw(st.integers(0, 30)), data.draw(st.integers(0, 30))
    rng = np.random.default_rng(seed)
    # Few places and few bits, so that bands overlap; noise in the descriptors, so that distances tie seldom.
    left_uv, right_uv = (rng.uniform((0, 0), (319, 12), (count, 2)) for count in (left_count, right_count))
    words = rng.integers(0, 256, (4, 32), dtype=np.uint8)
    left_bits, right_bits = (
        words[rng.integers(0, 4, count)] ^ (rng.random((count, 32)) < 0.3).astype(np.uint8)
        for count in (left_count, right_count)
    )
    left, right = features_at(left_uv, left_bits), features_at(right_uv, right_bits)
    found = match_stereo(left, right, focal=FOCAL, baseline=BASELINE)

    distance = np.full((left_count, right_count), np.inf)
    for i in range(left_count):
        for j in range(right_count):
            disparity = left.uv[i, 0] - right.uv[j, 0]
            if abs(left.uv[i, 1] - right.uv[j, 1]) <= 2 and -2 <= disparity <= 80:
                bits = np.unpackbits(left_bits[i] ^ right_bits[j]).sum()
                distance[i, j] = bits if bits <= 76 else np.inf
    for i in range(left_count):
        j = int(distance[i].argmin()) if right_count else 0
        unique = right_count and (distance[i] == distance[i].min()).sum() == 1
        if not right_count or not np.isfinite(distance[i, j]) or distance[i, j] > distance[:, j].min():
            assert found.right_u[i] == -1 or not unique
        elif unique and (distance[:, j] == distance[i, j]).sum() == 1:
            visible = left.uv[i, 0] >= right.uv[j, 0]
            assert found.right_u[i] == (right.uv[j, 0] if visible else -1)
    assert np.array_equal(np.isnan(found.depth), (found.right_u < 0) | (left.uv[:, 0] - found.right_u < 0.5))


def test_each_keypoint_is_matched_once() -> None:
    descriptors = np.zeros((3, 32), np.uint8)
    descriptors[1, 0] = 1
    uv = np.array([[100, 50], [110, 50], [120, 50]], float)
    found = match_stereo(
        features_at(uv, descriptors), features_at(uv[1:2] - (20, 0), descriptors[1:2]), focal=FOCAL, baseline=BASELINE
    )
    np.testing.assert_array_equal(found.right_u, [-1, 90, -1])
    np.testing.assert_allclose(found.depth, [np.nan, 1.0, np.nan])


@pytest.mark.parametrize(
    ("right", "options"),
    [
        ((80, 53), StereoOptions()),
        ((103, 50), StereoOptions()),
        ((15, 50), StereoOptions()),
        ((80, 50), StereoOptions(max_disparity=19)),
        ((80, 51), StereoOptions(row_tolerance=0.5)),
    ],
)
def test_pairs_against_the_geometry_are_no_matches(right: tuple[float, float], options: StereoOptions) -> None:
    descriptor = random_descriptors(1)
    found = match_stereo(
        features_at(np.array([[100.0, 50.0]]), descriptor),
        features_at(np.array([right], float), descriptor),
        focal=FOCAL,
        baseline=BASELINE,
        options=options,
    )
    assert found.right_u[0] == -1
    assert np.isnan(found.depth[0])


def test_a_column_left_of_the_image_is_no_match() -> None:
    """Keypoints of sub-pixel places may lie half a pixel outside; a column that is not known is -1."""
    descriptor = random_descriptors(1)
    right = features_at(np.array([[-0.3, 50.0]]), descriptor)
    found = match_stereo(features_at(np.array([[10.0, 50.0]]), descriptor), right, focal=FOCAL, baseline=BASELINE)
    assert found.right_u[0] == -1
    assert np.isnan(found.depth[0])


def test_far_points_have_a_column_and_no_depth() -> None:
    descriptors = random_descriptors(2)
    left = features_at(np.array([[100.0, 50.0], [200.0, 80.0]]), descriptors)
    right = features_at(np.array([[99.75, 50.0], [198.0, 80.0]]), descriptors)
    found = match_stereo(left, right, focal=FOCAL, baseline=BASELINE)
    np.testing.assert_array_equal(found.right_u, [99.75, 198.0])
    np.testing.assert_allclose(found.depth, [np.nan, 10.0])


@pytest.mark.parametrize("case", ["flat", "other picture", "rows only", "beyond the search"])
def test_matches_that_the_images_do_not_bear_out_are_dropped(case: str) -> None:
    left_image, right_image = view(0), view(20)
    if case == "flat":
        left_image = right_image = np.full_like(left_image, 90)
    elif case == "other picture":
        right_image = view(200)
    elif case == "rows only":
        # Stripes along the rows look the same at every disparity.
        noise = np.random.default_rng(1).integers(-3, 4, (2, *left_image.shape))
        left_image, right_image = ((view(0)[:, :1] + noise[k]).clip(0, 255).astype(np.uint8) for k in (0, 1))
    else:
        right_image = view(40)
    uv = np.random.default_rng(0).uniform((90, 20), (250, 220), (40, 2))
    descriptors = random_descriptors(40)
    found = match_stereo(
        features_at(uv, descriptors),
        features_at(uv - (20, 0), descriptors),
        focal=FOCAL,
        baseline=BASELINE,
        left_image=left_image,
        right_image=right_image,
    )
    assert (found.right_u >= 0).mean() <= 0.1


def test_float_descriptors_are_matched_by_their_distance() -> None:
    vectors = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    uv = np.column_stack([np.linspace(100, 300, 5), np.full(5, 40.0)])
    left = Features(uv, np.zeros(5), vectors, SIZE, "l2")
    right = Features(uv - (10, 0), np.zeros(5), vectors, SIZE, "l2")
    np.testing.assert_allclose(match_stereo(left, right, focal=FOCAL, baseline=BASELINE).depth, 2.0)
    with pytest.raises(StereoError, match="both must be of one extractor"):
        match_stereo(left, features_at(uv, random_descriptors(5)), focal=FOCAL, baseline=BASELINE)


def test_images_without_keypoints_have_no_matches() -> None:
    some = features_at(np.array([[100.0, 50.0]]), random_descriptors(1))
    none = Features.empty(SIZE)
    images = {"left_image": view(0), "right_image": view(5)}
    for left, right in ((some, none), (none, some), (none, none)):
        found = match_stereo(left, right, focal=FOCAL, baseline=BASELINE, **images)
        assert len(found) == len(left)
        assert not (found.right_u >= 0).any()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"focal": 0.0}, "focal length"),
        ({"focal": float("nan")}, "focal length"),
        ({"baseline": -0.1}, "left and right swapped"),
        ({"right": Features.empty((640, 480))}, "one size"),
        ({"right_image": np.zeros((10, 10), np.uint8)}, r"uint8 images of 320x240"),
        ({"left_image": np.zeros((240, 320), np.float32)}, r"float32"),
    ],
)
def test_what_is_no_rectified_pair_is_refused(change: dict[str, object], sentence: str) -> None:
    some = features_at(np.array([[100.0, 50.0]]), random_descriptors(1))
    arguments = {"right": some, "focal": FOCAL, "baseline": BASELINE, "left_image": view(0), "right_image": view(5)}
    arguments.update(change)
    with pytest.raises(StereoError, match=sentence):
        match_stereo(some, **arguments)


@pytest.mark.parametrize("option", ["row_tolerance", "max_disparity", "min_disparity", "window_radius"])
def test_options_out_of_range_are_named(option: str) -> None:
    with pytest.raises(StereoError, match=option):
        StereoOptions(**{option: -1})


@cache
def room_pairs() -> list:
    """Frames of a stereo room with noise, and its sequence."""
    room = open_sequence("room:frames=2,rate=1,baseline=0.11,noise=2,seed=3,texel=0.005")
    return [room, *room]


@pytest.mark.parametrize("model", ["orb", "gcnv2_tiny"])
def test_in_the_rendered_room_columns_and_depths_are_right(model: str) -> None:
    room, *frames = room_pairs()
    errors, depth_errors, matches = [], [], 0
    extractor = create_extractor(ExtractorOptions(model=model, runtime="auto", threads=1), DecodeOptions())
    for frame in frames:
        left, right = extractor.extract_batch([frame.gray, frame.right_gray])
        found = match_stereo(
            left,
            right,
            focal=room.camera.rectified().fx,
            baseline=room.baseline,
            left_image=frame.gray,
            right_image=frame.right_gray,
        )
        truth = sample_depth(frame.depth, found.uv, found.image_size)
        column = found.uv[:, 0] - room.camera.fx * room.baseline / truth
        kept = (found.right_u >= 0) & np.isfinite(truth)
        matches += kept.sum()
        errors.extend(np.abs(found.right_u - column)[kept])
        near = kept & np.isfinite(found.depth)
        depth_errors.extend((np.abs(found.depth - truth) / truth)[near])
    assert matches >= 300 * len(frames)
    assert np.mean(np.array(errors) <= 0.5) >= 0.9
    assert np.median(errors) < 0.15
    assert np.median(depth_errors) < 0.01
    assert np.percentile(depth_errors, 95) < 0.04


@pytest.mark.skipif(not EUROC.is_dir(), reason="no euroc_v101_clip in the folder that GCNV2_ROS_DATA names")
def test_on_real_stereo_orb_finds_more_matches_than_without_the_geometry() -> None:
    sequence = open_sequence(EUROC, rectify=True)
    frame = sequence[0]
    extractor = create_extractor(ExtractorOptions(model="orb"), DecodeOptions())
    left, right = extractor.extract_batch([frame.gray, frame.right_gray])
    found = match_stereo(
        left,
        right,
        focal=sequence.camera.fx,
        baseline=sequence.baseline,
        left_image=frame.gray,
        right_image=frame.right_gray,
    )
    known = np.isfinite(found.depth)
    assert known.sum() > 282
    # The clip shows a room of some metres.
    assert np.mean((found.depth[known] > 0.5) & (found.depth[known] < 12)) > 0.95
