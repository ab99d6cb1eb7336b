# SPDX-License-Identifier: Apache-2.0
"""ORB-SLAM3 on the same frames, as the system to compare with: RGB-D or stereo, through pyorbslam3, in its own process.

Campos, Elvira, Rodriguez, Montiel, Tardos, "ORB-SLAM3: An Accurate Open-Source Library for Visual, Visual-Inertial and
Multi-Map SLAM", T-RO 2021.
"""

from __future__ import annotations

import importlib.util
import json
import lzma
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependencyError
from ..geometry import pose_from_quaternion
from ..sequences import Sequence as FrameSequence
from .comparison import Comparison
from .homography import EvaluationError
from .odometry_runs import Run
from .recording import Progress, Recording
from .trajectory import score_trajectory

NAME = "ORB-SLAM3"
# Virtual baseline of a structured-light camera, in metres: where close points end (times 40).
_RGBD_BASELINE = 0.08
_NEAREST_SECONDS = 1e-3
_START_SECONDS = 1.0


def check_orbslam3(vocabulary: Path) -> None:
    """Make sure that ORB-SLAM3 can be run.

    Raises
    ------
    MissingDependencyError
        If pyorbslam3 is not installed.
    EvaluationError
        If there is no vocabulary file.
    """
    if importlib.util.find_spec("pyorbslam3") is None:
        raise MissingDependencyError("pyorbslam3", "ORB-SLAM3 (GPL-3.0)", "pip install pyorbslam3")
    if not vocabulary.is_file():
        raise EvaluationError(
            f"there is no vocabulary {vocabulary}; ORB-SLAM3 needs one in DBoW2's text format, such as its "
            "own ORBvoc.txt"
        )


def with_orbslam3(
    comparison: Comparison, sequence: FrameSequence, vocabulary: Path, *, progress: Progress | None = None
) -> Comparison:
    """The comparison with a run of ORB-SLAM3 on the same frames, or with a note on why there is none."""
    try:
        run = run_orbslam3(sequence, comparison.recording, vocabulary, progress=progress)
    except EvaluationError as error:
        comparison.recording.notes.append(f"no {NAME}: {error}")
        return comparison
    return replace(comparison, systems={**comparison.systems, NAME: run})


def run_orbslam3(
    sequence: FrameSequence, recording: Recording, vocabulary: Path, *, progress: Progress | None = None
) -> Run:
    """Run ORB-SLAM3 on the frames of a recording, at the pace of their stamps.

    It takes no features from outside: this compares whole systems. Poses are those of its map in the end. It runs
    several threads of its own, so that no two runs are the same.

    Parameters
    ----------
    sequence
        Gives the frames.
    recording
        Of the same sequence.
    vocabulary
        DBoW2 text file for ORB descriptors, or that compressed with xz.
    progress
        Called with the number of frames sent and their total.

    Raises
    ------
    EvaluationError
        If the sequence is neither RGB-D nor rectified stereo, its lens is not known to ORB-SLAM3, or it failed.
    MissingDependencyError
        If pyorbslam3 is not installed.
    """
    check_orbslam3(vocabulary)
    if recording.depth_source == "none" or recording.camera is None:
        raise EvaluationError("it needs a calibrated camera with depth or a rectified right image")
    with tempfile.TemporaryDirectory(prefix="gcnv2_orbslam3_") as name:
        folder = Path(name)
        if vocabulary.suffix == ".xz":
            with lzma.open(vocabulary) as packed, (folder / "vocabulary.txt").open("wb") as plain:
                shutil.copyfileobj(packed, plain)
            vocabulary = folder / "vocabulary.txt"
        (folder / "settings.yaml").write_text(_settings(recording), encoding="ascii")
        with (folder / "log.txt").open("w+b") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gcnv2_ros.evaluation.orbslam3_runner", str(vocabulary.resolve()),
                 str(folder / "settings.yaml"), name],
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                _send(process, sequence, recording, progress)
            finally:
                code = process.wait()
            if code or not (folder / "trajectory.txt").is_file():
                log.seek(0)
                last = " | ".join(log.read().decode(errors="replace").strip().splitlines()[-4:])
                raise EvaluationError(f"its process ended with exit code {code}; it printed last: {last}")
        seconds = json.loads((folder / "frames.json").read_text())["seconds"]
        poses = _poses(folder / "trajectory.txt", recording)
    return Run(
        label=NAME,
        stamps_ns=recording.stamps_ns,
        poses=poses,
        scores=score_trajectory(recording.stamps_ns, poses, recording.truth),
        milliseconds=1e3 * float(np.mean(seconds)),
    )


def _seconds(recording: Recording) -> NDArray[np.float64]:
    """Times as they are sent: small numbers, since the trajectory comes back with six decimals."""
    return _START_SECONDS + (recording.stamps_ns - recording.stamps_ns[0]) / 1e9


def _send(process: subprocess.Popen, sequence: FrameSequence, recording: Recording, progress: Progress | None) -> None:
    width, height = recording.image_size
    sensor = "rgbd" if recording.depth_source == "image" else "stereo"
    count = len(recording.stamps_ns)
    pipe = process.stdin
    if pipe is None:
        raise EvaluationError("its process has no standard input")
    try:
        header = {"width": width, "height": height, "sensor": sensor, "count": count}
        pipe.write(json.dumps(header).encode("ascii") + b"\n")
        for index, stamp in enumerate(_seconds(recording)):
            frame = sequence[index]
            other: NDArray | None = frame.depth if sensor == "rgbd" else frame.right_gray
            if other is None or other.shape != frame.gray.shape:
                raise EvaluationError(f"frame {index} has no {sensor} image of the camera's size")
            if sensor == "rgbd":
                other = np.nan_to_num(other, nan=0.0)
            pipe.write(np.float64(stamp).tobytes() + np.ascontiguousarray(frame.gray).tobytes() + other.tobytes())
            if progress is not None:
                progress(index + 1, count)
        pipe.close()
    except BrokenPipeError:
        # The process has ended; its exit code and last words say why.
        return
    except BaseException:
        process.kill()
        raise


def _settings(recording: Recording) -> str:
    """ORB-SLAM3's settings (file version 1.0), with its own defaults for everything but the camera."""
    camera = recording.camera
    if camera is None:
        raise EvaluationError("it needs a calibration")
    stereo = recording.depth_source == "stereo"
    if camera.model not in ("none", "plumb_bob") or (stereo and any(camera.coefficients)):
        raise EvaluationError(f"it takes pinhole images and plumb_bob lenses, not {camera.model}; rectify the images")
    names = ("k1", "k2", "p1", "p2", "k3")
    lens = dict(zip(names, (*camera.coefficients, 0.0, 0.0, 0.0, 0.0, 0.0)))
    rate = 1e9 / float(np.median(np.diff(recording.stamps_ns)))
    values: dict[str, object] = {
        "File.version": '"1.0"',
        "Camera.type": '"Rectified"' if stereo else '"PinHole"',
        "Camera1.fx": camera.fx,
        "Camera1.fy": camera.fy,
        "Camera1.cx": camera.cx,
        "Camera1.cy": camera.cy,
        **({} if stereo else {f"Camera1.{name}": float(value) for name, value in lens.items()}),
        "Camera.width": camera.width,
        "Camera.height": camera.height,
        "Camera.fps": max(1, round(rate)),
        "Camera.RGB": 1,
        "Stereo.ThDepth": 40.0,
        "Stereo.b": float(recording.baseline or _RGBD_BASELINE),
        "RGBD.DepthMapFactor": 1.0,
        "ORBextractor.nFeatures": 1000,
        "ORBextractor.scaleFactor": 1.2,
        "ORBextractor.nLevels": 8,
        "ORBextractor.iniThFAST": 20,
        "ORBextractor.minThFAST": 7,
        "Viewer.KeyFrameSize": 0.05,
        "Viewer.KeyFrameLineWidth": 1.0,
        "Viewer.GraphLineWidth": 0.9,
        "Viewer.PointSize": 2.0,
        "Viewer.CameraSize": 0.08,
        "Viewer.CameraLineWidth": 3.0,
        "Viewer.ViewpointX": 0.0,
        "Viewer.ViewpointY": -0.7,
        "Viewer.ViewpointZ": -3.5,
        "Viewer.ViewpointF": 500.0,
    }
    # OpenCV reads a number as real only if it is written with a point.
    lines = (f"{key}: {f'{value:.10f}' if isinstance(value, float) else value}" for key, value in values.items())
    return "%YAML:1.0\n" + "\n".join(lines) + "\n"


def _poses(path: Path, recording: Recording) -> NDArray[np.float64]:
    """The saved poses at the recording's frames, NaN where there is none."""
    poses = np.full((len(recording.stamps_ns), 4, 4), np.nan)
    times = _seconds(recording)
    for line in path.read_text(encoding="ascii").splitlines():
        values = [float(number) for number in line.split()]
        index = int(np.argmin(np.abs(times - values[0])))
        if abs(times[index] - values[0]) < _NEAREST_SECONDS and np.isfinite(values).all():
            poses[index] = pose_from_quaternion(values[1:4], values[4:8])
    return poses
