# SPDX-License-Identifier: Apache-2.0
"""The extractor as its users see it: pixels come back where they were, options hold, errors say what to do."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.extraction import (
    DecodeOptions,
    ExtractionError,
    Extractor,
    ExtractorOptions,
    create_extractor,
)
from gcnv2_ros.extraction.decode import Keypoints
from gcnv2_ros.extraction.extractor import marked
from gcnv2_ros.extraction.network import forward_and_find
from gcnv2_ros.extraction.preprocess import InputGeometry, network_input, resize, resize_mask
from gcnv2_ros.extraction.runtimes import RawFeatures
from gcnv2_ros.matching import match
from gcnv2_ros.networks import NetworkError, create_network
from gcnv2_ros.weights import WeightsError, WeightsMetadata, save_weights

# Real images and a first experiment's weights, beside the repository; not part of it.
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BOOTSTRAP = DATA / "bootstrap_weights" / "gcnv2_tiny.pt"
CLIP = DATA / "tum_fr1_rpy_clip" / "rgb"

needs_data = pytest.mark.skipif(
    not (BOOTSTRAP.is_file() and CLIP.is_dir()),
    reason="needs real images and trained weights, kept outside the repository",
)

# Places in a 16x16 cell that the constructed network looks at: (column, row). Two of them adjacent across cells.
PROBES = ((0, 0), (15, 0), (0, 15), (15, 15), (7, 8), (8, 7), (3, 12), (10, 1))
THRESHOLD = 0.5
BIT_PATTERN = np.random.default_rng(1).integers(0, 2, 256)


def constructed_state_dict() -> dict[str, torch.Tensor]:
    """gcnv2_tiny with weights that fire at a pixel (16 j + x, 16 i + y) exactly if it is bright, for (x, y) in PROBES.

    Probe k travels in channel k: each layer of stride 2 reads the even or the odd pixel of each pair, in the order of
    the binary digits of x and y; the others hand on their centre. Everything stays positive, where ELU does nothing.
    """
    state = {name: torch.zeros_like(value) for name, value in create_network("gcnv2_tiny").state_dict().items()}
    digits = iter(range(4))
    for name in ("conv1", "conv2", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "convD_1"):
        weight = state[f"{name}.weight"]
        digit = next(digits) if weight.shape[2] == 4 else None
        for channel, (x, y) in enumerate(PROBES):
            source = 0 if name == "conv1" else channel
            if digit is None:
                weight[channel, source, 1, 1] = 1.0
            else:
                weight[channel, source, 1 + (y >> digit & 1), 1 + (x >> digit & 1)] = 1.0
    state["convD_2.bias"][:] = -20.0
    for channel, (x, y) in enumerate(PROBES):
        # A logit of 4 for white, 0 for brightness 0.6, so that dim neighbours stay below the threshold.
        state["convD_2.weight"][16 * y + x, channel, 0, 0] = 10.0
        state["convD_2.bias"][16 * y + x] = -6.0
    state["convF_2.bias"][:] = torch.from_numpy(2.0 * BIT_PATTERN - 1.0)
    return state


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "constructed.safetensors"
    metadata = WeightsMetadata("gcnv2_tiny", score_thresholds={"320x240": THRESHOLD, "64x64": 0.7})
    save_weights(path, constructed_state_dict(), metadata)
    return path


def constructed(weights_path: Path, decode: DecodeOptions | None = None, **options: object) -> Extractor:
    decode = DecodeOptions(border=0, subpixel=False) if decode is None else decode
    settings = {"runtime": "torch", "threads": 1, **options}
    return create_extractor(ExtractorOptions(weights=str(weights_path), **settings), decode)


@pytest.fixture(scope="module")
def extractor(weights_path: Path) -> Extractor:
    return constructed(weights_path)


def dots(size: tuple[int, int], *pixels: tuple[int, int]) -> np.ndarray:
    """A black image of `size` (width, height) with white pixels (column, row)."""
    image = np.zeros(size[::-1], np.uint8)
    for column, row in pixels:
        image[row, column] = 255
    return image


@pytest.mark.parametrize("device", ["cuda:128", "cuda:99999999999", "cuda:01", "gpu:-1"])
def test_a_device_that_no_machine_has_is_refused_before_torch_reads_another_from_it(device: str) -> None:
    with pytest.raises(ExtractionError, match="device must be auto, cpu, cuda"):
        ExtractorOptions(device=device)


@pytest.mark.parametrize("size", [(320, 240), (321, 243), (33, 47), (32, 32), (100, 65), (640, 480), (752, 480)])
def test_a_bright_pixel_comes_back_exactly_where_it_is(extractor: Extractor, size: tuple[int, int]) -> None:
    pixels = []
    for probe in PROBES if size[0] < 640 else PROBES[3:5]:
        # The first cell, and the last one that has this place in it: sizes that are no multiple of 16 end amid a cell.
        last = tuple((extent - 1 - place) // 16 * 16 + place for extent, place in zip(size, probe))
        pixels += [probe, last]
    for pixel, features in zip(pixels, extractor.extract_batch([dots(size, pixel) for pixel in pixels])):
        assert features.uv.tolist() == [list(pixel)]
        assert features.image_size == size


def test_a_dark_image_has_no_keypoints(extractor: Extractor) -> None:
    features = extractor.extract(dots((320, 240)))
    assert len(features) == 0
    assert features.descriptors.shape == (0, 32)


def test_places_that_the_network_does_not_look_at_stay_empty(extractor: Extractor) -> None:
    assert len(extractor.extract(dots((320, 240), (5, 5), (101, 33)))) == 0


@pytest.mark.parametrize(("factor", "column", "row"), [(2, 160, 112), (3, 39, 88), (4, 0, 0), (2, 319, 239)])
def test_a_shrunken_image_gives_positions_of_the_image_as_received(
    weights_path: Path, factor: int, column: int, row: int
) -> None:
    extractor = constructed(weights_path, input_width=320, input_height=240)
    image = np.kron(dots((320, 240), (column, row)), np.ones((factor, factor), np.uint8))
    features = extractor.extract(image)
    centre = [column * factor + (factor - 1) / 2, row * factor + (factor - 1) / 2]
    np.testing.assert_allclose(features.uv, [centre], atol=1e-4)
    assert features.image_size == (320 * factor, 240 * factor)
    assert features.size.tolist() == [16 * factor]


@pytest.mark.parametrize("size", [(500, 333), (641, 481), (200, 500), (160, 120), (1000, 100)])
def test_any_resizing_keeps_half_pixel_centres(weights_path: Path, size: tuple[int, int]) -> None:
    extractor = constructed(weights_path, input_width=320, input_height=240)
    column, row = 163, 140
    # Bright where the image's pixels fall into the 3x3 network pixels around the one looked at.
    columns = ((np.arange(size[0]) + 0.5) * 320 / size[0] - 0.5)[None]
    rows = ((np.arange(size[1]) + 0.5) * 240 / size[1] - 0.5)[:, None]
    image = np.where((np.abs(columns - column) < 2) & (np.abs(rows - row) < 2), 255, 0).astype(np.uint8)
    features = extractor.extract(image)
    expected = [(column + 0.5) * size[0] / 320 - 0.5, (row + 0.5) * size[1] / 240 - 0.5]
    np.testing.assert_allclose(features.uv, [expected], atol=1e-3)


def test_input_sizes_that_are_no_multiple_of_16_are_padded(weights_path: Path) -> None:
    extractor = constructed(weights_path, input_width=330, input_height=250)
    assert extractor.extract(dots((330, 250), (327, 248))).uv.tolist() == [[327, 248]]


def test_no_keypoint_lies_in_the_padding(weights_path: Path) -> None:
    # White to the edge: the replicated padding is as bright as the image.
    extractor = constructed(weights_path, DecodeOptions(border=0, nms_radius=0, max_keypoints=10**5, subpixel=False))
    features = extractor.extract(np.full((243, 321), 255, np.uint8))
    assert {tuple(pixel) for pixel in features.uv.tolist()} == {
        (u, v) for x, y in PROBES for u in range(x, 321, 16) for v in range(y, 243, 16)
    }


def test_descriptors_are_the_networks_bits_packed(extractor: Extractor) -> None:
    features = extractor.extract(dots((320, 240), (7, 8), (96, 96)))
    expected = np.packbits(BIT_PATTERN)
    assert len(features) == 2
    assert features.metric == "hamming"
    for descriptor in features.descriptors:
        np.testing.assert_array_equal(descriptor, expected)


def test_responses_are_scores_in_descending_order(extractor: Extractor) -> None:
    image = dots((320, 240), (7, 8))
    image[96, 96], image[160, 160] = 200, 180
    features = extractor.extract(image)
    expected = 1 / (1 + np.exp(-(10 * np.array([255, 200, 180]) / 255 - 6)))
    np.testing.assert_allclose(features.response, expected, rtol=1e-3)
    assert features.uv.tolist() == [[7, 8], [96, 96], [160, 160]]


def test_a_batch_gives_what_single_images_give(extractor: Extractor) -> None:
    images = [
        dots((320, 240), (7, 8)),
        dots((64, 64), (16, 16)),
        dots((320, 240), (80, 31), (23, 40)),
        dots((320, 240)),
    ]
    together = extractor.extract_batch(images)
    for image, features in zip(images, together):
        alone = extractor.extract(image)
        np.testing.assert_array_equal(features.uv, alone.uv)
        np.testing.assert_array_equal(features.descriptors, alone.descriptors)
        assert features.image_size == alone.image_size
    assert [len(features) for features in together] == [1, 1, 2, 0]
    assert extractor.extract_batch([]) == []


def test_masks_go_with_their_images(extractor: Extractor) -> None:
    image = dots((320, 240), (7, 8), (160, 96))
    left = np.zeros((240, 320), bool)
    left[:, :100] = True
    masked, free, other = extractor.extract_batch([image] * 3, masks=[left, None, (~left).astype(np.uint8) * 255])
    assert masked.uv.tolist() == [[7, 8]]
    assert sorted(free.uv.tolist()) == [[7, 8], [160, 96]]
    assert other.uv.tolist() == [[160, 96]]


def test_a_mask_is_looked_up_at_the_nearest_pixel_of_the_image(weights_path: Path) -> None:
    extractor = constructed(weights_path, input_width=320, input_height=240)
    image = np.kron(dots((320, 240), (40, 39)), np.ones((3, 3), np.uint8))
    mask = np.zeros(image.shape, np.uint8)
    mask[39 * 3 + 1, 40 * 3 + 1] = 1
    assert len(extractor.extract(image, mask=mask)) == 1
    assert len(extractor.extract(image, mask=1 - mask)) == 0


def test_a_place_between_two_pixels_is_masked_by_the_nearer_one() -> None:
    mask = np.zeros((40, 60), bool)
    mask[20:, 30:] = True
    places = np.array([(29.7, 25.0), (29.3, 25.0), (40.0, 19.7), (40.0, 19.3)], np.float32)
    assert marked(mask, places).tolist() == [True, False, True, False]


def test_masked_keypoints_take_no_places(weights_path: Path) -> None:
    extractor = constructed(weights_path, DecodeOptions(max_keypoints=1, border=0))
    image = dots((320, 240), (7, 8))
    image[96, 160] = 200
    mask = np.ones(image.shape, bool)
    mask[:20] = False
    assert len(extractor.extract(image, mask=mask)) == 1


def test_decode_options_hold_from_the_next_image_on(weights_path: Path) -> None:
    extractor = constructed(weights_path, DecodeOptions(border=0, subpixel=False))
    image = dots((320, 240), (0, 0), (7, 8), (80, 80), (83, 76))
    assert len(extractor.extract(image)) == 3
    for changes, count in (
        ({"max_keypoints": 2}, 2),
        ({"border": 8}, 1),
        ({"nms_radius": 3}, 4),
        ({"candidates": "peaks"}, 3),
        ({"score_threshold": 0.99}, 0),
    ):
        extractor.decode_options = replace(DecodeOptions(border=0, subpixel=False), **changes)
        assert len(extractor.extract(image)) == count, changes
    with pytest.raises(ExtractionError):
        extractor.decode_options = {"max_keypoints": 2}  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("size", "radius"),
    [((320, 240), 4), ((640, 480), 8), ((240, 320), 4), ((752, 480), 8), ((160, 120), 2)],
)
def test_radius_and_border_scale_with_the_input(weights_path: Path, size: tuple[int, int], radius: int) -> None:
    scaled = constructed(weights_path, DecodeOptions(), input_width=size[0], input_height=size[1]).info
    assert (scaled.nms_radius, scaled.border) == (radius, 2 * radius)
    given = constructed(weights_path, DecodeOptions(nms_radius=3, border=0), input_width=size[0], input_height=size[1])
    assert (given.info.nms_radius, given.info.border) == (3, 0)
    unknown = constructed(weights_path, DecodeOptions()).info
    assert (unknown.nms_radius, unknown.border, unknown.input_size) == (None, None, None)


def test_points_within_the_radius_suppress_each_other(extractor: Extractor) -> None:
    # Probes (0, 0) and (15, 0) of neighbouring cells are one pixel apart; (7, 8) and (3, 12) are four.
    image = dots((320, 240), (160, 96), (55, 104))
    image[96, 159], image[108, 51] = 250, 250
    assert sorted(extractor.extract(image).uv.tolist()) == [[55, 104], [160, 96]]
    image = dots((320, 240), (10, 1), (15, 0))
    assert len(extractor.extract(image)) == 2


def test_the_weights_recommended_threshold_is_used_unless_another_is_given(weights_path: Path) -> None:
    # Brightness 0.65 scores 0.62: above the threshold of 320x240, below that of 64x64.
    small, large = dots((64, 64)), dots((320, 240))
    small[16, 16] = large[16, 16] = round(0.65 * 255)
    extractor = constructed(weights_path)
    assert len(extractor.extract(large)) == 1
    assert len(extractor.extract(small)) == 0
    extractor.decode_options = replace(extractor.decode_options, score_threshold=0.6)
    assert len(extractor.extract(small)) == 1


def test_timings_are_those_of_the_latest_call(weights_path: Path) -> None:
    extractor = constructed(weights_path)
    assert extractor.last_timings.total == 0
    extractor.extract(dots((320, 240), (7, 8)))
    timings = extractor.last_timings
    assert min(timings.preprocess, timings.forward, timings.decode) > 0
    assert timings.total == pytest.approx(timings.preprocess + timings.forward + timings.decode)


def test_info_tells_what_another_program_must_know(weights_path: Path) -> None:
    extractor = constructed(
        weights_path, DecodeOptions(max_keypoints=7), input_width=320, input_height=240, device="cpu"
    )
    info = json.loads(extractor.info.to_json())
    assert len(info.pop("weights_sha256")) == 64
    assert info == {
        "schema_version": 1,
        "model": "gcnv2_tiny",
        "weights": "constructed.safetensors",
        "input_size": [320, 240],
        "descriptor_width": 32,
        "metric": "hamming",
        "bit_order": "msb_first",
        "sampling": "half_pixel",
        "max_keypoints": 7,
        "score_threshold": 0.5,
        "smoothing": 0.0,
        "detector": "network",
        "candidates": "all",
        "nms_radius": 4,
        "border": 8,
        "subpixel": True,
        "runtime": "torch",
        "device": "cpu",
        "precision": "fp32",
    }


class _Runtime:
    """A network that gives nothing, once `begun` is set."""

    name, device, precision, stride = "none", "cpu", "fp32", 16

    def __init__(self, begun: threading.Event) -> None:
        self._begun = begun

    def infer(self, batch: np.ndarray) -> RawFeatures:
        return RawFeatures(self.describe(batch), batch)

    def describe(self, batch: np.ndarray) -> np.ndarray:
        assert self._begun.wait(60.0), "nothing was looked for meanwhile"
        return np.zeros((len(batch), 256, 2, 2), np.float32)

    def close(self) -> None:
        """Nothing to free."""


def test_keypoints_of_the_image_alone_are_looked_for_while_the_network_runs() -> None:
    begun = threading.Event()
    wanted = Keypoints(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))

    def find(scores: np.ndarray | None) -> Keypoints:
        assert scores is None
        begun.set()
        return wanted

    with ThreadPoolExecutor(1) as aside:
        batch = np.zeros((2, 1, 32, 32), np.float32)
        descriptors, found = forward_and_find(_Runtime(begun), batch, "blobs", [find, find], aside)
        assert descriptors.shape == (2, 256, 2, 2)
        assert [keypoints() for keypoints in found] == [wanted, wanted]


def test_a_network_that_fails_leaves_no_search_behind() -> None:
    begun, found = threading.Event(), []

    class Failing(_Runtime):
        """Fails while keypoints are looked for."""

        def describe(self, batch: np.ndarray) -> np.ndarray:
            super().describe(batch)
            raise ExtractionError("no memory")

    def find(scores: np.ndarray | None) -> Keypoints:
        begun.set()
        time.sleep(0.2)
        found.append(scores)
        return Keypoints(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))

    with ThreadPoolExecutor(1) as aside:
        batch = np.zeros((2, 1, 32, 32), np.float32)
        with pytest.raises(ExtractionError, match="no memory"):
            forward_and_find(Failing(begun), batch, "blobs", [find, find], aside)
        assert found == [None, None]


def test_keypoints_of_the_network_are_found_in_each_image_s_score_map() -> None:
    begun = threading.Event()
    begun.set()
    seen = []

    def find(scores: np.ndarray | None) -> Keypoints:
        assert scores is not None
        seen.append((*scores.shape, float(scores[0, 0])))
        return Keypoints(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))

    batch = np.zeros((2, 1, 32, 48), np.float32)
    batch[1] = 0.5
    with ThreadPoolExecutor(1) as aside:
        _, found = forward_and_find(_Runtime(begun), batch, "network", [find, find], aside)
        for keypoints in found:
            keypoints()
    assert seen == [(32, 48, 0.0), (32, 48, 0.5)]


def test_a_closed_extractor_says_so(weights_path: Path) -> None:
    with constructed(weights_path) as extractor:
        extractor.extract(dots((64, 64)))
    extractor.close()
    with pytest.raises(ExtractionError, match="closed"):
        extractor.extract(dots((64, 64)))


@pytest.mark.parametrize("model", ["gcnv2_tiny", "orb"])
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((240, 320, 3), np.uint8), r"uint8 \(height, width\), got uint8 \(240, 320, 3\)"),
        (np.zeros((240, 320), np.float32), "got float32"),
        (np.zeros((31, 320), np.uint8), "320x31 pixels; expected at least 32x32"),
        ([[1, 2]], "got list"),
    ],
)
def test_images_that_are_none_are_refused(weights_path: Path, model: str, image: object, message: str) -> None:
    weights = "default" if model == "orb" else str(weights_path)
    extractor = create_extractor(ExtractorOptions(model=model, weights=weights))
    with pytest.raises(ExtractionError, match=message):
        extractor.extract(image)  # type: ignore[arg-type]


def test_masks_that_do_not_fit_are_refused(extractor: Extractor) -> None:
    image = dots((320, 240))
    with pytest.raises(ExtractionError, match="mask"):
        extractor.extract(image, mask=np.ones((320, 240), np.uint8))
    with pytest.raises(ExtractionError, match="mask"):
        extractor.extract(image, mask=np.ones((240, 320), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ExtractionError, match="1 for 2 images"):
        extractor.extract_batch([image, image], masks=[None])


@pytest.mark.parametrize(
    "options",
    [
        {"max_keypoints": 0},
        {"max_keypoints": 1_000_001},
        {"max_keypoints": 3_000_000_000},
        {"score_threshold": 1.0},
        {"score_threshold": float("nan")},
        {"nms_radius": -1},
        {"border": -1},
        {"bucket_columns": 3},
        {"bucket_rows": -1, "bucket_columns": -1},
    ],
)
def test_decode_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ExtractionError, match=next(iter(options))):
        DecodeOptions(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"device": "tpu"},
        {"device": "cuda:x"},
        {"device": "npu:1"},
        {"precision": "int7"},
        {"threads": -1},
        {"input_width": 320},
        {"input_width": 16, "input_height": 240},
    ],
)
def test_extractor_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ExtractionError, match=next(iter(options))):
        ExtractorOptions(**options)


def test_what_cannot_be_built_says_why(weights_path: Path) -> None:
    def build(**options: object) -> Extractor:
        return create_extractor(ExtractorOptions(**{"weights": str(weights_path), **options}))

    with pytest.raises(ExtractionError, match="no runtime 'tensorflow'"):
        build(runtime="tensorflow")
    with pytest.raises(ExtractionError, match="fp16 needs a CUDA device"):
        build(device="cpu", precision="fp16")
    with pytest.raises(NetworkError, match="no model 'superpoint'"):
        build(model="superpoint")
    with pytest.raises(WeightsError, match="not of gcnv2"):
        build(model="gcnv2")
    if not torch.cuda.is_available():
        with pytest.raises(ExtractionError, match="finds no CUDA device"):
            build(device="cuda:1")


@settings(deadline=None)
@given(
    st.tuples(st.integers(32, 400), st.integers(32, 400)),
    st.one_of(st.none(), st.tuples(st.integers(32, 400), st.integers(32, 400))),
)
def test_geometry_maps_corners_to_corners(image_size: tuple[int, int], input_size: tuple[int, int] | None) -> None:
    geometry = InputGeometry.of(image_size, input_size, 16)
    content = np.array(geometry.content_size)
    corners = geometry.to_image(np.array([[-0.5, -0.5], content - 0.5]))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], np.array(image_size) - 0.5], atol=1e-3)
    assert all(side % 16 == 0 and 0 <= side - part < 16 for side, part in zip(geometry.padded_size, content))
    if input_size is None:
        np.testing.assert_array_equal(geometry.to_image(np.array([[3.25, 7.0]])), [[3.25, 7.0]])


@settings(deadline=None, max_examples=30)
@given(
    st.tuples(st.integers(40, 200), st.integers(40, 200)),
    st.tuples(st.integers(40, 200), st.integers(40, 200)),
)
def test_resizing_does_not_shift_the_image(size: tuple[int, int], target: tuple[int, int]) -> None:
    # A linear ramp stays the ramp that the half-pixel mapping says, away from the edges.
    columns, rows = np.arange(size[0]), np.arange(size[1])[:, None]
    ramp = (0.5 * columns + 0.7 * rows).astype(np.uint8)
    resized = resize(ramp, target)
    assert resized.shape == target[::-1]
    u = (np.arange(target[0]) + 0.5) * size[0] / target[0] - 0.5
    v = ((np.arange(target[1]) + 0.5) * size[1] / target[1] - 0.5)[:, None]
    expected = 0.5 * u + 0.7 * v - 0.45
    inner = (u > 5) & (u < size[0] - 6) & (v > 5) & (v < size[1] - 6)
    assert abs(float((resized - expected)[inner].mean())) < 0.3


def test_the_networks_input_is_scaled_and_padded_by_replication() -> None:
    image = np.random.default_rng(2).integers(0, 256, (35, 50), dtype=np.uint8)
    geometry = InputGeometry.of((50, 35), None, 16)
    batch = network_input([image, 255 - image], [geometry, geometry])
    assert batch.shape == (2, 1, 48, 64)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch[0, 0, :35, :50], image / 255, atol=1e-6)
    np.testing.assert_array_equal(batch[:, 0], np.pad(batch[:, 0, :35, :50], ((0, 0), (0, 13), (0, 14)), mode="edge"))


def blobs(size: tuple[int, int], seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (size[1] // 8, size[0] // 8), dtype=np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_NEAREST)


def test_orb_stands_behind_the_same_interface() -> None:
    extractor = create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=200))
    image = blobs((640, 480))
    features = extractor.extract(image)
    assert 100 < len(features) <= 200
    assert features.descriptors.shape == (len(features), 32)
    assert (features.angle >= 0).all()
    assert (features.angle < 360).all()
    assert (features.size >= 31).all()
    assert extractor.info.weights is None
    assert json.loads(extractor.info.to_json())["model"] == "orb"
    assert extractor.last_timings.forward > 0
    found, descriptors = cv2.ORB.create(nfeatures=200).detectAndCompute(image, None)
    assert {tuple(row) for row in descriptors} == {tuple(row) for row in features.descriptors}
    assert {point.pt for point in found} == {tuple(uv) for uv in features.uv.tolist()}


def test_orb_maps_positions_and_sizes_back_to_the_image() -> None:
    small = blobs((320, 240))
    image = np.kron(small, np.ones((2, 2), np.uint8))
    decode = DecodeOptions(max_keypoints=100)
    expected = create_extractor(ExtractorOptions(model="orb"), decode).extract(small)
    options = ExtractorOptions(model="orb", input_width=320, input_height=240)
    features = create_extractor(options, decode).extract(image)
    np.testing.assert_allclose(features.uv, 2 * expected.uv + 0.5, atol=1e-4)
    np.testing.assert_allclose(features.size, 2 * expected.size)
    np.testing.assert_allclose(features.angle, expected.angle, atol=1e-2)
    np.testing.assert_array_equal(features.descriptors, expected.descriptors)


@pytest.mark.parametrize("model", ["orb", "sift"])
def test_opencv_takes_the_largest_number_of_keypoints(model: str) -> None:
    image = np.random.default_rng(3).integers(0, 256, (240, 320), dtype=np.uint8)
    extractor = create_extractor(ExtractorOptions(model=model), DecodeOptions(max_keypoints=1_000_000))
    assert len(extractor.extract(image)) > 100


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_a_resized_mask_is_one_that_every_opencv_takes(dtype: type) -> None:
    mask = np.zeros((64, 96), dtype)
    mask[:, 48:] = 1
    for size in ((96, 64), (48, 32), (192, 128)):
        resized = resize_mask(mask, size)
        assert (resized.dtype, resized.shape) == (np.uint8, size[::-1])
        assert (resized[:, : size[0] // 2] == 0).all()
        assert (resized[:, size[0] // 2 :] == 255).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_a_mask_of_everything_leaves_orb_all_its_levels(dtype: type) -> None:
    image = np.random.default_rng(3).integers(0, 256, (240, 320), dtype=np.uint8)
    extractor = create_extractor(ExtractorOptions(model="orb"))
    free, masked = extractor.extract(image), extractor.extract(image, mask=np.ones(image.shape, dtype))
    assert len(np.unique(free.size)) == 8
    np.testing.assert_array_equal(masked.size, free.size)
    np.testing.assert_array_equal(masked.descriptors, free.descriptors)


def test_orb_honours_masks_and_empty_images() -> None:
    extractor = create_extractor(ExtractorOptions(model="orb"))
    image = blobs((320, 240))
    mask = np.zeros(image.shape, np.uint8)
    mask[:, 160:] = 255
    features = extractor.extract(image, mask=mask)
    assert len(features) > 20
    assert (np.floor(features.uv[:, 0] + 0.5) >= 160).all()
    assert len(extractor.extract(np.zeros((240, 320), np.uint8))) == 0


@needs_data
def test_trained_weights_find_the_same_points_in_a_shifted_view() -> None:
    image = cv2.imread(str(sorted(CLIP.glob("*.png"))[40]), cv2.IMREAD_GRAYSCALE)
    extractor = create_extractor(ExtractorOptions(weights=str(BOOTSTRAP)), DecodeOptions(max_keypoints=500))
    first, second = extractor.extract_batch([image[:400, :560], image[35:435, 50:610]])
    assert len(first) == len(second) == 500
    matches = match(first, second)
    shift = first.uv[matches.index_a] - second.uv[matches.index_b]
    right = np.linalg.norm(shift - [50, 35], axis=1) < 2
    assert right.sum() > 150
    assert right.mean() > 0.6
    assert np.abs(np.median(shift[right], axis=0) - [50, 35]).max() < 0.1


@needs_data
def test_every_keypoint_on_a_real_image_has_its_place_and_distance() -> None:
    image = cv2.imread(str(sorted(CLIP.glob("*.png"))[90]), cv2.IMREAD_GRAYSCALE)
    options = ExtractorOptions(weights=str(BOOTSTRAP), input_width=320, input_height=240)
    features = create_extractor(options, DecodeOptions(max_keypoints=2000)).extract(image)
    assert len(features) > 500
    network = (features.uv + 0.5) / 2 - 0.5
    assert network.min() >= 8 - 0.5
    assert (network.max(axis=0) <= np.array([320, 240]) - 9 + 0.5).all()
    pixels = np.round(network)
    apart = np.abs(pixels[:, None] - pixels[None]).max(axis=2) + 100 * np.eye(len(pixels))
    # Suppression leaves at least 5 pixels; refinement moves each by at most half a one.
    assert apart.min() >= 4
    assert (np.diff(features.response) <= 0).all()
