# SPDX-License-Identifier: Apache-2.0
"""What the pages of evaluations are made of: figures, tables, grids, and the style."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray


def figure(picture: NDArray[np.uint8], caption: str, width: int) -> str:
    """An image, uint8 (H, W) or BGR (H, W, 3), of at most `width` pixels inside the page; `caption` is HTML."""
    if picture.shape[1] > width:
        height = round(picture.shape[0] * width / picture.shape[1])
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    data = base64.b64encode(np.asarray(encoded).tobytes()).decode("ascii")
    return f'<figure><img alt="" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells of HTML, which scrolls where it is too wide."""
    head = "".join(f"<th>{cell}</th>" for cell in heading)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def grid(items: Sequence[str]) -> str:
    """Pieces of HTML beside each other, as many as fit; nothing for none."""
    return f'<div class="grid">{"".join(f"<div>{item}</div>" for item in items)}</div>' if items else ""


CSS = """
:root { color-scheme: light; --ink: #1f2937; --soft: #6b7280; --line: #e5e7eb; }
* { box-sizing: border-box; }
body { font: 15px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; margin: 0; color: var(--ink);
  background: #f6f7f9; }
header, section { max-width: 1180px; margin: 1.25rem auto; padding: 1.5rem 2rem; background: #fff;
  border: 1px solid var(--line); border-radius: 10px; }
h1 { margin: 0; font-size: 1.7rem; } h2 { margin: 0; font-size: 1.35rem; }
h3 { margin: 2rem 0 .25rem; font-size: 1.1rem; } h4 { margin: 1.2rem 0 .4rem; color: var(--soft); font-weight: 600; }
h3 small { font-weight: 400; color: var(--soft); margin-left: .4rem; }
p { max-width: 90ch; margin: .4rem 0 .8rem; color: #4b5563; } p.meta { color: var(--soft); margin: .1rem 0 .6rem; }
i { display: inline-block; width: .75em; height: .75em; border-radius: 50%; margin-right: .5em; }
nav a { margin-right: 1rem; color: #2563eb; text-decoration: none; }
ul.legend { list-style: none; padding: 0; margin: .8rem 0; } ul.legend b { font-weight: 600; margin-right: .6rem; }
ul.notes { background: #fffbeb; border-left: 3px solid #f59e0b; margin: .6rem 0; padding: .5rem 1rem .5rem 2rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 1rem; margin: 1rem 0; }
.card { border: 1px solid var(--line); border-top: 4px solid; border-radius: 8px; padding: .8rem 1rem; display: grid; }
.card span { color: var(--soft); font-size: .85rem; } .card .figure { font-size: 1.8rem; color: var(--ink); }
.card em { font-style: normal; margin-top: .4rem; font-size: .88rem; font-variant-numeric: tabular-nums; }
.card.better em { color: #047857; } .card.worse em { color: #b91c1c; } .card.tie em { color: var(--soft); }
.tag { border-radius: 99px; padding: 0 .55em; font-size: .78em; background: #f3f4f6; color: #4b5563; }
.tag.better { background: #d1fae5; color: #065f46; } .tag.worse { background: #fee2e2; color: #991b1b; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; margin: .5rem 0 1rem; }
th { text-align: left; font-weight: 600; color: var(--soft); padding: .3rem 1.2rem .3rem 0; vertical-align: bottom; }
td { padding: .35rem 1.2rem .35rem 0; border-top: 1px solid var(--line); white-space: nowrap; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); gap: 1rem; align-items: start; }
.grid svg { width: 100%; height: auto; font-family: inherit; }
figure { margin: 0; } img { width: 100%; display: block; border-radius: 6px; }
figcaption { color: #4b5563; font-size: .88rem; margin-top: .3rem; }
@media print { body { background: #fff; } header, section { border: 0; } }
"""
"""Style sheet of a page."""
