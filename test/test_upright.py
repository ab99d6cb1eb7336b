# SPDX-License-Identifier: Apache-2.0
"""Upright alignment: keypoints come back to where they are, the network sees the scene upright, gravity is found."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcnv2_ros.extraction import DecodeOptions, ExtractionError, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.extraction.preprocess import InputGeometry, network_input, resize, upright
from gcnv2_ros.features import Features, unpack_descriptors, wrapped_degrees
from gcnv2_ros.upright import GravityFilter, UprightError, roll_of

SIZES = st.tuples(st.integers(32, 400), st.integers(32, 400))
ROLLS = st.one_of(st.floats(-720, 720), st.sampled_from([0.0, 45.0, 90.0, -90.0, 135.0, 180.0, 270.0, 1e-9, 89.999]))


def clockwise(degrees: float) -> np.ndarray:
    """Turns vectors (column, row) clockwise as one sees them."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """640x480 of rectangles of many sizes and shades."""
    rng = np.random.default_rng(3)
    layers = [rng.normal(size=(480 // side, 640 // side)).astype(np.float32) for side in (6, 14, 40, 90)]
    shades = sum(cv2.resize(layer, (640, 480), interpolation=cv2.INTER_NEAREST) for layer in layers)
    return np.clip(128 + 35 * np.asarray(shades), 0, 255).astype(np.uint8)


def rolled_view(scene: np.ndarray, roll: float, size: tuple[int, int] = (320, 240)) -> tuple[np.ndarray, np.ndarray]:
    """The middle of a scene as a camera sees it that rolls, and the transform from the view's pixels to the scene's."""
    linear = clockwise(-roll)
    centre, scene_centre = (np.array(size) - 1) / 2, (np.array(scene.shape[::-1]) - 1) / 2
    matrix = np.column_stack((linear, scene_centre - linear @ centre))
    return cv2.warpAffine(scene, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP), matrix


def to_scene(matrix: np.ndarray, uv: np.ndarray) -> np.ndarray:
    return uv @ matrix[:, :2].T + matrix[:, 2]


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return create_extractor(ExtractorOptions(runtime="torch", threads=1), DecodeOptions(max_keypoints=200))


def assert_same(a: Features, b: Features) -> None:
    for name in ("uv", "response", "descriptors", "size", "angle"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@settings(deadline=None, max_examples=150)
@given(SIZES, st.one_of(st.none(), SIZES), ROLLS)
def test_positions_go_to_the_network_and_back(
    image_size: tuple[int, int], input_size: tuple[int, int] | None, roll: float
) -> None:
    geometry = InputGeometry.of(image_size, input_size, 16, roll)
    grid = np.stack(np.meshgrid(*(np.linspace(-0.5, side - 0.5, 5) for side in image_size)), -1).reshape(-1, 2)
    network = geometry.to_network(grid)
    np.testing.assert_allclose(geometry.to_image(network), grid, atol=1e-3)
    # The whole image is in the network's input.
    assert network.min() >= -0.5 - 1e-3
    assert (network <= np.array(geometry.padded_size) - 0.5 + 1e-3).all()
    assert geometry.is_inside(network * 0.999 + network.mean(axis=0) * 0.001).all()
    assert all(side % 16 == 0 for side in geometry.padded_size)


@settings(deadline=None, max_examples=100)
@given(SIZES, ROLLS)
def test_the_network_sees_the_scene_turned_back_by_the_roll(image_size: tuple[int, int], roll: float) -> None:
    geometry = InputGeometry.of(image_size, None, 16, roll)
    # What points right in the upright scene points `roll` degrees clockwise of that in the image.
    steps = np.array([(0.0, 0.0), (100.0, 0.0), (0.0, 100.0)])
    image = geometry.to_image(steps + 50).astype(np.float64)
    np.testing.assert_allclose(image[1:] - image[0], 100 * clockwise(roll).T, atol=1e-2)
    wanted = -1 if math.remainder(roll, 360) == 0 else roll
    assert abs(math.remainder(geometry.angle - wanted, 360)) < 1e-6


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(120, 300), st.integers(120, 300)),
    st.sampled_from([1.0, 0.5, 1.0 / 3.0, 1.5]),
    st.floats(-200, 200),
    st.tuples(st.floats(0.25, 0.75), st.floats(0.25, 0.75)),
)
def test_a_blob_is_where_its_position_says(
    size: tuple[int, int], zoom: float, roll: float, place: tuple[float, float]
) -> None:
    # A Gaussian blob at a known place of the image; its centre of mass in the network's input must map back there.
    u, v = np.array(size) * place
    columns, rows = np.arange(size[0]), np.arange(size[1])[:, None]
    image = (255 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 6.0**2))).round().astype(np.uint8)
    input_size = (max(32, round(size[0] * zoom)), max(32, round(size[1] * zoom)))
    geometry = InputGeometry.of(size, input_size, 16, roll)
    seen = upright(image, geometry).astype(np.float64)
    expected = geometry.to_network(np.array([(u, v)]))[0]
    grid = np.stack(np.meshgrid(np.arange(seen.shape[1]), np.arange(seen.shape[0])), -1)
    near = (np.linalg.norm(grid - expected, axis=2) < 24 * max(zoom, 0.5)) & (seen > 12)
    mass = seen * near
    found = (grid * mass[..., None]).sum(axis=(0, 1)) / mass.sum()
    np.testing.assert_allclose(geometry.to_image(found[None])[0], (u, v), atol=0.15)


def test_without_roll_the_input_is_what_it_would_be_without_this_module(scene: np.ndarray) -> None:
    image = scene[:470, :630]
    geometry = InputGeometry.of((630, 470), (318, 236), 16, 0.0)
    batch = network_input([image], [geometry])
    expected = resize(image, (318, 236)) * np.float32(1 / 255)
    np.testing.assert_array_equal(batch[0, 0], np.pad(expected, ((0, 4), (0, 2)), mode="edge"))
    uv = np.random.default_rng(0).uniform(0, 300, (50, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        geometry.to_image(uv), ((uv + 0.5) * np.array((630 / 318, 470 / 236)) - 0.5).astype(np.float32)
    )


def test_what_shrinks_is_averaged_over_areas() -> None:
    """Stripes of a period of 4 columns: interpolation between two of them would leave stripes."""
    stripes = np.tile(np.uint8([0, 200, 200, 0]), (240, 80))
    np.testing.assert_array_equal(upright(stripes, InputGeometry.of((320, 240), (80, 60), 16)), 100)


@pytest.mark.parametrize("roll", [90.0, 100.0, -90.0, -80.0])
def test_the_border_is_along_the_images_own_edges_at_quarter_turns(roll: float) -> None:
    """The network has half as many pixels across the upright scene, which then is along the image's columns."""
    places = np.array([(25.0, 120.0), (15.0, 120.0), (160.0, 25.0), (160.0, 15.0), (305.0, 120.0), (160.0, 225.0)])
    for degrees, expected in ((0.0, [1, 0, 1, 1, 0, 1]), (roll, [1, 1, 1, 0, 1, 0])):
        geometry = InputGeometry.of((320, 240), (160, 240), 16, degrees)
        np.testing.assert_array_equal(geometry.is_inside(geometry.to_network(places), 10.0), expected)


@pytest.mark.parametrize(("roll", "along_rows"), [(10.0, True), (100.0, False)])
def test_a_tilted_image_is_blurred_only_where_it_shrinks(roll: float, along_rows: bool) -> None:
    stripes = np.tile(np.uint8([0, 0, 200, 200]), (320, 80))
    geometry = InputGeometry.of((320, 320), (80, 320), 16, roll)
    shrunk, kept = (
        upright(np.ascontiguousarray(image), geometry).std()
        for image in ((stripes, stripes.T) if along_rows else (stripes.T, stripes))
    )
    assert shrunk < 40
    assert kept > 60


def test_without_roll_features_are_the_same_to_the_bit(extractor: Extractor, scene: np.ndarray) -> None:
    plain = extractor.extract(scene)
    assert_same(plain, extractor.extract(scene, roll=0.0))
    assert_same(plain, extractor.extract(scene, roll=-360.0))
    assert (plain.angle == -1).all()


@pytest.mark.parametrize(("roll", "turns"), [(90.0, 1), (-90.0, 3), (180.0, 2), (270.0, 3)])
def test_quarter_turns_give_exactly_the_features_of_the_upright_image(
    extractor: Extractor, scene: np.ndarray, roll: float, turns: int
) -> None:
    image = np.ascontiguousarray(scene[:256, :320])
    # np.rot90 turns counter-clockwise.
    turned = np.ascontiguousarray(np.rot90(image, -turns))
    expected, features = extractor.extract(image), extractor.extract(turned, roll=roll)
    centre, turned_centre = (np.array(shape[::-1]) / 2 - 0.5 for shape in (image.shape, turned.shape))
    back = (features.uv - turned_centre) @ np.round(clockwise(-roll)).T + centre
    if turns == 2:
        np.testing.assert_allclose(back, expected.uv, atol=1e-3)
        np.testing.assert_array_equal(features.descriptors, expected.descriptors)
    else:
        # The same pixels, at the place in the cells that an image without roll of the turned size would give them.
        assert set(np.unique(upright(turned, InputGeometry.of((256, 320), None, 1, roll)) == image)) == {True}
    assert (features.angle == roll % 360).all()


@pytest.mark.parametrize("detector", ["network", "blobs"])
@pytest.mark.parametrize("roll", [2.0, -20.0, 45.0, 90.0, 117.0, 180.0, -75.0])
def test_a_rolled_view_has_the_features_of_the_upright_one(scene: np.ndarray, roll: float, detector: str) -> None:
    decode = DecodeOptions(max_keypoints=200, detector=detector)
    extractor = create_extractor(ExtractorOptions(runtime="torch", threads=1), decode)
    (plain, plain_matrix), (rolled, matrix) = rolled_view(scene, 0.0), rolled_view(scene, roll)
    first = extractor.extract(plain)

    def agreement(second: Features) -> tuple[float, float]:
        """Share of the keypoints both views show that are found within 1.5 px, and the median of differing bits."""
        inverse = np.linalg.inv(matrix[:, :2])
        shown = (to_scene(plain_matrix, first.uv) - matrix[:, 2]) @ inverse.T
        in_both = ((shown > 12) & (shown < np.array((320, 240)) - 13)).all(axis=1)
        distance = np.linalg.norm(shown[in_both][:, None] - second.uv[None], axis=2)
        nearest, found = distance.argmin(axis=1), distance.min(axis=1) < 1.5
        bits = unpack_descriptors(first.descriptors[in_both][found])
        differing = (bits != unpack_descriptors(second.descriptors[nearest[found]])).sum(axis=1)
        return float(found.mean()), float(np.median(differing))

    aligned, bits = agreement(extractor.extract(rolled, roll=roll))
    plain_share, plain_bits = agreement(extractor.extract(rolled))
    # A little less than what the shipped weights reach.
    assert aligned > (0.6 if detector == "network" else 0.95)
    assert bits <= 20
    # Blobs are found again without it too; what describes them is not the same then.
    assert aligned > plain_share + 0.05 if detector == "network" else aligned >= plain_share
    assert bits < plain_bits


@pytest.mark.parametrize("border", [0, 8, 30])
def test_no_keypoint_lies_outside_of_the_image_or_in_its_border(scene: np.ndarray, border: int) -> None:
    decode = DecodeOptions(max_keypoints=5000, score_threshold=0.0, border=border)
    options = ExtractorOptions(runtime="torch", threads=1, input_width=160, input_height=120)
    image = np.asarray(cv2.resize(scene, (320, 240)), np.uint8)
    with create_extractor(options, decode) as extractor:
        for roll in (3.0, 33.0, -45.0, 90.0, 101.0, 180.0):
            uv = extractor.extract(image, roll=roll).uv
            # Two image pixels to one of the network; refinement moves a keypoint by half of one.
            assert len(uv) > 50
            assert (uv >= -0.5 + 2 * max(border - 1, 0) - 1e-3).all(), roll
            assert (uv <= np.array((319.5, 239.5)) - 2 * max(border - 1, 0) + 1e-3).all(), roll


def test_the_corners_keep_their_keypoints(extractor: Extractor, scene: np.ndarray) -> None:
    image = np.ascontiguousarray(scene[:240, :320])
    for roll in (0.0, 4.0, 15.0, 30.0, 45.0, 100.0, -120.0):
        uv = extractor.extract(image, roll=roll).uv
        for corner in ((0, 0), (319, 0), (0, 239), (319, 239)):
            assert np.abs(uv - corner).max(axis=1).min() < 40, (roll, corner)


@pytest.mark.parametrize("roll", [10.0, -20.0, 100.0])
def test_the_mirrored_surroundings_take_no_keypoint_from_the_image(roll: float) -> None:
    """Blobs near the edges: in the surroundings each has a mirror image, near enough to suppress it."""
    places = np.array([(5, 60), (5, 180), (314, 60), (314, 180), (80, 5), (240, 5), (80, 234), (240, 234)])
    image = np.full((240, 320), 60, np.uint8)
    for u, v in places.tolist():
        image[v - 1 : v + 2, u - 1 : u + 2] = 200
    decode = DecodeOptions(max_keypoints=100, detector="blobs", border=0, nms_radius=12)
    with create_extractor(ExtractorOptions(runtime="torch", threads=1), decode) as extractor:
        uv = extractor.extract(image, roll=roll).uv
    assert np.linalg.norm(uv[None] - places[:, None], axis=2).min(axis=1).max() < 1.5


def test_masks_are_those_of_the_image_as_received(extractor: Extractor, scene: np.ndarray) -> None:
    image = np.ascontiguousarray(scene[:240, :320])
    mask = np.zeros(image.shape, np.uint8)
    mask[60:180, 40:200] = 255
    for roll in (25.0, 90.0, 180.0, -140.0):
        uv = np.floor(extractor.extract(image, mask=mask, roll=roll).uv + 0.5).astype(int)
        assert len(uv) > 20
        assert (mask[uv[:, 1], uv[:, 0]] != 0).all()


def test_a_batch_with_rolls_gives_what_single_images_give(extractor: Extractor, scene: np.ndarray) -> None:
    images = [np.ascontiguousarray(scene[:240, start : start + 320]) for start in (0, 100, 200)]
    rolls = [10.0, 0.0, 12.0]
    together = extractor.extract_batch(images, rolls=rolls)
    for image, roll, features in zip(images, rolls, together):
        alone = extractor.extract(image, roll=roll)
        np.testing.assert_allclose(features.uv, alone.uv, atol=1e-3)
        np.testing.assert_allclose(features.response, alone.response, atol=1e-4)
        # Sums in another order may turn a bit whose value is next to zero.
        differing = unpack_descriptors(features.descriptors) != unpack_descriptors(alone.descriptors)
        assert differing.mean() < 1e-3
        np.testing.assert_array_equal(features.angle, alone.angle)


@pytest.mark.parametrize("roll", [-1e-14, -1e-7, -1e-6, 359.9999999, 720.0 - 1e-6])
def test_an_angle_is_less_than_a_full_turn_as_it_is_kept(roll: float) -> None:
    assert np.float32(InputGeometry.of((640, 480), None, 16, roll).angle) in (np.float32(0.0), np.float32(-1.0))
    np.testing.assert_array_equal(wrapped_degrees([roll, -90.0, 450.0]), np.array([0, 270, 90], np.float32))


@pytest.mark.parametrize("quarter", range(-4, 4))
@pytest.mark.parametrize("direction", [-1000.0, 1000.0])
def test_rolls_at_the_border_between_two_quarter_turns_have_a_place(quarter: int, direction: float) -> None:
    roll = 45.0 + 90.0 * quarter
    canvas = InputGeometry.of((320, 240), None, 16, roll).padded_size
    for _ in range(4):
        roll = math.nextafter(roll, direction)
        geometry = InputGeometry.of((320, 240), None, 16, roll)
        assert sorted(geometry.padded_size) == sorted(canvas)
        centre = np.array([[159.5, 119.5]])
        np.testing.assert_allclose(geometry.to_image(geometry.to_network(centre)), centre, atol=1e-3)


def test_few_sizes_serve_all_rolls() -> None:
    for size in ((640, 480), (752, 480), (512, 512)):
        canvases = {InputGeometry.of(size, None, 16, roll / 2).padded_size for roll in range(720)}
        assert len(canvases) <= 10
        # No more is computed than a box around the image at its worst tilt needs, but for rounding to cells.
        assert max(width * height for width, height in canvases) <= (np.hypot(*size) + 32) ** 2


def test_orb_takes_no_notice_of_the_roll(scene: np.ndarray) -> None:
    with create_extractor(ExtractorOptions(model="orb"), DecodeOptions(max_keypoints=200)) as orb:
        assert_same(orb.extract(scene), orb.extract(scene, roll=40.0))


def test_rolls_that_are_none_are_refused(extractor: Extractor) -> None:
    image = np.zeros((64, 64), np.uint8)
    with pytest.raises(ExtractionError, match="finite number of degrees, got nan"):
        extractor.extract(image, roll=float("nan"))
    with pytest.raises(ExtractionError, match="got 1 for 2 images"):
        extractor.extract_batch([image, image], rolls=[1.0])


@settings(deadline=None)
@given(st.floats(-179, 179), st.floats(20, 160))
def test_roll_is_that_of_gravity_in_the_image(roll: float, from_axis: float) -> None:
    down = np.append(clockwise(roll) @ (0.0, math.sin(math.radians(from_axis))), math.cos(math.radians(from_axis)))
    found = roll_of(9.8 * down)
    assert found is not None
    assert abs(found - roll) < 1e-6


def test_there_is_no_roll_where_the_camera_looks_along_gravity() -> None:
    assert roll_of((0.1, 0.1, 9.8)) is None
    assert roll_of((0.1, 0.1, -9.8)) is None
    assert roll_of((0.0, 1.0, 9.8), smallest_tilt=5.0) == 0.0
    assert roll_of((0.0, 0.0, 0.0)) is None
    assert roll_of((math.nan, 1.0, 0.0)) is None
    assert roll_of((0.0, -9.8, 0.0)) == 180.0
    with pytest.raises(UprightError, match="three components"):
        roll_of((1.0, 2.0))


def run_filter(
    gravity_filter: GravityFilter, *, gyroscope: bool, seconds: float = 4.0, rate: float = 200.0, shake: float = 0.0
) -> list[tuple[int, np.ndarray]]:
    """Feed a motion about the IMU's z axis that swings to 60 degrees and back; returns stamps and true directions."""
    rng = np.random.default_rng(5)
    truth = []
    for count in range(int(seconds * rate)):
        time = count / rate
        stamp = 1_000_000_000 + round(time * 1e9)
        angle, speed = math.radians(60) * math.sin(time), math.radians(60) * math.cos(time)
        down = np.array([math.sin(angle), math.cos(angle), 0.0])
        acceleration = -9.81 * down + shake * math.sin(31 * time) * np.array([1.0, 0.3, 0.5])
        noise = rng.normal(size=(2, 3))
        # The IMU turns by `angle` about its z axis: down moves the other way in its frame, from y towards x.
        velocity = np.array([0.0, 0.0, speed]) + 0.01 * noise[0] if gyroscope else None
        gravity_filter.update(stamp, velocity, acceleration + 0.05 * noise[1])
        truth.append((stamp, down))
    return truth


def degrees_between(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b)))


@pytest.mark.parametrize(("gyroscope", "shake", "limit"), [(True, 0.0, 1.0), (True, 4.0, 4.0), (False, 0.0, 5.0)])
def test_gravity_is_followed_through_a_rotation(gyroscope: bool, shake: float, limit: float) -> None:
    gravity_filter = GravityFilter()
    truth = run_filter(gravity_filter, gyroscope=gyroscope, shake=shake)
    errors = []
    for stamp, down in truth[100::7]:
        found = gravity_filter.gravity_at(stamp)
        assert found is not None
        assert np.linalg.norm(found) == pytest.approx(1.0)
        errors.append(degrees_between(found, down))
    assert max(errors) < limit


def test_a_gyroscope_beats_the_accelerometer_alone_while_the_camera_shakes() -> None:
    def worst(gyroscope: bool) -> float:
        gravity_filter = GravityFilter()
        truth = run_filter(gravity_filter, gyroscope=gyroscope, shake=4.0)
        pairs = [(gravity_filter.gravity_at(stamp), down) for stamp, down in truth[200:]]
        return max(degrees_between(found, down) for found, down in pairs if found is not None)

    assert worst(True) < worst(False) / 3


def test_a_gyroscope_of_few_measurements_a_second_is_followed_while_its_rate_changes() -> None:
    gravity_filter = GravityFilter()
    for stamp, down in run_filter(gravity_filter, gyroscope=True, rate=10.0):
        found = gravity_filter.gravity_at(stamp)
        assert found is not None
        assert degrees_between(found, down) < 0.6


def test_a_reading_that_is_far_from_gravity_hardly_pulls() -> None:
    gravity_filter = GravityFilter()
    down = np.array([0.0, 0.0, -1.0])
    # A second at rest, and one of 8 m/s^2 forward, whose sum with gravity's reaction leans by 39 degrees.
    for count in range(400):
        stamp = 1_000_000_000 + 5_000_000 * count
        gravity_filter.update(stamp, (0.0, 0.0, 0.0), (0.0 if count < 200 else 8.0, 0.0, 9.81))
    found = gravity_filter.gravity_at(stamp)
    assert found is not None
    assert degrees_between(found, down) < 6.0


@pytest.mark.parametrize("rate", [None, (0.0, 0.0, 0.0), (0.1, 0.0, 0.0)])
@pytest.mark.parametrize("stamp", [1_000_000_000, 1_005_000_000, 1_010_000_000, 1_020_000_000])
def test_changing_a_direction_that_was_given_does_not_change_the_next(
    rate: tuple[float, float, float] | None, stamp: int
) -> None:
    gravity_filter = GravityFilter()
    for measured in (1_000_000_000, 1_010_000_000):
        gravity_filter.update(measured, rate, (0.0, 0.0, 9.81))
    first = gravity_filter.gravity_at(stamp)
    assert first is not None
    before = first.copy()
    first *= 0.0
    np.testing.assert_array_equal(gravity_filter.gravity_at(stamp), before)


def test_gravity_is_known_between_and_shortly_after_measurements_only() -> None:
    gravity_filter = GravityFilter(history=2.0, longest_gap=0.5)
    assert gravity_filter.gravity_at(0) is None
    truth = run_filter(gravity_filter, gyroscope=True)
    last, down = truth[-1]
    assert gravity_filter.gravity_at(last - 3_000_000_000) is None
    assert gravity_filter.gravity_at(last + 600_000_000) is None
    middle = gravity_filter.gravity_at((truth[500][0] + truth[501][0]) // 2)
    assert middle is not None
    assert degrees_between(middle, truth[500][1]) < 1.0
    # It goes on turning as it did: 0.1 s later, at cos(4 s) of 60 degrees/s.
    later = gravity_filter.gravity_at(last + 100_000_000)
    assert later is not None
    angle = math.radians(60) * math.sin(last / 1e9 - 1 + 0.1)
    assert degrees_between(later, np.array([math.sin(angle), math.cos(angle), 0.0])) < 1.5
    assert degrees_between(later, down) > 2.0


def test_a_recording_that_starts_again_and_bad_measurements_do_no_harm() -> None:
    gravity_filter = GravityFilter()
    gravity_filter.update(10_000_000_000, None, (0.0, 0.0, 9.8))
    gravity_filter.update(9_999_000_000, None, (9.8, 0.0, 0.0))
    gravity_filter.update(10_001_000_000, None, (math.nan, 0.0, 0.0))
    gravity_filter.update(10_002_000_000, (math.inf, 0.0, 0.0), (9.8, 0.0, 0.0))
    gravity_filter.update(10_003_000_000, None, (0.0, 0.0, 0.0))
    found = gravity_filter.gravity_at(10_000_000_000)
    assert found is not None
    np.testing.assert_allclose(found, (0, 0, -1))
    for stamp in (995_000_000, 1_000_000_000):
        gravity_filter.update(stamp, None, (0.0, 9.8, 0.0))
    assert gravity_filter.gravity_at(10_000_000_000) is None
    found = gravity_filter.gravity_at(1_000_000_000)
    assert found is not None
    np.testing.assert_allclose(found, (0, -1, 0))
    with pytest.raises(UprightError, match="linear_acceleration"):
        gravity_filter.update(1_100_000_000, None, (1.0, 2.0))
    with pytest.raises(UprightError, match="time_constant"):
        GravityFilter(time_constant=0.0)


@pytest.mark.parametrize("odd", [0, 999_000_000_000, 1_005_000_000_000, 2**61])
def test_a_single_measurement_whose_stamp_is_off_changes_nothing(odd: int) -> None:
    def rolls(*, disturbed: bool) -> list[float | None]:
        """Half a second of 5 m/s^2 to the side, which a filter that starts anew in it would take for a tilt."""
        gravity_filter = GravityFilter()
        found = []
        for count in range(800):
            stamp = 1_000_000_000_000 + 5_000_000 * count
            acceleration = (5.0 if 600 <= count < 700 else 0.0, -9.81, 0.0)
            gravity_filter.update(stamp, (0.0, 0.0, 0.0), acceleration)
            if disturbed and count == 650:
                gravity_filter.update(odd, (0.0, 0.0, 0.0), acceleration)
            gravity = gravity_filter.gravity_at(stamp - 20_000_000)
            found.append(None if gravity is None else roll_of(gravity))
        return found

    assert rolls(disturbed=True) == rolls(disturbed=False)


def test_a_clock_that_is_set_ahead_is_followed_from_the_second_measurement_on() -> None:
    gravity_filter = GravityFilter()
    gravity_filter.update(1_000_000_000, None, (0.0, 0.0, 9.8))
    for stamp in (90_000_000_000, 90_005_000_000):
        gravity_filter.update(stamp, None, (0.0, 9.8, 0.0))
    found = gravity_filter.gravity_at(90_005_000_000)
    assert found is not None
    np.testing.assert_allclose(found, (0, -1, 0))
    assert gravity_filter.gravity_at(1_000_000_000) is None


CLIP = Path(__file__).resolve().parents[2] / "shared" / "data" / "tum_fr1_rpy_clip"


@pytest.mark.skipif(not CLIP.is_dir(), reason="needs a recording that is kept outside of the repository")
def test_a_real_accelerometer_gives_the_roll_of_a_real_camera() -> None:
    rows = np.loadtxt(CLIP / "accelerometer.txt")
    truth = np.loadtxt(CLIP / "groundtruth.txt")
    gravity_filter = GravityFilter(history=60.0)
    for stamp, x, y, z in rows:
        # The up direction in the optical frame is (-x, -y, z).
        gravity_filter.update(round(stamp * 1e9), None, (-x, -y, z))
    errors = []
    for row in truth[10:-10:5]:
        gravity = gravity_filter.gravity_at(round((row[0] + 0.01) * 1e9))
        x, y, z, w = row[4:]
        # The third row of the camera-to-world rotation, negated: where the world's -z points in the optical frame.
        true_roll = roll_of(-np.array([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]))
        assert gravity is not None
        roll = roll_of(gravity)
        assert roll is not None
        assert true_roll is not None
        errors.append(abs(math.remainder(roll - true_roll, 360)))
    # The sensor is not quite aligned with the camera: half of the error is constant.
    assert np.median(errors) < 5.0
    assert np.percentile(errors, 90) < 10.0
