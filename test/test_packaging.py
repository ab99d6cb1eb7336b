# SPDX-License-Identifier: Apache-2.0
"""The package as colcon and pip install it, and that everything which describes it agrees."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from gcnv2_ros.files import sha256_of

REPOSITORY = Path(__file__).resolve().parents[1]
CONTENT = (
    "package.xml", "setup.py", "setup.cfg", "pyproject.toml", "LICENSE", "README.md", "resource", "launch", "config",
    "gcnv2_ros",
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is needed to build, so that a build leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("workspace") / "src"
    folder.mkdir()
    for name in CONTENT:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def colcon_tree(source: Path) -> Path:
    """The tree that `colcon build` installs."""
    colcon = Path(sys.executable).parent / "colcon"
    if not colcon.exists():
        pytest.skip("colcon is not installed beside this Python")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        [str(colcon), "build"], cwd=source.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return source.parent / "install" / "gcnv2_ros"


def test_colcon_installs_executables_launch_config_weights_and_marker(colcon_tree: Path) -> None:
    share = colcon_tree / "share" / "gcnv2_ros"
    for executable in ("gcnv2_frontend", "gcnv2"):
        path = colcon_tree / "lib" / "gcnv2_ros" / executable
        assert path.exists()
        assert os.access(path, os.X_OK)
    assert (colcon_tree / "share/ament_index/resource_index/packages/gcnv2_ros").exists()
    assert (share / "package.xml").exists()
    for folder in ("launch", "config"):
        expected = {
            path.relative_to(REPOSITORY)
            for path in (REPOSITORY / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        installed = {path.relative_to(share) for path in (share / folder).rglob("*") if path.is_file()}
        assert installed == expected
    package = next(colcon_tree.glob("lib/python*/site-packages/gcnv2_ros"))
    manifest = json.loads((package / "weights/data/manifest.json").read_text())
    for entry in manifest["weights"].values():
        assert sha256_of(package / "weights/data" / entry["file"]) == entry["sha256"]


def test_the_installed_command_runs_from_the_colcon_tree(colcon_tree: Path, tmp_path: Path) -> None:
    site = next(colcon_tree.glob("lib/python*/site-packages"))
    result = subprocess.run(
        [sys.executable, str(colcon_tree / "lib/gcnv2_ros/gcnv2"), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "extract" in result.stdout


def test_pip_builds_a_wheel_with_all_modules_and_data(source: Path, tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path),
            ".",
        ],
        cwd=source,
        check=True,
        timeout=300,
    )
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "gcnv2_ros").rglob("*.py")}
    assert modules <= names
    for folder in ("weights", "vocabulary"):
        data = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "gcnv2_ros" / folder / "data").iterdir()}
        assert data
        assert data <= names


def test_entry_points_lead_to_functions() -> None:
    entries = [entry for entry in metadata.distribution("gcnv2_ros").entry_points if entry.group == "console_scripts"]
    assert {entry.name for entry in entries} >= {"gcnv2", "gcnv2_frontend"}
    for entry in entries:
        assert callable(getattr(importlib.import_module(entry.module), entry.attr))


def test_package_xml_is_format_3_and_names_what_the_code_imports() -> None:
    root = ElementTree.parse(REPOSITORY / "package.xml").getroot()
    assert root.get("format") == "3"
    depends = {element.text for element in root if element.tag.endswith("depend")}
    assert {"rclpy", "sensor_msgs", "std_msgs", "diagnostic_msgs", "cv_bridge", "message_filters"} <= depends
    messages = set()
    for path in (REPOSITORY / "gcnv2_ros" / "ros").glob("*.py"):
        messages |= set(re.findall(r"^\s*from (\w+_(?:msgs|interfaces))\.", path.read_text(), re.MULTILINE))
    assert messages - {"builtin_interfaces"} <= depends
    assert metadata.version("gcnv2_ros") == root.findtext("version")


def test_every_source_file_names_its_licence() -> None:
    for folder in ("gcnv2_ros", "test", "launch", "benchmarks"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            assert path.read_text().startswith("# SPDX-License-Identifier: Apache-2.0\n"), path


def test_only_the_ros_folder_imports_rclpy_and_features_imports_nothing_of_the_package() -> None:
    for path in (REPOSITORY / "gcnv2_ros").rglob("*.py"):
        folder = path.relative_to(REPOSITORY / "gcnv2_ros").parts[0]
        if folder == "ros" or path.name == "doctor.py":
            continue
        assert not re.search(r"^\s*(from|import) rclpy", path.read_text(), re.MULTILINE), path
    inner = re.findall(r"^from \.(\w+)", (REPOSITORY / "gcnv2_ros/features.py").read_text(), re.MULTILINE)
    assert set(inner) <= {"errors"}
