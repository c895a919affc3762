"""Values as verdicts and pages print them; what is null or not finite was not recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def series(values: Sequence[Any]) -> str:
    """Some values in a row, three digits of each."""
    known = [finite(value) for value in values]
    return ", ".join("unknown" if value is None else f"{value:.3g}" for value in known)


def plain(value: Any) -> str:
    """A value of the configuration, exactly; null is what was left to the program."""
    return "none" if value is None else str(value)


def quarter_sentences(numbers: Mapping[str, Any]) -> list[str]:
    """The cosine to backprop's update by quarter of the depth, where it is known."""
    quarters = numbers.get("cosine_to_backprop_per_quarter") or []
    if not any(finite(value) is not None for value in quarters):
        return []
    shown = ", ".join(
        "none learns" if finite(value) is None else series([value]) for value in quarters
    )
    return [f"Mean cosine of the nodes by quarter of the depth, from the input up: {shown}."]


def target_sentences(numbers: Mapping[str, Any]) -> list[str]:
    """How straight an update takes predictions to their targets, where it is known."""
    own, told = (finite(numbers.get(f"target_alignment{of}")) for of in ("", "_of_backprop"))
    if own is None:
        return []
    beside = "" if told is None else f", that of backprop's update {told:.3g}"
    return [
        "Target alignment, the cosine between what the update does to predictions and their "
        f"errors: {own:.3g}{beside} (1 is straight to the targets)."
    ]
