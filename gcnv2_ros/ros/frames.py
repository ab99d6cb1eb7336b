# SPDX-License-Identifier: Apache-2.0
"""The messages of a frame made into the arrays that the extractor, stereo and depth work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage

from ..camera import CameraError
from ..depth import DepthError, sample_depth
from ..errors import GCNv2Error
from ..features import Features
from ..masks import keep_mask, load_mask
from ..messages.depth import depth_from_compressed, depth_from_image
from ..messages.images import (
    compressed_to_bgr,
    compressed_to_gray,
    compressed_to_labels,
    image_to_bgr,
    image_to_gray,
    image_to_labels,
)
from ..messages.pixels import PICTURE_ENCODINGS
from ..messages.stretch import Stretch
from ..stereo import StereoError, match_stereo
from .calibration import View, stereo_geometry
from .camera_state import CameraState, Frame, for_camera
from .parameters import FrontendOptions


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """A frame's arrays, rectified if that is asked for.

    Attributes
    ----------
    frame
        The messages.
    views
        The calibrations that hold for it, the camera's own first, and in the mode stereo that of the right one.
    grays
        uint8 (H, W): the image, and in the mode stereo the right one.
    masks
        uint8 (H, W) or None for each of them; nonzero: keep.
    depth
        float32, metres, or None.
    """

    frame: Frame
    views: tuple[View, ...]
    grays: tuple[NDArray[np.uint8], ...]
    masks: tuple[NDArray[np.uint8] | None, ...]
    depth: NDArray[np.float32] | None


class FrameDecoder:
    """Decodes the frames of one camera, and completes their features by stereo or depth; in the worker's thread.

    Parameters
    ----------
    camera
        The camera.
    options
        The node's parameters.

    Raises
    ------
    MaskError
        If a mask file cannot be read.
    """

    def __init__(self, camera: CameraState, options: FrontendOptions) -> None:
        self._camera = camera
        sides = ("image", "right")
        self._stretches = {role: Stretch() if options.stretch == "adaptive" else None for role in sides}
        files = dict(zip(sides, (options.mask_file, options.right_mask_file)))
        self._static_masks = {
            role: load_mask(for_camera(file, camera.topics.name)) if file else None for role, file in files.items()
        }

    def decode(self, frame: Frame, options: FrontendOptions) -> DecodedFrame:
        """Make arrays of the messages.

        A depth image or mask that cannot be read is reported and left out; an image that cannot be read is an error.

        Raises
        ------
        ImageError
            If an image cannot be read.
        CameraError
            If images are to be rectified and there is no calibration that fits.
        """
        calibrations = {"image": self._camera.calibration, "right": self._camera.right_calibration}
        views = {role: calibration.view for role, calibration in calibrations.items() if role in frame.messages}
        grays, masks = zip(*(self._picture(role, frame, view, options) for role, view in views.items()))
        depth = self._depth(frame, views["image"], options)
        return DecodedFrame(frame, tuple(views.values()), grays, masks, depth)

    def complete(
        self, decoded: DecodedFrame, features: Features, right: Features | None, options: FrontendOptions
    ) -> Features:
        """The features with `depth` and `right_u` filled where the mode gives them; otherwise as they are."""
        try:
            if right is not None:
                left_view, right_view = decoded.views
                focal, baseline = stereo_geometry(left_view, right_view, features.image_size)
                return match_stereo(
                    features,
                    right,
                    focal=focal,
                    baseline=baseline,
                    left_image=decoded.grays[0],
                    right_image=decoded.grays[1],
                    options=options.stereo,
                )
            if decoded.depth is not None:
                return features.with_arrays(depth=sample_depth(decoded.depth, features.uv, features.image_size))
        except (CameraError, StereoError, DepthError) as error:
            self._camera.reporter.degraded("depth is left out", error)
        return features

    def appearance(self, decoded: DecodedFrame, options: FrontendOptions) -> NDArray[np.uint8]:
        """The image in colour (H, W, 3) BGR, or gray (H, W) where it has no colour."""
        message = decoded.frame.messages["image"]
        if not _is_coloured(message):
            return decoded.grays[0]
        decode: Any = compressed_to_bgr if isinstance(message, CompressedImage) else image_to_bgr
        image = decode(message, self._stretches["image"])
        return decoded.views[0].rectifier().image(image) if options.rectify else image

    def _picture(
        self, role: str, frame: Frame, view: View, options: FrontendOptions
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        message = frame.messages[role]
        decode: Any = compressed_to_gray if isinstance(message, CompressedImage) else image_to_gray
        gray = decode(message, self._stretches[role])
        dynamic = self._dynamic_mask(frame) if role == "image" else None
        size = (gray.shape[1], gray.shape[0])
        mask = keep_mask(size, static=self._static_masks[role], dynamic=dynamic, options=options.masks)
        if not options.rectify:
            return gray, mask
        rectifier = view.rectifier()
        return rectifier.image(gray), rectifier.mask(mask)

    def _depth(self, frame: Frame, view: View, options: FrontendOptions) -> NDArray[np.float32] | None:
        if "depth" not in frame.messages:
            return None
        try:
            depth = depth_of(frame.messages["depth"])
            return view.rectifier().depth(depth) if options.rectify else depth
        except GCNv2Error as error:
            self._camera.reporter.degraded("a frame has no depth", error)
            return None

    def _dynamic_mask(self, frame: Frame) -> NDArray | None:
        message = frame.messages.get("mask")
        if message is None:
            return None
        try:
            return compressed_to_labels(message) if isinstance(message, CompressedImage) else image_to_labels(message)
        except GCNv2Error as error:
            self._camera.reporter.degraded("a frame is not masked", error)
            return None


def depth_of(message: Any) -> NDArray[np.float32]:
    """A raw or compressed depth message in metres, float32 (H, W), NaN unknown."""
    return depth_from_compressed(message) if isinstance(message, CompressedImage) else depth_from_image(message)


def _is_coloured(message: Any) -> bool:
    if isinstance(message, CompressedImage):
        return not message.format.lower().startswith("mono")
    return PICTURE_ENCODINGS[message.encoding].color is not None
