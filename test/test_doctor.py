# SPDX-License-Identifier: Apache-2.0
"""`gcnv2 doctor`: it names what is off, and nothing that is off ends it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gcnv2_ros import extraction
from gcnv2_ros.cli import doctor
from gcnv2_ros.cli.main import main

LIBRARIES = doctor._LIBRARIES
REPOSITORY = Path(__file__).resolve().parents[1]


def test_doctor_tries_every_shipped_model_and_reports_what_is_missing(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = doctor.Library("no_such_module", "nothing", "do without", needed=True)
    monkeypatch.setattr(doctor, "_LIBRARIES", (*doctor._LIBRARIES, nothing))
    assert main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert re.search(r"ok +orb on cpu: [\d.]+ ms", output)
    assert re.search(r"ok +gcnv2_tiny on cpu: [\d.]+ ms", output)
    assert re.search(r"PROBLEM nothing: not installed\n +-> do without", output)


def test_doctor_goes_on_after_a_device_that_fails_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    real = extraction.create_extractor

    def without_kernels(options: extraction.ExtractorOptions) -> extraction.Extractor:
        if options.model == "gcnv2_tiny":
            raise RuntimeError("no kernel image is available for execution on the device")
        return real(options)

    monkeypatch.setattr(extraction, "create_extractor", without_kernels)
    by_subject = {finding.subject: finding for finding in doctor.check_inference()}
    failed = by_subject["gcnv2_tiny on cpu"]
    assert failed.verdict == "problem"
    assert failed.text == "RuntimeError: no kernel image is available for execution on the device"
    assert by_subject["orb on cpu"].verdict == by_subject["gcnv2 on cpu"].verdict == "ok"


def test_doctor_advises_on_the_middleware(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.delenv(name, raising=False)
    by_subject = {finding.subject: finding for finding in doctor.check_middleware()}
    assert by_subject["large images"].verdict == "note"
    given = re.search(
        r"export FASTDDS_DEFAULT_PROFILES_FILE=(\S+large_images\.xml)$", by_subject["large images"].advice
    )
    assert given is not None
    assert Path(given[1]).is_file()
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    by_subject = {finding.subject: finding for finding in doctor.check_middleware()}
    assert "FASTRTPS_DEFAULT_PROFILES_FILE=" in by_subject["large images"].advice
    monkeypatch.delenv("ROS_DISTRO")
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/nowhere/profile.xml")
    by_subject = {finding.subject: finding for finding in doctor.check_middleware()}
    assert by_subject["large images"].verdict == "problem"


def test_doctor_reports_a_middleware_that_ends_the_process_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_foo")
    (finding,) = doctor.check_middleware()
    assert (finding.verdict, finding.subject) == ("problem", "ROS 2")
    assert "rmw_foo" in finding.text
    assert finding.advice == "RMW_IMPLEMENTATION is 'rmw_foo': install that middleware, or unset the variable"


def test_doctor_outlives_a_library_that_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ends_the_process.py").write_text(
        "import os, sys\nprint('why', file=sys.stderr, flush=True)\nos._exit(7)"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    library = doctor.Library("ends_the_process", "it", "do without", apart=True)
    monkeypatch.setattr(doctor, "_LIBRARIES", (library,))
    expected = doctor.Finding("note", "it", "does not import: Python ends with exit code 7: why", "do without")
    assert list(doctor.check_libraries()) == [expected]
    (message_filters,) = [library for library in LIBRARIES if library.module == "message_filters"]
    assert message_filters.apart, "it imports rclpy"


@pytest.mark.parametrize(("domain", "good"), [("abc", False), ("233", False), ("-1", False), ("232", True), ("", True)])
def test_doctor_knows_which_domains_there_are(domain: str, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    told = [finding.text for finding in doctor.check_middleware() if finding.verdict == "problem"]
    assert told == ([] if good else [f"ROS_DOMAIN_ID is {domain!r}, expected an integer from 0 to 232"])


def test_doctor_knows_the_libraries_of_every_extra() -> None:
    told = " ".join(library.advice for library in LIBRARIES)
    named = set(re.findall(r"\(extra (\w+)\)", told))
    setup = (REPOSITORY / "setup.py").read_text().partition("extras_require")[2].partition("entry_points")[0]
    extras = re.findall(r'^        "(\w+)": \[', setup, re.MULTILINE)
    assert named == set(extras) - {"ros", "test"}
    assert {"gtsam", "tf2_msgs", "evo", "matplotlib", "pycolmap", "rerun"} <= {library.module for library in LIBRARIES}
