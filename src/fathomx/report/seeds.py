"""The page of several seeds of some methods: means, deviations, and paired differences."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fathomx.checks import gate
from fathomx.drawing.style import COLORS, new_figure, save
from fathomx.metrics.paired import Paired, paired
from fathomx.records.values import PathLike, finite
from fathomx.report.document import escaped, table, write_document
from fathomx.report.illustrations import Illustration, illustrated
from fathomx.report.scores import label, metrics_of, shown

_NOTE = (
    "± is the standard deviation over the seeds. Differences are paired by seed and less the first "
    "method; their interval is that of the mean at 95% by Student's t, and p is that of the exact "
    "sign-flip test, which {least} seeds cannot bring below {smallest}."
)


class Method(NamedTuple):
    """A method's scores over seeds, and how they differ from those of the first method.

    `seconds` are those of training, by seed; of seeds that were trained together an equal part.
    """

    name: str
    scores: dict[str, dict[int, float]]
    differences: dict[str, Paired]
    seconds: dict[int, float]


@gate
def methods_of(summaries: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[Method]:
    """The methods, the first the one that others are compared with.

    **Arguments**: `summaries`, by the name of the method and the seed. Scores of the test part are
    looked at, and the validation loss.
    """
    found: list[Method] = []
    for name, by_seed in summaries.items():
        seconds = _known(by_seed, "train_seconds")
        keys = dict.fromkeys(key for summary in by_seed.values() for key in metrics_of(summary))
        names = [*(f"test_{key}" for key in keys), "test_loss", "validation_loss"]
        scores: dict[str, dict[int, float]] = {}
        for score in names:
            known = _known(by_seed, score)
            if known:
                scores[score] = known
        differences = {}
        for score, own in scores.items():
            first = found[0].scores.get(score, {}) if found else {}
            both = sorted(own.keys() & first.keys())
            if both:
                pairs = ([each[seed] for seed in both] for each in (own, first))
                differences[score] = paired(*pairs)
        found.append(Method(name, scores, differences, seconds))
    return found


def _known(by_seed: Mapping[int, Mapping[str, Any]], name: str) -> dict[int, float]:
    """What is finite of a number, by seed."""
    values = {seed: finite(summary.get(name)) for seed, summary in by_seed.items()}
    return {seed: value for seed, value in values.items() if value is not None}


@gate
def write_seeds(folder: PathLike, methods: Sequence[Method]) -> Path:
    """Writes `index.html` into a folder: a table of the methods, their differences, a figure.

    Returns the path of the page.
    """
    folder = Path(folder)
    scores = scores_of(methods)
    seeds = max(len(values) for method in methods for values in method.scores.values())
    title = f"{len(methods)} method{'s' if len(methods) > 1 else ''}, {seeds} seeds"
    figures = [
        Illustration(
            f"{score}.png",
            functools.partial(_drawn, methods, score),
            f"{_title(score)} of every seed; lines join the same seed.",
        )
        for score in scores[:1]
    ]
    body = [
        f"<h1>{escaped(title)}</h1>",
        *tables_of_seeds(methods),
        "<h2>Seeds</h2>",
        *illustrated(folder, figures),
        '<p><a href="runs.html">All runs, with their curves</a></p>',
    ]
    return write_document(folder / "index.html", title, body)


def scores_of(methods: Sequence[Method]) -> list[str]:
    """The names of all scores."""
    return list(dict.fromkeys(score for method in methods for score in method.scores))


def score_rows(methods: Sequence[Method]) -> list[tuple[str, ...]]:
    """The table of the methods, its head first: means, deviations and seconds."""
    scores = scores_of(methods)
    rows = [
        (
            method.name,
            *(summed_up(score, list(method.scores.get(score, {}).values())) for score in scores),
            f"{statistics.median(method.seconds.values()):.3g}" if method.seconds else "-",
        )
        for method in methods
    ]
    return [("", *map(_title, scores), "seconds, median"), *rows]


def difference_sentences(methods: Sequence[Method]) -> list[str]:
    """How the other methods differ from the first, a line for every score."""
    return [
        f"{name} less {methods[0].name}, {score}: {mean} (95% interval {interval}, sign-flip test "
        f"p = {p})"
        for name, score, mean, interval, p in difference_rows(methods, scores_of(methods))
    ]


def text_of_seeds(methods: Sequence[Method]) -> str:
    """The methods and their differences as lines of text."""
    rows = score_rows(methods)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    differences = difference_sentences(methods)
    return "\n".join([*lines, *differences, *([_note(methods)] if differences else [])])


def tables_of_seeds(methods: Sequence[Method]) -> list[str]:
    """The methods and their differences as elements of HTML."""
    head, *rows = score_rows(methods)
    return [
        "<h2>Scores</h2>",
        table(head, rows),
        *_differences(methods, scores_of(methods)),
    ]


def difference_rows(methods: Sequence[Method], scores: Sequence[str]) -> list[tuple[str, ...]]:
    """Method, score, mean, deviation, interval and p of the paired differences."""
    return [
        (
            method.name,
            _title(score),
            *_written(found),
        )
        for method in methods
        for score in scores
        if (found := method.differences.get(score)) is not None
    ]


def _written(found: Paired) -> tuple[str, str, str]:
    if len(found.differences) == 1:
        return f"{found.mean:+.4g}", "unknown from one seed", "1"
    return (
        f"{found.mean:+.4g} ± {found.deviation:.2g}",
        f"{found.low:+.4g} to {found.high:+.4g}",
        f"{found.p:.3g}",
    )


def _differences(methods: Sequence[Method], scores: Sequence[str]) -> list[str]:
    rows = difference_rows(methods, scores)
    if not rows:
        return []
    head = (f"less {methods[0].name}", "score", "mean ± deviation", "95% interval", "p")
    return ["<h2>Differences</h2>", table(head, rows), f"<p>{escaped(_note(methods))}</p>"]


def _note(methods: Sequence[Method]) -> str:
    least = min(len(each.differences) for m in methods for each in m.differences.values())
    return _NOTE.format(least=least, smallest=f"{min(1.0, 2 / 2**least):.2g}")


def summed_up(score: str, values: Sequence[float]) -> str:
    """The mean and the standard deviation over seeds."""
    if not values:
        return "-"
    key = score.partition("_")[2]
    mean = shown(key, statistics.fmean(values))
    return f"{mean} ± {shown(key, statistics.stdev(values))}" if len(values) > 1 else mean


def _title(score: str) -> str:
    part, _, key = score.partition("_")
    return f"{part} {label(key)}"


def _drawn(methods: Sequence[Method], score: str, path: Path) -> Path:
    figure, (axes,) = new_figure(3.4)
    seeds = sorted({seed for method in methods for seed in method.scores.get(score, {})})
    for seed in seeds:
        values = [method.scores.get(score, {}).get(seed, np.nan) for method in methods]
        axes.plot(values, color="#b0b0b0", linewidth=0.9, zorder=1)
    for at, method in enumerate(methods):
        values = list(method.scores.get(score, {}).values())
        axes.plot([at] * len(values), values, "o", color=COLORS[at % len(COLORS)], markersize=5)
        if values:
            axes.plot([at - 0.12, at + 0.12], [np.mean(values)] * 2, color="black", linewidth=2)
    axes.set_xticks(range(len(methods)), [method.name for method in methods])
    axes.set_xlim(-0.5, len(methods) - 0.5)
    axes.set_ylabel(_title(score))
    return save(figure, path)
