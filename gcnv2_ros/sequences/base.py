# SPDX-License-Identifier: Apache-2.0
"""Frame and Sequence: what every source of images gives, whatever it reads or renders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..camera import Camera, CameraError
from ..errors import GCNv2Error
from ..geometry import check_rectified, rectified_pair_geometry


class SequenceError(GCNv2Error):
    """A sequence that cannot be opened or read."""


@dataclass(frozen=True, eq=False)
class Frame:
    """What the cameras saw at one time.

    Attributes
    ----------
    index
        Position in the sequence, from 0.
    stamp_ns
        Time of the (left) image in nanoseconds.
    image
        uint8 (H, W) gray or (H, W, 3) BGR.
    depth
        float32 (H, W), metres along the optical axis, NaN unknown; None: no depth.
    right
        uint8 image of the right camera, gray or BGR as `image`; None: not stereo.
    pose
        float64 (4, 4), the (left) optical frame to the world; None: unknown.
    gray_image, right_gray_image
        uint8 (H, W): the images in gray, where their source has that otherwise than from the colours of `image` and
        `right`, as in a plane of YUV; None: from those.

    Raises
    ------
    SequenceError
        If an array's shape or type is another.
    """

    index: int
    stamp_ns: int
    image: NDArray[np.uint8]
    depth: NDArray[np.float32] | None = None
    right: NDArray[np.uint8] | None = None
    pose: NDArray[np.float64] | None = None
    gray_image: NDArray[np.uint8] | None = None
    right_gray_image: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        for name in ("image", "right"):
            array = getattr(self, name)
            if array is not None and not _is_picture(array):
                raise SequenceError(
                    f"frame {self.index}: {name} must be uint8 gray (H, W) or BGR (H, W, 3), "
                    f"got {array.dtype} {array.shape}"
                )
        for name, of in (("gray_image", self.image), ("right_gray_image", self.right)):
            gray = getattr(self, name)
            if gray is not None and (of is None or gray.dtype != np.uint8 or gray.shape != of.shape[:2]):
                raise SequenceError(
                    f"frame {self.index}: {name} must be uint8 (H, W) as its image, got {gray.dtype} {gray.shape}"
                )
        if self.depth is not None and (self.depth.dtype != np.float32 or self.depth.ndim != 2):
            raise SequenceError(
                f"frame {self.index}: depth must be float32 (H, W), got {self.depth.dtype} {self.depth.shape}"
            )
        if self.pose is not None and (self.pose.dtype != np.float64 or self.pose.shape != (4, 4)):
            raise SequenceError(
                f"frame {self.index}: pose must be float64 (4, 4), got {self.pose.dtype} {self.pose.shape}"
            )

    @property
    def has_truth(self) -> bool:
        """Whether both depth and pose are known, so that the truth of a match can be computed."""
        return self.depth is not None and self.pose is not None

    @property
    def gray(self) -> NDArray[np.uint8]:
        """The image as uint8 (H, W); no copy if it is gray already."""
        return _gray(self.image) if self.gray_image is None else self.gray_image

    @property
    def right_gray(self) -> NDArray[np.uint8] | None:
        """The right image as uint8 (H, W), None if there is none."""
        if self.right is None:
            return None
        return _gray(self.right) if self.right_gray_image is None else self.right_gray_image


class StereoGeometry(NamedTuple):
    """What the depth of a match in a rectified pair follows from.

    Attributes
    ----------
    focal
        Focal length of the rectified images in pixels.
    baseline
        Metres between the two cameras.
    """

    focal: float
    baseline: float


class Sequence(ABC):
    """Frames in the order of time, each readable by its index.

    Attributes
    ----------
    name
        For reports and file names.
    camera
        Of `Frame.image` and `Frame.depth`; None: uncalibrated.
    right_camera
        Of `Frame.right`; None: not stereo, or uncalibrated.
    stereo
        Of `Frame.image` and `Frame.right`; None: no rectified pair. Without it there is no depth by stereo.
    notes
        Sentences on what the sequence lacks, or why something in it is not used.
    """

    name: str
    camera: Camera | None = None
    right_camera: Camera | None = None
    stereo: StereoGeometry | None = None
    notes: SequenceOf[str] = ()

    @property
    def baseline(self) -> float | None:
        """Metres between the two cameras of a rectified pair; None: not stereo, or not rectified."""
        return None if self.stereo is None else self.stereo.baseline

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames."""

    @abstractmethod
    def __getitem__(self, index: int) -> Frame:
        """The frame at `index`; negative ones count from the end.

        Raises
        ------
        IndexError
            Outside of the sequence.
        SequenceError
            If the frame's files cannot be read.
        """

    def __iter__(self) -> Iterator[Frame]:
        for index in range(len(self)):
            yield self[index]

    def _take_pair(self) -> None:
        """Set `stereo` by the two cameras, once they are known; a pair that is none gets a note instead."""
        if self.camera is None or self.right_camera is None:
            return
        try:
            check_rectified(self.camera, "left")
            check_rectified(self.right_camera, "right")
            self.stereo = StereoGeometry(*rectified_pair_geometry(self.camera, self.right_camera))
        except CameraError as error:
            self.notes = [*self.notes, f"no depth by stereo: {error}"]

    def _position(self, index: int) -> int:
        """`index` counted from 0, or IndexError."""
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"{self.name} has {len(self)} frames, there is no frame {index}")
        return position


def _is_picture(array: Any) -> bool:
    return array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) and array.size > 0


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
