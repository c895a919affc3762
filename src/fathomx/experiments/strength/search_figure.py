"""The figure of the search: every setting and method beside backprop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fathomx.drawing.style import COLORS, legend, legend_key, new_figure, save, set_title
from fathomx.experiments.grid import Group
from fathomx.experiments.strength.differences import differences
from fathomx.experiments.strength.methods import PREDICTIVE_CODING


def draw_search(found: Sequence[Group], networks: Sequence[str], path: Path) -> Path:
    """Predictive coding less backprop in every setting of the search, by method.

    Markers are means over the seeds, bars their standard deviations.
    """
    figure, (axes,) = new_figure(1.6 + 0.5 * len(networks))
    axes.axvline(0, color="black", linewidth=1.0)
    shown = []
    for place, method in enumerate(PREDICTIVE_CODING):
        offset = 0.13 * (place - (len(PREDICTIVE_CODING) - 1) / 2)
        style = {"color": COLORS[place], "marker": "PosD^v"[place], "markersize": 5}
        shown.append(legend_key(method, linestyle="none", **style))
        for row, network in enumerate(networks):
            difference = differences(found, network).get(method)
            if difference is not None:
                axes.errorbar(
                    difference.mean,
                    row + offset,
                    xerr=difference.deviation,
                    linestyle="none",
                    elinewidth=1.2,
                    **style,
                )
    axes.set_yticks(range(len(networks)), networks)
    axes.set_ylim(len(networks) - 0.4, -0.6)
    axes.set_xlabel("test accuracy, predictive coding less backprop, points")
    set_title(axes, "Settings of the search, learning rates chosen by validation")
    legend(figure, shown)
    return save(figure, path)
