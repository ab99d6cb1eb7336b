# SPDX-License-Identifier: Apache-2.0
"""Packages of a distribution as a source of pictures: fetch one, look inside, read what its copyright file grants.

Nothing is installed. Debian packages come through ``apt-get download`` and are laid out with ``dpkg-deb -x``; wheels
come through ``pip download`` and are read where they are. The copyright file of a Debian package is machine-readable
(Debian's copyright format 1.0): stanzas of file patterns, holders and licence, of which the last that matches a file
holds for it.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import GCNv2Error
from ..files import sha256_of


class PackageError(GCNv2Error):
    """A package that cannot be fetched or opened, or a copyright file that says nothing about a picture."""


@dataclass(frozen=True)
class FetchedPackage:
    """A package file on this disk.

    Attributes
    ----------
    name
        The package's name.
    version
        The version that was fetched, which is another than asked for where the archive no longer serves that one.
    path
        The ``.deb`` or ``.whl`` file.
    sha256
        Of the file.
    """

    name: str
    version: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class Statement:
    """What a copyright file says about the files that a set of patterns covers.

    Attributes
    ----------
    patterns
        Wildcards over paths: ``*`` stands for any characters, slashes too, and ``?`` for one.
    licence
        Short name of the licence, as the file gives it.
    holders
        Copyright holders, one line.
    text
        The licence's text and the comment that stand in the stanza itself.
    """

    patterns: tuple[str, ...]
    licence: str
    holders: str
    text: str = ""


def run(command: Sequence[str], *, package: str, folder: Path) -> str:
    """Run a program of the packaging tools in `folder` and return what it printed.

    Raises
    ------
    PackageError
        The program is missing or failed; the message names the package and gives the program's last words.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        message = f"package {package}: the program {command[0]!r} is not installed; the training set is built on Debian"
        raise PackageError(f"{message} or Ubuntu, or from package files that were fetched there") from None
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())[-400:]
        raise PackageError(f"package {package}: {' '.join(command[:3])} failed: {words or 'it gave no reason'}")
    return done.stdout


def fetch_debian(name: str, version: str, folder: Path) -> FetchedPackage:
    """Have a Debian package in `folder`: the file that is there already, the version asked for, or the one served.

    Parameters
    ----------
    name, version
        Package and the version that is wanted.
    folder
        Where package files are kept.

    Raises
    ------
    PackageError
        No version of the package can be fetched.
    """
    pinned = folder / f"{name}_{version.replace(':', '%3a')}_all.deb"
    present = [pinned] if pinned.exists() else sorted(folder.glob(f"{name}_*.deb"))
    if not present:
        try:
            run(["apt-get", "download", f"{name}={version}"], package=name, folder=folder)
        except PackageError:
            run(["apt-get", "download", name], package=name, folder=folder)
        present = sorted(folder.glob(f"{name}_*.deb"))
        if not present:
            raise PackageError(f"package {name}: apt-get download ended well but left no {name}_*.deb in {folder}")
    found = run(["dpkg-deb", "-f", str(present[-1]), "Version"], package=name, folder=folder).strip()
    return FetchedPackage(name, found, present[-1], sha256_of(present[-1]))


def fetch_wheel(name: str, version: str, folder: Path) -> FetchedPackage:
    """Have a wheel of a Python project in `folder`; the same file on every machine, whatever its platform.

    Raises
    ------
    PackageError
        The wheel cannot be fetched.
    """
    stem = re.sub(r"[-_.]+", "_", name)
    present = sorted(folder.glob(f"{stem}-{version}-*.whl"))
    if not present:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", "3.11", "--implementation", "cp"]
        command += [word for tag in ("manylinux_2_28_x86_64", "manylinux2014_x86_64") for word in ("--platform", tag)]
        run([*command, "--dest", ".", f"{name}=={version}"], package=name, folder=folder)
        present = sorted(folder.glob(f"{stem}-{version}-*.whl"))
        if not present:
            raise PackageError(
                f"package {name}: pip download ended well but left no {stem}-{version}-*.whl in {folder}"
            )
    return FetchedPackage(name, version, present[0], sha256_of(present[0]))


def unpack(package: FetchedPackage, folder: Path, archives: Sequence[str] = ()) -> dict[str, Callable[[], bytes]]:
    """Lay a package open without installing it.

    Parameters
    ----------
    package
        A ``.deb`` is laid out in `folder`; a wheel is read in place.
    folder
        An empty folder, which has to stay for as long as the files are read.
    archives
        Paths of zip archives inside the package whose members count as files: ``data.zip/inner/name.png``.

    Returns
    -------
    dict
        From the path inside the package to a function that reads the file, in order of the paths.

    Raises
    ------
    PackageError
        The file is no package, or an archive is missing from it or damaged.
    """
    if package.path.suffix == ".deb":
        run(["dpkg-deb", "-x", str(package.path), str(folder)], package=package.name, folder=folder)
        files: dict[str, Callable[[], bytes]] = {
            path.relative_to(folder).as_posix(): path.read_bytes
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
    else:
        files = dict(_members(package, package.path, ""))
    for name in archives:
        if name not in files:
            raise PackageError(f"package {package.name} {package.version}: it holds no archive {name}")
        files.update(_members(package, folder / name, f"{name}/"))
    return dict(sorted(files.items()))


def _members(package: FetchedPackage, path: Path, prefix: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as reason:
        raise PackageError(
            f"package {package.name} {package.version}: {path.name} cannot be read: {reason}"
        ) from reason
    for name in archive.namelist():
        if not name.endswith("/"):
            yield prefix + name, functools.partial(archive.read, name)


def read_copyright(text: str) -> list[Statement]:
    """Parse a copyright file in Debian's machine-readable format, version 1.0.

    Parameters
    ----------
    text
        The file. Stanzas without a ``Files`` field are left out.

    Returns
    -------
    list of Statement
        In the file's order.
    """
    statements = []
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t"):
                fields[name] = fields.get(name, "") + "\n" + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.lower()
                fields[name] = value.strip()
        if "files" in fields:
            licence, _, rest = fields.get("license", "").partition("\n")
            statements.append(
                Statement(
                    patterns=tuple(fields["files"].split()),
                    licence=licence.strip(),
                    holders=" ".join(fields.get("copyright", "").split()),
                    text=f"{rest}\n{fields.get('comment', '')}".strip(),
                )
            )
    return statements


@functools.cache
def wildcard(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which ``*`` stands for any characters, slashes too, and ``?`` for one character."""
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(letter) or re.escape(letter) for letter in pattern), re.DOTALL)


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether one of the wildcard patterns covers the whole path."""
    return any(wildcard(pattern).fullmatch(path) for pattern in patterns)


def statement_about(path: str, statements: Sequence[Statement]) -> Statement | None:
    """The last statement whose patterns cover `path`, which is the one that holds; None where there is none."""
    return next((said for said in reversed(statements) if matches(path, said.patterns)), None)
