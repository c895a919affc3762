"""Sentences about names that are not known."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def unknown(kind: str, given: object, valid: object) -> str:
    """The sentence for an unknown option: what was given, the nearest valid one, all valid ones."""
    names = [str(name) for name in valid]  # type: ignore[attr-defined]
    hint = near(str(given).lower(), names, cutoff=0.4)
    return f"unknown {kind} {str(given)!r}.{hint} Choose from: {', '.join(names)}."


def near(given: object, known: Collection[str], cutoff: float = 0.6) -> str:
    """The question whether the nearest known name was meant, nothing if none is near."""
    found = difflib.get_close_matches(str(given), known, n=1, cutoff=cutoff)
    return f" Did you mean {found[0]!r}?" if found else ""
