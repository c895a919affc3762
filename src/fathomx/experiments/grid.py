"""A comparison as a grid of runs, each a row in a file of its own, so that it can be continued."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fathomx import checks
from fathomx.checks.names import unknown
from fathomx.drawing.style import MissingMatplotlibError
from fathomx.records.errors import RunFolderError
from fathomx.records.forms import named, position, text
from fathomx.records.lock import FolderLock
from fathomx.records.reading import read_json
from fathomx.records.run_files import check_place
from fathomx.records.writing import appearing, write_json, write_text

Say = Callable[[str], None]
Scale = TypeVar("Scale")


def chosen_scale(name: str, scales: Mapping[str, Scale]) -> Scale:
    """The scale of this name; `ValueError` with the nearest one if there is none."""
    if name not in scales:
        raise ValueError(unknown("scale", name, scales))
    return scales[name]


def configuration(scale: Any, *without: str) -> dict[str, Any]:
    """The fields of a scale that its rows depend on: all but these."""
    return {key: value for key, value in vars(scale).items() if key not in without}


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


def planned(plan: Sequence[Selection], selection: Selection) -> tuple[Selection, ...]:
    """What to run: the plan unless networks or methods are named, at the seeds named."""
    if not plan or selection.networks or selection.methods:
        return (selection,)
    return tuple(dataclasses.replace(part, seeds=selection.seeds or part.seeds) for part in plan)


_ROW = named({"network": text, "method": text, "seed": position})


class Rows:
    """The rows of a comparison in a folder: `config.json`, and `rows/` with a file for each run.

    Continues what is there; raises `RunFolderError` if that was run with another configuration.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        stored = folder / "config.json"
        plain = json.loads(json.dumps(config))
        if stored.exists():
            found = read_json(stored, named({}), "put a copy back, or choose another --out")
            if found != plain:
                differing = sorted(k for k in {*found, *plain} if found.get(k) != plain.get(k))
                raise RunFolderError(
                    f"{folder} holds a comparison of another configuration "
                    f"({', '.join(differing)} differ); choose another --out."
                )
            check_place(folder / "rows", "folder")
            return
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise RunFolderError(f"{folder} holds something else; choose another --out.")
        with appearing(folder) as unfinished:
            (unfinished / "rows").mkdir()
            write_json(unfinished / "config.json", plain)

    def has(self, cell: Cell) -> bool:
        """Whether this run has ended."""
        return (self.folder / "rows" / cell.file).exists()

    def add(self, cell: Cell, row: dict[str, Any]) -> None:
        """Writes the row of a run, whole or not at all."""
        write_json(self.folder / "rows" / cell.file, {**dataclasses.asdict(cell), **row})

    def row(self, cell: Cell) -> dict[str, Any]:
        """The row of a run that has ended."""
        return self._read(self.folder / "rows" / cell.file)

    def all(self) -> list[dict[str, Any]]:
        """Every row there is."""
        return [self._read(path) for path in sorted((self.folder / "rows").glob("*.json"))]

    def _read(self, path: Path) -> dict[str, Any]:
        return read_json(path, _ROW, "delete it, and the same command makes it again")


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
    rows: tuple[dict[str, Any], ...]

    def values(self, key: str) -> list[float]:
        """The finite values of a column."""
        given = [row.get(key) for row in self.rows]
        return [float(v) for v in given if v is not None and math.isfinite(v)]

    def mean(self, key: str) -> float:
        """Their mean, NaN if there are none."""
        return statistics.fmean(self.values(key)) if self.values(key) else math.nan


def groups(
    rows: Sequence[dict[str, Any]], networks: Sequence[str], methods: Sequence[str]
) -> Iterator[Group]:
    """The rows by network and method, in the order of the grid."""
    for network in networks:
        for method in methods:
            found = [r for r in rows if r["network"] == network and r["method"] == method]
            if found:
                found.sort(key=lambda row: row["seed"])
                yield Group(network, method, tuple(found))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A grid of runs and what is shown of it.

    **Fields**

    * `networks`, with the seeds of each, and `methods`: names of what is compared.
    * `configuration`: what the rows depend on besides; a folder holds rows of one configuration.
    * `run`: makes the row of a cell, which JSON can hold.
    * `outcome`: what is said of a row when it is there.
    * `columns`: of the tables.
    * `draw`: draws the figures into the folder, of the rows that are there in the end.
    * `applies`: which cells of the grid there are, where not every method fits every network.
    * `plan`: the parts that are run, in order, where no network and no method is chosen; the whole
      grid without one.
    """

    networks: Mapping[str, tuple[int, ...]]
    methods: tuple[str, ...]
    configuration: dict[str, Any]
    run: Callable[[Cell], dict[str, Any]]
    outcome: Callable[[dict[str, Any]], str]
    columns: tuple[Column, ...]
    draw: Callable[[list[Group], Path], object]
    applies: Callable[[Cell], bool] = lambda cell: True
    plan: tuple[Selection, ...] = ()

    def cells(self, selection: Selection) -> list[Cell]:
        """The cells chosen; `ValueError` for names that the grid does not have, and for no cell."""
        chosen = selection.cells(self.networks, self.methods)
        cells = [cell for cell in chosen if self.applies(cell)]
        if not cells:
            raise ValueError(
                "there is nothing to run: of the networks chosen, none has one of the methods and "
                "seeds chosen; leave out --network or --method."
            )
        return cells

    def begin(self, folder: Path, selection: Selection) -> Rows:
        """The rows that are there; refuses unknown names before anything is written."""
        self.cells(selection)
        return Rows(folder, self.configuration)

    def reproduce(self, folder: Path, selection: Selection, say: Say) -> Path:
        """Continues or begins the comparison in a folder, and returns the path of the table."""
        rows = self.begin(folder, selection)
        for part in planned(self.plan, selection):
            table = self.complete(rows, part, say)
        return table

    def complete(self, rows: Rows, selection: Selection, say: Say) -> Path:
        """Runs what is missing, says what came out, and returns the path of the table."""
        missing = [cell for cell in self.cells(selection) if not rows.has(cell)]
        # What is damaged is told before anything is run.
        rows.all()
        with FolderLock(rows.folder):
            try:
                for number, cell in enumerate(missing, start=1):
                    begun = time.perf_counter()
                    row = self.run(cell)
                    rows.add(cell, row)
                    say(
                        f"{number}/{len(missing)}  {cell.network}, {cell.method}, "
                        f"seed {cell.seed}: {self.outcome(row)} "
                        f"({time.perf_counter() - begun:.0f} s)"
                    )
            finally:
                # What there is when it is stopped is shown, too.
                table = self._show(rows, say)
        return table

    def _show(self, rows: Rows, say: Say) -> Path:
        """Tables and figures of the rows that are there; returns the path of the table."""
        found = list(groups(rows.all(), tuple(self.networks), self.methods))
        table = write_tables(rows.folder, found, self.columns)
        if found:
            try:
                self.draw(found, rows.folder)
            except MissingMatplotlibError as error:
                say(str(error))
        return table


def write_tables(folder: Path, found: Sequence[Group], columns: Sequence[Column]) -> Path:
    """`results.csv` with a line for every run, and `results.md` with mean and spread over seeds.

    Returns the path of the latter.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [column.key for column in columns]
    writer.writerow(["network", "method", "seed", *keys])
    for group in found:
        for row in group.rows:
            writer.writerow([group.network, group.method, row["seed"], *map(row.get, keys)])
    write_text(folder / "results.csv", text.getvalue())
    path = folder / "results.md"
    write_text(path, markdown(found, columns))
    return path


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
