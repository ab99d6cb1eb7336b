# SPDX-License-Identifier: Apache-2.0
"""The weights in the package: whole, described, and as good as they were when they were shipped."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

import gcnv2_ros.weights
from gcnv2_ros.extraction import DecodeOptions, ExtractorOptions, create_extractor
from gcnv2_ros.extraction.quantization import CALIBRATION_SUFFIX, load_calibration
from gcnv2_ros.files import sha256_of
from gcnv2_ros.geometry import dense_flow
from gcnv2_ros.matching import match
from gcnv2_ros.sequences import Frame, RoomOptions, SyntheticRoom
from gcnv2_ros.weights import load_weights, shipped_models

DATA = Path(gcnv2_ros.weights.__file__).parent / "data"
MEGABYTES = {"gcnv2_tiny": 2.45, "gcnv2": 6.3, "gcnv2_mobile": 7.2}
CALIBRATED = sorted(path.name.removesuffix(CALIBRATION_SUFFIX) for path in DATA.glob(f"*{CALIBRATION_SUFFIX}"))
# Share of mutual matches within 3 px of the truth on rendered frames 8 apart, by model and network input: a little less
# than what the shipped files reach.
LEAST_ACCURACY = {
    ("gcnv2_tiny", (640, 480)): 0.985,
    ("gcnv2_tiny", (320, 240)): 0.97,
    ("gcnv2", (640, 480)): 0.985,
    ("gcnv2", (320, 240)): 0.97,
}


# Least share of the keypoints that a rolled picture shows which find their match within 3 px, by model and degrees: a
# little less than what the shipped files reach.
LEAST_ROLLED = {
    ("gcnv2_tiny", 60): 0.91,
    ("gcnv2_tiny", 120): 0.78,
    ("gcnv2_tiny", 170): 0.64,
    ("gcnv2", 60): 0.92,
    ("gcnv2", 120): 0.78,
    ("gcnv2", 170): 0.63,
}


def test_there_are_default_weights() -> None:
    assert set(shipped_models()) == {"gcnv2_tiny", "gcnv2"}


@pytest.mark.parametrize("model", shipped_models())
def test_shipped_files_are_whole_small_and_say_how_they_were_made(model: str) -> None:
    entry = json.loads((DATA / "manifest.json").read_text())["weights"][model]
    path = DATA / entry["file"]
    assert sha256_of(path) == entry["sha256"]
    assert path.stat().st_size < MEGABYTES[model] * 1e6
    weights = load_weights("default", model=model)
    assert weights.metadata.sampling == "learned"
    assert set(weights.metadata.score_thresholds) == set(weights.metadata.smoothing) == {"640x480", "320x240"}
    assert weights.metadata.nms_radius
    assert weights.metadata.licence == "Apache-2.0"
    training = weights.metadata.training
    assert training["steps"] > 0
    assert training["images"] > 0
    for data in training["data"]:
        assert data["prepared"]["teacher"]
        packages = training["sources"][data["source"]]["packages"]
        assert packages
        assert all(package["licences"] for package in packages.values())
    with safe_open(path, "pt") as content:
        assert {content.get_tensor(name).dtype for name in content.keys()} == {torch.float16}  # noqa: SIM118


@pytest.fixture(scope="module")
def room() -> tuple[SyntheticRoom, list[tuple[Frame, Frame]]]:
    room = SyntheticRoom(RoomOptions(seed=11, frames=60, noise=2.0))
    return room, [(room[start], room[start + 8]) for start in (0, 20, 40)]


def accuracy(
    options: ExtractorOptions, sequence: SyntheticRoom, pairs: list[tuple[Frame, Frame]], *, detector: str = "auto"
) -> float:
    """Share of mutual matches within 3 px of the truth, mean over pairs."""
    right = []
    with create_extractor(options, DecodeOptions(max_keypoints=500, detector=detector)) as extractor:
        for first, second in pairs:
            a, b = extractor.extract(first.gray), extractor.extract(second.gray)
            matches = match(a, b)
            flow, valid = dense_flow(first, second, sequence.camera)
            uv = a.uv[matches.index_a]
            columns, rows = np.rint(uv).astype(int).T
            judged = valid[rows, columns]
            truth = flow[rows, columns] + uv - np.column_stack([columns, rows])
            error = np.linalg.norm(truth - b.uv[matches.index_b], axis=1)[judged]
            assert judged.sum() > 50
            right.append(float(np.mean(error <= 3)))
    return float(np.mean(right))


@pytest.mark.parametrize(("model", "roll"), list(LEAST_ROLLED))
def test_shipped_weights_match_rolled_pictures_as_well_as_stated(
    model: str, roll: int, room: tuple[SyntheticRoom, list[tuple[Frame, Frame]]]
) -> None:
    options = ExtractorOptions(model=model, input_width=640, input_height=480, threads=1)
    turn = cv2.getRotationMatrix2D((319.5, 239.5), roll, 1.0)
    shares = []
    with create_extractor(options, DecodeOptions(max_keypoints=500)) as extractor:
        for frame, _ in room[1]:
            rolled = np.asarray(cv2.warpAffine(frame.gray, turn, (640, 480)), np.uint8)
            a, b = extractor.extract(frame.gray), extractor.extract(rolled)
            truth = a.uv @ turn[:, :2].T + turn[:, 2]
            seen = ((truth >= 16) & (truth <= (623, 463))).all(axis=1)
            matches = match(a, b)
            error = np.linalg.norm(truth[matches.index_a] - b.uv[matches.index_b], axis=1)
            shares.append((error[seen[matches.index_a]] <= 3).sum() / seen.sum())
    assert np.mean(shares) > LEAST_ROLLED[model, roll]


@pytest.mark.parametrize(("model", "size"), list(LEAST_ACCURACY))
def test_shipped_weights_match_rendered_frames_as_well_as_stated(
    model: str, size: tuple[int, int], room: tuple[SyntheticRoom, list[tuple[Frame, Frame]]]
) -> None:
    options = ExtractorOptions(model=model, input_width=size[0], input_height=size[1], threads=1)
    recommended = accuracy(options, *room)
    assert recommended > LEAST_ACCURACY[model, size]
    # Blobs are matched better than the network's own keypoints, and those well enough to be an option.
    assert recommended > accuracy(options, *room, detector="network") > 0.9
    assert load_weights("default", model=model).metadata.detector == "blobs"


@pytest.mark.parametrize("model", CALIBRATED)
def test_shipped_calibrations_belong_to_the_shipped_weights_and_cost_little(
    model: str, room: tuple[SyntheticRoom, list[tuple[Frame, Frame]]]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    # Refuses a calibration of other weights.
    assert load_calibration(model, load_weights("default", model=model)).images >= 24
    size = (320, 240)
    options = ExtractorOptions(
        model=model, runtime="openvino", precision="int8", input_width=size[0], input_height=size[1], threads=1
    )
    assert accuracy(options, *room) > 0.98 * LEAST_ACCURACY[model, size]
