# SPDX-License-Identifier: Apache-2.0
"""The documentation says what the code does."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from gcnv2_ros.cli.main import build_parser

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def commands() -> set[str]:
    actions = build_parser()._actions
    return {name for action in actions if isinstance(action, argparse._SubParsersAction) for name in action.choices}


def test_the_readme_has_the_parameter_table_of_the_code() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from gcnv2_ros.ros.parameter_docs import render_markdown

    table = README.partition("<!-- parameters")[2].partition("-->\n")[2].partition("<!-- end of parameters")[0]
    assert table == render_markdown(), "run `python -m gcnv2_ros.ros.parameter_docs markdown` and paste it"


def test_the_readme_names_every_command_and_no_other() -> None:
    table = README.partition("## Command line")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(?:gcnv2 )?([a-z-]+)[^`|]*`", " ".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert commands() <= named
    assert named <= commands()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_of_the_docs_exist(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_exist(page: Path) -> None:
    for name in re.findall(r"(?:^|[\s`/])gcnv2 ([a-z][a-z-]+)", page.read_text(), re.MULTILINE):
        assert name in commands(), f"{page.name} mentions `gcnv2 {name}`"


def test_the_layout_page_is_that_of_the_message() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from gcnv2_ros.ros.features_msg import point_dtype

    dtype = point_dtype()
    names, offsets = dtype.names, [dtype.fields[name][1] for name in dtype.names]
    rows = re.findall(
        r"^\| ([\d, ]+) \| ([^|]+) \|", (REPOSITORY / "docs/features_message.md").read_text(), re.MULTILINE
    )
    documented = {}
    for places, fields in rows:
        documented |= dict(zip(re.findall(r"`(\w+)`", fields), map(int, places.split(","))))
    assert documented == dict(zip(names, offsets))
    assert dtype.itemsize == 80
