# SPDX-License-Identifier: Apache-2.0
"""Which topics a camera has in each mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from .parameters import FrontendOptions

_WORDS = {"image": "image", "right": "right image", "depth": "depth image", "mask": "mask"}
_SUFFIXES = {"image": "/compressed", "right": "/compressed", "mask": "/compressed", "depth": "/compressedDepth"}


@dataclass(frozen=True)
class ImageTopic:
    """One of the image topics that make a frame.

    Attributes
    ----------
    role
        ``image``, ``right``, ``depth`` or ``mask``.
    base
        The relative name to be remapped.
    suffix
        What the transport appends to the remapped name, as image_transport has it.
    message_type
        sensor_msgs/Image or sensor_msgs/CompressedImage.
    synchronized
        Whether a frame waits for it; otherwise the latest message serves.
    """

    role: str
    base: str
    suffix: str
    message_type: Any
    synchronized: bool = True

    def name(self, node: Node) -> str:
        """The name to subscribe to: remapped where a suffix follows, otherwise still to be remapped.

        rclpy remaps what it is given. A name that is remapped already would be remapped twice, and of two that are
        exchanged each would come back to itself.
        """
        return node.resolve_topic_name(self.base) + self.suffix if self.suffix else self.base

    @property
    def words(self) -> str:
        """What a message is, in words."""
        return _WORDS[self.role]

    @property
    def type_name(self) -> str:
        """The ROS name of the type."""
        return f"sensor_msgs/msg/{self.message_type.__name__}"


@dataclass(frozen=True)
class CameraTopics:
    """The relative topics of one camera.

    Attributes
    ----------
    name
        Name of the camera in the mode multi; empty in the others.
    images
        The image topics, that of the camera itself first.
    camera_info, right_camera_info
        Calibration topics; None where there is no such camera, or a file gives the calibration.
    features, right_features, points, debug_image
        What is published; None where the mode does not make it.
    """

    name: str
    images: tuple[ImageTopic, ...]
    camera_info: str | None
    right_camera_info: str | None
    features: str
    right_features: str | None
    points: str | None
    debug_image: str


def camera_names(options: FrontendOptions) -> tuple[str, ...]:
    """The cameras of the node: those of the mode multi by name, the only one of the others as an empty name."""
    return options.cameras if options.mode == "multi" else ("",)


def camera_topics(options: FrontendOptions, name: str) -> CameraTopics:
    """The topics of a camera; see `camera_names`."""
    before = f"{name}/" if name else ""
    stereo, depth = options.mode == "stereo", options.mode in ("stereo", "rgbd")

    def image(role: str, base: str, transport: str, synchronized: bool = True) -> ImageTopic:
        compressed = transport == "compressed"
        suffix = _SUFFIXES[role] if compressed else ""
        return ImageTopic(role, before + base, suffix, CompressedImage if compressed else Image, synchronized)

    images = [image("image", "image", options.image_transport)]
    if stereo:
        images.append(image("right", "right/image", options.image_transport))
    if options.mode == "rgbd":
        images.append(image("depth", "depth", options.depth_transport))
    if options.mask_source != "none":
        images.append(image("mask", "mask", options.mask_transport, options.mask_source == "synchronized"))
    return CameraTopics(
        name=name,
        images=tuple(images),
        camera_info=None if options.calibration_file else f"{before}camera_info",
        right_camera_info="right/camera_info" if stereo and not options.right_calibration_file else None,
        features=f"~/{before}features",
        right_features="~/right/features" if stereo else None,
        points="~/points" if depth else None,
        debug_image=f"~/{before}debug_image",
    )
