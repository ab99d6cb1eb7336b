# SPDX-License-Identifier: Apache-2.0
"""What training pairs show: which keypoints count, which pictures are taken, and the optimiser's steps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gcnv2_ros.extraction.blobs import blob_response
from gcnv2_ros.training.blobs import picture_blobs
from gcnv2_ros.training.config import ScheduleOptions, config_from_dict
from gcnv2_ros.training.optimiser import SAMPLING_RATE, Muon, create_optimisers, orthogonalise
from gcnv2_ros.training.pairs import HomographyPairs, PairDataset, TargetOptions, View
from gcnv2_ros.training.photometric import PhotometricOptions
from gcnv2_ros.training.pictures import Picture, TrainingDataError, brighten, find_photographs
from gcnv2_ros.training.trainable import create_trainable, learned_sampling
from gcnv2_ros.training.warps import WarpOptions, picture_pyramid

SIZE = (128, 96)


def picture_with_keypoints(count: int) -> Picture:
    """A picture whose keypoints lie on a grid and have all different scores."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (300, 400), np.uint8), (0, 0), 2)
    u, v = np.meshgrid(np.arange(5, 400, 10), np.arange(5, 300, 10))
    keypoints = np.column_stack([u.ravel(), v.ravel()]).astype(np.float32)[:count]
    scores = np.linspace(1.0, 0.1, len(keypoints), dtype=np.float32)
    return Picture(picture_pyramid(image), keypoints, rng.permutation(scores))


def peaks(target: torch.Tensor) -> np.ndarray:
    """Heights of the local maxima of a score map; those beside its edge may belong to keypoints outside."""
    values = target.numpy()
    inner = (slice(4, -4), slice(4, -4))
    return values[inner][((values > 0.01) & (values == cv2.dilate(values, np.ones((3, 3), np.uint8))))[inner]]


def pairs_with(keypoint_area: float) -> PairDataset:
    source = HomographyPairs([picture_with_keypoints(1200)], WarpOptions(), PhotometricOptions())
    target = TargetOptions(full_score=1.0, keypoint_area=keypoint_area, sigma_start=0.9)
    return PairDataset([(source, 1.0)], size=SIZE, target=target, seed=4, count=8)


def test_a_view_has_no_more_keypoints_than_its_area_allows() -> None:
    unlimited, limited = pairs_with(0.0), pairs_with(400.0)
    for number in range(8):
        pair = limited[number]
        for target, valid in zip(pair["targets"][:, 0], pair["valid"][:, 0], strict=True):
            assert len(peaks(target)) <= int(valid.sum()) / 400 + 1
        assert len(peaks(unlimited[number]["targets"][0, 0])) > len(peaks(pair["targets"][0, 0])) > 0


def test_the_keypoints_that_count_are_the_strongest_of_both_views() -> None:
    for number in range(8):
        unlimited, limited = pairs_with(0.0)[number]["targets"], pairs_with(400.0)[number]["targets"]
        kept = np.concatenate([peaks(target) for target in limited[:, 0]])
        left_out = np.concatenate([peaks(target) for target in (unlimited * (limited < 0.01))[:, 0]])
        # Between pixels a peak reaches exp(-0.5 / (2 * 0.9^2)) = 0.73 of its score at least.
        assert kept.min() > 0.7 * np.percentile(left_out, 99)


class HalfSeen:
    """Pairs of which both views show their picture in the left half, with weak keypoints there and strong ones not."""

    keypoints = np.array([(u, v) for u in (20, 40, 80, 100) for v in (20, 45, 70)], np.float32)

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[View, View, np.ndarray]:
        width, height = size
        valid = np.zeros((height, width), bool)
        valid[:, : width // 2] = True
        scores = np.where(self.keypoints[:, 0] < width / 2, 0.4, 0.9)
        view = View(np.zeros((height, width), np.uint8), self.keypoints, scores, valid)
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        return view, view, np.stack([columns, rows], axis=2).astype(np.float32)


def test_keypoints_off_the_picture_take_no_place_of_those_on_it() -> None:
    # Half of the view has room for six keypoints, and as many lie on it.
    target = TargetOptions(full_score=1.0, keypoint_area=SIZE[0] / 2 * SIZE[1] / 6)
    pair = PairDataset([(HalfSeen(), 1.0)], size=SIZE, target=target, seed=0, count=1)[0]
    columns, rows = HalfSeen.keypoints[HalfSeen.keypoints[:, 0] < SIZE[0] / 2].astype(int).T
    np.testing.assert_allclose(pair["targets"][:, 0, rows, columns], 0.4, rtol=1e-6)


@pytest.mark.parametrize(("number", "sigma"), [(0, 2.0), (2, 2**0.5), (4, 1.0), (7, 1.0)])
def test_peaks_narrow_over_the_first_pairs_and_then_stay(number: int, sigma: float) -> None:
    def targets(**options: float) -> torch.Tensor:
        target = TargetOptions(full_score=1.0, **options)  # type: ignore[arg-type]
        return PairDataset([(HalfSeen(), 1.0)], size=SIZE, target=target, seed=0, count=8)[number]["targets"]

    narrowing = targets(sigma_start=2.0, sigma_end=1.0, sigma_pairs=4)
    torch.testing.assert_close(narrowing, targets(sigma_start=sigma, sigma_end=sigma))


@pytest.mark.parametrize("enlarged", [0.5, 1.0, 2.5])
def test_peaks_widen_with_what_a_view_enlarges_and_never_narrow(enlarged: float) -> None:
    steady = WarpOptions(
        scale=(enlarged, enlarged),
        relative_scale=(1, 1),
        base_rotation=0,
        wide_share=0,
        rotation=0,
        perspective=0,
        shear=0,
    )
    source = HomographyPairs([picture_with_keypoints(1200)], steady, PhotometricOptions())

    def share_of_map(growth: float) -> float:
        target = TargetOptions(full_score=0.1, sigma_start=0.8, sigma_end=0.8, sigma_growth=growth)
        pairs = PairDataset([(source, 1.0)], size=SIZE, target=target, seed=4, count=4)
        return float(np.mean([(pairs[number]["targets"] > 0.6).float().mean() for number in range(4)]))

    # The area in which a Gaussian exceeds a level grows with its variance.
    widened = max(1.0, 0.9 * enlarged / 0.8) ** 2
    assert share_of_map(0.9) / share_of_map(0.0) == pytest.approx(widened, rel=0.15)


def picture_of_spots() -> Picture:
    """A gray picture of bright spots, without keypoints."""
    image = np.full((256, 320), 60.0)
    across, down = np.meshgrid(np.arange(320), np.arange(256))
    for u, v in SPOTS:
        image += 150 * np.exp(-((across - u) ** 2 + (down - v) ** 2) / (2 * 2.0**2))
    nothing = np.zeros((0, 2), np.float32)
    return Picture(picture_pyramid(image.astype(np.uint8)), nothing, nothing[:, 0])


SPOTS = [(u, v) for u in range(20, 310, 24) for v in range(20, 250, 24)]


@pytest.mark.parametrize("magnification", [1.5, 1.0, 0.6, 0.35])
def test_blobs_of_a_picture_are_found_for_views_that_enlarge_or_reduce_it(magnification: float) -> None:
    found = picture_blobs(picture_of_spots().pyramid, magnification)
    distance = np.linalg.norm(found[: len(SPOTS), None] - np.array(SPOTS), axis=2)
    assert distance.min(axis=1).max() < 0.5
    assert len(set(distance.argmin(axis=1))) == len(SPOTS)


def test_descriptors_are_compared_at_blobs_as_often_as_is_asked_for() -> None:
    plain = PhotometricOptions(noise=0, motion_blur_probability=0, shading_probability=0, jpeg_probability=0)
    warp = WarpOptions(scale=(0.9, 1.1), perspective=0.1)
    picture = picture_of_spots()
    for blobs, share in ((True, 0.6), (True, 0.2), (False, 0.6)):
        target = TargetOptions(queries=10, keypoint_share=0.8, blob_share=share)
        pairs = PairDataset(
            [(HomographyPairs([picture], warp, plain, blobs), 1.0)], size=SIZE, target=target, seed=2, count=6
        )
        counts = []
        for number in range(6):
            pair = pairs[number]
            response = blob_response(pair["images"][0, 0].numpy().astype(np.float32) / 255, 1.75)
            rows, columns = np.nonzero(
                (response > 0.002) & (response == cv2.dilate(response, np.ones((5, 5), np.uint8)))
            )
            queries = pair["queries"].numpy()
            assert not np.isnan(queries).any()
            middles = np.column_stack([columns, rows])
            counts.append(int((np.linalg.norm(queries[:, None] - middles, axis=2).min(axis=1) < 1.5).sum()))
        # A few of those drawn from the whole view lie on a spot by chance.
        assert np.mean(counts) == pytest.approx(10 * share if blobs else 0.0, abs=1)


def test_a_dark_picture_is_exposed_and_a_bright_one_left_alone() -> None:
    bright = np.tile(np.arange(0, 256, dtype=np.uint8), (20, 1))
    dark = (bright // 3).astype(np.uint8)
    assert brighten(bright) is bright
    assert np.percentile(brighten(dark), 99.5) == pytest.approx(230, abs=3)
    assert brighten((bright // 20).astype(np.uint8)).max() <= 4 * 13


def corpus(folder: Path) -> Path:
    rows = ["file,split,category", "a.png,train,photograph", "b.png,train,texture", "c.png,validation,photograph"]
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_pictures_of_a_corpus_are_chosen_by_category(tmp_path: Path) -> None:
    folder = corpus(tmp_path)
    assert [path.name for path in find_photographs(folder, split="train", categories=["photograph"])] == ["a.png"]
    assert [path.name for path in find_photographs(folder, categories=["photograph"])] == ["a.png", "c.png"]
    with pytest.raises(TrainingDataError, match="no pictures of the split 'train' and the categories artwork"):
        find_photographs(folder, split="train", categories=["artwork"])


def test_hidden_files_and_folders_hold_no_photographs(tmp_path: Path) -> None:
    for name in ("a.png", "inside/b.jpg", "._a.png", ".thumbnails/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert find_photographs(tmp_path) == [tmp_path / "a.png", tmp_path / "inside" / "b.jpg"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name,split\na.png,train\n", r"index\.csv has no column 'file'; expected text in UTF-8 .*: file,split"),
        (b"", "has no column 'file'"),
        (b"file,split\na.png,train\n,train\n", r"index\.csv, line 3: no file is named"),
        (b"\xff\xfe\x00\x01file", r"index\.csv is no table; expected text in UTF-8"),
        (b"file,split\n" + b"a" * 200_000 + b",train\n", r"index\.csv is no table"),
    ],
)
def test_an_index_that_names_no_files_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_bytes(content)
    with pytest.raises(TrainingDataError, match=words):
        find_photographs(tmp_path)


def test_an_index_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_bytes(b"\xef\xbb\xbffile,split\r\na.png,train\r\n")
    assert find_photographs(tmp_path, split="train") == [tmp_path / "a.png"]


def test_categories_need_an_index(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40), np.uint8))
    with pytest.raises(TrainingDataError, match=r"no index\.csv"):
        find_photographs(tmp_path, categories=["photograph"])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_orthogonalised_matrices_keep_directions_and_lose_lengths(rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, rows, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(columns, columns, generator=generator))[0]
    rank = min(rows, columns)
    lengths = torch.linspace(0.05, 1.0, rank)
    given_matrix = left[:, :rank] @ torch.diag(lengths) @ right[:rank]
    result = left[:, :rank].T @ orthogonalise(given_matrix) @ right[:rank].T
    assert torch.allclose(result, torch.diag(result.diagonal()), atol=1e-3)
    assert bool(((result.diagonal() > 0.6) & (result.diagonal() < 1.3)).all())


def test_muon_minimises() -> None:
    torch.manual_seed(0)
    wanted = torch.randn(6, 4, 3, 3)
    weight = nn.Parameter(torch.zeros(6, 4, 3, 3))
    optimiser = Muon([weight], lr=0.1)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimiser.zero_grad()
        (weight - wanted).square().mean().backward()
        optimiser.step()
    assert (weight - wanted).abs().max() < 0.1


def test_hidden_convolutions_go_to_muon_and_every_parameter_to_one_optimiser() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))
    optimisers = create_optimisers(network, ScheduleOptions(muon_learning_rate=0.03))
    (group,) = optimisers["muon"].param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(network[2].weight)]
    assert group["full_lr"] == 0.03
    owned = [id(p) for optimiser in optimisers.values() for g in optimiser.param_groups for p in g["params"]]
    assert sorted(owned) == sorted(map(id, network.parameters()))
    assert set(create_optimisers(network, ScheduleOptions(optimiser="adamw"))) == {"adamw"}


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_learned_sampling_has_a_rate_of_its_own(optimiser: str) -> None:
    config = config_from_dict({"loss": {"sampling": "learned"}, "schedule": {"optimiser": optimiser}})
    network = create_trainable(config)
    groups = create_optimisers(network, config.schedule)["adamw"].param_groups
    learned = learned_sampling(network)
    assert learned is not None
    for coefficients in learned.tensors().values():
        rates = [group["full_lr"] for group in groups if any(p is coefficients for p in group["params"])]
        assert rates == [SAMPLING_RATE * config.schedule.learning_rate]
    fixed = create_trainable(config_from_dict({"loss": {"sampling": "bicubic"}}))
    assert learned_sampling(fixed) is None
