# SPDX-License-Identifier: Apache-2.0
"""A measurement as tables and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import atomic_path
from ..libraries import import_library

_COLOURS = ("#9ca3af", "#93c5fd", "#2563eb", "#d97706", "#059669", "#7c3aed", "#374151", "#db2777")


def markdown_report(report: dict[str, Any]) -> str:
    """The tables of `run_bench`, and those of the node where there are any."""
    machine = report["machine"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['date']}; load average before "
        f"{_load(machine['load_average'])}, after {_load(report['load_average_after'])}. Matrix products: "
        f"{max(report['gemm_gflops']):.0f} GFLOP/s. Medians in milliseconds by the clock"
        f"{_threads(report['options']['threads'])}; images {report['image_size'][0]}x{report['image_size'][1]}"
        f"{_device(report['options']['device'])}.",
        "",
        "| | network input | described | keypoints | forward | share of peak | decoding "
        "| gray image to features, p50 / p95 / p99 | to cv2.ORB | to the original pipeline | message to message |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in report["runs"]:
        stages, extract = entry["stages_ms"], entry["extract_ms"]
        forward = f"{stages['forward']['p50']:.2f}" if "forward" in stages else ""
        decoding = f"{stages['suppress']['p50'] + stages['sample']['p50']:.2f}" if "sample" in stages else ""
        share = f"{entry['share_of_gemm_peak']:.0%}" if "share_of_gemm_peak" in entry else ""
        ratios = [f"{entry['extract_ratio'][peer]:.2f}" for peer in ("cv2.ORB", "original pipeline")]
        size = f"{entry['input_size'][0]}x{entry['input_size'][1]}" if forward else "its own"
        cells = [
            entry["name"],
            size,
            f"{entry['described']:.0f}",
            f"{entry['keypoints']:.0f}",
            forward,
            share,
            decoding,
            " / ".join(f"{extract[level]:.2f}" for level in ("p50", "p95", "p99")),
            *ratios,
            f"{entry['total_ms']['p50']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for table in (_stage_table, _budget_table, _start_table, _pace_table):
        lines += ["", *table(report)]
    if report.get("node"):
        lines += ["", *_node_table(report["node"])]
    lines += [f"\nLeft out: {name}: {reason}" for name, reason in report["left_out"].items()]
    return "\n".join(lines) + "\n"


def plot_report(report: dict[str, Any], path: str | Path) -> None:
    """Draw the stages of every run as stacked bars, one panel a network input.

    Raises
    ------
    MissingDependencyError, LibraryError
        If matplotlib is not installed, or is and cannot be imported.
    """
    import_library("matplotlib", "drawing a benchmark", "pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in report["runs"]:
        groups.setdefault(f"{entry['model']}, {entry['input_size'][0]}x{entry['input_size'][1]}", []).append(entry)
    stages = list(dict.fromkeys(stage for entry in report["runs"] for stage in entry["stages_ms"]))
    figure = Figure(figsize=(9, 0.6 + 2.4 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, entries) in zip(figure.subplots(len(groups), squeeze=False)[:, 0], groups.items()):
        names = [entry["name"] for entry in entries]
        left = [0.0] * len(entries)
        for stage, colour in zip(stages, _COLOURS):
            widths = [entry["stages_ms"].get(stage, {"p50": 0.0})["p50"] for entry in entries]
            axes.barh(names, widths, left=left, color=colour, label=stage)
            left = [start + width for start, width in zip(left, widths)]
        axes.invert_yaxis()
        axes.set_title(title, loc="left")
        axes.set_xlabel("ms, median")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=len(stages), fontsize=7, loc="outside lower center")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _stage_table(report: dict[str, Any]) -> list[str]:
    stages = list(dict.fromkeys(stage for entry in report["runs"] for stage in entry["stages_ms"]))
    lines = [f"| stage, p50 / p99 | network input | {' | '.join(stages)} |", "|---|---|" + "---|" * len(stages)]
    for entry in report["runs"]:
        cells = [
            f"{entry['stages_ms'][stage]['p50']:.2f} / {entry['stages_ms'][stage]['p99']:.2f}"
            if stage in entry["stages_ms"]
            else ""
            for stage in stages
        ]
        lines.append(f"| {entry['name']} | {entry['input_size'][0]}x{entry['input_size'][1]} | {' | '.join(cells)} |")
    return lines


def _budget_table(report: dict[str, Any]) -> list[str]:
    lines = ["| keypoints wanted | | found | gray image to features |", "|---|---|---|---|"]
    for entry in report["by_budget"]:
        lines.append(
            f"| {entry['budget']} | {entry['name']} | {entry['keypoints']:.0f} | {entry['extract_ms']['p50']:.2f} |"
        )
    return lines


def _start_table(report: dict[str, Any]) -> list[str]:
    lines = [
        "| start | import, s | build, s | first frame, s | memory imported, MB | at most, MB |",
        "|---|---|---|---|---|---|",
    ]
    for entry in report["start_up"]:
        memory = " | ".join(
            "" if entry[key] is None else f"{entry[key]:.0f}" for key in ("memory_before_mb", "memory_mb")
        )
        seconds = " | ".join(f"{entry[f'{part}_seconds']:.2f}" for part in ("import", "build", "first_frame"))
        lines.append(f"| {entry['runtime']} {entry['precision']} | {seconds} | {memory} |")
    return lines


def _pace_table(report: dict[str, Any]) -> list[str]:
    rows = report["at_camera_rate"]
    lines = [
        f"| at {rows[0]['hz']:.0f} Hz | threads | keypoints | gray image to features, p50 / p95 / p99 "
        f"| processor, ms a frame | of a core |",
        "|---|---|---|---|---|---|",
    ]
    for entry in rows:
        extract = " / ".join(f"{entry['extract_ms'][level]:.2f}" for level in ("p50", "p95", "p99"))
        lines.append(
            f"| {entry['name']} | {entry['threads'] or 'its own choice'} | {entry['keypoints']} | {extract} "
            f"| {entry['processor_ms']:.2f} | {entry['processor_share']:.2f} |"
        )
    return lines


def _node_table(runs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| node | camera, Hz | bare forward, ms | sent | answered | keypoints | output, Hz | times the bare forward "
        "| image to features p50 / p95 / p99, ms | inside the node p50 / p99, ms | to the bare forward | of a core |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        latency, inside = run["latency_ms"], run["inside_ms"]
        through = " / ".join(f"{latency[level]:.1f}" for level in ("p50", "p95", "p99")) if latency else "none"
        within = f"{inside['p50']:.1f} / {inside['p99']:.1f}" if inside else ""
        processor = "" if run["processor_share"] is None else f"{run['processor_share']:.2f}"
        forward, share, ratio = (_both(run, name) for name in ("{}_ms", "output_times_{}", "inside_to_{}"))
        keypoints = "" if run["keypoints"] is None else f"{run['keypoints']:.0f}"
        lines.append(
            f"| {run['runtime']} {run['precision']}, {run['reliability']}, {run['transport']} "
            f"| {run['camera_hz']:.0f} | {forward} | {run['sent']} | {run['answered']} | {keypoints} "
            f"| {run['output_hz']:.1f} | {share} | {through} | {within} | {ratio} | {processor} |"
        )
    return lines


def _both(run: dict[str, Any], name: str) -> str:
    """A figure by the node's forward pass, and after it by that of the published network."""
    values = [run[name.format(forward)] for forward in ("forward", "published_forward")]
    return "" if values[0] is None else " / ".join(f"{value:.2f}" for value in values)


def _load(load: Any) -> str:
    return "unknown" if load is None else f"{load[0]:.1f}"


def _device(device: str) -> str:
    return "" if device == "cpu" else f"; device {device}, but cv2.ORB and the original pipeline on the CPU"


def _threads(threads: int) -> str:
    return f", {threads} threads" if threads > 1 else ", 1 thread" if threads else ""
