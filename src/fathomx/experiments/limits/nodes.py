"""What was found node by node, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fathomx.experiments.grid import Column, Group, comma_separated, markdown

_KEYS = {"cosine": "cosines", "length": "lengths", "moved": "moved"}
_COLUMNS = (
    Column("first", "cosine, first node", ".3f"),
    Column("quarter", "at a quarter of the depth", ".3f"),
    Column("half", "at half of it", ".3f"),
    Column("three_quarters", "at three quarters", ".3f"),
    Column("last", "last hidden node", ".3f"),
    Column("readout", "readout", ".3f"),
)


def nodes_csv(found: Sequence[Group]) -> str:
    """A line for every node of every run; nothing if there is no run.

    `cosine` to backprop's gradient; `length` and `moved` as `measure` says. Nodes count from 1.
    """
    if not found:
        return ""
    lines: list[list[Any]] = [["network", "method", "seed", "node", *_KEYS]]
    for group in found:
        for row in group.rows:
            columns = {key: row.get(source) or [] for key, source in _KEYS.items()}
            for node in range(len(columns["cosine"])):
                values = [_short(own[node : node + 1]) for own in columns.values()]
                lines.append([group.network, group.method, row["seed"], node + 1, *values])
    return comma_separated(lines)


def nodes_markdown(found: Sequence[Group]) -> str:
    """Some nodes over the seeds; nothing if there is no run."""
    return markdown([_chosen(group) for group in found], _COLUMNS) if found else ""


def _short(value: Sequence[float | None]) -> str:
    """A number if there is one; rows of version 0.1 do not say how far activities moved."""
    return "".join(f"{each:.6g}" for each in value if each is not None)


def _chosen(group: Group) -> Group:
    """The group with the cosines of some of its nodes as columns."""
    rows = []
    for row in group.rows:
        cosines = row.get("cosines")
        columns = {}
        if cosines:
            *before, columns["readout"] = cosines
            last = len(before) - 1
            for place, column in enumerate(_COLUMNS[:-1]):
                columns[column.key] = before[round(place * last / 4)]
        rows.append({"seed": row["seed"], **columns})
    return Group(group.network, group.method, tuple(rows))
