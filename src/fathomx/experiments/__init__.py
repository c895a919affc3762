"""Published claims, each with the program that checks it: `fathomx reproduce NAME`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fathomx.checks.names import unknown
from fathomx.experiments import (
    bidirectional,
    budget,
    coordinate_check,
    deeper_pcns,
    equilibrated_energy,
    generative,
    limits,
    matrix_completion,
    memory,
    mupc,
    pc_alm,
    predify,
    reach,
    regression,
    saddle_escape,
    strength,
    strict_saddles,
    temporal,
    transfer,
    trust_region,
)
from fathomx.experiments.grid import Say
from fathomx.experiments.grid import Selection as Selection

Reproduction = Callable[[str, Path, Selection, Say], Path]

EXPERIMENTS: dict[str, Reproduction] = {
    "deeper-pcns": deeper_pcns.reproduce,
    "equilibrated-energy": equilibrated_energy.reproduce,
    "strict-saddles": strict_saddles.reproduce,
    "saddle-escape": saddle_escape.reproduce,
    "matrix-completion": matrix_completion.reproduce,
    "trust-region": trust_region.reproduce,
    "mupc": mupc.reproduce,
    "transfer": transfer.reproduce,
    "coordinate-check": coordinate_check.reproduce,
    "limits": limits.reproduce,
    "strength": strength.reproduce,
    "generative": generative.reproduce,
    "bidirectional": bidirectional.reproduce,
    "memory": memory.reproduce,
    "temporal": temporal.reproduce,
    "predify": predify.reproduce,
    "pc-alm": pc_alm.reproduce,
    "budget": budget.reproduce,
    "reach": reach.reproduce,
    "regression": regression.reproduce,
}


def reproduction(name: str) -> Reproduction:
    """The experiment of this name: a function of scale, folder, selection and a way to say things.

    It returns the page or table to open. Raises `ValueError` for an unknown name.
    """
    if name not in EXPERIMENTS:
        raise ValueError(unknown("experiment", name, EXPERIMENTS))
    return EXPERIMENTS[name]
