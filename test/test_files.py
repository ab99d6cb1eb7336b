# SPDX-License-Identifier: Apache-2.0
"""What is written to: the file that a link points to, and nothing that is no file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gcnv2_ros.cli.main import main
from gcnv2_ros.files import atomic_path, atomic_write


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
