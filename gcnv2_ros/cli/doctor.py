# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 doctor`: what is installed, what works, and one sentence of advice for each thing that is off."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import numpy as np

from ..errors import GCNv2Error, sentence_of
from ..transport import PROFILE_VARIABLES, TRANSPORT_VARIABLE, large_images
from .common import ROS_ADVICE

# Fast DDS has no ports for more.
_LAST_DOMAIN = 232
_APART_SECONDS = 60.0
# What ROS puts before a line of its log, but for the name of who wrote it.
_LOG_HEAD = re.compile(r"^\[[A-Z]+\] \[[\d.]+\] ")


@dataclass(frozen=True)
class Library:
    """A library that the package works with.

    Attributes
    ----------
    module, name
        As Python and as people call it.
    advice
        How to get it and, where it is not needed by everything, what it is for.
    needed
        Nothing works without it.
    apart
        Imported in a process of its own: it imports rclpy, which ends the process if a variable is wrong.
    """

    module: str
    name: str
    advice: str
    needed: bool = False
    apart: bool = False


_LIBRARIES: tuple[Library, ...] = (
    Library("numpy", "numpy", "pip install numpy", needed=True),
    Library("cv2", "OpenCV", "pip install opencv-python-headless", needed=True),
    Library("torch", "torch", "pip install torch", needed=True),
    Library("safetensors", "safetensors", "pip install safetensors", needed=True),
    Library("yaml", "PyYAML", "pip install PyYAML", needed=True),
    Library("cv_bridge", "cv_bridge", "not needed where rosbags-image is installed"),
    Library("rosbags.image", "rosbags-image", "pip install rosbags rosbags-image (extra bags): bags, colour images"),
    Library(
        "message_filters",
        "message_filters",
        "comes with a ROS 2 installation; without it the package's own synchroniser serves in all modes",
        apart=True,
    ),
    Library(
        "tf2_msgs",
        "tf2_msgs",
        "apt install ros-$ROS_DISTRO-tf2-msgs: /tf of gcnv2_odometry, `upright: tf`; it is on no package index",
    ),
    Library(
        "openvino",
        "OpenVINO",
        "pip install onnx openvino (extra openvino): the fastest runtime on Intel and AMD CPUs",
    ),
    Library("onnxruntime", "ONNX Runtime", "pip install onnx onnxruntime (extra onnx): a runtime for CPU and CUDA"),
    Library("numba", "numba", "pip install numba (extra numba): decoding in a third of the time"),
    Library("gtsam", "gtsam", "pip install gtsam (extra odometry): gcnv2_odometry, and the odometry of gcnv2 evaluate"),
    Library("evo", "evo", "pip install evo (extra evaluate): errors of trajectories in gcnv2 evaluate"),
    Library("matplotlib", "matplotlib", "pip install matplotlib (extra evaluate): charts of what is measured"),
    Library("pycolmap", "pycolmap", "pip install pycolmap (extra colmap): gcnv2 colmap"),
    Library("rerun", "Rerun", "pip install rerun-sdk (extra view): gcnv2 view"),
    Library("kornia", "kornia", "pip install kornia (extra train): training with a teacher"),
    Library("skimage", "scikit-image", "pip install scikit-image (extra room): photographs in the synthetic room"),
)

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report: `advice` is empty where there is nothing to do."""

    verdict: Verdict
    subject: str
    text: str
    advice: str = ""


def add_parsers(subparsers: Any) -> None:
    """Add `doctor`."""
    parser = subparsers.add_parser("doctor", help="check the installation, the runtimes and the middleware")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 if one of them is a problem."""
    worst = 0
    marks = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}
    for check in (check_versions, check_libraries, check_inference, check_middleware):
        for finding in check():
            print(f"{marks[finding.verdict]} {finding.subject}: {finding.text}")
            if finding.advice:
                print(f"        -> {finding.advice}")
            worst |= finding.verdict == "problem"
            sys.stdout.flush()
    return int(worst)


def check_versions() -> Iterator[Finding]:
    """Python, the machine, and this package."""
    try:
        version = metadata.version("gcnv2_ros")
    except metadata.PackageNotFoundError:
        version = "not installed (run from its source)"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("ok", "gcnv2_ros", version)
    good = sys.version_info >= (3, 10)
    yield Finding(
        "ok" if good else "problem",
        "Python",
        f"{platform.python_version()} on {platform.machine()}, {cores} cores",
        "" if good else "Python 3.10 or newer is needed",
    )


def check_libraries() -> Iterator[Finding]:
    """Every library, imported for real: a library can be installed and still fail to load."""
    for library in _LIBRARIES:
        verdict: Verdict = "problem" if library.needed else "note"
        if not _is_there(library.module):
            yield Finding(verdict, library.name, "not installed", library.advice)
            continue
        try:
            if library.apart:
                version = _run_apart(f"import {library.module}") or "installed"
            else:
                version = getattr(importlib.import_module(library.module), "__version__", "installed")
        except Exception as error:
            # A cv_bridge built against another NumPy raises AttributeError and worse.
            text = str(error) if isinstance(error, ImportError | GCNv2Error) else repr(error)
            yield Finding(verdict, library.name, f"does not import: {text}", library.advice)
            continue
        yield Finding("ok", library.name, version)


def _is_there(module: str) -> bool:
    """Whether a module is installed; it is not run."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        # A package that it is in is missing or broken.
        return importlib.util.find_spec(module.split(".")[0]) is not None


class _ProcessError(GCNv2Error):
    """A process of its own that ended badly."""


def _run_apart(code: str) -> str:
    """What some Python prints in a process of its own, which rclpy and the middleware may end as they like."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=_APART_SECONDS)
    if result.returncode:
        last = next(filter(None, reversed(result.stderr.splitlines())), "without a word")
        raise _ProcessError(f"Python ends with exit code {result.returncode}: {_LOG_HEAD.sub('', last)}")
    return result.stdout.strip()


def check_inference() -> Iterator[Finding]:
    """Each model on each device: build it, run it on a real-sized image, time it."""
    try:
        import torch

        from ..extraction import ExtractorOptions, create_extractor
        from ..weights import shipped_models
    except Exception as error:
        # A library that is installed and broken raises anything.
        yield Finding("problem", "inference", f"cannot be tried: {error}", "install the libraries named above")
        return
    devices = ["cpu"] + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 255, (60, 80)), np.ones((8, 8))).astype(np.uint8)
    models = [("orb", "cpu")] + [(model, device) for model in shipped_models() for device in devices]
    if len(models) == 1:
        yield Finding(
            "problem", "weights", "the package ships none for any network", "train some with `gcnv2 train`, or convert"
        )
    for model, device in models:
        try:
            with create_extractor(ExtractorOptions(model=model, device=device)) as extractor:
                extractor.extract(image)
                durations = [_timed(lambda: extractor.extract(image)) for _ in range(5)]
                info = extractor.info
                text = f"{1e3 * float(np.median(durations)):.1f} ms for 640x480 ({info.runtime}, {info.precision})"
            yield Finding("ok", f"{model} on {device}", text)
        except Exception as error:
            # A CUDA device that this torch has no code for fails at the first call, with an error of torch's own.
            yield Finding("problem", f"{model} on {device}", sentence_of(error), "choose another model or device")


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def check_middleware() -> Iterator[Finding]:
    """ROS 2, and whether large images will pass between processes."""
    if not _is_there("rclpy"):
        yield Finding(
            "note",
            "ROS 2",
            "rclpy is not there: extraction, training and evaluation work, the node does not",
            ROS_ADVICE,
        )
        return
    try:
        implementation = _run_apart("import rclpy; print(rclpy.get_rmw_implementation_identifier())")
    except (_ProcessError, subprocess.TimeoutExpired) as error:
        chosen = os.environ.get("RMW_IMPLEMENTATION", "")
        yield Finding(
            "problem",
            "ROS 2",
            f"rclpy does not import: {error}",
            f"RMW_IMPLEMENTATION is {chosen!r}: install that middleware, or unset the variable" if chosen else "",
        )
        return
    distribution = os.environ.get("ROS_DISTRO", "no sourced installation")
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    yield Finding("ok", "ROS 2", f"{distribution}, {implementation}, domain {domain}")
    if not (domain.isascii() and domain.isdecimal() and int(domain) <= _LAST_DOMAIN):
        yield Finding(
            "problem",
            "ROS domain",
            f"ROS_DOMAIN_ID is {domain!r}, expected an integer from 0 to {_LAST_DOMAIN}",
            "correct or unset the variable: no node starts with it",
        )
    yield _large_images(implementation)


def _large_images(implementation: str) -> Finding:
    if implementation != "rmw_fastrtps_cpp":
        return Finding("note", "large images", f"not checked for {implementation}", "measure with `gcnv2 demo`")
    profile = next(filter(None, map(os.environ.get, PROFILE_VARIABLES)), "")
    transports = os.environ.get(TRANSPORT_VARIABLE, "")
    if profile:
        found = os.path.exists(profile)
        return Finding(
            "ok" if found else "problem",
            "large images",
            f"Fast DDS profiles from {profile}",
            "" if found else "this file does not exist: correct or unset the variable",
        )
    if transports.startswith("LARGE_DATA"):
        return Finding("ok", "large images", f"{TRANSPORT_VARIABLE}={transports}")
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in large_images(os.environ).items())
    return Finding(
        "note",
        "large images",
        "Fast DDS with its default transports loses most best-effort 640x480 images",
        f"set the shared-memory profile for the camera's process too, not only by the launch file: export {settings}",
    )
