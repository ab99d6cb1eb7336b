# SPDX-License-Identifier: Apache-2.0
"""What keypoints of several detectors are worth that are described by the same map, on synthetic pairs.

    python benchmarks/detectors.py --pictures PHOTOS --pairs 60 --out detectors.json

- ``blobs``, ``network``: what the parameter `detector` offers, with what is recommended for it; ``in whole pixels``:
  without the fit for sub-pixel positions.
- ``network, moved to corners``: moved to the corner that `cv2.cornerSubPix` finds in the image as given, if it is
  within 2 px.
- ``blobs described by ORB``: what the detector alone is worth. Keypoints as with ``blobs``, and ORB's descriptors of
  the image as given, without a pyramid, turned by the intensity centroid of a disc of ORB's radius.
- ``shi_tomasi``: the strongest Shi-Tomasi corners of the image as given, moved in the same way.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gcnv2_ros.cli.common import parse_size
from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.evaluation.bootstrap import summarise
from gcnv2_ros.evaluation.homography import HomographyPair, score_pairs, synthetic_pairs
from gcnv2_ros.extraction import DecodeOptions, Extractor, ExtractorOptions, create_extractor
from gcnv2_ros.extraction.preprocess import InputGeometry, network_input
from gcnv2_ros.extraction.runtimes import Runtime, create_runtime
from gcnv2_ros.extraction.sampling import Describer, describer_of
from gcnv2_ros.features import Features
from gcnv2_ros.files import atomic_write
from gcnv2_ros.training.pictures import find_photographs
from gcnv2_ros.weights import load_weights

_WINDOW = (3, 3)
_LARGEST_MOVE = 2.0
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.03)
_CORNER_QUALITY = 1e-3
_CORNER_DISTANCE = 6.0
_ORB_RADIUS = 15

Image = NDArray[np.uint8]
Extract = Callable[[Image], Features]


def move_to_corners(image: Image, uv: NDArray[np.float32]) -> NDArray[np.float32]:
    """Positions (N, 2) moved to the corners beside them; those whose corner is far away stay."""
    if not len(uv):
        return uv
    moved = cv2.cornerSubPix(image, uv.reshape(-1, 1, 2).copy(), _WINDOW, (-1, -1), _STOP).reshape(-1, 2)
    near = np.linalg.norm(moved - uv, axis=1) <= _LARGEST_MOVE
    return np.where(near[:, None], moved, uv).astype(np.float32)


def described_by_orb(image: Image, features: Features) -> Features:
    """The same keypoints with ORB's descriptors; those too near to an edge for ORB are left out."""
    steps = np.arange(-_ORB_RADIUS, _ORB_RADIUS + 1, dtype=np.float32)
    disc = (steps**2 + steps[:, None] ** 2 <= _ORB_RADIUS**2).astype(np.float32)
    gray = image.astype(np.float32)
    moment_u, moment_v = (cv2.filter2D(gray, -1, disc * weight) for weight in (steps, steps[:, None]))
    columns, rows = np.rint(features.uv).astype(int).T
    angles = np.degrees(np.arctan2(moment_v[rows, columns], moment_u[rows, columns])) % 360
    keypoints = [
        cv2.KeyPoint(float(u), float(v), 2.0 * _ORB_RADIUS + 1, float(angle), float(response), 0, index)
        for index, ((u, v), angle, response) in enumerate(zip(features.uv, angles, features.response))
    ]
    kept, descriptors = cv2.ORB.create(nlevels=1).compute(image, keypoints)
    numbers = np.array([keypoint.class_id for keypoint in kept])
    order = np.argsort(numbers)
    chosen, described = numbers[order], np.asarray(descriptors, np.uint8)[order]
    return Features(features.uv[chosen], features.response[chosen], described, features.image_size)


def described_at(
    detect: Callable[[Image], NDArray[np.float32]], runtime: Runtime, describe: Describer, size: tuple[int, int]
) -> Extract:
    """An extractor of the network's descriptors at the positions that `detect` finds in an image."""

    def extract(image: Image) -> Features:
        height, width = image.shape
        geometry = InputGeometry.of((width, height), size, runtime.stride)
        dense = runtime.infer(network_input([image], [geometry])).descriptors[0]
        uv = detect(image)
        packed = describe(dense, geometry.to_network(uv).astype(np.float32))
        return Features(uv, np.ones(len(uv), np.float32), packed, (width, height))

    return extract


def contenders(
    extractor: Extractor, runtime: Runtime, describe: Describer, size: tuple[int, int], budget: int
) -> dict[str, Extract]:
    """The ways to find keypoints that are compared, by name."""

    def offered(detector: str, subpixel: bool = True) -> Extract:
        decode = DecodeOptions(max_keypoints=budget, score_threshold=0.0, detector=detector, subpixel=subpixel)

        def extract(image: Image) -> Features:
            extractor.decode_options = decode
            return extractor.extract(image)

        return extract

    def moved(image: Image) -> Features:
        features = network(image)
        return replace(features, uv=move_to_corners(image, features.uv))

    def corners(image: Image) -> NDArray[np.float32]:
        found = cv2.goodFeaturesToTrack(image, budget, _CORNER_QUALITY, _CORNER_DISTANCE)
        return move_to_corners(image, np.reshape([] if found is None else found, (-1, 2)).astype(np.float32))

    blobs, network = offered("blobs"), offered("network")
    return {
        "blobs": blobs,
        "blobs in whole pixels": offered("blobs", subpixel=False),
        "blobs described by ORB": lambda image: described_by_orb(image, blobs(image)),
        "network": network,
        "network in whole pixels": offered("network", subpixel=False),
        "network, moved to corners": moved,
        "shi_tomasi": described_at(corners, runtime, describe, size),
    }


def compare(
    model: str, size: tuple[int, int], budgets: Sequence[int], pairs: Sequence[HomographyPair]
) -> dict[str, Any]:
    """Scores by budget and contender, printed as they come."""
    options = ExtractorOptions(model=model, input_width=size[0], input_height=size[1])
    weights = load_weights(options.weights, model=model)
    report = {}
    with create_extractor(options) as extractor, closing(create_runtime(options, weights)) as runtime:
        describe = describer_of(weights, runtime.stride)
        for budget in budgets:
            for name, extract in contenders(extractor, runtime, describe, size, budget).items():
                scores = score_pairs(extract, pairs, draws=0)
                accuracy = summarise([score.accuracy[0] for score in scores], [pair.picture for pair in pairs])
                repeatability = float(np.mean([score.repeatability for score in scores]))
                key = f"{size[0]}x{size[1]}, {budget} keypoints, {name}"
                report[key] = {"mma3": accuracy, "repeatability": repeatability}
                print(f"{key}: MMA@3 {accuracy['mean']:.3f}, repeatability {repeatability:.3f}", flush=True)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", required=True, help="folder of photographs")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--model", default="gcnv2_tiny")
    parser.add_argument("--sizes", nargs="+", default=["640x480", "320x240"], metavar="WxH")
    parser.add_argument("--budgets", nargs="+", type=int, default=[500, 1000])
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    chosen = parser.parse_args(arguments)
    report: dict[str, Any] = {}
    try:
        pairs = synthetic_pairs(find_photographs(chosen.pictures), count=chosen.pairs, seed=7)
        for size in map(parse_size, chosen.sizes):
            report |= compare(chosen.model, size, chosen.budgets, pairs)
    except GCNv2Error as error:
        parser.error(str(error))
    if chosen.out is not None:
        atomic_write(chosen.out, json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
