# SPDX-License-Identifier: Apache-2.0
"""Camera: size, intrinsics and lens distortion of one camera, with the meaning of sensor_msgs/CameraInfo.

The optical frame has x to the right, y down and z forward. Pixel coordinates have their origin at the centre of the
top-left pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .distortion import COEFFICIENT_COUNTS, DistortionModel, distort, undistort
from .errors import GCNv2Error

_MODEL_NAMES: dict[str, DistortionModel] = {
    "none": "none",
    "plumb_bob": "plumb_bob",
    "radtan": "plumb_bob",
    "radial-tangential": "plumb_bob",
    "rational_polynomial": "rational_polynomial",
    "equidistant": "equidistant",
    "fisheye": "equidistant",
    "kannala_brandt4": "equidistant",
}


class CameraError(GCNv2Error):
    """A calibration that cannot be read, or that is no calibration."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated camera.

    Attributes
    ----------
    width, height
        Size of the image in pixels.
    fx, fy, cx, cy
        Focal lengths and principal point in pixels of that image.
    model
        Lens model: ``none``, ``plumb_bob``, ``rational_polynomial`` or ``equidistant``.
    coefficients
        The model's coefficients in OpenCV's order; a list that is too short is filled with zeros.
    rectification
        float64 (3, 3): rotation from the camera's frame to the rectified frame of a stereo pair; None is the identity.
    projection
        float64 (3, 4): projection from the rectified frame to pixels of the rectified image; None: not rectified.
    frame_id
        Name of the optical frame.

    Raises
    ------
    CameraError
        If a value does not make sense; the sentence names it.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: DistortionModel = "none"
    coefficients: tuple[float, ...] = ()
    rectification: NDArray[np.float64] | None = None
    projection: NDArray[np.float64] | None = None
    frame_id: str = ""

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        for name in ("width", "height"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise CameraError(f"the {name} of a camera's image must be a number of pixels, got {value}")
            put(name, int(value))
        for name in ("fx", "fy", "cx", "cy"):
            put(name, float(getattr(self, name)))
        if self.width <= 0 or self.height <= 0:
            raise CameraError(f"the image size of a camera must be positive, got {self.width}x{self.height}")
        if (
            not all(math.isfinite(value) for value in (self.fx, self.fy, self.cx, self.cy))
            or min(self.fx, self.fy) <= 0
        ):
            raise CameraError(
                "focal lengths must be positive and the principal point finite, "
                f"got fx {self.fx}, fy {self.fy}, cx {self.cx}, cy {self.cy}"
            )
        put("coefficients", _checked_coefficients(self.model, self.coefficients))
        for name, shape in (("rectification", (3, 3)), ("projection", (3, 4))):
            given = getattr(self, name)
            if given is None:
                continue
            matrix = np.array(given, dtype=np.float64)
            if matrix.shape != shape or not np.all(np.isfinite(matrix)):
                raise CameraError(f"the {name} matrix of a camera must be {shape} of finite numbers, got {given!r}")
            matrix.flags.writeable = False
            put(name, matrix)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Camera):
            return NotImplemented
        return self.to_dict() == other.to_dict() and self.frame_id == other.frame_id

    def __hash__(self) -> int:
        return hash((self.width, self.height, self.fx, self.fy, self.cx, self.cy, self.model, self.coefficients))

    @classmethod
    def from_camera_info(cls, message: Any) -> Camera | None:
        """Read a sensor_msgs/CameraInfo, or any object with its attributes (ROS 1's capital D, K, R, P too).

        The camera described is that of the image which is published beside the message: a region of interest
        (in pixels of the full sensor) is cut out first, then binning shrinks it. A binned pixel is centred among
        the pixels that it sums, so the principal point moves by half-pixels as in any other resize.

        Returns
        -------
        Camera or None
            None for a message whose K is all zero, which is how a driver says that it has no calibration.

        Raises
        ------
        CameraError
            If the message contradicts itself or has an unknown distortion model.
        """

        def numbers(name: str) -> list[float]:
            found = getattr(message, name) if hasattr(message, name) else getattr(message, name.upper(), ())
            return [float(number) for number in found]

        k, r, p = numbers("k"), numbers("r"), numbers("p")
        if not any(k):
            return None
        if len(k) != 9:
            raise CameraError(f"camera_info: K must have 9 numbers, got {len(k)}")
        full = cls(
            width=message.width,
            height=message.height,
            fx=k[0],
            fy=k[4],
            cx=k[2],
            cy=k[5],
            model=model_named(message.distortion_model, numbers("d"), "camera_info"),
            coefficients=tuple(numbers("d")),
            rectification=np.reshape(r, (3, 3)) if len(r) == 9 and any(r) else None,
            projection=np.reshape(p, (3, 4)) if len(p) == 12 and any(p) else None,
            frame_id=getattr(getattr(message, "header", None), "frame_id", ""),
        )
        roi = getattr(message, "roi", None)
        binning = max(int(message.binning_x), 1), max(int(message.binning_y), 1)
        offset = (int(roi.x_offset), int(roi.y_offset)) if roi is not None else (0, 0)
        # A region of 0x0 stands for the whole image.
        width = (int(roi.width) if roi is not None else 0) or full.width
        height = (int(roi.height) if roi is not None else 0) or full.height
        if offset[0] + width > full.width or offset[1] + height > full.height:
            raise CameraError(
                f"camera_info: the region of interest {width}x{height} at {offset} leaves the "
                f"{full.width}x{full.height} image; its offsets are in pixels of the full sensor"
            )
        return full._resampled(width // binning[0], height // binning[1], 1 / binning[0], 1 / binning[1], offset)

    @classmethod
    def from_dict(cls, content: Any, *, frame_id: str = "") -> Camera:
        """The camera that `to_dict` or a parsed ROS calibration file describes."""

        def matrix(name: str, count: int | None) -> list[float]:
            try:
                data = [float(number) for number in content[name]["data"]]
            except (TypeError, ValueError) as error:
                raise CameraError(f"'{name}' must hold a list of numbers called 'data'") from error
            if count is not None and len(data) != count:
                raise CameraError(f"'{name}' must have {count} numbers, got {len(data)}")
            return data

        def matrix_unless_zero(name: str, shape: tuple[int, int]) -> NDArray[np.float64] | None:
            data = matrix(name, shape[0] * shape[1]) if name in content else []
            return np.reshape(data, shape) if any(data) else None

        def pixels(name: str) -> int:
            try:
                return int(content[name])
            except (TypeError, ValueError, OverflowError) as error:
                raise CameraError(f"'{name}' must be a number of pixels, got {content[name]!r}") from error

        if not isinstance(content, dict):
            raise CameraError("expected the entries image_width, image_height, camera_matrix, ... of a ROS calibration")
        try:
            k = matrix("camera_matrix", 9)
            d = matrix("distortion_coefficients", None) if "distortion_coefficients" in content else []
            return cls(
                width=pixels("image_width"),
                height=pixels("image_height"),
                fx=k[0],
                fy=k[4],
                cx=k[2],
                cy=k[5],
                model=model_named(str(content.get("distortion_model") or ""), d, "'distortion_model'"),
                coefficients=tuple(d),
                rectification=matrix_unless_zero("rectification_matrix", (3, 3)),
                projection=matrix_unless_zero("projection_matrix", (3, 4)),
                frame_id=frame_id,
            )
        except KeyError as error:
            raise CameraError(f"the entry {error} is missing") from error

    def to_dict(self) -> dict[str, Any]:
        """The calibration as the entries of a ROS calibration file, which `from_dict` reads."""

        def matrix(data: Sequence[float], rows: int) -> dict[str, Any]:
            return {"rows": rows, "cols": len(data) // rows, "data": [float(number) for number in data]}

        fields = self.camera_info_fields()
        return {
            "image_width": self.width,
            "image_height": self.height,
            "camera_name": self.frame_id or "camera",
            "camera_matrix": matrix(fields["k"], 3),
            "distortion_model": fields["distortion_model"],
            "distortion_coefficients": matrix(fields["d"], 1),
            "rectification_matrix": matrix(fields["r"], 3),
            "projection_matrix": matrix(fields["p"], 3),
        }

    def camera_info_fields(self) -> dict[str, Any]:
        """height, width, distortion_model, d, k, r and p of a sensor_msgs/CameraInfo, as ints, str and lists of floats.

        A pinhole is given as ``plumb_bob`` with zeros, because readers of CameraInfo do not agree on another name.
        A camera without a projection gets K with a fourth column of zeros.
        """
        pinhole = self.model == "none"
        projection = self.projection if self.projection is not None else np.column_stack([self.matrix, np.zeros(3)])
        rectification = self.rectification if self.rectification is not None else np.eye(3)
        return {
            "height": self.height,
            "width": self.width,
            "distortion_model": "plumb_bob" if pinhole else self.model,
            "d": [0.0] * 5 if pinhole else list(self.coefficients),
            "k": self.matrix.ravel().tolist(),
            "r": rectification.ravel().tolist(),
            "p": projection.ravel().tolist(),
        }

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The camera matrix K, float64 (3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def baseline(self) -> float | None:
        """Metres between this right camera and its left one, from the projection; None for a left or single camera."""
        if self.projection is None or not self.projection[0, 3]:
            return None
        return float(-self.projection[0, 3] / self.projection[0, 0])

    def undistort(self, uv: ArrayLike) -> NDArray[np.float64]:
        """Pixels to ideal normalised coordinates (X/Z, Y/Z): (N, 2) to float64 (N, 2), NaN where `rays` is NaN."""
        pixels = np.array(uv, dtype=np.float64).reshape(-1, 2)
        pixels[np.isnan(pixels).any(axis=1)] = np.nan
        return undistort(self.model, self.coefficients, (pixels - [self.cx, self.cy]) / [self.fx, self.fy])

    def rays(self, uv: ArrayLike) -> NDArray[np.float32]:
        """Viewing rays of pixels, lens distortion taken out.

        Parameters
        ----------
        uv
            (N, 2) pixels of the image as received.

        Returns
        -------
        numpy.ndarray
            float32 (N, 3) in the optical frame, z = 1. NaN where the lens model has no inverse, and for a fisheye
            at 90 degrees from the optical axis and beyond, where no ray has z = 1.
        """
        ideal = self.undistort(uv)
        z = np.where(np.isnan(ideal[:, :1]), np.nan, 1.0)
        return np.concatenate([ideal, z], axis=1).astype(np.float32)

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points in the optical frame to pixels, distortion applied.

        Parameters
        ----------
        points
            (N, 3), any unit.

        Returns
        -------
        numpy.ndarray
            float64 (N, 2), also outside of the image. NaN for points not in front of the camera, and for those so
            far to the side that the lens model folds them back.
        """
        xyz = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        z = np.where((xyz[:, 2] > 0) & ~np.isnan(xyz).any(axis=1), xyz[:, 2], np.nan)
        distorted = distort(self.model, self.coefficients, xyz[:, :2] / z[:, None])
        return distorted * [self.fx, self.fy] + [self.cx, self.cy]

    @cached_property
    def pixel_grid(self) -> NDArray[np.float64]:
        """Ideal normalised coordinates of all pixel centres, float64 (height, width, 2), computed once; read-only."""
        rows, columns = np.mgrid[0 : self.height, 0 : self.width]
        grid = self.undistort(np.stack([columns, rows], axis=-1)).reshape(self.height, self.width, 2)
        grid.flags.writeable = False
        return grid

    def scaled(self, width: int, height: int) -> Camera:
        """The camera of the image resized to `width` x `height`, pixel centres kept where they belong.

        A pixel u of the resized image shows what is at ``(u + 0.5) * self.width / width - 0.5`` in this one.
        """
        return self._resampled(width, height, width / self.width, height / self.height, (0, 0))

    def rectified(self) -> Camera:
        """The pinhole camera of the rectified image, in the rectified frame.

        The image topic of a rectified image (``image_rect``) comes with the same CameraInfo as the raw one; this is
        the camera that belongs to it.

        Raises
        ------
        CameraError
            If the calibration holds no projection.
        """
        if self.projection is None:
            raise CameraError("this calibration has no projection matrix, so there is no rectified image to speak of")
        p = self.projection
        return Camera(self.width, self.height, p[0, 0], p[1, 1], p[0, 2], p[1, 2], projection=p, frame_id=self.frame_id)

    def rectification_maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Maps for `cv2.remap` from the raw to the rectified image: columns and rows, float32 (height, width) each.

        Outside of what the lens model covers the maps are -1, which remap fills with its border value.
        """
        target = self.rectified().pixel_grid.reshape(-1, 2)
        rays = np.concatenate([target, np.ones((len(target), 1))], axis=1)
        if self.rectification is not None:
            rays = rays @ self.rectification
        source = self.project(rays).reshape(self.height, self.width, 2)
        maps = np.where(np.isnan(source), -1.0, source).astype(np.float32)
        return np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])

    def _resampled(self, width: int, height: int, scale_x: float, scale_y: float, offset: tuple[int, int]) -> Camera:
        """Cut `offset` columns and rows away, then scale; the lens model works on normalised coordinates and stays."""
        if (width, height, *offset) == (self.width, self.height, 0, 0):
            return self
        pixels = np.array(
            [
                [scale_x, 0.0, (0.5 - offset[0]) * scale_x - 0.5],
                [0.0, scale_y, (0.5 - offset[1]) * scale_y - 0.5],
                [0.0, 0.0, 1.0],
            ]
        )
        matrix = pixels @ self.matrix
        return replace(
            self,
            width=width,
            height=height,
            fx=matrix[0, 0],
            fy=matrix[1, 1],
            cx=matrix[0, 2],
            cy=matrix[1, 2],
            projection=None if self.projection is None else pixels @ self.projection,
        )


def model_named(name: str, coefficients: Sequence[float], where: str) -> DistortionModel:
    """Our name of a distortion model. Drivers leave the name out, and publish OpenCV's longer model as plumb_bob."""
    if name and name not in _MODEL_NAMES:
        raise CameraError(f"{where}: the distortion model {name!r} is unknown; known are {', '.join(_MODEL_NAMES)}")
    model = _MODEL_NAMES.get(name, "plumb_bob")
    if model == "plumb_bob" and any(coefficients[5:]):
        model = "rational_polynomial"
    return "none" if model in ("plumb_bob", "rational_polynomial") and not any(coefficients) else model


def _checked_coefficients(model: str, coefficients: Sequence[float]) -> tuple[float, ...]:
    """The coefficients filled up or stripped of trailing zeros to a number that the model takes."""
    if model not in COEFFICIENT_COUNTS:
        raise CameraError(f"the distortion model {model!r} is unknown; known are {', '.join(COEFFICIENT_COUNTS)}")
    values = [float(value) for value in coefficients]
    if not all(math.isfinite(value) for value in values):
        raise CameraError(f"distortion coefficients must be finite, got {values}")
    while values and values[-1] == 0.0:
        values.pop()
    for count in COEFFICIENT_COUNTS[model]:
        if len(values) <= count:
            return (*values, *(0.0,) * (count - len(values)))
    raise CameraError(
        f"the distortion model {model!r} takes {' or '.join(map(str, COEFFICIENT_COUNTS[model]))} coefficients, "
        f"got {len(values)}"
    )
