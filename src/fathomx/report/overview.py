"""The page of all runs in a folder: a table to sort and filter, and their curves together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fathomx.checks import gate
from fathomx.records.errors import RunFolderError
from fathomx.records.run_files import RunFiles
from fathomx.records.values import PathLike, finite
from fathomx.report.document import escaped, write_document

FILE = "runs.html"
# Of the configuration, what is told of all runs, also where it is the same.
_ALWAYS = ("model", "data", "learning")
# What says nothing of one run beside another.
_NEVER = ("command", "format", "fathomx")
# Of the summary or of the last epoch, in this order, where some run has it.
_RESULTS = (
    "cosine_to_backprop",
    "pc_strength",
    "imbalance",
    "step_seconds_median",
    "train_seconds",
    "parameters",
)

_STYLE = """
body { max-width: 90rem; }
:root { --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; --c4: #b27d00; --c5: #2a8fc4;
  --c6: #333; --grid: #ddd; }
@media (prefers-color-scheme: dark) { :root { --c0: #4fa8e0; --c1: #ff8a3d; --c2: #33c795;
  --c3: #e6a3c8; --c4: #e6b84d; --c5: #8fd0f5; --c6: #ddd; --grid: #3a3a3a; } }
.controls { display: flex; flex-wrap: wrap; gap: .6rem 1.4rem; align-items: end; margin: 1rem 0; }
.controls label { display: grid; gap: .15rem; font-size: .9rem; }
input[type=search], select { font: inherit; padding: .25rem .4rem; max-width: 100%; }
th button { font: inherit; font-weight: 600; background: none; border: 0; padding: 0;
  color: inherit; cursor: pointer; text-align: left; }
th button:hover, th button:focus-visible { text-decoration: underline; }
th small { font-weight: 400; opacity: .75; }
#curves { width: 100%; height: 20rem; font-size: .78rem; fill: currentColor; }
.curve { fill: none; stroke-width: 1.8; }
.grid { stroke: var(--grid); }
#keys { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem;
  font-size: .88rem; max-height: 9rem; overflow-y: auto; }
#keys li { display: flex; gap: .4rem; align-items: center; overflow-wrap: anywhere; }
.mark { width: 30px; height: 10px; flex: none; }
.runs { max-height: 34rem; overflow: auto; }
.runs thead th { position: sticky; top: 0; background: Canvas; }
""".strip()


@gate
def write_overview(folder: PathLike) -> Path:
    """Writes `runs.html` into a folder: all runs below it, in one page that needs no server.

    A table to sort and to filter (words, or `depth=16`), of what the configurations differ in and
    of the results, with links to the pages of runs; and the curves of those that are ticked over
    one another, for every score that is recorded after epochs. Runs that have not ended are said to
    have not, and those whose files are damaged are listed with what is wrong. Returns the path.

    Raises `RunFolderError` if the folder does not exist or there is no run below it.

    ```python
    write_overview("runs")
    ```
    """
    return overview(Path(folder))[0]


def overview(folder: Path) -> tuple[Path, list[str]]:
    """Writes the page; its path, and sentences on the runs that cannot be read."""
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is no folder; give one that holds runs.")
    runs = {str(path.relative_to(folder)): path for path in _run_folders(folder)}
    if _is_run(folder):
        raise RunFolderError(
            f"{folder} is a run itself, with a page of its own; give the folder that holds it."
        )
    if not runs:
        raise RunFolderError(
            f"there is no run in {folder} or below it; give a folder that holds runs, as "
            "`fathomx train` leaves them."
        )
    told, damaged = _read(runs)
    columns = _columns(told)
    metrics = sorted({name for run in told.values() for name in run.curves})
    metrics.sort(key=lambda name: not name.startswith("validation"))
    held = {
        "columns": [title.replace("_", " ") for title in columns],
        "metrics": metrics,
        "runs": [run.entry(name, columns) for name, run in told.items()],
    }
    body = [
        f"<style>{_STYLE}</style>",
        f"<h1>{len(told)} run{'s' if len(told) != 1 else ''} in {escaped(folder.name or folder)}"
        "</h1>",
        *(f"<p>{escaped(sentence)}</p>" for sentence in damaged),
        '<div class="controls">'
        '<label>filter: words, or such as depth=16 <input type="search" id="filter"></label>'
        '<label>curves of <select id="metric"></select></label>'
        '<output id="count"></output></div>',
        '<svg id="curves" role="img" aria-label="curves of the runs that are ticked"></svg>',
        '<ul id="keys"></ul>',
        '<div class="scroll runs"><table class="wide"><thead><tr id="heads"></tr></thead>'
        '<tbody id="rows"></tbody></table></div>',
        f'<script type="application/json" id="runs">{_embedded(held)}</script>',
        f"<script>{files('fathomx.report').joinpath('overview.js').read_text('utf-8')}</script>",
    ]
    return write_document(folder / FILE, f"Runs in {folder.name or folder}", body), damaged


class _Run:
    """What the page says of a run."""

    def __init__(self, files: RunFiles, link: str) -> None:
        self.config = files.config
        ended, epochs = bool(files.summary), files.epochs
        self.state = "" if ended else f"(not ended, {len(epochs)} epochs)"
        self.link = link if (files.folder / "index.html").is_file() else ""
        self.epochs = [int(record["epoch"]) for record in epochs]
        self.results = {**(epochs[-1] if epochs else {}), **files.summary}
        unsettled = self.results.get("unsettled") or {}
        self.results["unsettled_median"] = unsettled.get("median")
        names = dict.fromkeys(name for record in epochs for name in record)
        self.curves = {
            name: [finite(record.get(name)) for record in epochs]
            for name in names
            if name not in ("epoch", "steps")
            and any(finite(record.get(name)) is not None for record in epochs)
        }

    def entry(self, name: str, columns: Sequence[str]) -> dict[str, Any]:
        values = {**self.config, **self.results}
        cells = [values.get(column) for column in columns]
        return {
            "name": name,
            "state": self.state,
            "link": self.link,
            "epochs": self.epochs,
            "curves": self.curves,
            "cells": [_plain(cell) for cell in cells],
        }


def _run_folders(folder: Path) -> Iterator[Path]:
    """Folders of runs, in the order of their names; a run holds no other.

    Diagnoses and experiments have configurations, too, but record no steps.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not path.is_dir() or path.name.startswith(".") or path.is_symlink():
            continue
        if _is_run(path):
            yield path
        else:
            yield from _run_folders(path)


def _is_run(path: Path) -> bool:
    return (path / "config.json").is_file() and (path / "metrics.jsonl").exists()


def _read(runs: Mapping[str, Path]) -> tuple[dict[str, _Run], list[str]]:
    told, damaged = {}, []
    for name, path in runs.items():
        try:
            told[name] = _Run(RunFiles(path), f"{quote(Path(name).as_posix())}/index.html")
        except (ValueError, OSError, RunFolderError) as error:
            damaged.append(f"{name} is left out: {error}")
    return told, damaged


def _columns(runs: Mapping[str, _Run]) -> list[str]:
    """Choices in which the runs differ, then results that some of them have."""
    choices = dict.fromkeys(name for run in runs.values() for name in run.config)
    differing = [
        name
        for name in choices
        if name not in _NEVER
        and (
            name in _ALWAYS
            or len({json.dumps(run.config.get(name), sort_keys=True) for run in runs.values()}) > 1
        )
    ]
    found = dict.fromkeys(
        name
        for run in runs.values()
        for name, value in run.results.items()
        if finite(value) is not None
    )
    scores = [n for n in found if n.startswith("test_")]
    scores += [n for n in found if n.startswith("validation_")]
    known = [n for n in ("unsettled_median", *_RESULTS) if n in found]
    return [*differing, *(name for name in (*scores, *known) if name not in differing)]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def _embedded(value: Any) -> str:
    """JSON that no browser takes for markup."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
