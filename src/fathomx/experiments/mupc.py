"""Do networks of 128 and more nodes train by predictive coding without tuning?

Innocenti et al. (2025), arXiv 2505.13124: under muPC, residual networks of up to 128 layers train
by predictive coding with the learning rate of shallow ones, which fails under other
parameterizations. Here residual MLPs of 8 to 256 nodes and one of 1,024 are trained for one epoch
with the same settings at every depth, beside backprop; and as deep networks can score well while
most of their layers stand still, how far the weights of every node have moved is recorded, too.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from fathomx.data import Dataset
from fathomx.diagnostics.alignment import weight_change
from fathomx.drawing.style import (
    COLORS,
    DASHES,
    FAINT,
    legend,
    legend_key,
    new_figure,
    note,
    save,
    set_title,
)
from fathomx.experiments.examples import vectors
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group, Selection
from fathomx.graph.network import Network
from fathomx.inference import GaussNewton
from fathomx.layers.parameterization import (
    NTK,
    MuPC,
    Parameterization,
    Standard,
    scale_learning_rates,
)
from fathomx.learning import Backprop, Equilibrium, LearningRule
from fathomx.learning.learner import cosine_adam
from fathomx.models import residual_mlp
from fathomx.problem.strength import HoldStrength
from fathomx.records.values import plain
from fathomx.training import DivergenceError, fit


@dataclasses.dataclass(frozen=True)
class Residual:
    """A residual MLP of `depth` nodes and this `width`, and the data that it is trained on."""

    data: str
    depth: int
    width: int = 128

    def network(self, data: Dataset, parameterization: Parameterization, seed: int) -> Network:
        """The network with GELU, its weights drawn from the seed."""
        return residual_mlp(
            data.train.inputs.shape[1],
            data.classes,
            width=self.width,
            depth=self.depth,
            activation="gelu",
            parameterization=parameterization,
            key=jax.random.key(seed),
        )


DEPTHS, DATA = (8, 16, 32, 64, 128, 256, 512), ("mnist", "fashion-mnist")


def _name(data: str, depth: int) -> str:
    return f"{data}, {depth} nodes"


DEEPEST = "mnist, 1024 nodes, width 64"
NETWORKS = {_name(data, depth): Residual(data, depth) for data in DATA for depth in DEPTHS}
NETWORKS[DEEPEST] = Residual("mnist", 1024, width=64)


@dataclasses.dataclass(frozen=True)
class Method:
    """How a network is parameterized and learns.

    `learning_rate` is that of Adam at its beginning, the same for every depth and data set, times
    the learning-rate scales of the parameterization. It was chosen once, by the validation accuracy
    of 8 nodes on MNIST.
    """

    parameterization: Parameterization
    rule: LearningRule
    learning_rate: float


PC = Equilibrium(GaussNewton(), output_precision=HoldStrength(0.1))

METHODS = {
    "PC, muPC": Method(MuPC(), PC, 0.5),
    "backprop, muPC": Method(MuPC(), Backprop(), 0.5),
    "PC, NTK": Method(NTK(), PC, 0.03),
    "PC, SP": Method(Standard(), PC, 0.002),
}


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `epochs` over the first `examples` training images (all of them if 0) in batches of
    `batch_size`; `plan`, which networks are trained by which methods from which seeds, in order.
    """

    name: str
    examples: int
    epochs: int
    batch_size: int
    plan: tuple[Selection, ...]

    def seeds(self, network: str) -> tuple[int, ...]:
        """The seeds that the plan has for a network; 0 if it has none."""
        planned = {seed for part in self.plan if network in part.networks for seed in part.seeds}
        return tuple(sorted(planned)) or (0,)


def _networks(data: str, depths: Sequence[int]) -> tuple[str, ...]:
    return tuple(_name(data, depth) for depth in depths)


_MUPC, _OTHERS = ("PC, muPC", "backprop, muPC"), ("PC, NTK", "PC, SP")

SCALES = {
    "laptop": Scale(
        name="laptop",
        examples=0,
        epochs=1,
        batch_size=64,
        plan=(
            Selection(_networks("mnist", DEPTHS[:6]), _MUPC, (0,)),
            Selection(_networks("mnist", DEPTHS[:6]), _OTHERS, (0,)),
            Selection((DEEPEST,), ("PC, muPC",), (0,)),
            Selection(_networks("fashion-mnist", (8, 32, 128)), _MUPC, (0,)),
            Selection(_networks("fashion-mnist", (8, 32)), _OTHERS, (0,)),
        ),
    ),
    "paper": Scale(
        name="paper",
        examples=0,
        epochs=5,
        batch_size=64,
        plan=(Selection(tuple(NETWORKS), tuple(METHODS), (0, 1, 2)),),
    ),
}

COLUMNS = (
    Column("test_accuracy", "test accuracy, %", ".2f", 100.0),
    Column("validation_accuracy", "validation accuracy, %", ".2f", 100.0),
    Column("train_loss", "training loss", ".4g"),
    Column("smallest_change", "smallest weight change / median", ".2f"),
    Column("median_change", "median weight change", ".2g"),
    Column("cosine_to_backprop", "cosine to backprop", ".2f"),
    Column("smallest_cosine", "of the worst node", ".2f"),
    Column("strength", "strength", ".2g"),
    Column("unsettled", "unsettled", ".2g"),
    Column("step_seconds", "s / step", ".4f"),
    Column("compile_seconds", "first step, s", ".1f"),
    Column("seconds", "s", ".0f"),
)


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """Trains one network, scores it once, and compares its weights with those it began with."""
    setting, method = NETWORKS[cell.network], METHODS[cell.method]
    data = vectors(setting.data)
    if scale.examples:
        data = data.take(scale.examples)
    network = setting.network(data, method.parameterization, cell.seed)
    updates = scale.epochs * (len(data.train.labels) // scale.batch_size)
    begun = time.perf_counter()
    try:
        result = fit(
            network,
            data,
            method.rule,
            optimizer=_optimizer(method.learning_rate, updates),
            epochs=scale.epochs,
            batch_size=scale.batch_size,
            seed=cell.seed,
        )
    except DivergenceError as error:
        seconds = time.perf_counter() - begun
        return {"test_accuracy": None, "diverged": str(error), "seconds": seconds}
    summary = result.summary
    unsettled = summary["unsettled"] or {}
    return {
        "test_accuracy": summary["test_accuracy"],
        "validation_accuracy": summary["validation_accuracy"],
        "train_loss": summary["train_loss"],
        **audit(np.asarray(weight_change(network, result.network)), network.labels),
        "cosine_to_backprop": summary["cosine_to_backprop"],
        "smallest_cosine": _smallest(summary["cosine_to_backprop_per_node"]),
        "strength": summary["pc_strength"],
        "unsettled": unsettled.get("median"),
        "largest_unsettled": unsettled.get("max"),
        "step_seconds": summary["step_seconds_median"],
        "compile_seconds": summary["first_step_seconds"],
        "seconds": time.perf_counter() - begun,
        "history": result.history,
    }


def _smallest(values: Sequence[float | None]) -> float | None:
    """The smallest of the values that there are."""
    return min((value for value in values if value is not None), default=None)


def audit(changes: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """What the relative weight changes `(nodes,)` say of the node that has moved least.

    `smallest_change` is its change over the median of all nodes, `least_moved` its name.
    """
    median = np.median(changes)
    return plain(
        {
            "smallest_change": changes.min() / median,
            "median_change": median,
            "least_moved": labels[int(np.argmin(changes))],
            "weight_change": changes,
        }
    )


def _optimizer(rate: float, updates: int) -> optax.GradientTransformation:
    """Adam with a cosine from `rate` to 0, at the learning-rate scales of the parameterization.

    Its epsilon is small: gradients of many nodes are below the usual 1e-8.
    """
    return scale_learning_rates(cosine_adam(rate, updates))


_STYLE = {
    method: {
        "color": COLORS[place],
        "marker": "osD^"[place],
        "markersize": 4.5,
        "linestyle": DASHES[place],
        "linewidth": 1.3,
    }
    for place, method in enumerate(METHODS)
}


def draw_accuracies(found: list[Group], path: Path) -> None:
    """Accuracy over depth: from chance upward above, the best enlarged below."""
    figure, panels = new_figure(6.2, rows=2, columns=2, sharex=True)
    for place, data in enumerate(DATA):
        own = [g for g in found if NETWORKS[g.network].data == data]
        whole, enlarged = panels[place], panels[place + 2]
        for axes in (whole, enlarged):
            for group_style, groups in _lines(own):
                depths = [NETWORKS[g.network].depth for g in groups]
                axes.plot(depths, [100 * g.mean("test_accuracy") for g in groups], **group_style)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_ylabel("test accuracy, %")
        set_title(whole, data)
        whole.set_ylim(0, 102)
        whole.axhline(10, color=FAINT, linewidth=0.8, linestyle="--")
        for order, method in enumerate(METHODS):
            lost = [g for g in own if g.method == method and not g.values("test_accuracy")]
            # Beside each other at the foot, where no accuracy is.
            places = [NETWORKS[g.network].depth * 1.12 ** (order - 2.5) for g in lost]
            style = {"color": _STYLE[method]["color"], "marker": "x", "linestyle": "none"}
            whole.plot(places, [2] * len(lost), **style)
        top = max((100 * v for g in own for v in g.values("test_accuracy")), default=100.0)
        enlarged.set_ylim(top - 3, top + 0.5)
        enlarged.set_xlabel("nodes")
    handles = [legend_key(method, **style) for method, style in _STYLE.items()]
    handles.append(legend_key("PC, muPC, width 64", **_NARROW, color=COLORS[0]))
    handles.append(legend_key("diverged", color="black", marker="x", linestyle="none"))
    legend(figure, handles)
    save(figure, path)


# Of another width: beside the line, not on it.
_NARROW = {"marker": "*", "markersize": 9, "linestyle": "none"}


def _lines(found: Sequence[Group]) -> Iterator[tuple[dict[str, Any], list[Group]]]:
    """What is drawn as a line, and how: a method over depth, and the network of another width."""
    for method, style in _STYLE.items():
        groups = [g for g in found if g.method == method]
        yield style, [g for g in groups if g.network != DEEPEST]
        yield {**style, **_NARROW}, [g for g in groups if g.network == DEEPEST]


def draw_changes(found: list[Group], path: Path) -> None:
    """How far every node has moved on MNIST, over the median; the first seed of each depth."""
    import matplotlib

    figure, panels = new_figure(5.6, rows=2, columns=2, sharex=True)
    depths = sorted({network.depth for network in NETWORKS.values()})
    colors = {
        depth: matplotlib.colormaps["viridis"](0.92 * place / (len(depths) - 1))
        for place, depth in enumerate(depths)
    }
    drawn = set()
    for axes, method in zip(panels, METHODS, strict=True):
        set_title(axes, method)
        for group in found:
            setting, changes = NETWORKS[group.network], group.rows[0].get("weight_change")
            if group.method != method or setting.data != "mnist" or changes is None:
                continue
            moved = np.asarray(changes, float)
            where = (np.arange(len(moved)) + 0.5) / len(moved)
            axes.plot(where, moved / np.median(moved), color=colors[setting.depth], linewidth=1.1)
            drawn.add(setting.depth)
        axes.axhline(0.1, color=COLORS[1], linewidth=1.0, linestyle="--")
        axes.set_yscale("log")
        axes.set_ylim(0.005, 30)
        if not axes.lines[1:]:
            note(axes, "not run or diverged")
    for axes in panels[2:]:
        axes.set_xlabel("place of the node, input (0) to output (1)")
    for axes in panels[::2]:
        axes.set_ylabel("weight change / median")
    handles = [legend_key(f"{depth} nodes", color=colors[depth]) for depth in sorted(drawn)]
    handles.append(legend_key("a tenth of the median", color=COLORS[1], linestyle="--"))
    legend(figure, handles)
    save(figure, path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: {name: scale.seeds(name) for name in NETWORKS},
    methods=METHODS,
    run=run,
    outcome=said(
        "test accuracy {test_accuracy:.2%}, smallest weight change {smallest_change:.2f} of the "
        "median",
        test_accuracy="diverged",
    ),
    columns=COLUMNS,
    figures={"accuracy.png": draw_accuracies, "weight_change.png": draw_changes},
    descriptions=lambda scale: {
        "methods": {name: repr(method) for name, method in METHODS.items()}
    },
)

reproduce = EXPERIMENT.reproduce
