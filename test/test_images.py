# SPDX-License-Identifier: Apache-2.0
"""Image messages to gray: every encoding, padding, byte order, and everything that can be broken."""

from __future__ import annotations

import array
import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image

from gcnv2_ros.errors import MissingDependencyError
from gcnv2_ros.ros import color_conversion
from gcnv2_ros.ros.color_conversion import Converter, available_converters
from gcnv2_ros.ros.images import ENCODINGS, ImageError, compressed_to_gray, image_to_gray

WIDTH, HEIGHT = 64, 48


def smooth_colour() -> np.ndarray:
    """A colour image without edges, uint8 (HEIGHT, WIDTH, 3) in BGR: Bayer and YUV keep it nearly as it is."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([60 + columns, 200 - 2 * rows, 40 + columns + rows], axis=-1).astype(np.uint8)


def message_of(pixels: np.ndarray, encoding: str, *, height: int = HEIGHT, padding: int = 0) -> Image:
    """An Image of pixels (rows, width) or (rows, width, channels), in their own byte order."""
    rows = pixels.reshape(len(pixels), -1)
    padded = [row.tobytes() + b"\xab" * padding for row in rows]
    message = Image(height=height, width=pixels.shape[1], encoding=encoding, step=len(padded[0]))
    message.is_bigendian = int(pixels.dtype.byteorder == ">")
    message.data = b"".join(padded)
    return message


def encode(encoding: str) -> np.ndarray:
    """The smooth image in an encoding, written down independently of the conversions under test."""
    bgr = smooth_colour()
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    blue, green, red = cv2.split(bgr)
    wide = encoding.endswith("16") or encoding == "16UC1"
    scale = np.uint16(257) if wide else np.uint8(1)
    if encoding in ("mono8", "mono16", "8UC1", "16UC1"):
        return gray * scale
    if encoding.startswith("bayer"):
        mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
        planes = {"r": red, "g": green, "b": blue}
        for index, colour in enumerate(encoding.removeprefix("bayer_")[:4]):
            row, column = divmod(index, 2)
            mosaic[row::2, column::2] = planes[colour][row::2, column::2]
        return mosaic * scale
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv"):
        chroma = np.full_like(gray, 128)
        return np.dstack([chroma, gray] if encoding in ("yuv422", "uyvy") else [gray, chroma])
    if encoding in ("nv12", "nv21"):
        return np.vstack([gray, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)])
    order = {"8UC3": "bgr", "8UC4": "bgra"}.get(encoding, encoding.rstrip("0123456789"))
    planes = {"b": blue, "g": green, "r": red, "a": np.full_like(blue, 255)}
    return np.dstack([planes[letter] for letter in order]) * scale


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_gray_image(encoding: str) -> None:
    expected = cv2.cvtColor(smooth_colour(), cv2.COLOR_BGR2GRAY)
    gray = image_to_gray(message_of(encode(encoding), encoding))
    assert gray.shape == (HEIGHT, WIDTH)
    assert gray.dtype == np.uint8
    assert gray.flags.c_contiguous
    # A Bayer mosaic shows each colour at every other pixel only; OpenCV leaves its border to itself.
    inner = (slice(2, -2), slice(2, -2))
    tolerance = 3 if "bayer" in encoding else 1
    assert np.abs(gray[inner].astype(int) - expected[inner]).max() <= tolerance


@pytest.mark.parametrize("encoding", ["mono8", "bgr8", "mono16", "bayer_rggb16", "yuyv", "nv12", "rgba8"])
def test_padded_rows_and_big_endian_values_do_not_matter(encoding: str) -> None:
    pixels = encode(encoding)
    plain = image_to_gray(message_of(pixels, encoding))
    np.testing.assert_array_equal(image_to_gray(message_of(pixels, encoding, padding=6)), plain)
    swapped = pixels.astype(pixels.dtype.newbyteorder(">"))
    np.testing.assert_array_equal(image_to_gray(message_of(swapped, encoding, padding=3)), plain)


def test_an_image_that_ends_without_the_last_padding_is_whole() -> None:
    message = message_of(encode("mono8"), "mono8", padding=8)
    message.data = message.data[:-8]
    np.testing.assert_array_equal(image_to_gray(message), encode("mono8"))


def test_sixteen_bits_are_scaled_alike_in_every_frame() -> None:
    dark, bright = np.full((40, 40), 1000, np.uint16), np.full((40, 40), 1000, np.uint16)
    bright[0, 0] = 65535
    assert image_to_gray(message_of(dark, "mono16", height=40))[5, 5] == 4
    assert image_to_gray(message_of(bright, "mono16", height=40))[5, 5] == 4
    assert image_to_gray(message_of(bright, "mono16", height=40))[0, 0] == 255


def test_messages_of_a_bag_reader_are_read_too() -> None:
    pixels = encode("bgr8")
    message = SimpleNamespace(
        width=WIDTH,
        height=HEIGHT,
        encoding="bgr8",
        step=3 * WIDTH,
        is_bigendian=0,
        data=np.frombuffer(pixels.tobytes(), np.uint8),
    )
    np.testing.assert_array_equal(image_to_gray(message), image_to_gray(message_of(pixels, "bgr8")))


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"encoding": "mono7"}, "unknown encoding", "'mono7'.*mono8"),
        ({"encoding": ""}, "unknown encoding", "''"),
        ({"encoding": "32FC1"}, "unknown encoding", "'32FC1'"),
        ({"width": 0}, "no pixels", "0x48"),
        ({"height": 0}, "no pixels", "64x0"),
        ({"step": 63}, "short step", "step is 63 bytes.*at least 64"),
        ({"step": 0}, "short step", "step is 0"),
        ({"height": 49}, "truncated", "have 3072 bytes.*needs 3136"),
        ({"data": array.array("B")}, "truncated", "have 0 bytes"),
        ({"encoding": "mono16", "step": 128}, "truncated", "needs 6144"),
        ({"encoding": "yuyv", "width": 31, "step": 62}, "odd size", "even width"),
        ({"encoding": "nv12", "height": 31}, "odd size", "even height"),
        ({"width": 4_294_967_295, "height": 4_294_967_295, "step": 4_294_967_295}, "truncated", "needs"),
    ],
)
def test_broken_images_are_refused_with_the_reason(change: dict[str, object], kind: str, sentence: str) -> None:
    message = message_of(encode("mono8"), "mono8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=sentence) as caught:
        image_to_gray(message)
    assert caught.value.kind == kind


@settings(max_examples=400, deadline=None)
@given(
    encoding=st.one_of(st.sampled_from(list(ENCODINGS)), st.text(max_size=8)),
    width=st.integers(0, 9),
    height=st.integers(0, 9),
    step=st.integers(0, 80),
    big_endian=st.integers(0, 255),
    data=st.binary(max_size=700),
)
def test_no_message_does_more_than_an_image_error(
    encoding: str, width: int, height: int, step: int, big_endian: int, data: bytes
) -> None:
    message = SimpleNamespace(
        encoding=encoding,
        width=width,
        height=height,
        step=step,
        is_bigendian=big_endian,
        data=array.array("B", data),
    )
    try:
        gray = image_to_gray(message)
    except ImageError:
        return
    assert gray.shape == (height, width)
    assert gray.dtype == np.uint8


def compressed(extension: str, pixels: np.ndarray) -> CompressedImage:
    """A CompressedImage in the format of a file extension."""
    return CompressedImage(format=extension, data=cv2.imencode(f".{extension}", pixels)[1].tobytes())


def test_compressed_images_give_the_gray_image() -> None:
    bgr = smooth_colour()
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(compressed_to_gray(compressed("png", gray)), gray)
    assert np.abs(compressed_to_gray(compressed("png", bgr)).astype(int) - gray).max() <= 1
    assert np.abs(compressed_to_gray(compressed("jpg", bgr)).astype(int) - gray).max() <= 4
    assert np.abs(compressed_to_gray(compressed("png", gray * np.uint16(257))).astype(int) - gray).max() <= 1


def test_zeros_behind_a_compressed_image_are_no_fault() -> None:
    message = compressed("jpg", smooth_colour())
    padded = CompressedImage(format="jpeg", data=bytes(message.data) + bytes(1000))
    np.testing.assert_array_equal(compressed_to_gray(padded), compressed_to_gray(message))


def test_an_orientation_tag_does_not_turn_the_image() -> None:
    data = bytes(compressed("jpg", smooth_colour()).data)
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    exif = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01" + entry + b"\x00\x00\x00\x00"
    tagged = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    turned = cv2.imdecode(np.frombuffer(tagged, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert turned.shape == (WIDTH, HEIGHT), "the tag of this test must be one that OpenCV knows"
    assert compressed_to_gray(CompressedImage(format="jpeg", data=tagged)).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("extension", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_compressed_images_that_end_too_early_are_refused(extension: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    message = compressed(extension, noise)
    message.data = message.data[: int(share * len(message.data))]
    with pytest.raises(ImageError) as caught:
        compressed_to_gray(message)
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (CompressedImage(format="jpeg"), "no data"),
        (CompressedImage(format="jpeg", data=b"no image at all"), "corrupt"),
        (CompressedImage(format="jpeg", data=b"\xff\xd8\xff\xd9"), "corrupt"),
        (CompressedImage(format="16UC1; compressedDepth png", data=b"\x89PNG"), "unknown encoding"),
    ],
)
def test_compressed_data_that_are_no_image_are_refused(message: CompressedImage, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        compressed_to_gray(message)
    assert caught.value.kind == kind


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_compressed_data_do_more_than_an_image_error(data: st.DataObject) -> None:
    whole = bytearray(compressed(data.draw(st.sampled_from(["jpg", "png", "bmp"])), smooth_colour()[:16, :16]).data)
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)))):
        whole[position] = value
    try:
        gray = compressed_to_gray(SimpleNamespace(format="", data=bytes(whole)))
    except ImageError:
        return
    assert gray.ndim == 2


@pytest.fixture
def fresh_converters() -> None:
    """The search for a library starts anew, before and after the test."""
    available_converters.cache_clear()
    yield
    available_converters.cache_clear()


def test_all_libraries_that_work_here_agree() -> None:
    pixels = encode("bgr8")
    results = [converter.convert(pixels, "bgr8", "mono8") for converter in available_converters()]
    assert results, "no library for colour images works here"
    for result in results[1:]:
        assert np.abs(result.astype(int) - results[0]).max() <= 1


@pytest.mark.usefixtures("fresh_converters")
@pytest.mark.parametrize("fault", [ImportError, AttributeError, SystemError])
def test_a_broken_cv_bridge_is_passed_over(monkeypatch: pytest.MonkeyPatch, fault: type[Exception]) -> None:
    # What an extension built for NumPy 1 does at its import under NumPy 2 differs by version.
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise fault("_ARRAY_API not found")

    broken = Broken("cv_bridge.boost.cv_bridge_boost")
    monkeypatch.setitem(sys.modules, "cv_bridge", ModuleType("cv_bridge"))
    monkeypatch.setitem(sys.modules, "cv_bridge.boost", ModuleType("cv_bridge.boost"))
    monkeypatch.setitem(sys.modules, "cv_bridge.boost.cv_bridge_boost", broken)
    assert [converter.library for converter in available_converters()] == ["rosbags-image"]
    np.testing.assert_allclose(
        image_to_gray(message_of(encode("bgr8"), "bgr8")), cv2.cvtColor(smooth_colour(), cv2.COLOR_BGR2GRAY), atol=1
    )


def test_what_one_library_cannot_convert_the_next_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pixels: np.ndarray, encoding: str, wanted: str) -> np.ndarray:
        raise RuntimeError("Unsupported conversion")

    expected = image_to_gray(message_of(encode("yuyv"), "yuyv"))
    working = available_converters()
    monkeypatch.setattr(color_conversion, "available_converters", lambda: (Converter("first", refuse), *working))
    np.testing.assert_array_equal(image_to_gray(message_of(encode("yuyv"), "yuyv")), expected)
    monkeypatch.setattr(color_conversion, "available_converters", lambda: (Converter("first", refuse),))
    with pytest.raises(ImageError, match="first: RuntimeError: Unsupported conversion"):
        image_to_gray(message_of(encode("yuyv"), "yuyv"))


@pytest.mark.usefixtures("fresh_converters")
def test_without_a_library_gray_images_are_read_and_colour_ones_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(color_conversion, "_LIBRARIES", ())
    np.testing.assert_array_equal(image_to_gray(message_of(encode("mono8"), "mono8")), encode("mono8"))
    with pytest.raises(MissingDependencyError, match="pip install rosbags-image"):
        image_to_gray(message_of(encode("bgr8"), "bgr8"))
