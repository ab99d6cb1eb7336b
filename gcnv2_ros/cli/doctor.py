# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 doctor`: what is installed, what works, and one sentence of advice for each thing that is off."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import numpy as np

from ..errors import sentence_of
from ..transport import PROFILE_VARIABLES, TRANSPORT_VARIABLE, profile_variable

_LIBRARIES: tuple[tuple[str, str, bool, str], ...] = (
    ("numpy", "numpy", True, "pip install numpy"),
    ("cv2", "OpenCV", True, "pip install opencv-python-headless"),
    ("torch", "torch", True, "pip install torch"),
    ("safetensors", "safetensors", True, "pip install safetensors"),
    ("yaml", "PyYAML", True, "pip install PyYAML"),
    ("rclpy", "rclpy", False, "source a ROS 2 installation, or pip install 'gcnv2-ros[ros]'"),
    ("cv_bridge", "cv_bridge", False, "not needed where rosbags-image is installed"),
    ("rosbags.image", "rosbags-image", False, "pip install rosbags-image"),
    ("message_filters", "message_filters", False, "comes with a ROS 2 installation; mono mode does without"),
    ("openvino", "OpenVINO", False, "pip install 'gcnv2-ros[openvino]': the fastest runtime on Intel and AMD CPUs"),
    ("onnxruntime", "ONNX Runtime", False, "pip install 'gcnv2-ros[onnx]'"),
    ("numba", "numba", False, "pip install 'gcnv2-ros[numba]': decoding in a third of the time"),
    ("kornia", "kornia", False, "pip install 'gcnv2-ros[train]' to train with a teacher"),
    ("skimage", "scikit-image", False, "pip install 'gcnv2-ros[room]' for photographs in the synthetic room"),
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
    for module, name, needed, advice in _LIBRARIES:
        try:
            loaded = importlib.import_module(module)
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]
            text = "not installed" if missing else f"does not import: {error}"
            yield Finding("problem" if needed else "note", name, text, advice)
            continue
        except Exception as error:
            # A cv_bridge built against another NumPy raises AttributeError and worse.
            yield Finding("problem" if needed else "note", name, f"does not import: {error!r}", advice)
            continue
        yield Finding("ok", name, getattr(loaded, "__version__", "installed"))


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
    try:
        import rclpy
    except ImportError:
        yield Finding(
            "note", "ROS 2", "rclpy is not there: extraction, training and evaluation work, the node does not",
            "source a ROS 2 installation, or pip install 'gcnv2-ros[ros]'",
        )  # fmt: skip
        return
    implementation = rclpy.get_rmw_implementation_identifier()
    distribution = os.environ.get("ROS_DISTRO", "no sourced installation")
    yield Finding("ok", "ROS 2", f"{distribution}, {implementation}, domain {os.environ.get('ROS_DOMAIN_ID', '0')}")
    if implementation != "rmw_fastrtps_cpp":
        yield Finding("note", "large images", f"not checked for {implementation}", "measure with `gcnv2 demo`")
        return
    profile = next(filter(None, map(os.environ.get, PROFILE_VARIABLES)), "")
    transports = os.environ.get(TRANSPORT_VARIABLE, "")
    if profile:
        found = os.path.exists(profile)
        yield Finding(
            "ok" if found else "problem", "large images", f"Fast DDS profiles from {profile}",
            "" if found else "this file does not exist: correct or unset the variable",
        )  # fmt: skip
    elif transports.startswith("LARGE_DATA"):
        yield Finding("ok", "large images", f"{TRANSPORT_VARIABLE}={transports}")
    else:
        yield Finding(
            "note", "large images", "Fast DDS with its default transports loses most best-effort 640x480 images",
            f"set the shared-memory profile for the camera's process too, not only by the launch file: "
            f"export {profile_variable(os.environ)}=.../share/gcnv2_ros/config/fastdds/large_images.xml",
        )  # fmt: skip
