# SPDX-License-Identifier: Apache-2.0
"""What the detector is taught: score maps drawn from keypoints, and Shi-Tomasi corners."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def suppress_weaker(keypoints: NDArray[np.floating], scores: NDArray[np.floating], radius: float) -> NDArray[np.intp]:
    """Greedy suppression of keypoints at sub-pixel positions.

    Parameters
    ----------
    keypoints, scores
        (N, 2) pixels and (N,).
    radius
        A kept keypoint removes every weaker one within this Chebyshev distance, in pixels.

    Returns
    -------
    numpy.ndarray
        Positions of the kept keypoints, by descending score.
    """
    order = np.argsort(-scores, kind="stable")
    u, v = keypoints[order].astype(np.float32).T
    close = (np.abs(u[:, None] - u) <= radius) & (np.abs(v[:, None] - v) <= radius)
    kept = np.ones(len(order), bool)
    for index in range(len(order)):
        if kept[index]:
            kept[index + 1 :] &= ~close[index, index + 1 :]
    return order[kept]


def draw_score_map(
    keypoints: NDArray[np.floating], amplitudes: NDArray[np.floating], size: tuple[int, int], sigma: float
) -> NDArray[np.float32]:
    """Draw a Gaussian peak at each keypoint's sub-pixel position; where peaks overlap the higher counts.

    Parameters
    ----------
    keypoints
        (N, 2) pixels; those outside the map are drawn as far as they reach into it.
    amplitudes
        (N,) heights in [0, 1].
    size
        Width and height of the map.
    sigma
        Standard deviation in pixels.

    Returns
    -------
    numpy.ndarray
        float32 (H, W) in [0, 1].
    """
    width, height = size
    reach = int(np.ceil(3 * sigma))
    u, v = keypoints.T
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    near = (left >= -reach) & (left < width + reach) & (top >= -reach) & (top < height + reach)
    window = np.arange(-reach, reach + 1)
    columns, rows = left[near, None] + window, top[near, None] + window
    profile_u = np.exp(-((columns - u[near, None]) ** 2) / (2 * sigma * sigma))
    profile_v = np.exp(-((rows - v[near, None]) ** 2) / (2 * sigma * sigma)) * amplitudes[near, None]
    # A margin takes what reaches beyond the map, instead of a mask over every window.
    margin = 2 * reach + 1
    padded = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
    flat = ((rows + margin) * padded.shape[1])[:, :, None] + (columns + margin)[:, None, :]
    values = (profile_v[:, :, None] * profile_u[:, None, :]).astype(np.float32)
    np.maximum.at(padded.reshape(-1), flat.reshape(-1), values.reshape(-1))
    return np.ascontiguousarray(padded[margin : margin + height, margin : margin + width])


def shi_tomasi_corners(
    image: NDArray[np.uint8], *, maximum: int = 1000, quality: float = 0.005, distance: float = 4.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Shi-Tomasi corners of a gray image, the detector's teacher in the GCNv2 paper (section III-B).

    Returns
    -------
    keypoints : numpy.ndarray
        float32 (N, 2) pixels.
    scores : numpy.ndarray
        float32 (N,), the smaller eigenvalue relative to the image's 99th percentile corner, at most 1.
    """
    found = cv2.goodFeaturesToTrack(image, maximum, quality, distance)
    if found is None:
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    keypoints = found.reshape(-1, 2).astype(np.float32)
    response = cv2.cornerMinEigenVal(image, 3)
    columns, rows = np.rint(keypoints).astype(int).T
    values = response[rows, columns]
    return keypoints, np.clip(values / max(float(np.percentile(values, 99)), 1e-12), 0, 1).astype(np.float32)


def shi_tomasi_cells(image: NDArray[np.uint8], *, cell: int = 16) -> NDArray[np.float32]:
    """The strongest Shi-Tomasi corner of each cell of a gray image.

    This is what the GCNv2 paper's detector loss marks as positive (section III-B). Cells whose best response is
    below a hundredth of the image's best have none.

    Returns
    -------
    numpy.ndarray
        float32 (N, 2) pixels.
    """
    response = cv2.cornerMinEigenVal(image, 3)
    rows, columns = (extent // cell for extent in response.shape)
    blocks = response[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell).transpose(0, 2, 1, 3)
    cells = blocks.reshape(rows, columns, cell * cell)
    row, column = np.nonzero(cells.max(axis=2) > 0.01 * float(response.max()))
    best = cells.argmax(axis=2)[row, column]
    return np.column_stack([column * cell + best % cell, row * cell + best // cell]).astype(np.float32)
