# SPDX-License-Identifier: Apache-2.0
"""An open bag of any kind, whose failures are sentences, and the message types that are read from it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..libraries import import_library
from ..stamps import nanoseconds_of
from .base import SequenceError

RAW_IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_TYPES = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
POSE_TYPES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
)

_METADATA_ENTRY = b"rosbag2_bagfile_information"
_BAG_SUFFIXES = (".bag", ".mcap", ".db3")
_REPAIR = {
    ".bag": "`rosbag reindex` repairs a recording that ended early",
    ".mcap": "`mcap recover` repairs a recording that ended early",
    ".db3": "`ros2 bag reindex` makes the metadata of a recording that ended early",
}


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
    MissingDependencyError, LibraryError
        If rosbags is not installed, or is and cannot be imported.
    """

    def __init__(self, path: Path) -> None:
        reading = import_library("rosbags.highlevel", "reading bags", "pip install rosbags rosbags-image")
        from rosbags.typesys import Stores, get_typestore

        self.path = path
        if path.is_dir() and not (path / "metadata.yaml").is_file():
            raise SequenceError(
                f"{path} has no metadata.yaml, which rosbag2 writes when a recording ends: it holds "
                f"{', '.join(sorted(entry.name for entry in path.iterdir()))}; `ros2 bag reindex {path}` makes it"
            )
        if path.is_dir() and _METADATA_ENTRY not in (path / "metadata.yaml").read_bytes():
            raise SequenceError(
                f"{path / 'metadata.yaml'} is empty or not what rosbag2 writes: it has no entry "
                f"{_METADATA_ENTRY.decode()}; `ros2 bag reindex {path}` makes it anew"
            )
        # What a damaged file raises depends on where it is damaged: the library's errors, apsw's, struct's, an assert.
        try:
            self._reader = reading.AnyReader([path], default_typestore=get_typestore(Stores.LATEST))
            self._reader.open()
        except Exception as error:
            raise SequenceError(f"{path} cannot be read as a bag: {reason_of(error)}{self.repair}") from error
        self.close = weakref.finalize(self, self._reader.close)
        topics = self._reader.topics
        self.types: dict[str, str] = {name: info.msgtype or "several types" for name, info in topics.items()}
        self.counts: dict[str, int] = {name: info.msgcount for name, info in topics.items()}

    @property
    def repair(self) -> str:
        """What helps if the recording was cut off, as the end of a sentence."""
        names = [self.path.name] if self.path.is_file() else [entry.name for entry in self.path.iterdir()]
        fitting = (advice for suffix, advice in _REPAIR.items() if any(name.endswith(suffix) for name in names))
        return next((f"; {advice}" for advice in fitting), "")

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
                f"{self.path} cannot be read to its end ({', '.join(topics)}): {reason_of(error)}{self.repair}"
            ) from error

    @property
    def is_ros1(self) -> bool:
        """Whether it is a ROS 1 bag, whose messages have another form."""
        return not self._reader.is2

    @property
    def typestore(self) -> Any:
        """The message types as the bag has them."""
        return self._reader.typestore

    def raw_messages(self) -> Iterator[tuple[Any, int, bytes]]:
        """Connection, time of recording and bytes of every message, in the order of recording."""
        try:
            yield from self._reader.messages()
        except Exception as error:  # see __init__
            raise SequenceError(f"{self.path} cannot be read to its end: {reason_of(error)}{self.repair}") from error

    def decoded(self, connection: Any, data: bytes) -> Any:
        """The message of a connection's bytes."""
        return self._reader.deserialize(data, connection.msgtype)

    def first(self, topic: str) -> Any:
        """The first message of a topic that the bag's index says to have some."""
        for _, _, message in self.messages([topic]):
            return message
        raise SequenceError(
            f"{self.path} is cut off: it speaks of {self.counts[topic]} messages on {topic} and holds none{self.repair}"
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


def stamp_ns_of(message: Any, recorded: int) -> int:
    """Nanoseconds in the header; the time of recording where the driver left it at zero."""
    return nanoseconds_of(message.header.stamp) or recorded


def reason_of(error: Exception) -> str:
    return str(error) or type(error).__name__
