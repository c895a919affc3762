"""Warnings at the line of whoever called the package."""

from __future__ import annotations

import inspect
import warnings

# What stands between a call and the lines that warn: this package, and how its classes are built.
_BETWEEN = ("fathomx", "equinox", "jaxtyping", "beartype")


def warn(text: str, kind: type[Warning] = UserWarning) -> None:
    """Warns at the first line that is not of this package: elsewhere, Python may not show it."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and _package(frame.f_globals) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, kind, stacklevel=level)


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__", _BETWEEN[-1])).partition(".")[0]
