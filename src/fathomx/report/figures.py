"""Figures of a run, drawn from the files in its folder.

Every function reads one or several run folders, writes one PNG, 900 pixels wide, and returns its
path. Values that were not recorded, such as the settledness of a backprop run, are left blank.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fathomx.report.run_files import PathLike, RunFiles, atomic, numbers

_WIDTH, _DPI = 7.5, 120
_MOST_LINES = 6
_MOST_DECADES = 12
_LONGEST_NAME = 42
# Okabe and Ito's palette, without its yellow, which is hard to see on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_FAINT, _GRAY = "#8a8a8a", "#d0d0d0"


class MissingMatplotlibError(ImportError):
    """Figures were asked for, but matplotlib is not installed."""


def learning_curves(runs: Mapping[str, PathLike], path: PathLike) -> Path:
    """Loss and accuracy over training, for one run or several on the same axes.

    **Arguments**: `runs`, names and folders, at least one (`ValueError` otherwise); `path` of the
    PNG.

    ```python
    learning_curves({"predictive coding": "runs/pc", "backprop": "runs/bp"}, "curves.png")
    ```
    """
    if not runs:
        raise ValueError("runs is empty; give at least one name with its run folder.")
    figure, (loss_axes, accuracy_axes) = _figure(6.4, rows=2, sharex=True)
    several, window = len(runs) > 1, 1
    handles: list[Any] = []
    for index, (name, folder) in enumerate(runs.items()):
        run = RunFiles(folder)
        color, dash = _COLORS[index % len(_COLORS)], _DASHES[index // len(_COLORS) % len(_DASHES)]
        steps, loss = run.per_step("loss")
        loss[~(loss > 0)] = np.nan
        window = max(window, _window(len(steps)))
        _plot(loss_axes, steps, loss, color=color, alpha=0.22, linewidth=0.7)
        _plot(loss_axes, steps, _smooth(loss), color=color, linestyle=dash, linewidth=1.7)
        _draw_accuracy(accuracy_axes, run, color, dash)
        if several:
            handles.append(_key(_safe(name), color=color, linestyle=dash, linewidth=1.7))
    most = "up to " if several else ""
    average = "" if window == 1 else f", moving average over {most}{_steps(window)}"
    handles += [
        _key("each step", color=_FAINT, alpha=0.5, linewidth=0.7),
        _key(f"training{average}", color=_FAINT, linewidth=1.7),
        _key("validation, after an epoch", color=_FAINT, marker="o", markersize=4, linewidth=0.8),
    ]
    _title(loss_axes, "Training loss of the feedforward prediction")
    loss_axes.set_ylabel("loss, mean over the batch")
    _log("no loss was recorded", loss_axes)
    _title(accuracy_axes, "Accuracy in training and on the validation set")
    accuracy_axes.set_ylabel("accuracy (fraction correct)")
    if not _has_lines(accuracy_axes):
        _note(accuracy_axes, "no accuracy was recorded")
    accuracy_axes.set_xlabel("training step (one batch each)")
    _integers(accuracy_axes.xaxis)
    _legend(figure, handles)
    return _save(figure, path)


def energy_per_node(folder: PathLike, path: PathLike) -> Path:
    """Energy of every node during inference on one batch, before and after training.

    A heat map of nodes and inference steps, or one line per step if they are few. Zero energies,
    which every hidden node has at the feedforward pass, have no logarithm and are left out.

    Raises `FileNotFoundError` for a run without `inference.json`, such as a backprop run.
    """
    run = RunFiles(folder)
    if run.inference is None:
        raise FileNotFoundError(
            f"{run.folder} holds no inference.json, so there are no energies to draw; runs of "
            "backprop have none."
        )
    panels = {
        f"{when} training": _rows((run.inference.get(when) or {}).get("energy"))
        for when in ("before", "after")
    }
    longest = max(len(energy) for energy in panels.values())
    draw = _energy_lines if longest <= _MOST_LINES else _energy_maps
    return _save(draw(panels), path)


def alignment_per_node(folder: PathLike, path: PathLike) -> Path:
    """Cosine between each node's weight update and backprop's, after every epoch.

    A heat map under a line of the overall cosine; for a single epoch one line over the nodes.
    """
    run = RunFiles(folder)
    cosine = _rows([record.get("cosine_to_backprop_per_node") or [] for record in run.epochs])
    overall = run.per_epoch("cosine_to_backprop")
    if len(run.epochs) < 2:
        return _save(_alignment_line(cosine, overall), path)
    epochs = np.array([record["epoch"] for record in run.epochs], float)
    figure, (top, bottom) = _figure(6.4, rows=2, sharex=True, height_ratios=(1, 2.4))
    _plot(top, epochs, overall, color=_COLORS[0], marker="o", markersize=3.5, linewidth=1.5)
    _cosine_axis(top)
    _title(top, f"All weights together: {_last(overall)} after the last epoch")
    _title(bottom, "Each node (gray: no update, or not recorded)")
    bottom.set_xlabel("epoch")
    _integers(bottom.xaxis)
    if np.isfinite(cosine).any():
        image = _heat(bottom, cosine.T, "RdBu", (-1.0, 1.0), (epochs[0], epochs[-1]))
        bar = figure.colorbar(image, ax=bottom, location="bottom", shrink=0.6, aspect=40)
        bar.set_label("cosine to backprop (1: the same direction)", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    else:
        _note(bottom, "no cosines per node were recorded")
    figure.suptitle("Cosine of the weight update to backprop's", fontsize=11)
    return _save(figure, path)


def strength_and_settledness(folder: PathLike, path: PathLike) -> Path:
    """How settled inference was, the strength and the output precision, at every training step."""
    run = RunFiles(folder)
    figure, panels = _figure(7.4, rows=3, sharex=True, height_ratios=(1.5, 1, 1))
    series = {
        "unsettled_median": (panels[0], _COLORS[0]),
        "unsettled_max": (panels[0], _COLORS[1]),
        "strength": (panels[1], _COLORS[2]),
        "output_precision": (panels[2], _COLORS[3]),
    }
    window = 1
    for name, (axes, color) in series.items():
        steps, values = run.per_step(name)
        values[~(values > 0)] = np.nan
        window = max(window, _window(len(steps)))
        _plot(axes, steps, values, color=color, alpha=0.3, linewidth=0.7)
        _plot(axes, steps, _smooth(values), color=color, linewidth=1.5)
    if _has_lines(panels[0]):
        panels[0].axhline(1, color="black", linestyle="--", linewidth=0.9)
    titles = (
        "Unsettled: gradient left after inference, relative to the feedforward pass",
        "Strength: how far inference goes beyond backprop",
        "Output precision",
    )
    labels = ("unsettled (ratio)", "strength (ratio)", "precision (ratio)")
    for axes, title, label in zip(panels, titles, labels, strict=True):
        _title(axes, title)
        axes.set_ylabel(label)
        _log("nothing recorded: this run had no inference, or it was not finite", axes)
    _integers(panels[-1].xaxis)
    average = "" if window == 1 else f" (line: moving average over {_steps(window)})"
    panels[-1].set_xlabel(f"training step, one batch each{average}")
    keys = [
        _key("median example of the batch", color=_COLORS[0]),
        _key("worst example of the batch", color=_COLORS[1]),
        _key("1: no better than the feedforward pass", color="black", linestyle="--"),
    ]
    _legend(figure, keys)
    return _save(figure, path)


def _draw_accuracy(axes: Any, run: RunFiles, color: str, dash: str) -> None:
    steps, accuracy = run.per_step("accuracy")
    _plot(axes, steps, _smooth(accuracy), color=color, alpha=0.6, linestyle=dash, linewidth=1.3)
    _plot(
        axes,
        run.per_epoch("steps"),
        run.per_epoch("validation_accuracy"),
        color=color,
        linestyle=dash,
        marker="o",
        markersize=4,
        linewidth=0.8,
    )


def _energy_lines(panels: Mapping[str, np.ndarray]) -> Any:
    figure, columns = _figure(4.2, columns=2, sharey=True)
    longest = max(len(energy) for energy in panels.values())
    colors = [_sequential(step, longest) for step in range(longest)]
    for axes, (when, energy) in zip(columns, panels.items(), strict=True):
        nodes = np.arange(1, energy.shape[1] + 1)
        for step, row in enumerate(energy):
            shown = np.where(row > 0, row, np.nan)
            # A value with blank neighbors, as at the feedforward pass, shows only as a marker.
            sparse = step == 0 or len(nodes) <= 40
            style = {"marker": "D" if step == 0 else "o", "markersize": 5 if step == 0 else 3}
            marked = style if sparse else {}
            _plot(axes, nodes, shown, color=colors[step], linewidth=1.4, **marked)
        _title(axes, when.capitalize())
        axes.set_xlabel(f"node, from input (1) to output ({len(nodes)})")
        axes.set_xlim(0.5 - 0.02 * len(nodes), 0.5 + 1.02 * max(len(nodes), 1))
        _integers(axes.xaxis)
    columns[0].set_ylabel("energy, mean over the batch")
    _log("no energy above zero was recorded", *columns)
    hidden = any(len(energy) and (energy[0] == 0).any() for energy in panels.values())
    first = "feedforward pass" + (" (zero energies are not drawn)" if hidden else "")
    names = [first] + [f"after {_steps(step, 'inference ')}" for step in range(1, longest)]
    keys = [
        _key(name, color=color, marker="D" if step == 0 else "", linestyle="-" if step else "")
        for step, (name, color) in enumerate(zip(names, colors, strict=False))
    ]
    _legend(figure, keys)
    figure.suptitle("Energy of each node on one batch", fontsize=11)
    return figure


def _energy_maps(panels: Mapping[str, np.ndarray]) -> Any:
    from matplotlib.patches import Patch

    figure, columns = _figure(5.0, columns=2, sharey=True)
    logs = {}
    for when, energy in panels.items():
        logs[when] = np.full(energy.shape, np.nan)
        np.log10(energy, out=logs[when], where=energy > 0)
    seen = np.concatenate([log[np.isfinite(log)] for log in logs.values()])
    high = float(seen.max()) if seen.size else 0.0
    lowest = float(seen.min()) if seen.size else -1.0
    low = max(lowest, high - _MOST_DECADES)
    low = low if low < high else high - 1
    for axes, (when, log) in zip(columns, logs.items(), strict=True):
        _title(axes, when.capitalize())
        axes.set_xlabel("inference step (0: feedforward pass)")
        if np.isfinite(log).any():
            image = _heat(axes, log.T, "viridis", (low, high), (0, len(log) - 1))
            _integers(axes.xaxis)
        else:
            _note(axes, "no energy above zero was recorded")
    if seen.size:
        bar = figure.colorbar(image, ax=list(columns), extend="min" if lowest < low else "neither")
        bar.set_label("energy, log10 of the mean over the batch", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    columns[1].set_ylabel("")
    label = "zero energy, as in hidden nodes at the feedforward pass, or not recorded"
    _legend(figure, [Patch(color=_GRAY, label=label)])
    figure.suptitle("Energy of each node on one batch", fontsize=11)
    return figure


def _alignment_line(cosine: np.ndarray, overall: np.ndarray) -> Any:
    figure, (axes,) = _figure(4.0)
    values = cosine[0] if len(cosine) else np.zeros(0)
    nodes = np.arange(1, len(values) + 1)
    _plot(axes, nodes, values, color=_COLORS[0], marker="o", markersize=3, linewidth=1.2)
    keys = [_key("each node", color=_COLORS[0], marker="o", markersize=3)]
    if np.isfinite(overall).any():
        axes.axhline(overall[0], color=_COLORS[1], linestyle="--", linewidth=1.2)
        words = f"all weights together: {_last(overall)}"
        keys.append(_key(words, color=_COLORS[1], linestyle="--"))
    _title(axes, "Cosine of the weight update to backprop's, after one epoch")
    axes.set_xlabel(f"node, from input (1) to output ({len(values)})")
    _cosine_axis(axes)
    _integers(axes.xaxis)
    if not np.isfinite(values).any():
        _note(axes, "no cosines per node were recorded")
    _legend(figure, keys)
    return figure


def _figure(height: float, *, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
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


def _save(figure: Any, path: PathLike) -> Path:
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})
    return Path(path)


def _plot(axes: Any, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """Draws a line; a single value is a marker, and nothing at all is nothing."""
    shown = np.isfinite(x) & np.isfinite(y)
    if not shown.any():
        return
    if shown.sum() == 1:
        style.setdefault("marker", "o")
    axes.plot(x, y, **style)


def _heat(
    axes: Any, values: np.ndarray, colors: str, limits: tuple[float, float], span: Any
) -> Any:
    """A heat map with nodes upward from the input and `span` the first and last column."""
    import matplotlib

    colormap = matplotlib.colormaps[colors].with_extremes(bad=_GRAY)
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
    axes.set_ylabel(f"node, from input (1) to output ({nodes})")
    _integers(axes.yaxis)
    return image


def _integers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def _cosine_axis(axes: Any) -> None:
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    axes.axhline(0, color=_FAINT, linewidth=0.8)
    axes.set_ylabel("cosine to backprop")


def _has_lines(axes: Any) -> bool:
    return bool(axes.lines)


def _log(otherwise: str, *panels: Any) -> None:
    """Logarithmic axes with the same limits, of a decade or more; a note in an empty one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axes in panels:
        if not _has_lines(axes):
            _note(axes, otherwise)
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
    for axes in filter(_has_lines, panels):
        axes.set_yscale("log")
        axes.set_ylim(10 ** (low - pad), 10 ** (high + pad))
        few = high - low < 2
        if high - low < 3:
            axes.yaxis.set_major_formatter(short)
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5) if few else (1,), numticks=30))
        axes.yaxis.set_minor_formatter(short if few else NullFormatter())


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, fontsize=10)


def _note(axes: Any, text: str) -> None:
    place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, text, fontsize=9, bbox={"facecolor": "white", "linewidth": 0}, **place)
    axes.set_yticks([])


def _key(label: str, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **style)


def _legend(figure: Any, handles: list[Any]) -> None:
    columns = 3 if sum(len(handle.get_label()) for handle in handles) < 100 else 2
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), columns),
        fontsize=8.5,
        frameon=False,
    )


def _safe(name: str) -> str:
    """A name as a legend can show it: not too long, and no formula."""
    shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
    shown = shown.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _sequential(index: int, count: int) -> Any:
    import matplotlib

    if index == 0:
        return _COLORS[1]
    return matplotlib.colormaps["viridis"](0.8 * (index - 1) / max(count - 2, 1))


def _steps(count: int, kind: str = "") -> str:
    return f"1 {kind}step" if count == 1 else f"{count} {kind}steps"


def _last(values: np.ndarray) -> str:
    return f"{values[-1]:.3f}" if len(values) and np.isfinite(values[-1]) else "not recorded"


def _window(count: int) -> int:
    """Steps to average over: odd, about a fortieth of the run."""
    return 2 * (count // 80) + 1


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centered moving average over what was recorded; shorter windows at both ends."""
    window = _window(len(values))
    if window == 1:
        return values
    known = np.isfinite(values)
    ones = np.ones(window)
    total = np.convolve(np.where(known, values, 0), ones, "same")
    count = np.convolve(known.astype(float), ones, "same")
    smooth = np.full(len(values), np.nan)
    np.divide(total, count, out=smooth, where=(count > 0.5) & known)
    return smooth


def _rows(rows: Any) -> np.ndarray:
    """A table of numbers, `(rows, longest row)`, NaN where one is missing."""
    rows = [numbers(list(row)) for row in rows or []]
    table = np.full((len(rows), max((len(row) for row in rows), default=0)), np.nan)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table
