# SPDX-License-Identifier: Apache-2.0
"""Recordings of ROS topics, without a ROS installation: ROS 1 bags, and rosbag2's sqlite3 and MCAP."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera, CameraError
from ..ros_names import frame_name
from .bag_file import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    POSE_TYPES,
    RAW_IMAGE,
    TF_TYPES,
    Bag,
    stamp_ns_of,
)
from .bag_images import TopicStretch, decode_depth, decode_image
from .bag_poses import Link, read_links
from .base import Frame, Sequence, SequenceError
from .reading import PoseTable, check_size, option_to_ns

_LONGEST_JUMP_NS = 1_000_000_000
_OTHER_CALIBRATION = "name the calibration that belongs to the image, or leave it out with an empty name"
_SIDES = (("left", "right"), ("cam0", "cam1"), ("infra1", "infra2"), ("image_0", "image_1"), ("camera_0", "camera_1"))


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
    Calibration is the first usable ``camera_info`` beside the image; an image called ``image_rect`` or the like is
    taken as rectified. A pair whose calibrations are not those of rectified images gives no depth by stereo. Ground
    truth is an Odometry, PoseStamped, PoseWithCovarianceStamped or TransformStamped topic, moved from its child frame
    to the camera's frame with tf; without such a topic, tf itself from the camera's frame to its root.

    Frames go by the time in the message's header; where a driver left that at zero, by the time of recording. Images
    that were recorded out of order are sorted, of equal stamps the first counts, and a jump back of more than a second
    is refused, since it means that the clock was set or the recording played twice. Images without a partner near
    enough in time (depth, right) are left out. `notes` tells all that.

    `Frame.gray` is the gray image that the node makes of the same message. Images of 16 bits are seen through the
    window that the node's ``stretch: adaptive`` has once it has got all frames before; the first time that a frame is
    read out of order, these are read too.

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
        self._offset_ns = option_to_ns("clock_offset", clock_offset)
        self._entries = self._index(option_to_ns("longest_difference", longest_difference))
        self._stretches = {name: TopicStretch() for name in (topics.image, topics.right) if name is not None}
        self.camera = self._calibration(topics.image, topics.camera_info)
        if topics.right is not None:
            self.right_camera = self._calibration(topics.right, topics.right_camera_info)
        self._take_pair()
        self._links = self._ground_truth(ground_truth, pose_frame, world_frame)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Frame:
        position = self._position(index)
        image, gray = self._picture(self.topics.image, position)
        check_size(image, self.topics.image, self.camera, self.topics.camera_info, _OTHER_CALIBRATION)
        depth = right = right_gray = None
        if self.topics.depth is not None:
            depth = self._decoded(self.topics.depth, position, decode_depth)
            if depth.shape != image.shape[:2]:
                raise SequenceError(
                    f"{self.topics.depth} is {depth.shape[1]}x{depth.shape[0]} and {self.topics.image} "
                    f"{image.shape[1]}x{image.shape[0]}: depth must be registered to the image; name another topic, or "
                    "leave it out with depth=''"
                )
        if self.topics.right is not None:
            right, right_gray = self._picture(self.topics.right, position)
            check_size(right, self.topics.right, self.right_camera, self.topics.right_camera_info, _OTHER_CALIBRATION)
        stamp = self._entries[position][self.topics.image][0]
        pose = self._pose(stamp + self._offset_ns)
        return Frame(position, stamp, image, depth, right, pose, gray_image=gray, right_gray_image=right_gray)

    @property
    def bag(self) -> Bag:
        """The open bag."""
        return self._bag

    @property
    def stamps_ns(self) -> list[int]:
        """The frames' times in nanoseconds, without reading the frames."""
        return [entry[self.topics.image][0] for entry in self._entries]

    def recorded_until(self, count: int) -> int:
        """Time of recording of the last image, depth or right image of the first `count` frames, in nanoseconds."""
        return max(recorded for entry in self._entries[:count] for _, recorded in entry.values())

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

    def _picture(self, topic: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The picture of a frame, and its gray image."""
        stretch = self._stretches[topic].at(index, partial(self._message, topic))
        image, gray = self._decoded(topic, index, partial(decode_image, stretch=stretch))
        return image, gray

    def _decoded(self, topic: str, index: int, decode: Callable[[Any], Any]) -> Any:
        message = self._message(topic, index)
        try:
            return decode(message)
        except SequenceError as error:
            stamp, _ = self._entries[index][topic]
            raise SequenceError(f"{self._bag.path}, {topic} at {stamp / 1e9:.6f} s: {error}") from error

    def _message(self, topic: str, index: int) -> Any:
        """The message of a frame on a topic."""
        stamp, recorded = self._entries[index][topic]
        for _, _, message in self._bag.messages([topic], recorded, recorded + 1):
            if stamp_ns_of(message, recorded) == stamp:
                return message
        raise SequenceError(f"{self._bag.path} no longer holds the message of {topic} at {stamp / 1e9:.6f} s")

    def _index(self, longest_difference: int) -> list[dict[str, tuple[int, int]]]:
        """Stamp and time of recording of each frame's messages, by topic."""
        names = [name for name in (self.topics.image, self.topics.depth, self.topics.right) if name is not None]
        found: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
        for topic, recorded, message in self._bag.messages(names):
            found[topic].append((stamp_ns_of(message, recorded), recorded))
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
                f"{self._bag.path} is cut off: it speaks of {declared} messages on {topic} and holds {len(entries)}"
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
            links = read_links(bag, topic, frame_name(image.header.frame_id), pose_frame, world_frame)
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
