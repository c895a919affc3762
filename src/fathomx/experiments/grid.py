"""A grid of runs, each a row in a file of its own, so that it can be continued; its tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fathomx import checks
from fathomx.checks.names import unknown
from fathomx.records.errors import RunFolderError
from fathomx.records.forms import named, position, text
from fathomx.records.reading import read_json
from fathomx.records.run_files import check_place
from fathomx.records.writing import appearing, write_json, write_text


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a comparison: which network, which method, which seed."""

    network: str
    method: str
    seed: int

    @property
    def file(self) -> str:
        """The name of its row's file."""
        words = re.sub(r"[^a-z0-9]+", "-", f"{self.network} {self.method}".lower()).strip("-")
        return f"{words}-seed-{self.seed}.json"


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which part of a grid to run; empty means everything."""

    networks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def cells(self, networks: Mapping[str, tuple[int, ...]], methods: Sequence[str]) -> list[Cell]:
        """The cells chosen of those that networks, with their seeds, and methods make.

        Seed by seed, so that a comparison that is stopped has whole seeds. Raises `ValueError` for
        names that the grid does not have, and for negative seeds.
        """
        for kind, chosen, valid in (
            ("network", self.networks, tuple(networks)),
            ("method", self.methods, methods),
        ):
            for name in chosen:
                if name not in valid:
                    raise ValueError(unknown(kind, name, valid))
        for seed in self.seeds:
            checks.count("a seed", seed, least=0, most=2**32 - 1)
        seeds = self.seeds or sorted({seed for own in networks.values() for seed in own})
        return [
            Cell(network, method, seed)
            for seed in seeds
            for network, own in networks.items()
            if network in (self.networks or networks) and (self.seeds or seed in own)
            for method in methods
            if method in (self.methods or methods)
        ]


Row = dict[str, Any]
_ROW = named({"network": text, "method": text, "seed": position})


class Rows:
    """The rows of a comparison in a folder: `config.json`, and `rows/` with a file for each run.

    Continues what is there; raises `RunFolderError` if that was run with another configuration. Of
    `descriptions`, by kind and by name, only names that both have are compared: a folder goes on
    where a method, say, has come since, or gone.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        descriptions: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.folder = folder
        stored = folder / "config.json"
        plain = _as_stored(config)
        described = _as_stored(descriptions or {})
        if stored.exists():
            found = read_json(stored, named({}), "put a copy back, or choose another --out")
            if differing := _differing(found, plain, described):
                raise RunFolderError(
                    f"{folder} holds a comparison of another configuration "
                    f"({', '.join(differing)} differ); choose another --out."
                )
            check_place(folder / "rows", "folder")
            grown = {**found, **{kind: found[kind] | own for kind, own in described.items()}}
            if grown != found:
                write_json(stored, grown)
            return
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise RunFolderError(f"{folder} holds something else; choose another --out.")
        with appearing(folder) as unfinished:
            (unfinished / "rows").mkdir()
            write_json(unfinished / "config.json", {**plain, **described})

    def has(self, cell: Cell) -> bool:
        """Whether this run has ended."""
        return (self.folder / "rows" / cell.file).exists()

    def add(self, cell: Cell, row: Row) -> None:
        """Writes the row of a run, whole or not at all."""
        write_json(self.folder / "rows" / cell.file, {**dataclasses.asdict(cell), **row})

    def row(self, cell: Cell) -> Row:
        """The row of a run that has ended."""
        return self._read(self.folder / "rows" / cell.file)

    def all(self) -> list[Row]:
        """Every row there is."""
        return [self._read(path) for path in sorted((self.folder / "rows").glob("*.json"))]

    def _read(self, path: Path) -> Row:
        return read_json(path, _ROW, "delete it, and the same command makes it again")


def _as_stored(config: Mapping[str, Any]) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(json.dumps(dict(config)))
    return stored


def _differing(found: Row, plain: Row, described: Mapping[str, Row]) -> list[str]:
    """What stored and present configurations disagree on; descriptions only where both have one."""
    differing = [k for k in {*found, *plain} - {*described} if found.get(k) != plain.get(k)]
    for kind, own in described.items():
        stored = found.get(kind)
        if not isinstance(stored, dict):
            differing.append(kind)
            continue
        differing += [
            f"{kind} of {name!r}" for name in own if stored.get(name, own[name]) != own[name]
        ]
    return sorted(differing)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table: a key of the rows, what to call it, and how to print it."""

    key: str
    title: str
    form: str
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Group:
    """The rows of one network and method, over the seeds."""

    network: str
    method: str
    rows: tuple[Row, ...]

    def values(self, key: str) -> list[float]:
        """The finite values of a column."""
        given = [row.get(key) for row in self.rows]
        return [float(v) for v in given if v is not None and math.isfinite(v)]

    def mean(self, key: str) -> float:
        """Their mean, NaN if there are none."""
        return statistics.fmean(self.values(key)) if self.values(key) else math.nan


def groups(rows: Sequence[Row], networks: Sequence[str], methods: Sequence[str]) -> Iterator[Group]:
    """The rows by network and method, in the order of the grid."""
    for network in networks:
        for method in methods:
            found = [r for r in rows if r["network"] == network and r["method"] == method]
            if found:
                found.sort(key=lambda row: row["seed"])
                yield Group(network, method, tuple(found))


def write_tables(folder: Path, found: Sequence[Group], columns: Sequence[Column]) -> None:
    """`results.csv` with a line for every run, and `results.md` with mean and spread over seeds."""
    keys = [column.key for column in columns]
    lines: list[list[Any]] = [["network", "method", "seed", *keys]]
    for group in found:
        lines += [[group.network, group.method, r["seed"], *map(r.get, keys)] for r in group.rows]
    write_text(folder / "results.csv", comma_separated(lines))
    write_text(folder / "results.md", markdown(found, columns))


def comma_separated(lines: Iterable[Sequence[Any]]) -> str:
    """Lines of values as the text of a CSV file; `None` is left empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def markdown(found: Sequence[Group], columns: Sequence[Column]) -> str:
    """A table with one line per network and method: means, and `±` the standard deviation."""
    lines = [
        "| network | method | seeds | " + " | ".join(c.title for c in columns) + " |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    for group in found:
        seeds = ", ".join(str(row["seed"]) for row in group.rows)
        cells = [_cell(group, column) for column in columns]
        lines.append(f"| {group.network} | {group.method} | {seeds} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(group: Group, column: Column) -> str:
    values = [column.scale * value for value in group.values(column.key)]
    if not values:
        return "-"
    text = format(statistics.fmean(values), column.form)
    if len(values) > 1:
        text += f" ± {format(statistics.stdev(values), column.form)}"
    missing = len(group.rows) - len(values)
    return f"{text} ({missing} of {len(group.rows)} without)" if missing else text
