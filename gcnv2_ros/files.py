# SPDX-License-Identifier: Apache-2.0
"""Paths as people give them, and writing files so that a reader never meets half of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import GCNv2Error


def user_path(path: str | Path, error: type[GCNv2Error]) -> Path:
    """A path as it was given, a leading ``~`` or ``~NAME`` replaced by the home folder that it stands for.

    Raises
    ------
    GCNv2Error
        Of the kind `error`, if there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as failure:
        home = Path(path).parts[0]
        raise error(f"{path}: there is no home folder {home}; write the path without it") from failure


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends without error.

    Parameters
    ----------
    path
        The final name. Its folder is made if it is missing; an existing file is replaced, of a link the file that it
        points to.

    Yields
    ------
    pathlib.Path
        A name in the same folder, with the suffix of `path`, to be written by the block. It is deleted if the block
        raises.

    Raises
    ------
    OSError
        If `path` is something else than a file, or its folder cannot be made or written to.
    """
    check_file(path)
    # Not of every path: errors name it as it was given.
    final = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{final.stem}.", suffix=Path(path).suffix, dir=final.parent)
    except OSError as error:
        # It would name the temporary file.
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        # The rename must not reach the disk before the content does, or a power cut leaves an empty file.
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def check_file(path: str | Path) -> None:
    """Refuse the name of a folder, a device or a pipe: `atomic_path` would fail in the end, or put a file in its place.

    Raises
    ------
    OSError
        With what it is.
    """
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; give the name of a file", str(path))
    if file.exists() and not file.is_file():
        raise FileExistsError(errno.EEXIST, "is a device or a pipe; give the name of a file", str(path))


def refuse_existing(path: str | Path, error: type[GCNv2Error]) -> None:
    """Refuse a name that something has already, for what is never replaced.

    Raises
    ------
    GCNv2Error
        Of the kind `error`.
    """
    if os.path.lexists(path):
        raise error(f"{path} exists already; remove it, or choose another place")


def atomic_write(path: str | Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path` by way of a temporary file in the same folder."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's content, as 64 lower-case hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()
