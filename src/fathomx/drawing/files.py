"""Files written whole or not at all, and numbers read from them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def atomic(path: PathLike) -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place if the body succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def numbers(values: list[Any]) -> np.ndarray:
    """The values as floats; NaN where one is missing or not finite."""
    known = [finite(value) for value in values]
    return np.array([np.nan if value is None else value for value in known], float)


def finite(value: Any) -> float | None:
    """A number as a float; `None` for anything else, NaN and infinities included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if np.isfinite(value) else None
