"""Does the closed form of the equilibrated energy predict what inference finds during training?

Innocenti et al. (2024), arXiv 2408.11979, figure 1: in deep linear networks the energy at the
equilibrium of the activities is `F* = 1/2 mean_i r_i^T S^-1 r_i`, a loss rescaled by the weights,
and it agrees with the energy of activities that were relaxed numerically, along the whole of
training, for chains of 3, 6 and 11 weight layers on MNIST, Fashion-MNIST and CIFAR-10. Here the
same networks are trained by predictive coding at the equilibrium, and at checkpoints their
activities are relaxed in several ways, each with the certificate of how settled it is.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from fathomx.drawing.style import COLORS, FAINT, legend, legend_key, new_figure, save, set_title
from fathomx.experiments.examples import vectors
from fathomx.experiments.frame import Experiment
from fathomx.experiments.grid import Cell, Column, Group, Row
from fathomx.graph.network import Network
from fathomx.inference import ErrorDescent, Exact, GaussNewton, Solver, StateDescent, infer
from fathomx.layers.parameterization import Standard
from fathomx.learning import Equilibrium, Learner
from fathomx.models import mlp
from fathomx.problem.problem import Problem
from fathomx.records.values import plain
from fathomx.theory import equilibrated_energy


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `width` of the hidden layers; `iterations` of Adam at `learning_rate`, each on
    `batch_size` new images; a checkpoint after every `record` of them; `examples`, the first
    images of the validation part, on which all is recorded; `seeds` of the weights.
    """

    name: str
    width: int
    iterations: int
    batch_size: int
    learning_rate: float
    record: int
    examples: int
    seeds: tuple[int, ...]


SCALES = {
    "laptop": Scale(
        name="laptop",
        width=100,
        iterations=100,
        batch_size=64,
        learning_rate=1e-3,
        record=10,
        examples=64,
        seeds=(0, 1, 2),
    )
}


@dataclasses.dataclass(frozen=True)
class Chain:
    """A linear chain of `depth` weight layers, and the name of the data it is trained on."""

    depth: int
    data: str


DEPTHS, DATA = (3, 6, 11), ("mnist", "fashion-mnist", "cifar10")
NETWORKS = {f"{depth} layers, {data}": Chain(depth, data) for data in DATA for depth in DEPTHS}

# The gradient flow of the published runs covers a time of 9.4 (300 on an energy that is twice
# ours and a mean over 64 examples); 47 steps of 0.2 cover as much.
METHODS: dict[str, Solver] = {
    "state descent, 20 steps": StateDescent(optax.sgd(0.2), steps=20),
    "state descent, 47 steps": StateDescent(optax.sgd(0.2), steps=47),
    "error descent, 47 steps": ErrorDescent(optax.sgd(0.2), steps=47),
    "Gauss-Newton": GaussNewton(iterations=2, cg_iterations=10),
}

COLUMNS = (
    Column("largest_difference", "largest relative difference", ".1e"),
    Column("final_difference", "final relative difference", ".1e"),
    Column("diverged", "diverged, % of checkpoints", ".0f", 100.0),
    Column("largest_unsettled", "largest unsettled", ".1e"),
    Column("first_loss", "first loss", ".4f"),
    Column("final_loss", "final loss", ".4f"),
    Column("first_ratio", "first F* / loss", ".3f"),
    Column("final_ratio", "final F* / loss", ".3f"),
)


def outcome(row: Row) -> str:
    """What is said of a row."""
    if row["diverged"] == 1:
        return "diverged"
    return f"relative difference at most {row['largest_difference']:.1e}"


class Checkpoint(eqx.Module):
    """A moment of training. **Fields**: `iteration`, and what is relaxed then, in float64."""

    iteration: int
    problem: Problem


# The methods of one network share its way, and follow each other.
@functools.lru_cache(maxsize=1)
def path(network: str, seed: int, scale: Scale) -> tuple[Checkpoint, ...]:
    """The checkpoints of a network that is trained at the exact equilibrium.

    The way of the weights is the same for all methods, so that what differs is inference alone.
    """
    with jax.enable_x64(True):
        return tuple(_train(NETWORKS[network], seed, scale))


def _train(chain: Chain, seed: int, scale: Scale) -> Iterator[Checkpoint]:
    data = vectors(chain.data)
    needed = scale.iterations * scale.batch_size
    if needed > len(data.train.labels):
        raise ValueError(f"{needed} images are needed, and {chain.data} has fewer.")
    inputs = jnp.asarray(data.train.inputs[:needed], float)
    inputs = inputs.reshape(-1, scale.record, scale.batch_size, inputs.shape[1])
    labels = np.asarray(data.train.labels[:needed]).reshape(inputs.shape[:3])
    probe = jnp.asarray(data.validation.inputs[: scale.examples], float)
    wanted = jax.nn.one_hot(data.validation.labels[: scale.examples], data.classes, dtype=float)

    network = mlp(
        inputs.shape[-1],
        data.classes,
        width=scale.width,
        depth=chain.depth,
        activation="linear",
        # The variance of weights drawn evenly from -1 / sqrt(fan_in) to 1 / sqrt(fan_in).
        parameterization=Standard(gain=3**-0.5),
        key=jax.random.key(seed),
    )
    rule, optimizer = Equilibrium(Exact(), output_precision=1.0), optax.adam(scale.learning_rate)
    state = rule.init_optimizer(optimizer, network)
    yield Checkpoint(0, Problem(network, probe, wanted))
    for count, (x, labels_here) in enumerate(zip(inputs, labels, strict=True), start=1):
        y = jax.nn.one_hot(labels_here, data.classes, dtype=float)
        network, state = _learn(network, state, (x, y), rule, scale.learning_rate)
        yield Checkpoint(count * scale.record, Problem(network, probe, wanted))


@eqx.filter_jit
def _learn(
    network: Network, state: Any, batches: tuple[Array, Array], rule: Equilibrium, rate: float
) -> tuple[Network, Any]:
    """One update for each of the batches along the leading axis."""
    learner = Learner(rule, optax.adam(rate))
    # Nothing here is random.
    keys = jnp.broadcast_to(jax.random.key(0), len(batches[0]))
    return learner.updates(network, state, batches, keys)[:2]


@eqx.filter_jit
def _measure(problem: Problem, solver: Solver) -> dict[str, Array]:
    relaxed = infer(problem, solver)
    theory = equilibrated_energy(problem.network, problem.input, problem.target)
    return {
        "loss": problem.loss(problem.feedforward()).mean(),
        "theory": theory.energy,
        "relaxed": relaxed.energy.sum(),
        "unsettled": relaxed.unsettled.max(),
    }


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """Relaxes the activities at every checkpoint and compares with the closed form."""
    checkpoints = path(cell.network, cell.seed, scale)
    with jax.enable_x64(True):
        seen = [_measure(c.problem, METHODS[cell.method]) for c in checkpoints]
        course = {key: np.asarray([float(one[key]) for one in seen]) for key in seen[0]}
    return summary(np.asarray([c.iteration for c in checkpoints]), course)


def summary(iterations: np.ndarray, course: dict[str, np.ndarray]) -> dict[str, Any]:
    """The numbers of the table, and the course for the figure.

    Inference begins at the loss; where its energy ended above, it has diverged, which is counted
    and left out of the differences and of the certificate.
    """
    # Not `>`: a comparison with NaN must count as a divergence.
    diverged = ~(course["relaxed"] <= course["loss"] * (1 + 1e-9))
    with np.errstate(invalid="ignore"):
        difference = np.abs(course["relaxed"] - course["theory"]) / course["theory"]
    ratio = course["theory"] / course["loss"]
    kept = ~diverged
    return {
        "largest_difference": float(difference[kept].max()) if kept.any() else None,
        "final_difference": float(difference[-1]) if kept[-1] else None,
        "diverged": float(diverged.mean()),
        "largest_unsettled": float(course["unsettled"][kept].max()) if kept.any() else None,
        "first_loss": float(course["loss"][0]),
        "final_loss": float(course["loss"][-1]),
        "first_ratio": float(ratio[0]),
        "final_ratio": float(ratio[-1]),
        "course": plain({"iterations": iterations, **course}),
    }


def draw(found: list[Group], path: Path) -> None:
    """Theory as a line, relaxed energies as markers, the loss faintly; the first seed of each.

    Each panel shows what lies between theory and loss; energies that have diverged are above it.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, panels = new_figure(7.6, rows=len(DATA), columns=len(DEPTHS), sharex=True)
    for axes, (name, chain) in zip(panels, NETWORKS.items(), strict=True):
        set_title(axes, name)
        for place, group in enumerate(g for g in found if g.network == name):
            course = {key: np.asarray(v, float) for key, v in group.rows[0]["course"].items()}
            if not place:
                axes.plot(course["iterations"], course["loss"], **_LOSS)
                axes.plot(course["iterations"], course["theory"], **_THEORY)
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
                axes.set_ylim(course["theory"].min() / 1.4, course["loss"].max() * 1.4)
            axes.plot(course["iterations"], course["relaxed"], **_STYLE[group.method])
        if chain.depth == DEPTHS[0]:
            axes.set_ylabel("energy, mean over images")
        if chain.data == DATA[-1]:
            axes.set_xlabel("iteration")
    handles = [legend_key("F*, closed form", **_THEORY), legend_key("loss", **_LOSS)]
    handles += [legend_key(method, **style) for method, style in _STYLE.items()]
    legend(figure, handles)
    save(figure, path)


_LOSS = {"color": FAINT, "linewidth": 1.0, "linestyle": ":"}
_THEORY = {"color": "black", "linewidth": 1.2}
_STYLE = {
    method: {
        "color": COLORS[place],
        "marker": "^vDo"[place],
        "markersize": 4,
        "linestyle": "none",
        "markerfacecolor": "none",
    }
    for place, method in enumerate(METHODS)
}


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: dict.fromkeys(NETWORKS, scale.seeds),
    methods=METHODS,
    run=run,
    outcome=outcome,
    columns=COLUMNS,
    figures={"energy.png": draw},
    # Functions print with an address, which differs between runs.
    descriptions=lambda scale: {
        "solvers": {name: f"{type(s).__name__}, {s.max_steps} steps" for name, s in METHODS.items()}
    },
)

reproduce = EXPERIMENT.reproduce
