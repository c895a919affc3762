"""What settings leave open and a job has: the defaults that depend on what is given."""

from __future__ import annotations

from typing import Any

from fathomx.command_line.choices import PARAMETERIZATIONS, usual_strength
from fathomx.command_line.models import MODELS
from fathomx.command_line.settings import Settings, own_defaults

# That of `resnet`, whose auxiliary nodes are built for one rate of state descent.
_AUXILIARY_RATE = 0.5
_INCREMENTAL_STEPS = 5
_DECAY = 0.01


def filled_in(settings: Settings) -> dict[str, Any]:
    """Values of fields that are not given, and the width as the kind of number its model takes."""
    chosen = MODELS[settings.model]
    names = ("depth", "width", "parameterization")
    options = {"data": chosen.reading.data, **{name: getattr(chosen, name) for name in names}}
    preset = PARAMETERIZATIONS[settings.parameterization or chosen.parameterization]
    options["learning_rate"] = preset.learning_rate
    filled = {
        name: value
        for name, value in {**options, **own_defaults(settings)}.items()
        if getattr(settings, name) is None
    }
    if settings.optimizer == "adamw" and settings.weight_decay is None:
        own = None if settings.inference == "langevin" else chosen.generative
        filled["weight_decay"] = (own.decay if own is not None else 0.0) or _DECAY
    if settings.width is not None:
        filled["width"] = type(chosen.width)(settings.width)
    if settings.learning != "backprop":
        if settings.inference == "gauss-newton" and settings.steps is None:
            # After a single iteration incremental learning would equal that at equilibrium.
            incremental = settings.learning == "incremental"
            filled["steps"] = _INCREMENTAL_STEPS if incremental else chosen.steps
        if settings.strength is None and settings.output_precision is None:
            if chosen.generative is None:
                filled["strength"] = usual_strength(settings.learning)
            else:
                filled["output_precision"] = chosen.generative.output_precision
        auxiliary = filled.get("auxiliary", settings.auxiliary)
        descends = settings.inference == "state-descent"
        if auxiliary and descends and settings.activity_rate is None:
            filled["activity_rate"] = _AUXILIARY_RATE
    return filled
