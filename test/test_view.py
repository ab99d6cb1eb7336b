# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 view` and the viewers' configurations: what is written can be read back, what is shown exists."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from gcnv2_ros.camera import Camera
from gcnv2_ros.cli.main import main
from gcnv2_ros.errors import MissingDependencyError
from gcnv2_ros.features import Features
from gcnv2_ros.visualisation import RerunView

ROOT = Path(__file__).resolve().parents[1]


def read(path: Path) -> dict[str, dict[str, list[Any]]]:
    """Values in a Rerun file by entity and component, read by Rerun itself."""
    chunk = pytest.importorskip("rerun.chunk", reason="needs rerun-sdk")
    content: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for piece in chunk.RrdReader(str(path)).stream():
        batch = piece.to_record_batch()
        for name in batch.schema.names:
            content[piece.entity_path][name] += batch.column(name).to_pylist()
    return content


def features(count: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    return Features(
        rng.uniform(10, 90, (count, 2)).astype(np.float32),
        np.linspace(1, 0.1, count).astype(np.float32),
        np.random.default_rng(1).integers(0, 256, (count, 32), dtype=np.uint8),
        (100, 80),
        depth=np.where(np.arange(count) % 2, np.nan, 2.0).astype(np.float32),
    )


def test_a_file_holds_what_was_shown(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs rerun-sdk")
    path = tmp_path / "run.rrd"
    camera = Camera(width=100, height=80, fx=90.0, fy=91.0, cx=49.5, cy=39.5)
    image = np.random.default_rng(2).integers(0, 256, (80, 100), dtype=np.uint8)
    depth = np.full((80, 100), 1.5, np.float32)
    depth[0, 0] = np.nan
    shown = [features(20, seed) for seed in range(3)]
    with RerunView(path) as view:
        view.show_camera(camera)
        for index, found in enumerate(shown):
            view.set_time(1_700_000_000_000_000_000 + index * 10**9, index)
            view.show_image(image)
            view.show_image(image, right=True)
            view.show_depth(depth)
            pose = np.eye(4)
            pose[:3, 3] = (index, 0.0, 0.5)
            view.show_pose(pose)
            matches = view.show_features(found, camera.rays(found.uv))
            assert matches == (20 if index else 0)
    content = read(path)
    keypoints = content["/world/camera/view/keypoints"]
    np.testing.assert_allclose(keypoints["Points2D:positions"], [found.uv for found in shown], atol=1e-5)
    assert sorted(keypoints["frame"]) == [0, 1, 2]
    times = sorted(value.timestamp() for value in keypoints["time"])
    np.testing.assert_allclose(np.diff(times), 1.0)
    assert [len(strips) for strips in content["/world/camera/view/matches"]["LineStrips2D:strips"]] == [0, 20, 20]
    points = np.array(content["/world/camera/points"]["Points3D:positions"])
    assert points.shape == (3, 10, 3)
    np.testing.assert_allclose(points[..., 2], 2.0)
    assert sorted(len(strips[0]) for strips in content["/world/trajectory/0"]["LineStrips3D:strips"]) == [1, 2, 3]
    assert len(content["/world/camera/view/image"]["EncodedImage:blob"]) == 3
    assert len(content["/right/image"]["EncodedImage:blob"]) == 3
    assert len(content["/world/camera/view/depth"]["DepthImage:buffer"]) == 3
    assert content["/count/keypoints"]["Scalars:scalars"] == [[20.0]] * 3
    np.testing.assert_allclose(
        np.reshape(content["/world/camera/view"]["Pinhole:image_from_camera"], (3, 3)).T, camera.matrix
    )


def test_a_view_that_fails_leaves_no_file(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs rerun-sdk")

    def fail() -> None:
        with RerunView(tmp_path / "run.rrd") as view:
            view.show_features(features(3))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_sequence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rerun", reason="needs rerun-sdk")
    scene = cv2.resize(np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8), (400, 320))
    (tmp_path / "pictures").mkdir()
    for index in range(4):
        part = np.ascontiguousarray(scene[20 : 20 + 240, 10 * index : 10 * index + 320])
        cv2.imwrite(str(tmp_path / "pictures" / f"{index:03d}.png"), part)
    out = tmp_path / "pictures.rrd"
    arguments = ["view", str(tmp_path / "pictures"), "--out", str(out), "--model", "orb", "--step", "2"]
    assert main([*arguments, "--max-keypoints", "100"]) == 0
    assert "2 frames" in capsys.readouterr().out
    content = read(out)
    assert len(content["/world/camera/view/keypoints"]["Points2D:positions"]) == 2
    strips = np.array(content["/world/camera/view/matches"]["LineStrips2D:strips"][1])
    assert np.median(strips[:, 1, 0] - strips[:, 0, 0]) == pytest.approx(-20, abs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a sequence, or --live"),
        (["room", "--live"], "give a sequence, or --live"),
        (["room", "--out", "x.mp4"], "x.mp4: a Rerun file ends in .rrd"),
        (["room", "--step", "0"], "at least 1"),
        (["--live", "--seconds", "-1", "--out", "x.rrd"], "--seconds must be above 0, got -1"),
        (["--live", "--seconds", "nan", "--out", "x.rrd"], "--seconds must be above 0, got nan"),
    ],
)
def test_arguments_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_name_that_no_node_can_have_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    arguments = ["--live", "--node", "my node", "--seconds", "1", "--out", str(tmp_path / "x.rrd")]
    assert main(["view", *arguments]) == 1
    assert "'my node' cannot be the name of a node" in capsys.readouterr().err


@pytest.mark.parametrize("topic", ["bad topic", "/a//b", "/image/", "9a", ""])
@pytest.mark.parametrize("option", ["--image", "--odometry"])
def test_a_name_that_no_topic_can_have_is_refused(
    option: str, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    assert main(["view", "--live", option, topic, "--seconds", "1", "--out", str(tmp_path / "x.rrd")]) == 1
    assert f"{topic!r} cannot be the name of a topic" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need no variable for a display")
@pytest.mark.parametrize("arguments", [["nowhere"], ["--live"]])
def test_without_a_display_a_file_is_asked_for_at_once(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["view", *arguments]) == 1
    assert "no display for Rerun's viewer" in (told := capsys.readouterr().err)
    assert "use --out FILE.rrd" in told


def test_a_live_view_that_saw_nothing_says_so_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rerun", reason="needs rerun-sdk")
    pytest.importorskip("rclpy", reason="needs ROS 2")
    import ros_helpers  # noqa: F401 - its own ROS domain

    arguments = ["--live", "--node", "/nobody", "--seconds", "0.5", "--out", str(tmp_path / "x.rrd")]
    assert main(["view", *arguments]) == 1
    assert "no features of /nobody came: is the node running, active" in capsys.readouterr().err


def test_a_missing_rerun_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingDependencyError, match="pip install rerun-sdk"):
        RerunView(tmp_path / "x.rrd")


def test_a_live_view_shows_what_is_published_and_goes_on_after_what_it_cannot_show(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs rerun-sdk")
    pytest.importorskip("rclpy", reason="needs ROS 2")
    import threading
    import time

    import ros_helpers
    from nav_msgs.msg import Odometry
    from rclpy.context import Context
    from rclpy.node import Node
    from sensor_msgs.msg import Image, PointCloud2

    from gcnv2_ros.ros.features_msg import encode_features
    from gcnv2_ros.ros.live_view import run_live

    path = tmp_path / "live.rrd"
    context = Context()
    context.init()
    node = Node("publisher", context=context)
    stop = threading.Event()
    publishers = [
        node.create_publisher(Image, "/cam/image", 5),
        node.create_publisher(PointCloud2, "/front/features", 5),
        node.create_publisher(Odometry, "/front/odometry", 5),
    ]
    found = features(20)
    wider = Features(found.uv, found.response, np.zeros((20, 61), np.uint8), found.image_size, depth=found.depth)
    rays = np.column_stack((found.uv / 100, np.ones(20))).astype(np.float32)

    def publish() -> None:
        count = 0
        while not stop.is_set():
            image = ros_helpers.gray_message(np.full((80, 100), 90, np.uint8), stamp=(5 + count, 0))
            odometry = Odometry(header=image.header)
            odometry.pose.pose.position.x = float(count)
            odometry.pose.pose.orientation.w = float(count % 2)
            shown = encode_features((wider, found)[count % 2], image.header, rays)
            for publisher, message in zip(publishers, (image, shown, odometry)):
                publisher.publish(message)
            count += 1
            time.sleep(0.1)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        count = run_live(node="/front", image="/cam/image", odometry="/front/odometry", out=path, seconds=6.0)
    finally:
        stop.set()
        thread.join()
        node.destroy_node()
        context.shutdown()
    assert count > 0
    content = read(path)
    keypoints = content["/world/camera/view/keypoints"]["Points2D:positions"]
    assert len(keypoints) == count
    np.testing.assert_allclose(keypoints[0], found.uv, atol=1e-5)
    assert content["/world/camera/view/image"]["EncodedImage:blob"]
    assert content["/world/trajectory/0"]["LineStrips3D:strips"]
    assert len(content["/world/camera/points"]["Points3D:positions"][0]) == 10


def test_the_rviz_configuration_shows_topics_that_the_nodes_have() -> None:
    content = yaml.safe_load((ROOT / "config" / "rviz" / "frontend.rviz").read_text())
    displays = content["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"]: display for display in displays if "Topic" in display}
    assert set(topics) == {
        "/gcnv2_frontend/debug_image",
        "/gcnv2_frontend/points",
        "/gcnv2_odometry/odometry",
        "/gcnv2_odometry/path",
        "/gcnv2_odometry/map_points",
    }
    classes = {display["Class"] for display in displays}
    assert classes <= {
        f"rviz_default_plugins/{name}" for name in ("Grid", "TF", "Image", "PointCloud2", "Odometry", "Path")
    }
    assert len({display["Name"] for display in displays}) == len(displays)
    for display in topics.values():
        assert display["Topic"]["Reliability Policy"] in ("Reliable", "Best Effort")
    assert content["Visualization Manager"]["Global Options"]["Fixed Frame"] == "odom"


def test_the_foxglove_layout_shows_topics_that_the_nodes_have() -> None:
    content = json.loads((ROOT / "config" / "foxglove" / "frontend.json").read_text())

    def panels(layout: Any) -> set[str]:
        return {layout} if isinstance(layout, str) else panels(layout["first"]) | panels(layout["second"])

    assert panels(content["layout"]) == set(content["configById"])
    topics = set(re.findall(r"/gcnv2_(?:frontend|odometry)/[a-z_]+", json.dumps(content)))
    assert topics == {
        "/gcnv2_frontend/debug_image",
        "/gcnv2_frontend/points",
        "/gcnv2_odometry/odometry",
        "/gcnv2_odometry/path",
        "/gcnv2_odometry/map_points",
    }
