"""Are the saddles of the equilibrated energy strict where those of the loss are not?

Innocenti et al. (2024), arXiv 2408.11979: with three and more weight layers the origin is a
degenerate saddle of the loss (its Hessian is zero), but a strict one of the energy at equilibrium,
with smallest eigenvalue `-lambda_max(mean y y^T)`. Other saddles of rank zero, at which all layers
but one are zero, are said to be alike, in nonlinear networks too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx import data as data_sets
from fathomx import theory
from fathomx.drawing.style import COLORS, FAINT, new_figure, save
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group
from fathomx.graph.network import Network
from fathomx.inference import GaussNewton, infer
from fathomx.models import mlp
from fathomx.problem.problem import Problem

ACTIVATIONS = ("linear", "tanh", "relu")
SADDLES = ("origin", "rank zero")
# Networks with kinks have no second derivatives at these saddles; they are looked at beside them,
# where gradients are of the size of the distance.
KINKED_DISTANCE, KINKED_TOLERANCE = 1e-6, 1e-3
# Newton's continuation through smoothed kinks is made for activities of size 1, not of this size.
KINKED_SOLVER = GaussNewton(iterations=40, cg_iterations=40)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `layers`, the numbers of weight layers; `data` sets; `seeds`; `examples`; `width`
    of the hidden layers by data set; `points` along each axis of the drawn landscapes.
    """

    name: str
    layers: tuple[int, ...]
    data: tuple[str, ...]
    seeds: tuple[int, ...]
    examples: int
    width: dict[str, int]
    points: int


SCALES = {
    "laptop": Scale(
        name="laptop",
        layers=(2, 3, 4, 5),
        data=("toy", "mnist"),
        seeds=(0, 1, 2),
        examples=64,
        width={"toy": 5, "mnist": 10},
        points=61,
    ),
}

COLUMNS = (
    Column("loss_strict", "loss strict, share of seeds", ".2f"),
    Column("energy_strict", "F* strict, share of seeds", ".2f"),
    Column("loss_smallest", "smallest eigenvalue, loss", ".3g"),
    Column("energy_smallest", "F*", ".4g"),
    Column("predicted", "predicted for F* at the origin", ".4g"),
    Column("energy_negative", "negative eigenvalues of F*", ".0f"),
    Column("loss_gradient", "gradient, loss", ".1g"),
    Column("energy_gradient", "F*", ".1g"),
    Column("settled", "share of examples settled", ".2f"),
)


def networks(scale: Scale) -> dict[str, tuple[int, ...]]:
    """Every activation, number of layers and data set."""
    names = [f"{a}, {n} layers, {d}" for d in scale.data for a in ACTIVATIONS for n in scale.layers]
    return dict.fromkeys(names, scale.seeds)


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """Spectra of both landscapes at one saddle of one network, in float64."""
    activation, layers, data = cell.network.split(", ")
    with jax.enable_x64(True):
        x, y = examples(data, scale, cell.seed)
        key = jax.random.key(cell.seed)
        drawn = mlp(
            x.shape[1],
            y.shape[1],
            width=scale.width[data],
            depth=int(layers.split()[0]),
            activation=activation,
            key=key,
        )
        network, tolerance, solver = saddle(cell.method, drawn), theory.TOLERANCE, None
        if activation == "relu":
            network = theory.nearby(network, KINKED_DISTANCE, jax.random.fold_in(key, 1))
            tolerance, solver = KINKED_TOLERANCE, KINKED_SOLVER
        row: dict[str, Any] = {
            "predicted": -float(jnp.linalg.eigvalsh(y.T @ y / len(y))[-1]),
            "settled": None,
        }
        if activation != "linear":
            relaxed = infer(Problem(network, x, y), solver or theory.relaxing_solver(network))
            row["settled"] = float(jnp.mean(relaxed.settled()))
        for name, objective in (
            ("loss", theory.Loss(x, y)),
            ("energy", theory.EquilibratedEnergy(x, y, solver=solver)),
        ):
            found = theory.spectrum(objective, network, tolerance=tolerance, key=key)
            row |= {
                f"{name}_verdict": found.verdict,
                f"{name}_strict": float(found.verdict == "strict"),
                f"{name}_smallest": found.smallest,
                f"{name}_largest": found.largest,
                f"{name}_negative": found.negative_count,
                f"{name}_gradient": found.gradient_norm,
                f"{name}_eigenvalues": None
                if found.eigenvalues is None
                else found.eigenvalues.tolist(),
            }
    return row


def saddle(name: str, drawn: Network) -> Network:
    """The origin, or the saddle that keeps the weights of the node in the middle."""
    if name == "origin":
        return theory.origin(drawn)
    return theory.rank_zero(drawn, drawn.labels[(drawn.depth - 1) // 2])


def examples(data: str, scale: Scale, seed: int) -> tuple[Array, Array]:
    """Inputs and targets: normal and three-dimensional, or images with one-hot labels.

    The toy targets are minus the inputs. Images come from the training part, another slice for
    every seed.
    """
    if data == "toy":
        shape = (scale.examples, 3)
        x = jax.random.normal(jax.random.fold_in(jax.random.key(seed), 2), shape)
        return x, -x
    part = data_sets.load(data).flat().train
    chosen = slice(seed * scale.examples, (seed + 1) * scale.examples)
    x = jnp.asarray(np.asarray(part.inputs[chosen], np.float64))
    return x, jax.nn.one_hot(jnp.asarray(part.labels[chosen]), 10, dtype=x.dtype)


_OBJECTIVES = (("loss", "loss", "o"), ("energy", "equilibrated energy", "D"))


def draw_smallest(found: Sequence[Group], path: Path) -> Path:
    """The smallest eigenvalue of both landscapes for every network; a bar spans the seeds."""
    names = list(dict.fromkeys(group.network for group in found))
    figure, panels = new_figure(1.2 + 0.24 * len(names), columns=2, sharey=True)
    for axes, method in zip(panels, SADDLES, strict=True):
        for group in (g for g in found if g.method == method):
            place = names.index(group.network)
            for color, (key, label, marker) in zip(COLORS, _OBJECTIVES, strict=False):
                values = group.values(f"{key}_smallest")
                axes.plot([min(values), max(values)], [place, place], color=color, linewidth=1.5)
                axes.plot(
                    group.mean(f"{key}_smallest"),
                    place,
                    marker,
                    color=color,
                    markersize=5,
                    label=label if place == 0 else None,
                )
            if method == "origin":
                axes.plot(group.mean("predicted"), place, "|", color="black", markersize=11)
        axes.axvline(0, color=FAINT, linewidth=0.8)
        axes.set_xlabel("smallest eigenvalue of the Hessian")
        axes.set_xscale("symlog", linthresh=1e-2)
        axes.set_xlim(left=2 * axes.get_xlim()[0], right=5e-3)
        axes.set_title(method, fontsize=10)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=2)
    return save(figure, path)


def draw_spectra(found: Sequence[Group], path: Path) -> Path:
    """All eigenvalues at the origin, ascending, toy data: one panel per number of layers."""
    shown = [
        g for g in found if g.method == "origin" and g.rows[0]["energy_eigenvalues"] is not None
    ]
    layers = list(dict.fromkeys(g.network.split(", ")[1] for g in shown))
    figure, panels = new_figure(4.6, rows=2, columns=max(1, len(layers)), sharey=True, sharex="col")
    for place, count in enumerate(layers):
        for group in (g for g in shown if g.network.split(", ")[1] == count):
            activation = group.network.split(", ")[0]
            color = COLORS[ACTIVATIONS.index(activation)]
            for row, (key, title, _) in enumerate(_OBJECTIVES):
                axes = panels[row * len(layers) + place]
                values = np.asarray(group.rows[0][f"{key}_eigenvalues"])
                axes.plot(
                    np.arange(1, values.size + 1),
                    values,
                    color=color,
                    linewidth=1.4,
                    linestyle=("-", "--", ":")[ACTIVATIONS.index(activation)],
                    label=activation,
                )
                axes.set_title(f"{title}, {count}", fontsize=8)
    for axes in panels[-max(1, len(layers)) :]:
        axes.set_xlabel("index")
    for axes in panels[:: max(1, len(layers))]:
        axes.set_ylabel("eigenvalue")
    if layers:
        panels[0].legend(fontsize=7, frameon=False)
    return save(figure, path)


def draw_chains(points: int, path: Path) -> Path:
    """Landscapes of linear chains of single units, `x = y = 1`, over hidden and last weight.

    With three layers both hidden weights are the same.
    """
    figure, panels = new_figure(6.2, rows=2, columns=2)
    with jax.enable_x64(True):
        one = jnp.ones((1, 1))
        for row, layers in enumerate((2, 3)):
            chain = mlp(1, 1, width=1, depth=layers, activation="linear", key=jax.random.key(0))
            origin = theory.origin(chain)
            axes_of = (
                jnp.array([*[1.0] * (layers - 1), 0.0]),
                jnp.array([*[0.0] * (layers - 1), 1.0]),
            )
            for column, (objective, title) in enumerate(
                (
                    (theory.Loss(one, one), "loss"),
                    (theory.EquilibratedEnergy(one, one), "equilibrated energy"),
                )
            ):
                found = theory.plane(objective, origin, axes_of, radius=2.0, points=points)
                axes = panels[2 * row + column]
                levels = np.linspace(0, 1.5, 16)
                filled = axes.contourf(
                    found.first, found.second, found.values, levels, cmap="viridis", extend="max"
                )
                axes.contour(
                    found.first, found.second, found.values, [0.5], colors="white", linewidths=0.8
                )
                axes.plot(0, 0, "o", color=COLORS[1], markersize=5)
                axes.grid(False)
                axes.set_title(f"{title}, {layers} layers", fontsize=10)
                axes.set_xlabel("hidden weights" if layers > 2 else "hidden weight")
                axes.set_ylabel("last weight")
    figure.colorbar(filled, ax=list(panels), shrink=0.6, label="value (white: that at the origin)")
    return save(figure, path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=networks,
    methods=SADDLES,
    run=run,
    outcome=said("loss {loss_verdict}, F* {energy_verdict}"),
    columns=COLUMNS,
    figures={
        "chains.png": lambda found, path: draw_chains(found.scale.points, path),
        "smallest.png": draw_smallest,
        "spectra.png": draw_spectra,
    },
)

reproduce = EXPERIMENT.reproduce
