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
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from fathomx import data as data_sets
from fathomx.data import Dataset, Part
from fathomx.diagnostics import energy_balance
from fathomx.experiments.figures import draw_accuracies, draw_energies
from fathomx.experiments.grid import Cell, Column, Rows, Selection, groups, write_tables
from fathomx.inference import ErrorDescent, GaussNewton, StateDescent, infer
from fathomx.layers import unknown
from fathomx.learning import (
    Backprop,
    Equilibrium,
    EquilibriumPropagation,
    ForwardUpdate,
    Incremental,
    LearningRule,
)
from fathomx.models import resnet, vgg
from fathomx.network import Network
from fathomx.precision import Decaying, Precision, Spiking, Uniform
from fathomx.problem import Problem
from fathomx.training import DivergenceError, Observer, TrainingState, fit
from fathomx.training.fit import parameter_count, score
from fathomx.training.run_folder import write_json

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `width` multiplies all channels; `examples`, `validation`, `test`: how many images
    of each part, from the first; `epochs`, `batch_size`, `seeds`; `learning_rate` of AdamW at its
    peak; `activity_rate` of the descents in the activities.
    """

    name: str
    width: float
    examples: int
    validation: int
    test: int
    epochs: int
    batch_size: int
    seeds: tuple[int, ...]
    learning_rate: float
    activity_rate: float = 0.5


SCALES = {
    "laptop": Scale("laptop", 0.125, 3200, 1000, 5000, 4, 64, (0, 1), 3e-3),
    "paper": Scale("paper", 1.0, 45_000, 5000, 10_000, 50, 128, (0, 1, 2), 7.5e-4),
}


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
        """The network for a method, with weights drawn from the seed."""
        options: dict[str, Any] = {"width": scale.width, "normalization": method.normalization}
        if self.skips:
            options["auxiliary"] = method.scheduled
            options["activity_rate"] = scale.activity_rate
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
    """How a network is trained: `rule` makes the learning rule from a scale and a step count.

    `scheduled` methods have a precision schedule; their residual networks carry auxiliary neurons.
    `updates` is how many times the optimizer steps in a batch, at most, in units of inference steps
    (`None`: once).
    """

    rule: Callable[[Scale, int], LearningRule]
    scheduled: bool = False
    normalization: str | None = None
    incremental: bool = False
    learning_rate: float = 1.0


def state_descent(scale: Scale, steps: int, precision: Precision) -> StateDescent:
    """Descent in the activities with Nesterov momentum, as in the paper."""
    optimizer = optax.sgd(scale.activity_rate, momentum=0.9, nesterov=True)
    return StateDescent(optimizer, steps, precision)


def _equilibrium(precision: Precision) -> Callable[[Scale, int], LearningRule]:
    return lambda scale, steps: Equilibrium(state_descent(scale, steps, precision), 1.0)


def _forward(precision: Precision) -> Callable[[Scale, int], LearningRule]:
    return lambda scale, steps: ForwardUpdate(state_descent(scale, steps, precision), 1.0)


def _incremental(precision: Precision) -> Callable[[Scale, int], LearningRule]:
    return lambda scale, steps: Incremental(state_descent(scale, steps, precision), 1.0)


METHODS = {
    "PC": Method(_equilibrium(Uniform())),
    "PC + spiking": Method(_equilibrium(Spiking(1e-3)), scheduled=True),
    "PC + decaying": Method(_equilibrium(Decaying()), scheduled=True),
    "PC + spiking + forward update": Method(_forward(Spiking(1e-3)), scheduled=True),
    "PC + spiking + forward update + BatchNorm": Method(
        _forward(Spiking(1e-3)), scheduled=True, normalization="batch"
    ),
    "iPC": Method(_incremental(Uniform()), incremental=True),
    "iPC + spiking": Method(_incremental(Spiking(1e-3)), scheduled=True, incremental=True),
    "equilibrium propagation": Method(lambda scale, steps: EquilibriumPropagation(GaussNewton())),
    "error descent": Method(lambda scale, steps: Equilibrium(ErrorDescent())),
    "Gauss-Newton": Method(lambda scale, steps: Equilibrium(GaussNewton())),
    "backprop": Method(lambda scale, steps: Backprop()),
}

COLUMNS = (
    Column("test_accuracy", "test accuracy, %", ".1f", 100),
    Column("selected_test_accuracy", "of the epoch chosen by validation, %", ".1f", 100),
    Column("train_accuracy", "training accuracy, %", ".1f", 100),
    Column("step_seconds", "s / step", ".3f"),
    Column("compile_seconds", "first step, s", ".1f"),
    Column("memory_megabytes", "step memory, MB", ".0f"),
    Column("cosine_to_backprop", "cosine to backprop", ".2f"),
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
    if scale not in SCALES:
        raise ValueError(unknown("scale", scale, SCALES))
    size = SCALES[scale]
    cells = selection.cells(tuple(NETWORKS), tuple(METHODS), size.seeds)
    rows = Rows(folder, dataclasses.asdict(size))
    data = subset(data_sets.load("cifar10"), size)
    energies = initial_energies(size, data, say)
    write_json(folder / "initialization.json", energies)
    draw_energies(energies, folder / "energy.png")
    missing = [cell for cell in cells if not rows.has(cell)]
    for number, cell in enumerate(missing, start=1):
        begun = time.perf_counter()
        row = run(cell, size, data)
        rows.add(cell, row)
        outcome = (
            "diverged"
            if row["test_accuracy"] is None
            else f"test accuracy {100 * row['test_accuracy']:.1f}%"
        )
        say(
            f"{number}/{len(missing)}  {cell.network}, {cell.method}, seed {cell.seed}: {outcome} "
            f"({time.perf_counter() - begun:.0f} s)"
        )
        _report(rows, folder)
    return _report(rows, folder)


def _report(rows: Rows, folder: Path) -> Path:
    found = list(groups(rows.all(), tuple(NETWORKS), tuple(METHODS)))
    if found:
        draw_accuracies(found, tuple(NETWORKS), tuple(METHODS), folder / "accuracy.png")
    return write_tables(folder, found, COLUMNS)


def subset(data: Dataset, scale: Scale) -> Dataset:
    """The first examples of every part."""

    def first(part: Part, count: int) -> Part:
        return Part(part.inputs[:count], part.labels[:count])

    return dataclasses.replace(
        data,
        train=first(data.train, scale.examples),
        validation=first(data.validation, scale.validation),
        test=first(data.test, scale.test),
    )


def run(cell: Cell, scale: Scale, data: Dataset) -> dict[str, Any]:
    """Trains one network and scores it: the last epoch, and the one that validation chose."""
    architecture, method = NETWORKS[cell.network], METHODS[cell.method]
    network = architecture.network(scale, method, cell.seed)
    rule = method.rule(scale, architecture.steps)
    selected = _Selected()
    try:
        result = fit(
            network,
            data,
            rule,
            optimizer=_optimizer(scale, method, len(data.train.labels), architecture.steps),
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


def _optimizer(
    scale: Scale, method: Method, examples: int, inference_steps: int
) -> optax.GradientTransformation:
    """AdamW with the paper's schedule; incremental rules step it once per inference step."""
    steps = scale.epochs * (examples // scale.batch_size)
    rate = scale.learning_rate * method.learning_rate
    if method.incremental:
        steps *= inference_steps
    return _adamw(rate, steps)


@functools.cache
def _adamw(rate: float, steps: int) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        rate, 1.1 * rate, max(1, steps // 10), steps, 0.1 * rate
    )
    return optax.adamw(schedule, eps=1e-12, weight_decay=3e-5)


def initial_energies(scale: Scale, data: Dataset, say: Say) -> dict[str, Any]:
    """Energy per node after inference in VGG-10 at initialization, by precision schedule."""
    architecture = NETWORKS["VGG-10"]
    schedules: dict[str, Precision] = {
        "uniform": Uniform(),
        "spiking": Spiking(1e-3),
        "decaying": Decaying(),
    }
    network = architecture.network(scale, METHODS["PC"], scale.seeds[0])
    part = data.train
    problem = Problem(
        network,
        jnp.asarray(part.inputs[: scale.batch_size]),
        part.labels[: scale.batch_size],
        output_precision=1.0,
    )
    found: dict[str, Any] = {"network": "VGG-10", "labels": list(network.labels)}
    for name, precision in schedules.items():
        solver = state_descent(scale, architecture.steps, precision)
        energy: Array = infer(problem, solver).energy
        balance = energy_balance(network, energy)
        found[name] = {"energy": energy, "imbalance": balance.imbalance, "decay": balance.decay}
        say(
            f"VGG-10 at initialization, {name} precision: the half of the nodes nearer to the "
            f"output has {float(balance.imbalance):.3g} times the energy of the other half"
        )
    return {k: _plain(v) for k, v in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value.tolist() if isinstance(value, jax.Array) else value
