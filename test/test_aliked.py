# SPDX-License-Identifier: Apache-2.0
"""ALIKED by kornia: which files it takes for its weights, and where it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gcnv2_ros.extraction import ExtractionError, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.networks import create_network

feature = pytest.importorskip("kornia.feature", reason="kornia is not installed")

MODEL = "aliked-n16rot"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights under the names of the authors' file, which lacks one buffer."""
    torch.manual_seed(1)
    return {name: value for name, value in feature.ALIKED(MODEL).state_dict().items() if name != "dkd.hw_grid"}


def aliked(weights: Path | str, device: str = "cpu") -> Extractor:
    return create_extractor(ExtractorOptions(model=MODEL, weights=str(weights), device=device))


def test_the_authors_names_are_taken_from_the_home_folder_too(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "aliked.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (96, 128), dtype=np.uint8)
    with aliked("~/aliked.pth") as extractor:
        features = extractor.extract(image)
        assert (extractor.info.weights, extractor.info.device) == ("aliked.pth", "cpu")
    assert (features.metric, features.descriptors.shape[1]) == ("l2", 128)


def test_weights_of_something_else_are_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({f"teacher.{name}": value for name, value in state.items()}, tmp_path / "names.pth")
    lacking = rf"names\.pth is not the authors' {MODEL}\.pth: it lacks \d\d of the network's tensors"
    with pytest.raises(ExtractionError, match=lacking):
        aliked(tmp_path / "names.pth")
    lost = min(state)
    torch.save({name: value for name, value in state.items() if name != lost}, tmp_path / "part.pth")
    with pytest.raises(ExtractionError, match=rf"it lacks 1 of the network's tensors, '{lost}' among them"):
        aliked(tmp_path / "part.pth")
    torch.save(create_network("gcnv2_tiny").state_dict(), tmp_path / "shapes.pth")
    with pytest.raises(ExtractionError, match=r"^\S+shapes\.pth: not a state dictionary .* size mismatch"):
        aliked(tmp_path / "shapes.pth")
    (tmp_path / "text.pth").write_text("no tensors")
    with pytest.raises(ExtractionError, match="not a state dictionary"):
        aliked(tmp_path / "text.pth")


@pytest.mark.parametrize(
    ("device", "message"),
    [("gpu:1", "runs on cpu or cuda, not on gpu:1"), ("npu", "not on npu"), ("cuda", "finds no CUDA device")],
)
def test_devices_that_it_does_not_run_on_are_refused(
    device: str, message: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("about machines without a CUDA device")
    torch.save(state, tmp_path / "aliked.pth")
    with pytest.raises(ExtractionError, match=message):
        aliked(tmp_path / "aliked.pth", device)
