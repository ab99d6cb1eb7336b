# SPDX-License-Identifier: Apache-2.0
"""The detector of blobs: where it responds, how strongly, and how the extractor is told to use it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.extraction.blobs import BLOB_THRESHOLD, blob_deviation, blob_radius, blob_response
from gcnv2_ros.extraction.suppression import Scratch
from gcnv2_ros.matching import match
from gcnv2_ros.networks import create_network
from gcnv2_ros.weights import WeightsMetadata, save_weights

pytestmark = pytest.mark.usefixtures("loops")


def spots(size: tuple[int, int], *places: tuple[float, float], spread: float = 2.0) -> np.ndarray:
    """A gray image, float32 in [0, 1], with a bright Gaussian spot at each place (column, row)."""
    across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    image = np.full(size[::-1], 0.2)
    for u, v in places:
        image += 0.5 * np.exp(-((across - u) ** 2 + (down - v) ** 2) / (2 * spread**2))
    return image.astype(np.float32)


def summit(response: np.ndarray) -> tuple[int, int]:
    """Column and row of the highest response."""
    row, column = np.unravel_index(response.argmax(), response.shape)
    return int(column), int(row)


@settings(max_examples=30, deadline=None)
@given(u=st.integers(24, 70), v=st.integers(24, 56), spread=st.floats(1.2, 3.0), deviation=st.floats(1.0, 3.0))
def test_it_is_highest_in_the_middle_of_a_spot_bright_or_dark(u: int, v: int, spread: float, deviation: float) -> None:
    image = spots((96, 80), (u, v), spread=spread)
    bright = blob_response(image, deviation)
    assert summit(bright) == (u, v)
    assert BLOB_THRESHOLD < bright.max() < 1
    np.testing.assert_allclose(blob_response(1 - image, deviation), bright, atol=1e-4)
    assert bright.min() == bright[0].max() == bright[:, -1].max() == 0


def test_it_grows_with_contrast_alone() -> None:
    image = spots((64, 48), (30, 20), (45, 31))
    response = blob_response(image, 1.6)
    np.testing.assert_allclose(blob_response(image / 2 + 0.3, 1.6), response / 2, atol=1e-4)


@pytest.mark.parametrize("angle", [0.0, 20.0, 45.0, 90.0])
def test_edges_and_lines_are_no_blobs(angle: float) -> None:
    across, down = np.meshgrid(np.arange(80) - 40.0, np.arange(60) - 30.0)
    distance = across * np.cos(np.deg2rad(angle)) + down * np.sin(np.deg2rad(angle))
    edge, line = 1 / (1 + np.exp(-distance)), np.exp(-(distance**2) / 8)
    spot = blob_response(spots((80, 60), (40, 30)), 1.6).max()
    for image in (edge, line):
        response = blob_response(image.astype(np.float32), 1.6)[12:-12, 12:-12]
        assert response.max() < spot / 10


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), width=st.integers(20, 60), height=st.integers(20, 60))
def test_memory_kept_between_calls_changes_nothing(seed: int, width: int, height: int) -> None:
    image = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    scratch = Scratch()
    blob_response(1 - image, 2.0, scratch=scratch)
    np.testing.assert_array_equal(blob_response(image, 2.0, scratch=scratch), blob_response(image, 2.0))


def test_scale_and_radius_grow_with_the_image_up_to_640x480() -> None:
    sizes = ((320, 240), (640, 480), (1280, 960))
    assert [round(blob_deviation(size), 2) for size in sizes] == [1.6, 2.26, 2.26]
    assert [blob_radius(size) for size in sizes] == [2, 3, 3]
    assert blob_radius((32, 32)) == 1


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    metadata = WeightsMetadata(
        "gcnv2_tiny",
        detector="blobs",
        score_thresholds={"320x240": 0.9},
        smoothing={"320x240": 1.5},
        nms_radius={"320x240": 7},
    )
    save_weights(path, create_network("gcnv2_tiny").state_dict(), metadata)
    return path


def extractor_of(weights_path: Path, decode: DecodeOptions | None = None) -> Extractor:
    options = ExtractorOptions(
        weights=str(weights_path), runtime="torch", input_width=320, input_height=240, device="cpu", precision="fp32"
    )
    return create_extractor(options, decode)


PLACES = ((60.3, 50.0), (150.0, 90.6), (250.5, 180.25), (90.0, 200.0))


def test_keypoints_lie_where_the_spots_are(weights_path: Path) -> None:
    # In an image twice as large as the network's input.
    doubled = [((u + 0.5) * 2 - 0.5, (v + 0.5) * 2 - 0.5) for u, v in PLACES]
    image = (255 * spots((640, 480), *doubled, spread=5.0)).astype(np.uint8)
    with extractor_of(weights_path) as extractor:
        features = extractor.extract(image)
        strong = features.uv[features.response > 0.1 * features.response[0]]
    assert len(strong) == len(doubled)
    for place in doubled:
        assert np.linalg.norm(strong - place, axis=1).min() < 0.3


def test_what_the_weights_recommend_of_the_detector_is_taken_unless_another_is_asked_for(weights_path: Path) -> None:
    with extractor_of(weights_path) as extractor:
        info = extractor.info
        assert (info.detector, info.candidates, info.nms_radius) == ("blobs", "peaks", 2)
        assert (info.score_threshold, info.smoothing) == (BLOB_THRESHOLD, 0.0)
        extractor.decode_options = DecodeOptions(detector="network")
        info = extractor.info
        assert (info.detector, info.candidates, info.nms_radius) == ("network", "all", 7)
        assert (info.score_threshold, info.smoothing) == (0.9, 1.5)
        extractor.decode_options = DecodeOptions(detector="blobs", nms_radius=5, score_threshold=0.01, candidates="all")
        info = extractor.info
        assert (info.candidates, info.nms_radius, info.score_threshold) == ("all", 5, 0.01)


def test_masks_borders_and_numbers_hold_for_blobs(weights_path: Path) -> None:
    image = (255 * spots((320, 240), *PLACES)).astype(np.uint8)
    mask = np.ones(image.shape, bool)
    mask[:, :100] = False
    with extractor_of(weights_path, DecodeOptions(max_keypoints=3, border=70)) as extractor:
        assert (extractor.extract(image).uv[:, 1] > 69).all()
        features = extractor.extract(image, mask=mask)
        assert 0 < len(features) <= 3
        assert (features.uv[:, 0] >= 99.5).all()


def test_an_image_turned_upright_has_the_same_blobs(weights_path: Path) -> None:
    upright = (255 * spots((320, 240), *((u, v) for u, v in PLACES if 80 < u < 240))).astype(np.uint8)
    turned = cv2.rotate(upright, cv2.ROTATE_90_CLOCKWISE)
    options = ExtractorOptions(weights=str(weights_path), runtime="torch", precision="fp32", device="cpu")
    with create_extractor(options, DecodeOptions(max_keypoints=2)) as extractor:
        plain = extractor.extract(upright)
        back = extractor.extract(turned, roll=90.0)
    # A clockwise quarter turn takes (u, v) to (height - 1 - v, u).
    expected = np.column_stack([239 - plain.uv[:, 1], plain.uv[:, 0]])
    distance = np.linalg.norm(back.uv[:, None] - expected, axis=2)
    assert len(plain) == len(back) == 2
    assert distance.min(axis=1).max() < 0.5


def test_the_shipped_descriptors_match_blobs_of_a_shifted_picture() -> None:
    rng = np.random.default_rng(3)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (300, 400)).astype(np.uint8), (0, 0), 2.0)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    first, second = scene[20:260, 20:340], scene[27:267, 29:349]
    decode = DecodeOptions(max_keypoints=300, detector="blobs")
    with create_extractor(ExtractorOptions(runtime="torch", precision="fp32"), decode) as extractor:
        before, after = extractor.extract(first), extractor.extract(second)
    matches = match(before, after)
    error = np.linalg.norm(before.uv[matches.index_a] - (9, 7) - after.uv[matches.index_b], axis=1)
    assert len(error) > 200
    assert np.mean(error < 1) > 0.9
