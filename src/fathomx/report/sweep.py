"""The page of a sweep: its trials, the best so far, and the score over each option."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fathomx.checks import gate
from fathomx.drawing.style import COLORS, FAINT, integers, new_figure, save
from fathomx.records.values import PathLike
from fathomx.report.document import escaped, table, write_document
from fathomx.report.illustrations import Illustration, illustrated
from fathomx.report.scores import label, shown
from fathomx.report.wording import short

# From one end to the other, what is drawn by its logarithm.
_WIDE = 20.0


class Trial(NamedTuple):
    """A trial: number, folder, state as Optuna has it, validation score, options by name."""

    number: int
    name: str
    state: str
    value: float | None
    values: dict[str, Any]


@gate
def write_sweep(folder: PathLike, score: str, higher: bool, trials: Sequence[Trial]) -> Path:
    """Writes `index.html` into the folder of a sweep, and its figures beside it; returns the path.

    **Arguments**: `score`, the validation score; `higher`, whether the higher one is better.
    """
    folder = Path(folder)
    ordered = sorted(trials, key=lambda t: _rank(t, higher))
    options = list(dict.fromkeys(name for trial in trials for name in trial.values))
    scored = [trial for trial in trials if trial.value is not None]
    title = f"{len(trials)} trials, by validation {label(score)}"
    figures = [
        Illustration(
            "history.png",
            functools.partial(_history, scored, score, higher),
            "The score of every trial in the order in which they were begun, and the best so far.",
        ),
        *(
            Illustration(
                f"over_{name}.png",
                functools.partial(_over, scored, score, name),
                f"The score over {name.replace('_', ' ')}; trials that were ended early are pale.",
            )
            for name in options
        ),
    ]
    rows = [
        (
            trial.name,
            trial.state,
            "-" if trial.value is None else shown(score, trial.value),
            *(short(trial.values.get(name)) for name in options),
        )
        for trial in ordered
    ]
    head = ("", "state", label(score), *(name.replace("_", " ") for name in options))
    body = [
        f"<h1>{escaped(title)}</h1>",
        "<h2>Trials, the best first</h2>",
        table(head, rows, wide=True),
        '<p><a href="runs.html">All trials as runs, with their curves</a></p>',
        "<h2>Figures</h2>",
        *(illustrated(folder, figures) if scored else ["<p>No trial has a score yet.</p>"]),
    ]
    return write_document(folder / "index.html", title, body)


def _rank(trial: Trial, higher: bool) -> tuple[bool, float]:
    if trial.value is None or trial.state != "complete":
        return True, float(trial.number)
    return False, -trial.value if higher else trial.value


def _history(trials: Sequence[Trial], score: str, higher: bool, path: Path) -> Path:
    figure, (axes,) = new_figure(3.4)
    _points(axes, trials, [trial.number for trial in trials])
    ended = [trial for trial in trials if trial.state == "complete"]
    if ended:
        values = np.array([trial.value for trial in ended], float)
        best = (np.maximum if higher else np.minimum).accumulate(values)
        numbers = [trial.number for trial in ended]
        axes.step(numbers, best, where="post", color=COLORS[1], linewidth=1.6, label="best so far")
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("trial")
    integers(axes.xaxis)
    axes.set_ylabel(f"validation {label(score)}")
    return save(figure, path)


def _over(trials: Sequence[Trial], score: str, name: str, path: Path) -> Path:
    figure, (axes,) = new_figure(3.4)
    known = [trial for trial in trials if name in trial.values]
    values = [trial.values[name] for trial in known]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        _points(axes, known, values)
        if min(values) > 0 and max(values) / min(values) > _WIDE:
            axes.set_xscale("log")
    else:
        names = list(dict.fromkeys(map(str, values)))
        _points(axes, known, [names.index(str(value)) for value in values])
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel(name.replace("_", " "))
    axes.set_ylabel(f"validation {label(score)}")
    return save(figure, path)


def _points(axes: Any, trials: Sequence[Trial], places: Sequence[Any]) -> None:
    for trial, place in zip(trials, places, strict=True):
        color = COLORS[0] if trial.state == "complete" else FAINT
        axes.plot([place], [trial.value], "o", color=color, markersize=5)
