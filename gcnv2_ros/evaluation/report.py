# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page of an evaluation: verdict, tables, charts, keypoints and matches on frames."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..drawing import draw_keypoints, draw_matches
from ..files import atomic_write
from ..matching import match
from .charts import colours_of, interval_chart, line_chart, stage_chart, trajectory_chart
from .comparison import Comparison, verdict
from .correspondence import GAP, judged_matches
from .jackknife import BLOCK_FRAMES
from .odometry_runs import OdometryRow
from .page import CSS, figure, grid, table
from .pose import CURVE_DEGREES, CURVE_METRES, GAPS, SUCCESS_DEGREES, SUCCESS_METRES
from .pose import DRAWS as POSE_DRAWS
from .recording import STAGES
from .trajectory import RPE_FRAMES

_SHOWN_PAIRS = 2
_PICTURE_WIDTH = 560
_WITHIN = f"within {SUCCESS_DEGREES:g}&deg; and {100 * SUCCESS_METRES:g} cm"
_VERDICTS = {
    "better": "better than {}",
    "worse": "worse than {}",
    "tie": "no difference from {} that this sequence can show",
}


def write_report(path: Path, comparisons: Sequence[Comparison], settings: Mapping[str, Any]) -> None:
    """Write the page.

    Parameters
    ----------
    path
        HTML file.
    comparisons
        One a sequence.
    settings
        ``date``, ``max_keypoints``, ``reference``, ``frontends`` (label to a description) and ``machine``.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    labels = list(dict.fromkeys(label for comparison in comparisons for label in comparison.scores))
    systems = list(dict.fromkeys(name for comparison in comparisons for name in comparison.systems))
    colours = colours_of([*labels, *systems])
    parts = [
        _section(comparison, colours, settings["reference"], number) for number, comparison in enumerate(comparisons)
    ]
    contents = "".join(
        f'<a href="#sequence-{number}">{html.escape(comparison.recording.name)}</a>'
        for number, comparison in enumerate(comparisons)
    )
    frontends = "".join(
        f'<li><i style="background:{colours[label]}"></i><b>{html.escape(label)}</b> {html.escape(text)}</li>'
        for label, text in (settings["frontends"] | dict.fromkeys(systems, "a SLAM system of its own")).items()
    )
    atomic_write(
        path,
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Frontends compared: {html.escape(", ".join(labels))}</title><style>{CSS}</style></head><body>
<header><h1>Frontends compared</h1>
<p class="meta">{html.escape(settings["date"])} &middot; {settings["max_keypoints"]} keypoints an image &middot;
{html.escape(settings["machine"])}</p>
<ul class="legend">{frontends}</ul><nav>{contents}</nav></header>
<main>{"".join(parts)}{_PROTOCOL}</main></body></html>
""",
    )


def _section(comparison: Comparison, colours: Mapping[str, str], reference: str, number: int) -> str:
    recording = comparison.recording
    seconds = (recording.stamps_ns[-1] - recording.stamps_ns[0]) / 1e9
    width, height = recording.image_size
    depth = {"image": "depth images", "stereo": "depth from stereo", "none": "no depth"}[recording.depth_source]
    truth = "ground truth" if recording.has_truth else "no ground truth"
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in recording.notes)
    return f"""<section id="sequence-{number}">
<h2>{html.escape(recording.name)}</h2>
<p class="meta">{len(recording.stamps_ns)} frames, {seconds:.1f} s, {width}x{height}, {depth}, {truth}</p>
{f'<ul class="notes">{notes}</ul>' if notes else ""}
{_cards(comparison, colours, reference)}
{_pose_part(comparison, colours, reference)}
{_matching_part(comparison, colours, reference)}
{_odometry_part(comparison, colours, reference)}
{_pictures_part(comparison, colours)}
</section>"""


def _cards(comparison: Comparison, colours: Mapping[str, str], reference: str) -> str:
    """The verdict on each frontend in one line each."""
    cards = []
    for label, entry in comparison.scores.items():
        pose = entry.get("pose")
        head = f"{pose['success']:.1%}" if pose else f"{entry['matching']['matches']:.0f}"
        what = f"of frame pairs {_WITHIN}" if pose else "matches between frames"
        difference = pose.get("difference", {}).get("success") if pose else None
        kind = verdict(difference)
        text = "the reference" if label == reference else ""
        if difference and kind:
            text = (
                f"{_VERDICTS[kind].format(reference)}: {difference['mean']:+.3f} "
                f"[{difference['low']:+.3f}, {difference['high']:+.3f}]"
            )
        cards.append(
            f'<div class="card {kind}" style="border-top-color:{colours[label]}"><b>{html.escape(label)}</b>'
            f'<span class="figure">{head}</span><span>{what}</span><em>{html.escape(text)}</em></div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _pose_part(comparison: Comparison, colours: Mapping[str, str], reference: str) -> str:
    poses = {label: entry["pose"] for label, entry in comparison.scores.items() if "pose" in entry}
    if not poses:
        return ""
    rows = []
    for label, pose in poses.items():
        difference = pose.get("difference", {})
        rows.append(
            [
                _name(label, colours),
                f"{pose['success']:.3f}",
                _difference(difference.get("success")),
                f"{pose['area']:.3f}",
                _difference(difference.get("area")),
                f"{pose['matches']:.0f}",
                f"{pose['inliers']:.0f}",
                f"{pose['inlier ratio']:.2f}",
            ]
        )
    against = html.escape(reference)
    heading = ["frontend", "success", f"difference from {against}", "area", f"difference from {against}", "matches"]
    charts = []
    intervals = {
        label: tuple(pose["difference"]["success"][key] for key in ("mean", "low", "high"))
        for label, pose in poses.items()
        if "difference" in pose
    }
    if intervals:
        charts.append(
            interval_chart(
                intervals,  # type: ignore[arg-type]
                colours,
                title=f"Success: difference from {reference}, 95% interval",
                x_label=f"worse than {reference}  |  better",
            )
        )
    gaps = {
        label: ([int(gap) for gap in pose["by gap"]], list(pose["by gap"].values())) for label, pose in poses.items()
    }
    charts.append(
        line_chart(gaps, colours, title="Success against the gap", x_label="frames between the two", y_label="success",
                   marker="o", top=1.03)
    )  # fmt: skip
    if max(len(pose["by roll"]) for pose in poses.values()) > 1:
        rolls = {
            label: (
                [int(name.split("-")[0]) + 7.5 for name in pose["by roll"]],
                [entry["success"] for entry in pose["by roll"].values()],
            )
            for label, pose in poses.items()
        }
        charts.append(
            line_chart(rolls, colours, title="Success against the true roll between the two",
                       x_label="roll, degrees (classes of 15)", y_label="success", marker="o", top=1.03)
        )  # fmt: skip
    pairs = next(iter(poses.values()))["pairs"]
    return f"""<h3>Relative pose <small>the primary score</small></h3>
<p>{pairs} pairs of frames, {min(GAPS)} to {max(GAPS)} frames apart: mutual nearest neighbours, PnP on the first frame's
depth, the same for all, {POSE_DRAWS} estimates a pair. Success: {_WITHIN} of the truth. Area: under the success curve
up to {CURVE_DEGREES:g}&deg; and {100 * CURVE_METRES:g} cm. Brackets: 95% interval of the paired difference, by
jackknife over blocks of {BLOCK_FRAMES} frames; where it holds zero, it is a tie.</p>
{table([*heading, "inliers", "inlier ratio"], rows)}{grid(charts)}"""


def _matching_part(comparison: Comparison, colours: Mapping[str, str], reference: str) -> str:
    scores = comparison.scores
    heading = ["frontend", "keypoints", "matches", "epipolar inliers", "ms a frame (p95)"]
    judged = all("correspondence" in entry for entry in scores.values())
    stereo = all("stereo" in entry for entry in scores.values())
    if judged:
        heading += [
            "repeatability 3 px",
            "accuracy 3 px",
            "accuracy 5 px",
            f"accuracy 3 px less {html.escape(reference)}'s",
        ]
    if stereo:
        heading += ["stereo: same row", "stereo: matches", "stereo: depths"]
    rows = []
    for label, entry in scores.items():
        row = [
            _name(label, colours),
            f"{entry['keypoints']:.0f}",
            f"{entry['matching']['matches']:.0f}",
            f"{entry['matching']['inlier ratio']:.2f}",
            f"{entry['milliseconds']['total']:.1f} ({entry['milliseconds']['p95']:.1f})",
        ]
        if judged:
            known = entry["correspondence"]
            row += [f"{known[name]['mean']:.3f}" for name in ("repeatability@3", "MMA@3", "MMA@5")]
            row.append(_difference(known.get("difference", {}).get("MMA@3")))
        if stereo:
            values = entry["stereo"]
            row += [f"{values['row share']:.2f}", f"{values['row matches']:.0f}", f"{values['with depth']:.0f}"]
        rows.append(row)
    rolls = {
        label: ([int(roll) for roll in entry["roll"]], [value["matching share"] for value in entry["roll"].values()])
        for label, entry in scores.items()
    }
    milliseconds = [entry["milliseconds"] for entry in scores.values()]
    stages = {
        label: {stage: values[stage] for stage in STAGES} for label, values in zip(scores, milliseconds, strict=True)
    }
    charts = [
        line_chart(rolls, colours, title="Matching under roll", x_label="roll of the image, degrees",
                   y_label="correct matches / keypoints", marker="o", x_ticks=range(0, 181, 30)),
        stage_chart(stages, colours, title="Time by stage (median)"),
    ]  # fmt: skip
    sentence = (
        "Matches and epipolar inliers: medians of pairs of frames, mutual nearest neighbours. Repeatability and "
        "accuracy: against depth and ground truth, whose own error is within them; differences are what counts. "
        if judged
        else "Matches and epipolar inliers: medians of pairs of frames, mutual nearest neighbours. "
    )
    return f"""<h3>Keypoints and matches</h3>
<p>{sentence}Under roll: frames turned about their middle, with photometric change, correct within 3 px. Times are those
of this run, with whatever else the machine was doing.</p>
{table(heading, rows)}{grid(charts)}"""


def _odometry_part(comparison: Comparison, colours: Mapping[str, str], reference: str) -> str:
    if comparison.odometry_note:
        return f"<h3>Odometry</h3><ul class='notes'><li>{html.escape(comparison.odometry_note)}</li></ul>"
    if not comparison.runs and not comparison.systems:
        return ""
    heading = ["", "tracked", "losses", "ATE, m", f"difference from {html.escape(reference)}", "RPE, m", "RPE, deg"]
    heading += ["inliers / matches", "ms a frame"]
    # Without ground truth, the drift of a camera that stands still is what is left to see.
    still = not comparison.recording.has_truth
    if still:
        heading[3:7] = ["RMS distance from the mean position, m"]
    rows = [_odometry_row(row, colours, still=still) for row in comparison.odometry_rows()]
    count = max((len(runs) for runs in comparison.runs.values()), default=1)
    return f"""<h3>Odometry <small>a gate, not a ranking</small></h3>
<p>The package's reference odometry on the features alone, {count} run{"s" * (count != 1)} that start{
        "s" * (count == 1)
    } a
frame apart; in brackets lowest and highest. ATE: RMS over the tracked frames after SE(3) alignment. RPE: RMS over
{RPE_FRAMES} frames. Losses, and frames without a pose, count by themselves: an ATE beside a tracked share below 100% is
that of the easier part. The ATE of an odometry does not rank features: it saturates, and hides what the relative pose
shows.{
        " ORB-SLAM3 uses features of its own and runs threads of its own: its figures change from run to run."
        if comparison.systems
        else ""
    }</p>
{table(heading, rows)}{grid(_odometry_charts(comparison, colours))}"""


def _odometry_row(row: OdometryRow, colours: Mapping[str, str], *, still: bool) -> list[str]:
    """The cells of a line; of a camera that stands `still` only its drift about the mean."""
    ate = row.ate or {}
    change = ""
    if "difference" in ate:
        change = f"{ate['difference']:+.4f}"
        if "spread" in ate:
            change += f", {'more than' if ate['exceeds spread'] else 'within'} the spread ({ate['spread']:.4f})"
    drift = [_ranged(row.ate), change, _mean(row.rpe_translation, 4), _mean(row.rpe_rotation, 3)]
    return [
        _name(row.name, colours),
        f"{row.tracked_share:.1%}",
        row.losses,
        *([_ranged(row.about_mean)] if still else drift),
        "" if row.inliers is None else f"{row.inliers:.0f} / {row.matches:.0f}",
        f"{row.milliseconds:.0f}",
    ]


def _odometry_charts(comparison: Comparison, colours: Mapping[str, str]) -> list[str]:
    """Trajectories and errors over time of what has ground truth, of the first runs."""
    shown = {label: runs[0].scores for label, runs in comparison.runs.items()}
    shown |= {name: run.scores for name, run in comparison.systems.items()}
    judged = {label: scores for label, scores in shown.items() if len(scores.errors)}
    if not judged:
        return []
    aligned = {label: scores.aligned for label, scores in judged.items()}
    truth = max((scores.truth for scores in judged.values()), key=len)
    errors = {label: (scores.seconds.tolist(), scores.errors.tolist()) for label, scores in judged.items()}
    return [
        trajectory_chart(aligned, truth, colours, title="Trajectories of the first run, aligned"),
        line_chart(errors, colours, title="Error over time", x_label="seconds", y_label="metres", size=(5.2, 3.6)),
    ]


def _pictures_part(comparison: Comparison, colours: Mapping[str, str]) -> str:
    recording = comparison.recording
    pairs = [
        (index, index + gap)
        for index in sorted(recording.frames)
        for gap in sorted({GAP, min(GAP, len(recording.stamps_ns) - 1)})
        if index + gap in recording.frames
    ]
    if not pairs:
        return ""
    places = np.unique(np.linspace(0, len(pairs) - 1, min(_SHOWN_PAIRS + 2, len(pairs))).astype(int))
    chosen = [pairs[place] for place in (places[1:-1] if len(places) > 2 else places)]
    figures = []
    for first, second in chosen:
        keypoints, matches = [], []
        for label, features in recording.features.items():
            frames = recording.frames[first], recording.frames[second]
            keypoints.append(
                figure(
                    draw_keypoints(frames[0].gray, features[first]),
                    f"{_name(label, colours)}: {len(features[first])} keypoints, strongest in red",
                    _PICTURE_WIDTH,
                )
            )
            found = features[first], features[second]
            right: NDArray[np.bool_] | None = None
            pairing = match(*found)
            caption = f"{len(pairing)} mutual matches"
            if recording.camera is not None and all(frame.has_truth for frame in frames):
                pairing, right = judged_matches(found, *frames, recording.camera, limit=5.0)
                good = f"{np.mean(right):.0%}" if len(right) else "none"
                caption += f"; {len(pairing)} with known truth, {good} within 5 px of it (green)"
            picture = draw_matches(frames[0].gray, frames[1].gray, *found, pairing, right=right)
            matches.append(figure(picture, f"{_name(label, colours)}: {caption}", 2 * _PICTURE_WIDTH))
        figures.append(f"<h4>Frame {first}</h4>{grid(keypoints)}<h4>Frames {first} and {second}</h4>{grid(matches)}")
    return f"<h3>Keypoints and matches on frames</h3>{''.join(figures)}"


def _name(label: str, colours: Mapping[str, str]) -> str:
    return f'<i style="background:{colours[label]}"></i>{html.escape(label)}'


def _difference(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return ""
    kind = verdict(dict(interval))
    text = f"{interval['mean']:+.3f} [{interval['low']:+.3f}, {interval['high']:+.3f}]"
    return f'{text} <span class="tag {kind}">{kind}</span>'


def _mean(summary: Mapping[str, Any] | None, digits: int) -> str:
    return "&ndash;" if summary is None else f"{summary['mean']:.{digits}f}"


def _ranged(summary: Mapping[str, Any] | None) -> str:
    """A mean, and in brackets lowest and highest where there are runs to have them."""
    text = _mean(summary, 4)
    return text if summary is None or "low" not in summary else f"{text} [{summary['low']:.4f}, {summary['high']:.4f}]"


_PROTOCOL = """<section><h2>How to read this</h2>
<p>The relative pose of pairs of frames separates features best on real data and is the score to go by. It comes with
the interval of the difference from the reference on the same pairs; a difference whose interval holds zero is a tie,
however large it looks. Measured ground truth and depth have errors of their own, a floor under every frontend alike.
The error of a whole odometry saturates and is a gate: no losses, and no worse than the reference. All frontends are
asked for the same number of keypoints, the networks without a score threshold; ORB and SIFT keep OpenCV's own limits of
contrast, and find fewer where there is little of it. The matching is the same for all.</p></section>"""
