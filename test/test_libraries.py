# SPDX-License-Identifier: Apache-2.0
"""Optional libraries: which sentence there is for one that is not installed, and for one that is broken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gcnv2_ros.camera import Camera
from gcnv2_ros.cli.main import main
from gcnv2_ros.colmap import load_pycolmap
from gcnv2_ros.errors import MissingDependencyError
from gcnv2_ros.evaluation.tables import plot_results
from gcnv2_ros.extraction import ExtractorOptions, create_extractor
from gcnv2_ros.libraries import LibraryError, import_library
from gcnv2_ros.odometry import Odometry
from gcnv2_ros.sequences import open_sequence
from gcnv2_ros.sequences.bag_writer import write_bag
from gcnv2_ros.sequences.pictures import packaged_photographs
from gcnv2_ros.training.picture_filters import decode
from gcnv2_ros.visualisation import RerunView

BROKEN = (
    "raise ImportError('libtbb.so.12: cannot open shared object file')",
    "import a_module_that_it_needs",
    "raise AttributeError('_ARRAY_API not found')",
)


def write_small_bag() -> None:
    write_bag(open_sequence("room:frames=1,width=64,height=48"), Path("new.mcap"))


def read_bag() -> object:
    Path("old.bag").write_bytes(b"#ROSBAG V2.0\n")
    return open_sequence("old.bag")


USES: dict[str, tuple[str, Callable[[], object]]] = {
    "odometry": ("gtsam", lambda: Odometry(Camera(64, 48, 50.0, 50.0, 32.0, 24.0))),
    "COLMAP": ("pycolmap", load_pycolmap),
    "view": ("rerun", lambda: RerunView(Path("x.rrd"))),
    "plot": ("matplotlib", lambda: plot_results({}, Path("x.png"))),
    "ALIKED": ("kornia", lambda: create_extractor(ExtractorOptions(model="aliked-n16"))),
    "photographs": ("skimage", packaged_photographs),
    "picture": ("PIL", lambda: decode(b"no picture", "a.dds")),
    "reading a bag": ("rosbags", read_bag),
    "writing a bag": ("rosbags", write_small_bag),
}


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], None]:
    """Puts in the place of a library what fails when it is imported; None: nothing, as if it were not installed."""
    monkeypatch.chdir(tmp_path)

    def put(name: str, content: str | None) -> None:
        for module in list(sys.modules):
            if module.partition(".")[0] == name:
                monkeypatch.delitem(sys.modules, module)
        if content is None:
            monkeypatch.setitem(sys.modules, name, None)
        else:
            (tmp_path / f"{name}.py").write_text(content + "\n")
            monkeypatch.syspath_prepend(tmp_path)

    return put


@pytest.mark.parametrize("use", USES)
def test_a_library_that_is_not_installed_is_said_to_be_missing(
    use: str, put: Callable[[str, str | None], None]
) -> None:
    library, run = USES[use]
    put(library, None)
    with pytest.raises(MissingDependencyError, match=rf"needs the Python library '{library}'; install it with: \S+"):
        run()


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("failure", BROKEN)
def test_a_library_that_is_broken_is_not_said_to_be_missing(
    use: str, failure: str, put: Callable[[str, str | None], None]
) -> None:
    library, run = USES[use]
    put(library, failure)
    expected = rf"needs the Python library '{library}', which is installed and cannot be imported \("
    with pytest.raises(LibraryError, match=expected):
        run()


def test_what_a_library_lacks_is_named(put: Callable[[str, str | None], None]) -> None:
    put("broken_library", BROKEN[1])
    with pytest.raises(LibraryError, match=r"Error: No module named 'a_module_that_it_needs'\); reinstall"):
        import_library("broken_library", "this test", "pip install nothing")


@pytest.mark.parametrize("command", ["demo --out out", "replay room:frames=1", "view --live --out x.rrd"])
@pytest.mark.parametrize(("failure", "sentence"), [(None, "install it with"), (BROKEN[0], "cannot be imported")])
def test_commands_that_need_ros_say_so(
    command: str,
    failure: str | None,
    sentence: str,
    put: Callable[[str, str | None], None],
    capsys: pytest.CaptureFixture,
) -> None:
    put("rclpy", failure)
    assert main(command.split()) == 1
    error = capsys.readouterr().err
    assert "needs the Python library 'rclpy'" in error
    assert sentence in error
