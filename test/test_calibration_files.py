# SPDX-License-Identifier: Apache-2.0
"""Calibration files of several programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from gcnv2_ros.calibration_files import read_calibration
from gcnv2_ros.camera import Camera, CameraError

PINHOLE = Camera(640, 480, 500.0, 510.0, 322.5, 236.25)
WIDE = replace(PINHOLE, model="plumb_bob", coefficients=(-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05))
RATIONAL = replace(
    PINHOLE, model="rational_polynomial", coefficients=(0.52, -2.6, 0.0007, -0.0002, 1.5, 0.4, -2.4, 1.4)
)
FISHEYE = replace(PINHOLE, model="equidistant", coefficients=(-0.013, 0.021, -0.018, 0.004))

KALIBR_MODELS = {"none": "none", "plumb_bob": "radtan", "equidistant": "equidistant"}
ORB_SLAM_COEFFICIENTS = {"plumb_bob": ("k1", "k2", "p1", "p2", "k3"), "equidistant": ("k1", "k2", "k3", "k4")}


def write_opencv(path: Path, camera: Camera, **names: str) -> Path:
    """A file as OpenCV's own program for calibration writes it."""
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("calibration_time", "Tue 3 Feb 2026 10:11:12")
    storage.write(names.get("width", "image_width"), camera.width)
    storage.write(names.get("height", "image_height"), camera.height)
    storage.write(names.get("matrix", "camera_matrix"), camera.matrix)
    if camera.model == "equidistant":
        storage.write("fisheye_model", 1)
    storage.write(names.get("distortion", "distortion_coefficients"), np.array([camera.coefficients or (0.0,)]))
    storage.release()
    return path


def kalibr_entry(camera: Camera) -> dict[str, object]:
    return {
        "camera_model": "pinhole",
        "distortion_coeffs": [*camera.coefficients][:4],
        "distortion_model": KALIBR_MODELS[camera.model],
        "intrinsics": [camera.fx, camera.fy, camera.cx, camera.cy],
        "resolution": [camera.width, camera.height],
        "rostopic": "/cam/image_raw",
    }


def orb_slam_settings(camera: Camera, *, name: str = "Camera", kind: str = "PinHole") -> str:
    """The part of ORB-SLAM's settings that is the camera's, with OpenCV's first line and a matrix."""
    lines = ["%YAML:1.0", "", "# Camera", f'Camera.type: "{kind}"']
    lines += [f"{name}.{key}: {getattr(camera, key)}" for key in ("fx", "fy", "cx", "cy")]
    keys = ORB_SLAM_COEFFICIENTS.get(camera.model, ())
    lines += [f"{name}.{key}: {value!r}" for key, value in zip(keys, camera.coefficients)]
    lines += [f"Camera.width: {camera.width}", f"Camera.height: {camera.height}", "Camera.fps: 30."]
    lines += ["Tbc: !!opencv-matrix", "   rows: 4", "   cols: 4", "   dt: f", f"   data: {np.eye(4).ravel().tolist()}"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("camera", [PINHOLE, WIDE, RATIONAL, FISHEYE], ids=lambda camera: camera.model)
def test_files_of_ros_are_read(camera: Camera, tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(yaml.safe_dump(camera.to_dict()))
    assert read_calibration(path) == camera
    assert read_calibration(path, frame_id="left").frame_id == "left"


@pytest.mark.parametrize("camera", [PINHOLE, WIDE, RATIONAL, FISHEYE], ids=lambda camera: camera.model)
def test_files_of_opencv_are_read(camera: Camera, tmp_path: Path) -> None:
    assert read_calibration(write_opencv(tmp_path / "camera.yml", camera)) == camera


def test_files_of_older_opencv_have_capital_letters(tmp_path: Path) -> None:
    names = {"matrix": "Camera_Matrix", "distortion": "Distortion_Coefficients", "width": "image_Width"}
    assert read_calibration(write_opencv(tmp_path / "old.yml", WIDE, **names, height="image_Height")) == WIDE


@pytest.mark.parametrize("camera", [PINHOLE, WIDE, FISHEYE], ids=lambda camera: camera.model)
def test_files_of_kalibr_are_read(camera: Camera, tmp_path: Path) -> None:
    path = tmp_path / "camchain.yaml"
    path.write_text(yaml.safe_dump({"cam0": kalibr_entry(camera)}))
    assert read_calibration(path) == camera


@pytest.mark.parametrize("name", ["Camera", "Camera1"])
@pytest.mark.parametrize(
    ("camera", "kind"), [(PINHOLE, "Rectified"), (PINHOLE, "PinHole"), (WIDE, "PinHole"), (FISHEYE, "KannalaBrandt8")]
)
def test_settings_of_orb_slam_are_read(camera: Camera, kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "TUM1.yaml"
    path.write_text(orb_slam_settings(camera, kind=kind, name=name))
    assert read_calibration(path) == camera


@pytest.mark.parametrize("name", ["camera.xml", "camera.yml.gz", "camera.json"])
def test_other_files_of_opencv_are_read(name: str, tmp_path: Path) -> None:
    assert read_calibration(write_opencv(tmp_path / name, WIDE)) == WIDE


def test_what_opencv_reads_and_yaml_forbids_is_read(tmp_path: Path) -> None:
    path = tmp_path / "TUM1.yaml"
    path.write_text(orb_slam_settings(WIDE) + "Viewer.PointSize:2\n")
    assert read_calibration(path) == WIDE


def test_comments_may_be_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_bytes("# K\xfcche\n".encode("latin-1") + yaml.safe_dump(WIDE.to_dict()).encode())
    assert read_calibration(path) == WIDE


def test_settings_of_orb_slam2_for_stereo_hold_the_recorded_images_cameras(tmp_path: Path) -> None:
    lines = [orb_slam_settings(PINHOLE), "Camera.bf: 47.9"]
    for side, camera, shift in (("LEFT", WIDE, 0.0), ("RIGHT", RATIONAL, -47.9)):
        projection = np.column_stack([camera.matrix, [shift, 0.0, 0.0]])
        lines += [f"{side}.width: 640", f"{side}.height: 480"]
        matrices = {"K": camera.matrix, "D": np.array([camera.coefficients]), "R": np.eye(3), "P": projection}
        for letter, matrix in matrices.items():
            rows, columns = matrix.shape
            lines += [f"{side}.{letter}: !!opencv-matrix", f"   rows: {rows}", f"   cols: {columns}", "   dt: d"]
            lines += [f"   data:{matrix.ravel().tolist()}"]
    path = tmp_path / "EuRoC.yaml"
    path.write_text("\n".join(lines) + "\n")
    left, right = (read_calibration(f"{path}#{side}") for side in ("LEFT", "RIGHT"))
    assert (left.coefficients[:4], left.baseline) == (WIDE.coefficients[:4], None)
    assert right.coefficients == RATIONAL.coefficients
    assert right.baseline == pytest.approx(47.9 / 500.0)
    path.write_text(path.read_text().replace("LEFT.width", "LEFT.breadth"))
    with pytest.raises(CameraError, match=r"the entry 'LEFT.width' is missing"):
        read_calibration(f"{path}#LEFT")


def test_matrices_of_zeros_stand_for_none(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    nothing = {"rectification_matrix": {"data": [0.0] * 9}, "projection_matrix": {"data": [0.0] * 12}}
    path.write_text(yaml.safe_dump({**WIDE.to_dict(), **nothing}))
    camera = read_calibration(path)
    assert camera.rectification is None
    assert camera.projection is None


def test_a_camera_of_several_is_named_behind_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "camchain.yaml"
    path.write_text(yaml.safe_dump({"cam0": kalibr_entry(WIDE), "cam1": kalibr_entry(FISHEYE)}))
    assert read_calibration(f"{path}#cam1") == FISHEYE
    with pytest.raises(CameraError, match=r"camchain\.yaml is not usable: it holds cam0, cam1; say which by .*#cam0"):
        read_calibration(path)
    with pytest.raises(CameraError, match="it holds no camera 'cam2', only cam0, cam1"):
        read_calibration(f"{path}#cam2")


def test_a_hash_in_a_file_name_is_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "camera#2.yaml"
    path.write_text(yaml.safe_dump(WIDE.to_dict()))
    assert read_calibration(path) == WIDE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not YAML"),
        ("just words", "image_width"),
        ("width: 640\n", "expected image_width, .* of ROS or OpenCV, .* of ORB-SLAM, .* of Kalibr or EuRoC"),
        ("image_width: 640\nimage_height: 480\ncamera_matrix: 3\n", "'camera_matrix' must hold a list"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        (yaml.safe_dump({**PINHOLE.to_dict(), "camera_matrix": {"data": [0.0] * 9}}), "focal lengths"),
        (yaml.safe_dump({**PINHOLE.to_dict(), "camera_matrix": {"data": [1.0] * 8}}), "9 numbers"),
        (yaml.safe_dump({**PINHOLE.to_dict(), "projection_matrix": 3}), "projection_matrix"),
        (yaml.safe_dump({**PINHOLE.to_dict(), "image_width": "wide"}), "'image_width' must be a number .* 'wide'"),
        (yaml.safe_dump({**PINHOLE.to_dict(), "image_height": None}), "'image_height' must be a number"),
        (yaml.safe_dump({**PINHOLE.to_dict(), "image_width": float("inf")}), "'image_width' must be a number .* inf"),
        ("date: 2026-31-12\n", "not YAML: month must be in"),
        ("[" * 3000, "not YAML"),
        ("%YAML:1.0\na: [", "not YAML"),
        (
            orb_slam_settings(WIDE).replace("Camera.width", "Camera.breadth"),
            "Camera.width and .* are missing; add them",
        ),
        (orb_slam_settings(WIDE).replace("Camera.fx", "Camera.f"), "expected image_width"),
        (orb_slam_settings(WIDE).replace("Camera.fy", "Camera.f"), "the entry 'Camera.fy' is missing"),
        ("LEFT.K: 3\nLEFT.D: 3\n", "it holds LEFT, RIGHT"),
        (yaml.safe_dump({"cam0": {**kalibr_entry(WIDE), "resolution": [float("inf"), 480]}}), "must be a number"),
        (orb_slam_settings(WIDE, kind="Omni"), "Camera.type 'Omni' is unknown; known are PinHole, "),
        (orb_slam_settings(WIDE).replace("500.0", "wide"), "the entries of Camera must be numbers: .*'wide'"),
        (yaml.safe_dump({"cam0": {**kalibr_entry(WIDE), "camera_model": "omni"}}), "'omni' is not supported"),
        (yaml.safe_dump({"cam0": {**kalibr_entry(WIDE), "distortion_model": "fov"}}), "'fov' is unknown"),
        (yaml.safe_dump({"cam0": {**kalibr_entry(WIDE), "intrinsics": [1.0, 2.0]}}), "intrinsics 4 numbers"),
        (yaml.safe_dump({"cam0": {"camera_model": "pinhole"}}), "the entry 'resolution' is missing"),
        (yaml.safe_dump({"cam0": 3}), "expected the entries camera_model, resolution, intrinsics, .*, got '3'"),
        (yaml.safe_dump({"cam0": "pinhole"}), "expected the entries camera_model, .*, got 'pinhole'"),
    ],
)
def test_a_bad_calibration_file_is_named_with_its_fault(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad_camera.yaml"
    path.write_text(text)
    with pytest.raises(CameraError, match=words) as caught:
        read_calibration(path)
    assert "bad_camera.yaml" in str(caught.value)


def test_an_entry_that_is_there_and_empty_is_none(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(yaml.safe_dump({**PINHOLE.to_dict(), "distortion_model": None}))
    assert read_calibration(path).model == "none"


@pytest.mark.parametrize("name", ["nowhere.yaml", "nowhere.yaml#cam0"])
def test_a_missing_calibration_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=rf"cannot read the calibration file .*{name}: No such file"):
        read_calibration(tmp_path / name)
