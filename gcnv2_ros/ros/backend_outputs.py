# SPDX-License-Identifier: Apache-2.0
"""What the node publishes for particular backends beside ``~/features``: tracks for VINS, RGBDImages for RTAB-Map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, PointCloud

from ..camera import Camera
from ..features import Features
from ..tracking import FeatureTracker, TrackStatistics
from .image_messages import camera_info_message
from .rtabmap_msg import require_rtabmap_msgs, rgbd_image
from .vins_msg import TrackedRays, encode_vins

CreatePublisher = Callable[[Any, str], Any]
"""(message class, topic) to a publisher with `publish` and `get_subscription_count`."""


class BackendOutputs:
    """The tracker of one camera, and the publishers of its messages for backends; for one thread.

    Parameters
    ----------
    create_publisher
        Makes a publisher.
    tracking
        Follow keypoints and fill `track_id`.
    vins
        Publish ``vins_features``, for which keypoints are followed in any case.
    rtabmap
        Publish ``rgbd_image``.
    vins_max_points
        At most so many tracks in ``vins_features``, the longest ones.
    prefix
        Of the topics, e.g. ``~/`` or ``~/left/``.

    Raises
    ------
    MissingDependencyError, LibraryError
        If `rtabmap` is asked for and rtabmap_msgs is not installed, or is and cannot be imported.
    """

    def __init__(
        self,
        create_publisher: CreatePublisher,
        *,
        tracking: bool,
        vins: bool,
        rtabmap: bool,
        vins_max_points: int = 200,
        prefix: str = "~/",
    ) -> None:
        rtabmap_class = require_rtabmap_msgs().RGBDImage if rtabmap else None
        self._tracker = FeatureTracker() if tracking or vins else None
        self._max_points = vins_max_points
        self._previous: TrackedRays | None = None
        self._followed_ns: int | None = None
        self._vins = create_publisher(PointCloud, f"{prefix}vins_features") if vins else None
        self._rtabmap = create_publisher(rtabmap_class, f"{prefix}rgbd_image") if rtabmap else None

    @property
    def publishers(self) -> tuple[Any, ...]:
        """The publishers made, to be destroyed with the node's others."""
        return tuple(publisher for publisher in (self._vins, self._rtabmap) if publisher is not None)

    @property
    def track_statistics(self) -> TrackStatistics | None:
        """Of the latest frame; None without tracking."""
        return None if self._tracker is None else self._tracker.statistics

    def repeats(self, stamp_ns: int) -> bool:
        """Whether the image to be followed next has the stamp of the latest one, so that all tracks end with it."""
        return self._tracker is not None and stamp_ns == self._followed_ns

    def follow(self, features: Features, stamp_ns: int, image: NDArray[np.uint8]) -> Features:
        """The features with `track_id` filled and positions refined; as they are without tracking.

        To be called once for each frame, before depth is looked up, which depends on positions.

        Parameters
        ----------
        features
            As extracted.
        stamp_ns
            Time of the image in nanoseconds.
        image
            uint8 (H, W), what the features were extracted from.
        """
        if self._tracker is None:
            return features
        if not self._tracker.accepts(features):
            # The camera's resolution or the extractor has changed.
            self._tracker.reset()
        self._followed_ns = stamp_ns
        return self._tracker.update(features, stamp_ns, image=image)

    def publish(
        self,
        features: Features,
        rays: NDArray[np.float32] | None,
        messages: Mapping[str, Any],
        *,
        camera: Camera | None,
        right_camera: Camera | None = None,
    ) -> None:
        """Publish to those who subscribe.

        Parameters
        ----------
        features
            As `follow` gave them, with depth where it is known.
        rays
            (N, 3), their viewing rays; None without calibration, and nothing is published then.
        messages
            The frame's messages by role: ``image``, and ``depth`` or ``right`` where there is one.
        camera, right_camera
            Calibrations of the image and of the right image.
        """
        if rays is None or camera is None:
            return
        header = messages["image"].header
        if self._vins is not None and self._tracker is not None:
            # Velocities need the frame before, so it is encoded whether or not somebody listens now.
            message, self._previous = encode_vins(
                features,
                rays,
                header,
                previous=self._previous,
                max_points=self._max_points,
                lengths=self._tracker.lengths,
            )
            self._vins.publish(message)
        if self._rtabmap is not None and self._rtabmap.get_subscription_count():
            second = "right" if "right" in messages else "depth"
            second_camera = right_camera if second == "right" else camera
            self._rtabmap.publish(
                rgbd_image(
                    features,
                    rays,
                    image=messages["image"],
                    camera_info=camera_info_message(camera, header),
                    depth=messages.get(second),
                    depth_camera_info=_info(second_camera, messages.get(second)),
                )
            )


def _info(camera: Camera | None, message: Any) -> CameraInfo | None:
    return None if camera is None or message is None else camera_info_message(camera, message.header)
