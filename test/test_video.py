# SPDX-License-Identifier: Apache-2.0
"""Videos: any frame in any order is the one that playing from the beginning shows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from gcnv2_ros.camera import Camera
from gcnv2_ros.sequences import SequenceError, VideoSequence, open_sequence
from gcnv2_ros.sequences import video as video_module

CODECS = [("clip.mp4", "mp4v"), ("clip.avi", "MJPG"), ("clip.avi", "XVID")]


def write_video(path: Path, codec: str = "mp4v", *, frames: int = 40, rate: float = 25.0) -> Path:
    """Noise that moves, so that every frame depends on the one before it."""
    rng = np.random.default_rng(1)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (64, 300, 3), dtype=np.uint8), (7, 7), 2)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (96, 64))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV does not write {codec}")
    for number in range(frames):
        writer.write(np.ascontiguousarray(scene[:, 3 * number : 3 * number + 96]))
    writer.release()
    return path


def played(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    shown = []
    while True:
        good, picture = capture.read()
        if not good:
            return shown
        shown.append(picture)


@pytest.mark.parametrize(("name", "codec"), CODECS)
@pytest.mark.parametrize("remembered", [0, 64 << 20])
def test_frames_in_any_order_are_those_of_playing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, remembered: int
) -> None:
    monkeypatch.setattr(video_module, "_REMEMBERED_BYTES", remembered)
    path = write_video(tmp_path / name, codec)
    truth = played(path)
    sequence = open_sequence(path)
    assert isinstance(sequence, VideoSequence)
    assert len(sequence) == len(truth) == 40
    for index in (0, 1, 17, 5, 39, -2, 18, 19, 0):
        frame = sequence[index]
        np.testing.assert_array_equal(frame.image, truth[index])
        assert frame.stamp_ns == 1_000_000_000 + 40_000_000 * (index % 40)
    assert sum(1 for _ in sequence) == 40


def test_a_frame_may_be_drawn_on(tmp_path: Path) -> None:
    sequence = open_sequence(write_video(tmp_path / "clip.mp4"))
    kept = sequence[3].image.copy()
    sequence[3].image[:] = 0
    np.testing.assert_array_equal(sequence[3].image, kept)


def test_the_rate_can_be_told_and_the_calibration_lies_beside(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", rate=30.0)
    camera = Camera(96, 64, 80.0, 80.0, 47.5, 31.5)
    (tmp_path / "clip.yaml").write_text(yaml.safe_dump(camera.to_dict()))
    sequence = open_sequence(path, rate=10.0)
    assert sequence.camera == camera
    assert sequence[3].stamp_ns == 1_300_000_000
    with pytest.raises(SequenceError, match="must be positive"):
        open_sequence(path, rate=0.0)
    with pytest.raises(SequenceError, match="the last of 40 comes later"):
        open_sequence(path, rate=1e-300)


def test_a_calibration_of_another_size_than_the_video_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4")
    (tmp_path / "clip.yaml").write_text(yaml.safe_dump(Camera(48, 32, 40.0, 40.0, 23.5, 15.5).to_dict()))
    with pytest.raises(SequenceError, match=rf"{path} is 96x64 and {tmp_path}/clip\.yaml is for 48x32"):
        open_sequence(path)[0]


def test_a_cut_off_video_gives_what_is_left_of_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sequence = open_sequence(path)
    assert 10 < len(sequence) < 30
    assert len(list(sequence)) == len(sequence)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video at all" * 100)
    with pytest.raises(SequenceError, match=r"clip\.mp4 cannot be opened as a video"):
        open_sequence(path)
    (tmp_path / "clip.xyz").write_bytes(b"abc")
    with pytest.raises(SequenceError, match=r"no sequence that can be read.*or a video, and found a file of 3 bytes"):
        open_sequence(tmp_path / "clip.xyz")
