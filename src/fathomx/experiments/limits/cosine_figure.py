"""The figure of the gradients: how far from backprop's, by width, settled or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fathomx.drawing.style import (
    COLORS,
    DASHES,
    FAINT,
    legend,
    legend_key,
    new_figure,
    save,
    set_title,
)
from fathomx.experiments.grid import Group
from fathomx.experiments.limits.nonlinear import FAMILIES, nonlinear_networks
from fathomx.experiments.limits.relaxation import SETTLED, UNSETTLED
from fathomx.experiments.limits.scales import Scale

_ROUNDING, _DISTANCE = 1e-7, 0.01
_ASKED = {"color": FAINT, "linewidth": 1.0, "linestyle": ":"}
_CURVES = {
    "equilibrium, all weights": (
        (SETTLED, "cosine"),
        {"color": COLORS[0], "marker": "o", "markersize": 3.5},
    ),
    "equilibrium, lowest of a node": (
        (SETTLED, "lowest_cosine"),
        {"color": COLORS[2], "marker": "^", "markersize": 4, "linestyle": DASHES[3]},
    ),
    f"{UNSETTLED}, all weights": (
        (UNSETTLED, "cosine"),
        {"color": COLORS[1], "marker": "s", "markersize": 3.5, "linestyle": DASHES[1]},
    ),
}
_TITLES = {
    "tanh MLP": "tanh MLP, {scale.mlp_nodes} nodes",
    "residual CNN": "residual CNN, 3 x {scale.cnn_blocks} blocks",
    "transformer": "transformer, {scale.transformer_blocks} blocks",
}


def family_title(family: str, scale: Scale) -> str:
    """A family with the depth of its networks."""
    return _TITLES[family].format(scale=scale)


def draw_cosine(found: list[Group], path: Path, scale: Scale) -> None:
    """Median over the seeds against width, with the range of the seeds; a panel for each family.

    Of all weights together, and at equilibrium of the node where the cosine is lowest.
    """
    known = nonlinear_networks(scale)
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    for label, ((method, key), _) in _CURVES.items():
        for group in found:
            network, values = known[group.network], group.values(key)
            if values and group.method == method:
                curve = curves.setdefault((network.family, label), {})
                curve[network.width] = [max(1 - value, _ROUNDING) for value in values]
    seen = [_DISTANCE, *(v for curve in curves.values() for own in curve.values() for v in own)]

    figure, panels = new_figure(3.2, columns=len(FAMILIES), sharey=True)
    panels[0].set_yscale("log")
    panels[0].set_ylim(min(seen) / 2, max(seen) * 2)
    panels[0].set_ylabel("1 - cosine to backprop's gradient")
    for axes, family in zip(panels, FAMILIES, strict=True):
        set_title(axes, family_title(family, scale))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("width")
        axes.axhline(_DISTANCE, **_ASKED)
    for (family, label), curve in curves.items():
        axes, style = panels[list(FAMILIES).index(family)], _CURVES[label][1]
        axes.plot(list(curve), [np.median(own) for own in curve.values()], **style)
        low, high = [min(own) for own in curve.values()], [max(own) for own in curve.values()]
        axes.fill_between(list(curve), low, high, color=style["color"], alpha=0.15, linewidth=0)
    handles = [legend_key(label, **style) for label, (_, style) in _CURVES.items()]
    legend(figure, [*handles, legend_key("a cosine of 0.99", **_ASKED)])
    save(figure, path)
