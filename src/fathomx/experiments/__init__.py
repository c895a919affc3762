"""Published claims, each with the program that checks it: `fathomx reproduce NAME`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from fathomx.checks.names import unknown
from fathomx.experiments.frame import Experiment, Say
from fathomx.experiments.grid import Selection as Selection

Reproduction = Callable[[str, Path, Selection, Say], Path]

_NAMES = (
    "deeper-pcns",
    "equilibrated-energy",
    "strict-saddles",
    "saddle-escape",
    "matrix-completion",
    "trust-region",
    "mupc",
    "transfer",
    "coordinate-check",
    "limits",
    "strength",
    "generative",
    "bidirectional",
    "memory",
    "temporal",
    "predify",
    "pc-alm",
    "budget",
    "reach",
    "regression",
)

EXPERIMENTS: dict[str, Experiment[Any]] = {
    name: import_module(f"{__name__}.{name.replace('-', '_')}").EXPERIMENT for name in _NAMES
}


def reproduction(name: str) -> Reproduction:
    """The experiment of this name: a function of scale, folder, selection and a way to say things.

    It returns the page or table to open. Raises `ValueError` for an unknown name.
    """
    if name not in EXPERIMENTS:
        raise ValueError(unknown("experiment", name, EXPERIMENTS))
    return EXPERIMENTS[name].reproduce
