"""Checks of names: one of those that are known, and the nearest one where it is not."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Collection, Sequence
from typing import Any

from fathomx.checks.shown import shown

# Characters; with many long names the nearest one has to do.
_LONGEST_LIST = 250


def choice(kind: str, value: Any, valid: Collection[str]) -> str:
    """One of the valid names; else `TypeError` or `ValueError` with the nearest one."""
    if not isinstance(value, str):
        raise TypeError(f"{kind} must be one of {listed(list(valid))}, not {shown(value)}.")
    if value not in valid:
        raise ValueError(unknown(kind, value, valid))
    return value


def unknown(kind: str, given: object, valid: object) -> str:
    """The sentence for an unknown option: what was given, the nearest valid one, all valid ones."""
    names = [str(name) for name in valid]  # type: ignore[attr-defined]
    hint = near(str(given).lower(), names, cutoff=0.4)
    return f"unknown {kind} {shown(str(given))}.{hint} Choose from: {listed(names)}."


def listed(names: Sequence[str]) -> str:
    """Names in a row, apart by semicolons if one has a comma; of a long one, how many more."""
    between = "; " if any("," in name for name in names) else ", "
    ends = itertools.accumulate(len(name) + 2 for name in names)
    first = names[: max(1, sum(end <= _LONGEST_LIST for end in ends))]
    left = len(names) - len(first)
    return between.join(first) + (f" and {left} more" if left else "")


def spans(names: Sequence[str], places: Sequence[int], most: int = 4) -> str:
    """The names at some places, in order, neighbors as one span; of many spans, how many more."""
    begun = [n for n in places if n - 1 not in places]
    ends = [n for n in places if n + 1 not in places]
    found = list(zip(begun, ends, strict=True))
    said = [
        repr(names[first]) + ("" if first == last else f" to {names[last]!r}")
        for first, last in found[:most]
    ]
    left = sum(last - first + 1 for first, last in found[most:])
    return ", ".join(said) + (f" and {left} more" if left else "")


def near(given: object, known: Collection[str], cutoff: float = 0.6) -> str:
    """The question whether the nearest known name was meant, nothing if none is near."""
    found = difflib.get_close_matches(str(given), known, n=1, cutoff=cutoff)
    return f" Did you mean {found[0]!r}?" if found else ""
