"""Files that appear whole or not at all, and folders likewise."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fathomx.records.errors import RunFolderError
from fathomx.records.values import PathLike, plain

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR)


@contextlib.contextmanager
def atomic(path: PathLike) -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place if the body succeeds.

    Folders above it are made. Raises `RunFolderError` if the disk does not allow it.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise RunFolderError(unwritable(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder, which becomes `folder` with all that it holds if the body succeeds.

    Raises `RunFolderError` if something stands there already, or the disk does not allow it.
    """
    temporary = _temporary(folder)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        # Onto an empty folder, such as one that was reserved, but onto nothing else.
        os.rename(temporary, folder)
    except OSError as error:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunFolderError(f"{folder} exists already; choose another folder.") from error
        raise RunFolderError(unwritable(folder, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_unfinished(folder: Path) -> None:
    """Removes what writers that were killed left in a folder; nobody else may be writing there."""
    for path in (*folder.glob(".*.tmp"), *folder.glob("figures/.*.tmp")):
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all; what is not finite becomes null."""
    try:
        text = json.dumps(plain(value), indent=2, allow_nan=False)
    except TypeError as error:
        raise TypeError(
            f"{path.name} must hold numbers, texts, lists and dictionaries of these, but an "
            f"{str(error).partition('type ')[2].partition(' ')[0]} was given."
        ) from None
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all. Raises `RunFolderError`."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Adds a line to a file; one that was cut off before it is ended first."""
    try:
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
    except OSError as error:
        raise RunFolderError(unwritable(path, error)) from error


def unwritable(path: Path, error: OSError) -> str:
    """The sentence for a file that the disk does not take, with a remedy for the reason."""
    return f"{path} cannot be written: {error.strerror or error}; {remedy(error.errno)}."


def remedy(number: int | None) -> str:
    """What to do about an error of the operating system, by its number."""
    if number in _FULL:
        return "free some space, then resume, or choose another folder"
    if number in _FORBIDDEN:
        return "allow writing there, then resume, or choose another folder"
    if number in _IN_THE_WAY:
        return "a file stands where a folder belongs, or the reverse: move it away"
    if number == errno.ENAMETOOLONG:
        return "choose a shorter name"
    return "check the disk, then resume, or choose another folder"
