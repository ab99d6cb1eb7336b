# SPDX-License-Identifier: Apache-2.0
"""Training as a whole: it learns, it survives a kill, it exports, the command line goes all the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gcnv2_ros.cli.main import main
from gcnv2_ros.extraction import ExtractorOptions, create_extractor
from gcnv2_ros.files import sha256_of
from gcnv2_ros.networks import create_network
from gcnv2_ros.sequences import Frame, ImageSequence, RoomOptions, Sequence, SyntheticRoom
from gcnv2_ros.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from gcnv2_ros.training.config import TrainingConfig, config_from_dict
from gcnv2_ros.training.correspondence import sample_correspondences
from gcnv2_ros.training.export import (
    average_weights,
    export_run,
    recommend_decoding,
    recommend_thresholds,
    share_sources,
)
from gcnv2_ros.training.geometric import GeometricPairs
from gcnv2_ros.training.loop import StepReport, Trainer, TrainingError
from gcnv2_ros.training.pairs import HomographyPairs, PairDataset
from gcnv2_ros.training.photometric import PhotometricOptions
from gcnv2_ros.training.pictures import TrainingDataError, find_photographs, load_pictures, prepare_pictures
from gcnv2_ros.training.targets import shi_tomasi_corners
from gcnv2_ros.training.trainable import learned_sampling
from gcnv2_ros.training.validation import Validation
from gcnv2_ros.weights import LearnedSampling, WeightsError, WeightsMetadata, load_weights, save_weights

SIZE = (128, 96)


def draw_picture(seed: int, width: int = 320, height: int = 240) -> np.ndarray:
    """Shapes and marks of all sizes: plenty of corners, nothing that repeats."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width), 128, np.uint8)
    for _ in range(150):
        points = rng.uniform(0, (width, height), 2) + rng.normal(0, rng.uniform(4, 30), (rng.integers(3, 6), 2))
        cv2.fillPoly(picture, [points.astype(np.int32)], int(rng.integers(0, 256)))
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8), np.uint8)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(8):
        cv2.imwrite(str(folder / f"{seed}.png"), draw_picture(seed))
    return folder


@pytest.fixture(scope="module")
def prepared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare_pictures(find_photographs(photographs), folder, shi_tomasi_corners, teacher="shi_tomasi", short_side=240)
    return folder


def small_config(**schedule: int | str) -> TrainingConfig:
    values = {"steps": 200, "warmup": 10, "decay": 40, "batch": 2, "validate_every": 1000, "checkpoint_every": 1000}
    return config_from_dict(
        {
            "seed": 3,
            "data": {"size": list(SIZE), "workers": 0},
            "warp": {"scale": [0.5, 0.9], "rotation": 15, "wide_share": 0.0, "base_rotation": 10},
            "target": {"queries": 96, "sigma_pairs": 200},
            "loss": {"detector_weight": 0.3},
            "schedule": {**values, "average": 0.95, **schedule},
        }
    )


def sources(config: TrainingConfig, prepared: Path):  # type: ignore[no-untyped-def]
    return [(HomographyPairs(load_pictures(prepared), config.warp, config.photometric), 1.0)]


def descriptor_accuracy(trainer: Trainer, config: TrainingConfig, prepared: Path) -> float:
    """Share of points of unseen pairs whose nearest binary descriptor is that of their true position."""
    network = trainer.released_network()
    dataset = PairDataset(sources(config, prepared), size=SIZE, target=config.target, seed=99, count=10)
    right = []
    for number in range(10):
        pair = dataset[number]
        with torch.no_grad():
            dense, _ = network(pair["images"].float() / 255)
            sampled = sample_correspondences(
                dense[:1],
                dense[1:],
                pair["flow"][None],
                pair["queries"][None],
                sampling=config.loss.sampling,
                learned=learned_sampling(network),
            )
        valid = sampled.query_valid[0]
        codes_a, codes_b = torch.sign(sampled.query[0][valid]), torch.sign(sampled.database[0][valid])
        best = (codes_a @ codes_b.T).argmax(dim=1)
        distance = (sampled.database_uv[0][valid][best] - sampled.database_uv[0][valid]).norm(dim=1)
        right.append((distance < 6).float().mean().item())
    return float(np.mean(right))


def test_training_learns_to_match_and_to_detect(prepared: Path, tmp_path: Path) -> None:
    # So few steps are within Muon's warm-up, in which the detector overshoots before it learns.
    config = small_config(steps=120, decay=24, optimiser="adamw")
    trainer = Trainer(config, tmp_path, sources(config, prepared))
    before = descriptor_accuracy(trainer, config, prepared)
    reports: list[StepReport] = []
    trainer.run(on_step=reports.append)
    after = descriptor_accuracy(trainer, config, prepared)
    first, last = ({name: np.mean([r.losses[name] for r in part]) for name in ("descriptor", "detector")}
                   for part in (reports[:10], reports[-10:]))  # fmt: skip
    assert last["descriptor"] < 0.7 * first["descriptor"]
    assert last["detector"] < 0.5 * first["detector"]
    assert after > 0.45
    assert after > before + 0.2
    assert all(not report.warnings() for report in reports)


def test_a_killed_run_ends_with_the_same_weights_as_an_uninterrupted_one(prepared: Path, tmp_path: Path) -> None:
    config = small_config(steps=12, decay=4, warmup=2)
    whole = Trainer(config, tmp_path / "whole", sources(config, prepared))
    whole.run(on_step=lambda report: None)
    killed = Trainer(config, tmp_path / "killed", sources(config, prepared))
    killed.run(on_step=lambda report: None, until=7)
    resumed = Trainer(config, tmp_path / "killed", sources(config, prepared))
    assert resumed.step == 7
    resumed.run(on_step=lambda report: None)
    for ours, theirs in ((resumed.network, whole.network), (resumed.average, whole.average)):
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(value, theirs.state_dict()[name], rtol=0, atol=0, msg=name)


def test_half_precision_takes_nearly_the_same_steps(prepared: Path, tmp_path: Path) -> None:
    reports: dict[str, list[StepReport]] = {"fp32": [], "bf16": []}
    networks = []
    for precision, kept in reports.items():
        config = small_config(steps=4, warmup=2, decay=1, precision=precision)
        trainer = Trainer(config, tmp_path / precision, sources(config, prepared))
        trainer.run(on_step=kept.append)
        networks.append(trainer.network.state_dict())
    full, half = ([report.losses["loss"] for report in kept] for kept in reports.values())
    assert half == pytest.approx(full, rel=0.03)
    assert half != full
    assert {value.dtype for value in networks[1].values()} == {value.dtype for value in networks[0].values()}


@pytest.mark.parametrize("model", ["gcnv2_tiny", "gcnv2_mobile"])
def test_released_weights_are_trained_further_from_where_they_are(model: str, prepared: Path, tmp_path: Path) -> None:
    values = {**small_config(steps=12, warmup=4, decay=4, optimiser="adamw").to_dict(), "model": model}
    config = config_from_dict(values)
    first = Trainer(config, tmp_path / "first", sources(config, prepared))
    first.run(on_step=lambda report: None)
    released = tmp_path / "released.safetensors"
    export_run(tmp_path / "first", released)

    config = config_from_dict({**values, "initial_weights": str(released)})
    second = Trainer(config, tmp_path / "second", sources(config, prepared))
    image = torch.from_numpy(draw_picture(77, *SIZE)).float()[None, None] / 255
    with torch.no_grad():
        descriptors, scores = (
            tensors for tensors in zip(first.released_network()(image), second.released_network()(image))
        )
    assert ((descriptors[0] > 0) == (descriptors[1] > 0)).float().mean() > 0.98
    torch.testing.assert_close(scores[1], scores[0], atol=0.01, rtol=0)
    for name in ("sampling_kernel", "sampling_mixing"):
        before, after = (getattr(trainer.average, name) for trainer in (first, second))
        # Ten times what counts as equal at the least.
        assert before.abs().max() > 0.01
        torch.testing.assert_close(after, before, atol=1e-3, rtol=0)

    second.run(on_step=lambda report: None, until=1)
    resumed = Trainer(config, tmp_path / "second", sources(config, prepared))
    assert resumed.step == 1
    export_run(tmp_path / "second", tmp_path / "further.safetensors")
    record = load_weights(tmp_path / "further.safetensors", model=model).metadata.training
    assert record["initial"]["sha256"] == sha256_of(released)
    assert record["initial"]["training"]["steps"] == 12


@pytest.mark.parametrize(("harmonics", "blocks"), [(2, 16), (8, 1), (6, 4)])
def test_sampling_with_other_harmonics_and_blocks_is_trained_further_with_what_is_in_common(
    harmonics: int, blocks: int, prepared: Path, tmp_path: Path
) -> None:
    released = tmp_path / "released.safetensors"
    generator = torch.Generator().manual_seed(0)
    earlier = LearnedSampling(
        torch.randn(2, 2, 1 + 2 * harmonics, 256, generator=generator),
        torch.randn(blocks, 256 // blocks, 256 // blocks, generator=generator),
    )
    metadata = WeightsMetadata("gcnv2_tiny", sampling="learned")
    state = create_network("gcnv2_tiny").state_dict()
    save_weights(released, state, metadata, dtype=torch.float32, learned_sampling=earlier)
    config = config_from_dict({**small_config().to_dict(), "initial_weights": str(released)})
    learned = learned_sampling(Trainer(config, tmp_path / "run", sources(config, prepared)).network)
    assert learned is not None
    kernel = learned.kernel.detach()
    common = min(kernel.shape[2], earlier.kernel.shape[2])
    torch.testing.assert_close(kernel[:, :, :common], earlier.kernel[:, :, :common])
    assert not kernel[:, :, common:].any()
    was, mixing = torch.block_diag(*earlier.mixing), torch.block_diag(*learned.mixing.detach())
    assert mixing.any()
    both = (
        torch.block_diag(*torch.ones_like(earlier.mixing)).bool()
        & torch.block_diag(*torch.ones_like(learned.mixing)).bool()
    )
    torch.testing.assert_close(mixing, torch.where(both, was, 0.0))


def test_initial_weights_that_are_not_there_are_named(prepared: Path, tmp_path: Path) -> None:
    config = config_from_dict({**small_config().to_dict(), "model": "gcnv2", "initial_weights": "nowhere.safetensors"})
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors"):
        Trainer(config, tmp_path, sources(config, prepared))


def test_a_finished_run_can_be_made_longer_from_before_the_rate_fell(prepared: Path, tmp_path: Path) -> None:
    config = small_config(steps=8, decay=4, warmup=2)
    Trainer(config, tmp_path, sources(config, prepared)).run(on_step=lambda report: None)
    assert load_checkpoint(tmp_path / "before_decay.pt").step == 4
    (tmp_path / "before_decay.pt").replace(tmp_path / "last.pt")
    longer = small_config(steps=10, decay=4, warmup=2)
    reports: list[StepReport] = []
    Trainer(longer, tmp_path, sources(longer, prepared)).run(on_step=reports.append)
    assert [report.step for report in reports] == [5, 6, 7, 8, 9, 10]
    assert reports[1].learning_rate == longer.schedule.learning_rate


@pytest.mark.parametrize(
    ("changed", "bounds", "parameter"),
    [
        ({"muon_learning_rate": 0.002}, (0.099, 0.101), "convD_2.weight"),
        ({"learning_rate": 2e-4}, (0.099, 0.101), "convD_2.bias"),
        # The step along the gradient stays beside what the decay takes away.
        ({"weight_decay": 50.0}, (5, 50), "conv1.0.weight"),
    ],
)
def test_rates_and_decay_may_be_changed_in_a_run_that_goes_on(
    changed: dict[str, float], bounds: tuple[float, float], parameter: str, prepared: Path, tmp_path: Path
) -> None:
    schedule: dict[str, Any] = {"steps": 8, "decay": 1, "warmup": 1, "batch": 1, "weight_decay": 1.0}
    config = small_config(**schedule)
    Trainer(config, tmp_path, sources(config, prepared)).run(on_step=lambda report: None, until=2)
    state = load_checkpoint(tmp_path / "last.pt")
    moved = []
    for values in (schedule, {**schedule, **changed}):
        save_checkpoint(tmp_path / "last.pt", state)
        config = small_config(**values)
        trainer = Trainer(config, tmp_path, sources(config, prepared))
        trainer.run(on_step=lambda report: None, until=3)
        moved.append((trainer.network.state_dict()[parameter] - state.network[parameter]).norm().item())
    assert bounds[0] < moved[1] / moved[0] < bounds[1]


def test_a_training_that_diverges_stops_and_keeps_its_last_checkpoint(prepared: Path, tmp_path: Path) -> None:
    config = small_config(checkpoint_every=1)
    trainer = Trainer(config, tmp_path, sources(config, prepared))
    trainer.run(on_step=lambda report: None, until=2)
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"step 3 has a loss of nan .*goes on from .*last\.pt"):
        trainer.run(on_step=lambda report: None)
    state = load_checkpoint(tmp_path / "last.pt")
    assert state.step == 2
    assert all(value.isfinite().all() for value in state.network.values())


def test_a_checkpoint_of_another_configuration_is_refused(prepared: Path, tmp_path: Path) -> None:
    config = small_config(steps=4, decay=1, warmup=1)
    Trainer(config, tmp_path, sources(config, prepared)).run(on_step=lambda report: None)
    other = config_from_dict({**config.to_dict(), "seed": 4})
    with pytest.raises(CheckpointError, match=r"seed = 3.*says 4"):
        Trainer(other, tmp_path, sources(other, prepared))


def test_a_checkpoint_from_before_an_option_was_there_has_its_default(prepared: Path, tmp_path: Path) -> None:
    config = small_config(steps=4, decay=1, warmup=1)
    Trainer(config, tmp_path, sources(config, prepared)).run(on_step=lambda report: None)
    checkpoint = load_checkpoint(tmp_path / "last.pt")
    target = {name: value for name, value in checkpoint.config["target"].items() if name != "blob_share"}
    assert target != checkpoint.config["target"]
    save_checkpoint(tmp_path / "last.pt", replace(checkpoint, config={**checkpoint.config, "target": target}))
    assert Trainer(config, tmp_path, sources(config, prepared)).step == 4
    other = config_from_dict({**config.to_dict(), "target": {**config.to_dict()["target"], "blob_share": 0.5}})
    with pytest.raises(CheckpointError, match=r"'blob_share': 0\.0"):
        Trainer(other, tmp_path, sources(other, prepared))


def test_what_was_trained_at_blobs_recommends_them(prepared: Path, tmp_path: Path) -> None:
    config = small_config(steps=2, decay=1, warmup=1)
    config = replace(config, target=replace(config.target, blob_share=0.5))
    Trainer(config, tmp_path, sources(config, prepared)).run(on_step=lambda report: None)
    assert export_run(tmp_path, tmp_path / "w.safetensors").detector == "blobs"
    assert load_weights(tmp_path / "w.safetensors", model="gcnv2_tiny").metadata.training["recipe"]["target"][
        "blob_share"
    ] == pytest.approx(0.5)


def test_a_damaged_checkpoint_is_named(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"half a file")
    config = small_config()
    with pytest.raises(CheckpointError, match=r"last\.pt: not a readable training checkpoint"):
        Trainer(config, tmp_path, sources(config, prepared))


LOADERS = """
import sys
import torch
from test_training_run import SIZE, PairDataset, Path, small_config, sources

config = small_config()
dataset = PairDataset(sources(config, Path(sys.argv[1])), size=SIZE, target=config.target, seed=5, count=4)
loaded = list(torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2))
for number, theirs in enumerate(loaded):
    for name, ours in dataset[number].items():
        torch.testing.assert_close(ours, theirs[name], equal_nan=True, rtol=0, atol=0)
print(len(loaded), "pairs are the same")
"""


def test_the_loader_gives_the_same_pairs_whatever_the_number_of_processes(prepared: Path) -> None:
    # In a process of its own: torch's loader leaves a signal handler behind, for the children of whoever comes next.
    done = subprocess.run(
        [sys.executable, "-c", LOADERS, str(prepared)], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.stdout == "4 pairs are the same\n", done.stderr


def test_geometric_pairs_show_the_same_place_where_the_flow_says() -> None:
    room = SyntheticRoom(RoomOptions(width=160, height=120, frames=8, seed=2))
    off = PhotometricOptions(
        gain=0, gamma=0, contrast=0, vignetting=0, shading_probability=0, motion_blur_probability=0,
        defocus_probability=0, noise=0, jpeg_probability=0,
    )  # fmt: skip
    pairs = GeometricPairs(room, shi_tomasi_corners, off, largest_gap=6)
    for seed in range(4):
        first, second, flow = pairs.draw(np.random.default_rng(seed), SIZE)
        assert first.image.shape == second.image.shape == flow.shape[:2] == SIZE[::-1]
        seen = ~np.isnan(flow[..., 0])
        assert seen.mean() > 0.2
        there = cv2.remap(second.image, np.nan_to_num(flow), None, cv2.INTER_LINEAR)
        assert np.median(np.abs(there[seen].astype(int) - first.image[seen])) <= 4
        assert len(first.keypoints) > 5
        assert not len(first.blobs)
    for view in GeometricPairs(room, shi_tomasi_corners, off, blobs=True).draw(np.random.default_rng(0), SIZE)[:2]:
        assert 5 < len(view.blobs) <= SIZE[0] * SIZE[1] / 64
        assert (view.blobs >= 0).all()
        assert (view.blobs <= np.array(SIZE) - 1).all()


@pytest.mark.parametrize("model", ["gcnv2", "gcnv2_mobile"])
def test_a_sequence_alone_trains_every_network_and_exports_it(model: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "model": model,
                "data": {"sequences": ["room:width=160,height=120,frames=4"], "size": list(SIZE), "workers": 0},
                "schedule": {"steps": 2, "warmup": 1, "decay": 1, "batch": 1},
            }
        )
    )
    assert main(["train", str(config), str(tmp_path / "run"), "--threads", "1"]) == 0
    assert load_checkpoint(tmp_path / "run" / "last.pt").step == 2
    assert main(["train-export", str(tmp_path / "run"), str(tmp_path / "new.safetensors")]) == 0
    metadata = load_weights(tmp_path / "new.safetensors", model=model).metadata
    assert metadata.training["images"] == 4
    # Whoever trained them says what others may do with them.
    assert metadata.licence == ""


def test_a_sequence_without_depth_cannot_be_trained_on(photographs: Path) -> None:
    with pytest.raises(TrainingDataError, match="needs calibration, depth and poses"):
        GeometricPairs(ImageSequence(photographs), shi_tomasi_corners, PhotometricOptions())


class Holey(Sequence):
    """Frames of the room, of which some have lost their ground truth."""

    def __init__(self, count: int, lost: dict[int, str]) -> None:
        self.room = SyntheticRoom(RoomOptions(width=160, height=120, frames=8, seed=2))
        self.name, self.camera, self.count, self.lost = "holey", self.room.camera, count, lost

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Frame:
        frame = self.room[self._position(index)]
        return replace(frame, **{self.lost[frame.index]: None}) if frame.index in self.lost else frame


def test_frames_without_ground_truth_are_left_out_of_geometric_pairs() -> None:
    lost = {0: "pose", 1: "depth", 2: "pose", 4: "pose", 6: "depth"}
    pairs = GeometricPairs(Holey(8, lost), shi_tomasi_corners, PhotometricOptions(), largest_gap=4)
    for seed in range(20):
        _, _, flow = pairs.draw(np.random.default_rng(seed), SIZE)
        assert not np.isnan(flow).all()


@pytest.mark.parametrize(
    ("count", "lost", "message"),
    [
        (1, (), "holey has one frame"),
        (3, (0, 1, 2), "holey needs .* no frame with both depth and pose"),
        (3, (0, 2), "holey: hardly any two frames up to 2 apart have both depth and pose"),
    ],
)
def test_a_sequence_that_gives_no_pairs_is_refused_with_the_reason(
    count: int, lost: tuple[int, ...], message: str
) -> None:
    with pytest.raises(TrainingDataError, match=message):
        GeometricPairs(Holey(count, dict.fromkeys(lost, "pose")), shi_tomasi_corners, PhotometricOptions()).draw(
            np.random.default_rng(0), SIZE
        )


def test_validation_scores_the_network_that_it_is_given(photographs: Path) -> None:
    validation = Validation(find_photographs(photographs), count=2)
    scores = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = create_network("gcnv2_tiny")
        scores.append(validation.score("gcnv2_tiny", network))
    assert scores[0] != scores[1]
    assert validation.score("gcnv2_tiny", network) == scores[1]


def test_preparing_goes_on_where_it_was_stopped(photographs: Path, tmp_path: Path) -> None:
    files = find_photographs(photographs)
    calls = []

    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls.append(image.shape)
        return shi_tomasi_corners(image)

    prepare_pictures(files[:3], tmp_path, detect, teacher="shi_tomasi")
    done = len(calls)
    assert prepare_pictures(files[:4], tmp_path, detect, teacher="shi_tomasi") == 4
    assert len(calls) == done + 1
    with pytest.raises(TrainingDataError, match="use another folder"):
        prepare_pictures(files[:3], tmp_path, detect, teacher="another")


def test_photographs_of_one_name_in_several_folders_are_all_prepared(tmp_path: Path) -> None:
    def prepare(photographs: Path, target: Path) -> list[str]:
        assert main(["train-prepare", str(photographs), str(target), "--stage", "whole"]) == 0
        return sorted(path.name for path in target.glob("*.png"))

    drawn = {"monday/left.png": 1, "monday/right.png": 2, "tuesday/left.png": 3, "tuesday/left.jpg": 4}
    for name, seed in drawn.items():
        (tmp_path / "robot" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "robot" / name), draw_picture(seed))
    tiles = prepare(tmp_path / "robot", tmp_path / "tiles")
    assert len(tiles) == 4
    # Their names depend on the photographs alone: preparing again, from another place, adds none.
    assert "right_000.png" in tiles
    (tmp_path / "robot").rename(tmp_path / "moved")
    assert prepare(tmp_path / "moved", tmp_path / "tiles") == tiles
    prepared = [picture.pyramid[0].astype(int) for picture in load_pictures(tmp_path / "tiles")]
    for seed in drawn.values():
        assert min(np.abs(picture - draw_picture(seed)).mean() for picture in prepared) < 3


def test_what_a_kill_left_half_written_is_no_tile(photographs: Path, tmp_path: Path) -> None:
    files = find_photographs(photographs)[:2]
    assert prepare_pictures(files, tmp_path, shi_tomasi_corners, teacher="shi_tomasi") == 2
    (tmp_path / ".1_000.k2jx8q.npy").write_bytes(b"")
    assert prepare_pictures(files, tmp_path, shi_tomasi_corners, teacher="shi_tomasi") == 2
    assert len(load_pictures(tmp_path)) == 2
    config = small_config(steps=2, decay=1, warmup=1)
    config = replace(config, data=replace(config.data, pictures=(str(tmp_path),)))
    Trainer(config, tmp_path / "run", sources(config, tmp_path)).run(on_step=lambda report: None)
    metadata = export_run(tmp_path / "run", tmp_path / "w.safetensors")
    assert metadata.training["data"][0]["pictures"] == 2


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_tile_is_named(content: bytes, photographs: Path, tmp_path: Path) -> None:
    prepare_pictures(find_photographs(photographs)[:1], tmp_path, shi_tomasi_corners, teacher="shi_tomasi")
    (tmp_path / "0_000.npy").write_bytes(content)
    with pytest.raises(TrainingDataError, match=r"0_000\.npy: not a prepared tile .* prepare the folder again"):
        load_pictures(tmp_path)


def test_several_checkpoints_are_exported_as_their_mean(prepared: Path, tmp_path: Path) -> None:
    config = small_config(steps=8, decay=4, warmup=2, keep_every=3)
    Trainer(config, tmp_path, sources(config, prepared)).run(on_step=lambda report: None)
    assert sorted(path.name for path in tmp_path.glob("at_*.pt")) == ["at_3.pt", "at_6.pt"]
    names = ["at_3.pt", "last.pt"]
    states = [load_checkpoint(tmp_path / name).average for name in names]
    for name, value in average_weights(states).items():
        torch.testing.assert_close(value.double(), (states[0][name].double() + states[1][name].double()) / 2
                                   if value.is_floating_point() else states[1][name].double())  # fmt: skip
    metadata = export_run(tmp_path, tmp_path / "mean.safetensors", checkpoints=names)
    assert metadata.sampling == config.loss.sampling == "learned"
    assert metadata.detector == "network"
    assert metadata.training["averaged_steps"] == [3, 8]
    files = [tmp_path / f"{name}.safetensors" for name in names]
    for name, file in zip(names, files):
        export_run(tmp_path, file, checkpoints=[name])
    exported = [load_weights(file, model="gcnv2_tiny") for file in (tmp_path / "mean.safetensors", *files)]
    mean, first, last = (weights.state_dict["convD_2.bias"] for weights in exported)
    torch.testing.assert_close(mean, (first + last) / 2, atol=1e-3, rtol=0)
    for mean, first, last in zip(*(weights.learned_sampling.tensors().values() for weights in exported)):
        assert not torch.equal(first, last)
        torch.testing.assert_close(mean, (first + last) / 2, atol=1e-3, rtol=0)
    # A weights file goes into the mean as the checkpoints together do.
    export_run(tmp_path, tmp_path / "half.safetensors", checkpoints=["last.pt"], weights=[files[0]])
    half = load_weights(tmp_path / "half.safetensors", model="gcnv2_tiny")
    assert half.metadata.training["averaged_weights"] == [exported[1].sha256]
    for name, value in half.state_dict.items():
        torch.testing.assert_close(
            value, (exported[1].state_dict[name] + exported[2].state_dict[name]) / 2, atol=2e-3, rtol=1e-2
        )
    save_weights(tmp_path / "bilinear.safetensors", exported[1].state_dict, WeightsMetadata("gcnv2_tiny"))
    with pytest.raises(WeightsError, match=r"bilinear\.safetensors cannot be averaged"):
        export_run(tmp_path, tmp_path / "x.safetensors", weights=[tmp_path / "bilinear.safetensors"])
    with pytest.raises(CheckpointError, match=r"never\.pt"):
        export_run(tmp_path, tmp_path / "x.safetensors", checkpoints=["last.pt", "never.pt"])


def test_decoding_is_recommended_by_what_matches_best_at_each_size(photographs: Path) -> None:
    network = create_network("gcnv2_tiny")
    network.load_state_dict(load_weights("default", model="gcnv2_tiny").state_dict)
    pictures = find_photographs(photographs)
    detector, radius, smoothing = recommend_decoding(network, pictures, apart=4, sampling="bicubic", pairs=1)
    assert radius["640x480"] in (3, 4)
    validation = Validation(pictures, count=1, sampling="bicubic")
    smoothings = (0.0, 0.7, 1.0, 1.3, 1.6, 2.0)
    large = validation.accuracy_by_decoding(network, (640, 480), radii=(3, 4), smoothings=smoothings)
    tried = validation.accuracy_by_decoding(network, (320, 240), radii=(2, 3, 4), smoothings=smoothings)
    blobs = sum(validation.accuracy_of_blobs(network, size) for size in ((640, 480), (320, 240)))
    assert detector == ("blobs" if blobs > max(large.values()) + max(tried.values()) else "network")
    assert len(set(tried.values())) > 3
    assert tried[radius["320x240"], smoothing["320x240"]] == max(tried.values())
    thresholds = recommend_thresholds(network, pictures, radius, smoothing)
    assert set(thresholds) == set(radius) == set(smoothing) == {"640x480", "320x240"}
    assert all(0 < threshold < 1 for threshold in thresholds.values())


def told_in_full(training: dict[str, Any], sources: dict[str, Any]) -> dict[str, Any]:
    """Undo `share_sources`."""
    folders = [
        {**folder, **({"source": sources[folder["source"]]} if "source" in folder else {})}
        for folder in training["data"]
    ]
    full = {key: value for key, value in training.items() if key != "sources"} | {"data": folders}
    if initial := training["initial"]:
        full["initial"] = {**initial, "training": told_in_full(initial["training"], sources)}
    return full


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_each_source_of_pictures_is_recorded_once_for_all_trainings(shared: int) -> None:
    def record(steps: int, initial: dict[str, Any], *sources: dict[str, Any]) -> dict[str, Any]:
        folders = [{"pictures": 9, "source": source, "weight": 1} for source in sources]
        return {"steps": steps, "data": [*folders, {"pictures": 3, "weight": 2}], "initial": initial}

    photographs, textures, renderings = ({"packages": {name: {"licences": {"CC0-1.0": 4}}}} for name in "abc")
    full = shortened = record(10, {}, photographs, textures)
    for turn, sources in enumerate([(photographs,), (renderings, photographs)]):
        full = record(20 + turn, {"sha256": "0" * 64, "training": full}, *sources)
        # Weights of before sources were shared are a beginning too.
        earlier = share_sources(shortened) if turn < shared else shortened
        shortened = record(20 + turn, {"sha256": "0" * 64, "training": earlier}, *sources)
    before = json.dumps(shortened)
    result = share_sources(shortened)
    assert json.dumps(shortened) == before
    assert told_in_full(result, result["sources"]) == full
    assert sorted(map(str, result["sources"].values())) == sorted(map(str, (photographs, textures, renderings)))
    assert json.dumps(result).count("sources") == 1
    assert share_sources(result) == result


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="no pictures"):
        find_photographs(tmp_path)
    with pytest.raises(TrainingDataError, match="no prepared tiles"):
        load_pictures(tmp_path)


def test_the_command_line_goes_from_pictures_to_weights_that_extract(photographs: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "data": {"pictures": [str(tmp_path / "pictures")], "size": list(SIZE), "workers": 0},
                "schedule": {"steps": 4, "warmup": 1, "decay": 1, "batch": 1},
            }
        )
    )
    assert main(["train-prepare", str(photographs), str(tmp_path / "pictures")]) == 0
    assert main(["train", str(config), str(tmp_path / "run"), "--threads", "1", "--until", "2"]) == 0
    assert main(["train", str(config), str(tmp_path / "run"), "--threads", "1"]) == 0
    target = tmp_path / "new.safetensors"
    assert main(["train-export", str(tmp_path / "run"), str(target), "--note", "a test", "--licence", "CC0-1.0"]) == 0
    weights = load_weights(target, model="gcnv2_tiny")
    assert weights.metadata.training["steps"] == 4
    assert (weights.metadata.training["note"], weights.metadata.licence) == ("a test", "CC0-1.0")
    prepared = {"teacher": "shi_tomasi", "short_side": 512}
    assert weights.metadata.training["data"] == [{"pictures": 8, "prepared": prepared, "weight": 1}]
    assert 2.2e6 < target.stat().st_size < 2.5e6
    with create_extractor(ExtractorOptions(weights=str(target))) as extractor:
        features = extractor.extract(draw_picture(1))
        assert features.descriptors.shape == (len(features), 32)


def test_a_teacher_gives_the_keypoints_above_the_threshold_asked_for(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lowest = {}
    for threshold in (0.02, 0.2):
        folder = tmp_path / str(threshold)
        teacher = ["--teacher", "gcnv2_tiny", "--teacher-threshold", str(threshold)]
        assert main(["train-prepare", str(photographs), str(folder), "--stage", "whole", *teacher]) == 0
        lowest[threshold] = min(float(picture.scores.min()) for picture in load_pictures(folder))
        assert f"score from {threshold}" in json.loads((folder / "prepared.json").read_text())["teacher"]
    assert 0.02 <= lowest[0.02] < 0.1
    assert 0.2 <= lowest[0.2] < 0.3
    capsys.readouterr()
    assert main(["train-prepare", str(photographs), str(tmp_path / "x"), "--teacher-threshold", "0.1"]) == 1
    assert "shi_tomasi has none" in capsys.readouterr().err


def test_own_pictures_with_an_index_need_only_files_and_splits(photographs: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(photographs, own)
    names = [path.name for path in sorted(own.iterdir())]
    rows = [f"{names[0]},validation", *(f"{name},train" for name in names[1:])]
    (own / "index.csv").write_text("\n".join(["file,split", *rows]) + "\n")
    assert main(["train-prepare", str(own), str(tmp_path / "out"), "--stage", "whole"]) == 0
    assert len(load_pictures(tmp_path / "out")) == len(names) - 1
    assert not (tmp_path / "out" / "source.json").exists()


REFUSED = {
    "config of bytes": ("train bytes.yaml run", "bytes.yaml: no text in UTF-8; expected a training configuration"),
    "config of a date": ("train date.yaml run", "date.yaml: not valid YAML: month must be in 1..12"),
    "device that is none": ("train good.yaml run --device foo", "must be auto, cpu, cuda or cuda:N, got 'foo'"),
    "device of Intel's": ("train good.yaml run --device npu", "--device must be auto, cpu, cuda or cuda:N, got 'npu'"),
    "device beyond all": ("train good.yaml run --device cuda:999", "or cuda:N, got 'cuda:999'"),
    "threads": ("train good.yaml run --threads -2", "--threads must be 0, for all, or more, got -2"),
    "run that is a file": ("train good.yaml notes.txt", "notes.txt is to be a folder, and "),
    "threads of the teacher": ("train-prepare photographs out --threads -1", "--threads must be 0, for all, or more"),
    "no side": ("train-prepare photographs out --short-side 0", "--short-side must be at least 64 pixels, got 0"),
    "negative side": ("train-prepare photographs out --short-side -5", "must be at least 64 pixels, got -5"),
    "small side": ("train-prepare photographs out --short-side 63", "must be at least 64 pixels, got 63"),
    "tiles that are a file": ("train-prepare photographs notes.txt", "notes.txt is to be a folder, and "),
    "weights of another ending": ("train-export run w.pt", "w.pt: a weights file ends in .safetensors; name it "),
    "weights below a file": ("train-export run notes.txt/w.safetensors", "notes.txt is to be a folder, and "),
    "checkpoint that is none": (
        "train-export . w.safetensors --checkpoints notes.txt",
        "notes.txt: not a readable training checkpoint; expected one that `gcnv2 train` wrote, as last.pt",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_training_cannot_work_with_is_one_sentence_before_anything_is_written(
    case: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photographs").symlink_to(photographs)
    Path("bytes.yaml").write_bytes(b"\xff\xfe\x00")
    Path("date.yaml").write_text("seed: 2026-13-01\n")
    Path("good.yaml").write_text(f"data: {{sequences: ['room:frames=2'], size: {list(SIZE)}}}\n")
    Path("notes.txt").write_text("kept")
    before = sorted(tmp_path.iterdir())
    command, sentence = REFUSED[case]
    assert main(command.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"gcnv2 {command.split()[0]}: ")
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
    assert Path("notes.txt").read_text() == "kept"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    assert main(["train", str(tmp_path / "config.yaml"), str(tmp_path / "run"), "--device", "cuda"]) == 1
    assert "device cuda was asked for, but this torch" in capsys.readouterr().err


def test_a_configuration_without_pictures_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("seed: 1\n")
    assert main(["train", str(config), str(tmp_path / "run")]) == 1
    assert "names no data.pictures" in capsys.readouterr().err
