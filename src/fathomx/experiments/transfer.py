"""Does the best learning rate stay where it is when width and depth change?

Yang et al. (2022), arXiv 2203.03466, for width, and Bordelon et al. (2023), arXiv 2309.16620, for
depth: with the right scaling of multipliers and learning rates the optimum of the learning rate
stays put, so that it can be tuned on a small network; Innocenti et al. (2025, 2026),
arXiv 2505.13124 and 2602.07697, find the same for predictive coding under muPC. Here residual MLPs
are trained for a few updates at learning rates around their optimum, over widths and over depths.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from fathomx.data import Dataset
from fathomx.drawing.style import legend, legend_key, new_figure, note, save, sequential, set_title
from fathomx.experiments.examples import vectors
from fathomx.experiments.frame import Experiment, Found, said
from fathomx.experiments.grid import Cell, Column, Group
from fathomx.graph.network import Network
from fathomx.inference import GaussNewton
from fathomx.layers.parameterization import MuPC, Parameterization, Standard, scale_learning_rates
from fathomx.learning import Backprop, Equilibrium, Learner, LearningRule
from fathomx.models import residual_mlp
from fathomx.problem.strength import HoldStrength
from fathomx.records.values import plain


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: the `data` set; `widths` at `depth_of_widths` nodes, and `depths` at
    `width_of_depths`; `updates` on `batch_size` new images each; `seeds` of weights and batches;
    `most_rates` tried for one curve.
    """

    name: str
    data: str
    widths: tuple[int, ...]
    depth_of_widths: int
    depths: tuple[int, ...]
    width_of_depths: int
    updates: int
    batch_size: int
    seeds: tuple[int, ...]
    most_rates: int

    @property
    def networks(self) -> dict[str, Size]:
        """The networks, by name."""
        wide = {f"width {w}": Size("width", w, self.depth_of_widths) for w in self.widths}
        deep = {f"{d} nodes": Size("depth", self.width_of_depths, d) for d in self.depths}
        return {**wide, **deep}


@dataclasses.dataclass(frozen=True)
class Size:
    """A residual MLP's size, and which `sweep` it is part of: over `"width"` or `"depth"`."""

    sweep: str
    width: int
    depth: int

    @property
    def swept(self) -> int:
        """The size that differs within the sweep."""
        return self.width if self.sweep == "width" else self.depth


SCALES = {
    "laptop": Scale(
        name="laptop",
        data="mnist",
        widths=(32, 64, 128, 256, 512),
        depth_of_widths=8,
        depths=(8, 16, 32, 64, 128),
        width_of_depths=64,
        updates=100,
        batch_size=64,
        seeds=(0,),
        most_rates=14,
    ),
    "paper": Scale(
        name="paper",
        data="cifar10",
        widths=(32, 64, 128, 256, 512, 1024, 2048),
        depth_of_widths=8,
        depths=(8, 16, 32, 64, 128, 256),
        width_of_depths=128,
        updates=700,
        batch_size=64,
        seeds=(0, 1, 2),
        most_rates=14,
    ),
}


@dataclasses.dataclass(frozen=True)
class Method:
    """How networks are parameterized and learn, and the rate at which the search begins."""

    parameterization: Parameterization
    rule: LearningRule
    first_rate: float


# Adam moves every entry of a weight by the rate `c`, so that a map of `fan_in` inputs that move
# alike changes its output by `multiplier * fan_in * c`: for the input `sqrt(D) c` and for the
# readout `c`, whatever the width. A rate that does not depend on it, MuPC's at width 128:
CONSTANT_ENDS = MuPC(end_rate=128**-0.5)

PC = Equilibrium(GaussNewton(), output_precision=HoldStrength(0.1))

METHODS = {
    "PC, muPC": Method(MuPC(), PC, 1.0),
    "PC, muPC, constant ends": Method(CONSTANT_ENDS, PC, 1.0),
    "PC, SP": Method(Standard(), PC, 2**-9),
    "backprop, muPC": Method(MuPC(), Backprop(), 1.0),
    "backprop, muPC, constant ends": Method(CONSTANT_ENDS, Backprop(), 1.0),
}

COLUMNS = (
    Column("best_rate", "best learning rate", ".3g"),
    Column("best_loss", "loss there", ".4g"),
    Column("rates_tried", "rates tried", ".0f"),
    Column("diverged", "of them diverged", ".0f"),
    Column("seconds", "s", ".0f"),
)

# A prediction of zeros has 0.5, where networks end whose weights have been blown up. A curve that
# stays within 5% of that has no optimum to speak of.
LEARNED = 0.475


def batches(data: Dataset, scale: Scale, seed: int) -> tuple[Array, Array]:
    """Inputs `(updates, batch, size)` and labels `(updates, batch)`, no image twice."""
    needed, there = scale.updates * scale.batch_size, len(data.train.labels)
    if needed > there:
        raise ValueError(f"{needed} images are needed, and {data.name} has {there}.")
    order = np.random.default_rng(seed).permutation(there)[:needed]
    order = order.reshape(scale.updates, scale.batch_size)
    return jnp.asarray(data.train.inputs[order]), jnp.asarray(data.train.labels[order])


@eqx.filter_jit
def losses(
    network: Network, examples: tuple[Array, Array], rate: Array, rule: LearningRule, key: Array
) -> Array:
    """The loss of every batch `(updates,)` before the update from it, at this learning rate.

    Adam with a cosine from `rate` to 0 over the updates, at the learning-rate scales of the
    network's parameterization. The rate is traced: one compiled program serves them all.
    """
    updates = len(examples[1])

    def course(count: Array) -> Array:
        return rate * 0.5 * (1 + jnp.cos(jnp.pi * count / updates))

    learner = Learner(rule, scale_learning_rates(optax.adam(course, eps=1e-12)))
    keys = jax.random.split(key, updates)
    state = learner.begin(network)
    seen: Array = learner.updates(network, state, examples, keys, lambda _, report: report.loss)[2]
    return seen


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """Searches the best learning rate of one network."""
    size, method = scale.networks[cell.network], METHODS[cell.method]
    data = vectors(scale.data)
    examples = batches(data, scale, cell.seed)
    network = residual_mlp(
        data.train.inputs.shape[1],
        data.classes,
        width=size.width,
        depth=size.depth,
        parameterization=method.parameterization,
        key=jax.random.key(cell.seed),
    )
    key = jax.random.fold_in(jax.random.key(cell.seed), 1)
    begun = time.perf_counter()

    def last_quarter(rate: float) -> float:
        seen = losses(network, examples, jnp.asarray(rate, jnp.float32), method.rule, key)
        return float(np.asarray(seen)[3 * scale.updates // 4 :].mean())

    curve = search(last_quarter, method.first_rate, scale.most_rates)
    return {**summary(curve), "seconds": time.perf_counter() - begun}


def summary(curve: Mapping[float, float]) -> dict[str, Any]:
    """The optimum of a curve, which has none where nothing was learned, and the curve itself."""
    rate, loss = optimum(curve) or (math.nan, math.nan)
    return plain(
        {
            "best_rate": rate if loss < LEARNED else None,
            "best_loss": loss,
            "rates_tried": len(curve),
            "diverged": sum(not math.isfinite(loss) for loss in curve.values()),
            "rates": list(curve),
            "losses": list(curve.values()),
        }
    )


def search(loss: Callable[[float], float], first: float, most: int) -> dict[float, float]:
    """Losses at the rates `first * 2^k` around the best one, by rate in ascending order.

    Walks from `first` until the best rate has two neighbors on either side, then fills in the two
    rates a factor `sqrt(2)` beside it; at most `most` rates in all. A loss that is not finite
    counts as infinite, and ends the walk on its side.
    """
    seen: dict[float, float] = {}

    def at(power: float) -> float:
        if power not in seen:
            value = loss(first * 2.0**power)
            seen[power] = value if math.isfinite(value) else math.inf
        return seen[power]

    at(0.0)
    while len(seen) <= most - 3:
        best = min(seen, key=lambda power: seen[power])
        # Where all rates diverge, smaller ones may not.
        if math.isinf(seen[best]):
            at(min(seen) - 1)
            continue
        needed = [best + side for side in (-1, 1, -2, 2)]
        missing = [power for power in needed if power not in seen and not _beyond(power, seen)]
        if not missing:
            break
        at(missing[0])
    best = min(seen, key=lambda power: seen[power])
    if math.isfinite(seen[best]):
        at(best - 0.5)
        at(best + 0.5)
    return {first * 2.0**power: seen[power] for power in sorted(seen)}


def _beyond(power: float, seen: Mapping[float, float]) -> bool:
    """Whether a smaller rate has diverged already."""
    return any(math.isinf(value) and known < power for known, value in seen.items())


def optimum(curve: Mapping[float, float]) -> tuple[float, float] | None:
    """The best rate, and the smallest loss measured.

    The rate is the bottom of the parabola through the best point and its neighbors, in the
    logarithms of rate and loss; the best point's where a neighbor is missing or infinite. `None`
    where no loss is finite.
    """
    rates = sorted(curve)
    values = [curve[rate] for rate in rates]
    place = int(np.argmin(values))
    if not math.isfinite(values[place]):
        return None
    near = np.asarray(values[max(place - 1, 0) : place + 2], float)
    if len(near) < 3 or not np.isfinite(near).all():
        return rates[place], values[place]
    at = np.log(rates[place - 1 : place + 2])
    curvature, slope, _ = np.polyfit(at - at[1], np.log(near), 2)
    shift = -slope / (2 * curvature) if curvature > 0 else 0.0
    return float(rates[place] * np.exp(shift)), values[place]


def drifts(found: Sequence[Group], scale: Scale) -> list[dict[str, Any]]:
    """Of every method and sweep: the optima by size, geometric means over seeds, and their ratio.

    `drift` is the largest over the smallest; `untrained` are the sizes without an optimum.
    """
    lines = []
    for method in METHODS:
        for sweep in ("width", "depth"):
            optima: dict[int, float] = {}
            untrained = []
            for group in found:
                size = scale.networks[group.network]
                if group.method != method or size.sweep != sweep:
                    continue
                rates = group.values("best_rate")
                if len(rates) == len(group.rows):
                    optima[size.swept] = float(np.exp(np.log(rates).mean()))
                else:
                    untrained.append(size.swept)
            if optima:
                drift = max(optima.values()) / min(optima.values())
                line = {"method": method, "sweep": sweep, "optima": optima}
                lines.append({**line, "untrained": untrained, "drift": drift})
    return lines


def drift_table(lines: Sequence[dict[str, Any]]) -> str:
    """A line for every method and sweep."""
    text = "| method | over | best learning rates | largest / smallest | never trains |\n"
    text += "|---|---|---|---|---|\n"
    for line in lines:
        optima = ", ".join(f"{size}: {rate:.3g}" for size, rate in line["optima"].items())
        untrained = ", ".join(map(str, line["untrained"])) or "-"
        drift = f"{line['drift']:.2f}"
        text += f"| {line['method']} | {line['sweep']} | {optima} | {drift} | {untrained} |\n"
    return text


def draw(found: Found[Scale], path: Path) -> None:
    """Loss against learning rate, a curve per size, the optima marked; the first seed of each."""
    scale = found.scale
    methods = [method for method in METHODS if any(g.method == method for g in found)]
    figure, panels = new_figure(
        1.0 + 2.1 * len(methods), rows=len(methods), columns=2, sharex="row"
    )
    sweeps = {"width": scale.widths, "depth": scale.depths}
    for place, axes in enumerate(panels):
        method, sweep = methods[place // 2], tuple(sweeps)[place % 2]
        set_title(axes, f"{method}: {sweep}")
        for group in found:
            size = scale.networks[group.network]
            if (group.method, size.sweep) == (method, sweep):
                order = sweeps[sweep].index(size.swept)
                _curve(axes, group.rows[0], _color(order, len(sweeps[sweep])))
        axes.set_xscale("log", base=4)
        axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:.2g}")
        axes.set_yscale("log")
        axes.set_ylim(0.045, 0.8)
        axes.set_yticks([0.05, 0.1, 0.2, 0.5], ["0.05", "0.1", "0.2", "0.5"])
        axes.minorticks_off()
        if not axes.lines:
            note(axes, "not run")
    for axes in panels[-2:]:
        axes.set_xlabel("base learning rate")
    for axes in panels[::2]:
        axes.set_ylabel("training loss")
    longest = max(map(len, sweeps.values()))
    keys = []
    for order in range(longest):
        width, depth = (str(s[order]) if order < len(s) else "-" for s in sweeps.values())
        color = _color(order, longest)
        keys.append(legend_key(f"width {width} | {depth} nodes", color=color, marker="."))
    keys.append(legend_key("optimum", color="black", marker="v", linestyle="none"))
    legend(figure, keys)
    save(figure, path)


def _curve(axes: Any, row: dict[str, Any], color: Any) -> None:
    losses = np.asarray(row["losses"], float)
    axes.plot(row["rates"], losses, color=color, marker=".", linewidth=1.1)
    if row["best_rate"] is not None:
        axes.plot(row["best_rate"], row["best_loss"], color=color, marker="v", markersize=7)


def _color(order: int, count: int) -> Any:
    """From dark to light with size."""
    return sequential(order + 1, count + 1)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: dict.fromkeys(scale.networks, scale.seeds),
    methods=METHODS,
    run=run,
    outcome=said(
        "best learning rate {best_rate:.3g}, loss {best_loss:.4f}",
        best_rate="no learning rate trains it",
    ),
    columns=COLUMNS,
    tables={"drift.md": lambda found: drift_table(drifts(found, found.scale))},
    figures={"loss.png": draw},
    descriptions=lambda scale: {
        "methods": {name: repr(method) for name, method in METHODS.items()}
    },
)

reproduce = EXPERIMENT.reproduce
