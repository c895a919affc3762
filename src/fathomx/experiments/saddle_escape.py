"""Does predictive coding leave the saddle at the origin sooner than backprop?

Innocenti et al. (2024), arXiv 2408.11979: with three and more weight layers the loss is flat to
second order at the origin, a saddle that is not strict, while the equilibrated energy curves
downwards there along the last layer's weights. Gradient descent from a start of size `epsilon` near
the origin should therefore need a time that grows like a power of `1 / epsilon` with backprop, but
like its logarithm with predictive coding at equilibrium. Here both train the same networks from the
same start on the same batches with the same learning rate, and the iterations are counted until the
training loss falls.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from fathomx.data import Dataset
from fathomx.drawing.style import COLORS, legend, legend_key, line, new_figure, save, set_title
from fathomx.experiments.examples import vectors
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group
from fathomx.graph.entries import Node
from fathomx.graph.network import Network
from fathomx.graph.smoothness import has_kinks
from fathomx.inference import Exact, GaussNewton, Solver, infer
from fathomx.layers.activations import activation_function, linear
from fathomx.layers.convolution import Convolution
from fathomx.layers.scaled import Linear
from fathomx.learning import Backprop, Equilibrium, Learner, LearningRule
from fathomx.models import mlp
from fathomx.problem.problem import Problem
from fathomx.theory import nearby, origin

# Fractions of the initial loss. At 95% the loss has moved. No constant prediction is below 90%: it
# is the best one's loss on a batch with as many examples of every class. 70% is well on
# the way down.
LEVELS = {"escape_95": 0.95, "escape_90": 0.90, "escape_70": 0.70}
MAIN = "escape_90"
METHODS = ("PC", "backprop")


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `width` of the dense networks and `channels` of the convolutional ones; `examples`
    of the training part; `per_class`, how many of them of every class the loss is measured on;
    `batch_size`; `learning_rate`; the losses are measured every `interval` iterations, and whether
    to stop is asked after every `chunk` of such measurements, at most `most_chunks` times; `seeds`
    by network (`""`: the others).
    """

    name: str
    width: int
    channels: int
    examples: int
    per_class: int
    batch_size: int
    learning_rate: float
    interval: int
    chunk: int
    most_chunks: int
    seeds: dict[str, tuple[int, ...]]

    def seeds_of(self, network: str) -> tuple[int, ...]:
        """The seeds of a network."""
        return self.seeds.get(network, self.seeds[""])


SCALES = {
    "laptop": Scale(
        name="laptop",
        width=100,
        channels=8,
        examples=2048,
        per_class=25,
        batch_size=32,
        learning_rate=0.04,
        interval=10,
        chunk=25,
        most_chunks=80,
        seeds={"": (0, 1, 2), "tanh, 4 layers": (0, 1, 2, 3, 4)},
    )
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A network of the comparison and how it is trained.

    **Fields**: `activation`; `depth`, the number of weight layers; `convolutional`; `deviation`,
    the standard deviation of the weights at the start; `rate`, by which the learning rate of the
    scale is multiplied.
    """

    activation: str
    depth: int = 4
    convolutional: bool = False
    deviation: float = 5e-3
    rate: float = 1.0

    def start(self, scale: Scale, seed: int) -> Network:
        """The network near the origin from which both methods start."""
        if self.convolutional:
            network = convolutional(scale.channels, self.activation)
        else:
            network = mlp(
                784,
                10,
                width=scale.width,
                depth=self.depth,
                activation=self.activation,
                key=jax.random.key(0),
            )
        return nearby(origin(network), self.deviation, jax.random.key(seed))

    @property
    def solver(self) -> Solver:
        """Brings inference to equilibrium; around kinks that takes more iterations."""
        if self.activation == "linear":
            return Exact()
        return GaussNewton(6 if self.activation == "relu" else 2, cg_iterations=4)

    def rule(self, method: str) -> LearningRule:
        """The learning rule; at output precision 1 both have the same learning rate."""
        return Backprop() if method == "backprop" else Equilibrium(self.solver, 1.0)


NETWORKS = {
    "linear, 4 layers": Setting("linear"),
    "tanh, 4 layers": Setting("tanh"),
    "ReLU, 4 layers": Setting("relu"),
    "convolutional linear, 4 layers": Setting("linear", convolutional=True),
    "convolutional tanh, 4 layers": Setting("tanh", convolutional=True),
    "tanh, 4 layers, half the rate": Setting("tanh", rate=0.5),
    "tanh, 3 layers": Setting("tanh", depth=3),
    "tanh, 3 layers, start 1e-3": Setting("tanh", depth=3, deviation=1e-3),
    "tanh, 5 layers": Setting("tanh", depth=5),
}

COLUMNS = (
    Column("escape_95", "iterations to 95% of the initial loss", ".0f"),
    Column("escape_90", "to 90%", ".0f"),
    Column("escape_70", "to 70%", ".0f"),
    Column("iterations", "iterations run", ".0f"),
    Column("last_loss", "loss after them", ".3f"),
    Column("unsettled", "largest unsettled", ".2g"),
    Column("energy_left", "largest share of the energy's fall left", ".2g"),
    Column("seconds", "s", ".1f"),
)


class _Activated(eqx.Module):
    """`layer(prepare(phi(z)))`."""

    layer: Callable[[Array], Array]
    activation: Callable[[Array], Array]
    prepare: Callable[[Array], Array]

    def __call__(self, activity: Array) -> Array:
        return self.layer(self.prepare(self.activation(activity)))


def convolutional(channels: int, activation: str) -> Network:
    """Three convolutions of 3x3 pixels, two of them halving the image, and a readout; all zero."""
    phi = activation_function(activation)

    def kernel(taken: int, given: int, stride: int) -> Convolution:
        return Convolution(jnp.zeros((3, 3, taken, given)), stride=stride)

    twice = 2 * channels
    second = _Activated(kernel(channels, twice, 2), phi, linear)
    third = _Activated(kernel(twice, twice, 1), phi, linear)
    readout = _Activated(Linear(jnp.zeros((10, 49 * twice))), phi, jnp.ravel)
    nodes = [
        Node("first", kernel(1, channels, 2)),
        Node("second", second),
        Node("third", third),
        Node("output", readout),
    ]
    return Network(nodes, input_shape=(28, 28, 1))


class Examples(eqx.Module):
    """What the networks are trained on, and the batch on which the loss is measured."""

    inputs: Array
    targets: Array
    measured_inputs: Array
    measured_targets: Array

    @staticmethod
    def of(data: Dataset, scale: Scale, image: bool) -> Examples:
        """The first training examples; the first of every class of them are measured on."""
        part = data.train
        inputs, labels = part.inputs[: scale.examples], part.labels[: scale.examples]
        if image:
            inputs = inputs.reshape(-1, 28, 28, 1)
        targets = np.eye(10, dtype=inputs.dtype)[labels]
        chosen = np.concatenate(
            [np.flatnonzero(labels == digit)[: scale.per_class] for digit in range(10)]
        )
        if len(chosen) != 10 * scale.per_class:
            raise ValueError(f"{scale.examples} examples do not hold enough of every class.")
        return Examples(*map(jnp.asarray, (inputs, targets, inputs[chosen], targets[chosen])))

    @eqx.filter_jit
    def loss(self, network: Network) -> Array:
        """The training loss on the batch that is measured on."""
        problem = Problem(network, self.measured_inputs, self.measured_targets)
        return problem.loss(problem.feedforward()).mean()


def batches(scale: Scale, seed: int, chunk: int) -> Array:
    """Which examples the batches of a chunk hold, `(measurements, interval, batch size)`.

    A function of the seed alone, so that both methods see the same.
    """
    shape = (scale.chunk, scale.interval, scale.batch_size)
    generator = np.random.default_rng((seed, chunk))
    return jnp.asarray(generator.integers(scale.examples, size=shape))


@eqx.filter_jit
def advance(
    rule: LearningRule, network: Network, examples: Examples, rate: Array, chosen: Array
) -> tuple[Network, Array, Array]:
    """Plain SGD over the batches of a chunk, compiled as one program.

    Returns the network, and for every measurement the loss after it and the largest `unsettled` of
    the iterations before it.
    """
    arrays, rest = eqx.partition(network, eqx.is_array)
    learner = Learner(rule, optax.sgd(rate))

    def iterate(arrays: Any, batch: Array) -> tuple[Any, Array]:
        now = eqx.combine(arrays, rest)
        chosen = examples.inputs[batch], examples.targets[batch]
        moved, _, report = learner.update(now, learner.begin(now), chosen, jax.random.key(0))
        return eqx.filter(moved, eqx.is_array), report.unsettled_max

    def measure(arrays: Any, chosen: Array) -> tuple[Any, tuple[Array, Array]]:
        arrays, unsettled = jax.lax.scan(iterate, arrays, chosen)
        return arrays, (examples.loss(eqx.combine(arrays, rest)), unsettled.max())

    arrays, (losses, unsettled) = jax.lax.scan(measure, arrays, chosen)
    return eqx.combine(arrays, rest), losses, unsettled


def energy_left(network: Network, examples: Examples, solver: GaussNewton) -> float:
    """The share of the energy's fall, from feedforward to equilibrium, that a solver leaves over.

    Equilibrium is where ten times as many iterations lead. Says how settled inference is where
    activations have kinks, at which minima keep a gradient.
    """
    problem = Problem(network, examples.measured_inputs, examples.measured_targets, 1.0)
    longer = GaussNewton(10 * solver.iterations, solver.cg_iterations)
    begun, reached, settled = (
        float(infer(problem, taken).energy.sum())
        for taken in (GaussNewton(iterations=0), solver, longer)
    )
    return (reached - settled) / (begun - settled) if settled < begun else 0.0


def escapes(losses: Sequence[float], interval: int) -> dict[str, int | None]:
    """The first iteration measured at which the loss is below each level, `None` if it never is."""
    relative = np.asarray(losses) / losses[0]
    return {
        key: int(np.argmax(relative < level)) * interval if (relative < level).any() else None
        for key, level in LEVELS.items()
    }


def examples_of(network: str, scale: Scale) -> Examples:
    """What a network of the comparison is trained and measured on."""
    return Examples.of(vectors("mnist"), scale, NETWORKS[network].convolutional)


def run(cell: Cell, scale: Scale, examples: Examples) -> dict[str, Any]:
    """Trains one network until it has left the plateau, or for as long as the scale allows."""
    setting = NETWORKS[cell.network]
    solver = setting.solver
    network, rule = setting.start(scale, cell.seed), setting.rule(cell.method)
    rate = jnp.asarray(scale.learning_rate * setting.rate)
    losses, unsettled, left = [float(examples.loss(network))], [], []
    chunks = round(scale.most_chunks / setting.rate)
    begun = time.perf_counter()
    for chunk in range(chunks):
        if cell.method == "PC" and isinstance(solver, GaussNewton) and has_kinks(network):
            left.append(energy_left(network, examples, solver))
        network, after, seen = advance(
            rule, network, examples, rate, batches(scale, cell.seed, chunk)
        )
        losses += np.asarray(after).tolist()
        unsettled.append(float(seen.max()))
        if not np.isfinite(losses[-1]) or None not in escapes(losses, scale.interval).values():
            break
    return {
        **escapes(losses, scale.interval),
        "iterations": scale.interval * (len(losses) - 1),
        "initial_loss": losses[0],
        "last_loss": losses[-1],
        "unsettled": max(unsettled) if cell.method == "PC" else None,
        "energy_left": max(left) if left else None,
        "seconds": time.perf_counter() - begun,
        "losses": [float(f"{loss:.6g}") for loss in losses],
    }


def ratios(found: Sequence[Group]) -> str:
    """A table of how many times more iterations backprop needs, seed by seed.

    `> r` where backprop did not get there, `< r` where predictive coding did not.
    """
    seeds = sorted({row["seed"] for group in found for row in group.rows})
    lines = [
        "| network | level | " + " | ".join(f"seed {seed}" for seed in seeds) + " |",
        "|---|---|" + "---|" * len(seeds),
    ]
    for network in dict.fromkeys(group.network for group in found):
        rows = {
            (group.method, row["seed"]): row
            for group in found
            if group.network == network
            for row in group.rows
        }
        for key, level in LEVELS.items():
            cells = [
                _ratio(rows.get(("backprop", seed)), rows.get(("PC", seed)), key) for seed in seeds
            ]
            lines.append(f"| {network} | {100 * level:.0f}% | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _ratio(backprop: dict[str, Any] | None, coding: dict[str, Any] | None, key: str) -> str:
    if backprop is None or coding is None or backprop[key] is coding[key] is None:
        return "-"
    sign = "> " if backprop[key] is None else "< " if coding[key] is None else ""
    above, below = (
        row["iterations"] if row[key] is None else row[key] for row in (backprop, coding)
    )
    return f"{sign}{above / below:.1f}"


def draw_escapes(found: Sequence[Group], interval: int, path: Path) -> Path:
    """The training loss over iterations, a panel per network and a thin line per seed."""
    networks = list(dict.fromkeys(group.network for group in found))
    columns = min(3, len(networks))
    rows = -(-len(networks) // columns)
    figure, panels = new_figure(0.8 + 2.0 * rows, rows=rows, columns=columns, sharey=True)
    longest = max(row["iterations"] for group in found for row in group.rows)
    for axes, network in zip(panels, networks, strict=False):
        for group in found:
            if group.network != network:
                continue
            color = COLORS[METHODS.index(group.method)]
            for row in group.rows:
                losses = np.asarray(row["losses"], float)[1:] / row["initial_loss"]
                steps = interval * np.arange(1, len(losses) + 1)
                line(axes, steps, 100 * losses, color=color, linewidth=0.8)
        for level in LEVELS.values():
            axes.axhline(100 * level, color="black", linewidth=0.6, linestyle=":")
        axes.set_xscale("log")
        axes.set_xlim(3 * interval, max(longest, 6 * interval))
        axes.set_ylim(50, 104)
        axes.set_yticks([50, 70, 90, 95, 100], ["50", "70", "90", "95", "100"])
        set_title(axes, network)
        axes.title.set_size(8.5)
    for axes in panels[len(networks) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("loss, % of initial")
    for axes in panels[max(0, len(networks) - columns) : len(networks)]:
        axes.set_xlabel("iterations of SGD")
    legend(
        figure,
        [
            legend_key(name, color=color, linewidth=1.2)
            for name, color in zip(METHODS, COLORS, strict=False)
        ],
    )
    return save(figure, path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: {name: scale.seeds_of(name) for name in NETWORKS},
    methods=METHODS,
    run=lambda cell, scale: run(cell, scale, examples_of(cell.network, scale)),
    outcome=said(
        "90% of the initial loss after {escape_90} iterations",
        escape_90="90% of the initial loss not within {iterations} iterations",
    ),
    columns=COLUMNS,
    tables={"ratios.md": ratios},
    figures={"escape.png": lambda found, path: draw_escapes(found, found.scale.interval, path)},
    descriptions=lambda scale: {
        "networks": {name: dataclasses.asdict(setting) for name, setting in NETWORKS.items()},
        "solvers": {name: repr(setting.solver) for name, setting in NETWORKS.items()},
    },
)

reproduce = EXPERIMENT.reproduce
