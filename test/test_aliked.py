# SPDX-License-Identifier: Apache-2.0
"""ALIKED as a reference: a file that is not the authors' is refused, and does not run with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gcnv2_ros.extraction import ExtractionError, ExtractorOptions, create_extractor

kornia = pytest.importorskip("kornia.feature", reason="kornia is not installed")
MODEL = "aliked-n16rot"


def refused(path: Path, **options: str) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(ExtractionError) as raised:
        create_extractor(ExtractorOptions(model=MODEL, weights=str(path), **options))
    return str(raised.value)


def test_files_that_are_not_the_authors_are_refused_by_name(tmp_path: Path) -> None:
    state = kornia.ALIKED(MODEL).state_dict()
    torch.save({"state_dict": state}, tmp_path / "wrapped.pth")
    torch.save({name: value for name, value in state.items() if name != "block1.bn1.bias"}, tmp_path / "short.pth")
    (tmp_path / "text.pth").write_text("no weights")
    assert f"{tmp_path / 'wrapped.pth'}: not a state dictionary of {MODEL}: it has no " in refused(
        tmp_path / "wrapped.pth"
    )
    assert "it has no block1.bn1.bias and 0 more" in refused(tmp_path / "short.pth")
    assert "not a state dictionary" in refused(tmp_path / "text.pth")
    assert "give the path of aliked-n16rot.pth" in refused(tmp_path / "absent.pth")


def test_devices_that_are_not_there_are_told(tmp_path: Path) -> None:
    torch.save(kornia.ALIKED(MODEL).state_dict(), tmp_path / "aliked.pth")
    assert "one of Intel's" in refused(tmp_path / "aliked.pth", device="gpu")
    if not torch.cuda.is_available():
        assert "finds no CUDA device" in refused(tmp_path / "aliked.pth", device="cuda")
    with create_extractor(ExtractorOptions(model=MODEL, weights=str(tmp_path / "aliked.pth"))) as extractor:
        assert extractor.info.model == MODEL
