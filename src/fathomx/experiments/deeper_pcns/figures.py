"""Figures of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fathomx.drawing.style import COLORS, DASHES, FAINT, legend, legend_key, new_figure, save
from fathomx.experiments.grid import Group

_MARKERS = ("o", "s", "^", "D", "v")


def draw_energies(content: Mapping[str, Any], path: Path) -> Path:
    """The disease and the cure: energy per node after inference, a panel for every descent.

    Runs are called by precision, comma, descent. The second and third precision often coincide:
    their markers are filled and hollow.
    """
    labels = content["labels"]
    nodes = np.arange(1, len(labels) + 1)
    descents = list(dict.fromkeys(name.partition(", ")[2] for name in content["runs"]))
    figure, panels = new_figure(3.9, columns=len(descents), sharey=True)
    styles = (
        {"marker": "o"},
        {"marker": "s"},
        {"marker": "D", "markersize": 8, "markerfacecolor": "none", "linestyle": DASHES[1]},
    )
    for axes, descent in zip(panels, descents, strict=True):
        own = {n: found for n, found in content["runs"].items() if n.partition(", ")[2] == descent}
        for place, (name, found) in enumerate(own.items()):
            imbalance = found["imbalance"]
            said = "all in the output half" if imbalance is None else f"{imbalance:.2g}"
            axes.semilogy(
                nodes,
                np.asarray(found["energy"], float),
                color=COLORS[place],
                label=f"{name.partition(', ')[0]}: {said}",
                **{"markersize": 4, **styles[place]},
            )
        axes.set_xticks(nodes[::3], labels[::3], rotation=30, ha="right")
        axes.set_title(descent, fontsize=9)
        axes.legend(
            fontsize=7, frameon=False, loc="lower right", title="imbalance", title_fontsize=7
        )
    panels[0].set_ylabel("energy, mean over the batch")
    figure.suptitle(f"{content['network']} at initialization: energy after inference", fontsize=10)
    return save(figure, path)


def draw_accuracies(
    found: Sequence[Group], networks: Sequence[str], methods: Sequence[str], path: Path
) -> Path:
    """Test accuracy at the last epoch of every method on every network; a bar spans the seeds."""
    shown = [name for name in methods if any(g.method == name for g in found)]
    present = [name for name in networks if any(g.network == name for g in found)]
    figure, (axes,) = new_figure(1.4 + 0.42 * len(shown))
    for place, network in enumerate(present):
        offset = 0.13 * (place - (len(present) - 1) / 2)
        color, marker = COLORS[place % len(COLORS)], _MARKERS[place % len(_MARKERS)]
        own = [g for g in found if g.network == network and g.values("test_accuracy")]
        rows = [shown.index(g.method) + offset for g in own]
        values = [100 * np.asarray(g.values("test_accuracy")) for g in own]
        for row, spread in zip(rows, values, strict=True):
            axes.plot([spread.min(), spread.max()], [row, row], color=color, linewidth=1.5)
        axes.plot(
            [spread.mean() for spread in values],
            rows,
            linestyle="none",
            marker=marker,
            color=color,
            markersize=5,
            label=network,
        )
    axes.axvline(10, color=FAINT, linewidth=0.8, linestyle="--")
    axes.text(10, -0.62, " chance", color=FAINT, fontsize=8, ha="left", va="center")
    axes.set_yticks(range(len(shown)), shown)
    axes.set_ylim(len(shown) - 0.4, -0.8)
    axes.set_xlabel("test accuracy after the last epoch, %")
    axes.set_title("The same budget of epochs for every method", fontsize=10)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save(figure, path)


def draw_curves(found: Sequence[Group], path: Path) -> Path:
    """Validation accuracy over epochs, a panel for every network; a line is a run."""
    long = [g for g in found if any(len(row.get("history") or ()) > 1 for row in g.rows)]
    networks = list(dict.fromkeys(group.network for group in long))
    methods = list(dict.fromkeys(group.method for group in long))
    styles = {
        method: {
            "color": COLORS[place % len(COLORS)],
            "linestyle": DASHES[place % len(DASHES)],
            "marker": _MARKERS[place % len(_MARKERS)],
            "markersize": 3,
        }
        for place, method in enumerate(methods)
    }
    figure, panels = new_figure(4.4, columns=len(networks), sharey=True)
    for axes, network in zip(panels, networks, strict=True):
        for group in (g for g in long if g.network == network):
            for row in group.rows:
                values = [100 * record["validation_accuracy"] for record in row.get("history", ())]
                axes.plot(np.arange(1, len(values) + 1), values, **styles[group.method])
        axes.set_title(network, fontsize=10)
        axes.set_xlabel("epoch")
    legend(figure, [legend_key(method, **style) for method, style in styles.items()])
    panels[0].set_ylabel("validation accuracy, %")
    return save(figure, path)
