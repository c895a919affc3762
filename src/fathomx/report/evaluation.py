"""An evaluation in sentences, in tables, in figures and on a page, all from `evaluation.json`."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fathomx.checks import gate
from fathomx.drawing.style import (
    COLORS,
    FAINT,
    color_bar,
    legend,
    legend_key,
    line,
    new_figure,
    number_table,
    safe_name,
    save,
    set_title,
)
from fathomx.records.forms import (
    listed,
    named,
    number,
    optional,
    plain_value,
    position,
    table,
    text,
)
from fathomx.records.pictures import FILE as PICTURES
from fathomx.records.pictures import read_pictures
from fathomx.records.predictions import FILE as PREDICTIONS
from fathomx.records.predictions import read_predictions
from fathomx.records.reading import read_json
from fathomx.records.values import PathLike, finite, numbers
from fathomx.report.document import escaped, write_document
from fathomx.report.document import table as html_table
from fathomx.report.figures import draw_predictions
from fathomx.report.illustrations import Illustration, illustrated
from fathomx.report.page import picture_figures
from fathomx.report.scores import label, shown
from fathomx.report.wording import percent, short

FILE = "evaluation.json"
# Classes up to which every count is written into the matrix, and every name beside it.
_COUNTED, _NAMED = 12, 26
_REMEDY = "repeat the evaluation"
# Of a confidence that is off by less, nobody needs to be told which way.
_OFF = 0.005

_ESTIMATE = named({"value": number, "low": number, "high": number, "method": text})
_CLASS = named(
    {
        "name": text,
        "examples": position,
        "predicted": position,
        "hits": position,
        "recall": _ESTIMATE,
        "precision": _ESTIMATE,
    }
)
_NUMBERS = listed(number)
_CALIBRATION = named(
    {
        "error": number,
        **dict.fromkeys(("counts", "confidence", "accuracy", "low", "high"), _NUMBERS),
    }
)
_WORST = named({"index": position, "loss": number}, {"row": listed(plain_value), "text": text})


def _metrics(value: Any) -> None:
    named({})(value)
    named(dict.fromkeys(value, _ESTIMATE))(value)


_FORM = named(
    {"data": text, "part": text, "size": position, "metrics": _metrics},
    {
        "confusion": optional(table),
        "classes": optional(listed(_CLASS)),
        "calibration": optional(_CALIBRATION),
        "worst": listed(_WORST),
        "columns": listed(text),
        "notes": listed(text),
    },
)


@gate
def read_evaluation(folder: PathLike) -> dict[str, Any]:
    """The numbers of an evaluation. Raises `FileNotFoundError` and `ValueError` in one sentence.

    ```python
    read_evaluation("runs/evaluation")["metrics"]["accuracy"]["low"]
    ```
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {FILE}; give an evaluation's folder.")
    return read_json(path, _FORM, _REMEDY)


@gate
def write_evaluation(folder: PathLike) -> Path:
    """Writes `index.html` beside `evaluation.json`, and its figures into `figures/`.

    Without matplotlib the page has no figures and says so. Returns the path of the page.

    ```python
    write_evaluation("runs/evaluation")
    ```
    """
    folder = Path(folder)
    content = read_evaluation(folder)
    title = f"{content.get('model', 'Network')} on {_part(content)}"
    body = [
        f"<h1>{escaped(title)}</h1>",
        '<section class="verdict">',
        *(f"<p>{escaped(sentence)}</p>" for sentence in judgement(content)),
        "</section>",
        "<h2>Metrics</h2>",
        html_table(METRIC_COLUMNS, metric_rows(content), wide=True),
        *_classes(folder, content),
        *_values(folder),
        *_worst(folder, content),
        "<h2>Repeat this evaluation</h2>",
        f"<pre>{escaped(content.get('command') or 'The command was not recorded.')}</pre>",
    ]
    return write_document(folder / "index.html", title, body)


METRIC_COLUMNS = ("", "value", "from", "to (95%)", "interval by")
_METHODS = {"wilson": "Wilson", "bootstrap": "bootstrap over examples", "none": "none"}


def metric_rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table of metrics under `METRIC_COLUMNS`."""
    rows = []
    for name, each in content["metrics"].items():
        method = _METHODS.get(each["method"], each["method"])
        ends = (each["low"], each["high"])
        told = ["-" if finite(end) is None else shown(name, end) for end in ends]
        rows.append((label(name), shown(name, each["value"]), *told, method))
    return rows


def _part(content: Mapping[str, Any]) -> str:
    """What was scored: a part of a data set, or all of it."""
    part = content["part"]
    return f"{'all parts' if part == 'all' else f'the {part} part'} of {content['data']}"


def judgement(content: Mapping[str, Any]) -> list[str]:
    """What an evaluation shows, in plain sentences."""
    return [
        *_accuracy_sentences(content),
        *_calibration_sentences(content),
        *_class_sentences(content),
        *content.get("notes", []),
    ]


def _accuracy_sentences(content: Mapping[str, Any]) -> list[str]:
    told = [name for name in content["metrics"] if name not in ("loss", "energy")]
    name = "accuracy" if "accuracy" in told else next(iter(told or content["metrics"]), None)
    if name is None:
        return ["Nothing was measured."]
    each = content["metrics"][name]
    within = ""
    if finite(each["low"]) is not None:
        within = f" (95%: {shown(name, each['low'])} to {shown(name, each['high'])})"
    titled = label(name)
    sentence = (
        f"{titled[:1].upper()}{titled[1:]} on the {content['size']:,} examples of "
        f"{_part(content)}: {shown(name, each['value'])}{within}."
    )
    classes = content.get("classes") or []
    total = sum(each["examples"] for each in classes)
    if name != "accuracy" or not total:
        return [sentence]
    most = max(classes, key=lambda each: each["examples"])
    chance = percent(most["examples"] / total)
    return [f"{sentence} Naming {most['name']!r} every time would reach {chance}."]


def _calibration_sentences(content: Mapping[str, Any]) -> list[str]:
    found = content.get("calibration")
    if not found:
        return []
    counts, claimed, right = (numbers(found[k]) for k in ("counts", "confidence", "accuracy"))
    total = counts.sum()
    mean, reached = (float(np.nansum(counts * each) / total) for each in (claimed, right))
    way = "as sure as it should be"
    if abs(mean - reached) > _OFF:
        way = "surer than it should be" if mean > reached else "less sure than it should be"
    return [
        f"Expected calibration error: {percent(found['error'])} in {len(counts)} bins of equal "
        f"width. The network claims {percent(mean)} in the mean and reaches {percent(reached)}: "
        f"on the whole it is {way}."
    ]


def _class_sentences(content: Mapping[str, Any]) -> list[str]:
    known = [each for each in content.get("classes") or [] if each["examples"]]
    if not known:
        return []
    worst = min(known, key=lambda each: each["recall"]["value"])
    said = (
        f"The class that is found least often is {worst['name']!r}: "
        f"{worst['hits']:,} of {worst['examples']:,}"
    )
    if not content.get("confusion"):
        return [f"{said}."]
    confusion = number_table(content["confusion"])
    wrong = confusion - np.diag(np.diagonal(confusion))
    if wrong.max(initial=0) == 0:
        return ["No example was taken for another class."]
    at, taken = np.unravel_index(int(wrong.argmax()), wrong.shape)
    names = [each["name"] for each in content["classes"]]
    times = int(wrong[at, taken])
    count = "once" if times == 1 else f"{times:,} times"
    return [
        f"{said}; the commonest mistake is to take {names[at]!r} for {names[taken]!r}, {count}."
    ]


_CLASS_COLUMNS = ("class", "examples", "predicted", "recall", "(95%)", "precision", "(95%)")


def _classes(folder: Path, content: Mapping[str, Any]) -> list[str]:
    if not content.get("classes"):
        return []
    figures = [
        Illustration(
            "confusion_matrix.png",
            functools.partial(confusion_matrix, folder),
            "Which class the examples of each class were taken for; every row is one class, and "
            "colors are parts of its examples.",
        ),
        Illustration(
            "reliability.png",
            functools.partial(reliability, folder),
            "How often predictions are right that claim to be right so often (above), and how many "
            "make that claim (below).",
        ),
    ]
    rows = [
        (
            repr(each["name"]) if each["name"].isspace() else each["name"],
            f"{each['examples']:,}",
            f"{each['predicted']:,}",
            *_within(each["recall"]),
            *_within(each["precision"]),
        )
        for each in content["classes"]
    ]
    return [
        "<h2>Classes</h2>",
        *illustrated(folder, figures if content.get("confusion") else []),
        "<p>Recall is the part of a class's examples that were found, precision the part of the "
        "predictions of a class that are right.</p>",
        html_table(_CLASS_COLUMNS, rows, wide=True),
    ]


def _values(folder: Path) -> list[str]:
    if not (folder / PREDICTIONS).is_file():
        return []
    found = read_predictions(folder / PREDICTIONS, _REMEDY)
    figure = Illustration(
        "predictions.png",
        functools.partial(draw_predictions, found),
        f"What the network predicts of {len(found.target):,} examples, in the units of the "
        "targets: beside what is true (above), and how far it is off (below).",
    )
    return ["<h2>Predictions</h2>", *illustrated(folder, [figure])]


def _worst(folder: Path, content: Mapping[str, Any]) -> list[str]:
    """The examples with the largest loss: as pictures, rows or texts."""
    worst = content.get("worst") or []
    if not worst:
        return []
    title = ["<h2>Worst examples</h2>"]
    if (folder / PICTURES).is_file():
        return [
            *title,
            *illustrated(folder, picture_figures(read_pictures(folder / PICTURES, _REMEDY))),
        ]
    columns = tuple(content.get("columns") or [])
    told = [key for key in ("target", "predicted", "probability") if key in worst[0]]
    head = ("example", "loss", *told, *(("text",) if "text" in worst[0] else columns))
    rows = [
        (
            str(each["index"]),
            short(each["loss"]),
            *(short(each.get(key)) for key in told),
            *([each["text"]] if "text" in each else map(short, each.get("row", []))),
        )
        for each in worst
    ]
    return [
        *title,
        f"<p>The {len(rows)} examples with the largest loss, counted from 0.</p>",
        html_table(head, rows, wide="text" not in worst[0]),
    ]


@gate
def confusion_matrix(folder: PathLike, path: PathLike) -> Path:
    """Heat map of an evaluation: which class the examples of each class were taken for.

    Colors are parts of each class's examples; of up to 12 classes the counts are written. Raises
    `FileNotFoundError` where there is no evaluation, `ValueError` for one without classes.

    ```python
    confusion_matrix("runs/evaluation", "confusion.png")
    ```
    """
    content = read_evaluation(folder)
    counts = number_table(_there(content, "confusion", folder))
    names = [safe_name(each["name"]) for each in content["classes"]]
    total = counts.sum(axis=1, keepdims=True)
    parts = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    figure, (axes,) = new_figure(6.2)
    image = axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(False)
    if len(names) <= _COUNTED:
        for row, column in np.argwhere(counts > 0).tolist():
            axes.text(
                column, row, f"{counts[row, column]:.0f}", ha="center", va="center", fontsize=8,
                color="white" if parts[row, column] > 0.5 else "black",
            )  # fmt: skip
    if len(names) <= _NAMED:
        places = range(len(names))
        slanted = max(map(len, names)) > 2
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        axes.set_xticks(places, names, **turned)
        axes.set_yticks(places, names)
    axes.set_xlabel("class that was predicted")
    axes.set_ylabel("class that it is")
    set_title(axes, f"Confusion of {len(names)} classes, {int(counts.sum()):,} predictions")
    color_bar(figure, image, "part of the class's examples", ax=axes)
    return save(figure, path)


@gate
def reliability(folder: PathLike, path: PathLike) -> Path:
    """The reliability curve of an evaluation: accuracy beside confidence, and how often each is.

    Bars are Wilson intervals at 95%, which leave out that labels at positions of one example
    belong together. Raises `FileNotFoundError` where there is no evaluation, `ValueError` for one
    without classes.

    ```python
    reliability("runs/evaluation", "reliability.png")
    ```

    Source: Guo et al. (2017), arXiv 1706.04599, figure 1.
    """
    content = read_evaluation(folder)
    found = _there(content, "calibration", folder)
    counts, claimed, right = (numbers(found[k]) for k in ("counts", "confidence", "accuracy"))
    low, high = numbers(found["low"]), numbers(found["high"])
    figure, (top, bottom) = new_figure(6.2, rows=2, sharex=True, height_ratios=(2.6, 1))
    ideal = {"color": FAINT, "linestyle": "--", "linewidth": 1.2}
    top.plot([0, 1], [0, 1], **ideal)
    style = {"color": COLORS[0], "marker": "o", "markersize": 4, "linewidth": 1.5}
    known = counts > 0
    bars = np.maximum([right - low, high - right], 0)[:, known]
    top.errorbar(
        claimed[known], right[known], bars, color=COLORS[0], linestyle="", linewidth=1, capsize=2
    )
    line(top, claimed[known], right[known], **style)
    top.set_ylim(-0.03, 1.03)
    top.set_xlim(-0.02, 1.02)
    top.set_ylabel("accuracy")
    set_title(top, f"Expected calibration error {percent(found['error'])}")
    edges = np.linspace(0, 1, len(counts) + 1)
    bottom.bar(edges[:-1], counts / counts.sum(), np.diff(edges), align="edge", color=COLORS[5],
               edgecolor="white", linewidth=0.6)  # fmt: skip
    bottom.set_ylabel("part of the\npredictions")
    bottom.set_xlabel("confidence: probability of the class that is predicted")
    keys = [
        legend_key("mean of a bin, with its interval at 95%", **style),
        legend_key("as sure as it should be", **ideal),
    ]
    legend(figure, keys)
    return save(figure, path)


def _there(content: Mapping[str, Any], name: str, folder: PathLike) -> Any:
    if not content.get(name):
        raise ValueError(
            f"{Path(folder) / FILE} holds no {name}: its targets are of another kind; give another "
            "evaluation, or draw a figure that its page has."
        )
    return content[name]


def _within(estimate: Mapping[str, Any]) -> Sequence[str]:
    if finite(estimate["value"]) is None:
        return "-", ""
    return (
        percent(estimate["value"]),
        # On one line, also of a narrow page.
        f"{percent(estimate['low'])}\u00a0to\u00a0{percent(estimate['high'])}",
    )
