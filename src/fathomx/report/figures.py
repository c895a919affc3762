"""Figures of a run, drawn from the files in its folder.

Every function reads one or several run folders, writes one PNG, 900 pixels wide, and returns its
path. Values that were not recorded, such as the settledness of a backprop run, are left blank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fathomx.checks import gate
from fathomx.drawing.style import (
    COLORS,
    DASHES,
    FAINT,
    GRAY,
    color_bar,
    count_steps,
    decades,
    has_lines,
    heat_map,
    integers,
    legend,
    legend_key,
    line,
    log10,
    log_axes,
    new_figure,
    node_axis,
    note,
    number_table,
    safe_name,
    save,
    sequential,
    set_title,
)
from fathomx.records.predictions import Predictions
from fathomx.records.run_files import RunFiles
from fathomx.records.values import PathLike
from fathomx.report.scores import better, label, metrics_of

_MOST_LINES = 6
_MOST_TARGETS = 3
_QUARTERS = ("first quarter (input)", "second quarter", "third quarter", "last quarter (output)")


@gate
def learning_curves(runs: Mapping[str, PathLike], path: PathLike) -> Path:
    """Loss and first metric over training, for one run or several on the same axes.

    The metric is the accuracy where there is one.

    **Arguments**: `runs`, names and folders, at least one (`ValueError` otherwise); `path` of the
    PNG.

    ```python
    learning_curves({"predictive coding": "runs/pc", "backprop": "runs/bp"}, "curves.png")
    ```
    """
    if not runs:
        raise ValueError("runs is empty; give at least one name with its run folder.")
    figure, (loss_axes, metric_axes) = new_figure(6.4, rows=2, sharex=True)
    metric = _first_metric(RunFiles(folder) for folder in runs.values())
    several, window = len(runs) > 1, 1
    handles: list[Any] = []
    for index, (name, folder) in enumerate(runs.items()):
        run = RunFiles(folder)
        color, dash = COLORS[index % len(COLORS)], DASHES[index // len(COLORS) % len(DASHES)]
        steps, loss = run.per_step("loss")
        loss[~(loss > 0)] = np.nan
        window = max(window, _window(len(steps)))
        line(loss_axes, steps, loss, color=color, alpha=0.22, linewidth=0.7)
        line(loss_axes, steps, _smooth(loss), color=color, linestyle=dash, linewidth=1.7)
        _draw_metric(metric_axes, run, metric, {"color": color, "linestyle": dash})
        if several:
            handles.append(legend_key(safe_name(name), color=color, linestyle=dash, linewidth=1.7))
    most = "up to " if several else ""
    average = "" if window == 1 else f", moving average over {most}{count_steps(window)}"
    handles += [
        legend_key("each step", color=FAINT, alpha=0.5, linewidth=0.7),
        legend_key(f"training{average}", color=FAINT, linewidth=1.7),
        legend_key("validation", color=FAINT, marker="o", markersize=4, linewidth=0.8),
    ]
    set_title(loss_axes, "Training loss of the feedforward prediction")
    loss_axes.set_ylabel("loss, mean over the batch")
    log_axes("no loss was recorded", loss_axes)
    if metric == "accuracy":
        set_title(metric_axes, "Accuracy in training and on the validation set")
        metric_axes.set_ylabel("accuracy (fraction correct)")
    else:
        wish, words = better(metric), label(metric)
        set_title(metric_axes, f"{words[:1].upper()}{words[1:]} on the validation set")
        metric_axes.set_ylabel(words + (f" ({wish} is better)" if wish else ""))
    if not has_lines(metric_axes):
        note(metric_axes, f"no {label(metric)} was recorded")
    metric_axes.set_xlabel("training step (one batch each)")
    integers(metric_axes.xaxis)
    legend(figure, handles)
    return save(figure, path)


@gate
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
        f"{when} training": number_table((run.inference.get(when) or {}).get("energy"))
        for when in ("before", "after")
    }
    longest = max(len(energy) for energy in panels.values())
    draw = _energy_lines if longest <= _MOST_LINES else _energy_maps
    return save(draw(panels), path)


@gate
def energy_over_training(folder: PathLike, path: PathLike) -> Path:
    """Energy of every node after inference at the end of every epoch, and its imbalance.

    A heat map of nodes and epochs over a line of the imbalance: the energy of the half of the
    nodes nearer to the output over that of the other half. For a single epoch one line over the
    nodes. What has no logarithm is left out: zero energies, an imbalance that is zero or infinite.
    """
    run = RunFiles(folder)
    energy = number_table([record.get("energy_per_node") or [] for record in run.epochs])
    imbalance = run.per_epoch("imbalance")
    if len(run.epochs) < 2:
        return save(_energy_line(energy, imbalance), path)
    return save(_energy_epochs(run.epochs, energy, imbalance), path)


@gate
def alignment_per_node(folder: PathLike, path: PathLike) -> Path:
    """Cosine between each node's weight update and backprop's, after every epoch.

    A heat map under lines of the overall cosine and of the means of the quarters of the depth, and
    between them target alignment, the rule's and backprop's, where they were recorded; for a
    single epoch one line over the nodes.
    """
    run = RunFiles(folder)
    cosine = number_table(
        [record.get("cosine_to_backprop_per_node") or [] for record in run.epochs]
    )
    quarters = number_table(
        [record.get("cosine_to_backprop_per_quarter") or [] for record in run.epochs]
    )
    overall = run.per_epoch("cosine_to_backprop")
    targets = {
        "the rule": run.per_epoch("target_alignment"),
        "backprop": run.per_epoch("target_alignment_of_backprop"),
    }
    if len(run.epochs) < 2:
        return save(_alignment_line(cosine, quarters, overall, targets), path)
    return save(_alignment_epochs(run.epochs, cosine, quarters, overall, targets), path)


@gate
def strength_and_settledness(folder: PathLike, path: PathLike) -> Path:
    """How settled inference was, the strength and the output precision, at every training step."""
    run = RunFiles(folder)
    figure, panels = new_figure(7.4, rows=3, sharex=True, height_ratios=(1.5, 1, 1))
    series = {
        "unsettled_median": (panels[0], COLORS[0]),
        "unsettled_max": (panels[0], COLORS[1]),
        "strength": (panels[1], COLORS[2]),
        "output_precision": (panels[2], COLORS[3]),
    }
    window = 1
    for name, (axes, color) in series.items():
        steps, values = run.per_step(name)
        values[~(values > 0)] = np.nan
        if np.isfinite(values).any():
            # Not every step has a certificate; a line goes from one to the next.
            steps, values = steps[np.isfinite(values)], values[np.isfinite(values)]
        window = max(window, _window(len(steps)))
        line(axes, steps, values, color=color, alpha=0.3, linewidth=0.7)
        line(axes, steps, _smooth(values), color=color, linewidth=1.5)
    if has_lines(panels[0]):
        panels[0].axhline(1, color="black", linestyle="--", linewidth=0.9)
    titles = (
        "Unsettled: gradient left after inference, relative to the feedforward pass",
        "Strength: how far inference goes beyond backprop",
        "Output precision",
    )
    units = ("unsettled (ratio)", "strength (ratio)", "precision (ratio)")
    for axes, title, unit in zip(panels, titles, units, strict=True):
        set_title(axes, title)
        axes.set_ylabel(unit)
        log_axes("nothing recorded: this run had no inference, or it was not finite", axes)
    integers(panels[-1].xaxis)
    average = "" if window == 1 else f" (line: moving average over {count_steps(window)})"
    panels[-1].set_xlabel(f"training step, one batch each{average}")
    keys = [
        legend_key("median example of the batch", color=COLORS[0]),
        legend_key("worst example of the batch", color=COLORS[1]),
        legend_key("1: no better than the feedforward pass", color="black", linestyle="--"),
    ]
    legend(figure, keys)
    return save(figure, path)


@gate
def predictions(folder: PathLike, path: PathLike) -> Path:
    """What the trained network predicts of each target beside what is true, and the residuals.

    One column for each of up to three targets; on the dashed line predictions are exact.

    Raises `FileNotFoundError` for a run without `predictions.json`, as one of classes is.
    """
    run = RunFiles(folder)
    if run.predictions is None:
        raise FileNotFoundError(
            f"{run.folder} holds no predictions.json, so there is nothing to draw; runs whose "
            "targets are classes have none."
        )
    return draw_predictions(run.predictions, path)


def draw_predictions(found: Predictions, path: PathLike) -> Path:
    """The figure of `predictions`, of predictions that have been read."""
    shown = min(len(found.names), _MOST_TARGETS)
    figure, panels = new_figure(6.4, rows=2, columns=shown, height_ratios=(2, 1))
    dots = {"s": 16, "alpha": 0.55, "linewidth": 0, "color": COLORS[0]}
    exact = {"color": "black", "linestyle": "--", "linewidth": 0.9}
    for column in range(shown):
        top, bottom = panels[column], panels[shown + column]
        true, said = found.target[:, column], found.prediction[:, column]
        known = np.isfinite(true) & np.isfinite(said)
        true, said = true[known], said[known]
        error = np.sqrt(np.mean((true - said) ** 2)) if len(true) else np.nan
        set_title(top, f"{safe_name(found.names[column])} (RMSE {error:.4g})")
        if not len(true):
            note(top, "no finite prediction was recorded")
            continue
        ends = np.array([min(true.min(), said.min()), max(true.max(), said.max())])
        top.plot(ends, ends, **exact)
        top.scatter(said, true, **dots)
        bottom.axhline(0, **exact)
        bottom.scatter(said, true - said, **dots)
        bottom.set_xlabel("predicted")
        bottom.sharex(top)
    panels[0].set_ylabel("true")
    panels[shown].set_ylabel("true - predicted")
    keys = [
        legend_key("an example each", color=COLORS[0], marker="o", markersize=4, linestyle=""),
        legend_key("exact", **exact),
    ]
    legend(figure, keys)
    hidden = len(found.names) - shown
    more = f" (the first {shown} of {len(found.names)} targets)" if hidden else ""
    figure.suptitle(f"Predictions for the {found.part} set{more}", fontsize=11)
    return save(figure, path)


def _first_metric(runs: Iterable[RunFiles]) -> str:
    """The metric to draw: the accuracy, or the first one of the first run that has any."""
    found = [key for run in runs if run.epochs for key in metrics_of(run.epochs[-1])]
    return "accuracy" if "accuracy" in found or not found else found[0]


def _draw_metric(axes: Any, run: RunFiles, metric: str, style: Mapping[str, Any]) -> None:
    if metric == "accuracy":
        steps, accuracy = run.per_step("accuracy")
        line(axes, steps, _smooth(accuracy), alpha=0.6, linewidth=1.3, **style)
    points = run.validation(f"validation_{metric}")
    line(axes, *points, marker="o", markersize=4, linewidth=0.8, **style)


def _energy_lines(panels: Mapping[str, np.ndarray]) -> Any:
    figure, columns = new_figure(4.2, columns=2, sharey=True)
    longest = max(len(energy) for energy in panels.values())
    colors = [sequential(step, longest) for step in range(longest)]
    for axes, (when, energy) in zip(columns, panels.items(), strict=True):
        nodes = np.arange(1, energy.shape[1] + 1)
        for step, row in enumerate(energy):
            shown = np.where(row > 0, row, np.nan)
            # A value with blank neighbors, as at the feedforward pass, shows only as a marker.
            sparse = step == 0 or len(nodes) <= 40
            style = {"marker": "D" if step == 0 else "o", "markersize": 5 if step == 0 else 3}
            marked = style if sparse else {}
            line(axes, nodes, shown, color=colors[step], linewidth=1.4, **marked)
        set_title(axes, when.capitalize())
        node_axis(axes, len(nodes))
    columns[0].set_ylabel("energy, mean over the batch")
    log_axes("no energy above zero was recorded", *columns)
    hidden = any(len(energy) and (energy[0] == 0).any() for energy in panels.values())
    first = "feedforward pass" + (" (zero energies are not drawn)" if hidden else "")
    names = [first] + [f"after {count_steps(step, 'inference ')}" for step in range(1, longest)]
    keys = [
        legend_key(
            name, color=color, marker="D" if step == 0 else "", linestyle="-" if step else ""
        )
        for step, (name, color) in enumerate(zip(names, colors, strict=False))
    ]
    legend(figure, keys)
    figure.suptitle("Energy of each node on one batch", fontsize=11)
    return figure


def _energy_maps(panels: Mapping[str, np.ndarray]) -> Any:
    from matplotlib.patches import Patch

    figure, columns = new_figure(5.0, columns=2, sharey=True)
    logs = {when: log10(energy) for when, energy in panels.items()}
    low, high, cut = decades(*logs.values())
    for axes, (when, log) in zip(columns, logs.items(), strict=True):
        set_title(axes, when.capitalize())
        axes.set_xlabel("inference step (0: feedforward pass)")
        if np.isfinite(log).any():
            image = heat_map(axes, log.T, "viridis", (low, high), (0, len(log) - 1))
            integers(axes.xaxis)
        else:
            note(axes, "no energy above zero was recorded")
    if any(np.isfinite(log).any() for log in logs.values()):
        label = "energy, log10 of the mean over the batch"
        color_bar(figure, image, label, ax=list(columns), extend="min" if cut else "neither")
    columns[1].set_ylabel("")
    label = "zero energy, as in hidden nodes at the feedforward pass, or not recorded"
    legend(figure, [Patch(color=GRAY, label=label)])
    figure.suptitle("Energy of each node on one batch", fontsize=11)
    return figure


def _energy_epochs(
    records: Sequence[Mapping[str, Any]], energy: np.ndarray, imbalance: np.ndarray
) -> Any:
    from matplotlib.patches import Patch

    epochs = np.array([record["epoch"] for record in records], float)
    figure, (top, bottom) = new_figure(6.4, rows=2, sharex=True, height_ratios=(2.4, 1))
    keys = [Patch(color=GRAY, label="zero energy, or not recorded")]
    logs = log10(energy)
    if np.isfinite(logs).any():
        low, high, cut = decades(logs)
        image = heat_map(top, logs.T, "viridis", (low, high), (epochs[0], epochs[-1]))
        label = "energy, log10 of the mean over the batch"
        color_bar(figure, image, label, ax=top, extend="min" if cut else "neither")
    else:
        note(top, "no energy above zero was recorded")
    set_title(top, "Each node, after inference on the last batch of the epoch")
    shown = np.where(imbalance > 0, imbalance, np.nan)
    line(bottom, epochs, shown, color=COLORS[0], marker="o", markersize=3.5, linewidth=1.5)
    if has_lines(bottom):
        style = {"color": "black", "linestyle": "--", "linewidth": 0.9}
        bottom.axhline(1, **style)
        keys.append(legend_key("1: the same energy in both halves", **style))
    log_axes("no finite imbalance above zero was recorded", bottom)
    set_title(bottom, f"Imbalance after the last epoch: {_last_imbalance(imbalance)}")
    bottom.set_ylabel("output half /\ninput half")
    bottom.set_xlabel("epoch")
    integers(bottom.xaxis)
    legend(figure, keys)
    figure.suptitle("Energy of each node over training", fontsize=11)
    return figure


def _energy_line(energy: np.ndarray, imbalance: np.ndarray) -> Any:
    figure, (axes,) = new_figure(4.0)
    values = energy[0] if len(energy) else np.zeros(0)
    shown = np.where(values > 0, values, np.nan)
    style = {"color": COLORS[0], "marker": "o", "markersize": 3, "linewidth": 1.2}
    line(axes, np.arange(1, len(values) + 1), shown, **style)
    set_title(
        axes,
        "Energy of each node after inference on the last batch of the only epoch\n"
        f"imbalance, output half / input half: {_last_imbalance(imbalance)}",
    )
    node_axis(axes, len(values))
    axes.set_ylabel("energy, mean over the batch")
    log_axes("no energy above zero was recorded", axes)
    legend(figure, [legend_key("each node (zero energies are not drawn)", **style)])
    return figure


def _alignment_epochs(
    records: Sequence[Mapping[str, Any]],
    cosine: np.ndarray,
    quarters: np.ndarray,
    overall: np.ndarray,
    targets: Mapping[str, np.ndarray],
) -> Any:
    epochs = np.array([record["epoch"] for record in records], float)
    known = any(np.isfinite(values).any() for values in targets.values())
    ratios = (1.2, 0.9, 2.4) if known else (1.2, 2.4)
    figure, panels = new_figure(
        8.2 if known else 6.4, rows=len(ratios), sharex=True, height_ratios=ratios
    )
    top, bottom = panels[0], panels[-1]
    keys = []
    for part, style in _quarter_styles(quarters):
        line(top, epochs, quarters[:, part], **style)
        keys.append(legend_key(_QUARTERS[part], **style))
    style = {"color": COLORS[1], "marker": "o", "markersize": 3.5, "linewidth": 1.5}
    line(top, epochs, overall, **style)
    keys = [legend_key("all weights together", **style), *keys]
    _zoom(top)
    set_title(top, f"All weights together: {_last(overall)} after the last epoch")
    if known:
        keys += _draw_targets(panels[1], epochs, targets)
    set_title(bottom, "Each node (gray: no update, or not recorded)")
    bottom.set_xlabel("epoch")
    integers(bottom.xaxis)
    if np.isfinite(cosine).any():
        image = heat_map(bottom, cosine.T, "RdBu", (-1.0, 1.0), (epochs[0], epochs[-1]))
        label = "cosine to backprop (1: the same direction)"
        color_bar(figure, image, label, ax=bottom, location="bottom", shrink=0.6, aspect=40)
    else:
        note(bottom, "no cosines per node were recorded")
    if len(keys) > 1:
        legend(figure, keys)
    figure.suptitle("Cosine of the weight update to backprop's", fontsize=11)
    return figure


def _draw_targets(axes: Any, epochs: np.ndarray, targets: Mapping[str, np.ndarray]) -> list[Any]:
    """Target alignment over epochs, of the rule and of backprop, and their keys."""
    keys = []
    for index, (name, values) in enumerate(targets.items()):
        marks = {"marker": "s^"[index], "markersize": 4, "linestyle": DASHES[index]}
        style = {"color": (COLORS[3], COLORS[6])[index], "linewidth": 1.3, **marks}
        line(axes, epochs, values, **style)
        keys.append(legend_key(f"target alignment of {name}", **style))
    axes.set_ylabel("cosine to target")
    set_title(axes, f"Target alignment after the last epoch: {_targets(targets)}")
    return keys


def _targets(targets: Mapping[str, np.ndarray]) -> str:
    own, told = targets.values()
    return f"{_last(own)}, of backprop {_last(told)}"


def _quarter_styles(quarters: np.ndarray) -> list[tuple[int, dict[str, Any]]]:
    """The quarters that were recorded, and how their lines look: wide and dark near the input.

    Narrower lines lie on wider ones, so that lines that coincide are all seen.
    """
    import matplotlib

    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(_QUARTERS)))
    return [
        (part, {"color": shades[part], "linewidth": 5.2 - 1.3 * part})
        for part in range(min(quarters.shape[1], len(_QUARTERS)))
        if np.isfinite(quarters[:, part]).any()
    ]


def _alignment_line(
    cosine: np.ndarray,
    quarters: np.ndarray,
    overall: np.ndarray,
    targets: Mapping[str, np.ndarray],
) -> Any:
    figure, (axes,) = new_figure(4.2)
    values = cosine[0] if len(cosine) else np.zeros(0)
    nodes = np.arange(1, len(values) + 1)
    line(axes, nodes, values, color=COLORS[0], marker="o", markersize=3, linewidth=1.2)
    keys = [legend_key("each node", color=COLORS[0], marker="o", markersize=3)]
    if np.isfinite(overall).any():
        axes.axhline(overall[0], color=COLORS[1], linestyle="--", linewidth=1.2)
        words = f"all weights together: {_last(overall)}"
        keys.append(legend_key(words, color=COLORS[1], linestyle="--"))
    wide = {"linewidth": 6, "alpha": 0.5, "solid_capstyle": "butt", "zorder": 1.5}
    style = {"color": COLORS[2], **wide}
    parts = np.array_split(nodes, len(_QUARTERS))
    for part, _ in _quarter_styles(quarters) if len(nodes) >= len(_QUARTERS) else ():
        ends = np.array([parts[part][0] - 0.5, parts[part][-1] + 0.5])
        line(axes, ends, np.full(2, quarters[0, part]), **style)
    if np.isfinite(quarters).any():
        keys.append(legend_key("mean of each quarter of the depth", **style))
    title = "Cosine of the weight update to backprop's, after one epoch"
    if np.isfinite(targets["the rule"]).any():
        title += f"\ntarget alignment: {_targets(targets)}"
    set_title(axes, title)
    node_axis(axes, len(values))
    _cosine_axis(axes)
    if not np.isfinite(values).any():
        note(axes, "no cosines per node were recorded")
    legend(figure, keys)
    return figure


def _zoom(axes: Any) -> None:
    """The range of what is drawn, at least a twentieth, of cosines that end at 1."""
    axes.set_ylabel("cosine to backprop")
    seen = [np.asarray(each.get_ydata(), float) for each in axes.lines]
    known = np.concatenate([values[np.isfinite(values)] for values in seen] or [np.ones(1)])
    low = min(float(known.min()), 0.95)
    axes.set_ylim(low - 0.06 * (1 - low), 1 + 0.06 * (1 - low))
    if low < 0:
        axes.axhline(0, color=FAINT, linewidth=0.8)


def _cosine_axis(axes: Any) -> None:
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_ylabel("cosine to backprop")


def _last(values: np.ndarray, form: str = ".3f", unknown: str = "not recorded") -> str:
    known = len(values) and np.isfinite(values[-1])
    return format(values[-1], form) if known else unknown


def _last_imbalance(values: np.ndarray) -> str:
    # An infinite one is null in the file, just as one that was not recorded.
    return _last(values, ".3g", "not finite, or not recorded")


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
