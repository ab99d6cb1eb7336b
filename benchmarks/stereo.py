# SPDX-License-Identifier: Apache-2.0
"""Compare frontends on rectified stereo pairs: how many matches, and how exact they are.

On a sequence with depth images, such as the synthetic room, every kept match is judged by the truth; on one without,
such as a EuRoC folder, counts are all there is. "plain" are mutual nearest descriptors over the whole images, without
any use of the geometry.

    python benchmarks/stereo.py --frontends orb gcnv2_tiny --sequence euroc_v101_clip --step 4 --out stereo.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gcnv2_ros.depth import sample_depth
from gcnv2_ros.errors import GCNv2Error
from gcnv2_ros.evaluation.frontends import Frontend, parse_frontend
from gcnv2_ros.evaluation.tables import markdown_table
from gcnv2_ros.files import atomic_write
from gcnv2_ros.matching import match
from gcnv2_ros.sequences import Frame, SequenceError, open_sequence
from gcnv2_ros.sequences import Sequence as FrameSequence
from gcnv2_ros.sequences.euroc import EurocSequence, is_euroc_folder
from gcnv2_ros.stereo import match_stereo

_ROOM = "room:frames=8,rate=1,baseline=0.11,noise=2,seed=3"
_ROWS = 2.0
_COLUMN = 0.5
_COLUMNS = {
    "keypoints": "keypoints",
    "plain_matches": "plain matches",
    "plain_within_rows": f"of them \\|dy\\| < {_ROWS:g} px",
    "stereo_matches": "stereo matches",
    "columns_within": f"columns within {_COLUMN:g} px",
    "column_error_median": "median, px",
    "depth_error_median": "depth error, median",
    "depth_error_p95": "95%",
    "seconds": "matching, s",
}


def open_rectified(spec: str) -> FrameSequence:
    """A sequence whose images are a rectified pair; those of a EuRoC folder are made so.

    Raises
    ------
    SequenceError
        If it is not stereo, or not rectified.
    """
    folder = Path(spec)
    sequence = EurocSequence(folder, rectify=True) if is_euroc_folder(folder) else open_sequence(spec)
    if sequence.stereo is None:
        raise SequenceError("; ".join((f"{spec} holds no rectified stereo pairs", *sequence.notes)))
    return sequence


def measure(frontend: Frontend, sequence: FrameSequence, frames: Sequence[Frame], keypoints: int) -> dict[str, Any]:
    """Scores of one frontend over the frames: means a pair, shares and errors over all matches.

    Errors are None where the sequence has no depth images.
    """
    if sequence.stereo is None:
        raise SequenceError(f"{sequence.name} holds no rectified stereo pairs")
    focal, baseline = sequence.stereo
    extractor = frontend.create(keypoints)
    counts, rows, columns, depths, seconds = [], [], [], [], []
    for frame in frames:
        right_gray = frame.right_gray
        if right_gray is None:
            raise SequenceError(f"{sequence.name}, frame {frame.index}: there is no right image")
        left, right = extractor.extract(frame.gray), extractor.extract(right_gray)
        plain = match(left, right)
        rows.append(np.abs(left.uv[plain.index_a, 1] - right.uv[plain.index_b, 1]))
        start = time.process_time()
        found = match_stereo(left, right, focal=focal, baseline=baseline, left_image=frame.gray, right_image=right_gray)
        seconds.append(time.process_time() - start)
        known = found.right_u >= 0
        counts.append((len(left), len(plain), int(np.count_nonzero(known))))
        if frame.depth is None:
            continue
        truth = sample_depth(frame.depth, found.uv, found.image_size)
        columns.append(np.abs(found.uv[:, 0] - focal * baseline / truth - found.right_u)[known])
        depths.append((np.abs(found.depth - truth) / truth)[known])
    extractor.close()
    scores: dict[str, Any] = dict(zip(("keypoints", "plain_matches", "stereo_matches"), np.mean(counts, axis=0)))
    scores["plain_within_rows"] = float(np.mean(np.concatenate(rows) < _ROWS))
    scores["seconds"] = float(np.median(seconds))
    judged = _finite(columns)
    relative = _finite(depths)
    scores["judged"] = len(judged)
    if len(judged):
        scores["columns_within"] = float(np.mean(judged <= _COLUMN))
        scores["column_error_median"] = float(np.median(judged))
    if len(relative):
        scores["depth_error_median"], scores["depth_error_p95"] = np.percentile(relative, (50, 95)).tolist()
    return scores


def _finite(parts: list[np.ndarray]) -> np.ndarray:
    values = np.concatenate(parts) if parts else np.zeros(0)
    return values[np.isfinite(values)]


def table(results: dict[str, dict[str, Any]]) -> str:
    """The scores of all frontends on one sequence as a Markdown table."""

    def text(scores: dict[str, Any], name: str) -> str:
        if name not in scores:
            return "-"
        if name.startswith("depth"):
            return f"{100 * scores[name]:.2f}%"
        return f"{scores[name]:.0f}" if scores[name] >= 10 else f"{scores[name]:.3f}"

    rows = [[label, *(text(scores, name) for name in _COLUMNS)] for label, scores in results.items()]
    return markdown_table(["frontend", *_COLUMNS.values()], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print a table a sequence, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frontends", nargs="+", default=["orb", "gcnv2_tiny"], metavar="MODEL[=WEIGHTS][@WxH]")
    parser.add_argument(
        "--sequence", action="append", dest="sequences", metavar="SPEC", help=f"may be repeated (default: {_ROOM})"
    )
    parser.add_argument("--keypoints", type=int, default=1000)
    parser.add_argument("--step", type=int, default=1, help="take every so many frames")
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of the networks (default: their own choice)"
    )
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json")
    chosen = parser.parse_args(arguments)
    if min(chosen.step, chosen.keypoints) < 1:
        parser.error("--step and --keypoints must be at least 1")
    report: dict[str, Any] = {"keypoints": chosen.keypoints, "step": chosen.step, "sequences": {}}
    try:
        frontends = [parse_frontend(text, threads=chosen.threads) for text in chosen.frontends]
        for spec in chosen.sequences or [_ROOM]:
            sequence = open_rectified(spec)
            frames = [sequence[index] for index in range(0, len(sequence), chosen.step)]
            results = {entry.label: measure(entry, sequence, frames, chosen.keypoints) for entry in frontends}
            report["sequences"][spec] = {"pairs": len(frames), "frontends": results}
            print(
                f"**{sequence.name}, {len(frames)} pairs, {chosen.keypoints} keypoints**\n\n{table(results)}",
                flush=True,
            )
    except GCNv2Error as error:
        parser.error(str(error))
    report["load_average"] = os.getloadavg() if hasattr(os, "getloadavg") else None
    if chosen.out is not None:
        atomic_write(chosen.out, json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
