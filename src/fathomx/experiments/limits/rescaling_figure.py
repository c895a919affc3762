"""The figure of the rescaling matrix: how its distance from the identity falls with L / N."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fathomx.drawing.style import FAINT, legend, legend_key, new_figure, save, sequential, set_title
from fathomx.experiments.grid import Group
from fathomx.experiments.limits.linear import Linear, by_parameterization, hidden_layers
from fathomx.experiments.power_laws import slope

_POINT = {"marker": "o", "markersize": 3, "linestyle": "none"}


def draw_rescaling(known: dict[str, Linear], found: dict[str, Group], path: Path) -> None:
    """The mean eigenvalue of `S - I` of every row, against L / N, and what is expected."""
    figure, panels = new_figure(3.6, columns=2)
    depths = sorted({n.hidden for n in known.values()})
    color = {depth: sequential(place, len(depths)) for place, depth in enumerate(depths)}
    shown = by_parameterization(known)
    for axes, (label, own) in zip(panels, shown.items(), strict=True):
        set_title(axes, label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylabel("mean eigenvalue of S - I")
        stable = label == "muPC"
        axes.set_xlabel("layers / width, L / N" if stable else "width N")
        for depth in depths:
            ordered = sorted((n.width, name) for name, n in own.items() if n.hidden == depth)
            expected = [own[name].expected_mean for _, name in ordered]
            x = [own[name].layers / width if stable else width for width, name in ordered]
            axes.plot(x, expected, color=color[depth], linewidth=0.8)
            for place, (_, name) in zip(x, ordered, strict=True):
                values = found[name].values("mean_eigenvalue")
                axes.plot([place] * len(values), values, color=color[depth], **_POINT)
    rows = [
        (n.layers / n.width, value)
        for name, n in shown["muPC"].items()
        for value in found[name].values("mean_eigenvalue")
    ]
    if len({x for x, _ in rows}) > 1:
        x, y = np.asarray(rows).T
        set_title(panels[0], f"muPC: slope {slope(x, y):.2f} over all")
    handles = [legend_key(hidden_layers(depth), color=color[depth], **_POINT) for depth in depths]
    legend(figure, [*handles, legend_key("expected over the weights", color=FAINT, linewidth=0.8)])
    save(figure, path)
