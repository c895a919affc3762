"""Is predictive coding's inference a trust-region step, between backprop and second order?

Innocenti et al. (2023), arXiv 2305.18188: relaxing the activities displaces them by approximately

    argmin_dz  g^T dz + 1/2 dz^T (Pi + H) dz

around the feedforward pass. Where the hidden precision is strong against the output's, that is a
step along the gradient, and the weight update is backprop's; where it is weak, the step is of
second order. Here the equilibrium is compared with the minimizer of this model, example by example,
while the ratio of the two precisions goes over five decades, on networks from linear to sixteen
nodes deep, with their initial weights and after some training.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from fathomx.data import Dataset
from fathomx.drawing.style import COLORS, FAINT, legend, legend_key, new_figure, save, set_title
from fathomx.experiments.examples import vectors
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.inference.relaxation import Relaxation
from fathomx.layers.parameterization import MuPC, Parameterization, Standard
from fathomx.learning import Backprop, Learner
from fathomx.models import mlp, residual_mlp
from fathomx.problem.evaluation import Linearization
from fathomx.problem.problem import Problem
from fathomx.problem.strength import strength
from fathomx.records.values import plain
from fathomx.theory.trust_region import trust_region, with_hidden_precision


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `width` of the hidden layers; how many `examples` are relaxed; `training_steps` of
    backprop on batches of as many before, in the networks that are trained, with Adam at
    `learning_rate`; `seeds`, which draw weights and examples.
    """

    name: str
    width: int
    examples: int
    training_steps: int
    learning_rate: float
    seeds: tuple[int, ...]


SCALES = {
    "laptop": Scale(
        name="laptop",
        width=48,
        examples=32,
        training_steps=400,
        learning_rate=3e-3,
        seeds=(0, 1, 2),
    )
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network of the comparison, with its initial weights or after training."""

    build: Callable[..., Network]
    depth: int
    activation: str
    parameterization: Parameterization = dataclasses.field(default_factory=Standard)
    trained: bool = False


_INITIAL = {
    "linear MLP, 4 layers": Architecture(mlp, 4, "linear"),
    "tanh MLP, 4 layers": Architecture(mlp, 4, "tanh"),
    "tanh residual MLP, 16 nodes": Architecture(residual_mlp, 16, "tanh", MuPC()),
}
NETWORKS = {
    **_INITIAL,
    **{
        f"{name}, trained": dataclasses.replace(architecture, trained=True)
        for name, architecture in _INITIAL.items()
    },
}


@dataclasses.dataclass(frozen=True)
class Precisions:
    """The output's precision lambda and that of all hidden nodes, pi."""

    output: float = 1.0
    hidden: float = 1.0

    @property
    def ratio(self) -> float:
        """`lambda / pi`, all that displacements depend on."""
        return self.output / self.hidden


METHODS = {
    **{
        f"output precision {value:g}": Precisions(output=value)
        for value in (0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
    },
    **{f"hidden precision {value:g}": Precisions(hidden=value) for value in (0.1, 10.0, 100.0)},
}

COLUMNS = (
    Column("strength", "strength", ".2g"),
    Column("bounded", "model bounded, %", ".0f", 100.0),
    Column("difference", "displacement: relative difference to the model's", ".1e"),
    Column("cosine", "cosine to the model's", ".3f"),
    Column("gauss_newton_difference", "with the Gauss-Newton Hessian", ".1e"),
    Column("gauss_newton_cosine", "cosine", ".3f"),
    Column("cosine_to_gradient", "cosine to the gradient step", ".3f"),
    Column("cosine_to_second_order", "to the second-order step", ".3f"),
    Column("update_cosine_to_trust_region", "weight update: cosine to the model's", ".3f"),
    Column("update_cosine_to_backprop", "to backprop's", ".3f"),
    Column("unsettled", "unsettled, largest", ".0e"),
    Column("loss", "loss", ".2f"),
)


def run(cell: Cell, scale: Scale, data: Dataset) -> dict[str, Any]:
    """Relaxes some examples and measures how far the model and its limits are from that."""
    precisions = METHODS[cell.method]
    with jax.enable_x64(True):
        prepared = _prepared(scale, cell.network, cell.seed, data)
        network = prepared.network
        if precisions.hidden != 1:
            network = with_hidden_precision(network, precisions.hidden)
        problem = Problem(network, prepared.input, prepared.target, precisions.output)
        found = trust_region(problem)
        seen = _measure(problem, found.relaxation, jax.random.key(cell.seed))
        any_bounded = bool(found.bounded.any())
        compared = {
            "difference": found.overall_difference,
            "cosine": found.overall_cosine,
            "update_cosine_to_trust_region": found.cosine_to_trust_region,
        }
        row: dict[str, Any] = plain(
            {
                **seen,
                "bounded": found.bounded.mean(),
                # Of a model without minimizers there is nothing to say.
                **{key: value if any_bounded else None for key, value in compared.items()},
                "update_cosine_to_backprop": found.cosine_to_backprop,
                "unsettled": found.relaxation.unsettled.max(),
                "ratio": precisions.ratio,
            }
        )
    return row


@functools.lru_cache(maxsize=1)
def _prepared(scale: Scale, name: str, seed: int, data: Dataset) -> Problem:
    """The network and the training images to relax, none of which it was trained on.

    Kept until the next network, since all methods of the grid follow one another.
    """
    architecture = NETWORKS[name]
    network = architecture.build(
        data.input_shape[0],
        data.classes,
        width=scale.width,
        depth=architecture.depth,
        activation=architecture.activation,
        parameterization=architecture.parameterization,
        key=jax.random.key(seed),
    )
    images, labels = data.train
    steps = scale.training_steps if architecture.trained else 0
    chosen = np.random.default_rng(seed).permutation(len(labels))[: (1 + steps) * scale.examples]
    chosen = chosen.reshape(1 + steps, scale.examples)
    if steps:
        inputs, targets = (jnp.asarray(part[chosen[1:]]) for part in (images, labels))
        network = _train(network, inputs, targets, scale.learning_rate)
    return Problem(network, images[chosen[0]], labels[chosen[0]])


@eqx.filter_jit
def _train(network: Network, inputs: Array, labels: Array, learning_rate: float) -> Network:
    """The network after a step of backprop on every batch."""
    learner = Learner(Backprop(), optax.adam(learning_rate))
    # Nothing here is random.
    keys = jnp.broadcast_to(jax.random.key(0), len(inputs))
    return learner.updates(network, learner.begin(network), (inputs, labels), keys)[0]


@eqx.filter_jit
def _measure(problem: Problem, relaxed: Relaxation, key: Array) -> dict[str, Array]:
    """Loss, strength, and where the equilibrium lies beside steps that always exist.

    Cosines are means over the examples.
    """
    space = problem.network.space
    start = Linearization.at_start(problem)
    errors = problem.free_errors(relaxed.errors)
    model = gauss_newton_step(problem, start, 1 / problem.output_precision)
    apart = space.add(model, -jnp.ones(problem.batch), errors)
    return {
        "loss": problem.loss(start.explained).mean(),
        "strength": strength(problem, key, start=start),
        "gauss_newton_difference": jnp.linalg.norm(space.norm(apart))
        / jnp.linalg.norm(space.norm(errors)),
        **{
            key: _cosines(problem, errors, step).mean()
            for key, step in (
                ("gauss_newton_cosine", model),
                ("cosine_to_gradient", gradient_step(problem, start)),
                ("cosine_to_second_order", gauss_newton_step(problem, start, jnp.zeros(()))),
            )
        },
    }


def gradient_step(problem: Problem, start: Linearization) -> Entries:
    """`Pi^-1 J^T (y - mu)`: the model's minimizer, but for its length, where `Pi` is strong."""
    output = problem.network.output.name
    return problem.unweigh(start.pull({output: problem.target - start.explained[output]}))


def gauss_newton_step(problem: Problem, start: Linearization, variance: Array) -> Entries:
    """The model's minimizer without the second derivatives of the network, so that there is one.

        Pi^-1 J^T (variance + J Pi^-1 J^T)^-1 (y - mu)

    for Gaussian outputs `(batch, outputs)` and a `variance` of `1 / lambda`. At 0 it is the pure
    second-order step: the shortest, in the metric of `Pi`, that takes the linearized output to its
    target.
    """
    output = problem.network.output.name
    residual = problem.target - start.explained[output]
    identity = jnp.eye(residual.shape[1], dtype=residual.dtype)

    def column(unit: Array) -> Array:
        cotangent = jnp.broadcast_to(unit, residual.shape)
        return start.push(problem.unweigh(start.pull({output: cotangent})))[output]

    # (outputs, batch, outputs) with the batch first; symmetric, so that columns may be rows.
    sensitivity = jax.vmap(column)(identity).swapaxes(0, 1)
    multipliers = jnp.linalg.solve(sensitivity + variance * identity, residual[..., None])
    return problem.unweigh(start.pull({output: multipliers[..., 0]}))


def _cosines(problem: Problem, a: Entries, b: Entries) -> Float[Array, " batch"]:
    space = problem.network.space
    return space.dot(a, b) / (space.norm(a) * space.norm(b))


def _curve(
    found: list[Group], network: str, key: str, along: str, hidden: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A column against another, `(settings, seeds)` each; NaN where a row has none.

    Of the settings of the hidden precision, or of those of the output's.
    """
    own = [
        group
        for group in found
        if group.network == network and (METHODS[group.method].hidden != 1) == hidden
    ]
    seeds = sorted({row["seed"] for group in own for row in group.rows})
    values = np.full((2, len(own), len(seeds)), np.nan)
    for place, group in enumerate(own):
        for row in group.rows:
            seed = seeds.index(row["seed"])
            values[:, place, seed] = [
                np.nan if row[name] is None else row[name] for name in (along, key)
            ]
    return values[0], values[1]


_UPDATES = {
    "update_cosine_to_backprop": ("to backprop's", COLORS[1]),
    "update_cosine_to_trust_region": ("to the trust-region step's", COLORS[0]),
}
_COLORS = dict(zip(_INITIAL, (COLORS[2], COLORS[0], COLORS[1]), strict=True))
# Panels of the second figure: title, what is drawn against what, and the order of its limit.
_DIFFERENCES = (
    ("whole Hessian", "difference", "ratio", 2),
    ("whole Hessian", "difference", "strength", 2),
    ("Gauss-Newton Hessian", "gauss_newton_difference", "ratio", 1),
)
_ALONG = {"ratio": r"$\lambda$, at $\pi = 1$", "strength": "strength"}
_HOLLOW = {"marker": "o", "markersize": 5, "markerfacecolor": "none", "linestyle": "none"}


def draw_cosines(found: list[Group], path: Path) -> Path:
    """The weight update's cosines to backprop's and to the model's; a line for every seed."""
    figure, panels = new_figure(5.2, rows=2, columns=len(_INITIAL), sharex=True, sharey=True)
    for axes, network in zip(panels, NETWORKS, strict=True):
        set_title(axes, network.replace(", trained", ",\ntrained"))
        for key, (_, color) in _UPDATES.items():
            axes.plot(*_curve(found, network, key, "ratio", False), color=color, linewidth=1.1)
            axes.plot(*_curve(found, network, key, "ratio", True), color=color, **_HOLLOW)
        axes.set_xscale("log")
    for axes in panels[len(_INITIAL) :]:
        axes.set_xlabel(r"$\lambda / \pi$")
    for axes in panels[:: len(_INITIAL)]:
        axes.set_ylabel("cosine of the weight update")
    handles = [legend_key(label, color=color) for label, color in _UPDATES.values()]
    legend(figure, [*handles, legend_key("by the hidden precision", color=FAINT, **_HOLLOW)])
    return save(figure, path)


def draw_displacements(found: list[Group], path: Path) -> Path:
    """How far the model's displacement is from the equilibrium's; a line for every seed."""
    figure, panels = new_figure(3.9, columns=len(_DIFFERENCES), sharey=True)
    for axes, (title, key, along, order) in zip(panels, _DIFFERENCES, strict=True):
        set_title(axes, title)
        for network, architecture in NETWORKS.items():
            color = _COLORS[network.removesuffix(", trained")]
            style = {"color": color, "linestyle": "--" if architecture.trained else "-"}
            axes.plot(*_curve(found, network, key, along, False), linewidth=0.9, **style)
        axes.set(xscale="log", yscale="log")
        guide = np.array([3e-3, 3e-1])
        axes.plot(guide, 3e-4 * (guide / 0.3) ** order, color=FAINT, linewidth=2.5, alpha=0.6)
        axes.text(0.35, 3e-4, f"slope {order}", color=FAINT, fontsize=8, va="center")
        axes.set_xlabel(_ALONG[along])
    panels[0].set_ylabel("relative difference of the displacements")
    handles = [legend_key(name, color=color) for name, color in _COLORS.items()]
    legend(figure, [*handles, legend_key("trained", color=FAINT, linestyle="--")])
    return save(figure, path)


_OUTCOME = "strength {strength:.2g}, cosine to backprop's update {update_cosine_to_backprop:.3f}"

EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: dict.fromkeys(NETWORKS, scale.seeds),
    methods=METHODS,
    run=lambda cell, scale: run(cell, scale, vectors("mnist")),
    outcome=said(
        f"{_OUTCOME}, displacement off by {{difference:.2g}} where the model is bounded "
        "({bounded:.0%})",
        difference=f"{_OUTCOME}, no model bounded",
    ),
    columns=COLUMNS,
    figures={"cosines.png": draw_cosines, "displacement.png": draw_displacements},
)

reproduce = EXPERIMENT.reproduce
