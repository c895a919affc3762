"""The page that compares runs: results side by side, curves together, where the runs differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fathomx.checks import gate
from fathomx.records.run_files import RunFiles
from fathomx.records.values import PathLike, finite
from fathomx.report.document import escaped, table, write_document
from fathomx.report.figures import learning_curves
from fathomx.report.illustrations import Illustration, illustrated
from fathomx.report.scores import better, label, metrics_of, shown
from fathomx.report.wording import plain, short


@gate
def write_comparison(folder: PathLike, runs: Mapping[str, PathLike]) -> Path:
    """Writes `index.html` into `folder`, comparing runs side by side.

    **Arguments**: `folder`, made if missing; `runs`, names and run folders, at least one
    (`ValueError` otherwise). A step's time is set against that of the first backprop run with the
    same data, network and batch size. Returns the path of the page.

    ```python
    write_comparison("runs/both", {"predictive coding": "runs/pc", "backprop": "runs/bp"})
    ```
    """
    if not runs:
        raise ValueError("runs is empty; give at least one name with its run folder.")
    folder = Path(folder)
    files = {name: RunFiles(where) for name, where in runs.items()}
    title = f"Comparison of {len(files)} runs" if len(files) > 1 else "One run"
    metrics = metrics_of({name: 0 for run in files.values() for name in run.summary})
    metrics = metrics or ["accuracy"]
    rows = [(name, *_comparison_row(run, files.values(), metrics)) for name, run in files.items()]
    goods = ["a lower loss", *(f"a {better(k)} {label(k)}" for k in metrics if better(k))]
    figure = Illustration(
        "learning_curves.png",
        lambda path: learning_curves({name: run.folder for name, run in files.items()}, path),
        f"Loss and {label(metrics[0])} of all runs; {' and '.join(goods)} are better.",
    )
    body = [
        f"<h1>{escaped(title)}</h1>",
        "<h2>Results</h2>",
        table((*_columns_of(metrics), *_COLUMNS), rows, wide=True),
        f"<p>{escaped(_COMPARISON_NOTE)}</p>",
        "<h2>Learning curves</h2>",
        *illustrated(folder, [figure]),
        *_differences(files),
    ]
    return write_document(folder / "index.html", title, body)


_COLUMNS = (
    "unsettled, median",
    "unsettled, max",
    "cosine to backprop",
    "strength",
    "seconds per step",
    "step time / backprop's",
    "training seconds",
)

_COMPARISON_NOTE = (
    "Unsettled is the gradient of the energy left after inference relative to the feedforward "
    "pass: 0 is equilibrium, 1 is the feedforward pass. A cosine above 0.99 means close to "
    "backprop in disguise. Step times are set against a backprop run with the same data, network "
    "and batch size, if there is one."
)

_SAME_NETWORK = ("data", "model", "depth", "width", "batch_size")


def _columns_of(metrics: Sequence[str]) -> tuple[str, ...]:
    """The name of a run, and each metric on test and validation examples."""
    return ("run", *(f"{part} {label(key)}" for key in metrics for part in ("test", "validation")))


def _comparison_row(
    run: RunFiles, others: Iterable[RunFiles], metrics: Sequence[str]
) -> tuple[str, ...]:
    summary = run.summary
    unsettled = summary.get("unsettled") or {}
    if run.config.get("learning") == "backprop":
        inference = ("no inference", "no inference", "is backprop", "no inference")
    else:
        inference = (
            short(unsettled.get("median")),
            short(unsettled.get("max")),
            short(summary.get("cosine_to_backprop")),
            short(summary.get("pc_strength")),
        )
    return (
        *(
            shown(key, summary.get(f"{part}_{key}"))
            for key in metrics
            for part in ("test", "validation")
        ),
        *inference,
        short(summary.get("step_seconds_median")),
        _step_ratio(run, others),
        short(summary.get("train_seconds")),
    )


def _step_ratio(run: RunFiles, others: Iterable[RunFiles]) -> str:
    own = finite(run.summary.get("step_seconds_median"))
    for other in others:
        theirs = finite(other.summary.get("step_seconds_median"))
        same = all(run.config.get(key) == other.config.get(key) for key in _SAME_NETWORK)
        if other.config.get("learning") == "backprop" and same and own is not None and theirs:
            return f"{own / theirs:.3g}"
    return "no match"


def _differences(files: Mapping[str, RunFiles]) -> list[str]:
    """A table of the choices in which the runs differ."""
    keys = list(dict.fromkeys(key for run in files.values() for key in run.config))
    rows = []
    for key in keys:
        values = [plain(run.config[key]) if key in run.config else "" for run in files.values()]
        if key != "command" and len(set(values)) > 1:
            rows.append((key, *values))
    if not rows:
        return []
    return ["<h2>Where the runs differ</h2>", table(("", *files), rows, wide=True)]
