"""The figure of the embeddings: how far equilibrium moves activities, and what that does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fathomx.drawing.style import FAINT, legend, legend_key, new_figure, save, sequential, set_title
from fathomx.experiments.grid import Group
from fathomx.experiments.limits.nonlinear import nonlinear_networks
from fathomx.experiments.limits.relaxation import SETTLED
from fathomx.experiments.limits.scales import Scale

_POINT: dict[str, Any] = {"marker": "o", "markersize": 3}
_PANELS = (
    ("last block moves by", "relative to its activities", "last_moved", "expected_moved"),
    ("readout", "cosine to backprop", "output_cosine", "expected_output_cosine"),
    ("worst block", "cosine to backprop", "hidden_cosine", None),
)


def draw_embedding(found: Sequence[Group], path: Path, scale: Scale) -> None:
    """Against the standard deviation of a transformer's embeddings at equilibrium, by width.

    Lines are means over the seeds, bars their range. Nothing is drawn unless a width was run with
    two standard deviations or more.
    """
    known = nonlinear_networks(scale)
    curves: dict[int, dict[float, Group]] = {}
    for group in found:
        network = known[group.network]
        if network.family == "transformer" and group.method == SETTLED:
            curves.setdefault(network.width, {})[network.embedding] = group
    curves = {width: dict(sorted(own.items())) for width, own in curves.items() if len(own) > 1}
    if not curves:
        return
    color = {width: sequential(place, len(curves)) for place, width in enumerate(sorted(curves))}
    ticks = sorted({deviation for own in curves.values() for deviation in own})
    figure, panels = new_figure(3.4, columns=len(_PANELS))
    for axes, (title, label, key, expected) in zip(panels, _PANELS, strict=True):
        set_title(axes, title)
        axes.set_ylabel(label)
        axes.set_xlabel("embedding std")
        axes.set_xscale("log")
        for width, own in curves.items():
            shown = {x: g.values(key) for x, g in own.items() if g.values(key)}
            x, mean = list(shown), np.asarray([np.mean(values) for values in shown.values()])
            low, high = ([f(v) for v in shown.values()] for f in (min, max))
            bars = [mean - low, high - mean]
            style = {"color": color[width], "linewidth": 1.0, **_POINT}
            if expected:
                style["linestyle"] = "none"
                axes.plot(
                    x, [own[at].mean(expected) for at in x], color=color[width], linewidth=0.8
                )
            axes.errorbar(x, mean, bars, elinewidth=1.0, **style)
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axes.minorticks_off()
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for axes in panels[1:]:
        axes.set_ylim(top=1.03)
    handles = [legend_key(f"width {w}", color=c, **_POINT) for w, c in sorted(color.items())]
    legend(
        figure,
        [
            *handles,
            legend_key("left and middle: expected over the weights", color=FAINT, linewidth=0.8),
        ],
    )
    save(figure, path)
