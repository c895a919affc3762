"""What all figures share: size, colors, axes, heat maps and legends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fathomx.records.values import PathLike, numbers
from fathomx.records.writing import atomic

_WIDTH, _DPI = 7.5, 120
_MOST_DECADES = 12
_LONGEST_NAME = 42
# Okabe and Ito's palette, without its yellow, which is hard to see on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
FAINT, GRAY = "#8a8a8a", "#d0d0d0"


class MissingMatplotlibError(ImportError):
    """Figures were asked for, but matplotlib is not installed."""


def new_figure(
    height: float, *, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Any, Any]:
    """An empty figure and its axes, without pyplot and its global state."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingMatplotlibError(
            "Figures need matplotlib, which is not installed; run `pip install fathomx[figures]`."
        ) from error
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for axes in panels:
        axes.set_facecolor("white")
        axes.tick_params(which="both", labelsize=8)
        axes.xaxis.label.set_size(9)
        axes.yaxis.label.set_size(9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, panels


def save(figure: Any, path: PathLike) -> Path:
    """Writes the figure as a PNG, whole or not at all."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})
    return Path(path)


def line(axes: Any, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """Draws a line; a single value is a marker, and nothing at all is nothing."""
    shown = np.isfinite(x) & np.isfinite(y)
    if not shown.any():
        return
    if shown.sum() == 1:
        style.setdefault("marker", "o")
    axes.plot(x, y, **style)


def heat_map(
    axes: Any, values: np.ndarray, colors: str, limits: tuple[float, float], span: Any
) -> Any:
    """A heat map with nodes upward from the input and `span` the first and last column."""
    import matplotlib

    colormap = matplotlib.colormaps[colors].with_extremes(bad=GRAY)
    nodes = len(values)
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=colormap,
        vmin=limits[0],
        vmax=limits[1],
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(span[0] - 0.5, span[1] + 0.5, 0.5, nodes + 0.5),
    )
    axes.grid(False)
    axes.set_ylabel(_all_nodes(nodes))
    integers(axes.yaxis)
    return image


def color_bar(figure: Any, image: Any, label: str, **options: Any) -> None:
    """The scale of a heat map, beside it or where `options` say."""
    bar = figure.colorbar(image, **options)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def node_axis(axes: Any, count: int) -> None:
    """A horizontal axis of nodes, with a little room beside the first and the last."""
    axes.set_xlim(0.5 - 0.02 * count, 0.5 + 1.02 * max(count, 1))
    axes.set_xlabel(_all_nodes(count))
    integers(axes.xaxis)


def _all_nodes(count: int) -> str:
    return f"node, from input (1) to output ({count})"


def integers(axis: Any) -> None:
    """Ticks at whole numbers only, eight at most."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def has_lines(axes: Any) -> bool:
    """Whether anything was drawn as a line."""
    return bool(axes.lines)


def log_axes(otherwise: str, *panels: Any) -> None:
    """Logarithmic axes with the same limits, of a decade or more; a note in an empty one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axes in panels:
        if not has_lines(axes):
            note(axes, otherwise)
    lines = [line for axes in panels for line in axes.lines]
    if not lines:
        return
    seen = np.concatenate([np.asarray(line.get_ydata(), float) for line in lines])
    seen = np.log10(seen[seen > 0])
    low, high = float(seen.min()), float(seen.max())
    pad = max(0.06 * (high - low), (1.3 - (high - low)) / 2)
    short = FuncFormatter(lambda value, _: f"{value:g}")
    for axes in panels:
        # Matplotlib would otherwise scale first, and warn where all values are the same.
        axes.set_autoscaley_on(False)
    for axes in filter(has_lines, panels):
        axes.set_yscale("log")
        axes.set_ylim(10 ** (low - pad), 10 ** (high + pad))
        few = high - low < 2
        if high - low < 3:
            axes.yaxis.set_major_formatter(short)
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5) if few else (1,), numticks=30))
        axes.yaxis.set_minor_formatter(short if few else NullFormatter())


def log10(values: np.ndarray) -> np.ndarray:
    """Logarithms to base 10; NaN where a value is not positive."""
    logs = np.full(values.shape, np.nan)
    np.log10(values, out=logs, where=values > 0)
    return logs


def decades(*logs: np.ndarray) -> tuple[float, float, bool]:
    """Limits of a color scale for logarithms, twelve decades at most, and whether they cut."""
    seen = np.concatenate([log[np.isfinite(log)] for log in logs])
    high = float(seen.max()) if seen.size else 0.0
    lowest = float(seen.min()) if seen.size else -1.0
    low = max(lowest, high - _MOST_DECADES)
    return (low if low < high else high - 1), high, lowest < low


def set_title(axes: Any, text: str) -> None:
    """The title of one panel."""
    axes.set_title(text, fontsize=10)


def note(axes: Any, text: str) -> None:
    """Says in an empty panel why it is empty."""
    place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, text, fontsize=9, bbox={"facecolor": "white", "linewidth": 0}, **place)
    axes.set_yticks([])


def legend_key(label: str, **style: Any) -> Any:
    """An entry of the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **style)


def legend(figure: Any, handles: list[Any]) -> None:
    """A legend below all panels."""
    columns = 3 if sum(len(handle.get_label()) for handle in handles) < 100 else 2
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), columns),
        fontsize=8.5,
        frameon=False,
    )


def safe_name(name: str) -> str:
    """A name as a legend can show it: not too long, and no formula."""
    shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
    shown = shown.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def sequential(index: int, count: int) -> Any:
    """The color of one of `count` steps in order; the first stands out."""
    import matplotlib

    if index == 0:
        return COLORS[1]
    return matplotlib.colormaps["viridis"](0.8 * (index - 1) / max(count - 2, 1))


def count_steps(count: int, kind: str = "") -> str:
    """A number of steps in words."""
    return f"1 {kind}step" if count == 1 else f"{count} {kind}steps"


def number_table(rows: Any) -> np.ndarray:
    """A table of numbers, `(rows, longest row)`, NaN where one is missing."""
    rows = [numbers(list(row)) for row in rows or []]
    table = np.full((len(rows), max((len(row) for row in rows), default=0)), np.nan)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table
