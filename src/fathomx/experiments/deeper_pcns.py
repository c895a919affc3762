"""Do precision schedules and forward updates make deep convolutional PCNs trainable?

Qi et al. (2025), arXiv 2506.23800: beyond five to seven layers the energy sits orders of magnitude
higher near the output than near the input, and plain predictive coding stops learning. Spiking or
decaying precision, auxiliary neurons on skip paths, forward updates and frozen batch normalization
bring VGG-10 and ResNet-18 close to backprop. Here the same networks are trained by the plain and
the cured algorithms, by solvers that do not have the disease, and by backprop, with the same
budget of epochs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from fathomx import data as data_sets
from fathomx.data import Dataset
from fathomx.diagnostics.energy_balance import energy_balance
from fathomx.experiments.examples import first
from fathomx.experiments.figures import draw_accuracies, draw_energies
from fathomx.experiments.grid import Cell, Column, Comparison, Group, Say, Selection, chosen_scale
from fathomx.graph.network import Network
from fathomx.graph.statistics import parameter_count
from fathomx.inference import ErrorDescent, GaussNewton, StateDescent, infer
from fathomx.inference.schedule import Decaying, Schedule, Spiking, Uniform
from fathomx.layers.parameterization import Standard
from fathomx.learning import (
    Backprop,
    Equilibrium,
    EquilibriumPropagation,
    ForwardUpdate,
    Incremental,
    LearningRule,
)
from fathomx.models import resnet, vgg
from fathomx.problem.problem import Problem
from fathomx.records.values import plain
from fathomx.records.writing import write_json
from fathomx.training import DivergenceError, Observer, TrainingState, fit
from fathomx.training.scores import score


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `width` multiplies all channels; `examples` to train on by network (`""`: the
    others), `validation` and `test`: how many images of each part, from the first; `epochs` and
    `batch_size`; `seeds` by network, too;
    `learning_rate` of AdamW at its peak (incremental rules, which step it at every inference step,
    take a third); `augmented`: whether images are cropped and flipped.
    """

    name: str
    width: float
    examples: dict[str, int]
    validation: int
    test: int
    epochs: int
    batch_size: int
    seeds: dict[str, tuple[int, ...]]
    learning_rate: float
    augmented: bool

    def examples_of(self, network: str) -> int:
        """How many examples a network is trained on."""
        return self.examples.get(network, self.examples[""])

    def seeds_of(self, network: str) -> tuple[int, ...]:
        """The seeds of a network."""
        return self.seeds.get(network, self.seeds[""])


SCALES = {
    "laptop": Scale(
        name="laptop",
        width=0.125,
        examples={"": 6144, "ResNet-18": 3072},
        validation=1000,
        test=5000,
        epochs=1,
        batch_size=32,
        seeds={"": (0,), "VGG-10": (0, 1), "ResNet-10": (0, 1)},
        learning_rate=3e-3,
        augmented=False,
    ),
    "paper": Scale(
        name="paper",
        width=1.0,
        examples={"": 45_000},
        validation=5000,
        test=10_000,
        epochs=50,
        batch_size=128,
        seeds={"": (0, 1, 2)},
        learning_rate=7.5e-4,
        augmented=True,
    ),
}

# Descent in the activities as published. The first step along a new gradient has the length
# `rate * (1 + momentum)`, which is what auxiliary neurons have to make up for.
PUBLISHED_RATE, MOMENTUM = 0.5, 0.9
FIRST_STEP = PUBLISHED_RATE * (1 + MOMENTUM)
GENTLE_RATE = 0.1


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network of the comparison; `build` takes the options that `vgg` and `resnet` share."""

    depth: int
    build: Callable[..., Network]
    skips: bool

    @property
    def steps(self) -> int:
        """Inference steps of state descent: three more than nodes, as published for ResNet-10."""
        return self.depth + 3

    def network(self, scale: Scale, method: Method, seed: int) -> Network:
        """The network for a method, with weights drawn from the seed, `1 / sqrt(fan_in)`."""
        options: dict[str, Any] = {
            "width": scale.width,
            "normalization": method.normalization,
            "parameterization": Standard(),
        }
        if self.skips:
            options["auxiliary"] = method.scheduled
            options["activity_rate"] = FIRST_STEP
        return self.build(self.depth, **options, key=jax.random.key(seed))


NETWORKS = {
    "VGG-5": Architecture(5, vgg, skips=False),
    "VGG-7": Architecture(7, vgg, skips=False),
    "VGG-10": Architecture(10, vgg, skips=False),
    "ResNet-10": Architecture(10, resnet, skips=True),
    "ResNet-18": Architecture(18, resnet, skips=True),
}


@dataclasses.dataclass(frozen=True)
class Method:
    """How a network is trained: `rule` makes the learning rule for a number of inference steps.

    `scheduled` methods have a precision schedule; their residual networks carry auxiliary neurons.
    `incremental` ones step the optimizer once per inference step.
    """

    rule: Callable[[int], LearningRule]
    scheduled: bool = False
    normalization: str | None = None
    incremental: bool = False


def published_descent(steps: int, precision: Schedule) -> StateDescent:
    """Descent in the activities with Nesterov momentum, as in the paper."""
    optimizer = optax.sgd(PUBLISHED_RATE, momentum=MOMENTUM, nesterov=True)
    return StateDescent(optimizer, steps, precision)


def gentle_descent(steps: int, precision: Schedule) -> StateDescent:
    """Descent without momentum at a rate at which uniform precision is stable."""
    return StateDescent(optax.sgd(GENTLE_RATE), steps, precision)


def _spiking(steps: int) -> StateDescent:
    return published_descent(steps, Spiking(1e-3))


METHODS = {
    "PC": Method(lambda steps: Equilibrium(published_descent(steps, Uniform()), 1.0)),
    "PC, rate 0.1": Method(lambda steps: Equilibrium(gentle_descent(steps, Uniform()), 1.0)),
    "PC + spiking": Method(lambda steps: Equilibrium(_spiking(steps), 1.0), scheduled=True),
    "PC + decaying": Method(
        lambda steps: Equilibrium(published_descent(steps, Decaying()), 1.0), scheduled=True
    ),
    "PC + spiking + forward update": Method(
        lambda steps: ForwardUpdate(_spiking(steps), 1.0), scheduled=True
    ),
    "PC + spiking + forward update + BatchNorm": Method(
        lambda steps: ForwardUpdate(_spiking(steps), 1.0), scheduled=True, normalization="batch"
    ),
    "iPC, rate 0.1": Method(
        lambda steps: Incremental(gentle_descent(steps, Uniform()), 1.0), incremental=True
    ),
    "iPC + spiking": Method(
        lambda steps: Incremental(_spiking(steps), 1.0), scheduled=True, incremental=True
    ),
    "equilibrium propagation": Method(lambda steps: EquilibriumPropagation(GaussNewton())),
    "error descent": Method(lambda steps: Equilibrium(ErrorDescent())),
    "Gauss-Newton": Method(lambda steps: Equilibrium(GaussNewton())),
    "backprop": Method(lambda steps: Backprop()),
    "backprop + BatchNorm": Method(lambda steps: Backprop(), normalization="batch"),
}

COLUMNS = (
    Column("test_accuracy", "test accuracy, %", ".1f", 100.0),
    Column("selected_test_accuracy", "of the epoch chosen by validation, %", ".1f", 100.0),
    Column("train_accuracy", "training accuracy, %", ".1f", 100.0),
    Column("step_seconds", "s / step", ".3f"),
    Column("compile_seconds", "first step, s", ".1f"),
    Column("memory_megabytes", "step memory, MB", ".1f"),
    Column("cosine_to_backprop", "cosine to backprop", ".2f"),
    Column("strength", "strength", ".2g"),
    Column("imbalance", "energy imbalance", ".2g"),
    Column("unsettled", "unsettled", ".2g"),
)


class _Selected(Observer):
    """Keeps the network of the epoch with the best validation accuracy, the first of equals."""

    def __init__(self) -> None:
        self.accuracy = -1.0
        self.epoch = 0
        self.network: Network | None = None

    def epoch_ended(self, record: dict[str, Any], state: TrainingState) -> None:
        if record["validation_accuracy"] > self.accuracy:
            self.accuracy, self.epoch = record["validation_accuracy"], record["epoch"]
            self.network = state.network


def reproduce(scale: str, folder: Path, selection: Selection, say: Say) -> Path:
    """Runs what is missing of the comparison, then writes tables and figures.

    `results.csv` (a line per run), `results.md` (means and spreads), `accuracy.png`,
    `energy.png`. Raises `ValueError` for an unknown scale, network or method.
    """
    size = chosen_scale(scale, SCALES)
    data = data_sets.load("cifar10")
    rules = {name: repr(method.rule(0)) for name, method in METHODS.items()}
    comparison = Comparison(
        networks={name: size.seeds_of(name) for name in NETWORKS},
        methods=tuple(METHODS),
        configuration={**dataclasses.asdict(size), "rules": rules},
        run=lambda cell: run(cell, size, data),
        outcome=_outcome,
        columns=COLUMNS,
        draw=_draw,
    )
    rows = comparison.begin(folder, selection)
    energies = initial_energies(size, data, say)
    write_json(folder / "initialization.json", energies)
    draw_energies(energies, folder / "energy.png")
    return comparison.complete(rows, selection, say)


def _outcome(row: dict[str, Any]) -> str:
    if row["test_accuracy"] is None:
        return "diverged"
    return f"test accuracy {100 * row['test_accuracy']:.1f}%"


def _draw(found: list[Group], folder: Path) -> None:
    draw_accuracies(found, tuple(NETWORKS), tuple(METHODS), folder / "accuracy.png")


def subset(data: Dataset, scale: Scale, network: str) -> Dataset:
    """The first examples of every part, as many as a network is trained and tested on."""
    return dataclasses.replace(
        data,
        train=first(data.train, scale.examples_of(network)),
        validation=first(data.validation, scale.validation),
        test=first(data.test, scale.test),
        augmentation=data.augmentation if scale.augmented else None,
    )


def run(cell: Cell, scale: Scale, data: Dataset) -> dict[str, Any]:
    """Trains one network and scores it: the last epoch, and the one that validation chose."""
    architecture, method = NETWORKS[cell.network], METHODS[cell.method]
    data = subset(data, scale, cell.network)
    network = architecture.network(scale, method, cell.seed)
    rule = method.rule(architecture.steps)
    selected = _Selected()
    try:
        result = fit(
            network,
            data,
            rule,
            optimizer=_optimizer(
                scale, len(data.train.labels), architecture.steps if method.incremental else 1
            ),
            epochs=scale.epochs,
            batch_size=scale.batch_size,
            seed=cell.seed,
            observers=(selected,),
        )
    except DivergenceError as error:
        return {"test_accuracy": None, "diverged": str(error)}
    summary = result.summary
    assert selected.network is not None
    last = selected.epoch == scale.epochs
    chosen = summary["test_accuracy"] if last else score(selected.network, data.test)[1]
    return {
        "test_accuracy": summary["test_accuracy"],
        "selected_test_accuracy": chosen,
        "selected_epoch": selected.epoch,
        "validation_accuracy": summary["validation_accuracy"],
        "train_accuracy": summary["train_accuracy"],
        "step_seconds": summary["step_seconds_median"],
        "compile_seconds": summary["first_step_seconds"],
        "memory_megabytes": (summary["step_memory_bytes"] or math.nan) / 2**20,
        "cosine_to_backprop": summary["cosine_to_backprop"],
        "imbalance": summary["imbalance"],
        "unsettled": summary["unsettled"]["median"],
        "strength": summary["pc_strength"],
        "parameters": parameter_count(network),
        "train_seconds": summary["train_seconds"],
        "history": result.history,
    }


def _optimizer(scale: Scale, examples: int, updates_per_batch: int) -> optax.GradientTransformation:
    """AdamW with the paper's schedule over all updates; more than one per batch if incremental.

    Its epsilon is small: at the usual 1e-8 the early layers of plain predictive coding, whose
    gradients are smaller than that, would stand still for a reason that is not inference's.
    """
    steps = scale.epochs * (examples // scale.batch_size) * updates_per_batch
    rate = scale.learning_rate / (1 if updates_per_batch == 1 else 3)
    schedule = optax.warmup_cosine_decay_schedule(
        rate, 1.1 * rate, max(1, steps // 10), steps, 0.1 * rate
    )
    return optax.adamw(schedule, eps=1e-12, weight_decay=3e-5)


def initial_energies(scale: Scale, data: Dataset, say: Say) -> dict[str, Any]:
    """Energy per node after inference in VGG-10 at initialization, by schedule and descent.

    Weights have the standard deviation `sqrt(2 / fan_in)`, with which neither predictions nor
    errors shrink from node to node, so that what is seen is inference's doing.
    """
    steps = NETWORKS["VGG-10"].steps
    schedules = {"uniform": Uniform(), "spiking": Spiking(1e-3), "decaying": Decaying()}
    descents = {"rate 0.1": gentle_descent, "rate 0.5, momentum": published_descent}
    solvers = {
        f"{schedule}, {descent}": take(steps, precision)
        for descent, take in descents.items()
        for schedule, precision in schedules.items()
    }
    network = vgg(10, width=scale.width, key=jax.random.key(0))
    images = jnp.asarray(data.train.inputs[: scale.batch_size])
    problem = Problem(network, images, data.train.labels[: scale.batch_size], 1.0)
    found: dict[str, Any] = {"network": "VGG-10", "labels": list(network.labels), "runs": {}}
    for name, solver in solvers.items():
        energy: Array = infer(problem, solver).energy
        balance = energy_balance(network, energy)
        found["runs"][name] = plain(
            {"energy": energy, "imbalance": balance.imbalance, "decay": balance.decay}
        )
        say(
            f"VGG-10 at initialization, {name}: energy {float(energy.sum()):.3g}, the half of the "
            f"nodes nearer to the output has {float(balance.imbalance):.3g} times that of the other"
        )
    return found
