"""Do activities and their updates keep their size at any width and depth?

A coordinate check, as Yang et al. (2022), arXiv 2203.03466, use to test a parameterization: train
networks of growing size for a few steps and watch how large the activities are on fixed inputs, and
how far a few updates move them. Where both neither grow nor shrink, every layer learns at any size,
and one learning rate can be good for all. Here the updates are those of predictive coding with Adam
under the standard (SP), the neural tangent (NTK) and the muPC parameterization (arXiv 2505.13124)
with its learning-rate scales (arXiv 2602.07697), and under muPC with other scales for the first
layer and the readout.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from fathomx.data import Dataset
from fathomx.diagnostics.alignment import weight_change
from fathomx.drawing.style import COLORS, DASHES, legend, legend_key, new_figure, save, set_title
from fathomx.experiments.examples import drawn, loaded
from fathomx.experiments.frame import Experiment, Found, said
from fathomx.experiments.grid import Cell, Column, Group, comma_separated
from fathomx.experiments.power_laws import slope
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.layers.parameterization import (
    NTK,
    MuPC,
    Parameterization,
    Standard,
    scale_learning_rates,
)
from fathomx.learning import Equilibrium, Learner, StepReport
from fathomx.models import residual_cnn, residual_mlp, transformer
from fathomx.records.values import plain


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**

    * `widths` of residual perceptrons with `nodes` nodes, and `depths` of those of width `width`.
    * `cnn_widths`, and `cnn_blocks` in each of three stages; `transformer_widths`, and
      `transformer_blocks`.
    * `updates`, each on a batch of `batch_size` images or `windows` windows of `context` tokens.
    * `seeds`, which draw the weights and choose the examples.
    """

    name: str
    widths: tuple[int, ...]
    nodes: int
    depths: tuple[int, ...]
    width: int
    cnn_widths: tuple[int, ...]
    cnn_blocks: int
    transformer_widths: tuple[int, ...]
    transformer_blocks: int
    updates: int
    batch_size: int
    cnn_batch_size: int
    windows: int
    context: int
    seeds: tuple[int, ...]


SCALES = {
    "laptop": Scale(
        name="laptop",
        widths=(32, 64, 128, 256, 512),
        nodes=8,
        depths=(8, 32, 128),
        width=64,
        cnn_widths=(8, 32),
        cnn_blocks=2,
        transformer_widths=(32, 128),
        transformer_blocks=6,
        updates=5,
        batch_size=64,
        cnn_batch_size=16,
        windows=8,
        context=32,
        seeds=(0, 1, 2),
    ),
    "paper": Scale(
        name="paper",
        widths=(32, 64, 128, 256, 512, 1024, 2048, 4096),
        nodes=32,
        depths=(8, 16, 32, 64, 128, 256, 512),
        width=256,
        cnn_widths=(8, 16, 32, 64, 128, 256),
        cnn_blocks=3,
        transformer_widths=(32, 64, 128, 256, 512, 1024),
        transformer_blocks=12,
        updates=10,
        batch_size=64,
        cnn_batch_size=64,
        windows=32,
        context=128,
        seeds=(0, 1, 2),
    ),
}

MUPC, CORRECTED = "muPC", "muPC, first and last rates fixed"


@dataclasses.dataclass(frozen=True)
class Method:
    """A parameterization, and Adam's learning rate before its scales."""

    parameterization: Parameterization
    learning_rate: float


METHODS = {
    "SP": Method(Standard(), 2e-4),
    "NTK": Method(NTK(), 2e-3),
    MUPC: Method(MuPC(), 0.1),
    # The scale of muPC at width 128, at every width.
    CORRECTED: Method(MuPC(end_rate=128**-0.5), 0.1),
}

KINDS = ("first", "early", "middle", "late", "output")
QUANTITIES = {
    "activity": "activities",
    "first_update": "change of the activities by the first update",
    "update": "change of the activities by all updates",
    "own_update": "change of the prediction by the node's own updates",
    "weight_change": "relative change of the weights by all updates",
}
COLUMNS = tuple(
    Column(f"{quantity}_{kind}", f"{title}: {kind}", ".2e")
    for quantity, title in QUANTITIES.items()
    for kind in KINDS
)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network of a family, its width and its number of nodes."""

    family: str
    width: int
    depth: int


PERCEPTRON, CNN, TRANSFORMER = "residual MLP", "residual CNN", "transformer"


def networks(scale: Scale) -> dict[str, Architecture]:
    """All networks of the comparison by name."""
    sizes = [(width, scale.nodes) for width in scale.widths]
    sizes += [(scale.width, depth) for depth in scale.depths]
    found = {
        f"{PERCEPTRON}, width {width}, {depth} nodes": Architecture(PERCEPTRON, width, depth)
        for width, depth in sizes
    }
    for family, widths, depth in (
        (CNN, scale.cnn_widths, 3 * scale.cnn_blocks + 2),
        (TRANSFORMER, scale.transformer_widths, scale.transformer_blocks + 2),
    ):
        for width in widths:
            found[f"{family}, width {width}"] = Architecture(family, width, depth)
    return found


def applies(cell: Cell) -> bool:
    """Whether this method is for this network: all but the perceptrons are under muPC alone."""
    return cell.network.startswith(PERCEPTRON) or cell.method in (MUPC, CORRECTED)


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """The sizes of a network's activities and updates, by node and by kind of node."""
    architecture, method = networks(scale)[cell.network], METHODS[cell.method]
    build, examples = _FAMILIES[architecture.family]
    key = jax.random.key(cell.seed)
    network = build(architecture, scale, method.parameterization, key)
    optimizer = scale_learning_rates(optax.adam(method.learning_rate, eps=1e-12))
    sizes = plain(_course(network, examples(scale, cell.seed), optimizer))
    by_kind = {
        f"{quantity}_{kind}": size
        for quantity in QUANTITIES
        for kind, size in kinds(np.asarray(sizes[quantity], float)).items()
    }
    return {**plain(by_kind), "nodes": sizes}


def kinds(sizes: np.ndarray) -> dict[str, float]:
    """Root mean square over the nodes of each kind: the first, hidden ones by thirds, the output.

    `sizes`: `(nodes,)`, at least five.
    """
    parts = [sizes[:1], *np.array_split(sizes[1:-1], 3), sizes[-1:]]
    return {kind: float(np.sqrt(np.mean(part**2))) for kind, part in zip(KINDS, parts, strict=True)}


Batches = tuple[Array, Array]


@eqx.filter_jit
def _course(
    network: Network, examples: tuple[Array, Batches], optimizer: optax.GradientTransformation
) -> dict[str, Array]:
    """One update by predictive coding on every batch, and what they do on the probe's inputs.

    Activities are those of the feedforward pass. `own_update` is how far new weights move a node's
    prediction from the activities that its parents had before. Every value is `(nodes,)`, a root
    mean square over inputs and units.
    """
    probe, batches = examples
    learner = Learner(Equilibrium(), optimizer)
    before = network.unroll(None, probe)

    def moved_by(updated: Network, _: StepReport) -> Array:
        return _apart(network, updated.unroll(None, probe), before)

    # Nothing is random here but the signs of the strength's estimate.
    keys = jnp.broadcast_to(jax.random.key(0), len(batches[0]))
    updated, _, moved = learner.updates(network, learner.begin(network), batches, keys, moved_by)
    return {
        "activity": node_sizes(network, before),
        "first_update": moved[0],
        "update": moved[-1],
        "own_update": _apart(network, updated.predictions(before, probe), before),
        "weight_change": weight_change(network, updated),
    }


def _apart(network: Network, after: Entries, before: Entries) -> Array:
    return node_sizes(network, {name: after[name] - before[name] for name in before})


def node_sizes(network: Network, entries: Entries) -> Array:
    """Root mean square of every node's entries, over inputs and units: `(nodes,)`."""
    found = []
    for entry in network.entries:
        if entry.depth:
            values = entry.rows(entries[entry.name])
            rest = tuple(range(1, values.ndim))
            found.append(jnp.sqrt(jnp.mean(values**2, axis=rest)))
    return jnp.concatenate(found)


def _examples(data: Dataset, scale: Scale, batch: int, seed: int) -> tuple[Any, Batches]:
    """A batch of validation examples to look at, and training batches drawn with the seed."""
    inputs, labels = (
        jnp.asarray(part.reshape(scale.updates, batch, *part.shape[1:]))
        for part in drawn(data, scale.updates * batch, seed)
    )
    return jnp.asarray(data.validation.inputs[:batch]), (inputs, labels)


def _perceptron(of: Architecture, scale: Scale, scales: Parameterization, key: Array) -> Network:
    data = loaded("mnist").flat()
    return residual_mlp(
        data.input_shape[0],
        data.classes,
        width=of.width,
        depth=of.depth,
        parameterization=scales,
        key=key,
    )


def _residual_cnn(of: Architecture, scale: Scale, scales: Parameterization, key: Array) -> Network:
    data = loaded("mnist").images()
    return residual_cnn(
        scale.cnn_blocks,
        width=of.width,
        classes=data.classes,
        image_shape=data.input_shape,
        parameterization=scales,
        key=key,
    )


def _transformer(of: Architecture, scale: Scale, scales: Parameterization, key: Array) -> Network:
    return transformer(
        loaded("tiny-shakespeare", scale.context).classes,
        scale.context,
        width=of.width,
        depth=scale.transformer_blocks,
        parameterization=scales,
        key=key,
    )


_FAMILIES: dict[str, tuple[Callable[..., Network], Callable[..., tuple[Any, Batches]]]] = {
    PERCEPTRON: (
        _perceptron,
        lambda scale, seed: _examples(loaded("mnist").flat(), scale, scale.batch_size, seed),
    ),
    CNN: (
        _residual_cnn,
        lambda scale, seed: _examples(loaded("mnist").images(), scale, scale.cnn_batch_size, seed),
    ),
    TRANSFORMER: (
        _transformer,
        lambda scale, seed: _examples(
            loaded("tiny-shakespeare", scale.context), scale, scale.windows, seed
        ),
    ),
}


@dataclasses.dataclass(frozen=True)
class Course:
    """A way through the networks: one family, growing in width or in depth, under one method.

    **Fields**: `family`, `along` (`"width"` or `"depth"`), `method`; `sizes`, those along the way,
    and `rows`, those of every size.
    """

    family: str
    along: str
    method: str
    sizes: tuple[int, ...]
    rows: tuple[tuple[dict[str, Any], ...], ...]

    def values(self, key: str) -> np.ndarray:
        """A column, `(seeds, sizes)`; NaN where a row is missing or not finite."""
        seeds = sorted({row["seed"] for rows in self.rows for row in rows})
        table = np.full((len(seeds), len(self.sizes)), np.nan)
        for place, rows in enumerate(self.rows):
            for row in rows:
                if row[key] is not None:
                    table[seeds.index(row["seed"]), place] = row[key]
        return table

    def slopes(self, key: str) -> list[float]:
        """Slope of the logarithms against those of the sizes, seed by seed."""
        found = []
        for values in self.values(key):
            known = np.isfinite(values) & (values > 0)
            if known.sum() > 1:
                found.append(slope(np.asarray(self.sizes)[known], values[known]))
        return found


def courses(found: list[Group], scale: Scale) -> Iterator[Course]:
    """What there is of the ways along width, and along depth, under every method."""
    known = networks(scale)
    for family, along in (
        (PERCEPTRON, "width"),
        (PERCEPTRON, "depth"),
        (CNN, "width"),
        (TRANSFORMER, "width"),
    ):
        fixed = {"width": ("depth", scale.nodes), "depth": ("width", scale.width)}[along]
        for method in METHODS:
            own = {
                getattr(known[group.network], along): group.rows
                for group in found
                if group.method == method
                and known[group.network].family == family
                and (family != PERCEPTRON or getattr(known[group.network], fixed[0]) == fixed[1])
            }
            if own:
                sizes = tuple(sorted(own))
                yield Course(family, along, method, sizes, tuple(own[size] for size in sizes))


def draw_perceptrons(along: str, found: Found[Scale], path: Path) -> None:
    """The perceptrons along their width or depth."""
    ways = courses(found, found.scale)
    own = [way for way in ways if way.family == PERCEPTRON and way.along == along]
    if own:
        _draw([[(way, quantity) for way in own] for quantity in _DRAWN], path)


def draw_families(found: Found[Scale], path: Path) -> None:
    """The other families along their width."""
    ways, sizes = list(courses(found, found.scale)), ("update", "own_update")
    others = [[way for way in ways if way.family == family] for family in (CNN, TRANSFORMER)]
    grid = [[(way, quantity) for quantity in sizes for way in own] for own in others]
    if all(grid) and len({len(row) for row in grid}) == 1:
        _draw(grid, path)


def slopes(found: Found[Scale]) -> str:
    """How every size scales with width and depth, as `slopes.csv`."""
    lines = [["network", "along", "method", "size", *KINDS]]
    for way in courses(found, found.scale):
        for quantity in QUANTITIES:
            each = [way.slopes(f"{quantity}_{kind}") for kind in KINDS]
            cells = [f"{np.mean(one):.2f} +- {np.std(one):.2f}" if one else "" for one in each]
            lines.append([way.family, way.along, way.method, quantity, *cells])
    return comma_separated(lines)


def _draw(grid: list[list[tuple[Course, str]]], path: Path) -> None:
    """A panel for each way and quantity: a line for each kind of node, medians over the seeds."""
    figure, panels = new_figure(
        2.3 * len(grid) + 0.6, rows=len(grid), columns=len(grid[0]), sharey="row"
    )
    ways = [cell for row in grid for cell in row]
    several = len({way.family for way, _ in ways}) > 1
    for place, (axes, (way, quantity)) in enumerate(zip(panels, ways, strict=True)):
        row, column = divmod(place, len(grid[0]))
        if several or not row:
            set_title(axes, _TITLES[way.method].format(f"{way.family}: " if several else ""))
            axes.title.set_fontsize(8)
        if not column or several:
            axes.set_ylabel(_DRAWN[quantity])
        if row == len(grid) - 1:
            axes.set_xlabel("number of nodes" if way.along == "depth" else "width")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter("")
        axes.set_xticks(way.sizes, [str(size) for size in way.sizes])
        axes.tick_params(labelsize=7)
        for kind, style in _STYLE.items():
            values = way.values(f"{quantity}_{kind}")
            axes.plot(way.sizes, np.nanmedian(values, axis=0), **style)
    legend(figure, [legend_key(_NAMES[kind], **style) for kind, style in _STYLE.items()])
    save(figure, path)


_DRAWN = {
    "activity": "size of activities",
    "update": "their change",
    "own_update": "change by own weights",
}
_TITLES = {name: f"{{}}{name}" for name in METHODS} | {
    CORRECTED: "{}muPC,\nfirst and last rates fixed"
}
_NAMES = {
    "first": "first node",
    "early": "hidden, first third",
    "middle": "hidden, middle third",
    "late": "hidden, last third",
    "output": "output",
}
_STYLE = {
    kind: {"color": COLORS[place], "marker": "o", "markersize": 2.5, "linestyle": dashes}
    for place, (kind, dashes) in enumerate(zip(KINDS, (*DASHES[1:], "-", "-"), strict=True))
}


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: dict.fromkeys(networks(scale), scale.seeds),
    methods=METHODS,
    applies=applies,
    run=run,
    outcome=said(
        "hidden updates of {update_middle:.1e}, of the output {update_output:.1e}",
        update_output="not finite",
    ),
    columns=COLUMNS,
    tables={"slopes.csv": slopes},
    figures={
        "width.png": functools.partial(draw_perceptrons, "width"),
        "depth.png": functools.partial(draw_perceptrons, "depth"),
        "families.png": draw_families,
    },
    descriptions=lambda scale: {
        "learning_rates": {name: method.learning_rate for name, method in METHODS.items()}
    },
)

reproduce = EXPERIMENT.reproduce
