# SPDX-License-Identifier: Apache-2.0
"""Charts of an evaluation as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..libraries import import_library

COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#b91c1c")
TRUTH_COLOUR = "#9ca3af"
_STAGE_SHADES = (0.35, 1.0, 0.65)
_INK = "#374151"
_STYLE: Any = {
    # Text stays text: it is searchable, and takes the page's font.
    "svg.fonttype": "none",
    "svg.hashsalt": "gcnv2_ros",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": "#d1d5db",
    "axes.labelcolor": _INK,
    "axes.titlesize": 10.5,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceff3",
    "xtick.color": "#6b7280",
    "ytick.color": "#6b7280",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def colours_of(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label, the same in all charts."""
    return {label: COLOURS[number % len(COLOURS)] for number, label in enumerate(labels)}


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    colours: Mapping[str, str],
    *,
    title: str,
    x_label: str,
    y_label: str,
    marker: str = "",
    size: tuple[float, float] = (5.2, 3.0),
    top: float | None = None,
    x_ticks: Sequence[float] | None = None,
) -> str:
    """Lines through (x, y), by label; gaps where y is NaN."""

    def draw(axes: Any) -> None:
        for label, (x, y) in series.items():
            axes.plot(x, y, color=colours[label], label=label, marker=marker)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.set_ylim(bottom=0, top=top)
        if x_ticks is not None:
            axes.set_xticks(x_ticks)

    return _svg(draw, size, title)


def interval_chart(
    intervals: Mapping[str, tuple[float, float, float]],
    colours: Mapping[str, str],
    *,
    title: str,
    x_label: str,
) -> str:
    """Means with their intervals (mean, low, high), one row a label, about a line at zero."""
    labels = list(intervals)

    def draw(axes: Any) -> None:
        axes.axvline(0, color="#6b7280", linewidth=1)
        for row, label in enumerate(labels):
            mean, low, high = intervals[label]
            axes.plot([low, high], [row, row], color=colours[label], linewidth=3, solid_capstyle="round", alpha=0.45)
            axes.plot([mean], [row], "o", color=colours[label], markersize=7)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        reach = max(0.05, *(1.15 * abs(bound) for values in intervals.values() for bound in values))
        axes.set_xlim(-reach, reach)
        axes.grid(axis="y", visible=False)
        axes.set(title=title, xlabel=x_label)

    return _svg(draw, (5.2, 1.25 + 0.42 * len(labels)), title)


def stage_chart(stages: Mapping[str, Mapping[str, float]], colours: Mapping[str, str], *, title: str) -> str:
    """Milliseconds of each stage, stacked, one row a label."""
    labels = list(stages)

    def draw(axes: Any) -> None:
        for row, label in enumerate(labels):
            left = 0.0
            for (_, value), shade in zip(stages[label].items(), _STAGE_SHADES):
                axes.barh(row, value, 0.55, left=left, color=colours[label], alpha=shade)
                left += value
            axes.text(left, row, f"  {left:.1f} ms", va="center", color=_INK, fontsize=9)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.2)
        names = ", ".join(next(iter(stages.values())))
        axes.set(title=title, xlabel=f"ms a frame: {names}")

    return _svg(draw, (5.2, 1.25 + 0.42 * len(labels)), title)


def trajectory_chart(
    tracks: Mapping[str, NDArray[np.float64]],
    truth: NDArray[np.float64],
    colours: Mapping[str, str],
    *,
    title: str,
) -> str:
    """Aligned positions (K, 3) seen along the direction in which the true path spreads least."""
    centre = truth.mean(axis=0)
    directions = np.linalg.svd(truth - centre, full_matrices=False)[2][:2]

    def draw(axes: Any) -> None:
        axes.plot(*((truth - centre) @ directions.T).T, color=TRUTH_COLOUR, linewidth=3, label="ground truth")
        for label, positions in tracks.items():
            axes.plot(*((positions - centre) @ directions.T).T, color=colours[label], label=label, linewidth=1.4)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(title=title, xlabel="metres, direction of largest spread", ylabel="metres")

    return _svg(draw, (5.2, 3.6), title)


def _svg(draw: Callable[[Any], None], size: tuple[float, float], title: str) -> str:
    matplotlib = import_library("matplotlib", "the charts of the report", "pip install matplotlib")
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Title": title})
    text = out.getvalue()
    return text[text.index("<svg") :]
