# SPDX-License-Identifier: Apache-2.0
"""Bags: what is written in one format comes back from all of them, and what a bag lacks is named."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from gcnv2_ros.camera import Camera
from gcnv2_ros.cli.main import main
from gcnv2_ros.frame_features import is_rectified_pair
from gcnv2_ros.geometry import invert_pose, pose_from_quaternion
from gcnv2_ros.sequences import Frame, RosbagSequence, Sequence, SequenceError, open_sequence
from gcnv2_ros.sequences.bag_images import decode_depth, decode_image
from gcnv2_ros.sequences.bag_writer import write_bag

STORE = get_typestore(Stores.ROS2_HUMBLE)
CAMERA = Camera(8, 6, 10.0, 10.0, 3.5, 2.5, "plumb_bob", (-0.1, 0.01, 0.001, 0.0, 0.0), frame_id="camera")
SECOND = 1_000_000_000
NAMES = {"mcap": "clip.mcap", "mcap folder": "clip_mcap", "sqlite3": "clip_sqlite3", "ros1": "clip.bag"}


class Frames(Sequence):
    """Frames in memory, with the cameras of another sequence."""

    def __init__(self, frames: Iterable[Frame], like: Sequence | None = None, camera: Camera | None = None) -> None:
        self.name = "frames"
        self.frames = list(frames)
        self.camera = like.camera if like else camera
        self.right_camera = like.right_camera if like else None
        self.stereo = like.stereo if like else None

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[self._position(index)]


@pytest.fixture(scope="module")
def room() -> Frames:
    rendered = open_sequence("room:frames=4,width=96,height=64,baseline=0.1,texel=0.02,seed=2")
    return Frames(rendered, rendered)


@pytest.fixture(scope="module")
def bags(room: Frames, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The room as a bag in every format."""
    folder = tmp_path_factory.mktemp("bags")
    paths = {kind: folder / name for kind, name in NAMES.items()}
    for kind, path in paths.items():
        write_bag(room, path, bag_format="sqlite3" if kind == "sqlite3" else None)
    return paths


def message(kind: str, **fields: Any) -> Any:
    package, name = kind.split("/")
    return STORE.types[f"{package}/msg/{name}"](**fields)


def header(stamp: int, frame: str = "camera") -> Any:
    time = message("builtin_interfaces/Time", sec=stamp // SECOND, nanosec=stamp % SECOND)
    return message("std_msgs/Header", stamp=time, frame_id=frame)


def image(
    stamp: int, pixels: np.ndarray, encoding: str = "mono8", *, big_endian: bool = False, padding: int = 0
) -> Any:
    height, width = pixels.shape[:2]
    rows = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<")).reshape(height, -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return message(
        "sensor_msgs/Image",
        header=header(stamp),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=rows.shape[1],
        data=rows.ravel(),
    )


def compressed(stamp: int, name: str, data: bytes) -> Any:
    return message("sensor_msgs/CompressedImage", header=header(stamp), format=name, data=np.frombuffer(data, np.uint8))


def camera_info(stamp: int, camera: Camera = CAMERA, *, calibrated: bool = True) -> Any:
    fields = camera.camera_info_fields()
    arrays = {name: np.array(fields.pop(name)) * (1.0 if calibrated else 0.0) for name in "dkrp"}
    roi = message("sensor_msgs/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return message(
        "sensor_msgs/CameraInfo", header=header(stamp), **fields, **arrays, binning_x=0, binning_y=0, roi=roi
    )


def transform(stamp: int, parent: str, child: str, pose: list[float]) -> Any:
    return message(
        "geometry_msgs/TransformStamped",
        header=header(stamp, parent),
        child_frame_id=child,
        transform=message(
            "geometry_msgs/Transform",
            translation=message("geometry_msgs/Vector3", **dict(zip("xyz", pose[:3]))),
            rotation=message("geometry_msgs/Quaternion", **dict(zip("xyzw", pose[3:]))),
        ),
    )


def tf(*transforms: Any) -> Any:
    return message("tf2_msgs/TFMessage", transforms=list(transforms))


def pose_stamped(stamp: int, x: float) -> Any:
    pose = message(
        "geometry_msgs/Pose",
        position=message("geometry_msgs/Point", x=x, y=0.0, z=0.0),
        orientation=message("geometry_msgs/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    )
    return message("geometry_msgs/PoseStamped", header=header(stamp, "map"), pose=pose)


def record(
    path: Path,
    messages: Iterable[tuple[str, int, Any]],
    storage: StoragePlugin = StoragePlugin.SQLITE3,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """A rosbag2 folder with (topic, time of recording, message)."""
    connections: dict[str, Any] = {}
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        for topic, recorded, content in messages:
            kind = content.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], recorded, STORE.serialize_cdr(content, kind))
    return path


def picture(seed: int, *, channels: int = 1) -> np.ndarray:
    shape = (6, 8) if channels == 1 else (6, 8, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def clip(
    stamps: Iterable[int] = range(SECOND, 5 * SECOND, SECOND), topic: str = "/image"
) -> list[tuple[str, int, Any]]:
    """Images recorded one a second, whatever their stamps; the picture tells the place in the recording."""
    return [(topic, (k + 1) * SECOND, image(stamp, picture(k))) for k, stamp in enumerate(stamps)]


def test_all_formats_give_back_what_was_written(room: Frames, bags: dict[str, Path]) -> None:
    first = open_sequence(bags["mcap"])
    for path in bags.values():
        read = open_sequence(path)
        assert isinstance(read, RosbagSequence)
        assert read.notes == []
        assert (read.camera, read.right_camera, read.baseline) == (room.camera, room.right_camera, 0.1)
        assert read.camera.frame_id == room.camera.frame_id
        assert len(read) == len(room) == 4
        for index in (3, 0, 2, 1, -1):
            frame, truth = read[index], room[index]
            assert (frame.index, frame.stamp_ns) == (truth.index, truth.stamp_ns)
            np.testing.assert_array_equal(frame.image, truth.image)
            np.testing.assert_array_equal(frame.right, truth.right)
            np.testing.assert_array_equal(frame.depth, truth.depth)
            np.testing.assert_allclose(frame.pose, truth.pose, atol=1e-14)
            np.testing.assert_array_equal(frame.pose, first[index].pose)


@pytest.mark.parametrize("kind", NAMES)
def test_bags_are_plain_messages_to_other_readers(room: Frames, bags: dict[str, Path], kind: str) -> None:
    with AnyReader([bags[kind]]) as reader:
        found: dict[str, list[Any]] = {}
        for connection, recorded, data in reader.messages():
            content = reader.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append(content)
            stamp = (content.transforms[0] if connection.topic == "/tf" else content).header.stamp
            assert recorded == stamp.sec * SECOND + stamp.nanosec
    assert {topic: len(contents) for topic, contents in found.items()} == dict.fromkeys(
        ("/image", "/camera_info", "/depth", "/right/image", "/right/camera_info", "/tf", "/ground_truth"), 4
    )
    for index, truth in enumerate(room):
        shown, depth, odometry = (found[topic][index] for topic in ("/image", "/depth", "/ground_truth"))
        assert (shown.encoding, shown.step, shown.header.frame_id) == ("mono8", 96, "camera")
        assert shown.data.tobytes() == truth.image.tobytes()
        assert (depth.encoding, depth.step) == ("32FC1", 4 * 96)
        assert depth.data.tobytes() == truth.depth.tobytes()
        moved = found["/tf"][index].transforms[0]
        assert (moved.header.frame_id, moved.child_frame_id, odometry.child_frame_id) == ("world", "camera", "camera")
        assert moved.transform.rotation == odometry.pose.pose.orientation
        assert moved.transform.translation.x == truth.pose[0, 3]
    info = found["/right/camera_info"][0]
    p = info.P if kind == "ros1" else info.p
    assert p[3] == pytest.approx(-0.1 * room.camera.fx)


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_messages_are_what_ros_2_itself_reads(room: Frames, bags: dict[str, Path], kind: str) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="ROS 2 is not installed")
    from nav_msgs.msg import Odometry
    from sensor_msgs.msg import CameraInfo, Image

    types = {"/image": Image, "/depth": Image, "/camera_info": CameraInfo, "/ground_truth": Odometry}
    with AnyReader([bags[kind]]) as reader:
        first = {connection.topic: data for connection, _, data in reversed(list(reader.messages()))}
    read = {
        topic: serialization.deserialize_message(first[topic], message_type) for topic, message_type in types.items()
    }
    assert bytes(read["/image"].data) == room[0].image.tobytes()
    assert bytes(read["/depth"].data) == room[0].depth.tobytes()
    assert Camera.from_camera_info(read["/camera_info"]) == room.camera
    assert read["/ground_truth"].pose.pose.position.y == room[0].pose[1, 3]


def test_depth_in_millimetres_is_rounded_and_the_far_unknown(tmp_path: Path) -> None:
    depth = np.array([[1.0004, 65.535, 65.6], [np.nan, 0.0004, 2.5]], np.float32)
    frame = Frame(0, SECOND, np.zeros((2, 3, 3), np.uint8), depth)
    write_bag(Frames([frame]), tmp_path / "clip.mcap", depth_encoding="16UC1")
    read = open_sequence(tmp_path / "clip.mcap")
    np.testing.assert_array_equal(read[0].depth, np.array([[1.0, 65.535, np.nan], [np.nan, np.nan, 2.5]], np.float32))
    assert read.camera is None
    assert read[0].pose is None


def test_colour_frames_stay_bgr(tmp_path: Path) -> None:
    frames = [Frame(0, SECOND, picture(1, channels=3))]
    write_bag(Frames(frames, camera=CAMERA), tmp_path / "clip.bag")
    read = open_sequence(tmp_path / "clip.bag")
    np.testing.assert_array_equal(read[0].image, frames[0].image)
    assert read.camera == CAMERA


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("share", [0.1, 0.6, 0.98])
def test_a_bag_that_was_cut_off_is_refused(bags: dict[str, Path], tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / bags[kind].name
    if bags[kind].is_dir():
        path.mkdir()
        for file in bags[kind].iterdir():
            (path / file.name).write_bytes(file.read_bytes())
        damaged = next(file for file in path.iterdir() if file.suffix != ".yaml")
    else:
        path.write_bytes(bags[kind].read_bytes())
        damaged = path
    damaged.write_bytes(damaged.read_bytes()[: int(share * damaged.stat().st_size)])
    with pytest.raises(SequenceError, match=r"(cannot be read|cut off).*(reindex|recover)"):
        list(open_sequence(path))


def test_a_recording_that_never_ended_is_refused(bags: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "unfinished"
    path.mkdir()
    (path / "unfinished_0.mcap").write_bytes((bags["mcap"]).read_bytes())
    with pytest.raises(SequenceError, match=r"no metadata\.yaml.*unfinished_0\.mcap.*ros2 bag reindex"):
        open_sequence(path)


@pytest.mark.parametrize("content", ["", "rosbag2: {}\n"])
def test_a_bag_whose_metadata_are_none_is_refused(content: str, tmp_path: Path) -> None:
    path = record(tmp_path / "clip", clip())
    (path / "metadata.yaml").write_text(content)
    words = r"metadata\.yaml is empty or not what rosbag2 writes: .* `ros2 bag reindex .*clip` makes it anew$"
    with pytest.raises(SequenceError, match=words):
        open_sequence(path)


def test_a_bag_that_no_advice_is_for_is_refused_without_any(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "metadata.yaml").write_text("rosbag2_bagfile_information: none\n")
    with pytest.raises(SequenceError, match=r"clip cannot be read as a bag: .*[^; ]$"):
        open_sequence(tmp_path / "clip")


def test_a_bag_with_fewer_messages_than_it_says_is_refused(tmp_path: Path) -> None:
    path = record(tmp_path / "clip", clip())
    metadata = path / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 4", "message_count: 9"))
    with pytest.raises(SequenceError, match="cut off: it speaks of 9 messages on /image and holds 4"):
        open_sequence(path)


def test_missing_and_wrong_topics_are_named_with_what_is_there(bags: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match=r"no topic /front for image; it has .*/image \(Image, 4\)"):
        open_sequence(bags["mcap"], image="/front")
    with pytest.raises(SequenceError, match=r"/tf is tf2_msgs/msg/TFMessage, and depth must be sensor_msgs/msg/Image"):
        open_sequence(bags["ros1"], depth="/tf")
    only_info = record(tmp_path / "info", [("/camera_info", SECOND, camera_info(SECOND))])
    with pytest.raises(SequenceError, match=r"no camera image.*/camera_info \(CameraInfo, 1\)"):
        open_sequence(only_info)


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
    ],
)
def test_bags_that_are_compressed_as_a_whole_are_read(
    tmp_path: Path, storage: StoragePlugin, compression: CompressionMode
) -> None:
    sequence = open_sequence(record(tmp_path / "clip", clip(), storage, compression))
    for index in (3, 1, 2, 0):
        np.testing.assert_array_equal(sequence[index].image, picture(index))


def test_several_cameras_have_to_be_chosen_from(tmp_path: Path) -> None:
    path = record(tmp_path / "clip", clip(topic="/front/image_raw") + clip(topic="/rear/image_raw"))
    with pytest.raises(SequenceError, match=r"could be the image: /front/image_raw, /rear/image_raw; .*image=TOPIC"):
        open_sequence(path)
    assert len(open_sequence(path, image="/rear/image_raw")) == 4


def test_topics_are_left_out_by_an_empty_name(bags: dict[str, Path]) -> None:
    sequence = open_sequence(bags["sqlite3"], depth="", right="", ground_truth="", camera_info="")
    frame = sequence[0]
    assert (frame.depth, frame.right, frame.pose, sequence.camera, sequence.baseline) == (None,) * 5


def test_tf_alone_gives_the_same_poses(bags: dict[str, Path], room: Frames) -> None:
    sequence = open_sequence(bags["mcap"], ground_truth="/tf")
    np.testing.assert_allclose(sequence[2].pose, room[2].pose, atol=1e-14)


def test_compressed_images_and_depth_are_decoded(tmp_path: Path) -> None:
    gray, colour = cv2.GaussianBlur(picture(1), (5, 5), 2), cv2.GaussianBlur(picture(2, channels=3), (5, 5), 2)
    depth = np.arange(48, dtype=np.uint16).reshape(6, 8) * 100
    head = struct.pack("<iff", 0, 0.0, 0.0)
    path = record(
        tmp_path / "clip",
        [
            ("/cam/image_raw/compressed", SECOND, compressed(SECOND, "mono8; png compressed", encode(".png", gray))),
            ("/cam/camera_info", SECOND, camera_info(SECOND)),
            (
                "/depth/image/compressedDepth",
                SECOND,
                compressed(SECOND, "16UC1; compressedDepth png", head + encode(".png", depth)),
            ),
            (
                "/cam/image_raw/compressed",
                2 * SECOND,
                compressed(2 * SECOND, "rgb8; jpeg compressed bgr8", encode(".jpg", colour)),
            ),
            (
                "/depth/image/compressedDepth",
                2 * SECOND,
                compressed(
                    2 * SECOND, "32FC1; compressedDepth png", struct.pack("<iff", 0, 100.0, 1.0) + encode(".png", depth)
                ),
            ),
        ],
    )
    sequence = open_sequence(path)
    assert sequence.camera == CAMERA
    np.testing.assert_array_equal(sequence[0].image, gray)
    expected = np.where(depth > 0, depth / np.float32(1000), np.nan).astype(np.float32)
    np.testing.assert_array_equal(sequence[0].depth, expected)
    assert sequence[1].image.shape == (6, 8, 3)
    assert np.abs(sequence[1].image.astype(int) - colour).mean() < 12
    assert sequence[1].depth[0, 2] == pytest.approx(100 / 199)


def encode(suffix: str, pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(suffix, pixels)[1])


def test_left_and_right_are_told_by_their_names(tmp_path: Path) -> None:
    names = [("/left/image_raw", "/right/image_raw"), ("/cam0/image_raw", "/cam1/image_raw")]
    names += [("/d/infra1/image_rect_raw", "/d/infra2/image_rect_raw"), ("/stereo/image", "/stereo/right/image")]
    for number, (left, right) in enumerate(names):
        messages = [*clip(topic=right), *clip(topic=left)]
        path = record(tmp_path / str(number), messages)
        topics = open_sequence(path).topics
        assert (topics.image, topics.right) == (left, right)
        assert open_sequence(path, right="", image=right).topics.image == right


def test_tf_ends_at_the_frame_that_is_asked_for(tmp_path: Path) -> None:
    times = range(SECOND, 2 * SECOND, SECOND // 10)
    still, moved = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    tree = [("/tf", t, tf(transform(t, "map", "odom", moved), transform(t, "odom", "camera", moved))) for t in times]
    path = record(tmp_path / "clip", [*tree, *clip([SECOND])])
    assert open_sequence(path)[0].pose[0, 3] == 2.0
    assert open_sequence(path, world_frame="odom")[0].pose[0, 3] == 1.0
    with pytest.raises(SequenceError, match=r"how 'camera' moves in 'mars'; tf has odom -> camera, map -> odom"):
        open_sequence(path, world_frame="mars", ground_truth="/tf")
    second = ("/tf", SECOND, tf(transform(SECOND, "vision", "camera", still)))
    path = record(tmp_path / "two", [*tree, second, *clip([SECOND])])
    assert any("two parents, 'odom' and 'vision'" in note for note in open_sequence(path).notes)


def test_a_raw_topic_is_preferred_to_its_compressed_one(tmp_path: Path) -> None:
    broken = ("/image/compressed", SECOND, compressed(SECOND, "mono8; jpeg compressed", b"\xff\xd8 no picture"))
    sequence = open_sequence(record(tmp_path / "clip", [*clip(), broken]))
    assert sequence.topics.image == "/image"
    with pytest.raises(SequenceError, match=r"/image/compressed at 1\.0+ s: .*ends after 13 bytes"):
        open_sequence(tmp_path / "clip", image="/image/compressed")[0]


@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("rgb8", picture(1, channels=3), picture(1, channels=3)[..., ::-1]),
        ("bgra8", picture(1, channels=4), picture(1, channels=4)[..., :3]),
        ("8UC1", picture(1), picture(1)),
        ("8UC3", picture(1, channels=3), picture(1, channels=3)),
        ("mono16", picture(1).astype(np.uint16) * 257, picture(1)),
        ("rgb16", picture(1, channels=3).astype(np.uint16) * 257, picture(1, channels=3)[..., ::-1]),
    ],
)
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
def test_encodings_come_out_as_gray_or_bgr(
    encoding: str, pixels: np.ndarray, expected: np.ndarray, big_endian: bool, padding: int
) -> None:
    stored = image(SECOND, pixels, encoding, big_endian=big_endian, padding=padding)
    decoded, gray = decode_image(stored)
    assert gray.shape == (6, 8)
    np.testing.assert_array_equal(decoded, expected)
    # They are nobody else's, and no part of the message.
    before = stored.data.copy()
    decoded[:] = gray[:] = 7
    np.testing.assert_array_equal(stored.data, before)


def test_nv12_is_told_by_its_height_without_the_chroma_rows() -> None:
    luma = np.arange(20, 68, dtype=np.uint8).reshape(6, 8)
    stored = image(SECOND, np.vstack([luma, np.full((3, 8), 128, np.uint8)]), "nv12", padding=4)
    stored.height = 6
    decoded, gray = decode_image(stored)
    np.testing.assert_array_equal(gray, luma)
    # Luma 16 is black and 235 white; without chroma all three colours are equal.
    expected = np.repeat((luma[..., None] - 16.0) * 255 / 219, 3, axis=2)
    np.testing.assert_allclose(decoded, expected, atol=1.0)


def test_images_that_contradict_themselves_are_refused() -> None:
    short = image(SECOND, picture(1))
    short.data = short.data[:-1]
    with pytest.raises(SequenceError, match=r"8x6 image in 'mono8' with step 8 needs .* 48 bytes, got 47"):
        decode_image(short)
    for encoding, sentence in (("jpeg2000", "unknown"), ("bgr8", "steps of 24 bytes"), ("nv21", "needs")):
        with pytest.raises(SequenceError, match=sentence):
            decode_image(image(SECOND, picture(1), encoding))
    with pytest.raises(SequenceError, match="not one of depth"):
        decode_depth(image(SECOND, picture(1)))


def test_depth_that_is_not_a_distance_is_unknown() -> None:
    values = np.array([[1.5, 0.0, -1.0], [np.inf, -np.inf, np.nan]], np.float32)
    decoded = decode_depth(image(SECOND, values, "32FC1", big_endian=True, padding=4))
    np.testing.assert_array_equal(decoded, np.array([[1.5, np.nan, np.nan], [np.nan] * 3], np.float32))


def test_images_out_of_order_are_sorted_and_repeated_ones_left_out(tmp_path: Path) -> None:
    stamps = [SECOND, SECOND + 2, SECOND + 1, SECOND + 3, SECOND + 2]
    sequence = open_sequence(record(tmp_path / "clip", clip(stamps)))
    assert [frame.stamp_ns - SECOND for frame in sequence] == [0, 1, 2, 3]
    for frame, place in zip(sequence, (0, 2, 1, 3)):
        np.testing.assert_array_equal(frame.image, picture(place))
    assert sequence.notes[:2] == [
        "/image: 2 recorded out of order in time, sorted by stamp",
        "/image: 1 with a repeated stamp left out",
    ]


def test_a_clock_that_was_set_back_is_refused(tmp_path: Path) -> None:
    path = record(tmp_path / "clip", clip([5 * SECOND, 6 * SECOND, 2 * SECOND, 3 * SECOND]))
    with pytest.raises(SequenceError, match=r"out of order: message 2 is 4\.000 s older"):
        open_sequence(path)


def test_stamps_left_at_zero_are_replaced_by_the_time_of_recording(tmp_path: Path) -> None:
    sequence = open_sequence(record(tmp_path / "clip", clip([0, 0, 0])))
    assert [frame.stamp_ns for frame in sequence] == [SECOND, 2 * SECOND, 3 * SECOND]


def test_depth_is_paired_with_the_nearest_image_in_time(tmp_path: Path) -> None:
    images = [("/image", k * SECOND // 10, image(k * SECOND // 10, picture(k))) for k in range(10, 14)]
    late = 4_000_000
    depths = [
        ("/depth", s, image(s, np.full((6, 8), k, np.float32), "32FC1"))
        for k in (10, 11, 13)
        for s in (k * SECOND // 10 + late,)
    ]
    sequence = open_sequence(record(tmp_path / "clip", images + depths))
    assert [float(frame.depth[0, 0]) for frame in sequence] == [10.0, 11.0, 13.0]
    assert [frame.stamp_ns for frame in sequence] == [k * SECOND // 10 for k in (10, 11, 13)]
    assert sequence.notes[0] == "1 of 4 images of /image have no message of /depth within 0.02 s and are left out"
    with pytest.raises(SequenceError, match=r"no frame: no image of /image has a message of /depth within 0\.001 s"):
        open_sequence(tmp_path / "clip", longest_difference=0.001)
    for option in ("longest_difference", "clock_offset"):
        with pytest.raises(SequenceError, match=f"{option} is in seconds, at most 2147483647 of them, got 1e.300"):
            open_sequence(f"{tmp_path / 'clip'}@{option}=1e300")


def test_a_depth_image_belongs_to_the_image_that_is_nearest_alone(tmp_path: Path) -> None:
    stamps = [SECOND, SECOND + 30_000_000]
    depth = SECOND + 18_000_000
    messages = [*clip(stamps), ("/depth", depth, image(depth, np.ones((6, 8), np.float32), "32FC1"))]
    (frame,) = open_sequence(record(tmp_path / "clip", messages))
    assert frame.stamp_ns == stamps[1]
    np.testing.assert_array_equal(frame.image, picture(1))


def test_depth_of_another_size_is_refused(tmp_path: Path) -> None:
    depth = ("/depth", SECOND, image(SECOND, np.ones((3, 4), np.float32), "32FC1"))
    path = record(tmp_path / "clip", [*clip([SECOND]), depth])
    with pytest.raises(SequenceError, match="/depth is 4x3 and /image 8x6: depth must be registered"):
        open_sequence(path)[0]


def test_missing_calibration_and_ground_truth_are_told(tmp_path: Path) -> None:
    sequence = open_sequence(record(tmp_path / "none", clip()))
    assert sequence.camera is None
    assert "/image has no calibration: the bag holds no CameraInfo topic" in sequence.notes
    assert any(note.startswith("no ground truth: ") and "/image (Image, 4)" in note for note in sequence.notes)
    zero = record(tmp_path / "zero", [*clip(), ("/camera_info", SECOND, camera_info(SECOND, calibrated=False))])
    assert any("K = 0" in note for note in open_sequence(zero).notes)
    wrong = Camera(16, 12, 10.0, 10.0, 8.0, 6.0)
    path = record(tmp_path / "wrong", [*clip(), ("/camera_info", SECOND, camera_info(SECOND, wrong))])
    with pytest.raises(SequenceError, match="/image is 8x6 and /camera_info is for 16x12"):
        open_sequence(path)[0]


def test_a_rectified_image_gets_the_rectified_camera_and_its_pose(tmp_path: Path) -> None:
    projection = np.array([[9.0, 0, 3, 0], [0, 9, 2, 0], [0, 0, 1, 0]])
    turn = pose_from_quaternion([0, 0, 0], [0, 0.1, 0, 1])
    camera = replace(CAMERA, rectification=turn[:3, :3], projection=projection)
    messages = [("/cam/camera_info", SECOND, camera_info(SECOND, camera)), *clip(topic="/cam/image_rect")]
    messages += [("/pose", t, pose_stamped(t, 2.0)) for t in (SECOND, 2 * SECOND)]
    sequence = open_sequence(record(tmp_path / "clip", messages))
    assert sequence.camera == camera.rectified()
    other = [(topic.replace("image_rect", "direct"), *rest) for topic, *rest in messages]
    assert open_sequence(record(tmp_path / "direct", other)).camera == camera
    point = np.array([0.2, 0.3, 2.0, 1.0])
    np.testing.assert_allclose(sequence[0].pose @ turn @ point, [2.2, 0.3, 2.0, 1.0], atol=1e-12)


def stereo_clip(folder: Path, left: Camera, right: Camera) -> Path:
    """A recorded pair of cameras."""
    messages = [*clip(topic="/left/image"), *clip(topic="/right/image")]
    for side, camera in (("left", left), ("right", right)):
        messages.append((f"/{side}/camera_info", SECOND, camera_info(SECOND, camera)))
    return record(folder, messages)


def pinhole(*, cx: float = 3.5, baseline: float = 0.0, **other: Any) -> Camera:
    """A camera of a rectified pair, in what is `other` as given."""
    projection = np.array([[10.0, 0, cx, -10.0 * baseline], [0, 10, 2.5, 0], [0, 0, 1, 0]])
    return Camera(
        **{"width": 8, "height": 6, "fx": 10.0, "fy": 10.0, "cx": cx, "cy": 2.5, **other}, projection=projection
    )


TURN = cv2.Rodrigues(np.array([0.0, 0.01, 0.0]))[0]


def test_a_rectified_pair_has_what_stereo_needs(tmp_path: Path) -> None:
    sequence = open_sequence(stereo_clip(tmp_path / "clip", pinhole(), pinhole(baseline=0.2)))
    assert sequence.stereo == pytest.approx((10.0, 0.2))
    assert is_rectified_pair(sequence[0], sequence)
    assert not any("stereo" in note for note in sequence.notes)


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        (pinhole(), pinhole(cx=4.5, baseline=0.2), "differ in their columns .*cx 3.5 and 4.5 pixels"),
        (pinhole(baseline=0.2), pinhole(), "left and right are swapped"),
        (pinhole(fx=10.5), pinhole(baseline=0.2), "the left camera's images are not rectified: K is not that of P"),
        (pinhole(), pinhole(cy=3.0, baseline=0.2), "the right camera's images are not rectified: K is not that of P"),
        (pinhole(rectification=TURN), pinhole(baseline=0.2), "R is not the identity"),
        (
            pinhole(model="plumb_bob", coefficients=(-0.1, 0.0, 0.0, 0.0)),
            pinhole(baseline=0.2),
            "its lens distorts them .plumb_bob.",
        ),
    ],
)
def test_a_pair_that_gives_wrong_depth_has_a_note_and_no_stereo(
    left: Camera, right: Camera, reason: str, tmp_path: Path
) -> None:
    sequence = open_sequence(stereo_clip(tmp_path / "clip", left, right))
    assert (sequence.stereo, sequence.baseline) == (None, None)
    frame = sequence[0]
    assert frame.right is not None
    assert not is_rectified_pair(frame, sequence)
    (note,) = [note for note in sequence.notes if note.startswith("no depth by stereo: ")]
    assert re.search(reason, note)


BODY_FROM_CAMERA = [0.1, 0.2, 0.3, -0.5, 0.5, -0.5, 0.5]


def test_poses_of_a_body_are_moved_to_the_camera_with_tf(tmp_path: Path) -> None:
    fixed = ("/tf_static", SECOND, tf(transform(SECOND, "base", "camera", BODY_FROM_CAMERA)))
    moving = [
        ("/tf", t, tf(transform(t, "odom", "base", [t / SECOND, 0.0, 0.0, 0.0, 0.0, 0.6, 0.8])))
        for t in range(SECOND, 3 * SECOND, SECOND // 10)
    ]
    # Stamps between the transforms, so that these are interpolated.
    images = clip([SECOND + 50_000_000, 2 * SECOND + 50_000_000])
    sequence = open_sequence(record(tmp_path / "tf", [fixed, *moving, *images]))
    expected = pose_from_quaternion([1.05, 0, 0], [0, 0, 0.6, 0.8]) @ pose_from_quaternion(
        BODY_FROM_CAMERA[:3], BODY_FROM_CAMERA[3:]
    )
    np.testing.assert_allclose(sequence[0].pose, expected, atol=1e-12)
    relative = invert_pose(sequence[0].pose) @ sequence[1].pose
    assert np.linalg.norm(relative[:3, 3]) == pytest.approx(1.0)
    poses = [("/mocap/pose", t, pose_stamped(t, t / SECOND)) for t in range(SECOND, 3 * SECOND, SECOND // 10)]
    path = record(tmp_path / "pose", [fixed, *poses, *images])
    np.testing.assert_allclose(open_sequence(path)[0].pose, pose_from_quaternion([1.05, 0, 0], [0, 0, 0, 1]))
    of_body = open_sequence(path, pose_frame="base")[0].pose
    np.testing.assert_allclose(of_body[:3, 3], [1.15, 0.2, 0.3], atol=1e-12)
    with pytest.raises(SequenceError, match=r"those of 'head', and tf does not lead.*tf has base -> camera"):
        open_sequence(path, ground_truth="/mocap/pose", pose_frame="head")


def test_the_command_writes_a_bag_and_leaves_nothing_behind_on_failure(
    bags: dict[str, Path], room: Frames, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "copy.bag"
    assert main(["to-bag", str(bags["mcap"]), str(target), "--frames", "2", "--no-tf", "--topic", "depth="]) == 0
    assert "/image (2)" in capsys.readouterr().out
    copy = open_sequence(target)
    np.testing.assert_array_equal(copy[1].right, room[1].right)
    assert len(copy) == 2
    assert copy.topics.depth is None
    assert main(["to-bag", str(bags["mcap"]), str(target)]) == 1
    assert "exists already" in capsys.readouterr().err
    for name, options, sentence in (
        ("x.bag", ["--format", "mcap"], "format ros1"),
        ("x.db3", [], "is a folder"),
        ("x.mcap", ["--topic", "lidar=/scan"], "ROLE=TOPIC"),
        ("x.mcap", ["--frames", "-3"], "--frames must be 1 or more, got -3"),
    ):
        assert main(["to-bag", str(bags["mcap"]), str(tmp_path / name), *options]) == 1
        assert sentence in capsys.readouterr().err
    frames = [room[0], Frame(1, 2 * SECOND, picture(1))]
    failing = Frames(frames, room)
    failing.frames.append(None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        write_bag(failing, tmp_path / "half")
    assert [path.name for path in tmp_path.iterdir()] == ["copy.bag"]
