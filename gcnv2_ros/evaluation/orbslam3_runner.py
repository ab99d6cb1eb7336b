# SPDX-License-Identifier: Apache-2.0
"""The process in which ORB-SLAM3 runs, so that its licence (GPL-3.0) and its crashes stay there.

``python -m gcnv2_ros.evaluation.orbslam3_runner VOCABULARY SETTINGS FOLDER`` reads frames from standard input: one JSON
line with width, height, sensor (``rgbd`` or ``stereo``) and count, then for each frame its time (float64, seconds), the
gray image (uint8) and the depth image (float32, metres) or the right gray image (uint8), all native and without
padding. It writes ``trajectory.txt`` (TUM) and ``frames.json`` into the folder.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np


def main(vocabulary: str, settings: str, folder: str) -> None:
    """Feed the frames at the pace of their stamps, as the system's own programs do, and save what it made of them."""
    import pyorbslam3

    source = sys.stdin.buffer
    header = json.loads(source.readline())
    shape = (header["height"], header["width"])
    rgbd = header["sensor"] == "rgbd"
    sensor = pyorbslam3.Sensor.RGBD if rgbd else pyorbslam3.Sensor.STEREO
    slam = pyorbslam3.Slam(vocabulary, settings, sensor)
    seconds: list[float] = []
    start = first = None
    for _ in range(header["count"]):
        stamp = float(_read(source, (1,), np.dtype(np.float64))[0])
        image = _read(source, shape, np.dtype(np.uint8))
        other = _read(source, shape, np.dtype(np.float32 if rgbd else np.uint8))
        if start is None or first is None:
            start, first = time.monotonic(), stamp
        time.sleep(max(0.0, start + stamp - first - time.monotonic()))
        began = time.perf_counter()
        (slam.track_rgbd if rgbd else slam.track_stereo)(image, other, stamp)
        seconds.append(time.perf_counter() - began)
    slam.shutdown()
    Path(folder, "frames.json").write_text(json.dumps({"seconds": seconds}), encoding="ascii")
    slam.save_trajectory_tum(str(Path(folder, "trajectory.txt")))


def _read(source: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    wanted = int(np.prod(shape)) * dtype.itemsize
    data = source.read(wanted)
    if len(data) < wanted:
        raise SystemExit("the frames ended too early")
    return np.frombuffer(bytearray(data), dtype).reshape(shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
