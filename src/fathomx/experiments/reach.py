"""How far does the output's error reach, in a network of 128 nodes and width 512?

Goemaere et al. (2026), figure D.1 of their notebook: within 128 or 1,024 steps of state descent the
error of the output does not reach the nodes near the input at a useful size, so that only a shallow
part of the network learns; 8 steps of error descent reach all. Here the errors of every node after
so many steps of each solver are compared with those at equilibrium, before and after training, and
how far a few updates move the weights of every node is recorded beside.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from fathomx.data import Dataset
from fathomx.diagnostics.alignment import compare_to_backprop, weight_change
from fathomx.drawing.style import (
    COLORS,
    DASHES,
    FAINT,
    GRAY,
    legend,
    legend_key,
    new_figure,
    node_axis,
    note,
    save,
    set_title,
)
from fathomx.experiments.frame import Experiment
from fathomx.experiments.grid import Cell, Column, Group, Row, Selection
from fathomx.experiments.residual import Residual, Spectra, problem, whole
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.inference import (
    AugmentedLagrangian,
    ErrorDescent,
    GaussNewton,
    Newton,
    Solver,
    StateDescent,
    infer,
)
from fathomx.learning import Backprop, Equilibrium, Learner, LearningRule
from fathomx.problem.energies import weight_gradient
from fathomx.problem.problem import Problem
from fathomx.records.values import plain
from fathomx.training.scores import score

STEPS = (8, 128, 1024)
# A node is reached where its error has this part of its size at equilibrium, and there is a trace
# of it from a tenth on. A node has moved that moved a tenth as far as the one that moved most.
_REACHED, _TRACE = 0.9, 0.1
_TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Setting:
    """A residual network, at initialization or after learning."""

    residual: Residual
    trained: bool = False

    @property
    def name(self) -> str:
        """As in tables."""
        return f"{self.residual.name}{', trained' if self.trained else ''}"


OBJECTION, SMOOTH = (Setting(Residual(activation, 512, 128)) for activation in ("relu", "tanh"))
TRAINED = dataclasses.replace(OBJECTION, trained=True)
NETWORKS = {setting.name: setting for setting in (OBJECTION, TRAINED, SMOOTH)}


Solving = Callable[[Spectra, int], Solver]

DESCENTS: dict[str, Solving] = {
    "state descent": lambda spectra, steps: StateDescent(1 / spectra.state.largest, steps),
    "momentum": lambda spectra, steps: StateDescent(spectra.state.nesterov(), steps),
    "PC-ALM": lambda spectra, steps: AugmentedLagrangian(1 / spectra.state.largest, steps),
    "error descent": lambda spectra, steps: ErrorDescent(1 / spectra.error.largest, steps),
}
ITERATIONS = (1, 2, 4)


def _after(name: str, count: int, what: str) -> str:
    return f"{name}, {count:,} {what}{'s' if count > 1 else ''}"


Rule = Callable[[Spectra], LearningRule]


def _descends(solving: Solving, steps: int) -> Rule:
    return lambda spectra: Equilibrium(solving(spectra, steps), 1.0)


def _solves(solver: Solver) -> Rule:
    return lambda spectra: Equilibrium(solver, 1.0)


# The output's precision is 1 but where a strength is held.
METHODS: dict[str, Rule] = {
    "backprop": lambda spectra: Backprop(),
    **{
        _after(name, steps, "step"): _descends(solving, steps)
        for name, solving in DESCENTS.items()
        for steps in STEPS
    },
    **{
        _after("Gauss-Newton", count, "iteration"): _solves(GaussNewton(count))
        for count in ITERATIONS
    },
    "Newton": _solves(Newton(_TOLERANCE)),
    "Gauss-Newton, strength 0.1": lambda spectra: Equilibrium(),
}
DEFAULT, _ONE_ITERATION = "Gauss-Newton, strength 0.1", "Gauss-Newton, 1 iteration"


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**

    * `data`, the first `examples` of it (all if 0).
    * `shown`, images whose errors are compared; `products`, with the Hessian, that its spectrum is
      estimated from.
    * `updates` of every method, from batches of `batch_size`; `rate` of Adam, times the root of
      width over depth.
    * `longer`, methods that are trained on from the start for `longer_updates` from batches of
      `longer_batch`, as networks called trained are by the default.
    * `plan`, which networks and methods from which seeds, in order.
    """

    name: str
    data: str
    plan: tuple[Selection, ...]
    examples: int = 0
    shown: int = 8
    products: int = 256
    updates: int = 4
    batch_size: int = 16
    rate: float = 1e-3
    longer: tuple[str, ...] = ()
    longer_updates: int = 100
    longer_batch: int = 64


_LONG = (*(_after(name, STEPS[-1], "step") for name in DESCENTS), "Newton")
_SHORT = tuple(name for name in METHODS if name not in _LONG)


_QUICK = ("error descent, 8 steps", _ONE_ITERATION, DEFAULT)

SCALES = {
    "laptop": Scale(
        "laptop",
        "fashion-mnist",
        (
            Selection((OBJECTION.name,), _SHORT, (0,)),
            Selection((TRAINED.name,), _SHORT, (0,)),
            Selection((OBJECTION.name,), _QUICK, (1, 2)),
            Selection((OBJECTION.name,), tuple(METHODS), (0,)),
            Selection((SMOOTH.name,), _SHORT, (0,)),
        ),
        longer=("backprop", DEFAULT),
    )
}

COLUMNS = (
    Column("reached", "nodes with 0.9 of their error at equilibrium", ".0f"),
    Column("traced", "with 0.1", ".0f"),
    Column("first", "at the node next to the input", ".3g"),
    Column("smallest", "smallest", ".3g"),
    Column("largest", "largest", ".3f"),
    Column("smallest_match", "smallest cosine to it", ".3f"),
    Column("cosine", "update's cosine to backprop's", ".3f"),
    Column("unsettled", "unsettled", ".2g"),
    Column("equilibrium_unsettled", "at equilibrium", ".2g"),
    Column("evaluations", "evaluations", ".0f"),
    Column("moved", "nodes that a few updates move", ".0f"),
    Column("longer_moved", "that longer training moves", ".0f"),
    Column("test_accuracy", "test accuracy then, %", ".2f", 100.0),
    Column("update_seconds", "s / update", ".2f"),
)


def outcome(row: Row) -> str:
    """What is said of a row."""
    moved = f"{row['moved']} nodes move"
    if "reached" not in row:
        return moved
    return f"{row['reached']} of {len(row['ratio'])} nodes reached, {moved}"


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """What inference reaches on one network, and what a few updates move of it."""
    setting = NETWORKS[cell.network]
    network = begun(setting, scale, cell.seed)
    rule = METHODS[cell.method](spectra(setting, scale, cell.seed))
    row: dict[str, Any] = {"spectra": dataclasses.asdict(spectra(setting, scale, cell.seed))}
    if isinstance(rule, Equilibrium):
        row |= reach(rule, setting, scale, cell.seed)
    learned, seconds = _learned(network, rule, setting.residual, scale, cell.seed)
    changes = np.asarray(weight_change(network, learned), float)
    row |= {"weight_change": changes, "moved": _moved(changes), "update_seconds": seconds}
    if cell.method in scale.longer and not setting.trained:
        longer = trained(setting.residual, cell.method, scale, cell.seed)
        changes = np.asarray(weight_change(network, longer), float)
        row |= {
            "longer_change": changes,
            "longer_moved": _moved(changes),
            "test_accuracy": score(longer, whole(scale.data, scale.examples).test)[1],
        }
    return plain(row)


def _moved(changes: np.ndarray) -> int:
    return int((changes >= _TRACE * changes.max()).sum())


def reach(rule: Equilibrium, setting: Setting, scale: Scale, seed: int) -> dict[str, Any]:
    """The errors that a rule infers, beside those at the equilibrium of the same energy.

    In float64: the gradient's rounding would otherwise be the largest error there is in nodes that
    nothing has reached.
    """
    with jax.enable_x64(True):
        key = jax.random.key(seed)
        posed, _, _ = rule.prepare(_shown(setting, scale, seed), key)
        settled, unsettled = equilibrium(setting, scale, seed, float(posed.output_precision))
        relaxed = infer(posed, rule.solver)
        gradient = weight_gradient(posed, relaxed.activities, relaxed.errors)
        aligned = compare_to_backprop(posed, gradient, key)
        found = by_node(posed, relaxed.errors)
        return {
            **compared(found, settled),
            "cosine": float(aligned.overall),
            "cosines": np.asarray(aligned.cosine),
            "unsettled": float(jnp.median(relaxed.unsettled)),
            "equilibrium_unsettled": unsettled,
            "evaluations": float(jnp.median(relaxed.evaluations)),
            "output_precision": float(posed.output_precision),
        }


def compared(found: np.ndarray, settled: np.ndarray) -> dict[str, Any]:
    """Errors `(nodes, numbers)` over those at equilibrium: their sizes, and the cosines between.

    `ratio` is `||e|| / ||e*||` of every node over all examples, `match` the cosine, 0 for a node
    without an error; what else is returned counts and sums them up.
    """
    size, wanted = np.linalg.norm(found, axis=1), np.linalg.norm(settled, axis=1)
    ratio = size / wanted
    # Divided one after the other: the product of two tiny sizes would vanish.
    units = found / np.where(size > 0, size, 1)[:, None]
    match = (units * settled).sum(axis=1) / wanted
    return {
        "ratio": ratio,
        "match": match,
        "reached": int((ratio >= _REACHED).sum()),
        "traced": int((ratio >= _TRACE).sum()),
        "first": float(ratio[0]),
        "smallest": float(ratio.min()),
        "largest": float(ratio.max()),
        "smallest_match": float(match.min()),
    }


def by_node(posed: Problem, errors: Entries) -> np.ndarray:
    """The errors of every node as a row, nodes of fewer units filled with zeros."""
    rows: list[np.ndarray] = []
    for entry in posed.network.entries:
        if entry.name in errors:
            rows += list(np.asarray(entry.rows(errors[entry.name]), float))
    # Examples times units.
    flat = [row.ravel() for row in rows]
    table = np.zeros((len(flat), max(map(len, flat))))
    for place, row in enumerate(flat):
        table[place, : len(row)] = row
    return table


@functools.lru_cache(maxsize=2)
def equilibrium(
    setting: Setting, scale: Scale, seed: int, output_precision: float
) -> tuple[np.ndarray, float]:
    """The errors of every node where Newton ends, and the largest relative gradient there."""
    with jax.enable_x64(True):
        posed = _shown(setting, scale, seed).with_output_precision(output_precision)
        relaxed = infer(posed, Newton(_TOLERANCE))
        return by_node(posed, relaxed.errors), float(relaxed.unsettled.max())


def _shown(setting: Setting, scale: Scale, seed: int) -> Problem:
    """The first training images, at an output precision of 1 and in the type in force."""
    network = begun(setting, scale, seed)
    network = jax.tree.map(
        lambda leaf: leaf.astype(float) if eqx.is_inexact_array(leaf) else leaf, network
    )
    return problem(network, whole(scale.data, scale.examples), slice(scale.shown))


@functools.lru_cache(maxsize=1)
def begun(setting: Setting, scale: Scale, seed: int) -> Network:
    """The network that inference and a few updates begin with."""
    if setting.trained:
        return trained(setting.residual, DEFAULT, scale, seed)
    return setting.residual.network(whole(scale.data, scale.examples), seed)


@functools.lru_cache(maxsize=1)
def trained(residual: Residual, method: str, scale: Scale, seed: int) -> Network:
    """The network after longer training."""
    network = residual.network(whole(scale.data, scale.examples), seed)
    longer = dataclasses.replace(scale, updates=scale.longer_updates, batch_size=scale.longer_batch)
    rule = METHODS[method](spectra(Setting(residual), scale, seed))
    return _learned(network, rule, residual, longer, seed)[0]


@functools.lru_cache(maxsize=1)
def spectra(setting: Setting, scale: Scale, seed: int) -> Spectra:
    """Estimated at the feedforward pass of the first training image."""
    data = whole(scale.data, scale.examples)
    posed = problem(begun(setting, scale, seed), data, slice(1))
    return Spectra.of(posed, scale.products)


def _learned(
    network: Network, rule: LearningRule, residual: Residual, scale: Scale, seed: int
) -> tuple[Network, float]:
    """The network after the scale's updates, in an order of the seed's, and the seconds of one.

    The first update, which is compiled, is not counted unless it is the only one.
    """
    data = whole(scale.data, scale.examples)
    learner = Learner(rule, residual.adam(scale.rate))
    update = eqx.filter_jit(learner.update)
    order = np.random.default_rng(seed).permutation(len(data.train.labels))
    keys = jax.random.split(jax.random.key(seed), scale.updates)
    state, moments = learner.begin(network), [time.perf_counter()]
    for place, key in enumerate(keys):
        rows = order[place * scale.batch_size :][: scale.batch_size]
        network, state, _ = update(network, state, _batch(data, rows), key)
        jax.block_until_ready(eqx.filter(network, eqx.is_array))
        moments.append(time.perf_counter())
    return network, float(np.median(np.diff(moments[min(1, scale.updates - 1) :])))


def _batch(data: Dataset, rows: np.ndarray) -> tuple[Any, Any]:
    target = jax.nn.one_hot(data.train.labels[rows], data.classes)
    return jnp.asarray(data.train.inputs[rows]), target


# Smaller errors are below the figure.
_FLOOR = 1e-8


def _first(groups: list[Group]) -> Mapping[tuple[str, str], Row]:
    """The first seed of every network and method."""
    return {(group.network, group.method): group.rows[0] for group in groups}


def draw_reach(groups: list[Group], path: Path) -> None:
    """Errors over those at equilibrium, node by node: a panel for every solver."""
    found = _first(groups)
    figure, panels = new_figure(7.6, rows=3, columns=2, sharex=True)
    solvers = [(name, STEPS, "step") for name in DESCENTS]
    solvers += [("Gauss-Newton", ITERATIONS, "iteration")] * 2
    count = 1
    for axes, (solver, counts, what) in zip(panels, solvers, strict=True):
        axes.axhline(1, color=FAINT, linewidth=0.8, zorder=0)
        for place, steps in enumerate(counts):
            for network, dashes in _SHOWN.items():
                row = found.get((network, _after(solver, steps, what)), {})
                if "ratio" in row:
                    count = len(row["ratio"])
                    _over_nodes(axes, row["ratio"], color=COLORS[place], linestyle=dashes)
        axes.set_yscale("log")
        axes.set_ylim(_FLOOR, 10)
        set_title(axes, solver)
        if len(axes.lines) == 1:
            note(axes, "not run")
    closer = panels[-1]
    closer.set_yscale("linear")
    closer.set_ylim(0.8, 1.2)
    set_title(closer, "Gauss-Newton, closer")
    for axes in panels[4:]:
        node_axis(axes, count)
    for axes in panels[::2]:
        axes.set_ylabel("error / at equilibrium")
    handles = [
        legend_key(f"{steps:,} steps ({_after('Gauss-Newton', iterations, 'iteration')})", color=c)
        for steps, iterations, c in zip(STEPS, ITERATIONS, COLORS, strict=False)
    ]
    handles += [
        legend_key(name, color="black", linestyle=dashes)
        for name, dashes in zip(("at initialization", "after training"), DASHES, strict=False)
    ]
    legend(figure, handles)
    save(figure, path)


_SHOWN = dict(zip((OBJECTION.name, TRAINED.name), DASHES, strict=False))


def draw_changes(groups: list[Group], path: Path) -> None:
    """How far the weights of every node have moved: a panel for every number of steps."""
    found = _first(groups)
    figure, panels = new_figure(5.6, rows=2, columns=2, sharex=True)
    count, drawn = 1, set()
    for axes, steps in zip(panels, STEPS, strict=False):
        for solver, style in _STYLE.items():
            method = _after(solver, steps, "step") if solver in DESCENTS else solver
            changes = found.get((OBJECTION.name, method), {}).get("weight_change")
            if changes is not None:
                count = len(changes)
                drawn.add(solver)
                _over_nodes(axes, changes, **style)
        set_title(axes, f"a few updates, {steps:,} steps of inference")
    set_title(panels[-1], "longer training")
    for method, shown in (("backprop", "backprop"), (DEFAULT, _ONE_ITERATION)):
        changes = found.get((OBJECTION.name, method), {}).get("longer_change")
        if changes is not None:
            _over_nodes(panels[-1], changes, **_STYLE[shown])
    for axes in panels:
        axes.set_yscale("log")
        axes.set_ylim(1e-7, 1)
        if not axes.lines:
            note(axes, "not run")
    for axes in panels[2:]:
        node_axis(axes, count)
    for axes in panels[::2]:
        axes.set_ylabel("relative weight change")
    legend(figure, [legend_key(name, **style) for name, style in _STYLE.items() if name in drawn])
    save(figure, path)


# Lines that lie upon each other: the broader ones below.
_STYLE = {
    "backprop": {"color": GRAY, "linewidth": 6},
    "error descent": {"color": COLORS[5], "linewidth": 3},
    _ONE_ITERATION: {"color": COLORS[6], "linestyle": "--", "linewidth": 1.2},
    "state descent": {"color": COLORS[0], "linewidth": 1.4},
    "momentum": {"color": COLORS[1], "linewidth": 1.4},
    "PC-ALM": {"color": COLORS[2], "linestyle": "--", "linewidth": 1.8},
}


def _over_nodes(axes: Any, values: list[float], **style: Any) -> None:
    """A line over the nodes; what is zero is not drawn."""
    seen = np.asarray(values, float)
    nodes = np.arange(1, len(seen) + 1)
    axes.plot(nodes, np.where(seen > 0, seen, np.nan), **style)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: dict.fromkeys(NETWORKS, (0,)),
    methods=METHODS,
    run=run,
    outcome=outcome,
    columns=COLUMNS,
    figures={"reach.png": draw_reach, "weight_change.png": draw_changes},
)

reproduce = EXPERIMENT.reproduce
