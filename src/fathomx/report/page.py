"""Pages about runs: one HTML file each, to be opened from disk, with its figures beside it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fathomx.drawing.files import PathLike, atomic, finite
from fathomx.drawing.style import MissingMatplotlibError
from fathomx.report.figures import (
    alignment_per_node,
    energy_over_training,
    energy_per_node,
    learning_curves,
    strength_and_settledness,
)
from fathomx.report.run_files import RunFiles

DISGUISE = 0.99
FAR = 0.5
SETTLED = 1e-3
STIFFENED = 5.0
# Both the precision of a batch and the strength reported are Monte Carlo estimates.
_HELD_WITHIN = 0.25
_UNKNOWN = "not recorded"

_STYLE = """
:root { color-scheme: light dark; --line: #d4d4d4; --soft: #f4f4f2; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --line: #444; --soft: #242424; --accent: #56b4e9; }
  body { background: #181818; color: #e4e4e4; }
}
body { font: 16px/1.55 system-ui, sans-serif; max-width: 58rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin-bottom: 1rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.verdict { border-left: 4px solid var(--accent); background: var(--soft); padding: .7rem 1.1rem; }
.verdict p { margin: .35rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .9rem .3rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
table.wide th, table.wide td { overflow-wrap: normal; }
th { font-weight: 600; }
td { font-variant-numeric: tabular-nums; }
pre { background: var(--soft); padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 1.6rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { font-size: .92rem; margin-top: .3rem; }
""".strip()


def verdict(
    config: Mapping[str, Any], summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What a run shows, in plain sentences.

    **Arguments**

    * `config` and `summary`: as in the run folder; `summary` may be empty.
    * `history`: the records of `metrics.jsonl`, or only those of epochs, as `FitResult.history`.

    It claims nothing that the numbers do not show: what is null is called unknown.

    ```python
    for sentence in verdict(config, result.summary, result.history):
        print(sentence)
    ```
    """
    if not summary:
        return ["The run has not finished: there is no summary yet, so there is no verdict."]
    said = [_accuracy_sentence(summary)]
    loss = finite(summary.get("test_loss"))
    if loss is not None and config.get("context"):
        said[0] += f" Test loss: {loss:.4f} nats per token."
    if config.get("learning") == "backprop":
        said.append("There was no inference: this run learned by backprop.")
        return said
    said += _settled_sentences(config, summary)
    said += _cosine_sentences(summary, history)
    said.append(_strength_sentence(config, summary, history))
    nudge = finite(summary.get("nudge_stability"))
    if nudge is not None and nudge >= 1:
        said.append(
            f"The negative nudge had no equilibrium at the end (nudge stability {_short(nudge)}, "
            "which must stay below 1): use a smaller nudge or strength."
        )
    return said


def _accuracy_sentence(summary: Mapping[str, Any]) -> str:
    test, validation = finite(summary.get("test_accuracy")), summary.get("validation_accuracy")
    if test is None:
        scores = {k: finite(v) for k, v in summary.items() if k.startswith("test_")}
        known = [f"{k.replace('_', ' ')} {_short(v)}" for k, v in scores.items() if v is not None]
        told = set(scores) - {"test_accuracy", "test_loss"}
        return f"{', '.join(known).capitalize()}." if told else "The test accuracy is unknown."
    aside = "" if finite(validation) is None else f" ({_percent(validation)} in validation)"
    return f"Test accuracy: {_percent(test)}{aside}."


def _settled_sentences(config: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    unsettled = summary.get("unsettled") or {}
    median, worst = finite(unsettled.get("median")), finite(unsettled.get("max"))
    if median is None:
        return ["How settled inference was is unknown: there was no inference, or it failed."]
    kept = (
        f"In the last epoch, inference left the median example with {_short(median)} of the "
        "energy gradient it started from"
    )
    kept += f", the worst example with {_short(worst)}" if worst is not None else ""
    if median > FAR:
        meaning = (
            "the activities were far from equilibrium, so the results say little about "
            "equilibrium predictive coding"
        )
    elif median <= SETTLED:
        meaning = "inference reached equilibrium for the median example"
    else:
        meaning = "inference went toward equilibrium without quite reaching it"
    said = [f"{kept}: {meaning}."]
    if median > SETTLED and "relu" in str(config.get("activation", "")).lower():
        said.append(
            "ReLU-like activations have kinks, where that gradient need not vanish even at "
            "equilibrium; judge by the energies."
        )
    return said


def _cosine_sentences(
    summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> list[str]:
    cosine = finite(summary.get("cosine_to_backprop"))
    if cosine is None:
        return ["How close the weight update was to backprop's is unknown."]
    if cosine > DISGUISE:
        meaning = "this run is close to backprop in disguise"
    elif cosine > 0:
        meaning = "a different update, though it points backprop's way"
    else:
        meaning = "a different update, which does not follow backprop's direction"
    said = [
        f"The cosine of the weight update to backprop's was {_short(cosine)} at the end: {meaning}."
    ]
    ends = [record for record in history if "cosine_to_backprop_per_node" in record]
    per_node = (ends[-1]["cosine_to_backprop_per_node"] or []) if ends else []
    known = [(value, n) for n, value in enumerate(map(finite, per_node), 1) if value is not None]
    if len(known) > 1:
        lowest, node = min(known)
        said.append(
            f"The lowest cosine of a single node was {_short(lowest)}, at node {node} of "
            f"{len(per_node)}."
        )
    return said


def _strength_sentence(
    config: Mapping[str, Any], summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> str:
    final = finite(summary.get("pc_strength"))
    if final is None:
        return "The strength is unknown."
    precision = finite(config.get("output_precision"))
    if precision is None:
        return _held_sentence(finite(config.get("strength")), final, history)
    start, whence = _first_strength(history)
    fixed = f"The output precision was fixed at {_short(precision)}"
    if start is None:
        return f"{fixed}; the strength ended at {_short(final)}, from where is unknown."
    moved = f"the strength went from {_short(start)} {whence} to {_short(final)}"
    if start > 0 and final / start > STIFFENED:
        times = f"{final / start:.3g} times"
        return f"{fixed} and {moved}, {times} as much: the network stiffened."
    return f"{fixed}; {moved}."


def _held_sentence(wanted: float | None, final: float, history: Sequence[Mapping[str, Any]]) -> str:
    if wanted is None:
        return f"The strength ended at {_short(final)}."
    if abs(final - wanted) > _HELD_WITHIN * wanted:
        return (
            f"The strength was to be held at {_short(wanted)} but ended at {_short(final)}: it was "
            "not held."
        )
    recorded = _per_step(history, "strength")
    if recorded and max(abs(value - wanted) for value in recorded) > _HELD_WITHIN * wanted:
        low, high = _short(min(recorded)), _short(max(recorded))
        return (
            f"The strength was to be held at {_short(wanted)} and ended there, but ranged from "
            f"{low} to {high} on the way."
        )
    precision = _per_step(history, "output_precision")
    how = "by choosing the output precision of every batch"
    if precision:
        how += f", which went from {_short(precision[0])} to {_short(precision[-1])}"
    return f"The strength was held at {_short(wanted)} {how}."


def _first_strength(history: Sequence[Mapping[str, Any]]) -> tuple[float | None, str]:
    """The earliest strength on record and when that was."""
    steps = _per_step(history, "strength")
    if steps:
        return steps[0], "at the first step"
    for record in history[:-1]:
        strength = finite(record.get("pc_strength"))
        if strength is not None:
            return strength, f"after epoch {record.get('epoch', 1)}"
    return None, ""


def _per_step(history: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    lists = [record[name] for record in history if isinstance(record.get(name), list)]
    numbers = [finite(value) for values in lists for value in values]
    return [number for number in numbers if number is not None]


def write_page(folder: PathLike) -> Path:
    """Writes `index.html` into a run folder, and its figures into `figures/` beside it.

    Without matplotlib the page has no figures and says so. Returns the path of the page.

    ```python
    write_page("runs/digits")
    ```
    """
    run = RunFiles(folder)
    title = _title(run)
    sentences = verdict(run.config, run.summary, run.records)
    body = [
        f"<h1>{_e(title)}</h1>",
        '<section class="verdict">',
        *(f"<p>{_e(sentence)}</p>" for sentence in sentences),
        "</section>",
        "<h2>Figures</h2>",
        *_draw(run.folder, _wanted_figures(run)),
        *([] if run.sample is None else ["<h2>A sample</h2>", f"<pre>{_e(run.sample)}</pre>"]),
        "<h2>Results</h2>",
        _table(("", "value"), _summary_rows(run.summary)),
        "<h2>Configuration</h2>",
        _table(("", "value"), [(k, _plain(v)) for k, v in run.config.items() if k != "command"]),
        "<h2>Repeat this run</h2>",
        f"<pre>{_e(run.config.get('command') or 'The command was not recorded.')}</pre>",
    ]
    return _write(run.folder / "index.html", title, body)


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
    rows = [(name, *_comparison_row(run, files.values())) for name, run in files.items()]
    figure: _Figure = (
        "learning_curves.png",
        lambda path: learning_curves({name: run.folder for name, run in files.items()}, path),
        "Training loss and accuracy of all runs; a lower loss and a higher accuracy are better.",
    )
    body = [
        f"<h1>{_e(title)}</h1>",
        "<h2>Results</h2>",
        _table(_COLUMNS, rows, wide=True),
        f"<p>{_e(_COMPARISON_NOTE)}</p>",
        "<h2>Learning curves</h2>",
        *_draw(folder, [figure]),
        *_differences(files),
    ]
    return _write(folder / "index.html", title, body)


_COLUMNS = (
    "run",
    "test accuracy",
    "validation accuracy",
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


def _comparison_row(run: RunFiles, others: Iterable[RunFiles]) -> tuple[str, ...]:
    summary = run.summary
    unsettled = summary.get("unsettled") or {}
    if run.config.get("learning") == "backprop":
        inference = ("no inference", "no inference", "is backprop", "no inference")
    else:
        inference = (
            _short(unsettled.get("median")),
            _short(unsettled.get("max")),
            _short(summary.get("cosine_to_backprop")),
            _short(summary.get("pc_strength")),
        )
    return (
        _percent(summary.get("test_accuracy")),
        _percent(summary.get("validation_accuracy")),
        *inference,
        _short(summary.get("step_seconds_median")),
        _step_ratio(run, others),
        _short(summary.get("train_seconds")),
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
        values = [_plain(run.config[key]) if key in run.config else "" for run in files.values()]
        if key != "command" and len(set(values)) > 1:
            rows.append((key, *values))
    if not rows:
        return []
    return ["<h2>Where the runs differ</h2>", _table(("", *files), rows, wide=True)]


_Figure = tuple[str, Callable[[Path], Path], str]


def _wanted_figures(run: RunFiles) -> list[_Figure]:
    """File names, functions and captions of the figures that this run has numbers for."""
    found: list[_Figure] = [
        (
            "learning_curves.png",
            lambda path: learning_curves({run.folder.name: run.folder}, path),
            "Loss and accuracy of the feedforward prediction during training.",
        )
    ]
    if run.inference is not None:
        found.append(
            (
                "energy_per_node.png",
                lambda path: energy_per_node(run.folder, path),
                "Where in the network the energy sits during inference, before and after training; "
                "zero energies are left out.",
            )
        )
    if any(record.get("energy_per_node") for record in run.epochs):
        found.append(
            (
                "energy_over_training.png",
                lambda path: energy_over_training(run.folder, path),
                "Where in the network the energy was after inference at the end of every epoch, "
                "and its imbalance: the energy of the half of the nodes nearer to the output over "
                "that of the other half (1 is balanced; there is none where the other half holds "
                "no more than rounding leaves).",
            )
        )
    if run.config.get("learning") != "backprop":
        found += [
            (
                "alignment_per_node.png",
                lambda path: alignment_per_node(run.folder, path),
                "How much each node's weight update agrees with backprop's: 1 is the same "
                "direction, 0 is unrelated, -1 is opposite.",
            ),
            (
                "strength_and_settledness.png",
                lambda path: strength_and_settledness(run.folder, path),
                "How far each batch was from equilibrium (0 is equilibrium, 1 the feedforward "
                "pass), and how strongly inference acted.",
            ),
        ]
    return found


def _draw(folder: Path, figures: Iterable[_Figure]) -> list[str]:
    """Writes the figures into `figures/` and returns them as HTML."""
    lines = []
    for name, draw, caption in figures:
        try:
            draw(folder / "figures" / name)
        except MissingMatplotlibError as error:
            return [f"<p>{_e(error)}</p>"]
        lines.append(
            f'<figure><img src="figures/{name}" alt="{_e(caption)}">'
            f"<figcaption>{_e(caption)}</figcaption></figure>"
        )
    return lines


def _title(run: RunFiles) -> str:
    config = run.config
    model = str(config.get("model", "Network"))
    deep = f" of depth {_plain(config['depth'])}" if "depth" in config else ""
    data = f" on {_plain(config['data'])}" if "data" in config else ""
    learning = f", learning by {_plain(config['learning'])}" if "learning" in config else ""
    return f"{model}{deep}{data}{learning}"


_LABELS = {
    "cosine_to_backprop": "cosine to backprop",
    "cosine_to_backprop_per_node": "cosine to backprop per node",
    "length_to_backprop_per_node": "update length relative to backprop's per node",
    "pc_strength": "strength",
    "train_seconds": "training (seconds)",
    "first_step_seconds": "first step, compilation included (seconds)",
    "step_seconds_median": "step, median (seconds)",
    "unsettled median": "unsettled, median",
    "unsettled max": "unsettled, max",
}


def _summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    flat: list[tuple[str, Any]] = []
    for key, value in summary.items():
        if isinstance(value, Mapping):
            flat += [(f"{key} {inner}", content) for inner, content in value.items()]
        else:
            flat.append((key, value))
    return [
        (
            _LABELS.get(key, key.replace("_", " ")),
            _percent(value) if key.endswith("accuracy") else _short(value),
        )
        for key, value in flat
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, wide: bool = False) -> str:
    if not rows:
        return "<p>Nothing was recorded.</p>"
    top = "".join(f'<th scope="col">{_e(cell)}</th>' for cell in head)
    lines = [
        f'<tr><th scope="row">{_e(row[0])}</th>'
        + "".join(f"<td>{_e(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    ]
    kind = ' class="wide"' if wide else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def _write(path: Path, title: str, body: Sequence[str]) -> Path:
    page = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_e(title)}</title>",
            f"<style>\n{_STYLE}\n</style></head>",
            "<body>",
            *body,
            "</body></html>",
            "",
        ]
    )
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _e(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _percent(value: Any) -> str:
    number = finite(value)
    return _UNKNOWN if number is None else f"{100 * number:.2f}%"


def _short(value: Any) -> str:
    """A value for reading: four digits of a number, the range of a list of numbers."""
    if isinstance(value, list):
        known = [number for number in map(finite, value) if number is not None]
        span = f" from {_short(min(known))} to {_short(max(known))}" if known else ""
        return f"{len(value)} values{span}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return _UNKNOWN if finite(value) is None else f"{value:.4g}"
    return _UNKNOWN if value is None else str(value)


def _plain(value: Any) -> str:
    """A value of the configuration, exactly; null is what was left to the program."""
    return "none" if value is None else str(value)
