"""The map: networks over depth and width, then other outputs and architectures."""

from __future__ import annotations

import dataclasses

from fathomx.experiments.strength.networks import Convolutional, Model, Residual, Transformer
from fathomx.experiments.strength.scales import Scale
from fathomx.experiments.strength.setting import Setting


def map_settings(scale: Scale) -> dict[str, Setting]:
    """The networks of the map: depth by width, then other outputs and architectures."""

    def network(model: Model, *rates: float, batch_size: int = 64) -> Setting:
        return Setting(model, "Adam", rates or (0.5,), batch_size, scale.updates)

    found = {
        f"{depth} nodes, width {width}": network(Residual(depth, width))
        for depth in scale.depths
        for width in scale.widths
    }
    middle, narrow = scale.middle
    found[f"{middle} nodes, width {narrow}, settled"] = dataclasses.replace(
        network(Residual(middle, narrow)), iterations=3, cg_iterations=6
    )
    for width in scale.widths:
        found[f"{middle} nodes, width {width}, categorical"] = network(
            Residual(middle, width, categorical=True)
        )
    found["CNN"] = network(Convolutional(2, scale.channels), 0.25, batch_size=32)
    for name, normalization in (("transformer", None), ("transformer, layer norm", "layer")):
        model = Transformer(2, scale.text_width, normalization)
        found[name] = network(model, 0.12, 0.25, 0.5, batch_size=16)
    return found


def map_panels(scale: Scale) -> dict[str, dict[str, str]]:
    """The panels of depth by width: the networks of each, and what to call them there."""
    return {
        f"{depth} nodes": {f"width {w}": f"{depth} nodes, width {w}" for w in scale.widths}
        for depth in scale.depths
    }


def other_panels(scale: Scale) -> dict[str, dict[str, str]]:
    """The panels of other outputs, architectures and solvers."""
    middle, narrow = scale.middle
    widths = [(f"width {w}", f"{middle} nodes, width {w}, categorical") for w in scale.widths]
    return {
        f"categorical, {middle} nodes": dict(widths),
        "residual CNN": {"CNN": "CNN"},
        "transformer": {"plain": "transformer", "layer norm": "transformer, layer norm"},
        f"{middle} nodes, width {narrow}": {
            "default solver": f"{middle} nodes, width {narrow}",
            "settled": f"{middle} nodes, width {narrow}, settled",
        },
    }
