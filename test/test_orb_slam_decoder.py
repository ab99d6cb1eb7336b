# SPDX-License-Identifier: Apache-2.0
"""The C++ decoder of the features message against the Python one, and against messages that are broken."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed")

from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from gcnv2_ros.features import Features
from gcnv2_ros.ros.features_msg import FeaturesMessageError, decode_features, encode_features, point_dtype

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "test" / "cpp" / "decode_messages.cpp"
HEADERS = REPOSITORY / "examples" / "orb_slam"

DECODED = np.dtype(
    [(name, "<f4") for name in ("x", "y", "z", "u", "v", "response", "size", "angle", "depth", "right_u")]
    + [(name, "<i4") for name in ("octave", "track_id", "class_id")]
    + [("descriptor", "u1", 32)]
)
Decoder = Callable[[Sequence[Any]], list[np.ndarray | str]]


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    """Decodes messages with the C++ header, built with sanitizers: arrays, or the sentence of the error."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("the C++ decoder needs g++ to be tested (Debian: g++)")
    if shutil.which("pkg-config") is None:
        pytest.skip("the C++ decoder needs pkg-config to find OpenCV (Debian: pkg-config)")
    flags = subprocess.run(["pkg-config", "--cflags", "opencv4"], capture_output=True, text=True)
    if flags.returncode:
        pytest.skip("the C++ decoder needs OpenCV's headers to be tested (Debian: libopencv-dev)")
    folder = tmp_path_factory.mktemp("decoder")
    program = folder / "decode_messages"
    # OpenCV's headers are not ours to warn about.
    opencv = flags.stdout.replace("-I", "-isystem ").split()
    build = [
        compiler, "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-g", "-O1",
        "-D_GLIBCXX_ASSERTIONS", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
        *opencv, f"-I{HEADERS}", str(SOURCE), "-lopencv_core", "-o", str(program),
    ]  # fmt: skip
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr

    def decode(messages: Sequence[Any]) -> list[np.ndarray | str]:
        (folder / "in").write_bytes(b"".join(map(dump, messages)))
        # An allocation as large as a lying message asks for would be a fault too.
        environment = {**os.environ, "ASAN_OPTIONS": "max_allocation_size_mb=64:detect_leaks=0"}
        command = [str(program), str(folder / "in"), str(folder / "out")]
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert ran.returncode == 0, ran.stderr
        results = read_results((folder / "out").read_bytes())
        assert len(results) == len(messages)
        return results

    return decode


def dump(message: Any) -> bytes:
    """A message in the form that the test program reads."""
    data = bytes(message.data)
    parts = [
        struct.pack("<IIII", message.height, message.width, message.point_step, message.row_step),
        struct.pack("<BI", bool(message.is_bigendian), len(message.fields)),
    ]
    for field in message.fields:
        name = field.name.encode()
        parts += [struct.pack("<I", len(name)), name, struct.pack("<IBI", field.offset, field.datatype, field.count)]
    return b"".join([*parts, struct.pack("<I", len(data)), data])


def read_results(content: bytes) -> list[np.ndarray | str]:
    results: list[np.ndarray | str] = []
    position = 0
    while position < len(content):
        accepted, length = struct.unpack_from("<BI", content, position)
        position += 5
        if accepted:
            results.append(np.frombuffer(content, DECODED, length, position))
            position += length * DECODED.itemsize
        else:
            results.append(content[position : position + length].decode())
            position += length
    return results


def random_message(rng: np.random.Generator, count: int, *, rays: bool = True) -> PointCloud2:
    """A valid message in which known and unknown values are mixed."""

    def some(values: np.ndarray, unknown: float) -> np.ndarray:
        return np.where(rng.random(count) < 0.3, unknown, values)

    features = Features(
        rng.uniform(-0.5, 640, (count, 2)),
        np.sort(rng.normal(size=count))[::-1],
        rng.integers(0, 256, (count, 32), dtype=np.uint8),
        (640, 480),
        size=rng.uniform(1, 64, count),
        angle=some(rng.uniform(0, 360, count), -1.0),
        depth=some(rng.uniform(0.1, 90, count), np.nan),
        right_u=some(rng.uniform(0, 640, count), -1.0),
        track_id=some(rng.integers(0, 2**31 - 1, count), -1).astype(np.int32),
    )
    viewing = np.column_stack([rng.normal(size=(count, 2)), np.ones(count)]) if rays else None
    return encode_features(features, Header(frame_id="camera"), viewing)


def assert_agrees(found: np.ndarray | str, message: Any) -> None:
    """The C++ decoder's arrays hold what the Python decoder makes of the message."""
    assert not isinstance(found, str), found
    received = decode_features(message)
    features = received.features
    expected = {
        "u": features.uv[:, 0],
        "v": features.uv[:, 1],
        "octave": received.octave,
        "class_id": np.full(len(features), -1),
        "descriptor": features.descriptors,
        **{axis: received.rays[:, index] for index, axis in enumerate("xyz")},
        **{name: getattr(features, name) for name in ("response", "size", "angle", "depth", "right_u", "track_id")},
    }
    assert set(expected) == set(DECODED.names or ())
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def as_struct(message: PointCloud2) -> SimpleNamespace:
    """A copy that takes any value, which ROS's classes do not."""
    fields = [SimpleNamespace(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count) for f in message.fields]
    names = ("header", "height", "width", "point_step", "row_step", "is_bigendian")
    return SimpleNamespace(fields=fields, data=bytes(message.data), **{name: getattr(message, name) for name in names})


def field_of(message: Any, name: str) -> Any:
    return next(field for field in message.fields if field.name == name)


def test_it_agrees_with_the_python_decoder_on_random_clouds(decoder: Decoder) -> None:
    rng = np.random.default_rng(0)
    messages = [random_message(rng, count, rays=bool(count % 2)) for count in (0, 1, 2, 3, 100, 999, 1000)]
    messages += [random_message(rng, int(count)) for count in rng.integers(0, 60, 200)]
    for found, message in zip(decoder(messages), messages):
        assert_agrees(found, message)


def test_fields_are_found_by_name_whatever_the_layout(decoder: Decoder) -> None:
    """Shuffled fields, gaps, unknown fields, rows with padding and missing optional fields."""
    rng = np.random.default_rng(1)
    messages = []
    for _ in range(100):
        source = random_message(rng, int(rng.integers(1, 40)))
        points = np.frombuffer(bytes(source.data), point_dtype())
        dropped = set(rng.choice(["x", "size", "angle", "octave", "track_id", "depth", "right_u"], 3))
        names = [str(name) for name in rng.permutation(points.dtype.names) if name not in dropped]
        offsets, end = [], 0
        for name in names:
            end += int(rng.integers(0, 9))
            offsets.append(end)
            end += points.dtype[name].itemsize
        formats = [points.dtype[name] for name in names]
        step = end + int(rng.integers(0, 9))
        layout = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": step})
        height = int(rng.choice([size for size in range(1, len(points) + 1) if len(points) % size == 0]))
        width = len(points) // height
        row_step = width * step + int(rng.integers(0, 50))
        data = rng.integers(0, 256, height * row_step, dtype=np.uint8)
        rows = np.ndarray((height, width), layout, data.data, strides=(row_step, step))
        for name in names:
            rows[name] = points[name].reshape(rows[name].shape)
        message = as_struct(source)
        fields = [field_of(source, name) for name in names]
        message.fields = [
            SimpleNamespace(name=f.name, offset=offset, datatype=f.datatype, count=f.count)
            for f, offset in zip(fields, offsets)
        ]
        message.fields.insert(0, SimpleNamespace(name="rgb", offset=0, datatype=200, count=2**32 - 1))
        message.height, message.width, message.point_step, message.row_step = height, width, step, row_step
        # The last row need not have its padding.
        message.data = data.tobytes()[: (height - 1) * row_step + width * step]
        messages.append(message)
    for found, message in zip(decoder(messages), messages):
        assert_agrees(found, message)


@dataclass(frozen=True)
class Breakage:
    name: str
    apply: Callable[[Any], None]
    sentence: str


def setting(field: str, **values: int) -> Callable[[Any], None]:
    return lambda message: field_of(message, field).__dict__.update(values)


def sizes(**values: Any) -> Callable[[Any], None]:
    return lambda message: message.__dict__.update(values)


def without(name: str) -> Callable[[Any], None]:
    return lambda message: message.fields.remove(field_of(message, name))


def point_value(name: str, index: int, value: float) -> Callable[[Any], None]:
    def apply(message: Any) -> None:
        points = np.frombuffer(message.data, point_dtype()).copy()
        points[name][index] = value
        message.data = points.tobytes()

    return apply


MOST = 2**32 - 1
BREAKAGES = [
    *(Breakage(f"no {name}", without(name), f"'{name}'") for name in ("u", "v", "response", "descriptor")),
    Breakage("doubled field", lambda message: message.fields.append(field_of(message, "u")), "twice"),
    Breakage("double u", setting("u", datatype=8), "datatype 8"),
    Breakage("float descriptor", setting("descriptor", datatype=7), "datatype 7"),
    Breakage("unknown datatype", setting("depth", datatype=99), "datatype 99"),
    Breakage("two v", setting("v", count=2), "count 2"),
    Breakage("no v", setting("v", count=0), "count 0"),
    Breakage("short descriptor", setting("descriptor", count=31), "count 31"),
    Breakage("enormous descriptor", setting("descriptor", count=MOST), "count 4294967295"),
    Breakage("field past the point", setting("right_u", offset=77), "ends at byte 81"),
    Breakage("offset that wraps", setting("u", offset=MOST - 1), "ends at byte 4294967298"),
    Breakage("point_step 0", sizes(point_step=0), "point of 0 bytes"),
    Breakage("point_step too small", sizes(point_step=79), "point of 79 bytes"),
    Breakage("point_step too large", sizes(point_step=81), "too few"),
    Breakage("enormous point_step", sizes(point_step=MOST), "too few"),
    Breakage("width one too large", sizes(width=11), "too few"),
    Breakage("width * point_step wraps to 0", sizes(width=2**30, point_step=2**7, row_step=0), "too few"),
    Breakage("enormous width", sizes(width=MOST), "too few"),
    Breakage("enormous everything", sizes(height=MOST, width=MOST, point_step=MOST, row_step=MOST), "row_step"),
    Breakage("enormous height", sizes(height=MOST), "too few"),
    Breakage("rows that overlap", sizes(height=10, width=2, row_step=80), "row_step"),
    Breakage("row_step 0", sizes(height=2, width=5, row_step=0), "row_step"),
    Breakage("enormous row_step", sizes(height=2, width=5, row_step=MOST), "too few"),
    Breakage("no data", sizes(data=b""), "has 0 bytes"),
    Breakage("big-endian", sizes(is_bigendian=True), "big-endian"),
    Breakage("NaN u", point_value("u", 3, np.nan), "point 3"),
    Breakage("infinite v", point_value("v", 9, np.inf), "point 9"),
    Breakage("NaN response", point_value("response", 0, np.nan), "point 0"),
    Breakage("rising response", point_value("response", 5, 1e6), "point 5"),
    Breakage("octave 1", point_value("octave", 2, 1), "octave 1"),
    Breakage("octave -1", point_value("octave", 2, -1), "octave -1"),
]


def test_what_is_wrong_is_refused_by_name(decoder: Decoder) -> None:
    messages = []
    for breakage in BREAKAGES:
        message = as_struct(random_message(np.random.default_rng(2), 10))
        breakage.apply(message)
        messages.append(message)
    for breakage, found in zip(BREAKAGES, decoder(messages)):
        assert isinstance(found, str), f"{breakage.name} is accepted"
        assert breakage.sentence in found, breakage.name


def test_broken_messages_are_refused_or_read_as_python_reads_them(decoder: Decoder) -> None:
    """Thousands of messages with a few random faults each; the sanitizers watch every byte that is read."""
    rng = np.random.default_rng(3)
    odd = [0, 1, 2, 4, 31, 32, 33, 47, 48, 76, 79, 80, 81, 160, 2**16, 2**31 - 1, 2**31, MOST - 3, MOST]
    messages = []
    for _ in range(4000):
        message = as_struct(random_message(rng, int(rng.integers(0, 6))))
        for _ in range(int(rng.integers(1, 4))):
            kind = int(rng.integers(0, 7))
            field = message.fields[int(rng.integers(0, len(message.fields)))]
            if kind == 0:
                name = str(rng.choice(["height", "width", "point_step", "row_step"]))
                setattr(message, name, int(rng.choice(odd)))
            elif kind == 1:
                setattr(field, str(rng.choice(["offset", "count"])), int(rng.choice(odd)))
            elif kind == 2:
                field.datatype = int(rng.integers(0, 12))
            elif kind == 3:
                field.name = str(rng.choice(["u", "v", "", "descriptor", "ü" * 50, "response", "octave"]))
            elif kind == 4:
                message.data = message.data[: int(rng.integers(0, len(message.data) + 1))]
            elif kind == 5 and message.data:
                flipped = bytearray(message.data)
                flipped[int(rng.integers(0, len(flipped)))] ^= int(rng.integers(1, 256))
                message.data = bytes(flipped)
            elif kind == 6:
                height = int(rng.integers(1, 4))
                message.height, message.width = height, int(rng.integers(0, 4))
                message.row_step = message.width * message.point_step + int(rng.integers(-2, 3)) * 40 & MOST
        messages.append(message)
    accepted = 0
    for found, message in zip(decoder(messages), messages):
        if isinstance(found, str):
            assert "the features message" in found
            continue
        accepted += 1
        if message.point_step > 2**31 - 1:
            # NumPy has no type of that size; such a message has no points.
            assert len(found) == 0
            continue
        try:
            assert_agrees(found, message)
        except FeaturesMessageError as error:
            raise AssertionError(f"C++ accepts what Python refuses: {error}") from error
    assert 200 < accepted < 3000
