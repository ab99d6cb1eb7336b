# SPDX-License-Identifier: Apache-2.0
"""Ground truth of a bag: pose topics and tf, as links from the world to the camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import pose_from_quaternion
from ..ros_names import frame_name
from .bag_file import POSE_TYPES, TF_TYPES, Bag, stamp_ns_of
from .base import SequenceError
from .reading import PoseTable

Link = PoseTable | NDArray[np.float64]
"""From a frame to its parent: over time, or fixed, float64 (4, 4)."""


def read_links(bag: Bag, topic: str, camera: str, pose_frame: str | None, world: str | None) -> list[Link]:
    """Links from the world to the camera's frame, by a pose topic and tf, or by tf alone."""
    bag.check("ground_truth", topic, *POSE_TYPES, *TF_TYPES)
    tree = _read_tf(bag)
    if bag.types[topic] in TF_TYPES:
        links = _chain(tree, camera, world)
        if links is None or not any(isinstance(link, PoseTable) for link in links):
            raise SequenceError(
                f"tf does not say how {camera!r} moves{f' in {world!r}' if world else ''}; {_known(tree)}"
            )
        return links
    rows, child = [], ""
    for _, recorded, message in bag.messages([topic]):
        child = frame_name(getattr(message, "child_frame_id", ""))
        pose = getattr(message, "pose", None) or message.transform
        rows.append((stamp_ns_of(message, recorded), _seven(getattr(pose, "pose", pose))))
    rows = [row for row in rows if np.all(np.isfinite(row[1]))]
    table = PoseTable.from_rows(rows, Path(f"{bag.path}, {topic}"))
    body = frame_name(pose_frame) if pose_frame else child or camera
    links = _chain(tree, camera, body)
    if links is None:
        raise SequenceError(
            f"the poses of {topic} are those of {body!r}, and tf does not lead from there to the camera's frame "
            f"{camera!r}; {_known(tree)}; pose_frame={camera!r} takes them as the camera's"
        )
    return [table, *links]


def _read_tf(bag: Bag) -> dict[str, tuple[str, Link]]:
    """Parent and link of each child frame."""
    rows: dict[tuple[str, str], list[tuple[int, list[float]]]] = {}
    fixed: set[str] = set()
    names = bag.of_type(*TF_TYPES)
    for topic, recorded, message in bag.messages(names) if names else ():
        for transform in message.transforms:
            child, parent = frame_name(transform.child_frame_id), frame_name(transform.header.frame_id)
            row = (stamp_ns_of(transform, recorded), _seven(transform.transform))
            if np.all(np.isfinite(row[1])):
                rows.setdefault((child, parent), []).append(row)
            if topic.endswith("tf_static"):
                fixed.add(child)
    tree: dict[str, tuple[str, Link]] = {}
    for (child, parent), values in rows.items():
        if child in tree:
            raise SequenceError(f"tf gives {child!r} two parents, {tree[child][0]!r} and {parent!r}")
        table = PoseTable.from_rows(values, Path(f"{bag.path}, {child} in {parent}"))
        tree[child] = (parent, pose_from_quaternion(values[-1][1][:3], values[-1][1][3:]) if child in fixed else table)
    return tree


def _chain(tree: dict[str, tuple[str, Link]], frame: str, top: str | None) -> list[Link] | None:
    """Links from `top` (None: the root) down to `frame`; None if tf does not lead there."""
    links: list[Link] = []
    top = None if top is None else frame_name(top)
    while frame != top:
        if frame not in tree or len(links) > len(tree):
            return links[::-1] if top is None and frame not in tree else None
        frame, link = tree[frame]
        links.append(link)
    return links[::-1]


def _known(tree: dict[str, tuple[str, Link]]) -> str:
    if not tree:
        return "the bag has no tf"
    return "tf has " + ", ".join(f"{parent} -> {child}" for child, (parent, _) in sorted(tree.items()))


def _seven(pose: Any) -> list[float]:
    """x y z qx qy qz qw of a geometry_msgs Pose or Transform."""
    t = getattr(pose, "position", None) or pose.translation
    q = getattr(pose, "orientation", None) or pose.rotation
    return [t.x, t.y, t.z, q.x, q.y, q.z, q.w]
