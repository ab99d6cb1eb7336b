# SPDX-License-Identifier: Apache-2.0
"""KITTI odometry folders: images, times, projections and poses by their numbers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from gcnv2_ros.geometry import pose_from_quaternion, transform_points
from gcnv2_ros.sequences import KittiSequence, SequenceError, open_sequence

K = np.array([[50.0, 0, 31.5], [0, 50, 20], [0, 0, 1]])
CENTRES = {0: [0.0, 0, 0], 1: [0.54, 0, 0], 2: [-0.06, 0.001, -0.003], 3: [0.47, 0.002, -0.003]}


def picture(number: int, camera: int) -> np.ndarray:
    shape = (40, 64) if camera < 2 else (40, 64, 3)
    return np.random.default_rng([number, camera]).integers(0, 256, shape, dtype=np.uint8)


def pose(number: int) -> np.ndarray:
    return pose_from_quaternion([0, 0, float(number)], [0, 0.1 * number, 0, 1])


def projection(camera: int) -> np.ndarray:
    return K @ np.column_stack([np.eye(3), -np.array(CENTRES[camera])])


def write_kitti(root: Path, *, cameras: tuple[int, ...] = (0, 1), numbers: range = range(4), times: int = 4) -> Path:
    """The layout of the benchmark: sequences/07 and poses/07.txt."""
    folder = root / "sequences" / "07"
    for camera in cameras:
        (folder / f"image_{camera}").mkdir(parents=True)
        for number in numbers:
            cv2.imwrite(str(folder / f"image_{camera}" / f"{number:06d}.png"), picture(number, camera))
    lines = [f"P{camera}: " + " ".join(map(repr, map(float, projection(camera).ravel()))) for camera in range(4)]
    (folder / "calib.txt").write_text("\n".join([*lines, "Tr: " + " ".join(["0.5"] * 12)]) + "\n")
    (folder / "times.txt").write_text("".join(f"{number * 0.1:.6e}\n" for number in range(times)))
    (root / "poses").mkdir()
    rows = [" ".join(map(repr, map(float, pose(number)[:3].ravel()))) for number in range(times)]
    (root / "poses" / "07.txt").write_text("\n".join(rows) + "\n")
    return folder


def test_a_kitti_folder_gives_a_rectified_pair_and_poses(tmp_path: Path) -> None:
    sequence = open_sequence(write_kitti(tmp_path))
    assert isinstance(sequence, KittiSequence)
    assert (sequence.name, len(sequence)) == ("kitti-07", 4)
    assert sequence.stereo == pytest.approx((50.0, 0.54))
    assert (sequence.camera.fx, sequence.camera.cx, sequence.camera.width, sequence.camera.height) == (50, 31.5, 64, 40)
    frame = sequence[-1]
    assert (frame.index, frame.stamp_ns) == (3, 300_000_000)
    np.testing.assert_array_equal(frame.image, picture(3, 0))
    np.testing.assert_array_equal(frame.right, picture(3, 1))
    np.testing.assert_allclose(frame.pose, pose(3), atol=1e-15)


def test_colour_cameras_have_their_own_place(tmp_path: Path) -> None:
    folder = write_kitti(tmp_path, cameras=(0, 1, 2, 3))
    assert open_sequence(folder)[0].image.ndim == 2
    sequence = open_sequence(folder, colour=True)
    frame = sequence[2]
    np.testing.assert_array_equal(frame.image, picture(2, 2))
    np.testing.assert_array_equal(frame.right, picture(2, 3))
    assert sequence.baseline == pytest.approx(0.53)
    # A point seen by the colour camera is where the projection from image_0's frame puts it.
    point = np.array([[0.3, -0.2, 4.0]])
    seen = projection(2) @ [0.3, -0.2, 4.0, 1.0]
    in_world = transform_points(pose(2), point)
    in_camera = transform_points(np.linalg.inv(frame.pose), in_world)
    np.testing.assert_allclose(sequence.camera.project(in_camera)[0], seen[:2] / seen[2], atol=1e-9)


def test_projections_that_are_no_rectified_pair_s_are_told_and_give_no_stereo(tmp_path: Path) -> None:
    folder = write_kitti(tmp_path)
    calibration = folder / "calib.txt"
    other = K.copy()
    other[0, 2] += 5.0
    row = " ".join(map(repr, map(float, (other @ np.column_stack([np.eye(3), [-0.54, 0, 0]])).ravel())))
    lines = calibration.read_text().split("\n")
    calibration.write_text("\n".join([lines[0], f"P1: {row}"]) + "\n")
    sequence = open_sequence(folder)
    assert sequence.stereo is None
    assert sequence[0].right is not None
    (note,) = sequence.notes
    assert "no depth by stereo" in note
    assert "cx 31.5 and 36.5 pixels" in note


def test_one_camera_and_no_extras_are_enough(tmp_path: Path) -> None:
    folder = write_kitti(tmp_path, cameras=(2,))
    (folder / "calib.txt").unlink()
    (tmp_path / "poses" / "07.txt").unlink()
    sequence = open_sequence(folder)
    assert (sequence.camera, sequence.baseline, sequence[0].right, sequence[0].pose) == (None,) * 4


def test_a_part_of_a_sequence_keeps_its_times_and_poses(tmp_path: Path) -> None:
    sequence = open_sequence(write_kitti(tmp_path, numbers=range(5, 8), times=10))
    assert [frame.stamp_ns for frame in sequence] == [500_000_000, 600_000_000, 700_000_000]
    np.testing.assert_allclose(sequence[0].pose, pose(5), atol=1e-15)


@pytest.mark.parametrize("camera", [0, 1])
def test_a_picture_of_another_size_than_the_first_is_refused(camera: int, tmp_path: Path) -> None:
    folder = write_kitti(tmp_path)
    path = folder / f"image_{camera}" / "000002.png"
    cv2.imwrite(str(path), picture(2, camera)[:20])
    sequence = open_sequence(folder)
    assert sequence[1].image.shape == (40, 64)
    with pytest.raises(SequenceError, match=rf"{path} is 64x20 and {folder}/calib\.txt is for 64x40; all pictures"):
        sequence[2]


def test_a_byte_order_mark_before_the_first_line_is_no_fault(tmp_path: Path) -> None:
    folder = write_kitti(tmp_path)
    for path in tmp_path.rglob("*.txt"):
        path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    sequence = open_sequence(folder)
    assert sequence.camera.fx == 50
    assert sequence[3].stamp_ns == 300_000_000
    np.testing.assert_allclose(sequence[3].pose, pose(3), atol=1e-15)


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    folder = write_kitti(tmp_path)
    poses = tmp_path / "poses" / "07.txt"
    whole = poses.read_text()
    poses.write_text(whole.split("\n")[0] + "\n")
    with pytest.raises(SequenceError, match=r"07\.txt has 1 lines, and the picture .*000003\.png needs line 4"):
        open_sequence(folder)
    poses.write_text(whole.replace("1.0", "x", 1))
    with pytest.raises(SequenceError, match=r"07\.txt, line 1: expected numbers"):
        open_sequence(folder)
    poses.write_text(" ".join(["2"] * 12) + "\n")
    with pytest.raises(SequenceError, match=r"line 1: expected a rotation"):
        open_sequence(folder)
    poses.write_text(whole)
    calibration = folder / "calib.txt"
    lines = calibration.read_text().split("\n")
    calibration.write_text(lines[0] + "\n")
    with pytest.raises(SequenceError, match=r"calib\.txt has no line P1; it has P0"):
        open_sequence(folder)
    (folder / "times.txt").unlink()
    with pytest.raises(SequenceError, match=r"times\.txt is missing"):
        open_sequence(folder)
