"""The benchmark at one glance: step times beside Fathomx's, and times to equilibrium."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cases import ACCELERATOR_CASES, BY_NAME, FABRICPC, FATHOMX, JAX, JPC, PCX, Race

from fathomx.drawing.style import COLORS, FAINT, legend, legend_key, new_figure, save, set_title

Row = dict[str, Any]

_STYLE = {
    FATHOMX: ("Fathomx", COLORS[0], "o"),
    FABRICPC: ("FabricPC", COLORS[1], "s"),
    PCX: ("PCX", COLORS[2], "^"),
    JPC: ("JPC", COLORS[3], "v"),
    JAX: ("plain JAX", COLORS[6], "D"),
}
_LINE_HEIGHT, _REST = 0.21, 1.1


@dataclasses.dataclass(frozen=True)
class _Point:
    """One library's value on the line `label` of the group `case`."""

    case: str
    label: str
    library: str
    value: float
    spread: tuple[float, float]
    reached: bool = True


def draw(record: dict[str, Any], path: Path) -> Path:
    """Draws a panel of step times and one of races, as far as there are any."""
    steps = [row for row in record["comparisons"] if row["measure"] == "step"]
    panels = [
        (
            "Training step: how many times Fathomx's time (right: slower)",
            list(map(_step_point, steps)),
        ),
        (
            "Seconds until all activities of a batch have settled (arrows: not there yet)",
            list(map(_race_point, _best(record["races"]))),
        ),
    ]
    panels = [(title, points) for title, points in panels if points]
    heights = [len(_lines(points)) * _LINE_HEIGHT + _REST for _, points in panels]
    figure, axes = new_figure(
        sum(heights) + 0.3, rows=len(panels), gridspec_kw={"height_ratios": heights}
    )
    for panel, (title, points) in zip(axes, panels, strict=True):
        set_title(panel, title)
        _draw_points(panel, points)
    if record["comparisons"]:
        axes[0].axvline(1, color=COLORS[0], linewidth=1.5)
    shown = {point.library for _, points in panels for point in points}
    legend(
        figure,
        [
            legend_key(label, color=color, marker=marker, linestyle="none")
            for library, (label, color, marker) in _STYLE.items()
            if library in shown
        ],
    )
    return save(figure, path)


def _step_point(row: Row) -> _Point:
    own, other = (row[name].split(",")[0] for name in ("fathomx", "method"))
    label = own if own == other else f"{own} / {other}"
    return _Point(row["case"], label, row["library"], row["ratio"], tuple(row["quartiles"]))


def _race_point(row: Row) -> _Point:
    seconds, label = row["seconds"], row["algorithm"]
    if "rate" in row["method"]:
        label = f"{label}, {'Adam' if 'Adam' in row['method'] else 'best rate'}"
    spread = (seconds, seconds)
    return _Point(row["case"], label, row["library"], seconds, spread, row["arrived"])


def _best(rows: Iterable[Row]) -> list[Row]:
    """The fastest rate of every solver; where none arrived, the one that came nearest."""

    def merit(row: Row) -> tuple[bool, float]:
        unsettled = float("inf") if row["unsettled"] is None else row["unsettled"]
        return not row["arrived"], row["seconds"] if row["arrived"] else unsettled

    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if "seconds" in row:
            optimizer = "Adam" if "Adam" in row["method"] else ""
            key = (row["case"], row["library"], row["algorithm"], optimizer)
            groups.setdefault(key, []).append(row)
    return [min(group, key=merit) for group in groups.values()]


def _lines(points: Sequence[_Point]) -> list[tuple[str, str]]:
    """Every case, as a heading, and its labels."""
    lines: dict[tuple[str, str], None] = {}
    for point in points:
        lines[point.case, ""] = None
        lines[point.case, point.label] = None
    return list(lines)


def _draw_points(axes: Any, points: Sequence[_Point]) -> None:
    lines = _lines(points)
    for point in points:
        _, color, marker = _STYLE[point.library]
        place = lines.index((point.case, point.label))
        axes.plot(point.spread, (place, place), color=color, linewidth=1.5)
        marker = marker if point.reached else ">"
        axes.plot(point.value, place, color=color, marker=marker, markersize=6)
    axes.set_yticks(range(len(lines)), [label or _name(case) for case, label in lines])
    for (_, label), text in zip(lines, axes.get_yticklabels(), strict=True):
        text.set(fontsize=8, fontweight="normal" if label else "bold")
    for place, (_, label) in enumerate(lines):
        if not label and place:
            axes.axhline(place - 0.5, color=FAINT, linewidth=0.6)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    _log_scale(axes)


def _name(name: str) -> str:
    place = BY_NAME[name]
    task = place.task
    said = [_MODELS.get(task.model, f"{task.depth} nodes"), f"width {task.width:g}"]
    if task.model not in _MODELS:
        said.append(task.activation)
    if place in ACCELERATOR_CASES:
        said.append(task.precision)
    if isinstance(place, Race):
        said.append(f"to {place.tolerance:g}")
    return ", ".join(said)


_MODELS = {"decoder": "decoder", "vgg-5": "VGG-5", "vgg-10": "VGG-10", "resnet-18": "ResNet-18"}


def _log_scale(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1, 2, 5) if high / low < 1e3 else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=30))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
