"""The settings that a `config.json` holds, of this version or of an earlier one."""

from __future__ import annotations

import dataclasses
from typing import Any

from fathomx.command_line.choices import SCHEDULES
from fathomx.command_line.settings import Settings

# The fields of the first version, which every configuration has.
_ALWAYS = (
    "data",
    "model",
    "depth",
    "width",
    "activation",
    "parameterization",
    "inference",
    "learning",
    "output_precision",
    "epochs",
    "batch_size",
    "learning_rate",
    "strength",
    "seed",
)

# What large images had before there was a choice, by model.
_FORMER = {"resnet": ("stem", "small"), "vgg": ("head", "flat")}

# What every step did before there was a choice.
_EVERY_STEP = ("certify", "strength_every")


def stored_settings(config: dict[str, Any], of: type[Settings] = Settings) -> dict[str, Any]:
    """The fields of settings in a configuration; keys that are not fields are left out.

    Raises `ValueError` for missing values and for those of a wrong type. Fields that an older
    version did not have are absent, and where a float is expected, an integer will do.
    """
    if config.get("precision") in list(SCHEDULES):
        # Before numbers had a choice, this was the schedule's name. (Looked up in a list, since
        # what is damaged need not be hashable.)
        config = {**config, "schedule": config["precision"], "precision": "float32"}
    for model, (name, former) in _FORMER.items():
        if config.get("model") == model and name not in config:
            config = {**config, name: former}
    config = dict.fromkeys(_EVERY_STEP, 1) | config
    known = {field.name: str(field.type) for field in dataclasses.fields(of)}
    given = {name: value for name, value in config.items() if name in known}
    for name, value in given.items():
        allowed = known[name].split(" | ")
        if type(value) is int and "float" in allowed and "int" not in allowed:
            given[name] = float(value)
        elif type(value).__name__.replace("NoneType", "None") not in allowed:
            raise ValueError(f"config.json is damaged: {name} is {value!r}, not {known[name]}.")
    missing = [name for name in _ALWAYS if name not in given]
    if missing:
        raise ValueError(f"config.json is damaged: it lacks {', '.join(missing)}.")
    return given
