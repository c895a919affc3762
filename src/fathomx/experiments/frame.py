"""The frame of all experiments: what one declares, and all that follows from it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from fathomx.checks.names import unknown
from fathomx.drawing.style import MissingMatplotlibError
from fathomx.experiments.grid import Cell, Column, Group, Row, Rows, Selection, groups, write_tables
from fathomx.records.lock import FolderLock
from fathomx.records.writing import write_text

Say = Callable[[str], None]
Complete = Callable[[Sequence[Cell]], None]
Scale = TypeVar("Scale")


class Found(list[Group], Generic[Scale]):
    """What an experiment has found: the groups of its rows, in its order, and their scale."""

    def __init__(self, found: Iterable[Group], scale: Scale) -> None:
        super().__init__(found)
        self.scale = scale


def said(text: str, **otherwise: str) -> Callable[[Row], str]:
    """What is said of a row: a text with its values, or another where it lacks one of these.

    `said("accuracy {accuracy:.2%}", accuracy="diverged")`
    """

    def of(row: Row) -> str:
        missing = [instead for key, instead in otherwise.items() if row.get(key) is None]
        return (missing or [text])[0].format_map(row)

    return of


@dataclasses.dataclass(frozen=True)
class Experiment(Generic[Scale]):
    """A question, and the comparison of networks and methods that answers it.

    **Fields**

    * `question`, with its source; lists show its first paragraph.
    * `scales`, by name: dataclasses of what decides how large it is. What a scale has as its `plan`
      is run, in order, where no network and no method is chosen; without one, the whole grid.
    * `networks` at a scale, with the seeds of each, and `methods`: names of what is compared;
      `applies`: which cells of this grid there are.
    * `run`: makes the row of a cell at a scale; `outcome`: what is said of it.
    * `columns` of `results.csv` and `results.md`; `tables` beside these, by file, texts of what was
      found, not written where empty; `shown`: the one to show in the end.
    * `figures`, by file, each drawn of what was found to a path; one for every network if its name
      has `{network}` in it.
    * `extent`: fields of a scale that say which rows there are, not how they are made; a folder may
      grow in these. `besides`: what rows depend on besides the scale; `descriptions`: the same by
      kind and name, of methods or networks. A folder goes on where some have come since or gone.
    * `remarks` on all that was found.
    """

    question: str | None
    scales: Mapping[str, Scale]
    networks: Callable[[Scale], Mapping[str, tuple[int, ...]]]
    methods: Collection[str]
    run: Callable[..., Row]
    outcome: Callable[[Row], str]
    columns: tuple[Column, ...]
    figures: Mapping[str, Callable[[Found[Scale], Path], object]]
    tables: Mapping[str, Callable[[Found[Scale]], str]] = dataclasses.field(default_factory=dict)
    shown: str = "results.md"
    applies: Callable[[Cell], bool] = lambda cell: True
    extent: tuple[str, ...] = ("plan",)
    besides: Callable[[Scale], Mapping[str, Any]] = lambda scale: {}
    descriptions: Callable[[Scale], Mapping[str, Mapping[str, Any]]] = lambda scale: {}
    remarks: Callable[[Found[Scale]], Sequence[str]] = lambda found: ()

    def cells(self, selection: Selection, scale: Scale) -> list[Cell]:
        """The cells chosen; `ValueError` for names that the grid does not have, and for no cell."""
        chosen = selection.cells(self.networks(scale), tuple(self.methods))
        cells = [cell for cell in chosen if self.applies(cell)]
        if not cells:
            raise ValueError(
                "there is nothing to run: of the networks chosen, none has one of the methods and "
                "seeds chosen; leave out --network or --method."
            )
        return cells

    def course(self, selection: Selection, scale: Scale, rows: Rows, complete: Complete) -> None:
        """Says which cells to run, part by part; what has its row already is passed over."""
        plan = getattr(scale, "plan", ())
        whole = not plan or selection.networks or selection.methods
        for part in (selection,) if whole else plan:
            seeds = selection.seeds or part.seeds
            complete(self.cells(dataclasses.replace(part, seeds=seeds), scale))

    def runner(self, scale: Scale, folder: Path, say: Say) -> Callable[[Cell], Row]:
        """What makes rows, once all is in the folder that has to be there besides."""
        return lambda cell: self.run(cell, scale)

    def reproduce(self, scale: str, folder: Path, selection: Selection, say: Say) -> Path:
        """Runs what is missing, writes tables and figures, and returns the table to show.

        Raises `ValueError` for an unknown scale, network or method, before anything is written, and
        `RunFolderError` for a folder that holds something else.
        """
        if scale not in self.scales:
            raise ValueError(unknown("scale", scale, self.scales))
        size = self.scales[scale]
        self.cells(selection, size)
        made = {name: value for name, value in vars(size).items() if name not in self.extent}
        rows = Rows(folder, {**made, **self.besides(size)}, self.descriptions(size))
        # What is damaged is told before anything is run.
        rows.all()

        def complete(part: Sequence[Cell]) -> None:
            missing = [cell for cell in part if not rows.has(cell)]
            try:
                for number, cell in enumerate(missing, start=1):
                    begun = time.perf_counter()
                    row = run(cell)
                    rows.add(cell, row)
                    say(
                        f"{number}/{len(missing)}  {cell.network}, {cell.method}, seed {cell.seed}"
                        f": {self.outcome(row)} ({time.perf_counter() - begun:.0f} s)"
                    )
            finally:
                # What there is when it is stopped is shown, too.
                self._show(rows, size, say)

        with FolderLock(folder):
            run = self.runner(size, folder, say)
            self.course(selection, size, rows, complete)
        return folder / self.shown

    __call__ = reproduce

    def _show(self, rows: Rows, scale: Scale, say: Say) -> None:
        names = tuple(self.networks(scale))
        found = Found(groups(rows.all(), names, tuple(self.methods)), scale)
        write_tables(rows.folder, found, self.columns)
        for file, table in self.tables.items():
            if text := table(found):
                write_text(rows.folder / file, text)
        for remark in self.remarks(found):
            say(remark)
        try:
            for file, draw in self.figures.items():
                for name in names if "{network}" in file else (None,):
                    if own := [group for group in found if name in (None, group.network)]:
                        draw(Found(own, scale), rows.folder / file.format(network=name))
        except MissingMatplotlibError as error:
            say(str(error))
