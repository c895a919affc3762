"""Published claims, each with the program that checks it: `fathomx reproduce NAME`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fathomx.experiments import deeper_pcns
from fathomx.experiments.grid import Selection as Selection
from fathomx.layers import unknown

Reproduction = Callable[[str, Path, Selection, Callable[[str], None]], Path]

EXPERIMENTS: dict[str, Reproduction] = {"deeper-pcns": deeper_pcns.reproduce}


def reproduction(name: str) -> Reproduction:
    """The experiment of this name: a function of scale, folder, selection and a way to say things.

    It returns the page or table to open. Raises `ValueError` for an unknown name.
    """
    if name not in EXPERIMENTS:
        raise ValueError(unknown("experiment", name, EXPERIMENTS))
    return EXPERIMENTS[name]
