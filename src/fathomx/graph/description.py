"""A network as a table that a person reads."""

from __future__ import annotations

from collections.abc import Sequence

from fathomx.graph.feedback import Amortized
from fathomx.graph.predictor import Predictor
from fathomx.graph.statistics import parameter_count


def described(
    parts: Sequence[Predictor],
    parents: dict[str, tuple[str, ...]],
    shapes: dict[str, tuple[int, ...]],
    shares: dict[str, str],
) -> str:
    """One line for every entry and feedback: name, kind, what it reads, shape, energy, weights."""
    rows = [("", "kind", "from", "shape", "energy", "weights")]
    for part in parts:
        name, count = part.name, parameter_count(part)
        weights = f"those of {shares[name]}" if name in shares else f"{count:,}"
        reads, shape = ", ".join(parents[name]), str(shapes[name])
        rows.append((name, type(part).__name__, reads, shape, _energy(part), weights))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _energy(part: Predictor) -> str:
    if part.depth:
        return str(part.energy)
    return "none: a start" if isinstance(part, Amortized) else "none: given"
