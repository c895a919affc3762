"""Where between predictive coding and backprop do multipliers lead, and at what price?

Seely and Gould (2026), arXiv 2605.31022: with multipliers for every node (PC-ALM), deep and narrow
residual networks that predictive coding by state descent trains badly come close to backprop, at
the same number of steps. Here their cell on Fashion-MNIST (width 32, 32 nodes, ReLU, one epoch) and
a grid around it, with error descent, Gauss-Newton, Newton and multipliers in error coordinates
beside them.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fathomx.diagnostics.alignment import alignment
from fathomx.drawing.style import COLORS, new_figure, save
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group, Selection
from fathomx.experiments.residual import (
    Residual,
    Spectra,
    evaluations,
    problem,
    usual_spectra,
    whole,
)
from fathomx.inference import (
    AugmentedGaussNewton,
    AugmentedLagrangian,
    ErrorDescent,
    GaussNewton,
    Newton,
    StateDescent,
)
from fathomx.learning import Backprop, Equilibrium, LearningRule
from fathomx.problem.strength import HoldStrength
from fathomx.records.values import plain
from fathomx.training import DivergenceError, fit

_SEEDS = (0, 1, 2)
_SCORED = 64
_QUARTERS = ("first_quarter", "second_quarter", "third_quarter", "last_quarter")


SIZES = (8, 32, 128)
NETWORKS = {
    setting.name: setting
    for activation in ("relu", "tanh")
    for width in SIZES
    for depth in SIZES
    for setting in [Residual(activation, width, depth)]
}
CELL = Residual("relu", 32, 32).name


class Rates:
    """Rates of descent in activities and in errors, one over the largest curvature at the start.

    They are measured when one is first asked for: at 128 nodes of width 128 that takes minutes, and
    some methods have no rate.
    """

    def __init__(self, measure: Callable[[], Spectra]) -> None:
        self._measure = measure

    @functools.cached_property
    def measured(self) -> dict[str, float]:
        """Both of them."""
        found = self._measure()
        return {"state": 1 / found.state.largest, "error": 1 / found.error.largest}

    @property
    def state(self) -> float:
        """The rate in activities."""
        return self.measured["state"]

    @property
    def error(self) -> float:
        """The rate in errors."""
        return self.measured["error"]

    @property
    def known(self) -> dict[str, float] | None:
        """Both of them if one has been asked for."""
        return self.measured if "measured" in vars(self) else None


Rule = Callable[[Rates, int], LearningRule]

# The output's precision is that of the publication but where a strength is held.
METHODS: dict[str, Rule] = {
    "backprop": lambda rates, depth: Backprop(),
    "PC": lambda rates, depth: Equilibrium(StateDescent(rates.state, 2 * depth), 1.0),
    "PC-ALM": lambda rates, depth: Equilibrium(AugmentedLagrangian(rates.state, 2 * depth), 1.0),
    "error descent": lambda rates, depth: Equilibrium(ErrorDescent(rates.error, 8), 1.0),
    "Gauss-Newton": lambda rates, depth: Equilibrium(),
    "Gauss-Newton, strength 0.3": lambda rates, depth: _held(GaussNewton(), 0.3),
    "Gauss-Newton, strength 1": lambda rates, depth: _held(GaussNewton(1, 4), 1.0),
    "Newton": lambda rates, depth: _held(Newton(1e-3), 0.1),
    "augmented Gauss-Newton": lambda rates, depth: Equilibrium(
        AugmentedGaussNewton(GaussNewton(1, 4), 4), 1.0
    ),
}
_GRID = ("backprop", "PC", "PC-ALM", "Gauss-Newton", "augmented Gauss-Newton")


def _held(solver: Any, strength: float) -> Equilibrium:
    return Equilibrium(solver, output_precision=HoldStrength(strength))


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `data`, the first `examples` of it (all if 0), in batches of `batch_size`; `rate` of
    Adam, times the root of width over depth; `plan`, which networks learn by which methods from
    which seeds, in order.
    """

    name: str
    data: str
    plan: tuple[Selection, ...]
    examples: int = 0
    batch_size: int = 64
    rate: float = 1e-3


def _deep(*depths: int) -> tuple[str, ...]:
    """The networks of these depths, but for the cell."""
    return tuple(name for name, of in NETWORKS.items() if of.depth in depths and name != CELL)


SCALES = {
    "laptop": Scale(
        "laptop",
        "fashion-mnist",
        (
            Selection((CELL,), tuple(METHODS), _SEEDS),
            Selection(_deep(8, 32), _GRID, (0,)),
            Selection(_deep(128), _GRID, (0,)),
        ),
    )
}

COLUMNS = (
    Column("test_accuracy", "test accuracy, %", ".2f", 100.0),
    Column("cosine", "cosine to backprop", ".3f"),
    Column("first_quarter", "of the nodes of the first quarter", ".3f"),
    Column("second_quarter", "second", ".3f"),
    Column("third_quarter", "third", ".3f"),
    Column("last_quarter", "last", ".3f"),
    Column("strength", "strength", ".2g"),
    Column("evaluations", "evaluations per update", ".0f"),
    Column("step_seconds", "s / update", ".4f"),
    Column("seconds", "s", ".0f"),
)


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """Trains one network for an epoch, scores it once, and compares its update with backprop's."""
    setting, data = NETWORKS[cell.network], whole(scale.data, scale.examples)
    network = setting.network(data, cell.seed)
    own = rates(setting, scale)
    rule = METHODS[cell.method](own, setting.depth)
    begun = time.perf_counter()
    try:
        result = fit(
            network,
            data,
            rule,
            optimizer=setting.adam(scale.rate),
            epochs=1,
            batch_size=scale.batch_size,
            seed=cell.seed,
        )
    except DivergenceError as error:
        return {
            "test_accuracy": None,
            "diverged": str(error),
            "seconds": time.perf_counter() - begun,
        }
    seconds = time.perf_counter() - begun
    posed = problem(result.network, data, slice(_SCORED))
    key = jax.random.key(cell.seed)
    found = alignment(posed, rule, key)
    return plain(
        {
            "test_accuracy": result.summary["test_accuracy"],
            "cosine": float(found.overall),
            "cosines": np.asarray(found.cosine),
            **dict(zip(_QUARTERS, found.quarters, strict=True)),
            "strength": result.summary["pc_strength"],
            "evaluations": evaluations(posed, rule, key),
            "rates": own.known,
            "step_seconds": result.summary["step_seconds_median"],
            "seconds": seconds,
        }
    )


def rates(setting: Residual, scale: Scale) -> Rates:
    """Those of a network, measured once for all of its methods."""
    return Rates(functools.partial(_spectra, setting, scale))


@functools.cache
def _spectra(setting: Residual, scale: Scale) -> Spectra:
    return usual_spectra(setting, whole(scale.data, scale.examples))


def draw(groups: list[Group], path: Path) -> None:
    """The accuracy of every method on every network."""
    shown = [name for name in NETWORKS if any(g.network == name for g in groups)]
    figure, (axes,) = new_figure(1.2 + 0.5 * len(shown))
    for place, method in enumerate(METHODS):
        own = [g for g in groups if g.method == method and g.values("test_accuracy")]
        for index, group in enumerate(own):
            values = 100 * np.asarray(group.values("test_accuracy"))
            row = shown.index(group.network) + 0.08 * (place - len(METHODS) / 2)
            axes.plot(
                values, np.full(len(values), row), "osD^v"[place % 5], markersize=4,
                color=COLORS[place % len(COLORS)], label=None if index else method,
            )  # fmt: skip
    axes.set_yticks(range(len(shown)), shown, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy after an epoch, %")
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: {name: _SEEDS if name == CELL else (0,) for name in NETWORKS},
    methods=METHODS,
    run=run,
    outcome=said(
        "test accuracy {test_accuracy:.2%}, cosine {cosine:.3f}", test_accuracy="diverged"
    ),
    columns=COLUMNS,
    figures={"accuracy.png": draw},
)

reproduce = EXPERIMENT.reproduce
