# SPDX-License-Identifier: Apache-2.0
"""Depth messages to metres: raw, PNG and compressedDepth, and everything that can be broken."""

from __future__ import annotations

import array
import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.messages.depth import depth_from_compressed, depth_from_image
from gcnv2_ros.messages.pixels import DEPTH_ENCODINGS, ImageError

WIDTH, HEIGHT = 24, 16


def millimetres() -> np.ndarray:
    """A wall that recedes, with a hole: uint16 (HEIGHT, WIDTH)."""
    depth = (500 + 150 * np.arange(WIDTH) + np.arange(HEIGHT)[:, None]).astype(np.uint16)
    depth[3:5, 6:9] = 0
    return depth


def expected() -> np.ndarray:
    depth = millimetres()
    return np.where(depth > 0, depth / np.float32(1000), np.float32(np.nan))


def raw(pixels: np.ndarray, encoding: str, *, padding: int = 0) -> SimpleNamespace:
    """A depth message of pixels in their own byte order."""
    rows = [row.tobytes() + b"\xcd" * padding for row in pixels]
    return SimpleNamespace(
        width=pixels.shape[1],
        height=len(pixels),
        encoding=encoding,
        step=len(rows[0]),
        is_bigendian=int(pixels.dtype.byteorder == ">"),
        data=array.array("B", b"".join(rows)),
    )


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def compressed(data: bytes, kind: str = "16UC1; compressedDepth png") -> SimpleNamespace:
    return SimpleNamespace(format=kind, data=array.array("B", data))


@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize(
    ("encoding", "dtype"), [("16UC1", "<u2"), ("16UC1", ">u2"), ("mono16", "<u2"), ("32FC1", "<f4"), ("32FC1", ">f4")]
)
def test_raw_depth_is_read_in_either_unit_and_byte_order(encoding: str, dtype: str, padding: int) -> None:
    values = (millimetres() if "u2" in dtype else expected()).astype(dtype)
    depth = depth_from_image(raw(values, encoding, padding=padding))
    assert depth.dtype == np.float32
    assert depth.dtype.isnative
    np.testing.assert_array_equal(depth, expected())


def test_compressed_depth_in_millimetres_is_exact() -> None:
    np.testing.assert_array_equal(depth_from_compressed(compressed(bytes(12) + png(millimetres()))), expected())
    np.testing.assert_array_equal(depth_from_compressed(compressed(png(millimetres()), "png")), expected())


def test_compressed_depth_of_floats_is_unquantised() -> None:
    # As compressed_depth_image_transport does it: a finer step near by than far away.
    most, quantum = 10.0, 100.0
    a = quantum * (quantum + 1.0)
    b = 1.0 - a / most
    values = np.where(millimetres() > 0, np.rint(a / np.nan_to_num(expected(), nan=1.0) + b), 0).astype(np.uint16)
    head = struct.pack("<iff", 0, a, b)
    depth = depth_from_compressed(compressed(head + png(values), "32FC1; compressedDepth png"))
    np.testing.assert_array_equal(np.isnan(depth), np.isnan(expected()))
    known = np.isfinite(depth)
    assert np.abs(depth - expected())[known].max() < 0.5 * 4.0**2 / a * 1.1


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (compressed(b""), "no data"),
        (compressed(bytes(12)), "truncated"),
        (compressed(bytes(12) + png(millimetres())[:-20]), "truncated"),
        (compressed(bytes(12) + b"\x89PNG and no more IEND"), "corrupt"),
        (compressed(bytes(12) + png(millimetres()).replace(b"IDAT", b"IDAX")), "corrupt"),
        (compressed(bytes(12) + b"\x01\x02\x03\x04\x05", "16UC1; compressedDepth rvl"), "unknown encoding"),
        (compressed(bytes(40), "16UC1; compressedDepth"), "unknown encoding"),
        (compressed(bytes(12) + png(millimetres().astype(np.uint8))), "unknown encoding"),
        (compressed(png(np.zeros((4, 4, 3), np.uint8)), "png"), "unknown encoding"),
        (compressed(b"", "png"), "no data"),
    ],
)
def test_broken_compressed_depth_is_refused_with_the_reason(message: SimpleNamespace, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        depth_from_compressed(message)
    assert caught.value.kind == kind


def test_pictures_are_no_depth() -> None:
    with pytest.raises(ImageError, match="'bgr8' is not one of depth: 16UC1"):
        depth_from_image(raw(np.zeros((4, 12), np.uint8), "bgr8"))


@settings(max_examples=300)
@given(
    encoding=st.sampled_from([*DEPTH_ENCODINGS, "mono8", ""]),
    width=st.integers(0, 9) | st.integers(0, 2**32 - 1),
    height=st.integers(0, 9) | st.integers(0, 2**32 - 1),
    step=st.integers(0, 80) | st.integers(0, 2**32 - 1),
    big_endian=st.integers(0, 255),
    length=st.integers(0, 400),
)
def test_no_raw_message_does_more_than_an_image_error(
    encoding: str, width: int, height: int, step: int, big_endian: int, length: int
) -> None:
    data = array.array("B", np.random.default_rng(length).bytes(length))
    message = SimpleNamespace(
        encoding=encoding, width=width, height=height, step=step, is_bigendian=big_endian, data=data
    )
    try:
        depth = depth_from_image(message)
    except ImageError:
        return
    assert depth.shape == (height, width)
    assert (np.isnan(depth) | ((depth > 0) & np.isfinite(depth))).all()


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["16UC1; compressedDepth png", "32FC1; compressedDepth png", "32FC1; compressedDepth", "png"]),
)
def test_no_compressed_message_does_more_than_an_image_error(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    whole = np.frombuffer(struct.pack("<iff", 0, 10100.0, -1009.0) + png(millimetres()), np.uint8)
    for start in (0, 12, *rng.integers(0, 20, 8)):
        values = whole.copy()
        places = rng.integers(0, len(values), rng.integers(0, 12))
        values[places] = rng.integers(0, 256, len(places))
        try:
            depth = depth_from_compressed(compressed(values[start : rng.integers(0, 2 * len(whole))].tobytes(), kind))
        except ImageError:
            continue
        assert depth.ndim == 2
        assert (np.isnan(depth) | ((depth > 0) & np.isfinite(depth))).all()
