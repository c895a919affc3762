"""When does predictive coding become backprop: wide networks, and settled inference?

Innocenti, Achour and Bogacz (2026), arXiv 2602.07697: under parameterizations that are stable in
width N and depth L the rescaling matrix tends to the identity, `S - I = O(L / N)`. In networks much
wider than deep the equilibrated energy is then the loss and predictive coding's weight gradient is
backprop's; nonlinear perceptrons, convolutional networks and transformers are said to follow,
provided that inference reaches an equilibrium. Here `F* / loss` and `S - I` are computed in closed
form for linear residual networks, and the cosine between the two gradients is measured on three
nonlinear families: at an equilibrium with a certificate, and beside it after 100 steps of state
descent. All at initialization, with output precision 1.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from fathomx.data import Dataset
from fathomx.diagnostics.alignment import compare_to_backprop
from fathomx.drawing.style import (
    COLORS,
    DASHES,
    FAINT,
    color_bar,
    legend,
    legend_key,
    new_figure,
    save,
    sequential,
    set_title,
)
from fathomx.experiments.examples import loaded
from fathomx.experiments.grid import Cell, Column, Comparison, Group, Say, Selection, chosen_scale
from fathomx.graph.network import Network
from fathomx.inference import Newton, Solver, StateDescent, infer
from fathomx.layers.parameterization import MuPC, Parameterization, Standard
from fathomx.models import residual_cnn, residual_mlp, transformer
from fathomx.problem.energies import weight_gradient
from fathomx.problem.problem import Problem
from fathomx.problem.strength import strength
from fathomx.theory import equilibrated_energy
from fathomx.training.observer import plain


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**

    * `linear_widths`, `standard_widths`: of the linear networks under muPC, and of those under the
      standard parameterization; `hidden_layers`, the depths of both.
    * `mlp_widths`, and `mlp_nodes` of the tanh perceptrons.
    * `cnn_widths`, and `cnn_blocks` in each of three stages.
    * `transformer_widths`, and `transformer_blocks`.
    * `images` that perceptrons relax, `cnn_images`, `windows` of `context` tokens.
    * `seeds`, which draw weights and choose the examples.
    """

    name: str
    linear_widths: tuple[int, ...]
    standard_widths: tuple[int, ...]
    hidden_layers: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    mlp_nodes: int
    cnn_widths: tuple[int, ...]
    cnn_blocks: int
    transformer_widths: tuple[int, ...]
    transformer_blocks: int
    images: int
    cnn_images: int
    windows: int
    context: int
    seeds: tuple[int, ...]


SCALES = {
    "laptop": Scale(
        name="laptop",
        linear_widths=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048),
        standard_widths=(8, 64, 512),
        hidden_layers=(1, 3, 7, 15, 31),
        mlp_widths=(8, 16, 32, 64, 128, 256, 512),
        mlp_nodes=32,
        cnn_widths=(2, 4, 8, 16, 32),
        cnn_blocks=3,
        transformer_widths=(8, 32, 128, 256, 512),
        transformer_blocks=12,
        images=64,
        cnn_images=8,
        windows=2,
        context=32,
        seeds=(0, 1, 2),
    ),
    "paper": Scale(
        name="paper",
        linear_widths=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048),
        standard_widths=(8, 64, 512),
        hidden_layers=(1, 3, 7, 15, 31),
        mlp_widths=(8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
        mlp_nodes=32,
        cnn_widths=(2, 4, 8, 16, 32, 64, 128, 256),
        cnn_blocks=3,
        transformer_widths=(8, 16, 32, 64, 128, 256, 512, 1024),
        transformer_blocks=12,
        images=64,
        cnn_images=64,
        windows=16,
        context=128,
        seeds=(0, 1, 2),
    ),
}

CLOSED_FORM = "closed form"
SETTLED, UNSETTLED = "equilibrium", "100 steps of state descent"
TOLERANCE, STEPS, RATE = 5e-4, 100, 0.3
SOLVERS: dict[str, Solver] = {
    SETTLED: Newton(tolerance=TOLERANCE),
    UNSETTLED: StateDescent(optax.sgd(RATE), steps=STEPS),
}
METHODS = (CLOSED_FORM, *SOLVERS)
HEADS = 4

COLUMNS = (
    Column("ratio", "energy / loss", ".4g"),
    Column("mean_eigenvalue", "S - I, mean eigenvalue", ".2e"),
    Column("expected_mean", "expected over the weights", ".2e"),
    Column("largest_eigenvalue", "S - I, largest eigenvalue", ".2e"),
    Column("cosine", "cosine of the gradient to backprop's", ".4f"),
    Column("lowest_cosine", "lowest of a node", ".3f"),
    Column("output_cosine", "of the readout", ".3f"),
    Column("unsettled", "unsettled, largest", ".1e"),
    Column("strength", "strength", ".2g"),
    Column("evaluations", "evaluations, largest", ".0f"),
    Column("seconds", "seconds of inference and gradients", ".2f"),
)


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear residual perceptron: its sizes, and how it is parameterized."""

    width: int
    hidden: int
    parameterization: Parameterization

    @property
    def layers(self) -> int:
        """Weight layers, L."""
        return self.hidden + 1

    @property
    def stable(self) -> bool:
        """Whether the parameterization is muPC."""
        return isinstance(self.parameterization, MuPC)

    @property
    def expected_mean(self) -> float:
        """The mean eigenvalue of `S - I`, expected over the weights.

        A skip and its branch multiply the squared length of an error by `1 + s` on its way up, with
        `s = 1 / L` under muPC and 1 under the standard parameterization, and the readout by `1 / N`
        and 1. Summed over the hidden nodes: `(L / N) ((1 + 1 / L)^(L-1) - 1)`, and `2^(L-1) - 1`.
        """
        if self.stable:
            return self.layers / self.width * ((1 + 1 / self.layers) ** self.hidden - 1)
        return 2.0**self.hidden - 1


@dataclasses.dataclass(frozen=True)
class Nonlinear:
    """A network of a family, and its width."""

    family: str
    width: int


def linear_networks(scale: Scale) -> dict[str, Linear]:
    """The linear networks of the comparison by name."""
    found = {}
    for label, parameterization, widths in (
        ("muPC", MuPC(), scale.linear_widths),
        ("SP", Standard(), scale.standard_widths),
    ):
        for hidden in scale.hidden_layers:
            layers = "1 hidden layer" if hidden == 1 else f"{hidden} hidden layers"
            for width in widths:
                name = f"linear {label}, {layers}, width {width}"
                found[name] = Linear(width, hidden, parameterization)
    return found


def nonlinear_networks(scale: Scale) -> dict[str, Nonlinear]:
    """The networks that have to be relaxed, by name."""
    families = {
        "tanh MLP": scale.mlp_widths,
        "residual CNN": scale.cnn_widths,
        "transformer": scale.transformer_widths,
    }
    return {
        f"{family}, width {width}": Nonlinear(family, width)
        for family, widths in families.items()
        for width in widths
    }


def applies(cell: Cell) -> bool:
    """Whether this method is for this network: linear networks have the closed form, only they."""
    return cell.network.startswith("linear ") == (cell.method == CLOSED_FORM)


def reproduce(scale: str, folder: Path, selection: Selection, say: Say) -> Path:
    """Runs what is missing of the comparison, then writes tables and figures.

    `results.csv` (a line per run), `results.md` (means and spreads), `energy.png` (the heat map of
    `F* / loss`), `rescaling.png` (`S - I`), `cosine.png`. Raises `ValueError` for an unknown scale,
    network or method.
    """
    size = chosen_scale(scale, SCALES)
    names = (*linear_networks(size), *nonlinear_networks(size))
    comparison = Comparison(
        networks=dict.fromkeys(names, size.seeds),
        methods=METHODS,
        configuration={**dataclasses.asdict(size), "tolerance": TOLERANCE, "rate": RATE},
        run=lambda cell: run(cell, size),
        outcome=_outcome,
        columns=COLUMNS,
        draw=lambda found, into: _draw(found, into, size),
        applies=applies,
    )
    return comparison.reproduce(folder, selection, say)


def _outcome(row: dict[str, Any]) -> str:
    if row["method"] == CLOSED_FORM:
        return f"F* / loss {row['ratio']:.4g}, S - I {row['mean_eigenvalue']:.2g}"
    if "cosine" not in row:
        return "diverged"
    return f"cosine {row['cosine']:.4f}, unsettled {row['unsettled']:.1e}"


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """The closed form of a linear network, or what relaxing a nonlinear one does to its gradient.

    `method` is part of the row, since what is said of it differs.
    """
    measured = (
        _closed_form(linear_networks(scale)[cell.network], cell.seed, scale)
        if cell.method == CLOSED_FORM
        else _relaxed(nonlinear_networks(scale)[cell.network], cell, scale)
    )
    return {"method": cell.method, **plain(measured)}


def _closed_form(network: Linear, seed: int, scale: Scale) -> dict[str, Any]:
    # Under the standard parameterization the condition of S grows like 2^L, beyond float32.
    with jax.enable_x64(not network.stable):
        images = loaded("cifar10").flat()
        built = residual_mlp(
            images.input_shape[0],
            images.classes,
            width=network.width,
            depth=network.layers,
            activation="linear",
            parameterization=network.parameterization,
            key=jax.random.key(seed),
        )
        x, y = _examples(images, scale.images, seed)
        found = equilibrated_energy(built, x, y, output_precision=1.0)
        assert found.rescaling is not None
        loss = Problem(built, x, y).loss(found.explained).mean()
        matrix = np.asarray(found.rescaling, np.float64)
        eigenvalues = np.linalg.eigvalsh(matrix - np.eye(len(matrix)))
        return {
            "ratio": float(found.energy / loss),
            "mean_eigenvalue": eigenvalues.mean(),
            "expected_mean": network.expected_mean,
            "largest_eigenvalue": eigenvalues.max(),
        }


def _relaxed(network: Nonlinear, cell: Cell, scale: Scale) -> dict[str, Any]:
    problem = _problem(network, cell.seed, scale)
    # Seeds share their shapes, and so what is compiled; the time is that of running alone.
    program = _compiled(network, cell.method, scale)
    begun = time.perf_counter()
    found = jax.block_until_ready(program(problem))
    seconds = time.perf_counter() - begun
    if not found["ratio"] <= 1 + TOLERANCE:
        # Inference begins at the loss: above it, it has diverged, and the rest says nothing.
        found = {key: found[key] for key in ("strength", "evaluations")}
    return {**found, "seconds": seconds}


@functools.cache
def _compiled(
    network: Nonlinear, method: str, scale: Scale
) -> Callable[[Problem], dict[str, Array]]:
    solver = SOLVERS[method]
    jitted: Any = eqx.filter_jit(functools.partial(measure, solver=solver))
    program: Callable[[Problem], dict[str, Array]]
    program = jitted.lower(_problem(network, 0, scale)).compile()
    return program


def measure(problem: Problem, solver: Solver) -> dict[str, Array]:
    """Relaxes a problem and compares the weight gradient there with backprop's.

    `ratio`: energy over loss; `cosine`, `lowest_cosine`, `output_cosine`: of all weights, of the
    node where it is lowest, of the readout; `cosines` and `lengths` `(nodes,)`, of every node, the
    latter relative to backprop's; `unsettled`, `evaluations`: largest of the batch; `strength`.
    """
    relaxed = infer(problem, solver)
    gradient = weight_gradient(problem, relaxed.activities, relaxed.errors)
    key = jax.random.key(0)
    found = compare_to_backprop(problem, gradient, key)
    loss = problem.loss(problem.feedforward()).mean()
    return {
        "ratio": relaxed.energy.sum() / loss,
        "cosine": found.overall,
        "lowest_cosine": jnp.nanmin(found.cosine),
        "output_cosine": found.cosine[-1],
        "cosines": found.cosine,
        "lengths": found.ratio,
        "unsettled": relaxed.unsettled.max(),
        "strength": strength(problem, key),
        "evaluations": relaxed.evaluations.max(),
    }


def _examples(data: Dataset, count: int, seed: int) -> tuple[Any, Any]:
    """Training examples drawn with the seed."""
    chosen = np.random.default_rng(seed).choice(len(data.train.labels), count, replace=False)
    return data.train.inputs[chosen], data.train.labels[chosen]


def _problem(network: Nonlinear, seed: int, scale: Scale) -> Problem:
    """A family's network with its initial weights, and the examples it relaxes."""
    build, examples = _FAMILIES[network.family]
    x, y = examples(scale, seed)
    return Problem(build(network.width, scale, jax.random.key(seed)), x, y, 1.0)


def _tanh_mlp(width: int, scale: Scale, key: Array) -> Network:
    images = loaded("cifar10").flat()
    return residual_mlp(
        images.input_shape[0],
        images.classes,
        width=width,
        depth=scale.mlp_nodes,
        activation="tanh",
        parameterization=MuPC(),
        key=key,
    )


def _residual_cnn(width: int, scale: Scale, key: Array) -> Network:
    images = loaded("cifar10").images()
    return residual_cnn(
        scale.cnn_blocks,
        width=width,
        classes=images.classes,
        image_shape=images.input_shape,
        activation="tanh",
        parameterization=MuPC(),
        key=key,
    )


def _transformer(width: int, scale: Scale, key: Array) -> Network:
    return transformer(
        loaded("tiny-shakespeare", scale.context).classes,
        scale.context,
        width=width,
        depth=scale.transformer_blocks,
        heads=HEADS,
        parameterization=MuPC(),
        key=key,
    )


_FAMILIES: dict[str, tuple[Callable[..., Network], Callable[..., tuple[Any, Any]]]] = {
    "tanh MLP": (
        _tanh_mlp,
        lambda scale, seed: _examples(loaded("cifar10").flat(), scale.images, seed),
    ),
    "residual CNN": (
        _residual_cnn,
        lambda scale, seed: _examples(loaded("cifar10").images(), scale.cnn_images, seed),
    ),
    "transformer": (
        _transformer,
        lambda scale, seed: _examples(
            loaded("tiny-shakespeare", scale.context), scale.windows, seed
        ),
    ),
}


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of the least-squares line through the logarithms of `y` over those of `x`."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _draw(found: list[Group], folder: Path, scale: Scale) -> None:
    linear = {g.network: g for g in found if g.method == CLOSED_FORM}
    known = {name: n for name, n in linear_networks(scale).items() if name in linear}
    if known:
        _draw_energy(known, linear, folder / "energy.png")
        _draw_rescaling(known, linear, folder / "rescaling.png")
    if len(linear) < len(found):
        _draw_cosine([g for g in found if g.method in SOLVERS], folder / "cosine.png", scale)


def _draw_energy(known: dict[str, Linear], found: dict[str, Group], path: Path) -> None:
    """The heat map, a panel for each parameterization; numbers are means over the seeds."""
    import matplotlib

    colors = matplotlib.colormaps["viridis"].with_extremes(bad="white")
    shown = {label: own for label, own in _by_parameterization(known).items() if own}
    widths = {label: sorted({n.width for n in own.values()}) for label, own in shown.items()}
    depths = sorted({n.hidden for n in known.values()})
    figure, panels = new_figure(
        2.9, columns=len(shown), width_ratios=[len(widths[label]) for label in shown], sharey=True
    )
    for axes, (label, own) in zip(panels, shown.items(), strict=True):
        set_title(axes, label)
        axes.grid(False)
        axes.set_xlabel("width")
        values = np.full((len(depths), len(widths[label])), np.nan)
        for name, network in own.items():
            place = depths.index(network.hidden), widths[label].index(network.width)
            values[place] = found[name].mean("ratio")
        masked = np.ma.masked_invalid(values)
        image = axes.imshow(masked, colors, aspect="auto", vmin=0, vmax=1, origin="lower")
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                color = "white" if value < 0.6 else "black"
                axes.text(column, row, _short(value), color=color, ha="center", va="center", size=7)
        axes.set_xticks(range(len(widths[label])), [str(width) for width in widths[label]])
        axes.set_yticks(range(len(depths)), [str(depth) for depth in depths])
    panels[0].set_ylabel("hidden layers")
    color_bar(figure, image, "F* / loss", ax=list(panels), aspect=15)
    save(figure, path)


def _short(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0995 else f"{value:.0e}".replace("e-0", "e-")


def _by_parameterization(known: dict[str, Linear]) -> dict[str, dict[str, Linear]]:
    panels: dict[str, dict[str, Linear]] = {"muPC": {}, "SP": {}}
    for name, network in known.items():
        panels["muPC" if network.stable else "SP"][name] = network
    return panels


def _draw_rescaling(known: dict[str, Linear], found: dict[str, Group], path: Path) -> None:
    """The mean eigenvalue of `S - I` of every row, against L / N, and what is expected."""
    figure, panels = new_figure(3.6, columns=2)
    depths = sorted({n.hidden for n in known.values()})
    color = {depth: sequential(place, len(depths)) for place, depth in enumerate(depths)}
    by_parameterization = _by_parameterization(known)
    for axes, (label, own) in zip(panels, by_parameterization.items(), strict=True):
        set_title(axes, label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylabel("mean eigenvalue of S - I")
        stable = label == "muPC"
        axes.set_xlabel("layers / width, L / N" if stable else "width N")
        for depth in depths:
            ordered = sorted((n.width, name) for name, n in own.items() if n.hidden == depth)
            expected = [own[name].expected_mean for _, name in ordered]
            x = [own[name].layers / width if stable else width for width, name in ordered]
            axes.plot(x, expected, color=color[depth], linewidth=0.8)
            for place, (_, name) in zip(x, ordered, strict=True):
                values = found[name].values("mean_eigenvalue")
                axes.plot([place] * len(values), values, color=color[depth], **_POINT)
    rows = [
        (n.layers / n.width, value)
        for name, n in by_parameterization["muPC"].items()
        for value in found[name].values("mean_eigenvalue")
    ]
    if len({x for x, _ in rows}) > 1:
        x, y = np.asarray(rows).T
        set_title(panels[0], f"muPC: slope {slope(x, y):.2f} over all")
    handles = [
        legend_key("1 hidden layer" if d == 1 else f"{d} hidden layers", color=color[d], **_POINT)
        for d in depths
    ]
    legend(figure, [*handles, legend_key("expected over the weights", color=FAINT, linewidth=0.8)])
    save(figure, path)


def _draw_cosine(found: list[Group], path: Path, scale: Scale) -> None:
    """Median over the seeds against width, with the range of the seeds; a panel for each family."""
    known = nonlinear_networks(scale)
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    for group in found:
        network, values = known[group.network], group.values("cosine")
        if values:
            curve = curves.setdefault((network.family, group.method), {})
            curve[network.width] = [max(1 - value, _ROUNDING) for value in values]
    seen = [_DISTANCE, *(v for curve in curves.values() for own in curve.values() for v in own)]

    figure, panels = new_figure(3.2, columns=len(_FAMILIES), sharey=True)
    panels[0].set_yscale("log")
    panels[0].set_ylim(min(seen) / 2, max(seen) * 2)
    panels[0].set_ylabel("1 - cosine to backprop's gradient")
    for axes, family in zip(panels, _FAMILIES, strict=True):
        set_title(axes, _TITLES[family].format(scale=scale))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("width")
        axes.axhline(_DISTANCE, **_ASKED)
    for (family, method), curve in curves.items():
        axes, style = panels[list(_FAMILIES).index(family)], _STYLE[method]
        axes.plot(list(curve), [np.median(own) for own in curve.values()], **style)
        low, high = [min(own) for own in curve.values()], [max(own) for own in curve.values()]
        axes.fill_between(list(curve), low, high, color=style["color"], alpha=0.15, linewidth=0)
    handles = [legend_key(method, **style) for method, style in _STYLE.items()]
    legend(figure, [*handles, legend_key("a cosine of 0.99", **_ASKED)])
    save(figure, path)


_ROUNDING, _DISTANCE = 1e-7, 0.01
_POINT = {"marker": "o", "markersize": 3, "linestyle": "none"}
_ASKED = {"color": FAINT, "linewidth": 1.0, "linestyle": ":"}
_STYLE = {
    SETTLED: {"color": COLORS[0], "marker": "o", "markersize": 3.5},
    UNSETTLED: {"color": COLORS[1], "marker": "s", "markersize": 3.5, "linestyle": DASHES[1]},
}
_TITLES = {
    "tanh MLP": "tanh MLP, {scale.mlp_nodes} nodes",
    "residual CNN": "residual CNN, 3 x {scale.cnn_blocks} blocks",
    "transformer": "transformer, {scale.transformer_blocks} blocks",
}
