# SPDX-License-Identifier: Apache-2.0
"""The message package tf2_msgs for tests: the installed one, or one built from its single message.

ROS's generators are on the Python package index and tf2_msgs is not. It is for the processes that the tests start,
never for the test process, so that tests of a missing tf2_msgs stay true.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

import pytest

_GENERATORS = ("ament_cmake", "ament_cmake_ros_core", "rosidl_core_generators", "rosidl_default_generators")

# Wheels name a folder of the machine that built them among their headers' folders.
_CMAKE = """
cmake_minimum_required(VERSION 3.21)
project(tf2_msgs)
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(geometry_msgs REQUIRED)
get_directory_property(targets IMPORTED_TARGETS)
foreach(target ${targets})
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(folders)
    list(FILTER folders EXCLUDE REGEX "^/opt/python/")
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${folders}")
  endif()
endforeach()
rosidl_generate_interfaces(tf2_msgs "msg/TFMessage.msg" DEPENDENCIES geometry_msgs)
ament_package()
"""
_MANIFEST = """<?xml version="1.0"?>
<package format="3">
  <name>tf2_msgs</name>
  <version>0.0.0</version>
  <description>TFMessage for the tests of gcnv2_ros.</description>
  <maintainer email="nobody@example.com">nobody</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>geometry_msgs</depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""
_MESSAGE = "geometry_msgs/TransformStamped[] transforms\n"


def environment_with_tf2_msgs(folder: Path) -> dict[str, str]:
    """Variables with which a Python process has tf2_msgs; skips the test where it can neither be found nor built.

    Parameters
    ----------
    folder
        Where it is built, or has been by an earlier run; runs at the same time may share it.
    """
    if importlib.util.find_spec("tf2_msgs") is not None:
        return {}
    prefix = Path(sys.prefix)
    missing = [name for name in _GENERATORS if not (prefix / "share" / name / "cmake").is_dir()]
    if missing:
        pytest.skip(f"tf2_msgs is not installed, and {missing[0]}, to build it, neither (the extra 'test' has it)")
    install = folder / _fingerprint()
    if not install.is_dir():
        for program, package in (("cmake", "cmake"), ("make", "make"), ("g++", "g++")):
            if shutil.which(program) is None:
                pytest.skip(f"tf2_msgs is not installed, and to build it there is no {program} (Debian: {package})")
        if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
            pytest.skip(
                "tf2_msgs is not installed, and to build it there are no headers of Python (Debian: python3-dev)"
            )
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            # Whole or not at all: nobody sees a build that is under way or was broken off.
            _move(_built(Path(scratch)), install)
    python = next(install.glob("lib/python*/site-packages"))
    return {
        "PYTHONPATH": _before(python, "PYTHONPATH"),
        "LD_LIBRARY_PATH": _before(install / "lib", "LD_LIBRARY_PATH"),
    }


def folder_for_tf2_msgs(config: pytest.Config, otherwise: Path) -> Path:
    """Where it is kept from one run to the next; `otherwise` where pytest keeps nothing."""
    cache = getattr(config, "cache", None)
    try:
        return otherwise if cache is None else cache.mkdir("tf2_msgs")
    except OSError:
        return otherwise


def _fingerprint() -> str:
    """A name for all that the built package depends on."""
    libraries = sorted(
        f"{found.name} {found.version}"
        for found in metadata.distributions()
        if found.name.lower().replace("_", "-").startswith(("ros-", "rosidl-"))
    )
    content = [_CMAKE, _MANIFEST, _MESSAGE, sys.prefix, str(sysconfig.get_config_var("EXT_SUFFIX")), *libraries]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]


def _built(folder: Path) -> Path:
    """Build and install it in an empty folder; returns where to."""
    source, build, install = folder / "source", folder / "build", folder / "install"
    prefix = Path(sys.prefix)
    (source / "msg").mkdir(parents=True)
    (source / "CMakeLists.txt").write_text(_CMAKE)
    (source / "package.xml").write_text(_MANIFEST)
    (source / "msg" / "TFMessage.msg").write_text(_MESSAGE)
    configure = ["-S", source, "-B", build, f"-DCMAKE_INSTALL_PREFIX={install}", "-DBUILD_TESTING=OFF"]
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": str(prefix),
        "CMAKE_PREFIX_PATH": str(prefix),
        "PATH": os.pathsep.join([str(prefix / "bin"), os.environ.get("PATH", "")]),
    }
    for arguments in (
        [*configure, f"-DPython3_EXECUTABLE={sys.executable}"],
        ["--build", build, "--parallel", "2"],
        ["--install", build],
    ):
        done = subprocess.run(["cmake", *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"tf2_msgs could not be built:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return install


def _move(built: Path, install: Path) -> None:
    try:
        built.rename(install)
    except OSError:
        # Another run was faster, and its build is as good.
        if not install.is_dir():
            raise


def _before(path: Path, variable: str) -> str:
    return os.pathsep.join([str(path), *filter(None, [os.environ.get(variable)])])
