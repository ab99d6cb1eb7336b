# SPDX-License-Identifier: Apache-2.0
"""The synthetic room: what it says about depth, pose and calibration is what its images show."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from gcnv2_ros.camera import Camera
from gcnv2_ros.geometry import backproject, dense_flow, transform_points
from gcnv2_ros.sequences.base import Frame, SequenceError
from gcnv2_ros.sequences.pictures import packaged_photographs
from gcnv2_ros.sequences.rendering import SUPERSAMPLING, Face, RayGrid, Scene
from gcnv2_ros.sequences.room import RoomOptions, SyntheticRoom
from gcnv2_ros.sequences.trajectory import look_rotation

SMALL = RoomOptions(seed=4, width=320, height=240, frames=90, texel=0.006, baseline=0.12)
BARREL = (-0.28, 0.07, 0.0002, 0.00002, 0.0)
CAMERA = Camera(160, 120, 150.0, 150.0, 79.5, 59.5)


@pytest.fixture(scope="module")
def room() -> SyntheticRoom:
    return SyntheticRoom(SMALL)


def face(texture: np.ndarray, origin: tuple[float, ...], axis_s: tuple[float, ...], axis_t: tuple[float, ...]) -> Face:
    return Face(np.array(origin), np.array(axis_s), np.array(axis_t), (2.0, 1.5), texture)


def resampled_error(first: np.ndarray, second: np.ndarray, flow: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Differences in gray levels between pixels of the first image and where they are said to be in the second."""
    found = cv2.remap(second, flow[..., 0], flow[..., 1], cv2.INTER_LINEAR)
    return np.abs(found.astype(float) - first)[valid]


def offset(first: np.ndarray, second: np.ndarray, flow: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mean displacement in pixels (du, dv) that remains between an image and another one warped onto it."""
    found = cv2.remap(second, flow[..., 0], flow[..., 1], cv2.INTER_CUBIC)
    a, b = (cv2.GaussianBlur(image.astype(np.float64), (0, 0), 1.0) for image in (first, found))
    inner = cv2.erode(valid.astype(np.uint8), np.ones((9, 9))) > 0
    slopes = np.stack([np.gradient(a)[1][inner], np.gradient(a)[0][inner]])
    return np.linalg.solve(slopes @ slopes.T, slopes @ (a - b)[inner])


def test_depth_of_a_slanted_plane_is_exact_at_pixel_centres() -> None:
    texture = np.full((8, 8), 100, np.uint8)
    turned = np.array([np.cos(0.6), 0.0, np.sin(0.6)])
    scene = Scene([face(texture, (-0.8, -0.7, 2.0), tuple(turned), (0.0, 1.0, 0.0))])
    depth = scene.depth(np.eye(4), RayGrid(CAMERA, np.float64))
    points = backproject(depth, CAMERA)
    seen = np.isfinite(depth)
    normal = np.array([-np.sin(0.6), 0.0, np.cos(0.6)])
    np.testing.assert_allclose((points[seen] - [-0.8, -0.7, 2.0]) @ normal, 0, atol=1e-6)
    along = (points[seen] - [-0.8, -0.7, 2.0]) @ turned
    assert along.min() > -1e-4
    assert along.max() < 2.0 + 1e-4
    assert 0.2 < seen.mean() < 0.9
    behind = np.eye(4)
    behind[2, 3] = 10.0
    assert np.isnan(scene.depth(behind, RayGrid(CAMERA, np.float64))).all()


def test_a_texture_is_seen_the_right_way_round() -> None:
    texture = np.zeros((30, 40), np.uint8)
    texture[:15, :20] = 250  # top left
    texture[15:, :20] = 120  # bottom left
    scene = Scene([face(texture, (-1.0, -0.75, 2.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))])
    fine = RayGrid(CAMERA.scaled(SUPERSAMPLING * 160, SUPERSAMPLING * 120), np.float32)
    image = scene.image(np.eye(4), fine)
    # The face spans columns 79.5 -+ 75 and rows 59.5 -+ 56.25.
    assert image[30, 40] == pytest.approx(250)
    assert image[90, 40] == pytest.approx(120)
    assert image[30, 120] == pytest.approx(0)
    assert image[0, 80] == 0, "above the face there is nothing"


def test_a_fine_pattern_far_away_fades_to_its_mean_instead_of_flickering() -> None:
    checks = (np.indices((600, 800)).sum(0) % 2 * 240).astype(np.uint8)
    fine = RayGrid(CAMERA.scaled(SUPERSAMPLING * 160, SUPERSAMPLING * 120), np.float32)
    image = Scene([face(checks, (-1.0, -0.75, 4.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))]).image(np.eye(4), fine)
    inner = image[40:80, 50:110]
    assert np.abs(inner - 120).max() < 3


def test_the_room_is_closed_and_in_front_of_the_camera(room: SyntheticRoom) -> None:
    for index in (0, 30, 89):
        depth = room.depth(index)
        assert depth.dtype == np.float32
        assert np.isfinite(depth).all()
        assert depth.min() > 0.3


def test_every_point_lies_on_the_shell_or_on_something_in_the_room(room: SyntheticRoom) -> None:
    points = transform_points(room.pose(30), backproject(room.depth(30), room.camera)).reshape(-1, 3)
    low, high = points.min(0), points.max(0)
    things = room.obstacles()
    within = np.zeros(len(points), bool)
    for lowest, highest in things:
        within |= np.all((points > lowest - 1e-4) & (points < highest + 1e-4), axis=1)
    size = room.room_size()
    shell = np.abs(points[:, :2]) - size[:2] / 2
    on_shell = (np.abs(shell).min(1) < 1e-4) | (np.abs(points[:, 2]) < 1e-4) | (np.abs(points[:, 2] - size[2]) < 1e-4)
    assert (within | on_shell).all()
    assert on_shell.any()
    assert within.any()
    assert np.all(np.abs([low, high])[:, :2] < size[:2] / 2 + 1e-4)


@pytest.mark.parametrize("gap", [1, 12])
def test_pixels_carried_by_depth_and_pose_land_on_the_same_picture(room: SyntheticRoom, gap: int) -> None:
    first, second = room[20], room[20 + gap]
    flow, valid = dense_flow(first, second, room.camera, tolerance=0.005)
    error = resampled_error(first.gray, second.gray, flow, valid)
    assert valid.mean() > 0.6
    assert np.median(error) <= 2
    assert error.mean() < 4
    assert error.mean() < 0.4 * np.abs(first.gray.astype(float) - second.gray).mean()
    assert np.abs(offset(first.gray, second.gray, flow, valid)).max() < 0.05


def test_a_pixel_that_is_hidden_in_the_other_frame_is_not_valid(room: SyntheticRoom) -> None:
    first, second = room[0], room[40]
    flow, valid = dense_flow(first, second, room.camera, tolerance=0.005)
    inside = np.all((flow > 1) & (flow < [318, 238]), axis=2)
    hidden = inside & ~valid
    assert hidden.mean() > 0.005
    # What is hidden lies behind what the second frame sees there.
    points = transform_points(np.linalg.inv(second.pose) @ first.pose, backproject(first.depth, room.camera))
    columns, rows = np.rint(flow[hidden]).astype(int).T
    assert np.mean(points[hidden][:, 2] > second.depth[rows, columns]) > 0.8


def test_the_right_image_shows_each_pixel_shifted_by_its_disparity(room: SyntheticRoom) -> None:
    frame = room[10]
    assert room.right_camera.baseline == pytest.approx(0.12)
    rows, columns = np.mgrid[0:240, 0:320].astype(np.float32)
    disparity = room.camera.fx * room.baseline / frame.depth
    flow = np.dstack([columns - disparity, rows])
    right_pose = frame.pose.copy()
    right_pose[:3, 3] += 0.12 * frame.pose[:3, 0]
    right_depth = room.depth_from(right_pose)
    right = Frame(0, 0, frame.right, right_depth, pose=right_pose)
    expected, valid = dense_flow(frame, right, room.camera, tolerance=0.005)
    np.testing.assert_allclose(flow, expected, atol=1e-3)
    error = resampled_error(frame.gray, frame.right_gray, flow, valid)
    assert error.mean() < 4
    assert np.abs(offset(frame.gray, frame.right_gray, flow, valid)).max() < 0.05


def test_only_a_pair_without_distortion_is_rectified(room: SyntheticRoom) -> None:
    assert room.stereo == pytest.approx((room.camera.fx, 0.12))
    bent = SyntheticRoom(replace(SMALL, distortion=BARREL))
    assert bent.stereo is None
    (note,) = bent.notes
    assert "no depth by stereo" in note
    assert "its lens distorts them" in note


def test_a_distorting_lens_shows_what_the_camera_model_says(room: SyntheticRoom) -> None:
    bent = SyntheticRoom(replace(SMALL, distortion=BARREL, baseline=0.0))
    assert bent.camera.model == "plumb_bob"
    image, depth = bent[30].image, bent.depth(30)
    grid = bent.camera.pixel_grid
    flow = room.camera.project(np.dstack([grid, np.ones(grid.shape[:2])])).reshape(240, 320, 2).astype(np.float32)
    valid = np.all((flow > 0) & (flow < [319, 239]), axis=2)
    assert valid.mean() > 0.7
    straight = room[30]
    error = resampled_error(image, straight.gray, flow, valid)
    assert error.mean() < 5
    assert np.abs(offset(image, straight.gray, flow, valid)).max() < 0.05
    exact = cv2.remap(1 / straight.depth, flow[..., 0], flow[..., 1], cv2.INTER_LINEAR)
    assert np.median(np.abs(exact * depth - 1)[valid]) < 1e-4


def test_frames_depend_on_options_and_index_alone(room: SyntheticRoom) -> None:
    noisy = replace(SMALL, noise=3.0)
    one, other = SyntheticRoom(noisy), SyntheticRoom(noisy)
    later = one[50]
    one_first, other_first = one[5], other[5]
    for name in ("image", "depth", "right", "pose"):
        np.testing.assert_array_equal(getattr(one_first, name), getattr(other_first, name))
    np.testing.assert_array_equal(later.image, other[50].image)
    np.testing.assert_array_equal(one_first.depth, room[5].depth)
    grain = one_first.image.astype(float) - room[5].image
    assert grain[room[5].image < 240].std() == pytest.approx(3.0, rel=0.1)
    assert np.corrcoef(grain.ravel(), (later.image.astype(float) - room[50].image).ravel())[0, 1] < 0.05


def test_seeds_give_different_rooms(room: SyntheticRoom) -> None:
    other = SyntheticRoom(replace(SMALL, seed=5))
    assert not np.allclose(other.room_size(), room.room_size())
    assert not np.allclose(other.pose(0), room.pose(0))


@pytest.mark.parametrize("seed", range(12))
def test_the_camera_keeps_clear_of_everything_and_moves_smoothly(seed: int) -> None:
    room = SyntheticRoom(RoomOptions(seed=seed, frames=3000, roll_degrees=40))
    poses = np.stack([room.pose(index) for index in range(0, 3000, 5)])
    places, things = poses[:, None, :3, 3], room.obstacles()[None]
    distance = np.linalg.norm(np.maximum(np.maximum(things[:, :, 0] - places, places - things[:, :, 1]), 0), axis=2)
    assert distance.min() > 0.3
    size = room.room_size()
    assert np.all(np.abs(poses[:, :2, 3]) < size[:2] / 2 - 1)
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.eye(3)[None].repeat(600, 0), atol=1e-9
    )
    steps = np.stack([room.pose(index) for index in range(300)])
    assert np.linalg.norm(np.diff(steps[:, :3, 3], axis=0), axis=1).max() < 0.04
    turns = np.einsum("nij,nij->n", steps[:-1, :3, :3], steps[1:, :3, :3])
    assert np.degrees(np.arccos(np.clip((turns.max() - 1) / 2, -1, 1))) < 2
    assert np.degrees(np.arccos(np.clip((turns.min() - 1) / 2, -1, 1))) < 2


def test_the_camera_looks_along_z_with_x_to_the_right_and_y_down() -> None:
    level = look_rotation(0.0, 0.0, 0.0)
    np.testing.assert_allclose(level, np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]), atol=1e-12)
    assert look_rotation(0.0, 0.3, 0.0)[2, 2] > 0, "pitch looks up"
    assert look_rotation(0.0, 0.0, 0.3)[2, 0] < 0, "clockwise roll lowers the right-hand side"


def test_roll_reaches_its_amplitude() -> None:
    room = SyntheticRoom(RoomOptions(seed=1, frames=600, roll_degrees=60))
    poses = np.stack([room.pose(index) for index in range(600)])
    roll = np.degrees(np.arctan2(-poses[:, 2, 0], -poses[:, 2, 1]))
    assert roll.max() == pytest.approx(60, abs=1)
    assert roll.min() == pytest.approx(-60, abs=1)


def test_a_still_camera_sees_the_same_in_every_frame() -> None:
    still = SyntheticRoom(replace(SMALL, still=True, baseline=0.0))
    np.testing.assert_array_equal(still[3].image, still[80].image)
    np.testing.assert_array_equal(still[3].pose, still[80].pose)
    assert still[80].stamp_ns > still[3].stamp_ns


def test_stamps_follow_the_rate(room: SyntheticRoom) -> None:
    assert room.stamp_ns(0) == 1_000_000_000
    assert room.stamp_ns(30) == 2_000_000_000
    assert len(room) == 90
    with pytest.raises(IndexError):
        room[90]
    assert room[-1].index == 89


def test_motion_blur_exposure_and_colour_do_what_they_say(room: SyntheticRoom) -> None:
    sharp = room[20].image
    options = replace(SMALL, baseline=0.0)
    blurred = SyntheticRoom(replace(options, exposure_time=0.1, speed=2.0))[10].image
    edges = [cv2.Laplacian(image, cv2.CV_64F).var() for image in (sharp, blurred)]
    assert edges[1] < 0.4 * edges[0], "twice the speed is at frame 10 where the other one is at frame 20"
    swinging = SyntheticRoom(replace(options, exposure_stops=1.0))
    ratios = [swinging[index].image.mean() / room[index].image.mean() for index in (0, 28, 83)]
    assert ratios[0] == pytest.approx(1)
    assert ratios[1] > 1.3
    assert ratios[2] < 0.7
    colour = SyntheticRoom(replace(options, colour=True))[20]
    assert colour.image.shape == (240, 320, 3)
    assert np.abs(colour.gray.astype(float) - sharp).mean() < 1.5


def test_motion_blur_is_the_mean_over_the_whole_exposure_in_steps_of_half_a_pixel() -> None:
    options = RoomOptions(width=160, height=120, frames=60, rate=10.0, seed=4, texel=0.005)
    blurred = SyntheticRoom(replace(options, exposure_time=0.1))[10].image
    # The same tenth of a second as 32 frames without blur.
    filmed = SyntheticRoom(replace(options, rate=640.0, frames=1000))
    mean = np.mean([filmed[640 + offset].image.astype(float) for offset in range(-31, 32, 2)], axis=0)
    # Rounding alone is 0.3 gray levels; steps of a whole pixel would be 0.7.
    assert np.sqrt(np.mean((blurred - mean) ** 2)) < 0.55


def test_pictures_that_are_given_hang_on_the_walls() -> None:
    pure_blue = np.zeros((50, 50, 3), np.uint8)
    pure_blue[..., 0] = 255
    options = replace(SMALL, colour=True, baseline=0.0, speed=8.0, texel=0.02)

    def blue_share(pictures: list[np.ndarray]) -> float:
        sequence = SyntheticRoom(options, pictures=pictures)
        views = np.stack([sequence[index].image for index in range(0, 90, 15)]).astype(int)
        return float(np.mean((views[..., 0] > 60) & (views[..., 1:].max(-1) < 8)))

    assert blue_share([pure_blue] * 20) > 0.01 > blue_share([])


def test_the_packaged_photographs_can_be_hung() -> None:
    pytest.importorskip("skimage")
    pictures = packaged_photographs()
    assert len(pictures) >= 8
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for picture in pictures)
    options = replace(SMALL, baseline=0.0, texel=0.02, speed=8.0)
    plain, hung = (SyntheticRoom(replace(options, photographs=choice)) for choice in (False, True))
    assert any(not np.array_equal(plain[index].image, hung[index].image) for index in range(0, 90, 15))


def test_another_camera_can_film_the_room() -> None:
    fisheye = Camera(200, 160, 90.0, 90.0, 99.5, 79.5, "equidistant", (-0.01, 0.02, -0.01, 0.0))
    frame = SyntheticRoom(replace(SMALL, baseline=0.0, texel=0.02), camera=fisheye)[0]
    assert frame.image.shape == (160, 200)
    assert np.isfinite(frame.depth).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour_depth=3", "colour_depth"),
        ("seed=many", "seed"),
        ("noise=-1", "noise"),
        ("still=perhaps", "still"),
        ("baseline=2", "baseline"),
        ("frames=0", "frames"),
    ],
)
def test_an_option_that_does_not_fit_is_named(text: str, words: str) -> None:
    with pytest.raises(SequenceError, match=words):
        RoomOptions.parse(text)


def test_options_are_read_from_text() -> None:
    options = RoomOptions.parse("frames=12, seed=3,still=true,distortion=-0.28/0.07/0/0/0,noise=2.5")
    assert options == RoomOptions(frames=12, seed=3, still=True, distortion=(-0.28, 0.07, 0, 0, 0), noise=2.5)
    assert RoomOptions.parse("") == RoomOptions()
