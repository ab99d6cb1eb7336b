# SPDX-License-Identifier: Apache-2.0
"""COLMAP databases: keypoints of this package's frontends and their geometrically verified matches, ready for mapping.

Schönberger, Frahm, "Structure-from-Motion Revisited", CVPR 2016. COLMAP puts the origin of pixel coordinates at the
corner of the top-left pixel: positions and principal points are half a pixel larger there than everywhere else in this
package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .errors import GCNv2Error
from .features import Features
from .files import atomic_path
from .libraries import import_library
from .matching import match

Pairing = Literal["exhaustive", "sequential"]
PAIRINGS: tuple[Pairing, ...] = get_args(Pairing)

_PIXEL_CENTRE = 0.5
_SEED = 0
# Names and numbers of coefficients are those of COLMAP's camera models.
_FULL_OPENCV_COEFFICIENTS = 8
_OPENCV_COEFFICIENTS = 4


class ColmapError(GCNv2Error):
    """Input that no COLMAP database can be made of, or a reconstruction that came to nothing."""


@dataclass(frozen=True)
class DatabaseSummary:
    """What a database holds.

    Attributes
    ----------
    images, keypoints
        Their numbers.
    matched_pairs, matches
        Pairs of images that were matched with at least one match, and their matches.
    verified_pairs, inliers
        Pairs with enough matches that one two-view geometry explains, and those matches.
    """

    images: int
    keypoints: int
    matched_pairs: int
    matches: int
    verified_pairs: int
    inliers: int


def colmap_camera(camera: Camera) -> tuple[str, tuple[float, ...]]:
    """The COLMAP camera model that means the same as `camera`, and its parameters.

    Returns
    -------
    model : str
        ``PINHOLE``, ``OPENCV`` (four coefficients), ``FULL_OPENCV`` (eight) or ``OPENCV_FISHEYE``.
    parameters : tuple of float
        Focal lengths, principal point in COLMAP's pixel coordinates, coefficients.

    Raises
    ------
    ColmapError
        If the lens has thin-prism or tilt coefficients that are not zero, which COLMAP's models do not have.
    """
    focal_and_centre = (camera.fx, camera.fy, camera.cx + _PIXEL_CENTRE, camera.cy + _PIXEL_CENTRE)
    coefficients = camera.coefficients
    if camera.model == "equidistant":
        return "OPENCV_FISHEYE", focal_and_centre + coefficients
    if not any(coefficients):
        return "PINHOLE", focal_and_centre
    if not any(coefficients[_OPENCV_COEFFICIENTS:]):
        return "OPENCV", focal_and_centre + coefficients[:_OPENCV_COEFFICIENTS]
    if any(coefficients[_FULL_OPENCV_COEFFICIENTS:]):
        raise ColmapError(
            "the calibration has thin-prism or tilt coefficients (beyond k6), which no camera model of COLMAP has; "
            "undistort the images first"
        )
    padding = (0.0,) * (_FULL_OPENCV_COEFFICIENTS - len(coefficients))
    return "FULL_OPENCV", focal_and_centre + (coefficients + padding)[:_FULL_OPENCV_COEFFICIENTS]


def image_pairs(count: int, pairing: Pairing = "exhaustive", *, overlap: int = 10) -> Iterator[tuple[int, int]]:
    """Which images to match with which.

    Parameters
    ----------
    count
        Number of images.
    pairing
        ``exhaustive``: all with all. ``sequential``: each with those that follow it, for the frames of a video.
    overlap
        With ``sequential``: the next so many, and then those 2, 4, 8 ... times as far, up to ``2 ** overlap`` frames,
        so that a place seen again soon after is found too.

    Returns
    -------
    iterator of tuple of int
        Positions of two images, the smaller first; each pair once.

    Raises
    ------
    ColmapError
        If the pairing is unknown or `overlap` is not positive.
    """
    if pairing not in PAIRINGS:
        raise ColmapError(f"the pairing must be one of {', '.join(PAIRINGS)}, got {pairing!r}")
    if overlap < 1:
        raise ColmapError(f"the overlap of a sequential pairing must be at least 1, got {overlap}")
    if pairing == "exhaustive":
        steps = list(range(1, count))
    else:
        steps = sorted({*range(1, overlap + 1), *(2**power for power in range(overlap + 1) if 2**power < count)})
    return ((first, first + step) for first in range(count) for step in steps if first + step < count)


def write_database(
    path: str | Path,
    images: str | Path,
    names: Sequence[str],
    features: Sequence[Features],
    pairs: Iterable[tuple[int, int]],
    *,
    camera: Camera | None = None,
    ratio: float | None = 0.8,
) -> DatabaseSummary:
    """Write keypoints, matches and verified two-view geometries of pictures to a COLMAP database.

    Parameters
    ----------
    path
        The database; an existing one is replaced once the new one is complete.
    images
        Folder of the pictures.
    names
        Their paths within the folder.
    features
        Of each picture, in pixels of the file.
    pairs
        Positions of the pictures to match, see `image_pairs`.
    camera
        Took all the pictures. None: not calibrated; COLMAP then guesses a SIMPLE_RADIAL camera and refines it, one for
        all pictures if they have one size, else one for each.
    ratio
        Of the ratio test, see `gcnv2_ros.matching.match`. Matches are mutual nearest neighbours in any case.

    Raises
    ------
    ColmapError
        If the pictures and features do not go together, or COLMAP cannot read a picture.
    MissingDependencyError
        Without pycolmap.
    """
    pycolmap = load_pycolmap()
    images = Path(images)
    if len(names) != len(features):
        raise ColmapError(f"{len(names)} pictures do not go with the features of {len(features)}")
    if len(names) < 2:
        raise ColmapError(f"{images}: a reconstruction needs at least two pictures, got {len(names)}")
    if len(set(names)) != len(names):
        raise ColmapError(f"{images}: a picture is named twice")
    for name, found in zip(names, features):
        check_size(name, found.image_size, camera)
    with atomic_path(path) as temporary:
        _import_images(pycolmap, temporary, images, names, features, camera)
        with pycolmap.Database.open(temporary) as database:
            numbers = _image_numbers(database, names, images)
            for number, found in zip(numbers, features):
                database.write_keypoints(number, np.asarray(found.uv + np.float32(_PIXEL_CENTRE), np.float32))
            for a, b in pairs:
                matches = match(features[a], features[b], ratio=ratio)
                if len(matches):
                    columns = np.stack([matches.index_a, matches.index_b], axis=1).astype(np.uint32)
                    database.write_matches(numbers[a], numbers[b], columns)
        _verify(pycolmap, temporary)
        with pycolmap.Database.open(temporary) as database:
            return DatabaseSummary(
                images=len(names),
                keypoints=database.num_keypoints(),
                matched_pairs=database.num_matched_image_pairs(),
                matches=database.num_matches(),
                verified_pairs=database.num_verified_image_pairs(),
                inliers=database.num_inlier_matches(),
            )


def reconstruct(database: str | Path, images: str | Path, out: str | Path, *, calibrated: bool) -> Any:
    """Incremental mapping with pycolmap.

    Parameters
    ----------
    database, images
        As written by `write_database`.
    out
        Folder for the models: ``0``, ``1``, ... each a folder in COLMAP's binary format.
    calibrated
        Leave the camera's parameters as they are; otherwise they are refined with the poses.

    Returns
    -------
    pycolmap.Reconstruction
        The model with the most registered images.

    Raises
    ------
    ColmapError
        If no two pictures start a model.
    MissingDependencyError
        Without pycolmap.
    """
    pycolmap = load_pycolmap()
    Path(out).mkdir(parents=True, exist_ok=True)
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = _SEED
    options.ba_refine_focal_length = options.ba_refine_extra_params = not calibrated
    options.min_model_size = 3
    models = pycolmap.incremental_mapping(database, images, out, options)
    if not models:
        raise ColmapError(
            f"no model could be started from {database}: no two pictures have enough matches seen from places far "
            "enough apart"
        )
    return max(models.values(), key=lambda model: model.num_reg_images())


def camera_poses(model: Any) -> dict[str, NDArray[np.float64]]:
    """Poses of a reconstruction's registered images: name to camera-to-world pose, float64 (4, 4), of unknown scale."""
    poses = {}
    for image in model.images.values():
        if image.has_pose:
            pose = np.eye(4)
            pose[:3] = image.cam_from_world().inverse().matrix()
            poses[str(image.name)] = pose
    return poses


def check_size(name: str, size: tuple[int, int], camera: Camera | None) -> None:
    """Refuse a picture of another size (width, height) than the calibration's; None takes any.

    Raises
    ------
    ColmapError
        With both sizes.
    """
    if camera is not None and size != (camera.width, camera.height):
        raise ColmapError(
            f"the picture {name} is {size[0]}x{size[1]} pixels and the calibration is for "
            f"{camera.width}x{camera.height}"
        )


def load_pycolmap() -> Any:
    """The module pycolmap, with its log kept quiet.

    Raises
    ------
    MissingDependencyError, LibraryError
        If it is not installed, or is and cannot be imported.
    """
    pycolmap = import_library("pycolmap", "a COLMAP database", "pip install pycolmap")
    # Progress goes to the log at every image; what is wrong becomes an error of this module.
    pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value
    return pycolmap


def _import_images(
    pycolmap: Any,
    database: Path,
    images: Path,
    names: Sequence[str],
    features: Sequence[Features],
    camera: Camera | None,
) -> None:
    """Put pictures, camera, rig and frames into an empty database."""
    reader = pycolmap.ImageReaderOptions()
    if camera is not None:
        reader.camera_model, parameters = colmap_camera(camera)
        reader.camera_params = ",".join(map(repr, parameters))
    one_size = len({found.image_size for found in features}) == 1
    mode = pycolmap.CameraMode.SINGLE if one_size else pycolmap.CameraMode.PER_IMAGE
    pycolmap.import_images(database, images, mode, list(names), reader)


def _image_numbers(database: Any, names: Sequence[str], images: Path) -> list[int]:
    numbers = []
    for name in names:
        image = database.read_image_with_name(name)
        if image is None:
            raise ColmapError(f"COLMAP cannot read the picture {images / name}")
        numbers.append(int(image.image_id))
    return numbers


def _verify(pycolmap: Any, database: Path) -> None:
    """Two-view geometries of all matched pairs.

    COLMAP's other way to say which pairs is a file of names, two a line, which a name with a space does not go into.
    """
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = _SEED
    pycolmap.geometric_verification(database, two_view_geometry_options=options)
