"""A valid call of everything that is public, section by section."""

from __future__ import annotations

import arguments_graph
import arguments_learning
import arguments_models
import arguments_problems
import arguments_reports
import arguments_theory
from arguments_table import Table
from arguments_world import World

_MODULES = (
    *(arguments_models, arguments_graph, arguments_problems, arguments_learning),
    *(arguments_theory, arguments_reports),
)


def all_calls(world: World) -> Table:
    """The table of all calls; a section that cannot be made is said to be broken."""
    table = Table()
    for section in (section for module in _MODULES for section in module.SECTIONS):
        try:
            section(table, world)
        except Exception as error:
            table.broken.append(f"the calls of {section.__name__} cannot be made: {error!r}")
    return table
