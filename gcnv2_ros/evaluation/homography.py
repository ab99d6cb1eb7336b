# SPDX-License-Identifier: Apache-2.0
"""Scores of features on image pairs whose homography is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import GCNv2Error
from ..features import Features
from ..geometry import warp_homography
from ..matching import match
from ..sequences import SequenceError
from ..sequences.reading import read_gray
from .draws import drawn_orders

DRAWS = 20
"""Estimates of each homography."""
THRESHOLDS = (3.0, 5.0)

_FOCAL_LENGTH = 1.2
"""Of the camera that looks at a tilted picture, in widths of its image."""


class EvaluationError(GCNv2Error):
    """An evaluation that cannot be made of what was given."""


@dataclass(frozen=True)
class HomographyPair:
    """Two gray images, uint8 (H, W), and the homography (3, 3) from pixels of the first to pixels of the second.

    `picture` names what both show: the scores of pairs of the same one depend on each other.
    """

    picture: str
    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    homography: NDArray[np.float64]


@dataclass(frozen=True)
class HomographyScores:
    """Scores of one pair.

    Attributes
    ----------
    keypoints
        Fewer of both images' keypoint counts.
    matches
        Number of mutual nearest neighbours whose truth lies inside the second image.
    accuracy
        Share of them within 3 and 5 px of the truth (MMA; 0 where there is no match).
    repeatability
        Share of the keypoints seen by both images that have a keypoint of the other image within 3 px of their true
        position there; mean of both directions.
    corner_errors
        Mean distance in pixels between the image's corners under the estimated and the true homography, of each draw
        (`gcnv2_ros.evaluation.draws`); infinite where none could be estimated.
    """

    keypoints: int
    matches: int
    accuracy: tuple[float, float]
    repeatability: float
    corner_errors: tuple[float, ...]

    def homography_share(self, limit: float) -> float:
        """Share of the draws whose corner error is below `limit` pixels; NaN where nothing was estimated."""
        return float(np.mean(np.array(self.corner_errors) < limit)) if self.corner_errors else float("nan")


def score_pair(
    first: Features, second: Features, homography: NDArray[np.float64], *, draws: int = DRAWS
) -> HomographyScores:
    """Score the features of two images related by `homography`, with mutual nearest neighbours and no ratio test.

    The homography is estimated `draws` times; 0 leaves that out.
    """
    truth = warp_homography(homography, first.uv)
    seen = _inside(truth, second.image_size)
    backward = warp_homography(np.linalg.inv(homography), second.uv)
    seen_back = _inside(backward, first.image_size)
    repeatability = (
        share_near(truth[seen], second.uv, THRESHOLDS[0]) + share_near(backward[seen_back], first.uv, THRESHOLDS[0])
    ) / 2
    matches = match(first, second)
    index_a, index_b = matches.index_a, matches.index_b
    error = np.linalg.norm(truth[index_a] - second.uv[index_b], axis=1)[seen[index_a]]
    accuracy = tuple(float(np.mean(error <= limit)) if len(error) else 0.0 for limit in THRESHOLDS)
    return HomographyScores(
        keypoints=min(len(first), len(second)),
        matches=len(error),
        accuracy=accuracy,  # type: ignore[arg-type]
        repeatability=repeatability,
        corner_errors=tuple(
            _corner_error(first.uv[index_a[order]], second.uv[index_b[order]], homography, first.image_size)
            for order in drawn_orders(len(matches), draws)
        ),
    )


def score_pairs(
    extract: Callable[[NDArray[np.uint8]], Features], pairs: Sequence[HomographyPair], *, draws: int = DRAWS
) -> list[HomographyScores]:
    """Extract both images of each pair and score them; see `score_pair`."""
    return [score_pair(extract(pair.first), extract(pair.second), pair.homography, draws=draws) for pair in pairs]


def _inside(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return np.all((points >= 0) & (points <= np.array(size) - 1), axis=1)


def share_near(points: NDArray[np.float64], others: NDArray[np.floating], limit: float) -> float:
    """Share of `points` (N, 2) that have one of `others` (M, 2) within `limit`; 0 where either is empty."""
    if not len(points) or not len(others):
        return 0.0
    squared = (points[:, None, 0] - others[None, :, 0]) ** 2 + (points[:, None, 1] - others[None, :, 1]) ** 2
    return float(np.mean(squared.min(axis=1) <= limit**2))


def _corner_error(
    source: NDArray[np.float32], target: NDArray[np.float32], truth: NDArray[np.float64], size: tuple[int, int]
) -> float:
    if len(source) < 4:
        return float("inf")
    estimate, _ = cv2.findHomography(source, target, cv2.USAC_MAGSAC, 3.0, maxIters=5000, confidence=0.9999)
    if estimate is None:
        return float("inf")
    width, height = size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    error = np.linalg.norm(warp_homography(estimate, corners) - warp_homography(truth, corners), axis=1).mean()
    return float(error) if np.isfinite(error) else float("inf")


@dataclass(frozen=True)
class SyntheticOptions:
    """Difficulty of synthetic pairs; angles in degrees. The first image is the picture itself, the second its warp.

    Attributes
    ----------
    size
        Width and height of both images.
    scale
        Range of the second image's magnification; log-uniform.
    rotation
        Largest roll.
    perspective
        Largest relative change of magnification from the centre to a corner.
    shift
        Largest offset of the centre, as a share of the size.
    photometric
        Whether brightness, contrast, gamma, blur and noise change too.
    """

    size: tuple[int, int] = (640, 480)
    scale: tuple[float, float] = (0.7, 1.4)
    rotation: float = 30.0
    perspective: float = 0.2
    shift: float = 0.1
    photometric: bool = True


def synthetic_pair(
    picture: NDArray[np.uint8],
    rng: np.random.Generator,
    options: SyntheticOptions,
    *,
    name: str,
    roll: float | None = None,
    tilt: float | None = None,
) -> HomographyPair:
    """Make a pair from one gray picture.

    Parameters
    ----------
    picture
        uint8, any size; its middle is cut to the wanted aspect ratio and resized.
    rng
        Source of randomness.
    options
        How hard the pair is.
    name
        Of the picture; see `HomographyPair`.
    roll
        Fixed roll in degrees in place of a random one; scale, perspective and shift are then left out.
    tilt
        The camera looks at the picture under this angle in degrees to its normal, from a random side, instead of all
        that. Its focal length is 1.2 times the image's width, and the picture's middle is as far away as before.
    """
    width, height = options.size
    factor = max(width / picture.shape[1], height / picture.shape[0])
    crop_width, crop_height = round(width / factor), round(height / factor)
    left, top = (picture.shape[1] - crop_width) // 2, (picture.shape[0] - crop_height) // 2
    crop = np.ascontiguousarray(picture[top : top + crop_height, left : left + crop_width])
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    first = np.asarray(cv2.resize(crop, options.size, interpolation=interpolation), np.uint8)
    if tilt is not None:
        homography = _tilted(options.size, np.deg2rad(tilt), rng.uniform(0, 2 * np.pi))
        second = _reduced_view(first, homography)
    else:
        homography = _random(options, rng) if roll is None else _about_centre(options.size, _rotation(np.deg2rad(roll)))
        second = np.asarray(cv2.warpPerspective(first, homography, options.size, flags=cv2.INTER_AREA), np.uint8)
    return HomographyPair(name, first, _change(second, rng) if options.photometric else second, homography)


def _centre(size: tuple[int, int]) -> NDArray[np.float64]:
    return (np.array(size) - 1) / 2


def _about_centre(size: tuple[int, int], homography: NDArray[np.float64]) -> NDArray[np.float64]:
    """A homography about the origin as one about the image's centre."""
    return _translation(_centre(size)) @ homography @ _translation(-_centre(size))


def _rotation(angle: float, scale: float = 1.0) -> NDArray[np.float64]:
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def _random(options: SyntheticOptions, rng: np.random.Generator) -> NDArray[np.float64]:
    """As far from the identity as `options` allows."""
    scale = float(np.exp(rng.uniform(*np.log(options.scale))))
    angle = np.deg2rad(rng.uniform(-options.rotation, options.rotation))
    direction, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, options.perspective)
    strength /= np.hypot(*_centre(options.size))
    shift = rng.uniform(-options.shift, options.shift, 2) * options.size
    slant = np.array([[1, 0, 0], [0, 1, 0], [strength * np.cos(direction), strength * np.sin(direction), 1]])
    return _translation(shift) @ _about_centre(options.size, slant @ _rotation(angle, scale))


def _tilted(size: tuple[int, int], angle: float, direction: float) -> NDArray[np.float64]:
    """The view of a plane that is turned by `angle` about an axis in it, through its middle, in `direction`; radians.

    Points of the plane are (x, y, 0), in units of the focal length; the camera is one unit from its middle.
    """
    focal, centre = _FOCAL_LENGTH * size[0], _centre(size)
    turn, _ = cv2.Rodrigues(angle * np.array([np.cos(direction), np.sin(direction), 0.0]))
    intrinsics = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    return intrinsics @ np.column_stack([turn[:, 0], turn[:, 1], [0, 0, 1]]) @ np.linalg.inv(intrinsics)


def _reduced_view(image: NDArray[np.uint8], homography: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An image under a homography that may make it smaller: at twice the size first, so that nothing is skipped."""
    height, width = image.shape
    enlarge = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    double = cv2.warpPerspective(image, enlarge @ homography, (2 * width, 2 * height), flags=cv2.INTER_LINEAR)
    return cv2.resize(double, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _translation(offset: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.array([[1, 0, offset[0]], [0, 1, offset[1]], [0, 0, 1.0]])


def _change(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    value = (image.astype(np.float32) / 255) ** np.exp(rng.uniform(-0.3, 0.3))
    mean = value.mean()
    value = (mean + (value - mean) * rng.uniform(0.6, 1.2)) * np.exp(rng.uniform(-0.4, 0.3))
    if rng.random() < 0.3:
        value = cv2.GaussianBlur(value, (0, 0), rng.uniform(0.4, 1.2))
    value = value + rng.uniform(0, 6 / 255) * rng.standard_normal(value.shape, dtype=np.float32)
    return np.clip(value * 255 + 0.5, 0, 255).astype(np.uint8)


def synthetic_pairs(
    pictures: Sequence[Path],
    *,
    count: int,
    seed: int = 0,
    options: SyntheticOptions | None = None,
    roll: float | None = None,
    tilt: float | None = None,
) -> list[HomographyPair]:
    """Make `count` pairs from picture files, taken in order and, where there are fewer, again from the start.

    Raises
    ------
    EvaluationError
        If there is no picture or one cannot be read.
    """
    if not pictures:
        raise EvaluationError("no pictures to make homography pairs from")
    made = []
    for number in range(count):
        path = pictures[number % len(pictures)]
        picture = _read(path)
        rng = np.random.default_rng([seed, number])
        chosen = options or SyntheticOptions()
        made.append(synthetic_pair(picture, rng, chosen, name=str(path), roll=roll, tilt=tilt))
    return made


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return read_gray(path)
    except SequenceError as error:
        raise EvaluationError(str(error)) from error


def load_oxford_sequence(folder: str | Path) -> list[HomographyPair]:
    """Read a sequence of the Oxford affine covariant features set: ``img1`` to ``img6`` and ``H1toKp``.

    All five pairs show one place, and have the first image in common.

    Raises
    ------
    EvaluationError
        If an image or a homography is missing or cannot be read.
    """
    folder = Path(folder)
    images = {}
    for number in range(1, 7):
        found = [path for suffix in (".png", ".ppm", ".pgm") for path in folder.glob(f"img{number}{suffix}")]
        if not found:
            raise EvaluationError(f"{folder}: img{number}.png (or .ppm, .pgm) is missing")
        images[number] = _read(found[0])
    pairs = []
    for number in range(2, 7):
        path = folder / f"H1to{number}p"
        if not path.exists():
            raise EvaluationError(f"{path}: the homography file is missing")
        pairs.append(HomographyPair(str(folder), images[1], images[number], _read_homography(path)))
    return pairs


def _read_homography(path: Path) -> NDArray[np.float64]:
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [[float(word) for word in words] for words in lines if words]
    except (OSError, ValueError) as error:
        expected = "a homography, three lines of three numbers"
        raise EvaluationError(f"{path} cannot be read as {expected}: {error}") from error
    if [len(row) for row in rows] != [3, 3, 3]:
        raise EvaluationError(
            f"{path} has {len(rows)} lines of {', '.join(str(len(row)) for row in rows) or 'no'} numbers; a homography "
            "is three lines of three numbers"
        )
    homography = np.array(rows)
    if not np.isfinite(homography).all() or np.linalg.matrix_rank(homography) < 3:
        raise EvaluationError(
            f"{path}: {homography.tolist()} is no homography; expected finite numbers and a matrix that has an inverse"
        )
    return homography
