"""Values as verdicts and pages print them; what is null or not finite was not recorded."""

from __future__ import annotations

from typing import Any

from fathomx.records.values import finite

_UNKNOWN = "not recorded"


def percent(value: Any) -> str:
    """A part of one in percent, with two decimals."""
    number = finite(value)
    return _UNKNOWN if number is None else f"{100 * number:.2f}%"


def short(value: Any) -> str:
    """A value for reading: four digits of a number, the range of a list of numbers."""
    if isinstance(value, list):
        known = [number for number in map(finite, value) if number is not None]
        span = f" from {short(min(known))} to {short(max(known))}" if known else ""
        return f"{len(value)} values{span}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return _UNKNOWN if finite(value) is None else f"{value:.4g}"
    return _UNKNOWN if value is None else str(value)


def plain(value: Any) -> str:
    """A value of the configuration, exactly; null is what was left to the program."""
    return "none" if value is None else str(value)
