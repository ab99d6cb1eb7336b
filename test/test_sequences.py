# SPDX-License-Identifier: Apache-2.0
"""Reading data sets: what is written in a format comes back, and what is missing is named."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from gcnv2_ros.camera import Camera
from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.geometry import invert_pose, pose_from_quaternion, transform_points
from gcnv2_ros.sequences import (
    EurocSequence,
    Frame,
    ImageSequence,
    SequenceError,
    SyntheticRoom,
    TumSequence,
    open_sequence,
    split_options,
)

CAMERA = Camera(64, 48, 60.0, 61.0, 31.0, 24.0, "plumb_bob", (-0.1, 0.01, 0.001, 0.0, 0.0))
STAMPS = [f"1305031102.{micro:06d}" for micro in (0, 33_333, 66_667, 100_001)]
T_BS = np.array([[0.0, -1, 0, 0.02], [1, 0, 0, -0.06], [0, 0, 1, 0.01], [0, 0, 0, 1]])


def picture(seed: int, shape: tuple[int, ...] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_tum(
    folder: Path, *, depth_shift: float = 0.007, depth: bool = True, shape: tuple[int, int] = (48, 64)
) -> Path:
    """Four frames with depth images `depth_shift` seconds later, and a ground truth that moves 1 m a second along x."""
    folder.mkdir()
    lists: dict[str, list[str]] = {"rgb": ["# colour images"], "depth": ["# depth maps"]}
    for kind in lists:
        (folder / kind).mkdir()
    for number, stamp in enumerate(STAMPS):
        cv2.imwrite(str(folder / "rgb" / f"{stamp}.png"), picture(number, shape))
        lists["rgb"].append(f"{stamp} rgb/{stamp}.png")
        later = f"{float(stamp) + depth_shift:.6f}"
        values = np.full(shape, 5000 * (number + 1), np.uint16)
        values[0, 0] = 0
        cv2.imwrite(str(folder / "depth" / f"{later}.png"), values)
        lists["depth"].append(f"{later} depth/{later}.png")
    (folder / "rgb.txt").write_text("\n".join(lists["rgb"]) + "\n")
    if depth:
        (folder / "depth.txt").write_text("\n".join(lists["depth"]) + "\n")
    start = float(STAMPS[0])
    truth = [f"{start + t:.6f} {t:.6f} 0 1 0 0 0 1" for t in np.arange(-0.05, 0.1, 0.01)]
    (folder / "groundtruth.txt").write_text("# t x y z qx qy qz qw\n" + "\n".join(truth) + "\n")
    return folder


def write_euroc(
    folder: Path,
    *,
    baseline: float = 0.1,
    right_stamps: range = range(4),
    distortion: str = "radial-tangential",
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Path:
    """A stereo folder whose second camera stands `baseline` to the right of the first, turned by a rotation vector."""
    beside = np.eye(4)
    beside[:3, :3] = cv2.Rodrigues(np.array(turn))[0]
    beside[0, 3] = baseline
    for name, pose, numbers in (("cam0", T_BS, range(4)), ("cam1", T_BS @ beside, right_stamps)):
        camera = folder / "mav0" / name
        (camera / "data").mkdir(parents=True)
        rows = ["#timestamp [ns],filename"]
        for number in numbers:
            stamp = 1_403_636_579_763_555_584 + number * 50_000_000
            cv2.imwrite(str(camera / "data" / f"{stamp}.png"), picture(number + 10 * (name == "cam1")))
            rows.append(f"{stamp},{stamp}.png")
        (camera / "data.csv").write_text("\n".join(rows) + "\n")
        content = {
            "sensor_type": "camera",
            "T_BS": {"rows": 4, "cols": 4, "data": pose.ravel().tolist()},
            "resolution": [64, 48],
            "camera_model": "pinhole",
            "intrinsics": [CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy],
            "distortion_model": distortion,
            "distortion_coefficients": [-0.1, 0.01, 0.001, 0.0],
        }
        (camera / "sensor.yaml").write_text("%YAML:1.0\n" + yaml.safe_dump(content))
    return folder


def test_a_tum_folder_gives_images_depth_and_poses(tmp_path: Path) -> None:
    folder = write_tum(tmp_path / "clip")
    (folder / "camera.yaml").write_text(yaml.safe_dump(CAMERA.to_dict()))
    sequence = open_sequence(folder)
    assert isinstance(sequence, TumSequence)
    assert sequence.camera == CAMERA
    assert len(sequence) == 4
    frame = sequence[1]
    assert frame.stamp_ns == 1_305_031_102_033_333_000
    np.testing.assert_array_equal(frame.image, picture(1))
    assert frame.depth.dtype == np.float32
    assert np.isnan(frame.depth[0, 0])
    assert np.all(frame.depth.ravel()[1:] == 2.0)
    np.testing.assert_allclose(frame.pose[:3, 3], [0.033333, 0, 1], atol=1e-6)
    assert sequence[3].pose is None, "the ground truth ends before the last image"
    assert [frame.index for frame in sequence] == [0, 1, 2, 3]


def test_the_clock_offset_moves_the_ground_truth(tmp_path: Path) -> None:
    folder = write_tum(tmp_path / "clip")
    assert TumSequence(folder, clock_offset=-0.01)[2].pose[0, 3] == pytest.approx(0.056667, abs=1e-6)
    assert TumSequence(folder, clock_offset=-0.02)[3].pose is not None


def test_depth_images_too_far_in_time_are_not_paired(tmp_path: Path) -> None:
    late = write_tum(tmp_path / "late", depth_shift=0.03)
    # 30 ms after an image is 3 ms before the next one: that one is the partner, and the first image has none.
    sequence = TumSequence(late)
    assert [frame.stamp_ns for frame in sequence] == [
        1_305_031_102_033_333_000,
        1_305_031_102_066_667_000,
        1_305_031_102_100_001_000,
    ]
    assert float(np.nanmax(sequence[0].depth)) == 1.0
    with pytest.raises(SequenceError, match=r"depth image within 0\.001"):
        TumSequence(late, longest_difference=0.001)


def test_a_depth_image_belongs_to_the_image_that_is_nearest_alone(tmp_path: Path) -> None:
    folder = write_tum(tmp_path / "clip")
    # 19 ms after the first image and 14 ms before the second.
    later = sorted((folder / "depth").glob("*.png"))[2]
    (folder / "depth.txt").write_text(f"{float(STAMPS[0]) + 0.019:.6f} depth/{later.name}\n")
    (frame,) = TumSequence(folder)
    np.testing.assert_array_equal(frame.image, picture(1))
    assert float(np.nanmax(frame.depth)) == 3.0


@pytest.mark.parametrize(("gap", "known"), [(0.25, True), (0.26, False)])
def test_no_pose_is_invented_between_measured_ones_more_than_a_quarter_of_a_second_apart(
    gap: float, known: bool, tmp_path: Path
) -> None:
    folder = write_tum(tmp_path / "clip")
    start = 1305031102.0
    rows = [f"{start + t:.6f} {t:.6f} 0 1 0 0 0 1" for t in (-0.05, gap - 0.05)]
    (folder / "groundtruth.txt").write_text("\n".join(rows) + "\n")
    poses = [frame.pose for frame in TumSequence(folder)]
    assert [pose is not None for pose in poses] == [known] * 4
    if known:
        assert poses[3][0, 3] == pytest.approx(0.100001, abs=1e-6)


def test_associations_are_taken_as_they_are_in_either_order(tmp_path: Path) -> None:
    folder = write_tum(tmp_path / "clip")
    stamp, later = STAMPS[2], f"{float(STAMPS[0]) + 0.007:.6f}"
    colour, depth = f"{stamp} rgb/{stamp}.png", f"{later} depth/{later}.png"
    dotted, absolute = depth.replace("depth/", "./depth/"), depth.replace("depth/", f"{folder}/depth/")
    for line in (f"{colour} {depth}", f"{depth} {colour}", f"{dotted} {colour}", f"{absolute} {colour}"):
        (folder / "associations.txt").write_text(line + "\n")
        frame = TumSequence(folder)[0]
        np.testing.assert_array_equal(frame.image, picture(2))
        assert float(np.nanmax(frame.depth)) == 1.0


def test_a_byte_order_mark_before_the_first_line_is_no_fault(tmp_path: Path) -> None:
    tum, euroc = write_tum(tmp_path / "clip"), write_euroc(tmp_path / "V1")
    (tum / "rgb.txt").write_text("\n".join(f"{stamp} rgb/{stamp}.png" for stamp in STAMPS))
    for path in (*tum.glob("*.txt"), *euroc.rglob("data.csv"), *euroc.rglob("sensor.yaml")):
        path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    for folder in (tum, euroc):
        assert len(open_sequence(folder)) == 4


def test_a_tum_folder_without_depth_is_monocular(tmp_path: Path) -> None:
    frame = TumSequence(write_tum(tmp_path / "mono", depth=False))[0]
    assert frame.depth is None
    assert frame.pose is not None


@pytest.mark.parametrize(
    ("name", "fx"),
    [
        ("rgbd_dataset_freiburg2_desk", 520.9),
        ("fr3_office", 535.4),
        ("clip-FR1", 517.3),
        ("mine", None),
        ("kitchen_fr12", None),
        ("afr1ca", None),
    ],
)
def test_the_benchmarks_cameras_are_known_by_the_folders_name(tmp_path: Path, name: str, fx: float | None) -> None:
    sequence = TumSequence(write_tum(tmp_path / name, shape=(480, 640)))
    assert (sequence.camera.fx if sequence.camera else None) == fx
    assert sequence[0].image.shape == (480, 640)
    assert sequence.notes == []


def test_a_benchmark_recording_of_another_size_has_no_calibration_and_says_so(tmp_path: Path) -> None:
    sequence = open_sequence(write_tum(tmp_path / "fr1_small", shape=(240, 320)))
    assert sequence.camera is None
    assert sequence[0].image.shape == (240, 320)
    (note,) = sequence.notes
    assert note.startswith("no calibration: that of freiburg1, which the folder is named after, is for 640x480, and ")
    assert f"{STAMPS[0]}.png is 320x240" in note


def test_a_calibration_of_another_size_than_the_images_is_refused(tmp_path: Path) -> None:
    tum, euroc, folder = write_tum(tmp_path / "clip"), write_euroc(tmp_path / "V1"), tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), picture(0))
    for place in (tum, folder):
        (place / "camera.yaml").write_text(yaml.safe_dump(CAMERA.scaled(128, 96).to_dict()))
        with pytest.raises(SequenceError, match=rf"\.png is 64x48 and {place}/camera\.yaml is for 128x96; give the"):
            open_sequence(place)[0]
    for side in ("cam0", "cam1"):
        camera = euroc / "mav0" / side
        small = sorted((camera / "data").glob("*.png"))[2]
        cv2.imwrite(str(small), picture(2, (24, 32)))
        for rectify in (False, True):
            sequence = open_sequence(euroc, rectify=rectify)
            assert sequence[1].image.shape == (48, 64)
            with pytest.raises(SequenceError, match=rf"{small} is 32x24 and {camera}/sensor\.yaml is for 64x48"):
                sequence[2]
        cv2.imwrite(str(small), picture(2))


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("groundtruth.txt", "1.0 2 3\n", r"groundtruth\.txt, line 1"),
        ("groundtruth.txt", "# nothing\n", "holds no pose"),
        ("groundtruth.txt", "1.0 0 0 0 0 0 0 0\n", "quaternion"),
        ("groundtruth.txt", "1.0 0 0 zero 0 0 0 1\n", "numbers"),
        ("rgb.txt", "# head\nnow rgb/a.png\n", r"rgb\.txt, line 2"),
        ("rgb.txt", "nan rgb/a.png\n", r"rgb\.txt, line 1: expected a time in seconds, 0 to 2147483647, got 'nan'$"),
        ("rgb.txt", "-1.5 rgb/a.png\n", r"rgb\.txt, line 1: expected a time in seconds, .* got '-1.5'$"),
        ("depth.txt", "1e999999 a.png\n", r"depth\.txt, line 1: expected a time in seconds"),
        ("groundtruth.txt", "1305031102033333000 0 0 0 0 0 0 1\n", r"groundtruth\.txt, line 1: .* \(nanoseconds\?\)$"),
        (
            "associations.txt",
            "2147483648 rgb/a.png 1 depth/a.png\n",
            r"associations\.txt, line 1: .* \(nanoseconds\?\)$",
        ),
        ("camera.yaml", "nothing", r"camera\.yaml"),
    ],
)
def test_a_broken_tum_file_is_named(tmp_path: Path, file: str, text: str, words: str) -> None:
    folder = write_tum(tmp_path / "clip")
    (folder / file).write_text(text)
    with pytest.raises(GCNv2Error, match=words):
        TumSequence(folder)


def test_broken_images_are_named_when_they_are_read(tmp_path: Path) -> None:
    folder = write_tum(tmp_path / "clip")
    sequence = TumSequence(folder)
    image = folder / "rgb" / f"{STAMPS[0]}.png"
    image.write_bytes(image.read_bytes()[:40])
    with pytest.raises(SequenceError, match=STAMPS[0]):
        sequence[0]
    image.unlink()
    with pytest.raises(SequenceError, match="does not exist"):
        sequence[0]
    depths = sorted((folder / "depth").glob("*.png"))
    cv2.imwrite(str(depths[1]), np.zeros((48, 64), np.uint8))
    with pytest.raises(SequenceError, match="16-bit"):
        sequence[1]
    cv2.imwrite(str(depths[2]), np.zeros((24, 32), np.uint16))
    with pytest.raises(SequenceError, match="registered"):
        sequence[2]


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.99])
def test_a_picture_that_is_cut_off_is_named(ending: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"0.{ending}"
    cv2.imwrite(str(path), picture(0, (120, 160)))
    assert open_sequence(tmp_path)[0].image.shape == (120, 160)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(SequenceError, match=rf"{path} cannot be read as a picture"):
        open_sequence(tmp_path)[0]


def test_a_depth_image_that_is_cut_off_is_named(tmp_path: Path) -> None:
    folder = write_tum(tmp_path / "clip")
    path = sorted((folder / "depth").glob("*.png"))[0]
    cv2.imwrite(str(path), np.random.default_rng(0).integers(1, 60_000, (48, 64), dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(SequenceError, match=rf"{path} cannot be read as a depth image: .* before its end mark"):
        TumSequence(folder)[0]


@pytest.mark.parametrize(
    ("name", "depth", "sentence"),
    [("rgb.txt", False, "rgb.txt lists no image"), ("rgb.txt", True, "rgb.txt lists no image"),
     ("depth.txt", True, r"no image of rgb.txt has a depth image within 0\.02 s"),
     ("associations.txt", True, "associations.txt lists none")],
)  # fmt: skip
def test_a_tum_folder_without_frames_says_which_list_is_at_fault(
    name: str, depth: bool, sentence: str, tmp_path: Path
) -> None:
    folder = write_tum(tmp_path / "clip", depth=depth)
    (folder / name).write_text("# timestamp filename\n")
    with pytest.raises(SequenceError, match=f"clip has no frame: {sentence}"):
        open_sequence(folder)


def test_a_euroc_folder_gives_stereo_pairs_as_recorded(tmp_path: Path) -> None:
    folder = write_euroc(tmp_path / "V1", right_stamps=range(1, 4))
    sequence = open_sequence(folder)
    assert isinstance(sequence, EurocSequence)
    assert sequence.name == "V1"
    assert len(sequence) == 3, "an image without its partner is left out"
    frame = sequence[0]
    assert frame.stamp_ns == 1_403_636_579_813_555_584
    np.testing.assert_array_equal(frame.image, picture(1))
    np.testing.assert_array_equal(frame.right, picture(11))
    assert sequence.stereo is None
    assert sequence.notes == ["no depth by stereo: the images are as recorded, not rectified; give rectify=true"]
    assert sequence.camera.model == "plumb_bob"
    assert sequence.right_camera.baseline == pytest.approx(0.1)
    assert frame.pose is None
    assert len(open_sequence(folder / "mav0")) == 3


def test_rectified_euroc_pairs_come_with_their_cameras_and_baseline(tmp_path: Path) -> None:
    sequence = open_sequence(write_euroc(tmp_path / "V1"), rectify=True)
    assert sequence.camera.model == "none"
    assert sequence.stereo == pytest.approx((sequence.camera.fx, 0.1))
    assert not sequence.notes
    frame = sequence[2]
    recorded = picture(2)
    # The middle of the image is where both agree: the axes of these cameras are parallel already.
    ray = sequence.camera.undistort([[31.0, 24.0]])
    u, v = CAMERA.project(np.append(ray[0], 1.0))[0]
    expected = cv2.remap(recorded, np.float32([[u]]), np.float32([[v]]), cv2.INTER_LINEAR)[0, 0]
    assert abs(int(frame.image[24, 31]) - int(expected)) <= 4


def write_euroc_truth(folder: Path) -> np.ndarray:
    """A ground truth of a body that is turned by 90 degrees and moves along x; its pose at the second frame."""
    truth = folder / "mav0" / "state_groundtruth_estimate0"
    truth.mkdir()
    half = np.sqrt(0.5)
    start = 1_403_636_579_763_555_584
    rows = [f"{start + k * 5_000_000},{k * 0.01},2,3,{half},0,0,{half},0,0,0,0" for k in range(25)]
    (truth / "data.csv").write_text("#timestamp,p_x,p_y,p_z,q_w,q_x,q_y,q_z\n" + "\n".join(rows) + "\n")
    return pose_from_quaternion([0.1, 2, 3], [0, 0, half, half])


def test_euroc_ground_truth_is_taken_from_body_to_camera(tmp_path: Path) -> None:
    folder = write_euroc(tmp_path / "V1")
    body = write_euroc_truth(folder)
    np.testing.assert_allclose(EurocSequence(folder)[1].pose, body @ T_BS, atol=1e-6)
    rectified = EurocSequence(folder, rectify=True)[1].pose
    np.testing.assert_allclose((invert_pose(body @ T_BS) @ rectified)[:3, 3], 0, atol=1e-9)


def test_poses_of_rectified_euroc_frames_are_of_the_rectified_camera(tmp_path: Path) -> None:
    folder = write_euroc(tmp_path / "V1", turn=(0.04, -0.06, 0.1))
    body = write_euroc_truth(folder)
    recorded, rectified = EurocSequence(folder), EurocSequence(folder, rectify=True)
    pose = rectified[1].pose
    # The right camera's place in the world is on the x axis of the rectified left one.
    right = (body @ T_BS @ [0.1, 0, 0, 1])[:3]
    np.testing.assert_allclose(transform_points(invert_pose(pose), right), [0.1, 0, 0], atol=1e-6)
    # A point of the world is in the rectified image where the maps say that its pixel of the recorded one goes.
    point = transform_points(body @ T_BS, np.array([0.1, -0.2, 2.0]))
    u, v = recorded.camera.project([transform_points(invert_pose(recorded[1].pose), point)])[0]
    columns, rows = recorded.camera.rectification_maps()
    there = np.unravel_index(np.argmin(np.hypot(columns - u, rows - v)), rows.shape)[::-1]
    found = rectified.camera.project([transform_points(invert_pose(pose), point)])[0]
    np.testing.assert_allclose(found, there, atol=0.8)


@pytest.mark.parametrize("stamp", ["1.5", "-1", "9" * 30])
@pytest.mark.parametrize("file", ["cam0", "state_groundtruth_estimate0"])
def test_a_stamp_of_euroc_that_is_none_is_named(stamp: str, file: str, tmp_path: Path) -> None:
    folder = write_euroc(tmp_path / "V1")
    table = folder / "mav0" / file / "data.csv"
    table.parent.mkdir(exist_ok=True)
    table.write_text(f"#timestamp\n{stamp},0,0,0,1,0,0,0\n")
    with pytest.raises(SequenceError, match=rf"{table}, line 2: expected a time in nanoseconds, .* got '{stamp}'"):
        open_sequence(folder)


def test_a_euroc_folder_with_one_camera_cannot_be_rectified(tmp_path: Path) -> None:
    folder = write_euroc(tmp_path / "V1")
    (folder / "mav0" / "cam1" / "data.csv").unlink()
    assert open_sequence(folder)[0].right is None
    with pytest.raises(SequenceError, match="two"):
        open_sequence(folder, rectify=True)


def test_fisheye_pairs_in_euroc_s_layout_are_read_as_recorded_and_not_rectified(tmp_path: Path) -> None:
    folder = write_euroc(tmp_path / "room1_512", distortion="equidistant")
    sequence = open_sequence(folder)
    assert sequence.camera is not None
    assert sequence.right_camera is not None
    for camera in (sequence.camera, sequence.right_camera):
        assert (camera.model, camera.projection, camera.rectification) == ("equidistant", None, None)
    assert sequence.stereo is None
    (note,) = sequence.notes
    assert "fisheye (equidistant) ones are not rectified here" in note
    np.testing.assert_array_equal(sequence[1].right, picture(11))
    with pytest.raises(SequenceError, match=r"room1_512.* fisheye .* open it without rectify"):
        open_sequence(folder, rectify=True)


def test_a_folder_of_pictures_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), picture(number, (20, 30, 3)))
    (tmp_path / "notes.txt").write_text("not a picture")
    sequence = open_sequence(tmp_path, rate=10.0)
    assert isinstance(sequence, ImageSequence)
    assert len(sequence) == 3
    for position, number in enumerate((1, 2, 10)):
        np.testing.assert_array_equal(sequence[position].image, picture(number, (20, 30, 3)))
    assert sequence[2].stamp_ns - sequence[0].stamp_ns == 200_000_000
    assert sequence[0].gray.shape == (20, 30)
    with pytest.raises(SequenceError, match="positive"):
        ImageSequence(tmp_path, rate=0)


def test_what_macos_puts_beside_pictures_is_no_frame(tmp_path: Path) -> None:
    for number in (0, 1):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number))
        (tmp_path / f"._{number}.png").write_bytes(b"\x00\x05\x16\x07 Mac OS X")
    assert [frame.image[0, 0] for frame in open_sequence(tmp_path)] == [picture(0)[0, 0], picture(1)[0, 0]]


def test_the_room_is_opened_by_name() -> None:
    sequence = open_sequence("room:frames=7,seed=3,width=64,height=48")
    assert isinstance(sequence, SyntheticRoom)
    assert len(sequence) == 7
    assert (sequence.camera.width, sequence.camera.height) == (64, 48)
    with pytest.raises(SequenceError, match="brightness"):
        open_sequence("room:brightness=3")


def test_what_is_no_sequence_is_described(tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match="there is no sequence"):
        open_sequence(tmp_path / "nowhere")
    with pytest.raises(SequenceError, match="an empty folder"):
        open_sequence(tmp_path)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(SequenceError, match=r"found notes\.txt"):
        open_sequence(tmp_path)
    with pytest.raises(SequenceError, match="a file of 5 bytes"):
        open_sequence(tmp_path / "notes.txt")


def test_an_option_that_the_reader_does_not_take_is_refused(tmp_path: Path) -> None:
    words = "clip is a TUM RGB-D folder, which has no option 'rectify'; it has clock_offset, longest_difference$"
    with pytest.raises(SequenceError, match=words):
        open_sequence(write_tum(tmp_path / "clip"), rectify=True)
    words = "the room has no option 'image'; it has seed, frames, .* which are written as room:NAME=VALUE"
    with pytest.raises(SequenceError, match=words):
        open_sequence("room:frames=2", image="/foo")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"image": np.zeros((4, 4), np.float32)}, "image must be uint8"),
        ({"image": np.zeros((4, 4, 4), np.uint8)}, "image must be uint8"),
        ({"image": np.zeros((0, 4), np.uint8)}, "image must be uint8"),
        ({"depth": np.zeros((4, 4))}, "depth must be float32"),
        ({"pose": np.eye(3)}, "pose must be float64"),
        ({"right": np.zeros((4, 4), np.uint16)}, "right must be uint8"),
    ],
)
def test_a_frame_of_wrong_shapes_is_refused(values: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(SequenceError, match=f"frame 3: {words}"):
        Frame(3, 0, **{"image": np.zeros((4, 4), np.uint8), **values})


def test_a_sequence_is_opened_with_its_options() -> None:
    assert len(open_sequence("room:frames=3")) == 3
    with pytest.raises(SequenceError, match="NAME=VALUE after the @, got 'seed'"):
        open_sequence("room:frames=3@clock_offset=-0.01,seed")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("rate=x", "the option rate of .* must be a finite number, got 'x'"),
        ("rate=true", "the option rate of .* must be a finite number, got True"),
        ("rate=inf", "the option rate of .* must be a finite number, got inf"),
        ("rate=-1", "must be positive"),
        ("rate=1e300", "must be positive and at most 1e.09, got 1e.300"),
        ("rate=1e-300", "the rate of .* must be higher: at 1e-300 frames a second the last of 2 comes later than"),
        ("rate=4e-10", "must be higher"),
        ("rate=5,rate=10", "the option rate of .* is given twice"),
    ],
)
def test_an_option_of_a_sequence_that_is_no_such_value_is_named(options: str, sentence: str, tmp_path: Path) -> None:
    for number in (0, 1):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((20, 30), np.uint8))
    assert open_sequence(f"{tmp_path}@rate=10")[0].stamp_ns == 1_000_000_000
    with pytest.raises(SequenceError, match=sentence):
        open_sequence(f"{tmp_path}@{options}")


@pytest.mark.parametrize("option", ["clock_offset", "longest_difference"])
@pytest.mark.parametrize("value", ["1e300", "-1e300", "3e9"])
def test_seconds_that_no_stamp_holds_are_refused_as_an_option(option: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match=f"{option} is in seconds, at most 2147483647 of them, got "):
        open_sequence(f"{write_tum(tmp_path / 'clip')}@{option}={value}")


@pytest.mark.parametrize("rate", [np.int64(5), np.float32(5), Fraction(5)])
def test_an_option_may_be_any_real_number(rate: Any, tmp_path: Path) -> None:
    for number in (0, 1):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((20, 30), np.uint8))
    assert open_sequence(tmp_path, rate=rate)[1].stamp_ns == 1_200_000_000


@pytest.mark.parametrize("option", ["camera=foo", "pictures=1", "seed=3", "options=1"])
def test_the_room_takes_its_options_after_the_colon(option: str) -> None:
    for room in ("room", "room:frames=3"):
        with pytest.raises(SequenceError, match=r"takes no options after an @.*: write room:NAME=VALUE"):
            open_sequence(f"{room}@{option}")
    camera = CAMERA.scaled(128, 96)
    assert open_sequence("room:frames=3", camera=camera).camera == camera


def test_a_sequence_s_name_is_told_from_its_options(tmp_path: Path) -> None:
    named = {"image": "/image", "depth": "", "clock_offset": -0.5}
    assert split_options("a/b.mcap@image=/image,depth=,clock_offset=-0.5") == ("a/b.mcap", named)
    assert split_options("room:seed=3") == ("room:seed=3", {})
    folder = tmp_path / "drive@rate=10"
    folder.mkdir()
    assert split_options(str(folder)) == (str(folder), {})
    assert split_options(f"{folder}@rate=5") == (str(folder), {"rate": 5.0})


def test_an_option_of_a_sequence_that_is_given_twice_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((20, 30), np.uint8))
    with pytest.raises(SequenceError, match=r"the option rate of .* is given twice"):
        open_sequence(f"{tmp_path}@rate=10", rate=5.0)
    with pytest.raises(SequenceError, match="the room's seed is given twice"):
        open_sequence("room:seed=1,frames=2,seed=3")


def test_a_folder_with_an_at_sign_in_its_name_has_no_options(tmp_path: Path) -> None:
    folder = tmp_path / "drive@rate=10"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.zeros((20, 30), np.uint8))
    assert open_sequence(str(folder)).name == "drive@rate=10"
    assert open_sequence(f"{folder}@rate=5")[0].stamp_ns == 1_000_000_000
