"""The comparison: its runs, and what is written of them."""

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
from fathomx.experiments.deeper_pcns.figures import draw_accuracies, draw_curves, draw_energies
from fathomx.experiments.deeper_pcns.methods import (
    ALL_METHODS,
    GENTLE,
    METHODS,
    MOMENTUM,
    PLAIN,
    RELEASED,
)
from fathomx.experiments.deeper_pcns.networks import NETWORKS
from fathomx.experiments.deeper_pcns.scales import Scale
from fathomx.experiments.examples import first
from fathomx.experiments.frame import Experiment, Say
from fathomx.experiments.grid import Cell, Column, Group, Row, comma_separated
from fathomx.experiments.unfinished import Unfinished
from fathomx.inference import infer
from fathomx.inference.schedule import Decaying, Spiking, Uniform
from fathomx.models import vgg
from fathomx.problem.problem import Problem
from fathomx.records.forms import listed, named, text
from fathomx.records.reading import read_json
from fathomx.records.values import plain
from fathomx.records.writing import write_json
from fathomx.training import DivergenceError, fit

# The weights' rate of the released configuration.
_RELEASED_RATE = 7.5e-4
_ENERGIES = "initialization.json"
_COURSE = (
    "train_loss",
    "train_accuracy",
    "validation_accuracy",
    "cosine_to_backprop",
    "output_precision",
    "pc_strength",
    "nudge_stability",
)
_LOWEST = "lowest_cosine_of_a_node"

COLUMNS = (
    Column("test_accuracy", "test accuracy, %", ".1f", 100.0),
    Column("train_accuracy", "training accuracy, %", ".1f", 100.0),
    Column("step_seconds", "s / step", ".3f"),
    Column("compile_seconds", "first step, s", ".1f"),
    Column("memory_megabytes", "step memory, MB", ".1f"),
    Column("cosine_to_backprop", "cosine to backprop", ".2f"),
    Column("strength", "strength", ".2g"),
    Column("imbalance", "energy imbalance", ".2g"),
    Column("unsettled", "unsettled", ".2g"),
)


def applies(cell: Cell) -> bool:
    """Networks in the form of the released code have its methods and backprop, others all else."""
    if NETWORKS[cell.network].published:
        return cell.method in RELEASED or cell.method == "backprop"
    return cell.method in METHODS


def draw_energy(found: list[Group], path: Path) -> None:
    """What was stored of the energies at initialization."""
    form = named({"network": text, "labels": listed(text), "runs": named({})})
    stored = path.with_name(_ENERGIES)
    content = read_json(stored, form, "delete it, and the same command makes it again")
    draw_energies(content, path)


def draw_test_accuracies(found: list[Group], path: Path) -> None:
    """Those of every method on every network."""
    draw_accuracies(found, tuple(NETWORKS), tuple(ALL_METHODS), path)


def draw_courses(found: list[Group], path: Path) -> None:
    """Validation accuracy over epochs, where there is more than one."""
    if _several_epochs(found):
        draw_curves(found, path)


def _several_epochs(found: list[Group]) -> bool:
    return any(len(row.get("history") or ()) > 1 for group in found for row in group.rows)


def courses(found: list[Group]) -> str:
    """A line for every epoch of every run, where there is more than one."""
    if not _several_epochs(found):
        return ""
    lines: list[list[Any]] = [["network", "method", "seed", "epoch", *_COURSE, _LOWEST]]
    for group in found:
        for row in group.rows:
            own = [group.network, group.method, row["seed"]]
            for record in row.get("history") or ():
                nodes = record.get("cosine_to_backprop_per_node") or ()
                lowest = min((cosine for cosine in nodes if cosine is not None), default=None)
                lines.append([*own, record["epoch"], *map(record.get, _COURSE), lowest])
    return comma_separated(lines)


def subset(data: Dataset, scale: Scale, network: str) -> Dataset:
    """The first examples of every part, as many as a network is trained and tested on."""
    return dataclasses.replace(
        data,
        train=first(data.train, scale.examples_of(network)),
        validation=first(data.validation, scale.validation),
        test=first(data.test, scale.test),
        augmentation=data.augmentation if scale.augmented else None,
    )


def run(cell: Cell, scale: Scale, data: Dataset, folder: Path) -> dict[str, Any]:
    """Trains one network and scores the weights of its last epoch.

    Until it has ended, what there is of it stands in `folder`, from which it continues.
    """
    architecture = NETWORKS[cell.network]
    method = ALL_METHODS[cell.method]
    data = subset(data, scale, cell.network)
    updates = architecture.steps if method.incremental else 1
    rate = _RELEASED_RATE if architecture.published else scale.learning_rate
    with Unfinished(folder, dataclasses.asdict(cell)) as unfinished:
        try:
            result = fit(
                architecture.network(scale.width, method, cell.seed),
                data,
                method.rule(architecture.steps),
                optimizer=_optimizer(scale, rate, len(data.train.labels), updates),
                epochs=scale.epochs,
                batch_size=scale.batch_size,
                seed=cell.seed,
                observers=(unfinished,),
            )
        except DivergenceError as error:
            return {"test_accuracy": None, "diverged": str(error)}
    summary = result.summary
    return {
        "test_accuracy": summary["test_accuracy"],
        "validation_accuracy": summary["validation_accuracy"],
        "train_accuracy": summary["train_accuracy"],
        "step_seconds": summary["step_seconds_median"],
        "compile_seconds": summary["first_step_seconds"],
        "memory_megabytes": (summary["step_memory_bytes"] or math.nan) / 2**20,
        "cosine_to_backprop": summary["cosine_to_backprop"],
        "imbalance": summary["imbalance"],
        "unsettled": summary["unsettled"]["median"],
        "strength": summary["pc_strength"],
        "parameters": summary["parameters"],
        "train_seconds": summary["train_seconds"],
        "history": result.history,
    }


def _optimizer(
    scale: Scale, rate: float, examples: int, updates_per_batch: int
) -> optax.GradientTransformation:
    """AdamW with the paper's schedule over all updates; more than one per batch if incremental.

    Its epsilon is small: at the usual 1e-8 the early layers of plain predictive coding, whose
    gradients are smaller than that, would stand still for a reason that is not inference's.
    """
    steps = scale.epochs * (examples // scale.batch_size) * updates_per_batch
    rate /= 1 if updates_per_batch == 1 else 3
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
    descents = {"rate 0.1": GENTLE, "rate 0.5": PLAIN, "rate 0.5, momentum": MOMENTUM}
    solvers = {
        f"{schedule}, {descent}": take.descent(steps, precision)
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


class Resumable(Experiment[Scale]):
    """An experiment whose runs continue from their last epoch or minute.

    What one of VGG-10 looks like at initialization stands in the folder before.
    """

    def runner(self, scale: Scale, folder: Path, say: Say) -> Callable[[Cell], Row]:
        """Runs in folders of their own until they have ended."""
        data = data_sets.load("cifar10")
        stored = folder / _ENERGIES
        if not stored.exists():
            write_json(stored, initial_energies(scale, data, say))
        unfinished = folder / "unfinished"
        return lambda cell: self.run(cell, scale, data, unfinished / Path(cell.file).stem)
