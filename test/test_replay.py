# SPDX-License-Identifier: Apache-2.0
"""Offline replay: bags with features beside what was there."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import sys
import threading
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from gcnv2_ros.cli.main import main
from gcnv2_ros.extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.replay import replay_to_bag
from gcnv2_ros.sequences import RoomOptions, SequenceError, SyntheticRoom, open_sequence
from gcnv2_ros.sequences.bag_writer import write_bag

ROOM = RoomOptions(width=160, height=120, frames=3, seed=4, baseline=0.1)
TOPIC = "/gcnv2_frontend/features"


@pytest.fixture
def orb() -> Extractor:
    return create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=60))


def raw(path: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Time of recording and bytes of every message, by topic."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    with AnyReader([path]) as reader:
        for connection, recorded, data in reader.messages():
            found.setdefault(connection.topic, []).append((recorded, bytes(data)))
    return found


def test_a_recording_keeps_every_message_and_gains_features(tmp_path: Path, orb: Extractor) -> None:
    write_bag(SyntheticRoom(ROOM), tmp_path / "room.mcap")
    counts = replay_to_bag(open_sequence(tmp_path / "room.mcap"), tmp_path / "out.mcap", orb)
    before, after = raw(tmp_path / "room.mcap"), raw(tmp_path / "out.mcap")
    assert {topic: after[topic] for topic in before} == before
    assert set(after) - set(before) == {TOPIC, "/gcnv2_frontend/model_info"}
    assert (counts[TOPIC], len(after[TOPIC]), len(after["/gcnv2_frontend/model_info"])) == (3, 3, 1)
    assert [recorded for recorded, _ in after[TOPIC]] == [recorded for recorded, _ in before["/image"]]


def test_the_messages_hold_what_the_extractor_finds(tmp_path: Path, orb: Extractor) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="ROS 2 is not installed")
    from sensor_msgs.msg import PointCloud2

    from gcnv2_ros.ros.features_msg import decode_features

    room = SyntheticRoom(ROOM)
    replay_to_bag(room, tmp_path / "out.mcap", orb)
    for frame, (_, data) in zip(room, raw(tmp_path / "out.mcap")[TOPIC], strict=True):
        read = decode_features(serialization.deserialize_message(data, PointCloud2))
        expected = orb.extract(frame.gray)
        assert (read.stamp_ns, read.header.frame_id) == (frame.stamp_ns, "camera")
        np.testing.assert_array_equal(read.features.uv, expected.uv)
        np.testing.assert_array_equal(read.features.descriptors, expected.descriptors)
        np.testing.assert_allclose(read.rays, room.camera.rays(expected.uv))
        assert np.isfinite(read.features.depth).mean() > 0.3


def test_the_same_sequence_gives_the_same_messages(tmp_path: Path, orb: Extractor) -> None:
    for name in ("a.mcap", "b.mcap"):
        replay_to_bag(SyntheticRoom(ROOM), tmp_path / name, orb)
    assert raw(tmp_path / "a.mcap") == raw(tmp_path / "b.mcap")


def test_some_frames_of_a_recording_are_complete(tmp_path: Path, orb: Extractor) -> None:
    write_bag(SyntheticRoom(ROOM), tmp_path / "room.mcap")
    counts = replay_to_bag(open_sequence(tmp_path / "room.mcap"), tmp_path / "out.mcap", orb, frames=2)
    before, after = raw(tmp_path / "room.mcap"), raw(tmp_path / "out.mcap")
    assert {topic: after[topic] for topic in before} == {topic: messages[:2] for topic, messages in before.items()}
    assert counts[TOPIC] == len(open_sequence(tmp_path / "out.mcap")) == 2


def test_a_recording_with_no_more_than_the_frames_asked_for_is_copied_to_its_end(
    tmp_path: Path, orb: Extractor
) -> None:
    write_bag(SyntheticRoom(ROOM), tmp_path / "room.mcap")
    # The last frame ends with its image, and depth goes on.
    sequence = open_sequence(tmp_path / "room.mcap", depth="", right="")
    replay_to_bag(sequence, tmp_path / "out.mcap", orb, frames=3)
    before, after = raw(tmp_path / "room.mcap"), raw(tmp_path / "out.mcap")
    assert {topic: after[topic] for topic in before} == before


def test_a_type_without_definition_is_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """As rosbag2 records to sqlite3 up to Humble: there is neither a table of definitions nor one of the schema."""
    write_bag(SyntheticRoom(ROOM), tmp_path / "room.mcap")
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg("uint32 distance", "lidar_driver/msg/Point"))
    drive = tmp_path / "drive"
    with (
        AnyReader([tmp_path / "room.mcap"]) as reader,
        Writer(drive, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer,
    ):
        topics = {}
        for connection, recorded, data in reader.messages():
            topic = connection.topic
            topics[topic] = topics.get(topic) or writer.add_connection(topic, connection.msgtype, typestore=store)
            writer.write(topics[topic], recorded, data)
        points = writer.add_connection("/lidar", "lidar_driver/msg/Point", typestore=store)
        for _ in range(2):
            writer.write(points, recorded, bytes(8))
    (database,) = drive.glob("*.db3")
    with contextlib.closing(sqlite3.connect(database)) as opened:
        for table in ("message_definitions", "schema"):
            opened.execute(f"DROP TABLE {table}")
        opened.commit()
    assert main(["replay", str(drive), str(tmp_path / "out.mcap"), "--model", "orb"]) == 0
    told = capsys.readouterr().err
    assert told.count("/lidar is left out") == 1
    assert "lidar_driver/msg/Point" in told
    before, after = raw(tmp_path / "room.mcap"), raw(tmp_path / "out.mcap")
    assert {topic: after[topic] for topic in before} == before
    assert set(after) - set(before) == {TOPIC, "/gcnv2_frontend/model_info"}


@pytest.mark.parametrize("out", [["out.mcap"], []])
def test_without_tqdm_there_is_just_no_bar(
    out: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    if not out:
        pytest.importorskip("rclpy", reason="ROS 2 is not installed")
        import ros_helpers  # noqa: F401 - its own ROS domain
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.chdir(tmp_path)
    room = "room:width=160,height=120,frames=2"
    online = [] if out else ["--rate", "0", "--wait", "0"]
    assert main(["replay", room, *out, "--model", "orb", *online]) == 0
    assert ("features (2)" if out else "published 2 frames") in capsys.readouterr().out


def test_a_ros_1_recording_becomes_a_rosbag2_with_features(tmp_path: Path, orb: Extractor) -> None:
    write_bag(SyntheticRoom(ROOM), tmp_path / "room.bag")
    counts = replay_to_bag(open_sequence(tmp_path / "room.bag"), tmp_path / "out.mcap", orb, frames=2)
    assert counts[TOPIC] == counts["/image"] == 2


def test_features_are_not_recorded_twice(tmp_path: Path, orb: Extractor) -> None:
    replay_to_bag(SyntheticRoom(ROOM), tmp_path / "once.mcap", orb)
    with pytest.raises(SequenceError, match=r"/gcnv2_frontend/features .* already; choose another node name"):
        replay_to_bag(open_sequence(tmp_path / "once.mcap"), tmp_path / "twice.mcap", orb)
    assert not (tmp_path / "twice.mcap").exists()
    replay_to_bag(open_sequence(tmp_path / "once.mcap"), tmp_path / "twice.mcap", orb, node="/other")


@pytest.mark.parametrize("name", ["", "/", "my node", "a//b", "9a", "front-end", "kamera_ü"])
def test_a_name_that_no_node_can_have_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    room = "room:width=64,height=48,frames=2"
    for arguments in ([room, str(tmp_path / "out.mcap"), "--model", "orb"], [room]):
        if len(arguments) == 1:
            pytest.importorskip("rclpy", reason="ROS 2 is not installed")
        assert main(["replay", *arguments, "--node", name]) == 1
        assert f"{name!r} cannot be the name of a node" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_namespace_that_cannot_be_is_refused(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    assert main(["replay", "room:width=64,height=48,frames=2", "--namespace", "my robot"]) == 1
    assert "'my robot' cannot be a namespace" in capsys.readouterr().err


@pytest.mark.parametrize("chosen", [{}, {"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"}])
def test_fast_dds_is_set_up_for_large_images_unless_the_user_has_chosen(chosen: dict[str, str]) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    import ros_helpers  # noqa: F401 - its own ROS domain

    names = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    with mock.patch.dict(os.environ):
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(chosen)
        assert main(["replay", "room:width=64,height=48,frames=2", "--rate", "0", "--wait", "0"]) == 0
        found = {name: os.environ[name] for name in names if name in os.environ}
    assert found == chosen if chosen else "large_images.xml" in "".join(found.values())


@pytest.mark.parametrize("command", [["replay", "room:width=64,height=48,frames=2"], ["view", "--live"]])
def test_ros_that_cannot_start_is_one_sentence(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    if command[0] == "view":
        pytest.importorskip("rerun", reason="needs rerun-sdk")
        command = [*command, "--out", str(tmp_path / "x.rrd"), "--seconds", "1"]
    monkeypatch.setenv("ROS_DOMAIN_ID", "abc")
    assert main(command) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"gcnv2 {command[0]}: cannot start: ")
    assert "ROS_DOMAIN_ID is not an integral number" in told
    assert len(told.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("node", ["other", "/other", "other/"])
def test_slashes_around_a_node_s_name_make_no_difference(node: str, tmp_path: Path, orb: Extractor) -> None:
    counts = replay_to_bag(SyntheticRoom(ROOM), tmp_path / "out.mcap", orb, node=node)
    assert counts["/other/features"] == 3


@pytest.mark.parametrize(
    "names", [["--namespace", "/robot/"], ["--namespace", "robot", "--node", "/robot/gcnv2_frontend"]]
)
def test_the_running_node_s_answers_and_counts_are_told(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from ros_helpers import TIMEOUT, NodeProcess

    from gcnv2_ros.ros import online_replay

    # Ends as soon as the node has answered and told its counts.
    monkeypatch.setattr(online_replay, "_DRAIN_SECONDS", TIMEOUT)
    parameters = {"model": "orb", "queue": "all", "subscribe_reliability": "reliable"}
    with NodeProcess(tmp_path / "log.txt", parameters, {"__ns": "/robot"}) as process:
        process.wait_for_log("active")
        room = "room:width=160,height=120,frames=3"
        assert main(["replay", room, "--wait", str(TIMEOUT), *names]) == 0
        assert process.stop() == 0, process.log
    told = capsys.readouterr().out
    assert "3 came back as features, 0 did not" in told
    assert "frames dropped: 0" in told


def test_a_frontend_whose_features_are_announced_late_is_waited_for() -> None:
    rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    import ros_helpers
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image, PointCloud2

    from gcnv2_ros.ros.online_replay import replay_online

    room = SyntheticRoom(ROOM)
    # The first picture takes seconds, in which discovery would be over.
    assert room[0].stamp_ns < room[2].stamp_ns
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("gcnv2_frontend", context=context, namespace="/late")
    publishers = []
    seen_for = itertools.count()

    def announce() -> None:
        if node.count_publishers("image") and next(seen_for) == 10:
            publishers.append(node.create_publisher(PointCloud2, "~/features", 10))

    def answer(image: Image) -> None:
        for publisher in publishers:
            publisher.publish(PointCloud2(header=image.header))

    node.create_subscription(Image, "image", answer, 10)
    node.create_timer(0.1, announce)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin, daemon=True)
    spinner.start()
    try:
        outcome = replay_online(room, namespace="late", wait=ros_helpers.TIMEOUT, rate=10.0)
    finally:
        executor.shutdown()
        spinner.join(ros_helpers.TIMEOUT)
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert (outcome.published, outcome.answered) == (3, 3)


def test_the_command_writes_a_bag_and_names_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["replay", "room:width=160,height=120,frames=2", str(tmp_path / "out.mcap"), "--model", "orb"]
    assert main(arguments) == 0
    assert f"{TOPIC} (2)" in capsys.readouterr().out
    assert main(arguments) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*arguments[:2], str(tmp_path / "out.bag"), "--model", "orb"]) == 1
    assert "NAME.mcap" in capsys.readouterr().err
    assert main(["replay", "room", "--rate", "-1"]) == 1
    assert "--rate" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mcap"]


@pytest.mark.parametrize("option", ["--rate 0.5", "--rate 1", "--clock", "--reliability reliable", "--namespace a"])
def test_an_option_onto_ros_topics_is_refused_for_a_bag(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out.mcap"
    assert main(["replay", "room:frames=2", str(out), "--model", "orb", *option.split()]) == 1
    sentence = f"{option.split()[0]} is for a replay onto ROS topics, and {out} is to be a bag; leave one out"
    assert capsys.readouterr().err == f"gcnv2 replay: {sentence}\n"
    assert not out.exists()
