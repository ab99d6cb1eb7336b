# SPDX-License-Identifier: Apache-2.0
"""Image messages to gray, colour and labels: every encoding, padding, byte order, and everything that can be broken."""

from __future__ import annotations

import array
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image

from gcnv2_ros.errors import MissingDependencyError
from gcnv2_ros.messages import color_conversion
from gcnv2_ros.messages.color_conversion import Converter, available_converters
from gcnv2_ros.messages.images import (
    ImageError,
    compressed_to_bgr,
    compressed_to_gray,
    compressed_to_labels,
    image_to_bgr,
    image_to_gray,
    image_to_labels,
)
from gcnv2_ros.messages.pixels import PICTURE_ENCODINGS
from gcnv2_ros.messages.stretch import Stretch

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


@pytest.mark.parametrize("encoding", PICTURE_ENCODINGS)
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


@pytest.mark.parametrize("encoding", PICTURE_ENCODINGS)
def test_every_encoding_gives_the_colour_image(encoding: str) -> None:
    decoded = image_to_bgr(message_of(encode(encoding), encoding))
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    if encoding.startswith(("yuv", "uyvy", "yuyv", "nv")):
        # Encoded above without chroma; luma 16 is black and 235 white.
        luma = cv2.cvtColor(smooth_colour(), cv2.COLOR_BGR2GRAY)[..., None].astype(float)
        expected = np.repeat(np.clip((luma - 16) * 255 / 219, 0, 255), 3, axis=2)
    elif encoding.startswith(("mono", "8UC1", "16UC1")):
        expected = np.repeat(cv2.cvtColor(smooth_colour(), cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
    else:
        expected = smooth_colour()
    inner = (slice(2, -2), slice(2, -2))
    tolerance = 3 if "bayer" in encoding else 1
    assert np.abs(decoded[inner].astype(float) - expected[inner]).max() <= tolerance


@pytest.mark.parametrize("decode", [image_to_gray, image_to_bgr])
@pytest.mark.parametrize("encoding", PICTURE_ENCODINGS)
def test_padded_rows_and_big_endian_values_do_not_matter(encoding: str, decode: Callable) -> None:
    pixels = encode(encoding)
    plain = decode(message_of(pixels, encoding))
    np.testing.assert_array_equal(decode(message_of(pixels, encoding, padding=6)), plain)
    swapped = pixels.astype(pixels.dtype.newbyteorder(">"))
    np.testing.assert_array_equal(decode(message_of(swapped, encoding, padding=3)), plain)


def test_the_encodings_of_drivers_are_all_known() -> None:
    colours = [f"{order}{bits}" for order in ("rgb", "bgr", "rgba", "bgra") for bits in (8, 16)]
    mosaics = [f"bayer_{pattern}{bits}" for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)]
    others = ["mono8", "mono16", "8UC1", "16UC1", "yuv422", "yuv422_yuy2", "uyvy", "yuyv", "nv12", "nv21"]
    assert set(PICTURE_ENCODINGS) >= {*colours, *mosaics, *others}


@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "rgb16", "bayer_grbg16"])
def test_a_stretch_makes_dark_16_bit_images_visible(encoding: str) -> None:
    dark = message_of((encode(encoding) // 257 * 4).astype(np.uint16), encoding)
    assert image_to_gray(dark).max() <= 4
    stretch = Stretch()
    gray = image_to_gray(dark, stretch)
    assert np.ptp(gray) > 150
    window = stretch.window
    assert np.ptp(image_to_bgr(dark, stretch)) > 150
    assert stretch.window == window


def test_a_stretch_leaves_8_bit_images_alone() -> None:
    message = message_of(encode("bgr8"), "bgr8")
    np.testing.assert_array_equal(image_to_gray(message, Stretch()), image_to_gray(message))


@pytest.mark.parametrize(
    ("encoding", "dtype"), [("mono8", "u1"), ("8UC1", "u1"), ("mono16", "<u2"), ("16UC1", ">u2"), ("32SC1", ">i4")]
)
def test_labels_keep_their_numbers(encoding: str, dtype: str) -> None:
    labels = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(dtype)
    decoded = image_to_labels(message_of(labels, encoding, padding=5))
    np.testing.assert_array_equal(decoded, labels)
    assert decoded.dtype.isnative


@pytest.mark.parametrize("encoding", ["bgr8", "32FC1", "bayer_rggb8"])
def test_pictures_with_colours_are_no_labels(encoding: str) -> None:
    with pytest.raises(ImageError, match="unknown here; known are mono8"):
        image_to_labels(message_of(np.zeros((HEIGHT, WIDTH, 3), np.uint8), encoding))


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
        ({"step": 63}, "short step", "needs steps of 64 bytes or more.*got 63"),
        ({"step": 0}, "short step", "got 0"),
        ({"height": 49}, "truncated", "needs at least 3136 bytes, got 3072"),
        ({"data": array.array("B")}, "truncated", "got 0"),
        ({"encoding": "mono16", "step": 128}, "truncated", "needs at least 6144"),
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


@settings(max_examples=400)
@given(
    encoding=st.one_of(st.sampled_from([*PICTURE_ENCODINGS, "32SC1", "32FC1"]), st.text(max_size=8)),
    width=st.integers(0, 9) | st.integers(0, 2**32 - 1),
    height=st.integers(0, 9) | st.integers(0, 2**32 - 1),
    step=st.integers(0, 80) | st.integers(0, 2**32 - 1),
    big_endian=st.integers(0, 255),
    length=st.integers(0, 700),
)
def test_no_message_does_more_than_an_image_error(
    encoding: str, width: int, height: int, step: int, big_endian: int, length: int
) -> None:
    message = SimpleNamespace(
        encoding=encoding,
        width=width,
        height=height,
        step=step,
        is_bigendian=big_endian,
        data=array.array("B", np.random.default_rng(length).bytes(length)),
    )
    for decode in (image_to_gray, image_to_bgr, image_to_labels):
        try:
            pixels = decode(message)
        except ImageError:
            continue
        assert pixels.shape == ((height, width, 3) if decode is image_to_bgr else (height, width))
        assert decode is image_to_labels or pixels.dtype == np.uint8


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


def test_compressed_images_give_the_colour_image() -> None:
    bgr = smooth_colour()
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(compressed_to_bgr(compressed("png", bgr)), bgr)
    assert np.abs(compressed_to_bgr(compressed("jpg", bgr)).astype(int) - bgr).max() <= 8
    np.testing.assert_array_equal(compressed_to_bgr(compressed("png", gray)), np.dstack([gray] * 3))


def test_compressed_16_bit_images_are_stretched() -> None:
    dark = (cv2.cvtColor(smooth_colour(), cv2.COLOR_BGR2GRAY) * np.uint16(4)).astype(np.uint16)
    message = compressed("png", dark)
    np.testing.assert_array_equal(compressed_to_gray(message, Stretch()), Stretch()(dark))
    assert compressed_to_gray(message).max() <= 4


def test_compressed_labels_keep_their_numbers() -> None:
    labels = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)
    np.testing.assert_array_equal(compressed_to_labels(compressed("png", labels)), labels)
    np.testing.assert_array_equal(compressed_to_labels(compressed("png", labels.astype(np.uint8))), labels % 256)
    with pytest.raises(ImageError, match="one channel"):
        compressed_to_labels(compressed("png", smooth_colour()))


@pytest.mark.parametrize("zeros", [1, 1000, *range(4090, 4100), 100_000])
def test_zeros_behind_a_compressed_image_are_no_fault(zeros: int) -> None:
    message = compressed("jpg", smooth_colour())
    padded = CompressedImage(format="jpeg", data=bytes(message.data) + bytes(zeros))
    np.testing.assert_array_equal(compressed_to_gray(padded), compressed_to_gray(message))
    cut_off = CompressedImage(format="jpeg", data=bytes(message.data)[:-200] + bytes(zeros))
    with pytest.raises(ImageError, match="before its end mark"):
        compressed_to_gray(cut_off)


def test_more_behind_the_end_of_a_jpeg_is_no_fault() -> None:
    message = compressed("jpg", np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8))
    whole = bytes(message.data)
    followed = CompressedImage(format="jpeg", data=whole + b"ftypmp42 a film")
    np.testing.assert_array_equal(compressed_to_gray(followed), compressed_to_gray(message))
    with pytest.raises(ImageError, match="before its end mark"):
        compressed_to_gray(CompressedImage(format="jpeg", data=whole[: len(whole) // 2] + b"ftypmp42 a film"))


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


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """Data with some bytes changed, and in half of the cases an end that is too early."""
    values = np.frombuffer(whole, np.uint8).copy()
    places = rng.integers(0, len(values), rng.integers(0, 12))
    values[places] = rng.integers(0, 256, len(places))
    return values[: rng.integers(0, 2 * len(values))].tobytes()


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), extension=st.sampled_from(["jpg", "png", "bmp", "tiff"]))
def test_no_compressed_data_do_more_than_an_image_error(seed: int, extension: str) -> None:
    whole = bytes(compressed(extension, smooth_colour()[:16, :16]).data)
    rng = np.random.default_rng(seed)
    for decode in 4 * [compressed_to_gray, compressed_to_bgr, compressed_to_labels]:
        try:
            pixels = decode(SimpleNamespace(format=extension, data=damaged(whole, rng)))
        except ImageError:
            continue
        assert pixels.ndim == (3 if decode is compressed_to_bgr else 2)


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
