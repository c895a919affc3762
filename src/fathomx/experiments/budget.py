"""How much inference does a deep network need, to come close to backprop's accuracy?

State descent carries the output's error one node per step and loses some of it in each: the steps
that predictive coding needs grow like the square of the depth (found on MNIST at width 32, one
epoch: `L^1.92`), with the multipliers of PC-ALM or with momentum like `L^1.2`. Here the smallest
budget of each solver that comes to 90, 95 and 98% of backprop's accuracy is searched for at every
depth, with solvers in error coordinates and of second order beside them.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fathomx.data import Dataset
from fathomx.drawing.style import (
    COLORS,
    DASHES,
    legend,
    legend_key,
    new_figure,
    save,
)
from fathomx.experiments.examples import first, vectors
from fathomx.experiments.frame import Complete, Experiment, Found, said
from fathomx.experiments.grid import Cell, Column, Rows, Selection
from fathomx.experiments.power_laws import interval, slope
from fathomx.experiments.residual import (
    Residual,
    Spectra,
    evaluations,
    problem,
    usual_spectra,
)
from fathomx.inference import (
    AugmentedGaussNewton,
    AugmentedLagrangian,
    ErrorDescent,
    GaussNewton,
    StateDescent,
)
from fathomx.learning import Backprop, Equilibrium, LearningRule
from fathomx.records.values import plain
from fathomx.training import DivergenceError, fit

DEPTHS = (4, 8, 16, 32, 64, 128, 256, 512)
LEVELS = (0.90, 0.95, 0.98)
# The exponents of depth that were found elsewhere, at 90%.
PUBLISHED = {"PC": 1.92, "PC-ALM": 1.27, "PC, momentum": 1.21}
_WIDTH = 32
_PRODUCTS = 256
_SCORED = 64

NETWORKS = {f"depth {depth}": Residual("relu", _WIDTH, depth) for depth in DEPTHS}


@dataclasses.dataclass(frozen=True)
class Family:
    """A solver at any budget: `rule(spectra, budget)`, and the budgets that are tried, rising."""

    rule: Callable[[Spectra, int], LearningRule]
    budgets: tuple[int, ...]


_STEPS = tuple(sorted({2**k for k in range(12)} | {3 * 2**k for k in range(10)}))

# The output's precision is 1, as published; Gauss-Newton holds a strength of 0.1, its default.
FAMILIES = {
    "Gauss-Newton": Family(
        lambda spectra, budget: Equilibrium(GaussNewton(1, budget)), (1, 2, 4, 8)
    ),
    "augmented Gauss-Newton": Family(
        lambda spectra, budget: Equilibrium(AugmentedGaussNewton(GaussNewton(1, 4), budget), 1.0),
        (1, 2, 4, 8),
    ),
    "error descent": Family(
        lambda spectra, budget: Equilibrium(ErrorDescent(1 / spectra.error.largest, budget), 1.0),
        _STEPS,
    ),
    "PC-ALM": Family(
        lambda spectra, budget: Equilibrium(
            AugmentedLagrangian(1 / spectra.state.largest, budget), 1.0
        ),
        _STEPS,
    ),
    "PC, momentum": Family(
        lambda spectra, budget: Equilibrium(StateDescent(spectra.state.nesterov(), budget), 1.0),
        _STEPS,
    ),
    "PC": Family(
        lambda spectra, budget: Equilibrium(StateDescent(1 / spectra.state.largest, budget), 1.0),
        _STEPS,
    ),
}
BACKPROP = "backprop"


def method(family: str, budget: int) -> str:
    """The name of a solver at a budget, as in tables."""
    return f"{family}, budget {budget}"


_PARTS = {method(name, b): (name, b) for name, f in FAMILIES.items() for b in f.budgets}
METHODS = (BACKPROP, *_PARTS)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `data`, `examples` of its training part (all if 0), in one epoch of batches of
    `batch_size`; `rate` of Adam, times the root of width over depth; `most`: the most steps that
    are tried, each up to a depth; `depths` and `seeds`.
    """

    name: str
    data: str
    depths: tuple[int, ...]
    seeds: tuple[int, ...]
    most: tuple[tuple[int, int], ...]
    examples: int = 0
    batch_size: int = 64
    rate: float = 1e-3

    def budgets(self, family: str, depth: int) -> tuple[int, ...]:
        """The budgets of a solver that are tried at a depth."""
        most = next((m for d, m in self.most if depth <= d), 0)
        return tuple(b for b in FAMILIES[family].budgets if b <= most)


SCALES = {
    "laptop": Scale(
        "laptop", "mnist", (4, 8, 16, 32, 64, 128), (0,), ((32, 256), (64, 192), (128, 128))
    ),
    "desk": Scale("desk", "mnist", DEPTHS, (0, 1, 2), ((512, 2048),)),
}

COLUMNS = (
    Column("validation_accuracy", "validation accuracy, %", ".2f", 100.0),
    Column("evaluations", "evaluations per update", ".0f"),
    Column("step_seconds", "s / update", ".4f"),
    Column("strength", "strength", ".2g"),
    Column("unsettled", "unsettled", ".2g"),
)


class Searched(Experiment[Scale]):
    """An experiment that runs what its search asks for; names of methods choose solvers.

    Those of any budget stand for all of a solver's.
    """

    def course(self, selection: Selection, scale: Scale, rows: Rows, complete: Complete) -> None:
        """Searches solver by solver."""
        search = Search(rows, scale, complete)
        names = selection.networks or tuple(f"depth {depth}" for depth in scale.depths)
        chosen = {_PARTS[name][0] for name in selection.methods if name in _PARTS} or set(FAMILIES)
        for seed in selection.seeds or scale.seeds:
            for family in (name for name in FAMILIES if name in chosen):
                search.run(family, names, seed)
        complete([])


@dataclasses.dataclass(frozen=True)
class Search:
    """Finds the smallest budgets that come to a part of backprop's accuracy.

    From the smallest budget of the depth before, upward until the level is reached and downward
    until it is not: what is found reaches it, and the next smaller budget does not.
    """

    rows: Rows
    scale: Scale
    complete: Complete

    def run(self, family: str, networks: Sequence[str], seed: int) -> None:
        """Trains what it takes to know the smallest budgets of a solver, depth by depth."""
        places = dict.fromkeys(LEVELS, 0)
        for network in networks:
            budgets = self.scale.budgets(family, NETWORKS[network].depth)
            cells = [Cell(network, method(family, budget), seed) for budget in budgets]
            for level in LEVELS:
                reaches = functools.partial(self._reaches, cells, level)
                begin = min(places[level], len(cells) - 1)
                places[level] = smallest(reaches, begin, len(cells))

    def _reaches(self, cells: Sequence[Cell], level: float, place: int) -> bool:
        cell = cells[place]
        goal = self._accuracy(dataclasses.replace(cell, method=BACKPROP))
        return self._accuracy(cell) >= level * goal

    def _accuracy(self, cell: Cell) -> float:
        if not self.rows.has(cell):
            self.complete([cell])
        return accuracy(self.rows.row(cell))


def accuracy(row: dict[str, Any]) -> float:
    """That of validation, 0 where training diverged."""
    return row["validation_accuracy"] or 0.0


def smallest(reaches: Callable[[int], bool], begin: int, count: int) -> int:
    """The first place of `count` that reaches, searched for from `begin`; `count` if none does.

    Upward if `begin` does not reach, else downward: what lies beyond the first that answers
    otherwise is not tried.
    """
    if begin < count and reaches(begin):
        while begin > 0 and reaches(begin - 1):
            begin -= 1
        return begin
    return next((place for place in range(begin + 1, count) if reaches(place)), count)


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """Trains a network for an epoch and validates it; no test image is looked at."""
    setting, data = NETWORKS[cell.network], _data(scale)
    rule: LearningRule = Backprop()
    if cell.method != BACKPROP:
        family, budget = _PARTS[cell.method]
        rule = FAMILIES[family].rule(spectra(setting, scale), budget)
    try:
        # That steps are too few for a signal to reach all nodes is what is searched through.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            result = fit(
                setting.network(data, cell.seed),
                data,
                rule,
                optimizer=setting.adam(scale.rate),
                epochs=1,
                batch_size=scale.batch_size,
                seed=cell.seed,
            )
    except DivergenceError as error:
        return {"validation_accuracy": None, "diverged": str(error)}
    posed = problem(result.network, data, slice(_SCORED))
    return plain(
        {
            "validation_accuracy": result.summary["validation_accuracy"],
            "evaluations": evaluations(posed, rule, jax.random.key(cell.seed)),
            "step_seconds": result.summary["step_seconds_median"],
            "strength": result.summary["pc_strength"],
            "unsettled": result.summary["unsettled"]["median"],
            "cosine_to_backprop": result.summary["cosine_to_backprop"],
        }
    )


@functools.lru_cache(maxsize=1)
def _data(scale: Scale) -> Dataset:
    """The data, its test part cut to an image: budgets are chosen by validation."""
    data = vectors(scale.data)
    count = scale.examples or len(data.train.labels)
    return dataclasses.replace(data, train=first(data.train, count), test=first(data.test, 1))


@functools.cache
def spectra(setting: Residual, scale: Scale) -> Spectra:
    """Those at the start."""
    return usual_spectra(setting, _data(scale), _PRODUCTS)


@dataclasses.dataclass(frozen=True)
class Work:
    """The smallest budget of a solver at a depth, and its evaluations; NaN if none was enough."""

    family: str
    level: float
    depth: int
    seed: int
    budget: float
    evaluations: float
    seconds: float
    most: int


def _works(found: Found[Scale]) -> list[Work]:
    return works([row for group in found for row in group.rows])


def works(rows: Sequence[dict[str, Any]]) -> list[Work]:
    """What the rows say of every solver, level, depth and seed that has been tried."""
    goals = {
        (row["network"], row["seed"]): accuracy(row) for row in rows if row["method"] == BACKPROP
    }
    tried: dict[tuple[str, str, int], dict[int, dict[str, Any]]] = {}
    for row in rows:
        if row["method"] in _PARTS:
            family, budget = _PARTS[row["method"]]
            tried.setdefault((family, row["network"], row["seed"]), {})[budget] = row
    found = []
    for (family, network, seed), by_budget in tried.items():
        for level in LEVELS:
            goal = level * goals.get((network, seed), math.inf)
            enough = [b for b, row in sorted(by_budget.items()) if accuracy(row) >= goal]
            row = by_budget[enough[0]] if enough else {}
            found.append(
                Work(
                    family,
                    level,
                    NETWORKS[network].depth,
                    seed,
                    float(enough[0]) if enough else math.nan,
                    float(row.get("evaluations", math.nan)),
                    row.get("step_seconds", math.nan),
                    max(by_budget),
                )
            )
    return found


def work_table(found: Sequence[Work]) -> str:
    """Evaluations by depth, and exponents of depth with their intervals, in Markdown."""
    depths = sorted({work.depth for work in found})
    lines = [
        "| solver | of backprop's accuracy | "
        + " | ".join(f"depth {depth}" for depth in depths)
        + " | exponent of depth (95%) | published |",
        "|---|---|" + "---|" * (len(depths) + 2),
    ]
    for family, level in itertools.product(FAMILIES, LEVELS):
        own = [work for work in found if (work.family, work.level) == (family, level)]
        if own:
            cells = [_cell([w for w in own if w.depth == depth]) for depth in depths]
            published = PUBLISHED.get(family, "-") if level == LEVELS[0] else "-"
            lines.append(
                f"| {family} | {100 * level:.0f}% | {' | '.join(cells)} | {_exponent(own)} | "
                f"{published} |"
            )
    return "\n".join(lines) + "\n"


def _cell(own: Sequence[Work]) -> str:
    if not own:
        return "-"
    counts = sorted(w.evaluations for w in own if math.isfinite(w.evaluations))
    missing = [w for w in own if not math.isfinite(w.evaluations)]
    said = (
        [f"{counts[0]:.0f}" + (f" to {counts[-1]:.0f}" if counts[-1] > counts[0] else "")]
        if counts
        else []
    )
    return ", ".join([*said, *{f"> {w.most}" for w in missing}])


def _exponent(own: Sequence[Work]) -> str:
    reached = [w for w in own if math.isfinite(w.evaluations)]
    x, y = (
        np.asarray([getattr(w, key) for w in reached], float) for key in ("depth", "evaluations")
    )
    if len(set(x.tolist())) < 2:
        return "-"
    low, high = interval(x, y)
    if not math.isfinite(low):
        return f"{slope(x, y):z.2f}"
    return f"{slope(x, y):z.2f} ({low:z.2f} to {high:z.2f})"


def _style(family: str) -> dict[str, Any]:
    place = list(FAMILIES).index(family)
    return {
        "color": COLORS[place],
        "linestyle": DASHES[place % len(DASHES)],
        "marker": "osD^v<"[place],
        # Momentum often needs what PC-ALM needs: hollow and larger, it leaves that to be seen.
        **({"markersize": 8, "markerfacecolor": "none"} if place == 4 else {"markersize": 4}),
    }


def _draw(found: Sequence[Work], path: Path) -> Path:
    figure, panels = new_figure(3.6, columns=len(LEVELS), sharey=True)
    for axes, level in zip(panels, LEVELS, strict=True):
        for family in FAMILIES:
            own = [w for w in found if (w.family, w.level) == (family, level)]
            by_depth = {
                depth: [w.evaluations for w in own if w.depth == depth]
                for depth in sorted({w.depth for w in own})
            }
            reached = {d: v for d, v in by_depth.items() if np.isfinite(v).all()}
            axes.loglog(
                list(reached),
                [float(np.exp(np.mean(np.log(v)))) for v in reached.values()],
                **_style(family),
            )
        depths = sorted({w.depth for w in found})
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:.0f}")
        axes.minorticks_off()
        axes.set_title(f"{100 * level:.0f}% of backprop's accuracy", fontsize=9)
        axes.set_xlabel("nodes")
    panels[0].set_ylabel("evaluations per update")
    shown = [n for n in FAMILIES if any(w.family == n for w in found)]
    legend(figure, [legend_key(name, **_style(name)) for name in shown])
    return save(figure, path)


EXPERIMENT = Searched(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: dict.fromkeys(NETWORKS, scale.seeds),
    methods=METHODS,
    run=run,
    outcome=said("validation accuracy {validation_accuracy:.2%}", validation_accuracy="diverged"),
    columns=COLUMNS,
    figures={"work.png": lambda found, path: _draw(_works(found), path)},
    tables={"work.md": lambda found: work_table(_works(found))},
    shown="work.md",
    extent=("depths", "seeds", "most"),
)

reproduce = EXPERIMENT.reproduce
