# SPDX-License-Identifier: Apache-2.0
"""The camera model: rays and projection are each other's inverse, and CameraInfo means what ROS says it means."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros import distortion
from gcnv2_ros.camera import Camera, CameraError
from gcnv2_ros.geometry import GeometryError, rectify_pair

WIDTH, HEIGHT = 640, 480
PINHOLE = Camera(WIDTH, HEIGHT, 500.0, 510.0, 322.5, 236.25)
KINECT = replace(PINHOLE, model="plumb_bob", coefficients=(0.262383, -0.953104, -0.005358, 0.002628, 1.163314))
WIDE = replace(PINHOLE, model="plumb_bob", coefficients=(-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05))
RATIONAL = replace(
    PINHOLE, model="rational_polynomial", coefficients=(0.52, -2.6, 0.0007, -0.0002, 1.5, 0.4, -2.4, 1.4)
)
TILTED = replace(
    PINHOLE,
    model="rational_polynomial",
    coefficients=(0.1, -0.05, 0.001, -0.002, 0.01, 0.02, -0.03, 0.01, 0.002, -0.001, 0.003, 0.001, 0.02, -0.03),
)
FISHEYE = Camera(WIDTH, HEIGHT, 300.0, 301.0, 320.0, 240.0, "equidistant", (-0.013, 0.021, -0.018, 0.004))
CAMERAS = {
    "none": PINHOLE,
    "kinect": KINECT,
    "wide": WIDE,
    "rational": RATIONAL,
    "prism": replace(TILTED, coefficients=TILTED.coefficients[:12]),
    "tilted": TILTED,
    "equidistant": FISHEYE,
}

any_camera = st.sampled_from(list(CAMERAS.values()))
pixels = st.tuples(st.floats(-0.5, WIDTH - 0.5), st.floats(-0.5, HEIGHT - 0.5))
small = st.floats(-0.005, 0.005)


@st.composite
def lenses(draw: st.DrawFn) -> Camera:
    """Cameras with lenses as calibrations of real ones come out, invertible over the whole image."""
    model = draw(st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant"]))
    if model == "equidistant":
        coefficients = tuple(draw(st.floats(-0.02, 0.02)) for _ in range(4))
    else:
        coefficients = (draw(st.floats(-0.12, 0.3)), draw(st.floats(-0.03, 0.1)), draw(small), draw(small), draw(small))
        if model == "rational_polynomial":
            coefficients += (draw(st.floats(-0.1, 0.1)), draw(small), draw(small))
    return replace(PINHOLE, model=model, coefficients=coefficients)


def camera_info(camera: Camera, **changes: object) -> SimpleNamespace:
    """A sensor_msgs/CameraInfo as rclpy gives it, as far as attributes go."""
    fields = {name: np.asarray(v) if isinstance(v, list) else v for name, v in camera.camera_info_fields().items()}
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    header = SimpleNamespace(frame_id="optical")
    return SimpleNamespace(**{**fields, "binning_x": 0, "binning_y": 0, "roi": roi, "header": header, **changes})


@settings(deadline=None)
@given(camera=st.one_of(any_camera, lenses()), uv=st.lists(pixels, min_size=1, max_size=20))
def test_projecting_the_rays_of_pixels_gives_the_pixels(camera: Camera, uv: list[tuple[float, float]]) -> None:
    ideal = camera.undistort(uv)
    points = 3.7 * np.concatenate([ideal, np.ones((len(ideal), 1))], axis=1)
    np.testing.assert_allclose(camera.project(points), uv, atol=1e-6)
    np.testing.assert_allclose(camera.project(camera.rays(uv)), uv, atol=1e-3)


@settings(deadline=None)
@given(
    camera=st.one_of(any_camera, lenses()),
    uv=st.lists(pixels | st.just((np.nan, 10.0)) | st.just((1e9, -1e9)), min_size=1, max_size=20),
)
def test_the_compiled_inverse_is_the_one_in_numpy(camera: Camera, uv: list[tuple[float, float]]) -> None:
    pytest.importorskip("numba", exc_type=ImportError)
    compiled = camera.undistort(uv)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distortion, "compiled", lambda: None)
        np.testing.assert_allclose(compiled, camera.undistort(uv), atol=1e-9)


@pytest.mark.parametrize("name", CAMERAS)
def test_every_pixel_of_a_usual_lens_has_a_ray(name: str) -> None:
    camera = CAMERAS[name]
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    back = camera.project(np.dstack([camera.pixel_grid, np.ones((HEIGHT, WIDTH))]))
    assert np.abs(back - np.stack([columns, rows], axis=-1).reshape(-1, 2)).max() < 1e-6


@pytest.mark.parametrize("name", CAMERAS)
def test_rays_are_float32_with_unit_z(name: str) -> None:
    rays = CAMERAS[name].rays([[10.0, 20.0], [600.0, 400.0]])
    assert rays.dtype == np.float32
    assert rays.shape == (2, 3)
    assert np.all(rays[:, 2] == 1)
    assert CAMERAS[name].rays(np.zeros((0, 2))).shape == (0, 3)


@pytest.mark.parametrize("name", ["none", "kinect", "wide", "rational", "prism", "tilted"])
def test_projection_is_that_of_opencv(name: str) -> None:
    camera = CAMERAS[name]
    points = np.random.default_rng(0).uniform([-1, -0.8, 1.6], [1, 0.8, 4], (200, 3))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.matrix, np.array(camera.coefficients))
    np.testing.assert_allclose(camera.project(points), np.reshape(expected, (-1, 2)), atol=1e-8)


def test_fisheye_projection_is_that_of_opencv() -> None:
    points = np.random.default_rng(0).uniform([-3, -3, 0.5], [3, 3, 4], (200, 1, 3))
    expected, _ = cv2.fisheye.projectPoints(
        points, np.zeros((1, 1, 3)), np.zeros((1, 1, 3)), FISHEYE.matrix, np.array(FISHEYE.coefficients)
    )
    np.testing.assert_allclose(FISHEYE.project(points), np.reshape(expected, (-1, 2)), atol=1e-8)


def test_a_pixel_that_the_lens_model_cannot_reach_has_no_ray() -> None:
    # r (1 - 0.5 r^2) never exceeds 0.544; the corners of this image would need 0.8 and more.
    camera = replace(PINHOLE, fx=400.0, fy=400.0, model="plumb_bob", coefficients=(-0.5,))
    rays = camera.rays([[0.0, 0.0], [camera.cx, camera.cy], [camera.cx + 0.54 * camera.fx, camera.cy]])
    assert np.isnan(rays[0]).all()
    assert np.isfinite(rays[1:]).all()


def test_a_coefficient_next_to_zero_is_as_good_as_zero() -> None:
    for model in ("plumb_bob", "rational_polynomial", "equidistant"):
        nearly = replace(PINHOLE, model=model, coefficients=(0.1, 0.0, 0.0, 1e-310))
        exactly = replace(PINHOLE, model=model, coefficients=(0.1,))
        np.testing.assert_allclose(nearly.undistort([[3.0, 4.0]]), exactly.undistort([[3.0, 4.0]]), atol=1e-12)
    for coefficients in ((0.1, 0.0, 0.0, 0.0, 1e-310), (0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5e-324)):
        camera = replace(PINHOLE, model="rational_polynomial", coefficients=coefficients)
        assert np.isfinite(camera.rays([[3.0, 4.0]])).all()


def test_a_point_far_to_the_side_is_not_folded_back_into_the_image() -> None:
    camera = replace(PINHOLE, model="plumb_bob", coefficients=(-0.5,))
    folded, _ = cv2.projectPoints(
        np.array([[[1.4, 0.0, 1.0]]]), np.zeros(3), np.zeros(3), camera.matrix, np.array([-0.5, 0, 0, 0])
    )
    assert 0 <= np.ravel(folded)[0] < WIDTH, "the bare polynomial shows it inside the image"
    assert np.isnan(camera.project([[1.4, 0.0, 1.0]])).all()


@pytest.mark.parametrize("name", CAMERAS)
def test_points_that_are_not_in_front_have_no_pixel(name: str) -> None:
    assert np.isnan(CAMERAS[name].project([[0.1, 0.1, -1.0], [0.1, 0.1, 0.0], [np.nan, 0.0, 1.0]])).all()


def test_a_fisheye_has_no_ray_from_ninety_degrees_on() -> None:
    camera = Camera(1000, 1000, 300.0, 300.0, 499.5, 499.5, "equidistant")
    edge = 300.0 * np.pi / 2
    rays = camera.rays([[499.5 + edge - 1, 499.5], [499.5 + edge + 1, 499.5]])
    assert np.isfinite(rays[0]).all()
    assert np.isnan(rays[1]).all()
    # Tangents of what is next to 90 degrees are large, and that of 90 degrees, rounded, is finite.
    assert np.isnan(distortion.undistort("equidistant", (0.0, 0.0, 0.0, 0.0), np.array([[np.pi / 2, 0.0]]))).all()


def test_a_pixel_beyond_the_edge_of_a_fisheye_has_no_ray() -> None:
    lens = (0.05, -0.01, 0.01, -0.005)
    camera = Camera(640, 480, 200.0, 200.0, 319.5, 239.5, "equidistant", lens)
    rows, columns = np.mgrid[0:480, 0:640]
    radius = np.hypot(columns - 319.5, rows - 239.5) / 200.0
    edge = np.polynomial.Polynomial([0, 1, 0, lens[0], 0, lens[1], 0, lens[2], 0, lens[3]])(np.pi / 2)
    known = np.isfinite(camera.pixel_grid).all(axis=2)
    assert not known[radius > edge].any()
    assert known[radius < 0.999 * edge].all()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_ray_projects_to_its_pixel_where_the_lens_model_has_a_pole(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(distortion, "compiled", lambda: None)
    elif distortion.compiled() is None:
        pytest.skip("needs numba")
    coefficients = (0.484, 0.005, 0.0, 0.0, -0.058, -0.102, -0.229, -0.112)
    camera = Camera(640, 480, 300.0, 300.0, 320.0, 240.0, "rational_polynomial", coefficients)
    uv = np.stack(np.meshgrid(np.arange(0, 640, 4), np.arange(0, 480, 4)), axis=-1).reshape(-1, 2)
    ideal = camera.undistort(uv)
    known = np.isfinite(ideal).all(axis=1)
    assert known.mean() > 0.9
    back = camera.project(np.column_stack([ideal[known], np.ones(known.sum())]))
    np.testing.assert_allclose(back, uv[known], atol=1e-5)


@settings(deadline=None)
@given(camera=any_camera, uv=pixels, width=st.integers(40, 1500), height=st.integers(40, 1500))
def test_scaling_keeps_what_a_pixel_shows(camera: Camera, uv: tuple[float, float], width: int, height: int) -> None:
    scaled = camera.scaled(width, height)
    u, v = (uv[0] + 0.5) * width / WIDTH - 0.5, (uv[1] + 0.5) * height / HEIGHT - 0.5
    np.testing.assert_allclose(scaled.undistort([[u, v]]), camera.undistort([uv]), atol=1e-9)
    assert (scaled.width, scaled.height) == (width, height)


@settings(max_examples=40, deadline=None)
@given(
    camera=any_camera,
    bins=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    offset=st.tuples(st.integers(0, 200), st.integers(0, 100)),
)
def test_a_binned_region_shows_what_its_pixels_show(
    camera: Camera, bins: tuple[int, int], offset: tuple[int, int]
) -> None:
    roi = SimpleNamespace(x_offset=offset[0], y_offset=offset[1], width=240, height=120, do_rectify=False)
    projected = replace(camera, projection=np.column_stack([camera.matrix, [-60.0, 0.0, 0.0]]))
    seen = Camera.from_camera_info(camera_info(projected, binning_x=bins[0], binning_y=bins[1], roi=roi))
    assert seen is not None
    assert (seen.width, seen.height) == (240 // bins[0], 120 // bins[1])
    # Binned pixel (7, 5) sums the pixels 7 b .. 7 b + b - 1 of the region; its centre is their mean.
    u = offset[0] + 7 * bins[0] + (bins[0] - 1) / 2
    v = offset[1] + 5 * bins[1] + (bins[1] - 1) / 2
    np.testing.assert_allclose(seen.undistort([[7.0, 5.0]]), camera.undistort([[u, v]]), atol=1e-9)
    np.testing.assert_allclose(
        seen.rectified().undistort([[7.0, 5.0]]), projected.rectified().undistort([[u, v]]), atol=1e-9
    )
    assert seen.baseline == pytest.approx(60.0 / camera.fx)


def test_camera_info_round_trips() -> None:
    for camera in CAMERAS.values():
        read = Camera.from_camera_info(camera_info(camera))
        assert read is not None
        assert read.frame_id == "optical"
        assert replace(read, frame_id=camera.frame_id) == camera


def test_ros_1_messages_with_capital_names_are_read() -> None:
    message = camera_info(WIDE)
    for name in "dkrp":
        setattr(message, name.upper(), getattr(message, name))
        delattr(message, name)
    assert replace(Camera.from_camera_info(message), frame_id="") == WIDE


def test_a_message_with_a_zero_matrix_is_uncalibrated() -> None:
    assert Camera.from_camera_info(camera_info(PINHOLE, k=np.zeros(9), distortion_model="", width=0, height=0)) is None


@pytest.mark.parametrize(
    ("d", "model"),
    [([], "none"), ([0.0] * 5, "none"), ([-0.3, 0.1, 0, 0, 0], "plumb_bob"), ([0.1] * 8, "rational_polynomial")],
)
def test_a_missing_model_name_is_told_from_the_coefficients(d: list[float], model: str) -> None:
    camera = Camera.from_camera_info(camera_info(PINHOLE, d=d, distortion_model=""))
    assert camera is not None
    assert camera.model == model


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distortion_model": "omni"}, "omni"),
        ({"k": [1.0] * 8}, "9 numbers"),
        ({"k": np.array([-5.0, 0, 1, 0, 5, 1, 0, 0, 1])}, "focal lengths"),
        ({"width": 0}, "image size"),
        ({"d": [np.nan] * 5, "distortion_model": "plumb_bob"}, "finite"),
        ({"d": [0.1] * 9, "distortion_model": "equidistant"}, "equidistant"),
        ({"roi": SimpleNamespace(x_offset=600, y_offset=0, width=100, height=10)}, "region of interest"),
    ],
)
def test_a_contradictory_message_is_refused_with_its_reason(changes: dict[str, object], words: str) -> None:
    with pytest.raises(CameraError, match=words):
        Camera.from_camera_info(camera_info(PINHOLE, **changes))


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_the_entries_of_a_calibration_file_give_the_camera_back(camera: Camera) -> None:
    assert Camera.from_dict(camera.to_dict()) == camera


def test_cameras_are_compared_by_value() -> None:
    changed = replace(WIDE, projection=np.column_stack([WIDE.matrix, [-50.0, 0.0, 0.0]]))
    assert replace(WIDE) == WIDE
    assert hash(replace(WIDE)) == hash(WIDE)
    assert changed != WIDE
    assert replace(changed, projection=changed.projection + 1e-6) != changed


def test_a_rectified_pair_sees_a_point_in_one_row_at_the_distance_of_its_disparity() -> None:
    left_to_right = np.eye(4)
    left_to_right[:3, :3] = cv2.Rodrigues(np.array([0.01, -0.03, 0.02]))[0]
    left_to_right[:3, 3] = [-0.11, 0.002, -0.003]
    right = replace(WIDE, fx=495.0, cx=318.0, coefficients=(-0.27, 0.06, -0.0002, 0.0001))
    left, right = rectify_pair(WIDE, right, left_to_right)
    points = np.random.default_rng(1).uniform([-0.8, -0.5, 2], [0.8, 0.5, 5], (50, 3))
    in_left = points @ left.rectification.T
    in_right = (points @ left_to_right[:3, :3].T + left_to_right[:3, 3]) @ right.rectification.T
    uv_left, uv_right = left.rectified().project(in_left), right.rectified().project(in_right)
    np.testing.assert_allclose(uv_left[:, 1], uv_right[:, 1], atol=1e-6)
    depth = left.rectified().fx * right.baseline / (uv_left[:, 0] - uv_right[:, 0])
    np.testing.assert_allclose(depth, in_left[:, 2], rtol=1e-6)
    assert right.baseline == pytest.approx(np.linalg.norm(left_to_right[:3, 3]))
    assert left.baseline is None


def test_rectification_maps_are_those_of_opencv() -> None:
    left_to_right = np.eye(4)
    left_to_right[:3, :3] = cv2.Rodrigues(np.array([0.01, -0.03, 0.02]))[0]
    left_to_right[0, 3] = -0.11
    for side in rectify_pair(WIDE, KINECT, left_to_right):
        expected = cv2.initUndistortRectifyMap(
            side.matrix, np.array(side.coefficients), side.rectification, side.projection, (WIDTH, HEIGHT), cv2.CV_32FC1
        )
        for mine, theirs in zip(side.rectification_maps(), expected, strict=True):
            assert np.abs(mine - theirs).max() < 1e-2


def test_rectification_without_a_projection_is_refused() -> None:
    with pytest.raises(CameraError, match="projection"):
        WIDE.rectified()


def test_fisheyes_and_pairs_of_two_sizes_are_not_rectified_wrongly() -> None:
    for right, words in ((FISHEYE, "fisheye"), (WIDE.scaled(320, 240), "one image size")):
        with pytest.raises(GeometryError, match=words):
            rectify_pair(WIDE, right, np.eye(4))
