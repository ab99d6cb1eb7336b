# SPDX-License-Identifier: Apache-2.0
"""What a camera does to a view: exposure, contrast, shading, blur, noise, compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PhotometricOptions:
    """Strength of each change; 0 turns it off. Probabilities are per view.

    Attributes
    ----------
    gain
        Largest logarithmic change of exposure.
    gamma
        Largest logarithmic change of the tone curve's exponent.
    contrast
        Contrast is multiplied by a factor in [1 - `contrast`, 1 + `contrast` / 2].
    vignetting
        Largest loss of brightness in the corners.
    shading_probability
        Share of views with a soft shadow or light gradient across them.
    motion_blur, motion_blur_probability
        Longest blur in pixels, and the share of views that get one.
    defocus, defocus_probability
        Largest standard deviation of a Gaussian blur in pixels, and the share of views that get one.
    noise
        Largest standard deviation of read noise, in gray levels of 255; shot noise comes on top.
    jpeg_probability
        Share of views compressed to JPEG quality 25 to 90.
    """

    gain: float = 0.5
    gamma: float = 0.35
    contrast: float = 0.5
    vignetting: float = 0.4
    shading_probability: float = 0.3
    motion_blur: float = 7.0
    motion_blur_probability: float = 0.2
    defocus: float = 1.2
    defocus_probability: float = 0.3
    noise: float = 9.0
    jpeg_probability: float = 0.15


def motion_blur_kernel(length: float, angle: float) -> NDArray[np.float32]:
    """A line kernel of `length` pixels at `angle` radians, centred, summing to 1."""
    half = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    steps = np.linspace(-length / 2, length / 2, max(2, int(4 * length) + 1))
    x, y = half + steps * np.cos(angle), half + steps * np.sin(angle)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    for dx in (0, 1):
        for dy in (0, 1):
            np.add.at(kernel, (y0 + dy, x0 + dx), np.abs(1 - dx - (x - x0)) * np.abs(1 - dy - (y - y0)))
    return kernel / kernel.sum()


def photometric_change(
    rng: np.random.Generator, image: NDArray[np.uint8], options: PhotometricOptions
) -> NDArray[np.uint8]:
    """Apply a random photometric change to a gray uint8 (H, W) image; the geometry stays as it is."""
    height, width = image.shape
    value: Any = image.astype(np.float32) / 255
    if rng.random() < options.defocus_probability:
        value = cv2.GaussianBlur(value, (0, 0), rng.uniform(0.3, max(0.31, options.defocus)))
    if rng.random() < options.motion_blur_probability and options.motion_blur > 1:
        value = cv2.filter2D(value, -1, motion_blur_kernel(rng.uniform(1, options.motion_blur), rng.uniform(0, np.pi)))
    value = np.clip(value, 1e-4, 1) ** np.exp(rng.uniform(-options.gamma, options.gamma))
    mean = float(value.mean())
    value = mean + (value - mean) * rng.uniform(1 - options.contrast, 1 + options.contrast / 2)
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    light = 1 - rng.uniform(0, options.vignetting) * (x * x + y * y) / 2
    if rng.random() < options.shading_probability:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.7, 0.7)
        edge = rng.uniform(0.05, 0.8)
        shade = 1 / (1 + np.exp(-np.clip((x * np.cos(angle) + y * np.sin(angle) - offset) / edge, -30, 30)))
        light = light * (1 - rng.uniform(0.1, 0.6) * shade)
    value = value * light * np.exp(rng.uniform(-options.gain, options.gain))
    if options.noise:
        read, shot = rng.uniform(0, options.noise) / 255, rng.uniform(0, options.noise) / 255
        deviation = np.sqrt(read**2 + shot**2 * np.clip(value, 0, 1))
        value = value + deviation * rng.standard_normal(value.shape, dtype=np.float32)
    result = np.clip(value * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < options.jpeg_probability:
        encoded = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 91))])[1]
        result = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)  # type: ignore[assignment]
    return result
