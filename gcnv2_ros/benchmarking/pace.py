# SPDX-License-Identifier: Apache-2.0
"""Calls at a camera's rate, and what they cost until the next one.

As a program: extract from one image again and again, as a JSON object says (the first argument); print milliseconds.
A process of its own, since the threads of some engines wait busily, and would be in the way of others.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WARM_UP_FRAMES = 10


def paced_seconds(call: Callable[[], Any], *, hz: float, frames: int) -> NDArray[np.float64]:
    """Call as often as a camera has frames: a processor that waits between them is slower than one that does not.

    Parameters
    ----------
    call
        What is done for a frame.
    hz
        Frames a second.
    frames
        How many.

    Returns
    -------
    numpy.ndarray
        float64 (frames, 2), seconds: from the start of each call to its end by the clock; and from its start to that of
        the next one by the processors, of all threads of this process.
    """
    seconds = np.empty((frames, 2))
    due = time.perf_counter()
    for frame in range(frames):
        start, processor_start = time.perf_counter(), time.process_time()
        call()
        seconds[frame, 0] = time.perf_counter() - start
        due += 1 / hz
        time.sleep(max(0.0, due - time.perf_counter()))
        seconds[frame, 1] = time.process_time() - processor_start
    return seconds


def main() -> None:
    """Measure and print one JSON object."""
    from ..extraction import DecodeOptions, ExtractorOptions, create_extractor

    given = json.loads(sys.argv[1])
    gray = np.load(given["image"], allow_pickle=False)
    decode = DecodeOptions(max_keypoints=given["max_keypoints"])
    with create_extractor(ExtractorOptions(**given["options"]), decode) as extractor:
        keypoints = len(extractor.extract(gray))
        pace = {"hz": given["hz"], "frames": _WARM_UP_FRAMES + given["frames"]}
        clock, processor = 1e3 * paced_seconds(lambda: extractor.extract(gray), **pace)[_WARM_UP_FRAMES:].T
    report = {
        "keypoints": keypoints,
        "extract_ms": {f"p{level}": float(np.percentile(clock, level)) for level in (50, 95, 99)},
        # The mean, since that is what a processor's time adds up to.
        "processor_ms": float(processor.mean()),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
