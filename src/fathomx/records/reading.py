"""Files of runs, read by the form that they must have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fathomx.records.errors import DamagedFileError, RunFolderError
from fathomx.records.forms import Form, Misfit


def read_text(path: Path) -> str:
    """A text; `RunFolderError` if the file cannot be read, `DamagedFileError` if it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DamagedFileError(f"{path} is damaged: it is not UTF-8 text.") from None
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read: {error.strerror or error}; check that it is there and that "
            "you may read it."
        ) from None


def read_json(path: Path, form: Form, remedy: str) -> dict[str, Any]:
    """An object with named values of a form; `DamagedFileError` with the remedy if it is not."""
    try:
        value = _parsed(read_text(path), form)
    except (Misfit, DamagedFileError) as error:
        why = str(error) if isinstance(error, Misfit) else "it is not UTF-8 text"
        raise DamagedFileError(f"{path} is damaged: {why}; {remedy}.") from None
    found: dict[str, Any] = value
    return found


def read_lines(path: Path, form: Form) -> tuple[list[dict[str, Any]], list[int]]:
    """A JSON value of a form in every line, and the numbers of the lines that hold none.

    A last line without an end was cut off when its writer was killed, and is left out unsaid.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read: {error.strerror or error}; check that you may read it."
        ) from None
    *lines, cut = content.split(b"\n")
    found, damaged = [], []
    for number, line in enumerate([*lines, *([cut] if cut else [])], 1):
        try:
            found.append(_parsed(line.decode("utf-8"), form))
        except ValueError:
            if number <= len(lines):
                damaged.append(number)
    return found, damaged


def _parsed(content: str, form: Form) -> Any:
    try:
        value = json.loads(content)
    except RecursionError:
        raise Misfit("JSON of reasonable depth", content[:20]) from None
    except ValueError:
        raise Misfit("JSON", content[:20]) from None
    form(value)
    return value
