# SPDX-License-Identifier: Apache-2.0
"""The synthetic room: a rendered sequence with exact depth, exact poses and a known calibration.

It may be shipped and shown, it is the same on every machine, and its truth has no measurement error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from .base import Frame, Sequence, SequenceError
from .layout import CLEARANCE, furnish, visible_surfaces
from .lighting import paint_and_light
from .pictures import packaged_photographs
from .rendering import SUPERSAMPLING, RayGrid, Scene
from .textures import Picture
from .trajectory import Trajectory

_START_NS = 1_000_000_000


@dataclass(frozen=True)
class RoomOptions:
    """What the synthetic room looks like and how it is filmed.

    Attributes
    ----------
    seed
        Of the room's shape, furniture, textures and light, of the trajectory and of the noise.
    frames
        Number of frames.
    rate
        Frames a second.
    width, height
        Image size in pixels.
    field_of_view
        Horizontal, of the undistorted pinhole, degrees.
    distortion
        plumb_bob coefficients k1 k2 p1 p2 k3; empty for a pinhole.
    colour
        BGR images; gray ones otherwise.
    baseline
        Metres from the left to the right camera of a stereo pair; 0: no right image. The optical axes are parallel,
        so that the images are a rectified pair unless the lens distorts.
    roll_degrees
        Amplitude of the camera's roll.
    speed
        Of the motion: 1.0 is 0.25 to 0.4 m/s, as the seed has it, and 10 degrees/s on average; at most twice that.
    still
        The camera rests where it starts.
    noise
        Standard deviation of the sensor's noise in gray levels.
    exposure_time
        Seconds over which the motion blurs a frame; its pose and stamp are those of the middle.
    exposure_stops
        Amplitude by which the exposure swings up and down over time, in powers of two.
    photographs
        Hang scikit-image's packaged photographs beside the procedural pictures. Off by default: then a seed gives
        the same room whether or not scikit-image is installed.
    texel
        Metres that a pixel of the walls' textures spans.
    """

    seed: int = 0
    frames: int = 120
    rate: float = 30.0
    width: int = 640
    height: int = 480
    field_of_view: float = 65.0
    distortion: tuple[float, ...] = ()
    colour: bool = False
    baseline: float = 0.0
    roll_degrees: float = 5.0
    speed: float = 1.0
    still: bool = False
    noise: float = 0.0
    exposure_time: float = 0.0
    exposure_stops: float = 0.0
    photographs: bool = False
    texel: float = 0.0025

    def __post_init__(self) -> None:
        limits = {
            "seed": (0, 2**63),
            "frames": (1, 10**7),
            "rate": (0.01, 10_000),
            "width": (32, 8192),
            "height": (32, 8192),
            "field_of_view": (10, 150),
            "baseline": (0, CLEARANCE - 0.05),
            "roll_degrees": (0, 180),
            "speed": (0, 20),
            "noise": (0, 100),
            "exposure_time": (0, 1),
            "exposure_stops": (0, 4),
            "texel": (0.0005, 0.05),
        }
        for name, (lowest, highest) in limits.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise SequenceError(f"the room's {name} must be between {lowest} and {highest}, got {value}")

    @classmethod
    def parse(cls, text: str) -> RoomOptions:
        """Read ``name=value,name=value``; booleans as true or false, coefficients separated by slashes.

        Raises
        ------
        SequenceError
            For an unknown name, of which the sentence lists those that there are, one that stands twice or a value that
            does not fit.
        """
        defaults = cls()
        values: dict[str, object] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (part.strip() for part in item.partition("="))
            if name not in _OPTION_NAMES:
                raise SequenceError(f"the room has no option {name!r}; it has {', '.join(_OPTION_NAMES)}")
            if name in values:
                raise SequenceError(f"the room's {name} is given twice")
            try:
                values[name] = _parsed(value, getattr(defaults, name))
            except ValueError as error:
                kind = type(getattr(defaults, name)).__name__
                raise SequenceError(f"the room's {name} must be of type {kind}, got {value!r}") from error
        return replace(defaults, **values)  # type: ignore[arg-type]


_OPTION_NAMES = tuple(entry.name for entry in fields(RoomOptions))


class SyntheticRoom(Sequence):
    """A furnished room filmed along a smooth trajectory; every frame is rendered when it is asked for.

    A frame depends on the options and its index alone: frames can be read in any order and by any number of readers.

    Parameters
    ----------
    options
        Everything that can be chosen by text as well.
    pictures
        BGR uint8 pictures to hang on the walls beside the procedural ones.
    camera
        Films with this camera instead of the one of the options' width, height, field_of_view and distortion.
    """

    def __init__(
        self,
        options: RoomOptions | None = None,
        *,
        pictures: SequenceOf[Picture] = (),
        camera: Camera | None = None,
    ) -> None:
        self.options = options = options or RoomOptions()
        self.name = f"room-{options.seed}"
        self._left = camera or _camera(options)
        self.camera: Camera = self._left
        if options.baseline:
            shifted = np.column_stack([self._left.matrix, np.zeros(3)])
            self.camera = replace(self._left, rectification=np.eye(3), projection=shifted)
            shifted = shifted.copy()
            shifted[0, 3] = -self._left.fx * options.baseline
            self.right_camera = replace(self.camera, projection=shifted)
            self._take_pair()
        hung = [*pictures, *(packaged_photographs() if options.photographs else ())]
        self._layout = furnish(np.random.default_rng([options.seed, 0]), hung)
        self._trajectory = Trajectory.random(
            self._layout.free,
            np.random.default_rng([options.seed, 3]),
            roll=math.radians(options.roll_degrees),
            speed=0.0 if options.still else options.speed,
        )

    def __len__(self) -> int:
        return self.options.frames

    def __getitem__(self, index: int) -> Frame:
        position = self._position(index)
        right = self._image(position, 1) if self.options.baseline else None
        return Frame(
            position,
            self.stamp_ns(position),
            self._image(position, 0),
            self.depth(position),
            right,
            self.pose(position),
        )

    def stamp_ns(self, index: int) -> int:
        """Time of a frame in nanoseconds; the first is at one second, as a stamp of zero stands for 'unset' in ROS."""
        return _START_NS + round(index * 1e9 / self.options.rate)

    def pose(self, index: int) -> NDArray[np.float64]:
        """Camera-to-world pose of a frame, float64 (4, 4), without rendering it."""
        return self._trajectory.pose(index / self.options.rate)

    def depth(self, index: int) -> NDArray[np.float32]:
        """Depth of a frame, float32 (H, W) metres, exact at pixel centres, without rendering its image."""
        return self.depth_from(self.pose(index))

    def depth_from(self, pose: NDArray[np.float64]) -> NDArray[np.float32]:
        """Depth from any place in the camera's space, such as the right camera's, as `depth`."""
        return self._scene.depth(pose, self._depth_grid)

    def room_size(self) -> NDArray[np.float64]:
        """Extent in x, y and z, float64 (3,) metres; the world's origin is in the middle of the floor, z is up."""
        return self._layout.size.copy()

    def obstacles(self) -> NDArray[np.float64]:
        """Lowest and highest corners of the bounding boxes of everything in the room, float64 (B, 2, 3)."""
        return np.stack([box.bounds for box in self._layout.boxes])

    @cached_property
    def _scene(self) -> Scene:
        options = self.options
        surfaces = visible_surfaces(self._layout)
        return Scene(paint_and_light(self._layout, surfaces, options.texel, options.seed, colour=options.colour))

    @cached_property
    def _depth_grid(self) -> RayGrid:
        return RayGrid(self._left, np.float64)

    @cached_property
    def _image_grid(self) -> RayGrid:
        width, height = SUPERSAMPLING * self._left.width, SUPERSAMPLING * self._left.height
        return RayGrid(self._left.scaled(width, height), np.float32)

    def _image(self, index: int, side: int) -> NDArray[np.uint8]:
        """The left (0) or right (1) image: radiance over the exposure, then gain and noise."""
        options = self.options
        time = index / options.rate
        instants = time + options.exposure_time * self._shutter(index)
        radiance = np.mean([self._radiance(instant, side) for instant in instants], axis=0, dtype=np.float32)
        if options.exposure_stops:
            # A period that is no multiple of the motion's; the light meter wanders on its own.
            radiance *= np.float32(2.0 ** (options.exposure_stops * math.sin(2 * math.pi * time / 3.7)))
        if options.noise:
            rng = np.random.default_rng([options.seed, 4, index, side])
            radiance += np.float32(options.noise) * rng.standard_normal(radiance.shape, dtype=np.float32)
        return np.clip(np.rint(radiance), 0, 255).astype(np.uint8)

    def _radiance(self, seconds: float, side: int) -> NDArray[np.float32]:
        pose = self._trajectory.pose(seconds)
        pose[:3, 3] += side * self.options.baseline * pose[:3, 0]
        return self._scene.image(pose, self._image_grid)

    def _shutter(self, index: int) -> NDArray[np.float64]:
        """Instants of the sub-exposures as shares of the exposure about its middle: one for half a pixel, 2 to 16."""
        options = self.options
        if not options.exposure_time or options.still:
            return np.zeros(1)
        first, last = (
            self._trajectory.pose(index / options.rate + sign * options.exposure_time / 2) for sign in (-1, 1)
        )
        turned = math.acos(np.clip((np.trace(first[:3, :3].T @ last[:3, :3]) - 1) / 2, -1, 1))
        moved = float(np.linalg.norm(first[:3, 3] - last[:3, 3]))
        count = int(np.clip(math.ceil(2 * self._left.fx * (turned + moved / 1.5)), 2, 16))
        return (np.arange(count) + 0.5) / count - 0.5


def _camera(options: RoomOptions) -> Camera:
    focal = options.width / 2 / math.tan(math.radians(options.field_of_view) / 2)
    centre = (options.width - 1) / 2, (options.height - 1) / 2
    pinhole = Camera(options.width, options.height, focal, focal, *centre, frame_id="camera")
    if not any(options.distortion):
        return pinhole
    return replace(pinhole, model="plumb_bob", coefficients=options.distortion)


def _parsed(text: str, default: object) -> object:
    """`text` as a value of the default's type."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(text)
        return text.lower() in ("true", "1", "yes")
    if isinstance(default, tuple):
        return tuple(float(number) for number in text.split("/") if number)
    return int(text) if isinstance(default, int) else float(text)
