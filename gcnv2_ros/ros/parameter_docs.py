# SPDX-License-Identifier: Apache-2.0
"""The node's parameters as config/frontend.yaml and as a Markdown table, both made from the one table.

``python -m gcnv2_ros.ros.parameter_docs yaml > config/frontend.yaml`` writes the file anew; ``markdown`` in place of
``yaml`` prints the table.
"""

from __future__ import annotations

import argparse
import textwrap

from .parameters import PARAMETERS, ParameterSpec, Value

_COMMENT_WIDTH = 100

_YAML_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Every parameter of gcnv2_frontend with its default. Copy the file, keep what you change, and start with
#   ros2 launch gcnv2_ros frontend.launch.py params_file:=/path/to/your.yaml
# [live]: may change while the node runs (ros2 param set). The others are read when the node starts.
/**:
  ros__parameters:
"""


def render_yaml() -> str:
    """The text of config/frontend.yaml: every parameter with its default and its description as a comment."""
    entries = []
    for spec in PARAMETERS:
        remark = f"{'[live] ' if spec.live else ''}{spec.description}"
        if spec.constraint:
            remark += f" ({spec.constraint})"
        comment = textwrap.wrap(remark, _COMMENT_WIDTH, initial_indent="    # ", subsequent_indent="    # ")
        entries.append("\n".join([*comment, f"    {spec.name}: {_yaml_value(spec.default)}"]))
    return _YAML_HEAD + "\n".join(entries) + "\n"


def render_markdown() -> str:
    """A Markdown table of the parameters: name, type, default, range or choices, live or at the start, meaning."""
    rows = [
        "| parameter | type | default | values | change | meaning |",
        "|---|---|---|---|---|---|",
        *map(_markdown_row, PARAMETERS),
    ]
    return "\n".join(rows) + "\n"


def _markdown_row(spec: ParameterSpec) -> str:
    change = "live" if spec.live else "at the start"
    cells = (
        f"`{spec.name}`",
        spec.type_name,
        f"`{_yaml_value(spec.default)}`",
        spec.constraint,
        change,
        spec.description,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _yaml_value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml_value, value))}]"
    # A string that YAML would read as something else needs quotes; an empty one does.
    return (value or '""') if isinstance(value, str) else repr(value)


def main() -> None:
    """Print one of the two."""
    parser = argparse.ArgumentParser(description="Print the node's parameters.")
    parser.add_argument("form", choices=("yaml", "markdown"))
    render = {"yaml": render_yaml, "markdown": render_markdown}[parser.parse_args().form]
    print(render(), end="")


if __name__ == "__main__":
    main()
