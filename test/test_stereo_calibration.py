# SPDX-License-Identifier: Apache-2.0
"""A stereo pair's calibration from the files of other programs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from gcnv2_ros.calibration_files import read_calibration
from gcnv2_ros.camera import Camera, CameraError
from gcnv2_ros.cli.main import main
from gcnv2_ros.geometry import GeometryError, invert_pose, transform_points
from gcnv2_ros.stereo_calibration import read_stereo_calibration

LEFT = Camera(640, 480, 400.0, 401.0, 318.0, 242.0, "plumb_bob", (-0.2, 0.05, 0.001, -0.0005))
RIGHT = Camera(640, 480, 405.0, 404.0, 322.0, 238.0, "plumb_bob", (-0.21, 0.06, -0.001, 0.0005))
POINTS = np.array([[-0.8, 0.3, 3.0], [0.5, -0.4, 2.0], [0.1, 0.2, 6.0], [1.0, 0.6, 4.0]])


def pose(rotation: tuple[float, float, float], position: tuple[float, float, float]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array(rotation))[0]
    matrix[:3, 3] = position
    return matrix


BODY_FROM_LEFT = pose((0.1, -1.5, 0.3), (0.02, -0.05, 0.01))
LEFT_TO_RIGHT = pose((0.01, -0.02, 0.015), (-0.12, 0.002, 0.001))


def entry(camera: Camera, coefficients: str) -> dict[str, object]:
    model = {"plumb_bob": "radtan", "equidistant": "equidistant"}[camera.model]
    return {
        "camera_model": "pinhole",
        "resolution": [camera.width, camera.height],
        "intrinsics": [camera.fx, camera.fy, camera.cx, camera.cy],
        "distortion_model": model,
        coefficients: list(camera.coefficients)[:4],
    }


def euroc(folder: Path) -> tuple[str, str]:
    body_from_right = BODY_FROM_LEFT @ invert_pose(LEFT_TO_RIGHT)
    for number, (camera, body_from_camera) in enumerate([(LEFT, BODY_FROM_LEFT), (RIGHT, body_from_right)]):
        content = {
            **entry(camera, "distortion_coefficients"),
            "T_BS": {"rows": 4, "cols": 4, "data": body_from_camera.ravel().tolist()},
        }
        (folder / f"cam{number}.yaml").write_text("%YAML:1.0\n" + yaml.safe_dump(content))
    return str(folder / "cam0.yaml"), str(folder / "cam1.yaml")


def kalibr(folder: Path) -> tuple[str, str]:
    """The pair is the second and the third of three cameras."""
    first_to_left = pose((0.2, 0.1, 0.0), (-0.3, 0.0, 0.1))
    chain = {
        "cam0": entry(LEFT, "distortion_coeffs"),
        "cam1": {**entry(LEFT, "distortion_coeffs"), "T_cn_cnm1": first_to_left.tolist()},
        "cam2": {**entry(RIGHT, "distortion_coeffs"), "T_cn_cnm1": LEFT_TO_RIGHT.tolist()},
    }
    (folder / "camchain.yaml").write_text(yaml.safe_dump(chain))
    return f"{folder / 'camchain.yaml'}#cam1", f"{folder / 'camchain.yaml'}#cam2"


def kalibr_with_imu(folder: Path) -> tuple[str, str]:
    chain = {
        "cam0": {**entry(LEFT, "distortion_coeffs"), "T_cam_imu": invert_pose(BODY_FROM_LEFT).tolist()},
        "cam1": {
            **entry(RIGHT, "distortion_coeffs"),
            "T_cam_imu": (LEFT_TO_RIGHT @ invert_pose(BODY_FROM_LEFT)).tolist(),
        },
    }
    (folder / "chain.yaml").write_text(yaml.safe_dump(chain))
    return f"{folder / 'chain.yaml'}#cam0", f"{folder / '..' / folder.name / 'chain.yaml'}#cam1"


def orb_slam(folder: Path) -> tuple[str, str]:
    lines = ["%YAML:1.0", 'File.version: "1.0"', 'Camera.type: "PinHole"', "Camera.width: 640", "Camera.height: 480"]
    for name, camera in (("Camera1", LEFT), ("Camera2", RIGHT)):
        lines += [f"{name}.{key}: {getattr(camera, key)}" for key in ("fx", "fy", "cx", "cy")]
        lines += [f"{name}.{key}: {value}" for key, value in zip(("k1", "k2", "p1", "p2"), camera.coefficients)]
    left_from_right = invert_pose(LEFT_TO_RIGHT).ravel().tolist()
    lines += ["Stereo.T_c1_c2: !!opencv-matrix", "  rows: 4", "  cols: 4", "  dt: f", f"  data: {left_from_right}"]
    (folder / "stereo.yaml").write_text("\n".join(lines))
    return f"{folder / 'stereo.yaml'}#Camera1", f"{folder / 'stereo.yaml'}#Camera2"


@pytest.mark.parametrize("write", [euroc, kalibr, kalibr_with_imu, orb_slam])
def test_what_is_seen_lies_in_one_row_of_the_rectified_pair(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    left, right = read_stereo_calibration(*write(tmp_path))
    for camera, given in ((left, LEFT), (right, RIGHT)):
        assert (camera.fx, camera.cy, camera.model) == (given.fx, given.cy, given.model)
        assert camera.coefficients[:4] == pytest.approx(given.coefficients[:4])
    assert right.baseline == pytest.approx(np.linalg.norm(LEFT_TO_RIGHT[:3, 3]), abs=1e-9)
    pixels = []
    for camera, points in ((left, POINTS), (right, transform_points(LEFT_TO_RIGHT, POINTS))):
        turned = points @ camera.rectification.T
        pixels.append(camera.rectified().project(turned))
    np.testing.assert_allclose(pixels[0][:, 1], pixels[1][:, 1], atol=1e-9)
    depth = (POINTS @ left.rectification.T)[:, 2]
    disparity = pixels[0][:, 0] - pixels[1][:, 0]
    np.testing.assert_allclose(left.projection[0, 0] * right.baseline / disparity, depth, rtol=1e-9)


def test_the_command_writes_files_of_ros(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files = euroc(tmp_path)
    assert main(["calibration", *files, "--out", str(tmp_path / "pair")]) == 0
    assert "baseline 0.1200 m" in capsys.readouterr().out
    pair = read_stereo_calibration(*files)
    for name, camera in zip(("left", "right"), pair):
        assert read_calibration(tmp_path / "pair" / f"{name}.yaml") == camera
    # Read as a pair again, files of ROS stay as they are.
    again = read_stereo_calibration(tmp_path / "pair" / "left.yaml", tmp_path / "pair" / "right.yaml")
    assert again == pair
    assert main(["calibration", files[0], "--out", str(tmp_path / "one")]) == 0
    assert read_calibration(tmp_path / "one" / "camera.yaml").to_dict() == LEFT.to_dict() | {"camera_name": "camera"}


def test_one_entry_of_rectified_images_stands_for_both_cameras(tmp_path: Path) -> None:
    path = tmp_path / "D435i.yaml"
    lines = ['File.version: "1.0"', 'Camera.type: "Rectified"', "Camera.width: 640", "Camera.height: 480"]
    lines += ["Camera1.fx: 382.6", "Camera1.fy: 382.6", "Camera1.cx: 320.2", "Camera1.cy: 236.5", "Stereo.b: 0.05"]
    path.write_text("\n".join(lines))
    left, right = read_stereo_calibration(path, path)
    assert right.baseline == pytest.approx(0.05)
    np.testing.assert_allclose(left.rectification, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(left.projection[:, :3], left.matrix, atol=1e-3)
    path.write_text(path.read_text().replace("Stereo.b: 0.05", "Stereo.b: wide"))
    with pytest.raises(CameraError, match=r"Stereo\.b must be a number, got 'wide'"):
        read_stereo_calibration(path, path)


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ((0.12, 0.0, 0.0), "no stereo pair: .*left and right are swapped"),
        ((0.0, 0.1, 0.0), "no stereo pair: .*only pairs whose cameras stand side by side work"),
    ],
)
def test_pairs_that_do_not_stand_side_by_side_are_refused_before_anything_is_written(
    position: tuple[float, float, float], words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    left, right = kalibr(tmp_path)
    chain = yaml.safe_load((tmp_path / "camchain.yaml").read_text())
    chain["cam2"]["T_cn_cnm1"] = pose((0.0, 0.0, 0.0), position).tolist()
    (tmp_path / "camchain.yaml").write_text(yaml.safe_dump(chain))
    assert main(["calibration", left, right, "--out", str(tmp_path / "pair")]) == 1
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "pair").exists()


def test_files_that_are_there_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files = euroc(tmp_path)
    (tmp_path / "right.yaml").write_text("mine")
    assert main(["calibration", *files, "--out", str(tmp_path)]) == 1
    assert "right.yaml exists already" in capsys.readouterr().err
    assert (tmp_path / "right.yaml").read_text() == "mine"
    assert not (tmp_path / "left.yaml").exists()


def test_files_of_ros_that_are_of_no_one_pair_are_refused(tmp_path: Path) -> None:
    left, right = read_stereo_calibration(*euroc(tmp_path))
    cameras = {
        "left": left,
        "right": right,
        "mono": replace(LEFT, projection=np.column_stack([LEFT.matrix, [0, 0, 0]])),
    }
    for name, camera in cameras.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(camera.to_dict()))
    with pytest.raises(CameraError, match=r"mono\.yaml and .*right\.yaml are no stereo pair: .* differ in their"):
        read_stereo_calibration(tmp_path / "mono.yaml", tmp_path / "right.yaml")
    with pytest.raises(CameraError, match=r"are no stereo pair: .*left and right are swapped"):
        read_stereo_calibration(tmp_path / "right.yaml", tmp_path / "left.yaml")


def test_cameras_that_stand_nowhere_are_refused(tmp_path: Path) -> None:
    for name, camera in (("left", LEFT), ("right", RIGHT)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(camera.to_dict()))
    with pytest.raises(CameraError, match=r"left\.yaml and .*right\.yaml do not say where the cameras stand"):
        read_stereo_calibration(tmp_path / "left.yaml", tmp_path / "right.yaml")
    left, right = kalibr(tmp_path)
    chain = yaml.safe_load((tmp_path / "camchain.yaml").read_text())
    del chain["cam1"]["T_cn_cnm1"]
    (tmp_path / "camchain.yaml").write_text(yaml.safe_dump(chain))
    with pytest.raises(CameraError, match="do not say where the cameras stand"):
        read_stereo_calibration(left, right)
    with pytest.raises(CameraError, match="are at one place"):
        read_stereo_calibration(left.replace("cam1", "cam0"), left.replace("cam1", "cam0"))


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], "T_cn_cnm1 of cam2 must be 4 x 4 numbers"),
        ("near", "T_cn_cnm1 of cam2 must be 4 x 4 numbers"),
        ((2 * np.eye(4)).tolist(), "T_cn_cnm1 of cam2 holds no rotation"),
        (np.diag([1.0, 1.0, -1.0, 1.0]).tolist(), "T_cn_cnm1 of cam2 holds no rotation"),
        (np.full((4, 4), np.nan).tolist(), "T_cn_cnm1 of cam2 holds no rotation"),
    ],
)
def test_a_transform_that_is_none_is_named(transform: object, words: str, tmp_path: Path) -> None:
    left, right = kalibr(tmp_path)
    chain = yaml.safe_load((tmp_path / "camchain.yaml").read_text())
    chain["cam2"]["T_cn_cnm1"] = transform
    (tmp_path / "camchain.yaml").write_text(yaml.safe_dump(chain))
    with pytest.raises(CameraError, match=rf"camchain\.yaml is not usable: {words}"):
        read_stereo_calibration(left, right)


def test_fisheye_pairs_are_refused(tmp_path: Path) -> None:
    left, right = kalibr(tmp_path)
    chain = yaml.safe_load((tmp_path / "camchain.yaml").read_text())
    chain["cam2"]["distortion_model"] = "equidistant"
    (tmp_path / "camchain.yaml").write_text(yaml.safe_dump(chain))
    with pytest.raises(GeometryError, match="fisheye"):
        read_stereo_calibration(left, right)
