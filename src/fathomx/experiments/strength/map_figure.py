"""The figure of the map: what a strength does to accuracy, update and stiffness."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fathomx.drawing.style import (
    COLORS,
    DASHES,
    has_lines,
    legend,
    legend_key,
    log_axes,
    new_figure,
    note,
    save,
    set_title,
)
from fathomx.experiments.grid import Group
from fathomx.experiments.strength.methods import METHODS

_ROWS = (
    ("test_accuracy", "test accuracy, %", 100.0),
    ("cosine_last", "cosine to backprop", 1.0),
    ("stiffening", "sensitivity, last / first", 1.0),
)
_HELD = {name: t.strength for name, t in METHODS.items() if t and math.isfinite(t.strength)}
_FIXED = {"marker": "D", "linestyle": "none", "markerfacecolor": "none", "markersize": 6}


def draw_map(found: Sequence[Group], panels: Mapping[str, Mapping[str, str]], path: Path) -> Path:
    """Accuracy, cosine and stiffening against the strength held, a column for each of `panels`.

    `panels` names the networks of each column and what to call them. Lines are means over the
    seeds, bars span them; backprop is a dashed line across, precision 1 a hollow diamond at the
    strength it had.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure, axes = new_figure(7.4, rows=len(_ROWS), columns=len(panels), sharex=True)
    by_name = {(group.network, group.method): group for group in found}
    colors: dict[str, str] = {}
    for column, (title, networks) in enumerate(panels.items()):
        own = axes[column :: len(panels)]
        set_title(own[0], title)
        own[0].title.set_size(9)
        for label, network in networks.items():
            color = colors.setdefault(label, COLORS[len(colors)])
            groups = {
                name: by_name[network, name] for name in METHODS if (network, name) in by_name
            }
            for axis, (key, _, scale) in zip(own, _ROWS, strict=True):
                _draw_network(axis, groups, functools.partial(_values, key=key, scale=scale), color)
        own[-1].set_xlabel("strength")
    log_axes("not run", *axes[-len(panels) :])
    for place, axis in enumerate(axes):
        row, column = divmod(place, len(panels))
        if column == 0:
            axis.set_ylabel(_ROWS[row][1])
        if has_lines(axis):
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        elif row < len(_ROWS) - 1:
            note(axis, "not run")
    keys = [legend_key(name, color=c, marker="o", markersize=4) for name, c in colors.items()]
    keys.append(legend_key("backprop", color="black", linestyle=DASHES[1], linewidth=1.0))
    keys.append(legend_key("precision 1, at its median strength", **_FIXED, color="black"))
    legend(figure, keys)
    return save(figure, path)


def _draw_network(
    axis: Any,
    groups: Mapping[str, Group],
    values: Callable[[Group], list[float]],
    color: str,
) -> None:
    """One network in one panel: strengths held, backprop across, precision 1 where it was."""
    held = [(s, values(groups[name])) for name, s in _HELD.items() if name in groups]
    held = [(strength, seen) for strength, seen in held if seen]
    for strength, seen in held:
        axis.plot([strength] * 2, [min(seen), max(seen)], color=color)
    if held:
        means = [statistics.fmean(seen) for _, seen in held]
        axis.plot([s for s, _ in held], means, color=color, marker="o", markersize=4)
    backprop = values(groups["backprop"]) if "backprop" in groups else []
    if backprop:
        level = statistics.fmean(backprop)
        axis.axhline(level, color=color, linestyle=DASHES[1], linewidth=1.0)
    fixed = groups.get("precision 1")
    if fixed and values(fixed):
        axis.plot(fixed.mean("strength"), statistics.fmean(values(fixed)), color=color, **_FIXED)


def _values(group: Group, key: str, scale: float) -> list[float]:
    if key == "stiffening":
        pairs = zip(
            group.values("sensitivity_last"), group.values("sensitivity_first"), strict=True
        )
        return [last / first for last, first in pairs]
    return [scale * value for value in group.values(key)]
