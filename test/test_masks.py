# SPDX-License-Identifier: Apache-2.0
"""Masks: polarity, labels, borders, sizes and files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcnv2_ros.extraction import ExtractorOptions, create_extractor
from gcnv2_ros.masks import MaskError, MaskOptions, keep_mask, load_mask

SIZE = (8, 6)


def random_mask(seed: int, *, dtype: str = "u1", labels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, labels, SIZE[::-1]).astype(dtype)


@given(
    static=st.none() | st.integers(0, 100),
    dynamic=st.none() | st.integers(0, 100),
    keep=st.sampled_from(["nonzero", "zero"]),
    labels=st.lists(st.integers(0, 3), max_size=2),
    border=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_a_pixel_is_kept_if_every_part_keeps_it(
    static: int | None, dynamic: int | None, keep: str, labels: list[int], border: tuple[int, ...]
) -> None:
    masks = {
        name: None if seed is None else random_mask(seed) for name, seed in (("static", static), ("dynamic", dynamic))
    }
    found = keep_mask(SIZE, **masks, options=MaskOptions(keep, tuple(labels), border))
    if static is None and dynamic is None and not any(border):
        assert found is None
        return
    assert found.dtype == np.uint8
    left, top, right, bottom = border
    for row in range(SIZE[1]):
        for column in range(SIZE[0]):
            wanted = left <= column < SIZE[0] - right and top <= row < SIZE[1] - bottom
            if static is not None:
                wanted &= (masks["static"][row, column] != 0) == (keep == "nonzero")
            if dynamic is not None:
                value = masks["dynamic"][row, column]
                wanted &= value not in labels if labels else (value != 0) == (keep == "nonzero")
            assert bool(found[row, column]) == wanted


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "bool"])
def test_masks_of_all_integer_types_mean_the_same(dtype: str) -> None:
    mask = random_mask(0, labels=2)
    np.testing.assert_array_equal(keep_mask(SIZE, dynamic=mask.astype(dtype)), mask * 255)


def test_labels_beyond_a_byte_are_told_apart() -> None:
    labels = np.array([[1, 257], [513, -1]], np.int32)
    found = keep_mask((2, 2), dynamic=labels, options=MaskOptions(labels=(1, -1)))
    np.testing.assert_array_equal(found, [[0, 255], [255, 0]])


def test_masks_of_another_size_are_resized_without_new_labels() -> None:
    labels = np.repeat(np.array([[1, 3]], np.uint8), 2, axis=0)
    # A mixture of labels 1 and 3 would be a 2.
    found = keep_mask((8, 6), dynamic=labels, options=MaskOptions(labels=(2, 3)))
    np.testing.assert_array_equal(found, np.repeat([[255] * 4 + [0] * 4], 6, axis=0))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"keep": "white"}, "'nonzero' or 'zero'"),
        ({"border": (1, 2, 3)}, "four numbers"),
        ({"border": (0, -1, 0, 0)}, "none negative"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(MaskError, match=sentence):
        MaskOptions(**options)


@pytest.mark.parametrize(
    "mask", [np.zeros((6, 8, 3), np.uint8), np.zeros((0, 8), np.uint8), np.zeros((6, 8), np.float32)]
)
def test_arrays_that_are_no_masks_are_refused(mask: np.ndarray) -> None:
    for name in ("static", "dynamic"):
        with pytest.raises(MaskError, match=f"the {name} mask"):
            keep_mask(SIZE, **{name: mask})


def test_a_border_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(MaskError, match="leaves nothing of a 8x6 image"):
        keep_mask(SIZE, options=MaskOptions(border=(4, 0, 4, 0)))


def test_masks_are_read_from_files(tmp_path: Path) -> None:
    mask = random_mask(1) * 100
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    np.testing.assert_array_equal(load_mask(tmp_path / "mask.png"), mask)
    cv2.imwrite(str(tmp_path / "deep.png"), mask.astype(np.uint16))
    np.testing.assert_array_equal(load_mask(tmp_path / "deep.png") > 0, mask > 0)
    with pytest.raises(MaskError, match="cannot read"):
        load_mask(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.png", "empty.png"):
        with pytest.raises(MaskError, match="no image"):
            load_mask(tmp_path / name)


def test_keypoints_stay_out_of_what_is_masked() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (240, 320)).astype(np.uint8)
    people = np.zeros((120, 160), np.uint8)
    people[:, :80] = 11
    mask = keep_mask((320, 240), dynamic=people, options=MaskOptions(labels=(11,), border=(0, 60, 0, 0)))
    features = create_extractor(ExtractorOptions(model="orb")).extract(picture, mask=mask)
    assert len(features) > 50
    assert features.uv[:, 0].min() >= 159
    assert features.uv[:, 1].min() >= 59
