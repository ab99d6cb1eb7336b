# SPDX-License-Identifier: Apache-2.0
"""The parts of training: warps, targets, the correspondence sampler, losses, folding, configuration."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.extraction.sampling import PHASES, mix, sample_descriptors, tabulate, with_identity
from gcnv2_ros.geometry import warp_homography
from gcnv2_ros.networks import create_network
from gcnv2_ros.training.config import (
    ConfigError,
    LossOptions,
    ScheduleOptions,
    TrainingConfig,
    config_from_dict,
    load_config,
)
from gcnv2_ros.training.correspondence import (
    Correspondences,
    TrainedSampling,
    grid_positions,
    lookup_flow,
    sample_channels,
    sample_correspondences,
)
from gcnv2_ros.training.devices import process_device
from gcnv2_ros.training.fold import add_normalisation, fold_normalisation, unfold_normalisation
from gcnv2_ros.training.limits import LIMITS, out_of_range
from gcnv2_ros.training.loop import learning_rate
from gcnv2_ros.training.losses import (
    binarise,
    compute_losses,
    contrastive,
    relaxed_triplet,
    score_map_loss,
    weighted_corner_loss,
)
from gcnv2_ros.training.photometric import PhotometricOptions, motion_blur_kernel, photometric_change
from gcnv2_ros.training.targets import draw_score_map, shi_tomasi_cells, suppress_weaker
from gcnv2_ros.training.warps import WarpOptions, homography_flow, picture_pyramid, random_views, warp_picture
from gcnv2_ros.weights import LearnedSampling

REPOSITORY = Path(__file__).resolve().parents[1]

SIZE = (96, 64)


def smooth_picture(width: int = 400, height: int = 300) -> np.ndarray:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return (128 + 60 * np.sin(x / 23) + 50 * np.cos(y / 17 + x / 60)).astype(np.uint8)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_view_shows_what_the_homography_says(seed: int) -> None:
    picture = smooth_picture()
    homography, _ = random_views(np.random.default_rng(seed), (400, 300), SIZE, WarpOptions())
    view, valid = warp_picture(picture_pyramid(picture), homography, SIZE)
    grid = np.stack(np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1])), -1).reshape(-1, 2)
    origin = warp_homography(np.linalg.inv(homography), grid).reshape(SIZE[1], SIZE[0], 2)
    inner = valid & np.all((origin > 8) & (origin < (391, 291)), axis=2)
    x, y = origin[inner].T
    expected = 128 + 60 * np.sin(x / 23) + 50 * np.cos(y / 17 + x / 60)
    if inner.any():
        assert np.percentile(np.abs(view[inner] - expected), 95) < 6


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_flow_there_and_back_is_the_identity(seed: int) -> None:
    first, second = random_views(np.random.default_rng(seed), (400, 300), SIZE, WarpOptions())
    there = homography_flow(second @ np.linalg.inv(first), SIZE)
    seen = ~np.isnan(there[..., 0])
    rows, columns = np.nonzero(seen)
    back = warp_homography(first @ np.linalg.inv(second), there[seen])
    np.testing.assert_allclose(back, np.column_stack([columns, rows]), atol=0.02)


def test_wide_rotation_reaches_its_bounds_and_not_beyond() -> None:
    options = WarpOptions(rotation=10, wide_rotation=90, wide_share=0.5, perspective=0, shear=0, shift=0)
    rolls = []
    for seed in range(300):
        first, second = random_views(np.random.default_rng(seed), (400, 300), SIZE, options)
        relative = second @ np.linalg.inv(first)
        rolls.append(abs(math.degrees(math.atan2(relative[1, 0], relative[0, 0]))))
    assert max(rolls) < 90.5
    assert np.mean(np.array(rolls) > 70) > 0.05
    assert np.mean(np.array(rolls) < 10) > 0.45


def test_photometric_change_with_everything_off_changes_nothing() -> None:
    off = PhotometricOptions(
        gain=0, gamma=0, contrast=0, vignetting=0, shading_probability=0, motion_blur_probability=0,
        defocus_probability=0, noise=0, jpeg_probability=0,
    )  # fmt: skip
    picture = smooth_picture(64, 48)
    np.testing.assert_array_equal(photometric_change(np.random.default_rng(0), picture, off), picture)


def test_vignetting_darkens_the_corners_up_to_its_limit_and_leaves_the_middle() -> None:
    options = PhotometricOptions(
        gain=0, gamma=0, contrast=0, vignetting=0.4, shading_probability=0, motion_blur_probability=0,
        defocus_probability=0, noise=0, jpeg_probability=0,
    )  # fmt: skip
    flat = np.full((49, 65), 200, np.uint8)
    changed = np.stack([photometric_change(np.random.default_rng(seed), flat, options) for seed in range(60)])
    corners = changed[:, [0, 0, -1, -1], [0, -1, 0, -1]] / 200
    assert 0.6 - 0.005 <= corners.min() < 0.65
    assert corners.max() <= 1.0
    assert np.all(changed[:, 24, 32] == 200)


@given(length=st.floats(1, 15), angle=st.floats(0, math.pi))
def test_motion_blur_does_not_shift_the_image(length: float, angle: float) -> None:
    kernel = motion_blur_kernel(length, angle)
    half = len(kernel) // 2
    offsets = np.arange(-half, half + 1)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert (kernel.sum(0) * offsets).sum() == pytest.approx(0, abs=1e-3)
    assert (kernel.sum(1) * offsets).sum() == pytest.approx(0, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 6))
def test_suppression_equals_a_plain_loop(seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    points, scores = rng.uniform(0, 30, (40, 2)), rng.random(40)
    kept: list[int] = []
    for index in np.argsort(-scores):
        if all(np.max(np.abs(points[index] - points[other])) > radius for other in kept):
            kept.append(int(index))
    assert suppress_weaker(points, scores, radius).tolist() == kept


def test_score_map_is_a_gaussian_at_the_sub_pixel_position() -> None:
    score = draw_score_map(np.array([[20.3, 11.8], [-1.0, 5.0]]), np.array([0.5, 1.0]), (40, 30), 1.2)
    assert score.shape == (30, 40)
    assert score[12, 20] == pytest.approx(0.5 * math.exp(-(0.3**2 + 0.2**2) / (2 * 1.44)), rel=1e-5)
    assert score[5, 0] == pytest.approx(math.exp(-1 / (2 * 1.44)), rel=1e-5)
    assert score[25, 35] == 0


def test_shi_tomasi_marks_one_corner_a_textured_cell() -> None:
    image = np.zeros((48, 64), np.uint8)
    image[20:28, 35:45] = 255
    corners = shi_tomasi_cells(image)
    cells = {(int(v) // 16, int(u) // 16) for u, v in corners}
    assert len(cells) == len(corners) > 0
    assert (0, 0) not in cells
    assert all(18 <= v <= 29 and 33 <= u <= 46 for u, v in corners)


def brute_force_lookup(flow: np.ndarray, point: np.ndarray) -> np.ndarray:
    height, width = flow.shape[:2]
    u, v = point
    if not (0 <= u <= width - 1 and 0 <= v <= height - 1):
        return np.full(2, np.nan)
    x, y = min(int(u), width - 2), min(int(v), height - 2)
    total = np.zeros(2)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = abs(1 - dx - (u - x)) * abs(1 - dy - (v - y))
            total = total + weight * flow[y + dy, x + dx]
    return total


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_flow_lookup_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flow = rng.uniform(0, 30, (20, 32, 2)).astype(np.float32)
    flow[rng.random((20, 32)) < 0.2] = np.nan
    points = rng.uniform(-2, 33, (30, 2)).astype(np.float32)
    found = lookup_flow(torch.from_numpy(flow)[None], torch.from_numpy(points)[None])[0].numpy()
    expected = np.array([brute_force_lookup(flow, point) for point in points])
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_channels_at_a_cell_centre_are_those_of_the_cell() -> None:
    dense = torch.randn(1, 8, 4, 6)
    centres = torch.tensor([[[16 * 5 + 7.5, 16 * 2 + 7.5], [7.5, 7.5], [16 * 3 + 15.5, 16 * 1 + 7.5]]])
    sampled = sample_channels(dense, centres)[0]
    torch.testing.assert_close(sampled[0], dense[0, :, 2, 5])
    torch.testing.assert_close(sampled[1], dense[0, :, 0, 0])
    torch.testing.assert_close(sampled[2], (dense[0, :, 1, 3] + dense[0, :, 1, 4]) / 2)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sampling=st.sampled_from(["bicubic", "half_pixel"]))
def test_training_reads_descriptors_as_decoding_does(seed: int, sampling: TrainedSampling) -> None:
    rng = np.random.default_rng(seed)
    width, height = (int(extent) for extent in rng.integers(1, 8, 2))
    dense = rng.standard_normal((16, height, width)).astype(np.float32)
    uv = rng.uniform(-0.5, (16 * width - 0.5, 16 * height - 0.5), (20, 2)).astype(np.float32)
    trained = sample_channels(torch.from_numpy(dense)[None], torch.from_numpy(uv)[None], sampling=sampling)[0]
    np.testing.assert_allclose(trained, sample_descriptors(dense, uv, stride=16, sampling=sampling), atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), harmonics=st.integers(0, 6), blocks=st.sampled_from([0, 1, 4, 128]))
def test_training_reads_descriptors_as_learned_as_decoding_does(seed: int, harmonics: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = (int(extent) for extent in rng.integers(1, 8, 2))
    dense = rng.standard_normal((256, height, width)).astype(np.float32)
    coefficients = (rng.standard_normal((2, 2, 1 + 2 * harmonics, 256)) / 4).astype(np.float32)
    mixing = None
    if blocks:
        size = 256 // blocks
        mixing = (rng.standard_normal((blocks, size, size)) / size**0.5).astype(np.float32)
    # Between those for which decoding has the kernel in its table, training is the exact one.
    places = rng.integers(-PHASES // 2, (width * PHASES - PHASES // 2, height * PHASES - PHASES // 2), (20, 2)) + 0.5
    uv = ((places / PHASES + 0.5) * 16 - 0.5).astype(np.float32)
    trained = sample_channels(
        torch.from_numpy(dense)[None],
        torch.from_numpy(uv)[None],
        sampling="learned",
        learned=LearnedSampling(torch.from_numpy(coefficients), None if mixing is None else torch.from_numpy(mixing)),
    )[0]
    decoded = sample_descriptors(dense, uv, stride=16, sampling="learned", kernel=tabulate(coefficients))
    if mixing is not None:
        decoded = mix(decoded, with_identity(mixing))
    np.testing.assert_allclose(trained, decoded, atol=1e-3)


@pytest.mark.parametrize("sampling", ["bicubic", "half_pixel"])
def test_the_losses_are_of_descriptors_read_as_configured(sampling: TrainedSampling) -> None:
    generator = torch.Generator().manual_seed(0)
    channels = torch.randn(2, 256, 4, 6, generator=generator)
    logits = torch.randn(2, 1, 64, 96, generator=generator)
    v, u = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    queries = torch.rand(1, 30, 2, generator=generator) * torch.tensor([95.0, 63.0])
    batch = {"flow": torch.stack([u, v], dim=-1)[None], "queries": queries}
    _, codes = compute_losses(
        channels, logits, torch.rand(2, 1, 64, 96), torch.ones(2, 1, 64, 96), batch, LossOptions(sampling=sampling)
    )
    first = torch.nn.functional.normalize(channels, dim=1)[0].numpy()
    expected = sample_descriptors(first, queries[0].numpy(), stride=16, sampling=sampling)
    np.testing.assert_allclose(codes, expected, atol=1e-4)


def test_the_grid_of_step_one_is_every_pixel_and_of_step_sixteen_every_cell() -> None:
    assert len(grid_positions((32, 16), 1)) == 512
    assert grid_positions((32, 16), 16).tolist() == [[7.5, 7.5], [23.5, 7.5]]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), across=st.booleans(), step=st.sampled_from([0, 16]))
def test_sampled_correspondences_equal_brute_force(seed: int, across: bool, step: int) -> None:
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    batch, count, radius = 2, 7, 6.0
    dense_a, dense_b = torch.randn(2, batch, 4, 3, 4, generator=generator)
    flow = torch.from_numpy(rng.uniform(0, 40, (batch, 48, 64, 2)).astype(np.float32))
    flow[rng.random((batch, 48, 64)) < 0.05] = torch.nan
    queries = torch.from_numpy(rng.uniform(0, (63, 47), (batch, count, 2)).astype(np.float32))
    queries[0, 0] = torch.nan
    pairs = sample_correspondences(dense_a, dense_b, flow, queries, distractor_step=step)
    neutral = pairs.neutral(radius, across_batch=across)
    similarity = pairs.similarity(pairs.query, pairs.database, across_batch=across)
    positions = count + (12 if step else 0)
    assert pairs.database_uv.shape == (batch, positions, 2)
    for image in range(batch):
        for query in range(count):
            truth = brute_force_lookup(flow[image].numpy(), queries[image, query].numpy())
            assert bool(pairs.query_valid[image, query]) == (not np.isnan(truth[0]))
            if np.isnan(truth[0]):
                continue
            np.testing.assert_allclose(pairs.database_uv[image, query], truth, atol=1e-3)
            for other in range(batch) if across else (image,):
                for position in range(positions):
                    place = pairs.database_uv[other, position].numpy()
                    near = other == image and position != query and np.linalg.norm(place - truth) <= radius
                    expected = bool(np.isnan(place[0])) or bool(near)
                    row = image * count + query if across else query
                    column = other * positions + position if across else position
                    block = 0 if across else image
                    assert bool(neutral[block, row, column]) == expected
                    product = pairs.query[image, query] @ pairs.database[other, position]
                    assert float(similarity[block, row, column]) == pytest.approx(float(product), abs=1e-4)


def perfect_pairs(noise: float):  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(2, 256, 4, 6, generator=generator)
    other = dense + noise * torch.randn(2, 256, 4, 6, generator=generator)
    v, u = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    flow = torch.stack([u, v], dim=-1).expand(2, -1, -1, -1)
    queries = grid_positions((96, 64), 16).expand(2, -1, -1)
    return sample_correspondences(dense, other, flow, queries)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_contrastive_loss_is_small_for_right_matches_and_large_for_noise(across: bool, binary: bool) -> None:
    settings_ = {"temperature": 0.06, "radius": 4.0, "across_batch": across, "binary": binary}
    right = contrastive(perfect_pairs(0.2), **settings_)
    wrong = contrastive(perfect_pairs(50.0), **settings_)
    assert float(right) < 0.15
    assert float(wrong) > 2.0


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("near", ["first", "second", "neither"])
def test_neighbours_within_the_radius_are_no_negatives_in_either_image(near: str, across: bool) -> None:
    # Two points of one descriptor, which nothing but their neighbourhood tells apart.
    beside, apart = torch.tensor([[[20.0, 20.0], [22.0, 20.0]]]), torch.tensor([[[20.0, 20.0], [60.0, 20.0]]])
    code = torch.randn(1, 1, 256, generator=torch.Generator().manual_seed(0)).expand(1, 2, 256)
    known = torch.ones(1, 2, dtype=torch.bool)
    first, second = (beside if near == image else apart for image in ("first", "second"))
    pairs = Correspondences(first, second, code, code, known, known)
    loss = contrastive(pairs, temperature=0.06, radius=4.0, across_batch=across, binary=True)
    # A choice of two equal ones, in both directions or in one.
    assert float(loss) == pytest.approx(math.log(2) * (1.0 if near == "neither" else 0.5), abs=1e-5)


@pytest.mark.parametrize("across", [False, True])
def test_triplet_loss_is_zero_when_every_negative_is_far_enough(across: bool) -> None:
    assert float(relaxed_triplet(perfect_pairs(0.0), margin=0.5, radius=4.0, across_batch=across)) == 0
    assert float(relaxed_triplet(perfect_pairs(50.0), margin=0.5, radius=4.0, across_batch=across)) > 0.5


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("descriptor", ["contrastive", "triplet"])
def test_a_batch_in_which_nothing_is_seen_twice_teaches_the_descriptor_nothing(descriptor: str, across: bool) -> None:
    channels = torch.randn(2, 256, 4, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = torch.zeros(2, 1, 64, 96, requires_grad=True)
    targets, valid = torch.full_like(logits, 0.5), torch.ones_like(logits, dtype=torch.bool)
    batch = {"flow": torch.full((1, 64, 96, 2), torch.nan), "queries": grid_positions((96, 64), 16)[None]}
    options = LossOptions(descriptor=descriptor, across_batch=across, relaxed_weight=1.0)  # type: ignore[arg-type]
    losses, codes = compute_losses(channels, logits, targets, valid, batch, options)
    losses["loss"].backward()
    assert len(codes) == 0
    assert losses["descriptor"].item() == 0
    assert losses["loss"].item() == pytest.approx(options.detector_weight * losses["detector"].item())
    assert channels.grad is not None
    assert not channels.grad.any()


def test_binarisation_is_the_sign_forward_and_has_a_gradient() -> None:
    channels = torch.tensor([[0.3, -0.2, 0.0, 4.0]], requires_grad=True)
    code = binarise(channels)
    assert code.tolist() == [[1.0, -1.0, -1.0, 1.0]]
    (code * torch.tensor([1.0, 0, 0, 0])).sum().backward()
    assert channels.grad is not None
    assert float(channels.grad[0, 0]) > 0


@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_score_map_loss_prefers_the_target_and_ignores_what_is_not_valid(focus: float) -> None:
    target = torch.zeros(1, 1, 16, 16)
    target[0, 0, 5, 5] = 1
    valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    right, flat = torch.full((1, 1, 16, 16), -6.0), torch.zeros(1, 1, 16, 16)
    right[0, 0, 5, 5] = 6
    assert score_map_loss(right, target, valid, focus=focus) < score_map_loss(flat, target, valid, focus=focus) / 10
    outside = valid.clone()
    outside[..., 8:, :] = False
    spoiled = right.clone()
    spoiled[..., 9:, :] = 9.0
    assert float(score_map_loss(spoiled, target, outside, focus=focus)) == pytest.approx(
        float(score_map_loss(right, target, outside, focus=focus))
    )


def test_corner_loss_weighs_corners_and_ignores_what_is_not_valid() -> None:
    targets = torch.tensor([0.6, 0.5, 1.0, 0.0]).view(1, 1, 1, 4)
    logits = torch.tensor([0.0, -30.0, -9.0, 9.0]).view(1, 1, 1, 4)
    valid = torch.tensor([True, True, False, False]).view(1, 1, 1, 4)
    # A corner that is half believed, and one pixel that is rightly none.
    expected = 5.0 * math.log(2) / (5.0 + 1.0)
    assert float(weighted_corner_loss(logits, targets, valid, positive_weight=5.0)) == pytest.approx(expected)
    assert float(weighted_corner_loss(logits, targets, ~valid, positive_weight=5.0)) == pytest.approx(9.0, abs=1e-3)


@pytest.mark.parametrize("model", ["gcnv2", "gcnv2_tiny"])
def test_folded_network_equals_the_unfolded_and_has_the_published_parameters(model: str) -> None:
    torch.manual_seed(0)
    trained = add_normalisation(create_network(model)).train()
    for _ in range(3):
        trained.forward(torch.rand(2, 1, 64, 96))
    trained.eval()
    folded = fold_normalisation(trained)
    assert {k: v.shape for k, v in folded.state_dict().items()} == {
        k: v.shape for k, v in create_network(model).state_dict().items()
    }
    image = torch.rand(1, 1, 96, 128)
    with torch.no_grad():
        for ours, theirs in zip(folded(image), trained(image)):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:.*is a no-op")
def test_released_weights_are_unfolded_on_the_device_of_the_network() -> None:
    # Weights are always read into the processor's memory. "meta" is the one other device that is everywhere.
    state = create_network("gcnv2_tiny").state_dict()
    network = add_normalisation(create_network("gcnv2_tiny")).to("meta")
    unfold_normalisation(network, state, torch.rand(1, 1, 64, 64, device="meta"))
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}


@pytest.mark.parametrize(
    ("device", "environment", "expected"),
    [
        ("cuda", {}, "cuda"),
        ("cuda", {"WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "cuda"),
        ("cuda", {"WORLD_SIZE": "4", "LOCAL_RANK": "0"}, "cuda:0"),
        ("cuda", {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}, "cuda:1"),
        ("cuda:2", {"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "cuda:2"),
        ("cpu", {"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "cpu"),
    ],
)
def test_each_process_of_torchrun_has_a_gpu_of_its_own(device: str, environment: dict[str, str], expected: str) -> None:
    assert process_device(device, environment) == expected


def test_learning_rate_rises_stays_and_falls() -> None:
    schedule = ScheduleOptions(steps=1000, warmup=100, decay=200, learning_rate=1.0)
    rates = [learning_rate(step, schedule) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert set(rates[100:800]) == {1.0}
    assert rates[900] == pytest.approx(0.5)
    assert 0 < rates[999] < 0.001


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"modle": "gcnv2"}, "no such key modle"),
        ({"loss": {"detector": "corner"}}, "loss.detector must be one of score_map, corners"),
        ({"data": {"size": [250, 192]}}, "multiples of 16"),
        ({"data": {"size": 192}}, "data.size must be a list of 2"),
        ({"schedule": {"steps": "many"}}, "schedule.steps must be int"),
        ({"schedule": {"steps": 100}}, "exceed schedule.steps"),
        ({"schedule": {"validate_every": 0}}, r"schedule.validate_every must be between 1 and 1e\+09, got 0"),
        ({"schedule": {"checkpoint_every": -5}}, r"schedule.checkpoint_every must be between 1 and 1e\+09, got -5"),
        ({"schedule": {"weight_decay": 7500}}, "schedule.weight_decay must be between 0 and 100, got 7500"),
        ({"loss": {"temperature": 0}}, "loss.temperature must be between 0.0001 and 100, got 0"),
        ({"loss": {"margin": float("nan")}}, "loss.margin must be between 0 and 10000, got nan"),
        ({"warp": {"scale": [0.0, 1.3]}}, r"warp.scale must be between 0.01 and 100, got \[0.0, 1.3\]"),
        ({"warp": {"scale": [1.3, 0.5]}}, r"warp.scale must be a range, the smaller number first, got \[1.3, 0.5\]"),
        ({"schedule": {"steps": 10**400}}, r"schedule.steps must be between 1 and 1e\+09, got 1000.*0000$"),
        ({"loss": {"margin": 10**400}}, "loss.margin is beyond the largest float there is"),
        ({"loss": {"margin": float("inf")}}, "loss.margin must be between 0 and 10000, got inf"),
        ({"seed": -1}, r"seed must be 0 or more and less than 2\*\*63, got -1"),
        ({"seed": 2**63}, r"seed must be 0 or more and less than 2\*\*63, got 9223372036854775808"),
        ([1], "must be a mapping"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_key_and_what_was_expected(content: object, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        config_from_dict(content)


def test_every_number_of_a_configuration_has_limits_and_starts_within_them() -> None:
    config = TrainingConfig()
    assert out_of_range(config) is None
    for section in ("data", "warp", "photometric", "target", "loss", "schedule"):
        values = vars(getattr(config, section))
        numbers = {name for name, value in values.items() if _holds_numbers(value)}
        # `sequence_share` has an open end and is checked by itself.
        assert set(LIMITS[section]) == numbers - {"sequence_share"}


def _holds_numbers(value: object) -> bool:
    if isinstance(value, tuple):
        return bool(value) and _holds_numbers(value[0])
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "config" / "training").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_recipes_of_the_package_are_valid_and_named_after_their_model(path: Path) -> None:
    config = load_config(path)
    assert re.sub("_(second|third|fourth|fifth|sixth|seventh|eighth|own_pictures)$", "", path.stem) == config.model
    assert config.data.pictures


def test_a_configuration_changes_what_it_is_based_on(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("seed: 1\nwarp: {shear: 0.1, scale: [1, 2]}\nloss: {detector_weight: 0.5}\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "second.yaml").write_text(
        "based_on: ../first.yaml\nseed: 2\nwarp: {shear: 0.2}\ndata: {pictures: [a, b]}\n"
    )
    (tmp_path / "third.yaml").write_text("based_on: parts/second.yaml\nwarp: {shift: 0.3}\ndata: {pictures: [c]}\n")
    config = load_config(tmp_path / "third.yaml")
    expected = {"seed": 2, "loss": {"detector_weight": 0.5}, "data": {"pictures": ["c"]}}
    assert config == config_from_dict({**expected, "warp": {"shear": 0.2, "scale": [1, 2], "shift": 0.3}})


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (None, "based_on: first.yaml", "first.yaml, on which .*second.yaml is based: cannot read"),
        ("modle: gcnv2", "based_on: first.yaml", "first.yaml: no such key modle"),
        ("based_on: second.yaml", "based_on: first.yaml", "second.yaml -> .*first.yaml -> .*second.yaml"),
        ("seed: 1", "based_on: [first.yaml]", "second.yaml: based_on must be the name of a file"),
        ("- 1", "based_on: first.yaml", "first.yaml: the file must be a mapping"),
        ("seed: 1", "based_on: first.yaml\nwarp: 3", "second.yaml: warp. must be a mapping"),
    ],
)
def test_what_a_configuration_is_based_on_must_be_a_configuration(
    tmp_path: Path, first: str | None, second: str, expected: str
) -> None:
    if first is not None:
        (tmp_path / "first.yaml").write_text(first)
    (tmp_path / "second.yaml").write_text(second)
    with pytest.raises(ConfigError, match=expected):
        load_config(tmp_path / "second.yaml")


def test_a_configuration_survives_yaml(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "c.yaml"
    path.write_text("seed: 7\nschedule: {learning_rate: 2e-3}\nwarp: {scale: [1, 2]}\n")
    config = load_config(path)
    assert (config.seed, config.schedule.learning_rate, config.warp.scale) == (7, 0.002, (1.0, 2.0))
    assert config_from_dict(config.to_dict()) == config
