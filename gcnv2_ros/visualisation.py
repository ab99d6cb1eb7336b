# SPDX-License-Identifier: Apache-2.0
"""Frames and features in Rerun: images, keypoints, matches, depth, points, the camera's path; to a file or a viewer.

Entities: ``world/camera`` with the pose, ``world/camera/view`` with the intrinsics and in it ``image``, ``keypoints``,
``matches`` and ``depth``, ``world/camera/points``, ``world/trajectory/...``, ``right/image`` and the plots
``count/...``. Times are those of the frames, on the timeline ``time``.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .depth import points_in_space
from .errors import GCNv2Error
from .features import Features
from .files import atomic_path
from .libraries import import_library
from .matching import match

_APPLICATION = "gcnv2_ros"
_JPEG_QUALITY = 85
_RATIO = 0.9
_STRIP_LENGTH = 100
_TIMELINE, _FRAME_TIMELINE = "time", "frame"


class VisualisationError(GCNv2Error):
    """A viewer or a recording that cannot be opened."""


class RerunView:
    """A recording that grows frame by frame; a context manager that finishes it.

    Parameters
    ----------
    path
        Rerun file (``.rrd``) to write, complete once the view is closed; None: a viewer is started and shown the data.

    Raises
    ------
    MissingDependencyError, LibraryError
        If rerun-sdk is not installed, or is and cannot be imported.
    VisualisationError
        If the viewer does not start.
    """

    def __init__(self, path: Path | None = None) -> None:
        rerun = self._rerun = import_library("rerun", "this view", "pip install rerun-sdk")
        self._path = path
        self._recording: Any = rerun.RecordingStream(_APPLICATION)
        self._atomic: Any = None
        if path is not None:
            self._atomic = atomic_path(path)
            self._recording.save(str(self._atomic.__enter__()))
        else:
            try:
                self._recording.spawn()
            except Exception as error:  # the library raises plain RuntimeErrors, of a missing display too
                raise VisualisationError(f"Rerun's viewer does not start ({error}); write a file instead") from error
        self._previous: Features | None = None
        self._strip: list[NDArray[np.float64]] = []
        self._strips = 0

    def __enter__(self) -> RerunView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._recording.disconnect()
        if self._atomic is not None:
            self._atomic.__exit__(kind, error, traceback)

    def set_time(self, stamp_ns: int, index: int | None = None) -> None:
        """What is shown from now on belongs to this time in nanoseconds, and to the frame of this index."""
        self._recording.set_time(_TIMELINE, timestamp=np.datetime64(stamp_ns, "ns"))
        if index is not None:
            self._recording.set_time(_FRAME_TIMELINE, sequence=index)

    def show_camera(self, camera: Camera) -> None:
        """The intrinsics, for all times. Rerun has no lens distortion; points in space are free of it anyway."""
        pinhole = self._rerun.Pinhole(
            image_from_camera=camera.matrix,
            resolution=(camera.width, camera.height),
            camera_xyz=self._rerun.ViewCoordinates.RDF,
        )
        self._log("world/camera/view", pinhole, static=True)

    def show_image(self, image: NDArray[np.uint8], *, right: bool = False) -> None:
        """An image, uint8 gray (H, W) or BGR (H, W, 3); kept as JPEG."""
        encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))[1]
        contents = self._rerun.EncodedImage(contents=encoded.tobytes(), media_type="image/jpeg")
        self._log("right/image" if right else "world/camera/view/image", contents)

    def show_depth(self, depth: NDArray[np.float32]) -> None:
        """A depth image, float32 (H, W) metres, NaN unknown."""
        millimetres = np.clip(np.nan_to_num(depth, nan=0.0) * 1000.0, 0, 65535).astype(np.uint16)
        self._log("world/camera/view/depth", self._rerun.DepthImage(millimetres, meter=1000.0))

    def show_pose(self, pose: NDArray[np.float64]) -> None:
        """The camera's pose (4, 4), optical frame to world; the trajectory grows by it."""
        self._log("world/camera", self._rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        # A strip is written anew for each pose it grows by, so a long path is made of several.
        if len(self._strip) == _STRIP_LENGTH:
            self._strip, self._strips = [self._strip[-1]], self._strips + 1
        self._strip.append(pose[:3, 3].copy())
        self._log(f"world/trajectory/{self._strips}", self._rerun.LineStrips3D([np.array(self._strip)]))

    def show_features(self, features: Features, rays: NDArray[np.floating] | None = None) -> int:
        """Keypoints, lines to where they were in the frame shown before, and those with depth as points in space.

        Parameters
        ----------
        features
            Of the frame.
        rays
            (N, 3) viewing rays with z = 1; None: no points in space.

        Returns
        -------
        int
            Number of matches with the frame before: mutual nearest neighbours that pass a ratio test of 0.9. 0
            where its descriptors are of another kind.
        """
        rerun = self._rerun
        colours = _by_rank(len(features))
        self._log("world/camera/view/keypoints", rerun.Points2D(features.uv, radii=2.0, colors=colours))
        strips: NDArray[np.float32] = np.zeros((0, 2, 2), np.float32)
        if self._previous is not None and self._previous.kind == features.kind:
            matches = match(self._previous, features, ratio=_RATIO)
            strips = np.stack((self._previous.uv[matches.index_a], features.uv[matches.index_b]), axis=1)
        self._log("world/camera/view/matches", rerun.LineStrips2D(strips, radii=0.5, colors=(80, 220, 80)))
        self._previous = features
        self._log("count/keypoints", rerun.Scalars(len(features)))
        self._log("count/matches", rerun.Scalars(len(strips)))
        if rays is not None:
            points = points_in_space(features, rays)
            known = np.isfinite(points[:, 2])
            self._log("world/camera/points", rerun.Points3D(points[known], radii=0.01, colors=colours[known]))
        return len(strips)

    def _log(self, entity: str, what: Any, *, static: bool = False) -> None:
        self._recording.log(entity, what, static=static)


def _by_rank(count: int) -> NDArray[np.uint8]:
    """RGB colours (N, 3) from red for the strongest to blue for the weakest."""
    rank = np.linspace(255, 0, max(count, 1)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(rank[:, None], cv2.COLORMAP_JET)[:count, 0, ::-1], np.uint8)
