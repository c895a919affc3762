"""The comparison: which runs it consists of, and what is written of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from fathomx.experiments.grid import Column, Comparison, Group, Say, Selection, chosen_scale
from fathomx.experiments.strength.differences import differences_table
from fathomx.experiments.strength.map_figure import draw_map
from fathomx.experiments.strength.mapped import map_panels, map_settings, other_panels
from fathomx.experiments.strength.methods import METHODS
from fathomx.experiments.strength.run import run
from fathomx.experiments.strength.scales import SCALES, Scale
from fathomx.experiments.strength.search_figure import draw_search
from fathomx.experiments.strength.searched import search_settings
from fathomx.records.writing import write_text

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


def reproduce(scale: str, folder: Path, selection: Selection, say: Say) -> Path:
    """Runs what is missing of the comparison, then writes tables and figures.

    `results.csv` (a line per run), `results.md` (means and spreads), `differences.md` (predictive
    coding less backprop, and the substantial strength that validation chose), `map.png`,
    `other.png`, `search.png`. Raises `ValueError` for an unknown scale, network or method.
    """
    size = chosen_scale(scale, SCALES)
    mapped, searched = map_settings(size), search_settings()
    settings = {**mapped, **searched}
    comparison = Comparison(
        networks={
            **{name: size.seeds_of(name) for name in mapped},
            **dict.fromkeys(searched, size.search_seeds),
        },
        methods=tuple(METHODS),
        configuration={
            **dataclasses.asdict(size),
            "settings": {name: repr(setting) for name, setting in settings.items()},
        },
        run=lambda cell: run(settings[cell.network], cell.method, cell.seed, size),
        outcome=_outcome,
        columns=COLUMNS,
        draw=lambda found, into: _report(found, into, size),
    )
    return comparison.reproduce(folder, selection, say)


def _outcome(row: dict[str, Any]) -> str:
    if row["test_accuracy"] is None:
        return "diverged at every learning rate"
    return f"test accuracy {100 * row['test_accuracy']:.1f}% at learning rate {row['rate']:g}"


def _report(found: list[Group], folder: Path, scale: Scale) -> None:
    present = {group.network for group in found}
    mapped = [name for name in map_settings(scale) if name in present]
    searched = [name for name in search_settings() if name in present]
    write_text(folder / "differences.md", differences_table(found, mapped + searched))
    if mapped:
        draw_map(found, map_panels(scale), folder / "map.png")
        draw_map(found, other_panels(scale), folder / "other.png")
    if searched:
        draw_search(found, searched, folder / "search.png")
