"""The heat map of the equilibrated energy over the loss, by width and depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fathomx.drawing.style import color_bar, new_figure, save, set_title
from fathomx.experiments.grid import Group
from fathomx.experiments.limits.linear import Linear, by_parameterization


def draw_energy(known: dict[str, Linear], found: dict[str, Group], path: Path) -> None:
    """The heat map, a panel for each parameterization; numbers are means over the seeds."""
    import matplotlib

    colors = matplotlib.colormaps["viridis"].with_extremes(bad="white")
    shown = {label: own for label, own in by_parameterization(known).items() if own}
    widths = {label: sorted({n.width for n in own.values()}) for label, own in shown.items()}
    depths = sorted({n.hidden for n in known.values()})
    figure, panels = new_figure(
        2.9, columns=len(shown), width_ratios=[len(widths[label]) for label in shown], sharey=True
    )
    for axes, (label, own) in zip(panels, shown.items(), strict=True):
        set_title(axes, label)
        axes.grid(False)
        axes.set_xlabel("width")
        values = np.full((len(depths), len(widths[label])), np.nan)
        for name, network in own.items():
            place = depths.index(network.hidden), widths[label].index(network.width)
            values[place] = found[name].mean("ratio")
        masked = np.ma.masked_invalid(values)
        image = axes.imshow(masked, colors, aspect="auto", vmin=0, vmax=1, origin="lower")
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                color = "white" if value < 0.6 else "black"
                axes.text(column, row, _short(value), color=color, ha="center", va="center", size=7)
        axes.set_xticks(range(len(widths[label])), [str(width) for width in widths[label]])
        axes.set_yticks(range(len(depths)), [str(depth) for depth in depths])
    panels[0].set_ylabel("hidden layers")
    color_bar(figure, image, "F* / loss", ax=list(panels), aspect=15)
    save(figure, path)


def _short(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0995 else f"{value:.0e}".replace("e-0", "e-")
