"""The figure of the nodes: how the cosine to backprop's gradient goes over the depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fathomx.drawing.style import (
    FAINT,
    legend,
    legend_key,
    new_figure,
    node_axis,
    save,
    sequential,
    set_title,
)
from fathomx.experiments.grid import Group
from fathomx.experiments.limits.cosine_figure import family_title
from fathomx.experiments.limits.nonlinear import FAMILIES, nonlinear_networks
from fathomx.experiments.limits.relaxation import SETTLED
from fathomx.experiments.limits.scales import Scale
from fathomx.records.values import numbers

_MARKERS, _ROUNDING = "osD^v", 1e-7
_ASKED = {"color": FAINT, "linewidth": 1.0, "linestyle": ":"}


def draw_nodes(found: Sequence[Group], path: Path, scale: Scale) -> None:
    """One less the cosine of every node at equilibrium: means over the seeds."""
    known = nonlinear_networks(scale)
    settled = [g for g in found if g.method == SETTLED and any(r.get("cosines") for r in g.rows)]
    widths = sorted({known[group.network].width for group in settled})
    style = {
        width: {
            "color": sequential(place, len(widths)),
            "marker": _MARKERS[place % len(_MARKERS)],
            "markersize": 3,
            "linewidth": 1.0,
        }
        for place, width in enumerate(widths)
    }
    figure, panels = new_figure(3.4, columns=len(FAMILIES), sharey=True)
    panels[0].set_ylabel("1 - cosine to backprop's gradient")
    panels[0].set_yscale("log")
    for axes, family in zip(panels, FAMILIES, strict=True):
        set_title(axes, family_title(family, scale))
        axes.axhline(0.01, **_ASKED)
        for group in settled:
            network = known[group.network]
            if network.family == family:
                cosines = [numbers(row["cosines"]) for row in group.rows if row.get("cosines")]
                mean = np.maximum(1 - np.mean(cosines, axis=0), _ROUNDING)
                nodes = np.arange(1, len(mean) + 1)
                axes.plot(nodes, mean, **style[network.width])
                node_axis(axes, len(mean))
                axes.set_xlim(left=0.5)
        axes.set_xlabel("node, input to output")
    handles = [legend_key(f"width {width}", **own) for width, own in style.items()]
    legend(figure, [*handles, legend_key("a cosine of 0.99", **_ASKED)])
    save(figure, path)
