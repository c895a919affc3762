"""Does predictive coding skip the plateaus on which backprop learns one rank after another?

Jacot et al. (2021), arXiv 2106.15933: from a small initialization gradient descent on the loss of a
deep linear network goes from saddle to saddle; it stays on each for a long while, and learns one
more rank on leaving it. Innocenti et al. (2024), arXiv 2408.11979, find no such plateaus with
predictive coding on matrix completion, since the saddles of the equilibrated energy are strict.
Here both functions are descended at the same rate from the same weights.

The network maps the index of a row, one-hot, to that row of a matrix of which only some entries are
observed. Outputs that are not observed are not clamped, so inference moves them to where nothing
disagrees with them: they drop out of the energy, and its equilibrium still has a closed form.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fathomx.drawing.style import COLORS, has_lines, legend, legend_key, new_figure, save, set_title
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group
from fathomx.graph.clamp import Clamp
from fathomx.graph.network import Network
from fathomx.graph.statistics import split
from fathomx.models import mlp
from fathomx.problem.energies import predict
from fathomx.theory import EquilibratedEnergy, Loss, Objective, nearby, origin

Numbers = np.ndarray


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `rows` of the square target; its `singular_values`, as many as its rank; how many of
    its entries are `observed`; `width` of the hidden layers; `learning_rate` of gradient descent;
    `tolerance`: the run ends at this fraction of the first loss, or after `most_iterations`;
    `seeds`, which draw target, observed entries and weights.
    """

    name: str
    rows: int
    singular_values: tuple[float, ...]
    observed: int
    width: int
    learning_rate: float
    tolerance: float
    most_iterations: int
    seeds: tuple[int, ...]


SCALES = {
    "laptop": Scale(
        name="laptop",
        rows=10,
        singular_values=(8.0, 4.0, 2.0),
        observed=80,
        width=100,
        learning_rate=0.05,
        tolerance=1e-4,
        most_iterations=150_000,
        seeds=(0, 1, 2, 3, 4),
    )
}


@dataclasses.dataclass(frozen=True)
class Start:
    """A linear chain, and the standard deviation of its weights around the origin."""

    depth: int
    deviation: float


DEPTHS, DEVIATIONS = (3, 4), (0.02, 0.01, 0.005)
NETWORKS = {
    f"{depth} layers, std {deviation:g}": Start(depth, deviation)
    for depth in DEPTHS
    for deviation in DEVIATIONS
}


BACKPROP, PREDICTIVE_CODING = "backprop", "PC at equilibrium"
METHODS: dict[str, type[Objective]] = {
    BACKPROP: Loss,
    PREDICTIVE_CODING: EquilibratedEnergy,
}

COLUMNS = (
    Column("iterations", "iterations to 1% of the loss", ".0f"),
    Column("at_rank_0", "at rank 0", ".0f"),
    Column("at_rank_1", "at rank 1", ".0f"),
    Column("at_rank_2", "at rank 2", ".0f"),
    Column("plateaus", "plateaus", ".1f"),
    Column("flat_iterations", "iterations on plateaus", ".0f"),
    Column("final_iterations", "iterations in all", ".0f"),
    Column("unobserved_error", "error on unobserved entries, %", ".2f", 100.0),
)

# Iterations between two records, and records between two looks at the tolerance.
RECORD, LOOK = 20, 50
LEARNED, FRACTION = 0.5, 0.01
# A plateau: over so many iterations the loss falls by less than this share.
WINDOW, FLAT = 100, 0.05
_MOST_STORED = 400


class Task(eqx.Module):
    """A matrix to complete. **Fields**: `target` and `observed`, which entries are given."""

    target: Float[Array, "rows rows"]
    observed: Bool[Array, "rows rows"]

    @classmethod
    def of(cls, scale: Scale, seed: int) -> Task:
        """A target with random singular vectors, and a random choice of entries."""
        rng = np.random.default_rng(seed)
        rank = len(scale.singular_values)
        left, right = (
            np.linalg.qr(rng.normal(size=(scale.rows, rank)))[0] for side in ("left", "right")
        )
        chosen = np.zeros(scale.rows**2, bool)
        chosen[rng.permutation(chosen.size)[: scale.observed]] = True
        target = (left * np.asarray(scale.singular_values)) @ right.T
        return cls(jnp.asarray(target), jnp.asarray(chosen.reshape(target.shape)))

    def objective(self, method: str) -> Objective:
        """The function of the weights that a method descends, with what is observed clamped."""
        clamps = {"input": jnp.eye(len(self.target)), "output": Clamp(self.target, self.observed)}
        return METHODS[method](clamps)


def start_network(scale: Scale, start: Start, seed: int) -> Network:
    """A linear chain with weights near the origin, in the precision that JAX has now."""
    key = jax.random.key(seed)
    network = mlp(
        scale.rows,
        scale.rows,
        width=scale.width,
        depth=start.depth,
        activation="linear",
        key=key,
    )
    return nearby(origin(network), start.deviation, key)


class Record(eqx.Module):
    """What is seen of a network. **Fields**: squared errors on both kinds of entries, spectrum."""

    loss: Array
    unobserved: Array
    singular_values: Array


def look(network: Network, task: Task) -> Record:
    """The loss on the observed entries, the mean square on the others, the singular values."""
    size = len(task.target)
    matrix = predict(network, jnp.eye(size))
    squares = (task.target - matrix) ** 2
    count = jnp.maximum(jnp.sum(~task.observed), 1)
    return Record(
        0.5 * jnp.sum(jnp.where(task.observed, squares, 0)) / size,
        jnp.sum(jnp.where(task.observed, 0, squares)) / count,
        jnp.linalg.svd(matrix, compute_uv=False),
    )


@eqx.filter_jit
def descend(
    network: Network, objective: Objective, task: Task, rate: float
) -> tuple[Network, Record]:
    """Gradient descent for `RECORD * LOOK` iterations, with a record after every `RECORD`."""
    learned, rest = split(network)
    slope = jax.grad(lambda w: objective(eqx.combine(w, rest)))

    def step(learned: Network, _: None) -> tuple[Network, None]:
        moved = jax.tree.map(lambda w, g: w - rate * g, learned, slope(learned))
        return moved, None

    def stretch(learned: Network, _: None) -> tuple[Network, Record]:
        learned, _ = jax.lax.scan(step, learned, None, length=RECORD)
        return learned, look(eqx.combine(learned, rest), task)

    learned, records = jax.lax.scan(stretch, learned, None, length=LOOK)
    return eqx.combine(learned, rest), records


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """Descends one function from one start until the loss is small, and measures the way."""
    with jax.enable_x64(True):
        task = Task.of(scale, cell.seed)
        network = start_network(scale, NETWORKS[cell.network], cell.seed)
        objective = task.objective(cell.method)
        records = [jax.tree.map(lambda a: np.asarray(a)[None], look(network, task))]
        first = records[0].loss[0]
        while (
            records[-1].loss[-1] > scale.tolerance * first
            and RECORD * LOOK * (len(records) - 1) < scale.most_iterations
        ):
            network, seen = descend(network, objective, task, scale.learning_rate)
            records.append(jax.tree.map(np.asarray, seen))
        hidden = np.asarray(task.target)[~np.asarray(task.observed)]
    seen = jax.tree.map(lambda *parts: np.concatenate(parts), *records)
    kept = _until(seen.loss, scale.tolerance)
    size_of_hidden = np.mean(hidden**2) if hidden.size else math.nan
    way = Way(
        RECORD * np.arange(kept),
        seen.loss[:kept],
        np.sqrt(seen.unobserved[:kept] / size_of_hidden),
        seen.singular_values[:kept],
    )
    return way.row(np.asarray(scale.singular_values))


def _until(loss: Numbers, tolerance: float) -> int:
    """How many records there are up to the first at which the run is over."""
    over = np.nonzero(loss <= tolerance * loss[0])[0]
    return int(over[0]) + 1 if over.size else len(loss)


@dataclasses.dataclass(frozen=True)
class Way:
    """What a run went through, record by record.

    **Fields**: `iterations`; `loss` on the observed entries; `unobserved`, the error on the others
    relative to their size (root mean squares); `singular_values` of the network's matrix.
    """

    iterations: Numbers
    loss: Numbers
    unobserved: Numbers
    singular_values: Numbers

    def row(self, target: Numbers) -> dict[str, Any]:
        """The numbers of the table, and a thinned way for the figures."""
        reached = _first(self.loss <= FRACTION * self.loss[0])
        rank = self.rank(target)
        learned = [_first(rank >= count) for count in range(len(target) + 1)]
        lengths = {
            f"at_rank_{count}": None
            if begin is None or end is None
            else int(self.iterations[end] - self.iterations[begin])
            for count, (begin, end) in enumerate(itertools.pairwise(learned))
        }
        flat = self.flat()
        kept = np.unique(np.geomspace(1, len(self.loss), _MOST_STORED).round().astype(int)) - 1
        return {
            "iterations": None if reached is None else int(self.iterations[reached]),
            **lengths,
            "plateaus": int(np.sum(np.diff(flat.astype(int), prepend=0) == 1)),
            "flat_iterations": int(RECORD * flat.sum()),
            "final_iterations": int(self.iterations[-1]),
            "unobserved_error": float(self.unobserved[-1]),
            "way": {
                "iterations": self.iterations[kept].tolist(),
                "loss": _short(self.loss[kept]),
                "unobserved": _short(self.unobserved[kept]),
                "rank": rank[kept].tolist(),
            },
        }

    def rank(self, target: Numbers) -> Numbers:
        """How many singular values have reached half of the target's, without a gap."""
        reached = self.singular_values[:, : len(target)] >= LEARNED * target
        count: Numbers = np.cumprod(reached, axis=1).sum(axis=1)
        return count

    def flat(self) -> Numbers:
        """The records from which the loss falls by less than 5% in the next 100 iterations.

        The window is cut off where the run ends, and 5% with it.
        """
        ahead = WINDOW // RECORD
        last = len(self.loss) - 1
        later = np.minimum(np.arange(len(self.loss)) + ahead, last)
        share = (later - np.arange(len(self.loss))) / ahead
        still: Numbers = self.loss[later] > (1 - FLAT) ** share * self.loss
        still[-1] = False
        return still


def _first(holds: Numbers) -> int | None:
    found = np.nonzero(holds)[0]
    return int(found[0]) if found.size else None


def _short(values: Numbers) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


_STYLE = {
    BACKPROP: {"color": COLORS[1]},
    PREDICTIVE_CODING: {"color": COLORS[0]},
}


def draw_ways(found: list[Group], path: Path) -> Path:
    """The loss over the iterations with the learned rank beneath, a line for every seed."""
    figure, panels = new_figure(
        8.4,
        rows=2 * len(DEPTHS),
        columns=len(DEVIATIONS),
        sharex="row",
        sharey="row",
        height_ratios=[2.2, 1] * len(DEPTHS),
    )
    panels = panels.reshape(len(DEPTHS), 2, len(DEVIATIONS))
    for place, name in enumerate(NETWORKS):
        row, column = divmod(place, len(DEVIATIONS))
        above, beneath = panels[row, :, column]
        set_title(above, name)
        for group in (g for g in found if g.network == name):
            for seen in (r["way"] for r in group.rows):
                style = {**_STYLE[group.method], "linewidth": 1.1, "alpha": 0.7}
                # The first record, at 0, has no place on the logarithmic axis.
                iterations = np.maximum(seen["iterations"], RECORD / 2)
                above.plot(iterations, seen["loss"], **style)
                beneath.step(iterations, seen["rank"], where="post", **style)
        if has_lines(above):
            above.set(xscale="log", yscale="log")
            beneath.set_xscale("log")
        above.tick_params(labelbottom=False)
        beneath.set_xlabel("iteration")
        beneath.set_yticks(range(4))
        if not column:
            above.set_ylabel("loss, observed entries")
            beneath.set_ylabel("learned rank")
    legend(figure, [legend_key(name, **style) for name, style in _STYLE.items()])
    return save(figure, path)


def draw_starts(found: list[Group], path: Path) -> Path:
    """Iterations to 1% of the loss by the size of the initial weights; bars span the seeds."""
    figure, panels = new_figure(3.2, columns=len(DEPTHS), sharey=True)
    for axes, depth in zip(panels, DEPTHS, strict=True):
        set_title(axes, f"{depth} layers")
        for method, style in _STYLE.items():
            own = [
                (NETWORKS[g.network].deviation, np.asarray(g.values("iterations")))
                for g in found
                if g.method == method
                and NETWORKS[g.network].depth == depth
                and g.values("iterations")
            ]
            for deviation, values in own:
                axes.plot([deviation] * 2, [values.min(), values.max()], **style)
            if own:
                means = [values.mean() for _, values in own]
                axes.plot([d for d, _ in own], means, marker="o", markersize=5, **style)
        if has_lines(axes):
            axes.set(xscale="log", yscale="log")
        axes.set_xlabel("standard deviation of the first weights")
        axes.set_xticks(DEVIATIONS, [f"{d:g}" for d in DEVIATIONS])
        axes.set_xticks([], minor=True)
    panels[0].set_ylabel("iterations to 1% of the loss")
    legend(figure, [legend_key(name, marker="o", **style) for name, style in _STYLE.items()])
    return save(figure, path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: dict.fromkeys(NETWORKS, scale.seeds),
    methods=METHODS,
    run=run,
    outcome=said(
        "1% of the loss after {iterations} iterations",
        iterations="not at 1% of the loss after {final_iterations} iterations",
    ),
    columns=COLUMNS,
    figures={"loss.png": draw_ways, "initialization.png": draw_starts},
    descriptions=lambda scale: {
        "starts": {name: dataclasses.asdict(start) for name, start in NETWORKS.items()}
    },
)

reproduce = EXPERIMENT.reproduce
