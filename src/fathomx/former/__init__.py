"""Modules of version 0.1 under their former names, for one version."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import warnings
from types import ModuleType
from typing import Any

# Where the names of a former module are now.
MODULES = {
    "arrival": ("graph.arrival",),
    "cli": ("command_line.commands", "command_line.session"),
    "computation": ("graph.numbers",),
    "convolution": ("layers.convolve",),
    "devices": ("training.devices",),
    "energy": ("graph.energy",),
    "generation": ("sampling.tokens",),
    "job": ("command_line.job", "command_line.choices", "command_line.models"),
    "local_energy": ("problem.local_energy",),
    "network": ("graph.network", "graph.entries", "graph.statistics"),
    "parameterization": ("layers.parameterization",),
    "precision": ("inference.schedule",),
    "rescaling": ("problem.rescaling",),
    "runtime": ("command_line.runtime",),
    "strength": ("problem.strength",),
    "structure": ("graph.smoothness",),
    "vector_space": ("graph.vector_space",),
}


class FormerModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module under its former name, and says the new one."""

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        known = package == "fathomx" and name in MODULES
        return importlib.machinery.ModuleSpec(fullname, self) if known else None

    def exec_module(self, module: ModuleType) -> None:
        rooms = [f"fathomx.{room}" for room in MODULES[module.__name__.partition(".")[2]]]
        warnings.warn(
            f"{module.__name__} is now {' and '.join(rooms)}.", DeprecationWarning, stacklevel=2
        )
        for room in rooms:
            names = vars(importlib.import_module(room))
            vars(module).update({k: v for k, v in names.items() if not k.startswith("__")})
