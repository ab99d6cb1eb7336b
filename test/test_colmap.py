# SPDX-License-Identifier: Apache-2.0
"""COLMAP databases: what pycolmap reads from them, and what it maps from them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from gcnv2_ros.camera import Camera
from gcnv2_ros.cli.main import main
from gcnv2_ros.colmap import ColmapError, camera_poses, colmap_camera, image_pairs, reconstruct, write_database
from gcnv2_ros.features import Features
from gcnv2_ros.geometry import invert_pose, transform_points
from gcnv2_ros.sequences import open_sequence
from gcnv2_ros.sequences.trajectory import look_rotation

pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is not installed")

PINHOLE = Camera(320, 240, 250.0, 252.0, 157.3, 121.4)
CAMERAS = {
    "PINHOLE": PINHOLE,
    "OPENCV": replace(PINHOLE, model="plumb_bob", coefficients=(-0.2, 0.05, 0.002, -0.001)),
    "FULL_OPENCV": replace(PINHOLE, model="plumb_bob", coefficients=(-0.2, 0.05, 0.002, -0.001, 0.01)),
    "OPENCV_FISHEYE": replace(PINHOLE, model="equidistant", coefficients=(0.02, -0.01, 0.003, -0.001)),
}
RATIONAL = replace(
    PINHOLE, model="rational_polynomial", coefficients=(0.3, -0.1, 0.001, 0.0005, 0.01, 0.5, -0.15, 0.02)
)


def exact_views(camera: Camera, count: int, *, points: int = 250) -> tuple[list[Features], list[np.ndarray]]:
    """Features at the exact projections of random points, and the poses they are seen from."""
    rng = np.random.default_rng(0)
    world = rng.uniform([-1.5, 3.0, -1.2], [1.5, 6.0, 1.2], (points, 3))
    descriptors = rng.integers(0, 256, (points, 32), dtype=np.uint8)
    features, poses = [], []
    for index in range(count):
        pose = np.eye(4)
        place = index / (count - 1) - 0.5
        pose[:3, :3] = look_rotation(np.pi / 2 + 0.5 * place, 0.1 * np.sin(index), 0.05 * index)
        pose[:3, 3] = 2.4 * place, 0.2 * np.cos(index), 0.3 * np.sin(2 * index)
        uv = camera.project(transform_points(invert_pose(pose), world))
        seen = np.all((uv >= 0) & (uv <= [camera.width - 1, camera.height - 1]), axis=1)
        order = rng.permutation(np.flatnonzero(seen))
        size = (camera.width, camera.height)
        features.append(Features(uv[order], np.ones(len(order)), descriptors[order], size))
        poses.append(pose)
    return features, poses


def blank_pictures(folder: Path, features: list[Features], name: str = "{}.png") -> list[str]:
    """Pictures of the features' sizes, which COLMAP looks into for their size."""
    folder.mkdir()
    names = [name.format(index) for index in range(len(features))]
    for name, found in zip(names, features):
        width, height = found.image_size
        cv2.imwrite(str(folder / name), np.zeros((height, width), np.uint8))
    return names


def position_error(estimate: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> float:
    """Root mean square error of positions after similarity alignment, as a share of the trajectory's length."""
    found = np.array([estimate[name][:3, 3] for name in truth])
    true = np.array([pose[:3, 3] for pose in truth.values()])
    similarity = pycolmap.estimate_sim3d(found, true)
    aligned = similarity.scale * found @ similarity.rotation.matrix().T + similarity.translation
    length = np.linalg.norm(np.diff(true, axis=0), axis=1).sum()
    return float(np.sqrt(np.mean(np.sum((aligned - true) ** 2, axis=1))) / length)


def rotation_error(estimate: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> float:
    """Largest error in degrees of the rotations between the first image and the others."""
    first = next(iter(truth))
    errors = []
    for name in truth:
        found, true = (poses[first][:3, :3].T @ poses[name][:3, :3] for poses in (estimate, truth))
        errors.append(np.degrees(np.linalg.norm(cv2.Rodrigues(found @ true.T)[0])))
    return max(errors)


@pytest.mark.parametrize("model", CAMERAS)
def test_poses_come_back_exactly_from_exact_keypoints(model: str, tmp_path: Path) -> None:
    """Intrinsics, lens and pixel conventions agree with COLMAP's: the residuals vanish."""
    camera = CAMERAS[model]
    features, poses = exact_views(camera, 7)
    names = blank_pictures(tmp_path / "images", features)
    database = tmp_path / "database.db"
    summary = write_database(database, tmp_path / "images", names, features, image_pairs(7), camera=camera)
    assert (summary.images, summary.matched_pairs, summary.verified_pairs) == (7, 21, 21)
    assert summary.keypoints == sum(map(len, features))
    assert summary.inliers > 0.95 * summary.matches

    with pycolmap.Database.open(database) as written:
        (stored,) = written.read_all_cameras()
        assert stored.model.name == model
        image = written.read_image_with_name(names[3])
        np.testing.assert_allclose(written.read_keypoints(image.image_id)[:, :2], features[3].uv + 0.5, atol=1e-4)

    reconstruction = reconstruct(database, tmp_path / "images", tmp_path / "sparse", calibrated=True)
    estimate, truth = camera_poses(reconstruction), dict(zip(names, poses))
    assert set(estimate) == set(names)
    assert reconstruction.compute_mean_reprojection_error() < 2e-3
    assert position_error(estimate, truth) < 1e-4
    assert rotation_error(estimate, truth) < 0.01
    assert (tmp_path / "sparse" / "0" / "images.bin").is_file()


@pytest.mark.parametrize("name", ["view {} of the room.png", "#{}.png", "{}\nsecond line.png"])
def test_any_name_that_a_picture_can_have_is_matched(name: str, tmp_path: Path) -> None:
    features, _ = exact_views(PINHOLE, 3)
    names = blank_pictures(tmp_path / "images", features, name)
    images, pairs = tmp_path / "images", image_pairs(3)
    summary = write_database(tmp_path / "database.db", images, names, features, pairs, camera=PINHOLE)
    assert (summary.matched_pairs, summary.verified_pairs) == (3, 3)


def test_an_uncalibrated_camera_is_found(tmp_path: Path) -> None:
    camera = replace(PINHOLE, fy=250.0, cx=159.5, cy=119.5)
    features, poses = exact_views(camera, 8)
    names = blank_pictures(tmp_path / "images", features)
    write_database(tmp_path / "database.db", tmp_path / "images", names, features, image_pairs(8))
    reconstruction = reconstruct(tmp_path / "database.db", tmp_path / "images", tmp_path / "sparse", calibrated=False)
    (found,) = reconstruction.cameras.values()
    assert found.model.name == "SIMPLE_RADIAL"
    assert found.params[0] == pytest.approx(250.0, rel=0.01)
    assert position_error(camera_poses(reconstruction), dict(zip(names, poses))) < 0.01


def test_the_parameters_of_a_calibrated_camera_stay_as_they_are(tmp_path: Path) -> None:
    camera = CAMERAS["OPENCV"]
    features, _ = exact_views(camera, 5, points=120)
    rng = np.random.default_rng(2)
    noisy = [found.with_arrays(uv=found.uv + rng.normal(0, 0.5, found.uv.shape)) for found in features]
    names = blank_pictures(tmp_path / "images", noisy)
    write_database(tmp_path / "database.db", tmp_path / "images", names, noisy, image_pairs(5), camera=camera)
    reconstruction = reconstruct(tmp_path / "database.db", tmp_path / "images", tmp_path / "sparse", calibrated=True)
    (found,) = reconstruction.cameras.values()
    np.testing.assert_allclose(found.params, colmap_camera(camera)[1], rtol=1e-12)


@pytest.mark.parametrize("camera", [*CAMERAS.values(), RATIONAL], ids=[*CAMERAS, "rational"])
def test_the_colmap_camera_projects_as_ours(camera: Camera) -> None:
    model, parameters = colmap_camera(camera)
    theirs = pycolmap.Camera(model=model, width=camera.width, height=camera.height, params=list(parameters))
    points = np.random.default_rng(1).uniform([-0.5, -0.4, 1.0], [0.5, 0.4, 1.2], (50, 3))
    np.testing.assert_allclose(theirs.img_from_cam(points), camera.project(points) + 0.5, atol=1e-6)


def test_lenses_that_colmap_does_not_have_are_refused() -> None:
    thin_prism = replace(PINHOLE, model="rational_polynomial", coefficients=(0.1,) * 8 + (0.01, 0.0, 0.0, 0.0))
    with pytest.raises(ColmapError, match="undistort"):
        colmap_camera(thin_prism)


def test_pairs_are_taken_once_and_sequential_ones_are_neighbours_and_powers_of_two_apart() -> None:
    assert set(image_pairs(4)) == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    followed = list(image_pairs(40, "sequential", overlap=4))
    assert len(set(followed)) == len(followed)
    assert {second - first for first, second in followed} == {1, 2, 3, 4, 8, 16}
    assert all(0 <= first < second < 40 for first, second in followed)
    with pytest.raises(ColmapError, match="exhaustive"):
        image_pairs(4, "all")  # type: ignore[arg-type]
    with pytest.raises(ColmapError, match="overlap"):
        image_pairs(4, "sequential", overlap=0)


def test_a_failed_write_leaves_the_old_database(tmp_path: Path) -> None:
    features, _ = exact_views(PINHOLE, 3)
    names = blank_pictures(tmp_path / "images", features)
    (tmp_path / "images" / names[1]).write_text("no picture")
    (tmp_path / "database.db").write_text("old")
    with pytest.raises(ColmapError, match=r"1\.png"):
        write_database(tmp_path / "database.db", tmp_path / "images", names, features, image_pairs(3), camera=PINHOLE)
    assert (tmp_path / "database.db").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"database.db", "images"}


def test_pictures_and_calibration_must_go_together(tmp_path: Path) -> None:
    features, _ = exact_views(PINHOLE, 3)
    names = blank_pictures(tmp_path / "images", features)

    def write(names: list[str], features: list[Features], camera: Camera) -> None:
        write_database(tmp_path / "database.db", tmp_path / "images", names, features, image_pairs(3), camera=camera)

    with pytest.raises(ColmapError, match=r"0\.png is 320x240 .* 640x480"):
        write(names, features, PINHOLE.scaled(640, 480))
    with pytest.raises(ColmapError, match="at least two"):
        write(names[:1], features[:1], PINHOLE)
    with pytest.raises(ColmapError, match="do not go"):
        write(names, features[:2], PINHOLE)
    with pytest.raises(ColmapError, match="twice"):
        write([names[0], names[1], names[0]], features, PINHOLE)


def test_the_command_uses_a_folder_of_pictures_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rng = np.random.default_rng(0)
    wall = cv2.resize(rng.integers(0, 256, (60, 90), dtype=np.uint8), (720, 480), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "pictures").mkdir()
    for index in (1, 2, 10):
        cv2.imwrite(str(tmp_path / "pictures" / f"{index}.png"), wall[: 240 + index, 9 * index : 320 + 9 * index][:240])
    (tmp_path / "pictures" / "camera.yaml").write_text(yaml.safe_dump(CAMERAS["OPENCV"].to_dict()))
    command = [
        "colmap",
        str(tmp_path / "pictures"),
        str(tmp_path / "out"),
        "--frontend",
        "orb",
        "--pairs",
        "sequential",
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "3 images" in said
    assert f"--image_path {tmp_path / 'pictures'}" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["database.db"]
    with pycolmap.Database.open(tmp_path / "out" / "database.db") as written:
        assert {image.name for image in written.read_all_images()} == {"1.png", "2.png", "10.png"}
        assert written.read_all_cameras()[0].model.name == "OPENCV"
        assert written.num_verified_image_pairs() == 3

    command[1:3] = command[1] + "@rate=5", str(tmp_path / "again")
    assert main(command) == 0
    assert f"--image_path {tmp_path / 'pictures'}" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["database.db"]

    command[2] = str(tmp_path / "third")
    assert main([*command, "--every", "0"]) == 1
    assert main([*command, "--every", "3"]) == 1
    assert "at least two pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["out", "--pairs", "sequential", "--overlap", "0"], "overlap of a sequential pairing must be at least 1"),
        (["out", "--ratio", "2"], "--ratio must be above 0 and at most 1, got 2"),
        (["file"], "file is to be a folder"),
        (["file/out"], "file is none"),
    ],
)
def test_what_cannot_become_a_database_is_refused_before_a_frame_is_written(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("kept")
    out, *options = arguments
    assert main(["colmap", "room:frames=2,width=64,height=48", str(tmp_path / out), "--frontend", "orb", *options]) == 1
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_calibration_of_another_size_is_refused_before_a_frame_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    camera = CAMERAS["OPENCV"]
    (tmp_path / "camera.yaml").write_text(yaml.safe_dump(camera.to_dict()))
    command = ["colmap", "room:frames=2,width=64,height=48", str(tmp_path / "out"), "--frontend", "orb"]
    assert main([*command, "--camera", str(tmp_path / "camera.yaml")]) == 1
    sentence = f"000000.png is 64x48 pixels and the calibration is for {camera.width}x{camera.height}"
    assert capsys.readouterr().err == f"gcnv2 colmap: the picture {sentence}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["camera.yaml"]


def test_a_database_that_is_there_is_kept_and_named_before_a_frame_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "database.db").write_text("kept")
    assert main(["colmap", "room:frames=2,width=64,height=48", str(tmp_path), "--frontend", "orb"]) == 1
    sentence = f"{tmp_path / 'database.db'} exists already; remove it, or choose another place"
    assert capsys.readouterr().err == f"gcnv2 colmap: {sentence}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["database.db"]
    assert (tmp_path / "database.db").read_text() == "kept"


def test_a_missing_pycolmap_is_told_before_a_frame_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    assert main(["colmap", "room:frames=2,width=64,height=48", str(tmp_path), "--frontend", "orb"]) == 1
    assert "install it with: pip install pycolmap" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_that_goes_on_is_one_for_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "my room's; pictures"
    room = "room:frames=2,width=160,height=120"
    assert main(["colmap", room, str(out), "--frontend", "orb", "--max-keypoints", "50"]) == 0
    command = capsys.readouterr().out.split("map it with: ")[1]
    assert shlex.split(command) == [
        *["mkdir", "-p", f"{out}/sparse", "&&", "colmap", "mapper", "--database_path", f"{out}/database.db"],
        *["--image_path", f"{out}/images", "--output_path", f"{out}/sparse"],
    ]


def test_the_command_writes_the_frames_of_other_sequences(tmp_path: Path) -> None:
    room = "room:seed=2,frames=5,rate=4,width=160,height=120,texel=0.03"
    assert main(["colmap", room, str(tmp_path), "--frontend", "orb", "--every", "2", "--max-keypoints", "300"]) == 0
    pictures = sorted((tmp_path / "images").iterdir())
    assert [path.name for path in pictures] == ["000000.png", "000002.png", "000004.png"]
    np.testing.assert_array_equal(cv2.imread(str(pictures[1]), cv2.IMREAD_UNCHANGED), open_sequence(room)[2].image)
    with pycolmap.Database.open(tmp_path / "database.db") as written:
        assert [image.name for image in written.read_all_images()] == [path.name for path in pictures]

    command = ["colmap", str(tmp_path / "images"), str(tmp_path / "again"), "--frontend", "orb", "--camera", "unknown"]
    assert main(command) == 0
    with pycolmap.Database.open(tmp_path / "again" / "database.db") as written:
        assert [camera.model.name for camera in written.read_all_cameras()] == ["SIMPLE_RADIAL"]


@pytest.mark.slow
def test_the_synthetic_room_is_reconstructed(tmp_path: Path) -> None:
    """Every image of a walk is registered, with positions within 1% of its length."""
    room = "room:seed=3,frames=30,rate=2"
    command = ["colmap", room, str(tmp_path), "--frontend", "orb", "--max-keypoints", "1500", "--pairs", "sequential"]
    assert main([*command, "--map"]) == 0
    sequence = open_sequence(room)
    truth = {f"{index:06d}.png": sequence.pose(index) for index in range(len(sequence))}  # type: ignore[attr-defined]
    reconstruction = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    estimate = camera_poses(reconstruction)
    assert set(estimate) == set(truth)
    assert position_error(estimate, truth) < 0.01
    assert rotation_error(estimate, truth) < 1.5
