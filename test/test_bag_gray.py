# SPDX-License-Identifier: Apache-2.0
"""A bag's frames have the gray images that the node makes of the same messages, in whatever order they are read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.messages.images import compressed_to_gray, image_to_gray
from gcnv2_ros.messages.pixels import PICTURE_ENCODINGS
from gcnv2_ros.messages.stretch import Stretch
from gcnv2_ros.sequences import RosbagSequence, open_sequence
from gcnv2_ros.sequences.bag_writer import BagOutput, new_bag

WIDTH, HEIGHT = 16, 12
FRAME_NS = 33_000_000
FILES = ("png mono8", "png bgr8", "png mono16", "png bgr16", "jpg mono8", "jpg bgr8")
WIDE = [name for name in (*PICTURE_ENCODINGS, *FILES) if name.endswith("16") or name == "16UC1"]


def pixels_of(encoding: str, level: int, seed: int) -> np.ndarray:
    """Random pixels about a level, 0 to 200, of which 16 bits use a small part."""
    layout = PICTURE_ENCODINGS[encoding]
    rows = HEIGHT * 3 // 2 if layout.chroma_rows else HEIGHT
    shape = (rows, WIDTH) if layout.channels == 1 else (rows, WIDTH, layout.channels)
    values = np.random.default_rng(seed).integers(level, level + 56, shape)
    return (values if layout.dtype == "u1" else 3000 + 16 * values).astype("<" + layout.dtype)


def message_of(output: BagOutput, kind: str, index: int, level: int) -> Any:
    """An image message: raw for the name of an encoding, compressed for a file's ending before the name."""
    header = output.header((index + 1) * FRAME_NS, "camera")
    pixels = pixels_of(kind.split()[-1], level, index)
    if kind in FILES:
        data = cv2.imencode(f".{kind[:3]}", pixels)[1].ravel()
        return output.message("sensor_msgs/CompressedImage", header=header, format=kind, data=data)
    return output.message(
        "sensor_msgs/Image",
        header=header,
        height=HEIGHT,
        width=WIDTH,
        encoding=kind,
        is_bigendian=0,
        step=pixels[0].nbytes,
        data=pixels.reshape(-1).view(np.uint8),
    )


def recorded(folder: Path, kind: str, levels: list[int]) -> tuple[RosbagSequence, list[Any]]:
    """A recording of one camera, and its messages."""
    with new_bag(folder / "clip.mcap") as output:
        messages = [message_of(output, kind, index, level) for index, level in enumerate(levels)]
        for index, message in enumerate(messages):
            output.write("/image", (index + 1) * FRAME_NS, message)
    sequence = open_sequence(folder / "clip.mcap", image="/image", depth="")
    assert isinstance(sequence, RosbagSequence)
    return sequence, messages


@given(
    kind=st.sampled_from([*PICTURE_ENCODINGS, *FILES]),
    levels=st.lists(st.integers(0, 200), min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=150, deadline=None)
def test_a_frame_has_the_gray_image_that_the_node_makes_of_its_message(
    kind: str, levels: list[int], order: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sequence, messages = recorded(Path(folder), kind, levels)
        node = Stretch()
        decode = compressed_to_gray if kind in FILES else image_to_gray
        expected = [decode(message, node) for message in messages]
        places = [*range(len(levels)), *range(len(levels))]
        order.shuffle(places)
        for place in places:
            np.testing.assert_array_equal(sequence[place].gray, expected[place])
        sequence.close()


@pytest.mark.parametrize("kind", WIDE)
def test_a_picture_of_16_bits_is_seen_through_the_window_of_its_gray_image(kind: str, tmp_path: Path) -> None:
    sequence, _ = recorded(tmp_path, kind, [40, 40])
    frame = sequence[1]
    assert np.ptp(frame.gray) > 120
    assert np.ptp(frame.image) > 120
    assert frame.image.ndim == 2 or abs(float(frame.image.mean()) - float(frame.gray.mean())) < 10


def test_a_damaged_image_does_not_keep_later_ones_from_being_read(tmp_path: Path) -> None:
    with new_bag(tmp_path / "clip.mcap") as output:
        messages = [message_of(output, "mono16", index, 40) for index in range(3)]
        messages[1].data = messages[1].data[:-20]
        for index, message in enumerate(messages):
            output.write("/image", (index + 1) * FRAME_NS, message)
    node = Stretch()
    expected = [image_to_gray(message, node) for message in (messages[0], messages[2])]
    sequence = open_sequence(tmp_path / "clip.mcap")
    np.testing.assert_array_equal(sequence[2].gray, expected[1])
    np.testing.assert_array_equal(sequence[0].gray, expected[0])


def test_the_right_camera_has_a_window_of_its_own(tmp_path: Path) -> None:
    with new_bag(tmp_path / "clip.mcap") as output:
        for index in range(2):
            for topic, level in (("/left/image", 10), ("/right/image", 180)):
                output.write(topic, (index + 1) * FRAME_NS, message_of(output, "mono16", index, level))
    frame = open_sequence(tmp_path / "clip.mcap")[1]
    np.testing.assert_array_equal(frame.right_gray, frame.gray)
