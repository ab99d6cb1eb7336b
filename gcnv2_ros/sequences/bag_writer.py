# SPDX-License-Identifier: Apache-2.0
"""Any sequence as a bag that `ros2 bag play` or `rosbag play` plays, with the topics that the node subscribes to."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..files import refuse_existing
from ..geometry import quaternion_of
from ..libraries import import_library
from ..stamps import seconds_and_nanoseconds
from .base import Frame, Sequence, SequenceError

BagFormat = Literal["mcap", "sqlite3", "ros1"]
DepthEncoding = Literal["32FC1", "16UC1"]
BAG_FORMATS: tuple[BagFormat, ...] = ("mcap", "sqlite3", "ros1")
DEPTH_ENCODINGS: tuple[DepthEncoding, ...] = ("32FC1", "16UC1")
WORLD_FRAME = "world"

_TF_DEFINITION = "geometry_msgs/TransformStamped[] transforms"
_DEEPEST_16_BIT = 65.535


def write_bag(
    sequence: Sequence,
    path: str | Path,
    *,
    bag_format: BagFormat | None = None,
    depth_encoding: DepthEncoding = "32FC1",
    tf: bool = True,
    frames: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    after_frame: Callable[[BagOutput, Frame], None] | None = None,
) -> dict[str, int]:
    """Write the frames of a sequence to a bag.

    Topics: ``/image`` (mono8 or bgr8), ``/camera_info``, ``/depth``, ``/right/image``, ``/right/camera_info``,
    ``/ground_truth`` (nav_msgs/Odometry of the camera's optical frame in ``world``, without twist) and ``/tf``; those
    of which the sequence has nothing are left out. A message's time of recording is its stamp.

    Parameters
    ----------
    path
        ``NAME.bag`` for ROS 1, ``NAME.mcap`` for a single MCAP file; any other name becomes a rosbag2 folder. It must
        not exist yet, and appears when the bag is complete.
    bag_format
        None: by the suffix, and MCAP without one.
    depth_encoding
        ``32FC1`` keeps depth as it is, in metres; ``16UC1`` rounds it to millimetres and gives up what is beyond
        65.535 m.
    tf
        Write ``/tf``; leave it out where an odometry node is to say itself where the camera is.
    frames
        At most so many.
    progress
        Called with the number of frames written and their total.
    after_frame
        Called after each frame is written, to write more messages beside it.

    Returns
    -------
    dict
        Number of messages by topic.

    Raises
    ------
    SequenceError
        If the path exists, does not go with the format, or a frame cannot be read.
    MissingDependencyError
        If `rosbags` is not installed.
    """
    if depth_encoding not in DEPTH_ENCODINGS:
        raise SequenceError(f"depth is written as {' or '.join(DEPTH_ENCODINGS)}, not as {depth_encoding!r}")
    total = len(sequence) if frames is None else min(frames, len(sequence))
    if total < 1:
        raise SequenceError(f"there is no frame of {sequence.name} to write")
    with new_bag(path, bag_format) as output:
        for position in range(total):
            frame = sequence[position]
            _write_frame(output, sequence, frame, depth_encoding, tf)
            if after_frame is not None:
                after_frame(output, frame)
            if progress is not None:
                progress(position + 1, total)
    return output.counts


@contextlib.contextmanager
def new_bag(path: str | Path, bag_format: BagFormat | None = None) -> Iterator[BagOutput]:
    """Give a bag to write to, which appears under its name when the block ends without error.

    Parameters
    ----------
    path, bag_format
        As `write_bag` takes them.

    Raises
    ------
    SequenceError
        If the path exists, does not go with the format or cannot be written.
    MissingDependencyError
        If `rosbags` is not installed.
    """
    target = Path(path)
    kind = _format_of(target, bag_format)
    refuse_existing(target, SequenceError)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        # It would name the temporary folder.
        raise SequenceError(f"{target} cannot be written: {error.strerror}") from error
    with temporary as folder:
        # The name inside is the final one, since rosbag2 calls the file in a bag's folder as the folder.
        made = Path(folder) / (target.name if kind == "ros1" else target.name.removesuffix(".mcap"))
        with BagOutput(made, kind) as output:
            yield output
        if target.suffix == ".mcap":
            made = made / target.name
        for file in [made] if made.is_file() else list(made.iterdir()):
            # The rename must not reach the disk before the content does.
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        made.rename(target)


class BagOutput:
    """A bag being written, in any format, with topics opened at their first message."""

    def __init__(self, path: Path, kind: BagFormat) -> None:
        rosbag1, rosbag2, typesys = (
            import_library(f"rosbags.{module}", "writing bags", "pip install rosbags")
            for module in ("rosbag1", "rosbag2", "typesys")
        )
        self.counts: dict[str, int] = {}
        self._connections: dict[str, Any] = {}
        self._ros1 = kind == "ros1"
        self._store = typesys.get_typestore(typesys.Stores.ROS1_NOETIC if self._ros1 else typesys.Stores.ROS2_HUMBLE)
        if self._ros1:
            self._store.register(typesys.get_types_from_msg(_TF_DEFINITION, "tf2_msgs/msg/TFMessage"))
            self._writer: Any = rosbag1.Writer(path)
        else:
            plugin = rosbag2.StoragePlugin.MCAP if kind == "mcap" else rosbag2.StoragePlugin.SQLITE3
            # Version 8 writes QoS profiles as the text that all releases from Humble on read.
            self._writer = rosbag2.Writer(path, version=8, storage_plugin=plugin)

    def __enter__(self) -> BagOutput:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)

    def copy(self, connection: Any, recorded: int, data: bytes, typestore: Any) -> None:
        """Write a message of another rosbag2 recording as it is; connection and typestore are those of the reader."""
        key = f"{connection.id} {connection.topic}"
        if key not in self._connections:
            self._connections[key] = self._writer.add_connection(
                connection.topic,
                connection.msgtype,
                typestore=typestore,
                msgdef=connection.msgdef.data or None,
                # MCAP files do not hold the hash.
                rihs01=connection.digest or typestore.hash_rihs01(connection.msgtype),
                serialization_format=connection.ext.serialization_format,
                offered_qos_profiles=connection.ext.offered_qos_profiles,
            )
        self._writer.write(self._connections[key], recorded, data)
        self.counts[connection.topic] = self.counts.get(connection.topic, 0) + 1

    def message(self, kind: str, **fields: Any) -> Any:
        """A message of a type such as ``sensor_msgs/Image``; ROS 1 has a counter in the header, and K for k."""
        package, name = kind.split("/")
        if self._ros1 and name == "Header":
            fields = {"seq": 0, **fields}
        if self._ros1 and name == "CameraInfo":
            fields = {key.upper() if len(key) == 1 else key: value for key, value in fields.items()}
        return self._store.types[f"{package}/msg/{name}"](**fields)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        sec, nanosec = seconds_and_nanoseconds(stamp_ns)
        stamp = self.message("builtin_interfaces/Time", sec=sec, nanosec=nanosec)
        return self.message("std_msgs/Header", stamp=stamp, frame_id=frame_id)

    def write(self, topic: str, stamp_ns: int, message: Any) -> None:
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._store)
        serialize = self._store.serialize_ros1 if self._ros1 else self._store.serialize_cdr
        self._writer.write(self._connections[topic], stamp_ns, serialize(message, kind))
        self.counts[topic] = self.counts.get(topic, 0) + 1


def _format_of(target: Path, wanted: BagFormat | None) -> BagFormat:
    if wanted is not None and wanted not in BAG_FORMATS:
        raise SequenceError(f"a bag's format is {', '.join(BAG_FORMATS)}, not {wanted!r}")
    by_suffix: dict[str, BagFormat] = {".bag": "ros1", ".mcap": "mcap"}
    if target.suffix == ".db3":
        raise SequenceError(f"{target}: an sqlite3 bag is a folder; give its name without .db3, and the format sqlite3")
    fitting = by_suffix.get(target.suffix)
    if fitting is None and wanted == "ros1":
        raise SequenceError(f"a ROS 1 bag must be named NAME.bag, not {target.name}")
    if fitting is not None and wanted not in (None, fitting):
        raise SequenceError(f"{target.name} names a bag of the format {fitting}, and the format asked for is {wanted}")
    return fitting or wanted or "mcap"


def _write_frame(output: BagOutput, sequence: Sequence, frame: Frame, depth_encoding: DepthEncoding, tf: bool) -> None:
    """Write what the frame has; poses and calibrations come before the images that they are for."""
    left, right = _frame_id(sequence.camera, "camera"), _frame_id(sequence.right_camera, "right_camera")
    stamp = frame.stamp_ns
    if frame.pose is not None:
        _write_pose(output, stamp, left, frame.pose, tf)
    if sequence.camera is not None:
        output.write("/camera_info", stamp, _camera_info(output, stamp, left, sequence.camera))
    if frame.right is not None and sequence.right_camera is not None:
        output.write("/right/camera_info", stamp, _camera_info(output, stamp, right, sequence.right_camera))
    output.write("/image", stamp, _image(output, stamp, left, frame.image, _encoding(frame.image)))
    if frame.right is not None:
        output.write("/right/image", stamp, _image(output, stamp, right, frame.right, _encoding(frame.right)))
    if frame.depth is not None:
        values: NDArray = frame.depth
        if depth_encoding == "16UC1":
            known = np.isfinite(frame.depth) & (frame.depth <= _DEEPEST_16_BIT)
            values = np.rint(1000 * np.where(known, frame.depth, 0).astype(np.float64)).astype(np.uint16)
        output.write("/depth", stamp, _image(output, stamp, left, values, depth_encoding))


def _frame_id(camera: Camera | None, default: str) -> str:
    return camera.frame_id if camera is not None and camera.frame_id else default


def _encoding(image: NDArray[np.uint8]) -> str:
    return "mono8" if image.ndim == 2 else "bgr8"


def _image(output: BagOutput, stamp: int, frame_id: str, pixels: NDArray, encoding: str) -> Any:
    little = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return output.message(
        "sensor_msgs/Image",
        header=output.header(stamp, frame_id),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=little[0].nbytes,
        data=little.reshape(-1).view(np.uint8),
    )


def _camera_info(output: BagOutput, stamp: int, frame_id: str, camera: Camera) -> Any:
    fields = camera.camera_info_fields()
    arrays = {name: np.array(fields.pop(name), np.float64) for name in "dkrp"}
    region = output.message("sensor_msgs/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return output.message(
        "sensor_msgs/CameraInfo",
        header=output.header(stamp, frame_id),
        **fields,
        **arrays,
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def _write_pose(output: BagOutput, stamp: int, frame_id: str, pose: NDArray[np.float64], tf: bool) -> None:
    """The camera in the world as Odometry with a twist of zero, which is not known, and as tf."""
    x, y, z = (float(number) for number in pose[:3, 3])
    qx, qy, qz, qw = quaternion_of(pose[:3, :3])
    rotation = output.message("geometry_msgs/Quaternion", x=qx, y=qy, z=qz, w=qw)
    zero = output.message("geometry_msgs/Vector3", x=0.0, y=0.0, z=0.0)
    odometry = output.message(
        "nav_msgs/Odometry",
        header=output.header(stamp, WORLD_FRAME),
        child_frame_id=frame_id,
        pose=output.message(
            "geometry_msgs/PoseWithCovariance",
            pose=output.message(
                "geometry_msgs/Pose",
                position=output.message("geometry_msgs/Point", x=x, y=y, z=z),
                orientation=rotation,
            ),
            covariance=np.zeros(36),
        ),
        twist=output.message(
            "geometry_msgs/TwistWithCovariance",
            twist=output.message("geometry_msgs/Twist", linear=zero, angular=zero),
            covariance=np.zeros(36),
        ),
    )
    output.write("/ground_truth", stamp, odometry)
    if tf:
        transform = output.message(
            "geometry_msgs/TransformStamped",
            header=output.header(stamp, WORLD_FRAME),
            child_frame_id=frame_id,
            transform=output.message(
                "geometry_msgs/Transform",
                translation=output.message("geometry_msgs/Vector3", x=x, y=y, z=z),
                rotation=rotation,
            ),
        )
        output.write("/tf", stamp, output.message("tf2_msgs/TFMessage", transforms=[transform]))
