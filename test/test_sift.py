# SPDX-License-Identifier: Apache-2.0
"""SIFT behind the extractor's interface."""

from __future__ import annotations

import numpy as np
import pytest

from gcnv2_ros.extraction import DecodeOptions, ExtractionError, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.frame_features import extract_right
from gcnv2_ros.geometry import warp_homography
from gcnv2_ros.matching import MatchingError, match
from gcnv2_ros.sequences import RoomOptions, SyntheticRoom


@pytest.fixture(scope="module")
def gray() -> np.ndarray:
    return SyntheticRoom(RoomOptions(width=320, height=240, frames=1, seed=2))[0].gray


def sift(count: int = 300, **options: int) -> Extractor:
    return create_extractor(ExtractorOptions(model="sift", **options), DecodeOptions(max_keypoints=count))


def test_descriptors_are_128_floats_compared_by_l2(gray: np.ndarray) -> None:
    extractor = sift()
    features = extractor.extract(gray)
    assert 50 < len(features) <= 300
    assert (features.metric, features.descriptors.dtype, features.descriptors.shape[1]) == ("l2", np.float32, 128)
    assert (extractor.info.model, extractor.info.metric, extractor.info.descriptor_width) == ("sift", "l2", 128)
    assert extractor.last_timings.forward > 0


def test_an_image_without_structure_gives_no_features() -> None:
    features = sift().extract(np.full((64, 64), 7, np.uint8))
    assert (len(features), features.metric, features.descriptors.shape) == (0, "l2", (0, 128))


@pytest.mark.parametrize(("size", "tolerance"), [((0, 0), 0.1), ((100, 80), 0.3)])
def test_a_blob_is_found_where_it_is(size: tuple[int, int], tolerance: float) -> None:
    columns, rows = np.meshgrid(np.arange(200), np.arange(160))
    blob = 100 + 100 * np.exp(-((columns - 90) ** 2 + (rows - 70) ** 2) / (2 * 6.0**2))
    features = sift(input_width=size[0], input_height=size[1]).extract(blob.astype(np.uint8))
    np.testing.assert_allclose(features.uv[0], [90, 70], atol=tolerance)


def test_matches_survive_a_quarter_turn(gray: np.ndarray) -> None:
    extractor = sift()
    first, second = extractor.extract(gray), extractor.extract(np.ascontiguousarray(np.rot90(gray)))
    matches = match(first, second, ratio=0.8)
    turn = np.array([[0, 1, 0], [-1, 0, gray.shape[1] - 1], [0, 0, 1.0]])
    error = np.linalg.norm(warp_homography(turn, first.uv[matches.index_a]) - second.uv[matches.index_b], axis=1)
    assert len(matches) > 50
    assert np.mean(error < 2) > 0.9


def test_masked_places_have_no_keypoints(gray: np.ndarray) -> None:
    mask = np.zeros(gray.shape, np.uint8)
    mask[:, 160:] = 255
    features = sift().extract(gray, mask=mask)
    assert len(features) > 10
    assert features.uv[:, 0].min() >= 159.5


def test_sift_and_orb_are_not_matched_with_each_other(gray: np.ndarray) -> None:
    orb = create_extractor(ExtractorOptions(model="orb"))
    with pytest.raises(MatchingError, match="l2 and hamming"):
        match(sift().extract(gray), orb.extract(gray))


@pytest.mark.parametrize("model", ["orb", "sift"])
def test_detectors_of_opencv_refuse_weights(model: str) -> None:
    with pytest.raises(ExtractionError, match=rf"{model} has no weights, got 'new.safetensors'"):
        create_extractor(ExtractorOptions(model=model, weights="new.safetensors"))


def test_descriptors_have_length_one_and_are_found_again_in_a_noisy_stereo_pair() -> None:
    room = SyntheticRoom(RoomOptions(width=320, height=240, frames=1, seed=2, baseline=0.1, noise=2.0))
    frame, extractor = room[0], sift()
    features = extractor.extract(frame.gray)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1.0, rtol=1e-5)
    seen, _ = extract_right(extractor, features, frame, room)
    assert np.mean(np.isfinite(seen.depth)) > 0.4
