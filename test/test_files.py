# SPDX-License-Identifier: Apache-2.0
"""What is read: files in a home folder; and written to: what a link points to, and nothing that is no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from gcnv2_ros.calibration_files import read_calibration
from gcnv2_ros.camera import Camera, CameraError
from gcnv2_ros.cli.main import main
from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.extraction import ExtractionError, ExtractorOptions, create_extractor
from gcnv2_ros.files import atomic_path, atomic_write
from gcnv2_ros.masks import MaskError, load_mask
from gcnv2_ros.vocabulary import VocabularyError, load_vocabulary
from gcnv2_ros.weights import WeightsError, convert_weights, load_weights


def test_calibrations_and_masks_are_found_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cameras = {name: Camera(64, 48, focal, focal, 32.0, 24.0) for name, focal in (("left", 40.0), ("right", 50.0))}
    for name, camera in cameras.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(camera.to_dict()))
    entry = {"camera_model": "pinhole", "resolution": [64, 48], "distortion_model": "none", "distortion_coeffs": []}
    chain = {f"cam{number}": {**entry, "intrinsics": [number + 40.0] * 2 + [32.0, 24.0]} for number in range(2)}
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump(chain))
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((48, 64), 7, np.uint8))
    assert {name: read_calibration(f"~/{name}.yaml").fx for name in cameras} == {"left": 40.0, "right": 50.0}
    assert read_calibration("~/chain.yaml#cam1").fx == 41.0
    assert (load_mask("~/mask.png") == 7).all()


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        pytest.param(lambda path: load_weights(path, model="gcnv2_tiny"), WeightsError, id="weights"),
        pytest.param(lambda path: convert_weights(path, "x.safetensors"), WeightsError, id="weights to convert"),
        pytest.param(load_mask, MaskError, id="mask"),
        pytest.param(read_calibration, CameraError, id="calibration"),
        pytest.param(load_vocabulary, VocabularyError, id="vocabulary"),
        pytest.param(
            lambda path: create_extractor(ExtractorOptions(model="aliked-n16", weights=path)),
            ExtractionError,
            id="weights of ALIKED",
            marks=pytest.mark.skipif(find_spec("kornia") is None, reason="kornia is not installed"),
        ),
    ],
)
def test_a_home_folder_that_there_is_not_is_named(read: Callable[[str], object], kind: type[GCNv2Error]) -> None:
    with pytest.raises(kind, match=r"^~nobody-of-this-name/file: there is no home folder ~nobody-of-this-name; write"):
        read("~nobody-of-this-name/file")


@pytest.mark.parametrize("exists", [True, False])
def test_what_a_link_points_to_is_written(exists: bool, tmp_path: Path) -> None:
    target, link = tmp_path / "disk" / "weights-7", tmp_path / "latest.txt"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    link.symlink_to(Path("disk") / "weights-7")
    with atomic_path(link) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["weights-7"]


def test_a_pipe_is_refused_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"is a device or a pipe; give the name of a file: .*pipe"):
        atomic_write(tmp_path / "pipe", "text")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_folder_is_named_as_it_was_given(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "words.bin").mkdir()
    (tmp_path / "c.int8.json").mkdir()
    # There is no such sequence either, which would be said first if the frames came first.
    assert main(["vocab", "train", "nowhere", "--out", str(tmp_path / "words.bin"), "--model", "orb"]) == 1
    expected = f"cannot write the vocabulary {tmp_path}/words.bin: is a folder; give the name of a file"
    assert capsys.readouterr().err == f"gcnv2 vocab: {expected}\n"
    assert main(["quantize", "gcnv2_tiny", "nowhere", "--out", str(tmp_path / "c.int8.json")]) == 1
    assert capsys.readouterr().err == f"gcnv2 quantize: {tmp_path}/c.int8.json: is a folder; give the name of a file\n"
