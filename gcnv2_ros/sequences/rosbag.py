# SPDX-License-Identifier: Apache-2.0
"""Recordings of ROS topics, without a ROS installation: ROS 1 bags, and rosbag2's sqlite3 and MCAP."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..camera import Camera, CameraError
from ..errors import MissingDependencyError
from ..geometry import pose_from_quaternion
from .base import Frame, Sequence, SequenceError
from .reading import PoseTable

RAW_IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_TYPES = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
POSE_TYPES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
)

_BAG_SUFFIXES = (".bag", ".mcap", ".db3")
_LONGEST_JUMP_NS = 1_000_000_000
_SIDES = (("left", "right"), ("cam0", "cam1"), ("infra1", "infra2"), ("image_0", "image_1"), ("camera_0", "camera_1"))
_REPAIR = {
    ".bag": "`rosbag reindex` repairs a recording that ended early",
    ".mcap": "`mcap recover` repairs a recording that ended early",
    ".db3": "`ros2 bag reindex` makes the metadata of a recording that ended early",
}


@dataclass(frozen=True)
class Topics:
    """The topics that a bag's frames are made of; None: the bag has none of the kind, or it was not wanted."""

    image: str
    camera_info: str | None = None
    depth: str | None = None
    right: str | None = None
    right_camera_info: str | None = None


class RosbagSequence(Sequence):
    """The frames of a ROS 1 ``.bag``, a rosbag2 folder (sqlite3 or MCAP) or a single ``.mcap`` or ``.db3`` file.

    A topic that is not named is found by its type, and an empty name leaves it out. The camera's image is the only
    image topic that is neither depth nor the right side of a pair; a compressed topic counts if there is no raw one of
    the same name. Depth is what is encoded as 16UC1 (millimetres) or 32FC1 (metres). The right image is named as the
    left one with ``right`` for ``left``, ``cam1`` for ``cam0`` or the like, or lies in ``right/`` beside it.
    Calibration is the first usable ``camera_info`` beside the image; an image called ``image_rect`` or the like is taken
    as rectified. Ground truth is an Odometry, PoseStamped, PoseWithCovarianceStamped or TransformStamped topic, moved
    from its child frame to the camera's frame with tf; without such a topic, tf itself from the camera's frame to its
    root.

    Frames go by the time in the message's header; where a driver left that at zero, by the time of recording. Images
    that were recorded out of order are sorted, of equal stamps the first counts, and a jump back of more than a second
    is refused, since it means that the clock was set or the recording played twice. Images without a partner near
    enough in time (depth, right) are left out. `notes` tells all that.

    Opening reads the bag once, to learn the stamps; then every frame is read by itself. That is slow for an MCAP
    without chunks (rosbag2's ``fastwrite``), which has to be searched each time.

    Parameters
    ----------
    path
        The file or folder.
    image, depth, right, camera_info, right_camera_info
        Topics.
    ground_truth
        A topic; one with the type of tf for the poses in tf.
    pose_frame
        The frame whose pose the topic gives (default: the message's child frame or, in messages that name none, the
        camera's).
    world_frame
        The frame in tf to which poses refer (default: the root).
    clock_offset
        Seconds to add to an image's stamp to get the ground truth's time of the same instant.
    longest_difference
        Seconds up to which messages on different topics are taken as one frame.

    Attributes
    ----------
    topics
        What was chosen.
    notes
        Sentences on what is missing, was left out or was put in order.

    Raises
    ------
    SequenceError
        If the bag is cut off, a topic is missing, or there is more than one to choose from; the sentence lists what
        the bag holds.
    MissingDependencyError
        If `rosbags` is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        image: str | None = None,
        depth: str | None = None,
        right: str | None = None,
        camera_info: str | None = None,
        right_camera_info: str | None = None,
        ground_truth: str | None = None,
        pose_frame: str | None = None,
        world_frame: str | None = None,
        clock_offset: float = 0.0,
        longest_difference: float = 0.02,
    ) -> None:
        self._bag = bag = Bag(Path(path))
        self.name = Path(path).resolve().stem
        self.notes: list[str] = []
        wanted = {"camera_info": camera_info, "depth": depth, "right": right, "right_camera_info": right_camera_info}
        self.topics = topics = _choose_topics(bag, {"image": image, **wanted})
        self._offset_ns = round(clock_offset * 1e9)
        self._entries = self._index(round(longest_difference * 1e9))
        self.camera = self._calibration(topics.image, topics.camera_info)
        if topics.right is not None:
            self.right_camera = self._calibration(topics.right, topics.right_camera_info)
        if self.right_camera is not None and _is_rectified(self.camera) and _is_rectified(self.right_camera):
            self.baseline = self.right_camera.baseline
        self._links = self._ground_truth(ground_truth, pose_frame, world_frame)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Frame:
        position = self._position(index)
        entry = self._entries[position]
        image = self._read(self.topics.image, entry[self.topics.image], decode_image)
        _check_size(self.topics.image, image, self.topics.camera_info, self.camera)
        depth = right = None
        if self.topics.depth is not None:
            depth = self._read(self.topics.depth, entry[self.topics.depth], decode_depth)
            if depth.shape != image.shape[:2]:
                raise SequenceError(
                    f"{self.topics.depth} is {depth.shape[1]}x{depth.shape[0]} and {self.topics.image} "
                    f"{image.shape[1]}x{image.shape[0]}: depth must be registered to the image; name another topic, or "
                    "leave it out with depth=''"
                )
        if self.topics.right is not None:
            right = self._read(self.topics.right, entry[self.topics.right], decode_image)
            _check_size(self.topics.right, right, self.topics.right_camera_info, self.right_camera)
        stamp = entry[self.topics.image][0]
        return Frame(position, stamp, image, depth, right, self._pose(stamp + self._offset_ns))

    def close(self) -> None:
        """Close the bag's files; frames cannot be read afterwards."""
        self._bag.close()

    def _pose(self, stamp: int) -> NDArray[np.float64] | None:
        if not self._links:
            return None
        pose = np.eye(4)
        for link in self._links:
            step = link.at(stamp) if isinstance(link, PoseTable) else link
            if step is None:
                return None
            pose = pose @ step
        return pose

    def _read(self, topic: str, where: tuple[int, int], decode: Any) -> Any:
        """Decode the message of a topic at (stamp, time of recording)."""
        stamp, recorded = where
        for _, _, message in self._bag.messages([topic], recorded, recorded + 1):
            if _stamp(message, recorded) == stamp:
                try:
                    return decode(message)
                except SequenceError as error:
                    raise SequenceError(f"{self._bag.path}, {topic} at {stamp / 1e9:.6f} s: {error}") from error
        raise SequenceError(f"{self._bag.path} no longer holds the message of {topic} at {stamp / 1e9:.6f} s")

    def _index(self, longest_difference: int) -> list[dict[str, tuple[int, int]]]:
        """Stamp and time of recording of each frame's messages, by topic."""
        names = [name for name in (self.topics.image, self.topics.depth, self.topics.right) if name is not None]
        found: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
        for topic, recorded, message in self._bag.messages(names):
            found[topic].append((_stamp(message, recorded), recorded))
        columns = {topic: self._in_order(topic, entries) for topic, entries in found.items()}
        first = names[0]
        frames = [{first: entry} for entry in columns[first]]
        for topic in names[1:]:
            partners = _pair_nearest(columns[first], columns[topic], longest_difference)
            for frame in frames:
                partner = partners.get(frame[first][0])
                if partner is not None:
                    frame[topic] = partner
        complete = [frame for frame in frames if len(frame) == len(names)]
        if not complete:
            raise SequenceError(
                f"{self._bag.path} has no frame: no image of {first} has a message of {' and '.join(names[1:])} within "
                f"{longest_difference / 1e9} s; change longest_difference, or leave a topic out by an empty name"
            )
        if len(complete) < len(frames):
            self.notes.append(
                f"{len(frames) - len(complete)} of {len(frames)} images of {first} have no message of "
                f"{' and '.join(names[1:])} within {longest_difference / 1e9} s and are left out"
            )
        return complete

    def _in_order(self, topic: str, entries: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The entries sorted by stamp, of equal stamps the first; what was not so is noted, a big jump refused."""
        declared = self._bag.counts[topic]
        if len(entries) < declared:
            raise SequenceError(
                f"{self._bag.path} is cut off: it speaks of {declared} messages on {topic} and holds {len(entries)}; "
                f"{self._bag.repair}"
            )
        stamps = np.array([stamp for stamp, _ in entries], np.int64)
        behind = np.maximum.accumulate(stamps) - stamps
        if behind.max() > _LONGEST_JUMP_NS:
            worst = int(np.argmax(behind > _LONGEST_JUMP_NS))
            raise SequenceError(
                f"{self._bag.path}: the stamps of {topic} are out of order: message {worst} is "
                f"{behind[worst] / 1e9:.3f} s older than one before it. The clock was set or the recording played "
                "twice; cut the bag there"
            )
        kept: dict[int, tuple[int, int]] = {}
        for stamp, recorded in entries:
            kept.setdefault(stamp, (stamp, recorded))
        if np.any(behind):
            self.notes.append(f"{topic}: {np.count_nonzero(behind)} recorded out of order in time, sorted by stamp")
        if len(kept) < len(entries):
            self.notes.append(f"{topic}: {len(entries) - len(kept)} with a repeated stamp left out")
        return [kept[stamp] for stamp in sorted(kept)]

    def _calibration(self, image: str, topic: str | None) -> Camera | None:
        if topic is None:
            self.notes.append(f"{image} has no calibration: the bag holds {self._bag.listing(CAMERA_INFO)}")
            return None
        for _, _, message in self._bag.messages([topic]):
            try:
                camera = Camera.from_camera_info(message)
                if camera is not None:
                    return camera.rectified() if _names_rectified(image) else camera
            except CameraError as error:
                raise SequenceError(f"{self._bag.path}, {topic}: {error}") from error
        self.notes.append(f"{image} has no calibration: {topic} says with K = 0 that there is none")
        return None

    def _ground_truth(self, topic: str | None, pose_frame: str | None, world_frame: str | None) -> list[Link]:
        """Links from the world to the camera's frame; empty without ground truth."""
        if topic == "":
            return []
        bag, automatic = self._bag, topic is None
        if topic is None:
            # A single pose is a goal or a starting point, no trajectory.
            candidates = [name for name in bag.of_type(*POSE_TYPES) if bag.counts[name] > 1]
            topic = bag.only("ground truth", "ground_truth", candidates) or next(iter(bag.of_type(*TF_TYPES)), None)
        if topic is None:
            kinds = ", ".join(kind.rsplit("/", 1)[-1] for kind in POSE_TYPES)
            self.notes.append(f"no ground truth: no topic is of the type {kinds} or TFMessage; {bag.listing()}")
            return []
        image = bag.first(self.topics.image)
        try:
            links = _read_links(bag, topic, _frame(image.header.frame_id), pose_frame, world_frame)
            return [*links, self._rectifying_turn()]
        except SequenceError as error:
            if not automatic:
                raise
            self.notes.append(f"no ground truth: {error}")
            return []

    def _rectifying_turn(self) -> NDArray[np.float64]:
        """From the frame of the image as it is, rectified or not, to the camera's optical frame, which poses are of."""
        turn = np.eye(4)
        if self.topics.camera_info is not None and _names_rectified(self.topics.image):
            camera = Camera.from_camera_info(self._bag.first(self.topics.camera_info))
            if camera is not None and camera.rectification is not None:
                turn[:3, :3] = camera.rectification.T
        return turn


def is_rosbag(path: Path) -> bool:
    """Whether `RosbagSequence` would try to read the file or folder."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(
            entry.suffix in (".mcap", ".db3") for entry in path.iterdir() if entry.is_file()
        )
    return path.suffix in _BAG_SUFFIXES


class Bag:
    """An open bag whose failures are sentences.

    Attributes
    ----------
    path
        File or folder.
    types
        Type of each topic, as ``sensor_msgs/msg/Image`` in both ROS versions.
    counts
        Number of messages that the bag's index speaks of, by topic.

    Raises
    ------
    SequenceError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            from rosbags.highlevel import AnyReader
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise MissingDependencyError("rosbags", "reading bags", "pip install rosbags rosbags-image") from error
        self.path = path
        if path.is_dir() and not (path / "metadata.yaml").is_file():
            raise SequenceError(
                f"{path} has no metadata.yaml, which rosbag2 writes when a recording ends: it holds "
                f"{', '.join(sorted(entry.name for entry in path.iterdir()))}; `ros2 bag reindex {path}` makes it"
            )
        # What a damaged file raises depends on where it is damaged: the library's errors, apsw's, struct's, an assert.
        try:
            self._reader = AnyReader([path], default_typestore=get_typestore(Stores.LATEST))
            self._reader.open()
        except Exception as error:
            raise SequenceError(f"{path} cannot be read as a bag: {_reason(error)}; {self.repair}") from error
        self.close = weakref.finalize(self, self._reader.close)
        topics = self._reader.topics
        self.types: dict[str, str] = {name: info.msgtype or "several types" for name, info in topics.items()}
        self.counts: dict[str, int] = {name: info.msgcount for name, info in topics.items()}

    @property
    def repair(self) -> str:
        """What helps if the recording was cut off."""
        names = [self.path.name] if self.path.is_file() else [entry.name for entry in self.path.iterdir()]
        return next((advice for suffix, advice in _REPAIR.items() if any(name.endswith(suffix) for name in names)), "")

    def messages(
        self, topics: list[str], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[str, int, Any]]:
        """Topic, time of recording and message, in the order of recording, from `start` to before `stop`."""
        connections = [connection for connection in self._reader.connections if connection.topic in topics]
        try:
            for connection, recorded, data in self._reader.messages(connections, start, stop):
                yield connection.topic, recorded, self._reader.deserialize(data, connection.msgtype)
        except Exception as error:  # see __init__
            raise SequenceError(
                f"{self.path} cannot be read to its end ({', '.join(topics)}): {_reason(error)}; {self.repair}"
            ) from error

    def first(self, topic: str) -> Any:
        """The first message of a topic that the bag's index says to have some."""
        for _, _, message in self.messages([topic]):
            return message
        raise SequenceError(
            f"{self.path} is cut off: it speaks of {self.counts[topic]} messages on {topic} and holds none; "
            f"{self.repair}"
        )

    def of_type(self, *types: str) -> list[str]:
        """Names of the topics of these types that have messages, in alphabetical order."""
        return sorted(name for name, kind in self.types.items() if kind in types and self.counts[name])

    def listing(self, *types: str) -> str:
        """The topics, or those of some types, for a message."""
        names = sorted(name for name, kind in self.types.items() if not types or kind in types)
        if not names:
            return f"no {' or '.join(kind.rsplit('/', 1)[-1] for kind in types)} topic" if types else "it has no topics"
        return "it has " + ", ".join(
            f"{name} ({self.types[name].rsplit('/', 1)[-1]}, {self.counts[name]})" for name in names
        )

    def check(self, role: str, topic: str, *types: str) -> str:
        """The topic, if it exists, has messages and is of one of the types."""
        if topic not in self.types:
            raise SequenceError(f"{self.path} has no topic {topic} for {role}; {self.listing()}")
        if self.types[topic] not in types:
            raise SequenceError(
                f"{self.path}: {topic} is {self.types[topic]}, and {role} must be {' or '.join(types)}; "
                f"{self.listing()}"
            )
        if not self.counts[topic]:
            raise SequenceError(f"{self.path}: {topic}, named as {role}, has no messages; {self.listing()}")
        return topic

    def only(self, what: str, option: str, candidates: list[str]) -> str | None:
        """The one candidate, or None; several are an error that says how to choose."""
        if len(candidates) > 1:
            raise SequenceError(
                f"{self.path} has several topics that could be the {what}: {', '.join(candidates)}; choose one with "
                f"{option}=TOPIC"
            )
        return candidates[0] if candidates else None


def _choose_topics(bag: Bag, wanted: dict[str, str | None]) -> Topics:
    """Take what is wanted, and find the rest by type and name."""
    images = (RAW_IMAGE, COMPRESSED_IMAGE)
    chosen: dict[str, str | None] = {}
    for role, topic in wanted.items():
        types = (CAMERA_INFO,) if role.endswith("info") else images
        chosen[role] = bag.check(role, topic, *types) if topic else None
    raw = bag.of_type(RAW_IMAGE)
    pictures = raw + [name for name in bag.of_type(COMPRESSED_IMAGE) if _plain(name) not in raw]
    depths = [name for name in pictures if _holds_depth(bag, name)]
    others = [name for name in pictures if name not in depths]
    if chosen["image"] is None:
        rights = {_right_of(name, others) for name in others}
        chosen["image"] = bag.only("image", "image", [n for n in others if n not in rights and n != wanted["right"]])
    image = chosen["image"]
    if image is None:
        raise SequenceError(f"{bag.path} has no camera image, raw or compressed; {bag.listing()}")
    if wanted["depth"] is None:
        chosen["depth"] = bag.only("depth", "depth", [name for name in depths if name != image])
    if wanted["right"] is None:
        chosen["right"] = _right_of(image, others)
    infos = bag.of_type(CAMERA_INFO)
    taken = {_beside(name) for name in pictures}
    if wanted["camera_info"] is None:
        loose = [name for name in infos if name not in taken]
        beside = _beside(image)
        chosen["camera_info"] = beside if beside in infos else bag.only("calibration", "camera_info", loose)
    right = chosen["right"]
    if right is None:
        chosen["right_camera_info"] = None
    elif wanted["right_camera_info"] is None and _beside(right) in infos:
        chosen["right_camera_info"] = _beside(right)
    return Topics(image, **{role: topic for role, topic in chosen.items() if role != "image"})


def _plain(topic: str) -> str:
    """The name of an image topic without the suffix of its compression."""
    return topic.removesuffix("/compressedDepth").removesuffix("/compressed")


def _names_rectified(image: str) -> bool:
    return re.search("(^|_)rect(_|ified|$)", _plain(image).rsplit("/", 1)[-1]) is not None


def _beside(image: str) -> str:
    """The name of the calibration that belongs to an image topic."""
    return _plain(image).rsplit("/", 1)[0] + "/camera_info"


def _right_of(image: str, topics: list[str]) -> str | None:
    """The right image of a pair among `topics`, by the names."""
    folder, _, last = image.rpartition("/")
    if image.endswith("/compressed"):
        folder, _, middle = folder.rpartition("/")
        last = f"{middle}/{last}"
    names = [image.replace(left, right) for left, right in _SIDES if left in image] + [f"{folder}/right/{last}"]
    return next((name for name in names if name in topics), None)


def _holds_depth(bag: Bag, topic: str) -> bool:
    """Whether the first message of an image topic is a depth image."""
    message = bag.first(topic)
    if hasattr(message, "format"):
        name = message.format.lower()
        return "compresseddepth" in name or name.startswith(("16uc1", "32fc1"))
    return message.encoding in ("16UC1", "32FC1") or (message.encoding == "mono16" and "depth" in topic)


def _check_size(image_topic: str, image: NDArray[np.uint8], topic: str | None, camera: Camera | None) -> None:
    if camera is not None and (camera.height, camera.width) != image.shape[:2]:
        raise SequenceError(
            f"{image_topic} is {image.shape[1]}x{image.shape[0]} and {topic} is for {camera.width}x{camera.height}; "
            "name the calibration that belongs to the image, or leave it out with an empty name"
        )


def _is_rectified(camera: Camera | None) -> bool:
    if camera is None or camera.model != "none":
        return False
    return camera.rectification is None or bool(np.allclose(camera.rectification, np.eye(3), atol=1e-9))


def _stamp(message: Any, recorded: int) -> int:
    """Nanoseconds in the header; the time of recording where the driver left it at zero."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec or recorded


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _pair_nearest(
    images: list[tuple[int, int]], others: list[tuple[int, int]], longest: int
) -> dict[int, tuple[int, int]]:
    """By image stamp, the entry that is nearest to the image and has no image nearer to it; both sorted."""
    a = np.array([stamp for stamp, _ in images], np.int64)
    b = np.array([stamp for stamp, _ in others], np.int64)
    nearest_b, nearest_a = _nearest(a, b), _nearest(b, a)
    return {
        int(a[i]): others[k]
        for i, k in enumerate(nearest_b)
        if nearest_a[k] == i and abs(int(a[i]) - int(b[k])) <= longest
    }


def _nearest(stamps: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.intp]:
    """Index into `among`, ascending, of the time nearest to each stamp."""
    after = np.clip(np.searchsorted(among, stamps), 1, max(len(among) - 1, 1))
    after = np.minimum(after, len(among) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(stamps - among[before] <= among[after] - stamps, before, after)


def decode_image(message: Any) -> NDArray[np.uint8]:
    """A sensor_msgs/Image or CompressedImage as uint8: gray (H, W) for mono encodings, otherwise BGR (H, W, 3).

    16-bit values are scaled by 255 / 65535. Padded rows and big-endian values are understood.

    Raises
    ------
    SequenceError
        If the encoding is unknown or the data do not fit.
    """
    if hasattr(message, "format"):
        if "compresseddepth" in message.format.lower():
            raise SequenceError(f"the format {message.format!r} is a depth image, not a camera image")
        return np.asarray(
            _decompressed(message.data, message.format, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION), np.uint8
        )
    names = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16"}
    encoding = names.get(message.encoding, message.encoding)
    pixels = _pixels(message)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise SequenceError(
            f"the encoding {message.encoding!r} holds no picture; it can be read as depth if it is 32FC1"
        )
    bits = 8 * pixels.dtype.itemsize
    wanted = f"mono{bits}" if encoding.startswith("mono") else f"bgr{bits}"
    if encoding != wanted:
        from rosbags.image.image import ImageError, convert_color

        try:
            pixels = convert_color(pixels, encoding, wanted)
        except (ImageError, cv2.error) as error:
            raise SequenceError(f"an image in {message.encoding!r} cannot be converted: {error}") from error
    if bits == 16:
        return np.asarray(cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0), np.uint8)
    return np.array(pixels, np.uint8)


def decode_depth(message: Any) -> NDArray[np.float32]:
    """A depth image as float32 (H, W) metres, NaN unknown: 16UC1 in mm, 32FC1 in m, raw, as PNG or compressedDepth.

    Raises
    ------
    SequenceError
        If it is none of these or the data do not fit.
    """
    if not hasattr(message, "format"):
        if message.encoding not in ("16UC1", "32FC1", "mono16"):
            raise SequenceError(f"the encoding {message.encoding!r} is not one of depth: 16UC1 or 32FC1")
        return _metres(_pixels(message))
    data = np.asarray(message.data, np.uint8)
    quantised = "compresseddepth" in message.format.lower()
    # compressed_depth_image_transport puts a format number and two floats of quantisation before the PNG.
    values = _decompressed(data[12:] if quantised else data, message.format, cv2.IMREAD_UNCHANGED)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise SequenceError(f"depth in {message.format!r} must be a 16-bit image, got {values.dtype} {values.shape}")
    if quantised and message.format.startswith("32FC1"):
        a, b = np.frombuffer(data[4:12].tobytes(), "<f4")
        with np.errstate(divide="ignore"):
            return _metres(np.where(values > 0, a / (values.astype(np.float32) - b), np.float32(0)))
    return _metres(values)


def _metres(values: NDArray) -> NDArray[np.float32]:
    if values.dtype == np.uint16:
        values = values / np.float32(1000)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan).astype(np.float32)


def _pixels(message: Any) -> NDArray:
    """The message's pixels, (rows, width) or (rows, width, channels), in native byte order, after checking sizes."""
    try:
        from rosbags.image.image import ImageFormatError, to_cvtype
    except ImportError as error:
        raise MissingDependencyError("rosbags-image", "reading images", "pip install rosbags-image") from error
    try:
        _, _, name, channels = to_cvtype(message.encoding)
    except ImageFormatError as error:
        raise SequenceError(f"the encoding {message.encoding!r} is unknown") from error
    dtype = np.dtype(name).newbyteorder(">" if message.is_bigendian else "<")
    rows = message.height * 3 // 2 if message.encoding in ("nv12", "nv21") else message.height
    row = message.width * channels * dtype.itemsize
    needed = (rows - 1) * message.step + row
    if not row or not rows or message.step < row or len(message.data) < needed:
        raise SequenceError(
            f"a {message.width}x{message.height} image in {message.encoding!r} with step {message.step} needs steps of "
            f"{row} bytes or more and {max(needed, 1)} bytes, got {len(message.data)}"
        )
    strides = (message.step, channels * dtype.itemsize, dtype.itemsize)
    pixels = np.ndarray((rows, message.width, channels), dtype, np.ascontiguousarray(message.data), strides=strides)
    pixels = pixels[..., 0] if channels == 1 else pixels
    return np.ascontiguousarray(pixels, dtype.newbyteorder("="))


def _decompressed(data: NDArray[np.uint8], name: str, flags: int) -> NDArray:
    """Decode JPEG or PNG; decoders fill what is missing of a cut-off one with gray, so the end mark is asked for."""
    data = np.asarray(data, np.uint8)
    head, tail = data[:4].tobytes(), data[-4096:].tobytes().rstrip(b"\0")
    if (head[:2] == b"\xff\xd8" and not tail.endswith(b"\xff\xd9")) or (head == b"\x89PNG" and b"IEND" not in tail):
        raise SequenceError(f"the compressed image ({name!r}) ends after {len(data)} bytes, before its end mark")
    try:
        image = cv2.imdecode(data, flags) if len(data) else None
    except cv2.error:
        image = None
    if image is None:
        raise SequenceError(f"the compressed image ({name!r}, {len(data)} bytes) is no JPEG or PNG that can be decoded")
    return np.asarray(image)


Link = PoseTable | NDArray[np.float64]
"""From a frame to its parent: over time, or fixed, float64 (4, 4)."""


def _frame(name: str) -> str:
    """A frame's name without the slash that ROS 1 once put before it."""
    return name.removeprefix("/")


def _read_links(bag: Bag, topic: str, camera: str, pose_frame: str | None, world: str | None) -> list[Link]:
    """Links from the world to the camera's frame, by a pose topic and tf, or by tf alone."""
    bag.check("ground_truth", topic, *POSE_TYPES, *TF_TYPES)
    tree = _read_tf(bag)
    if bag.types[topic] in TF_TYPES:
        links = _chain(tree, camera, world)
        if links is None or not any(isinstance(link, PoseTable) for link in links):
            raise SequenceError(
                f"tf does not say how {camera!r} moves{f' in {world!r}' if world else ''}; {_known(tree)}"
            )
        return links
    rows, child = [], ""
    for _, recorded, message in bag.messages([topic]):
        child = _frame(getattr(message, "child_frame_id", ""))
        pose = getattr(message, "pose", None) or message.transform
        rows.append((_stamp(message, recorded), _seven(getattr(pose, "pose", pose))))
    rows = [row for row in rows if np.all(np.isfinite(row[1]))]
    table = PoseTable.from_rows(rows, Path(f"{bag.path}, {topic}"))
    body = _frame(pose_frame) if pose_frame else child or camera
    links = _chain(tree, camera, body)
    if links is None:
        raise SequenceError(
            f"the poses of {topic} are those of {body!r}, and tf does not lead from there to the camera's frame "
            f"{camera!r}; {_known(tree)}; pose_frame={camera!r} takes them as the camera's"
        )
    return [table, *links]


def _read_tf(bag: Bag) -> dict[str, tuple[str, Link]]:
    """Parent and link of each child frame."""
    rows: dict[tuple[str, str], list[tuple[int, list[float]]]] = {}
    fixed: set[str] = set()
    names = bag.of_type(*TF_TYPES)
    for topic, recorded, message in bag.messages(names) if names else ():
        for transform in message.transforms:
            child, parent = _frame(transform.child_frame_id), _frame(transform.header.frame_id)
            row = (_stamp(transform, recorded), _seven(transform.transform))
            if np.all(np.isfinite(row[1])):
                rows.setdefault((child, parent), []).append(row)
            if topic.endswith("tf_static"):
                fixed.add(child)
    tree: dict[str, tuple[str, Link]] = {}
    for (child, parent), values in rows.items():
        if child in tree:
            raise SequenceError(f"tf gives {child!r} two parents, {tree[child][0]!r} and {parent!r}")
        table = PoseTable.from_rows(values, Path(f"{bag.path}, {child} in {parent}"))
        tree[child] = (parent, pose_from_quaternion(values[-1][1][:3], values[-1][1][3:]) if child in fixed else table)
    return tree


def _chain(tree: dict[str, tuple[str, Link]], frame: str, top: str | None) -> list[Link] | None:
    """Links from `top` (None: the root) down to `frame`; None if tf does not lead there."""
    links: list[Link] = []
    top = None if top is None else _frame(top)
    while frame != top:
        if frame not in tree or len(links) > len(tree):
            return links[::-1] if top is None and frame not in tree else None
        frame, link = tree[frame]
        links.append(link)
    return links[::-1]


def _known(tree: dict[str, tuple[str, Link]]) -> str:
    if not tree:
        return "the bag has no tf"
    return "tf has " + ", ".join(f"{parent} -> {child}" for child, (parent, _) in sorted(tree.items()))


def _seven(pose: Any) -> list[float]:
    """x y z qx qy qz qw of a geometry_msgs Pose or Transform."""
    t = getattr(pose, "position", None) or pose.translation
    q = getattr(pose, "orientation", None) or pose.rotation
    return [t.x, t.y, t.z, q.x, q.y, q.z, q.w]
