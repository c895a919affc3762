"""The comparison: which runs it consists of, and what is written of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fathomx.experiments.frame import Found
from fathomx.experiments.grid import Cell, Column, Group, Row
from fathomx.experiments.limits.closed_form import CLOSED_FORM, closed_form
from fathomx.experiments.limits.cosine_figure import draw_cosine
from fathomx.experiments.limits.embedding_figure import draw_embedding
from fathomx.experiments.limits.energy_figure import draw_energy
from fathomx.experiments.limits.linear import Linear, linear_networks
from fathomx.experiments.limits.nodes import nodes_csv, nodes_markdown
from fathomx.experiments.limits.nodes_figure import draw_nodes
from fathomx.experiments.limits.nonlinear import embedding_networks, nonlinear_networks
from fathomx.experiments.limits.relaxation import SETTLED, SOLVERS, relax
from fathomx.experiments.limits.rescaling_figure import draw_rescaling
from fathomx.experiments.limits.scales import Scale
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


def networks(scale: Scale) -> dict[str, tuple[int, ...]]:
    """The linear networks and the others."""
    return dict.fromkeys((*linear_networks(scale), *nonlinear_networks(scale)), scale.seeds)


def outcome(row: Row) -> str:
    """What is said of a row."""
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


def _known(found: Found[Scale]) -> tuple[dict[str, Linear], dict[str, Group]]:
    """The linear networks that there are, and what was found of them."""
    linear = {group.network: group for group in found if group.method == CLOSED_FORM}
    return {name: n for name, n in linear_networks(found.scale).items() if name in linear}, linear


def _relaxed(found: Found[Scale]) -> list[Group]:
    return [group for group in found if group.method in SOLVERS]


def _published(found: Found[Scale]) -> list[Group]:
    """Those whose embeddings are muPC's."""
    others = embedding_networks(found.scale)
    return [group for group in _relaxed(found) if group.network not in others]


def energy(found: Found[Scale], path: Path) -> None:
    """The heat map of `F* / loss`."""
    known, linear = _known(found)
    if known:
        draw_energy(known, linear, path)


def rescaling(found: Found[Scale], path: Path) -> None:
    """`S - I` over width and depth."""
    known, linear = _known(found)
    if known:
        draw_rescaling(known, linear, path)


def cosine(found: Found[Scale], path: Path) -> None:
    """The cosine of the gradients over width."""
    if _published(found):
        draw_cosine(_published(found), path, found.scale)


def nodes(found: Found[Scale], path: Path) -> None:
    """The cosine of every node."""
    if _published(found):
        draw_nodes(_published(found), path, found.scale)


def embedding(found: Found[Scale], path: Path) -> None:
    """How the transformer's cosine depends on its embeddings."""
    if _relaxed(found):
        draw_embedding(_relaxed(found), path, found.scale)


TABLES = {
    "nodes.csv": lambda found: nodes_csv(_relaxed(found)),
    "nodes.md": lambda found: nodes_markdown(_relaxed(found)),
}
FIGURES = {
    "energy.png": energy,
    "rescaling.png": rescaling,
    "cosine.png": cosine,
    "nodes.png": nodes,
    "embedding.png": embedding,
}
