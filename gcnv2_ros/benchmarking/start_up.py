# SPDX-License-Identifier: Apache-2.0
"""Program: build an extractor from options (JSON), run one frame, print seconds and memory.

The second argument is what the clock (`time.perf_counter`) said before anything was imported: the package itself, and
numpy with it, is imported before this module.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Measure and print one JSON object."""
    import numpy as np

    from ..extraction import ExtractorOptions, create_extractor

    imported = time.perf_counter()
    options = ExtractorOptions(**json.loads(sys.argv[1]))
    start = float(sys.argv[2])
    before = peak_megabytes()
    extractor = create_extractor(options)
    built = time.perf_counter()
    width, height = options.input_size or (640, 480)
    extractor.extract(np.random.default_rng(0).integers(0, 256, (height, width), np.uint8))
    finished = time.perf_counter()
    report = {
        "import_seconds": imported - start,
        "build_seconds": built - imported,
        "first_frame_seconds": finished - built,
        "memory_before_mb": before,
        "memory_mb": peak_megabytes(),
    }
    print(json.dumps(report))


def peak_megabytes() -> float | None:
    """The largest resident memory of this process so far; None where the platform does not tell."""
    try:
        # On Linux, what getrusage gives has in it the memory of the process that started this one.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


if __name__ == "__main__":
    main()
