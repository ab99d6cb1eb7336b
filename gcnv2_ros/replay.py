# SPDX-License-Identifier: Apache-2.0
"""Offline replay: a sequence straight through an extractor, every frame, into a bag with the features beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .extraction import Extractor
from .features import Features
from .frame_features import extract_frame, extract_right, is_rectified_pair
from .messages.clouds import cloud_bytes, cloud_fields
from .messages.features import feature_points
from .ros_names import full_node_name
from .sequences import Frame, RosbagSequence, Sequence, SequenceError
from .sequences.bag_file import stamp_ns_of
from .sequences.bag_writer import BagOutput, new_bag, write_bag

NODE = "/gcnv2_frontend"
"""Name of the node as which features are recorded."""


def replay_to_bag(
    sequence: Sequence,
    path: str | Path,
    extractor: Extractor,
    *,
    node: str = NODE,
    frames: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, int]:
    """Extract features of every frame and write them to an MCAP bag, as the node would publish them.

    The gray images are those that the node makes of the same messages; see `RosbagSequence` for those of 16 bits.

    Of a rosbag2 recording every message is copied as it is, but for topics of types that are not ROS's own and whose
    definition the recording does not hold; of other sequences `write_bag` makes the topics. Beside them come
    ``NODE/features`` (schema 1, with depth where there is any, and viewing rays where there is a calibration), recorded
    at the time of their image, and one ``NODE/model_info``. The same input gives the same bag.

    Parameters
    ----------
    sequence
        What is replayed.
    path
        ``NAME.mcap`` or a folder; it must not exist, and appears when the bag is complete.
    extractor
        Makes the features.
    node
        Full name under which they are recorded; a slash before it may be missing.
    frames
        At most so many; of a recording with more, what comes after their last message is left out.
    progress
        Called with the number of frames done and their total.
    say
        Called with a line for the user about what is left out.

    Returns
    -------
    dict
        Number of messages by topic.

    Raises
    ------
    SequenceError
        If the path exists or is of another format, a frame cannot be read, or the recording has such topics already.
    RosNameError
        If no node can have the name.
    """
    if Path(path).suffix == ".bag":
        raise SequenceError(f"{path}: features are written to rosbag2; name it NAME.mcap")
    total = len(sequence) if frames is None else min(frames, len(sequence))
    recorder = _Recorder(sequence, extractor, full_node_name(node))
    if not isinstance(sequence, RosbagSequence) or sequence.bag.is_ros1:
        return write_bag(
            sequence,
            path,
            bag_format="mcap",
            frames=frames,
            progress=progress,
            after_frame=lambda output, frame: recorder.write(output, frame, frame.stamp_ns, _frame_id(sequence)),
        )
    taken = [name for name in recorder.topics if name in sequence.bag.types]
    if taken:
        raise SequenceError(f"{sequence.bag.path} holds {' and '.join(taken)} already; choose another node name")
    index_of = {stamp: index for index, stamp in enumerate(sequence.stamps_ns[:total])}
    last = sequence.recorded_until(total) if total < len(sequence) else None
    undefined: set[str] = set()
    with new_bag(path, "mcap") as output:
        done = 0
        for connection, recorded, data in sequence.bag.raw_messages():
            if last is not None and recorded > last:
                break
            if connection.msgtype not in sequence.bag.typestore.types:
                if connection.topic not in undefined:
                    undefined.add(connection.topic)
                    say(
                        f"{connection.topic} is left out: {sequence.bag.path} does not hold the definition of its type "
                        f"{connection.msgtype}, without which it cannot be copied; `ros2 bag convert` to MCAP adds it "
                        "where that type is installed"
                    )
                continue
            output.copy(connection, recorded, data, sequence.bag.typestore)
            if connection.topic != sequence.topics.image:
                continue
            message = sequence.bag.decoded(connection, data)
            # Of equal stamps the first counts, as in the sequence.
            index = index_of.pop(stamp_ns_of(message, recorded), None)
            if index is None:
                continue
            recorder.write(output, sequence[index], recorded, message.header.frame_id)
            done += 1
            if progress is not None:
                progress(done, total)
    return output.counts


class _Recorder:
    """Writes the features of frames, and once what they are made with."""

    def __init__(self, sequence: Sequence, extractor: Extractor, node: str) -> None:
        self._sequence = sequence
        self._extractor = extractor
        self._told = False
        self.topics = (f"{node}/features", f"{node}/model_info")

    def write(self, output: BagOutput, frame: Frame, recorded: int, frame_id: str) -> None:
        """Extract and write one frame's features."""
        features_topic, info_topic = self.topics
        if not self._told:
            text = json.dumps(json.loads(self._extractor.info.to_json()), sort_keys=True)
            output.write(info_topic, recorded, output.message("std_msgs/String", data=text))
            self._told = True
        features = extract_frame(self._extractor, frame)
        if frame.depth is None and is_rectified_pair(frame, self._sequence):
            features, _ = extract_right(self._extractor, features, frame, self._sequence)
        camera = self._sequence.camera
        rays = None if camera is None else camera.rays(features.uv)
        output.write(features_topic, recorded, _cloud(output, features, rays, frame.stamp_ns, frame_id))


def _cloud(output: BagOutput, features: Features, rays: np.ndarray | None, stamp_ns: int, frame_id: str) -> Any:
    points = feature_points(features, rays)
    return output.message(
        "sensor_msgs/PointCloud2",
        header=output.header(stamp_ns, frame_id),
        height=1,
        width=len(points),
        fields=[output.message("sensor_msgs/PointField", **vars(field)) for field in cloud_fields(points.dtype)],
        is_bigendian=False,
        point_step=points.dtype.itemsize,
        row_step=points.nbytes,
        data=cloud_bytes(points),
        is_dense=rays is not None and bool(np.isfinite(rays).all()),
    )


def _frame_id(sequence: Sequence) -> str:
    return sequence.camera.frame_id if sequence.camera is not None and sequence.camera.frame_id else "camera"
