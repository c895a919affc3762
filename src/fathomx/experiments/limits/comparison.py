"""The comparison: which runs it consists of, and what is written of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fathomx.experiments.grid import Cell, Column, Comparison, Group, Say, Selection, chosen_scale
from fathomx.experiments.limits.closed_form import CLOSED_FORM, closed_form
from fathomx.experiments.limits.cosine_figure import draw_cosine
from fathomx.experiments.limits.embedding_figure import draw_embedding
from fathomx.experiments.limits.energy_figure import draw_energy
from fathomx.experiments.limits.linear import linear_networks
from fathomx.experiments.limits.nodes import write_nodes
from fathomx.experiments.limits.nodes_figure import draw_nodes
from fathomx.experiments.limits.nonlinear import embedding_networks, nonlinear_networks
from fathomx.experiments.limits.relaxation import RATE, SETTLED, SOLVERS, TOLERANCE, relax
from fathomx.experiments.limits.rescaling_figure import draw_rescaling
from fathomx.experiments.limits.scales import SCALES, Scale
from fathomx.records.values import plain

METHODS = (CLOSED_FORM, *SOLVERS)

COLUMNS = (
    Column("ratio", "energy / loss", ".4g"),
    Column("mean_eigenvalue", "S - I, mean eigenvalue", ".2e"),
    Column("expected_mean", "expected over the weights", ".2e"),
    Column("largest_eigenvalue", "S - I, largest eigenvalue", ".2e"),
    Column("cosine", "cosine of the gradient to backprop's", ".4f"),
    Column("lowest_cosine", "lowest of a node", ".3f"),
    Column("hidden_cosine", "lowest of a hidden node", ".3f"),
    Column("output_cosine", "of the readout", ".3f"),
    Column("expected_output_cosine", "of the readout, expected over the weights", ".3f"),
    Column("last_moved", "readout's activities moved, relative to their size", ".2g"),
    Column("expected_moved", "expected over the weights", ".2g"),
    Column("unsettled", "unsettled, largest", ".1e"),
    Column("strength", "strength", ".2g"),
    Column("evaluations", "evaluations, largest", ".0f"),
    Column("seconds", "seconds of inference and gradients", ".2f"),
)


def applies(cell: Cell) -> bool:
    """Whether this method is for this network.

    Linear networks have the closed form, only they; transformers with other embeddings are taken to
    equilibrium alone.
    """
    if "embedding std" in cell.network:
        return cell.method == SETTLED
    return cell.network.startswith("linear ") == (cell.method == CLOSED_FORM)


def reproduce(scale: str, folder: Path, selection: Selection, say: Say) -> Path:
    """Runs what is missing of the comparison, then writes tables and figures.

    `results.csv` (a line per run), `results.md` (means and spreads), `nodes.csv` and `nodes.md`
    (the same node by node), `energy.png` (the heat map of `F* / loss`), `rescaling.png` (`S - I`),
    `cosine.png`, `nodes.png` (the cosine of every node), `embedding.png` (how the transformer's
    depends on its embeddings). Raises `ValueError` for an unknown scale, network or method.
    """
    size = chosen_scale(scale, SCALES)
    names = (*linear_networks(size), *nonlinear_networks(size))
    comparison = Comparison(
        networks=dict.fromkeys(names, size.seeds),
        methods=METHODS,
        configuration={**size.configuration, "tolerance": TOLERANCE, "rate": RATE},
        run=lambda cell: run(cell, size),
        outcome=_outcome,
        columns=COLUMNS,
        draw=lambda found, into: _report(found, into, size),
        applies=applies,
    )
    return comparison.reproduce(folder, selection, say)


def _outcome(row: dict[str, Any]) -> str:
    if row["method"] == CLOSED_FORM:
        return f"F* / loss {row['ratio']:.4g}, S - I {row['mean_eigenvalue']:.2g}"
    if "cosine" not in row:
        return "diverged"
    return (
        f"cosine {row['cosine']:.4f}, lowest of a node {row['lowest_cosine']:.3f}, unsettled "
        f"{row['unsettled']:.1e}"
    )


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """The closed form of a linear network, or what relaxing a nonlinear one does to its gradient.

    `method` is part of the row, since what is said of it differs.
    """
    measured = (
        closed_form(linear_networks(scale)[cell.network], cell.seed, scale)
        if cell.method == CLOSED_FORM
        else relax(nonlinear_networks(scale)[cell.network], cell.method, cell.seed, scale)
    )
    return {"method": cell.method, **plain(measured)}


def _report(found: list[Group], folder: Path, scale: Scale) -> None:
    linear = {g.network: g for g in found if g.method == CLOSED_FORM}
    relaxed = [g for g in found if g.method in SOLVERS]
    if relaxed:
        write_nodes(relaxed, folder)
    known = {name: n for name, n in linear_networks(scale).items() if name in linear}
    if known:
        draw_energy(known, linear, folder / "energy.png")
        draw_rescaling(known, linear, folder / "rescaling.png")
    if relaxed:
        embedding = embedding_networks(scale)
        published = [g for g in relaxed if g.network not in embedding]
        if published:
            draw_cosine(published, folder / "cosine.png", scale)
            draw_nodes(published, folder / "nodes.png", scale)
        draw_embedding(relaxed, folder / "embedding.png", scale)
