"""The comparison: which runs it consists of, and what is written of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fathomx.experiments.frame import Found
from fathomx.experiments.grid import Cell, Column, Row
from fathomx.experiments.strength.differences import differences_table
from fathomx.experiments.strength.map_figure import draw_map
from fathomx.experiments.strength.mapped import map_panels, map_settings, other_panels
from fathomx.experiments.strength.run import run
from fathomx.experiments.strength.scales import Scale
from fathomx.experiments.strength.search_figure import draw_search
from fathomx.experiments.strength.searched import search_settings
from fathomx.experiments.strength.setting import Setting

COLUMNS = (
    Column("test_accuracy", "test accuracy, %", ".1f", 100.0),
    Column("validation_accuracy", "validation accuracy, %", ".1f", 100.0),
    Column("test_loss", "test loss", ".3g"),
    Column("rate", "learning rate", ".2g"),
    Column("at_edge", "rate at the edge, %", ".0f", 100.0),
    Column("cosine_first", "cosine to backprop, first", ".2f"),
    Column("cosine_last", "last", ".2f"),
    Column("sensitivity_first", "sensitivity, first", ".2g"),
    Column("sensitivity_last", "last", ".2g"),
    Column("strength", "strength, median", ".2g"),
    Column("unsettled", "unsettled, median", ".1g"),
    Column("unsettled_largest", "largest", ".1g"),
    Column("seconds", "s", ".0f"),
)


def settings(scale: Scale) -> dict[str, Setting]:
    """Those of the map and of the search."""
    return {**map_settings(scale), **search_settings()}


def seeds_by_network(scale: Scale) -> dict[str, tuple[int, ...]]:
    """The networks of both, with their seeds."""
    return {
        **{name: scale.seeds_of(name) for name in map_settings(scale)},
        **dict.fromkeys(search_settings(), scale.search_seeds),
    }


def row(cell: Cell, scale: Scale) -> Row:
    """One setting learned by one method."""
    return run(settings(scale)[cell.network], cell.method, cell.seed, scale)


def _present(found: Found[Scale], names: Mapping[str, Setting]) -> list[str]:
    present = {group.network for group in found}
    return [name for name in names if name in present]


def compared(found: Found[Scale]) -> str:
    """Predictive coding less backprop, and the substantial strength that validation chose."""
    return differences_table(found, _present(found, settings(found.scale)))


def draw_mapped(found: Found[Scale], path: Path) -> None:
    """The map of depth by width."""
    if _present(found, map_settings(found.scale)):
        draw_map(found, map_panels(found.scale), path)


def draw_others(found: Found[Scale], path: Path) -> None:
    """The map of other outputs and architectures."""
    if _present(found, map_settings(found.scale)):
        draw_map(found, other_panels(found.scale), path)


def draw_searched(found: Found[Scale], path: Path) -> None:
    """The settings of the search."""
    names = _present(found, search_settings())
    if names:
        draw_search(found, names, path)
