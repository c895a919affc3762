"""Sentences about names that are not known."""

from __future__ import annotations

import difflib


def unknown(kind: str, given: object, valid: object) -> str:
    """The sentence for an unknown option: what was given, the nearest valid one, all valid ones."""
    names = [str(name) for name in valid]  # type: ignore[attr-defined]
    near = difflib.get_close_matches(str(given).lower(), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {str(given)!r}.{hint} Choose from: {', '.join(names)}."
