# SPDX-License-Identifier: Apache-2.0
"""The page of `gcnv2 demo`: figures, keypoints on frames, matches between frames, latency over time."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..drawing import draw_keypoints, draw_matches
from ..files import atomic_path, atomic_write
from ..geometry import dense_flow
from ..matching import Matches, match
from ..sequences import Frame, Sequence, SyntheticRoom

if TYPE_CHECKING:
    from ..features import Features
    from ..ros.demonstration import Demonstration

_SHOWN_FRAMES = 4
_MATCH_GAP = 10
_RIGHT_WITHIN = 3.0


@dataclass(frozen=True)
class MatchedPair:
    """Two frames and their matches; `right` is bool (M,) where the sequence's truth can tell, else None."""

    first: int
    second: int
    matches: Matches
    right: NDArray[np.bool_] | None


def write_page(out: Path, sequence: Sequence, frames: list[Frame], demonstration: Demonstration) -> Path:
    """Write ``index.html`` and its pictures into the folder `out`; returns the page's path."""
    by_index = {frame.index: frame for frame in frames}
    indices = sorted(demonstration.features)
    shown = [indices[k] for k in np.linspace(0, len(indices) - 1, min(_SHOWN_FRAMES, len(indices))).astype(int)]
    keypoint_pictures = []
    for index in shown:
        features = demonstration.features[index]
        name = f"keypoints_{index:04d}.png"
        _write_picture(out / name, draw_keypoints(by_index[index].gray, features))
        keypoint_pictures.append((name, f"frame {index}: {len(features)} keypoints, strongest in red"))
    match_pictures = []
    for start in shown[:-1]:
        later = [index for index in indices if index >= start + _MATCH_GAP]
        if not later:
            continue
        pair = match_frames(sequence, by_index[start], by_index[later[0]], demonstration.features)
        name = f"matches_{pair.first:04d}_{pair.second:04d}.png"
        first, second = demonstration.features[pair.first], demonstration.features[pair.second]
        picture = draw_matches(
            by_index[pair.first].gray, by_index[pair.second].gray, first, second, pair.matches, right=pair.right
        )
        _write_picture(out / name, picture)
        match_pictures.append((name, _describe(pair)))
    page = out / "index.html"
    atomic_write(page, _html(sequence.name, demonstration, keypoint_pictures, match_pictures))
    return page


def match_frames(sequence: Sequence, first: Frame, second: Frame, features: dict[int, Features]) -> MatchedPair:
    """Mutual nearest neighbours between two frames, judged where the sequence's truth is exact: in the synthetic room.

    A match is right if it lies within 3 px of the point's true position in the second frame; matches of points that are
    occluded or outside there are left out. Measured depth and poses are not used: they are off by more than that.
    """
    a, b = features[first.index], features[second.index]
    matches = match(a, b)
    if not isinstance(sequence, SyntheticRoom):
        return MatchedPair(first.index, second.index, matches, None)
    flow, valid = dense_flow(first, second, sequence.camera)
    columns, rows = np.rint(a.uv[matches.index_a]).astype(int).T
    rows, columns = np.clip(rows, 0, flow.shape[0] - 1), np.clip(columns, 0, flow.shape[1] - 1)
    judged = valid[rows, columns]
    # The flow is known at pixel centres; over the rest of a pixel it is taken as a shift.
    truth = flow[rows, columns] + (a.uv[matches.index_a] - np.column_stack([columns, rows]))
    error = np.linalg.norm(truth - b.uv[matches.index_b], axis=1)
    kept = Matches(matches.index_a[judged], matches.index_b[judged], matches.distance[judged])
    return MatchedPair(first.index, second.index, kept, error[judged] <= _RIGHT_WITHIN)


def _describe(pair: MatchedPair) -> str:
    text = f"frames {pair.first} and {pair.second}: {len(pair.matches)} mutual matches"
    if pair.right is None or not len(pair.right):
        return text
    return f"{text} with known truth, {np.mean(pair.right):.0%} within {_RIGHT_WITHIN:g} px of it (green)"


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), picture)


def _html(
    name: str,
    demonstration: Demonstration,
    keypoint_pictures: list[tuple[str, str]],
    match_pictures: list[tuple[str, str]],
) -> str:
    latencies = 1e3 * np.array([demonstration.latency[index] for index in sorted(demonstration.latency)])
    counts = [len(features) for features in demonstration.features.values()]
    info = demonstration.model_info
    figures = {
        "frames published": str(demonstration.published),
        "frames with features": str(len(demonstration.features)),
        "features a second": f"{len(demonstration.features) / demonstration.seconds:.1f}",
        "keypoints a frame (median)": f"{np.median(counts):.0f}",
        "latency, publish to receive (median)": f"{np.median(latencies):.1f} ms",
        "latency (99th percentile)": f"{np.percentile(latencies, 99):.1f} ms",
    }
    figures |= {key: value for key, value in demonstration.diagnostics.items() if key.startswith("frames dropped")}
    figures |= {
        key: str(info.get(key))
        for key in ("model", "weights", "weights_sha256", "input_size", "detector", "runtime", "device")
    }
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in figures.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>gcnv2_ros on {html.escape(name)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; }} th, td {{ text-align: left; padding: .2rem 1rem .2rem 0; font-weight: normal; }}
td {{ font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }} th {{ color: #666; white-space: nowrap; }}
figure {{ margin: 0 0 1.5rem; }} img {{ max-width: 100%; display: block; }} figcaption {{ color: #666; }}
.grid {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(480px, 1fr)); gap: 1rem; }}
</style></head><body>
<h1>gcnv2_ros on {html.escape(name)}</h1>
<table>{rows}</table>
<h2>Keypoints</h2><div class="grid">{_figures(keypoint_pictures)}</div>
<h2>Matches</h2>{_figures(match_pictures)}
<h2>Latency of each frame</h2>{_latency_plot(latencies)}
</body></html>
"""


def _figures(pictures: list[tuple[str, str]]) -> str:
    return "".join(
        f'<figure><img src="{name}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for name, caption in pictures
    )


def _latency_plot(latencies: NDArray[np.floating]) -> str:
    """An inline SVG: one bar a frame, milliseconds."""
    width, height, left = 1100, 180, 50
    top = max(float(latencies.max()), 1.0) * 1.1
    step = (width - left) / len(latencies)
    bars = "".join(
        f'<rect x="{left + number * step:.1f}" y="{height - value / top * height:.1f}" '
        f'width="{max(step - 1, 0.5):.1f}" height="{value / top * height:.1f}" fill="#4878a8"/>'
        for number, value in enumerate(latencies)
    )
    ticks = "".join(
        f'<line x1="{left}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="12" fill="#666">{value:.0f} ms</text>'
        for value in np.linspace(0, top, 5)[1:-1]
        for y in [height - value / top * height]
    )
    return f'<svg viewBox="0 0 {width} {height + 5}" role="img" aria-label="latency of each frame">{ticks}{bars}</svg>'
