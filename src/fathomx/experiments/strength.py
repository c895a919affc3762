"""What does the strength of predictive coding cost, and where does it pay?

`strength = lambda tr(J J^T) / d_y` says how far predictive coding goes beyond backprop: near 0 it
is backprop, large, the hidden layers absorb the output error before it teaches the last ones. Two
parts. The map: residual perceptrons over depth, width and strength, then categorical outputs, a
convolutional network and a transformer, with the same updates for all; how accurate they become,
how settled inference is, how much stiffer the network grows and how far the update is from
backprop's. The search: settings in which theory or earlier work would have predictive coding ahead
(single examples, few updates, near saddles), the learning rate chosen for every method on
validation data from a grid of the same size.

The strength and holding it are ours. That the equilibrated energy leaves saddles sooner: Innocenti
et al. (2024), arXiv 2408.11979; that relaxed activities help online: Song et al. (2024), "Inferring
neural activity before plasticity".
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from fathomx import data as data_sets
from fathomx.data import Dataset, Part
from fathomx.diagnostics.alignment import alignment
from fathomx.drawing.style import (
    COLORS,
    DASHES,
    has_lines,
    legend,
    legend_key,
    log_axes,
    new_figure,
    note,
    save,
    set_title,
)
from fathomx.experiments.grid import Column, Comparison, Group, Say, Selection, chosen_scale
from fathomx.graph.energy import Categorical
from fathomx.graph.network import Network
from fathomx.inference import GaussNewton
from fathomx.layers.parameterization import MuPC, Standard, scale_learning_rates
from fathomx.learning import Backprop, Equilibrium, Learner, LearningRule
from fathomx.models import mlp, residual_cnn, residual_mlp, transformer
from fathomx.problem.evaluation import Linearization
from fathomx.problem.problem import Problem
from fathomx.problem.strength import mean_sensitivity
from fathomx.training.run_folder import write_text
from fathomx.training.scores import score

_LARGEST_PRECISION = 1e6
_PROBED, _SIGNS = 64, 8


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: `depths` and `widths` of the map, `channels` of its convolutional network and
    `text_width` of its transformer; `updates` of every network of the map; how many `examples` of
    the training part, of `validation` and of `test` are used, the first; `seeds` by network (`""`:
    the others), `search_seeds` of the search.
    """

    name: str
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    channels: int
    text_width: int
    updates: int
    examples: int
    validation: int
    test: int
    seeds: dict[str, tuple[int, ...]]
    search_seeds: tuple[int, ...]

    def seeds_of(self, network: str) -> tuple[int, ...]:
        """The seeds of a network of the map."""
        return self.seeds.get(network, self.seeds[""])


SCALES = {
    "laptop": Scale(
        name="laptop",
        depths=(8, 32, 128),
        widths=(32, 128),
        channels=8,
        text_width=32,
        updates=200,
        examples=12_800,
        validation=2000,
        test=5000,
        seeds={
            "": (0,),
            "8 nodes, width 32": (0, 1, 2),
            "8 nodes, width 128": (0, 1, 2),
            "32 nodes, width 32": (0, 1, 2),
            "32 nodes, width 128": (0, 1, 2),
        },
        search_seeds=(0, 1, 2, 3, 4),
    ),
    "paper": Scale(
        name="paper",
        depths=(8, 32, 128),
        widths=(32, 128, 512),
        channels=64,
        text_width=256,
        updates=5 * 859,
        examples=55_000,
        validation=5000,
        test=10_000,
        seeds={"": (0, 1, 2)},
        search_seeds=tuple(range(10)),
    ),
}


@runtime_checkable
class Model(Protocol):
    """A network to be built from a key, and the name of the data it learns."""

    @property
    def data(self) -> str: ...

    def network(self, key: PRNGKeyArray) -> Network: ...


@dataclasses.dataclass(frozen=True)
class Residual:
    """A residual GELU perceptron under muPC."""

    depth: int
    width: int
    categorical: bool = False
    data: str = "mnist"

    def network(self, key: PRNGKeyArray) -> Network:
        """With weights drawn from the key."""
        return residual_mlp(
            784,
            10,
            width=self.width,
            depth=self.depth,
            parameterization=MuPC(),
            key=key,
            output=Categorical() if self.categorical else None,
        )


@dataclasses.dataclass(frozen=True)
class Chain:
    """A plain perceptron whose weights have the standard deviation `gain / sqrt(fan_in)`."""

    depth: int
    width: int
    activation: str
    gain: float
    data: str = "mnist"

    def network(self, key: PRNGKeyArray) -> Network:
        """With weights drawn from the key."""
        return mlp(
            784,
            10,
            width=self.width,
            depth=self.depth,
            activation=self.activation,
            parameterization=Standard(self.gain),
            key=key,
        )


@dataclasses.dataclass(frozen=True)
class Convolutional:
    """A residual convolutional GELU network under muPC, of three stages."""

    blocks: int
    width: int
    data: str = "cifar10"

    def network(self, key: PRNGKeyArray) -> Network:
        """With weights drawn from the key."""
        return residual_cnn(self.blocks, width=self.width, parameterization=MuPC(), key=key)


@dataclasses.dataclass(frozen=True)
class Transformer:
    """A transformer under muPC; two heads."""

    depth: int
    width: int
    normalization: str | None
    data: str = "tiny-shakespeare"

    def network(self, key: PRNGKeyArray) -> Network:
        """With weights drawn from the key."""
        text = _data(self.data)
        return transformer(
            text.classes,
            text.input_shape[0],
            width=self.width,
            depth=self.depth,
            heads=2,
            normalization=self.normalization,
            parameterization=MuPC(),
            key=key,
        )


@dataclasses.dataclass(frozen=True)
class Setting:
    """A network and how it is trained; the same for all methods.

    **Fields**: `model`; `optimizer`, a name of `OPTIMIZERS`; `rates`, the learning rates to choose
    from by validation; `batch_size` and number of `updates`; `iterations` and `cg_iterations` of
    Gauss-Newton.
    """

    model: Model
    optimizer: str
    rates: tuple[float, ...]
    batch_size: int
    updates: int
    iterations: int = 1
    cg_iterations: int = 2

    def rule(self, method: str) -> LearningRule:
        """The learning rule of this name, with this setting's solver."""
        target = METHODS[method]
        if target is None:
            return Backprop()
        solver = GaussNewton(self.iterations, self.cg_iterations)
        return Aimed(solver, strength=jnp.asarray(target[0]), ceiling=jnp.asarray(target[1]))

    def schedule(self, rate: float) -> Array:
        """The learning rate of every update: cosine decay for Adam, else constant."""
        progress = jnp.arange(self.updates) / self.updates
        if self.optimizer == "Adam":
            return rate * (1 + jnp.cos(jnp.pi * progress)) / 2
        return jnp.full(self.updates, rate)


class Target(NamedTuple):
    """The strength to hold, and the largest output precision allowed for that."""

    strength: float
    ceiling: float


# What counts as substantial.
SUBSTANTIAL = ("strength 0.3", "strength 1", "strength 3")
METHODS: dict[str, Target | None] = {
    "backprop": None,
    **{f"strength {s:g}": Target(s, _LARGEST_PRECISION) for s in (0.03, 0.1, 0.3, 1.0, 3.0)},
    # An infinite strength is never reached, and the precision stays at its ceiling.
    "precision 1": Target(math.inf, 1.0),
}

OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "Adam": lambda rate: scale_learning_rates(optax.adam(rate, eps=1e-12)),
    "SGD": optax.sgd,
    "clipped SGD": lambda rate: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(rate)),
}


class Aimed(Equilibrium):
    """`Equilibrium` at the output precision `min(strength / sensitivity, ceiling)`.

    `HoldStrength` with a ceiling of 1e6, a fixed precision with an infinite strength: both numbers
    are traced, so that all methods of a network share one compiled program.
    """

    strength: Array = eqx.field(kw_only=True)
    ceiling: Array = eqx.field(kw_only=True)

    def choose(
        self, problem: Problem, key: PRNGKeyArray, start: Linearization | None = None
    ) -> tuple[Problem, Array]:
        sensitivity = mean_sensitivity(problem, key, start)
        least = jnp.finfo(sensitivity.dtype).tiny
        precision = jnp.minimum(self.strength / jnp.maximum(sensitivity, least), self.ceiling)
        return problem.with_output_precision(precision), sensitivity * precision


def map_settings(scale: Scale) -> dict[str, Setting]:
    """The networks of the map: depth by width, then other outputs and architectures."""

    def network(model: Model, *rates: float, batch_size: int = 64) -> Setting:
        return Setting(model, "Adam", rates or (0.5,), batch_size, scale.updates)

    found = {
        f"{depth} nodes, width {width}": network(Residual(depth, width))
        for depth in scale.depths
        for width in scale.widths
    }
    middle, narrow = _middle(scale)
    found[f"{middle} nodes, width {narrow}, settled"] = dataclasses.replace(
        network(Residual(middle, narrow)), iterations=3, cg_iterations=6
    )
    for width in scale.widths:
        found[f"{middle} nodes, width {width}, categorical"] = network(
            Residual(middle, width, categorical=True)
        )
    found["CNN"] = network(Convolutional(2, scale.channels), 0.25, batch_size=32)
    for name, normalization in (("transformer", None), ("transformer, layer norm", "layer")):
        model = Transformer(2, scale.text_width, normalization)
        found[name] = network(model, 0.12, 0.25, 0.5, batch_size=16)
    return found


def _middle(scale: Scale) -> tuple[int, int]:
    """The depth and the width at which what else there is gets compared."""
    return sorted(scale.depths)[len(scale.depths) // 2], min(scale.widths)


def grid_from(lowest: float, count: int = 8) -> tuple[float, ...]:
    """Learning rates from the lowest upward, four to a decade."""
    return tuple(float(f"{lowest * 10 ** (place / 4):.2g}") for place in range(count))


def search_settings() -> dict[str, Setting]:
    """Where predictive coding might be ahead of backprop."""
    tanh, gelu = Chain(5, 64, "tanh", gain=0.3), Chain(5, 64, "gelu", gain=0.3)
    # Weights as many programs draw them: evenly from -1 / sqrt(fan_in) to 1 / sqrt(fan_in).
    small = Chain(5, 64, "gelu", gain=3**-0.5)
    ordinary, plain = Chain(5, 64, "gelu", gain=2**0.5), Chain(4, 64, "gelu", gain=2**0.5)
    narrow, wider = Residual(8, 32), Residual(8, 64)
    return {
        "near a saddle, tanh, SGD": Setting(tanh, "SGD", grid_from(0.1), 64, 100),
        "near a saddle, tanh, Adam": Setting(tanh, "Adam", grid_from(1e-3), 64, 100),
        "near a saddle, GELU, SGD": Setting(gelu, "SGD", grid_from(0.32), 64, 100),
        "near a saddle, GELU, Adam": Setting(gelu, "Adam", grid_from(1e-3), 64, 100),
        "small weights, GELU, SGD": Setting(small, "SGD", grid_from(0.1), 64, 100),
        "small weights, GELU, Adam": Setting(small, "Adam", grid_from(1e-3), 64, 100),
        "ordinary weights, GELU, SGD": Setting(ordinary, "SGD", grid_from(0.0056), 64, 100),
        "ordinary weights, GELU, Adam": Setting(ordinary, "Adam", grid_from(1e-3), 64, 100),
        "30 updates, SGD": Setting(plain, "SGD", grid_from(0.01), 64, 30),
        "30 updates, Adam": Setting(plain, "Adam", grid_from(1e-3), 64, 30),
        "30 updates, residual, Adam": Setting(wider, "Adam", grid_from(0.1), 64, 30),
        "200 updates, residual, Adam": Setting(narrow, "Adam", grid_from(0.1), 64, 200),
        "online, SGD": Setting(plain, "SGD", grid_from(1.8e-3), 1, 1000),
        "online, Adam": Setting(plain, "Adam", grid_from(1e-4), 1, 1000),
        "online, residual, SGD": Setting(wider, "SGD", grid_from(1.0), 1, 1000),
        "near a saddle, GELU, clipped": Setting(gelu, "clipped SGD", grid_from(0.32), 64, 100),
        "30 updates, clipped": Setting(plain, "clipped SGD", grid_from(0.32), 64, 30),
        "online, clipped": Setting(plain, "clipped SGD", grid_from(0.032), 1, 1000),
        "batch 4, SGD": Setting(plain, "SGD", grid_from(3.2e-3), 4, 500),
        "batch 4, Adam": Setting(plain, "Adam", grid_from(3.2e-4), 4, 500),
    }


COLUMNS = (
    Column("test_accuracy", "test accuracy, %", ".1f", 100.0),
    Column("validation_accuracy", "validation accuracy, %", ".1f", 100.0),
    Column("test_loss", "test loss", ".3g"),
    Column("rate", "learning rate", ".2g"),
    Column("at_edge", "rate at the edge, %", ".0f", 100.0),
    Column("cosine_first", "cosine to backprop, first", ".2f"),
    Column("cosine_last", "last", ".2f"),
    Column("sensitivity_first", "sensitivity, first", ".2g"),
    Column("sensitivity_last", "last", ".2g"),
    Column("strength", "strength, median", ".2g"),
    Column("unsettled", "unsettled, median", ".1g"),
    Column("unsettled_largest", "largest", ".1g"),
    Column("seconds", "s", ".0f"),
)


def reproduce(scale: str, folder: Path, selection: Selection, say: Say) -> Path:
    """Runs what is missing of the comparison, then writes tables and figures.

    `results.csv` (a line per run), `results.md` (means and spreads), `differences.md` (predictive
    coding less backprop, and the substantial strength that validation chose), `map.png`,
    `other.png`, `search.png`. Raises `ValueError` for an unknown scale, network or method.
    """
    size = chosen_scale(scale, SCALES)
    mapped, searched = map_settings(size), search_settings()
    settings = {**mapped, **searched}
    comparison = Comparison(
        networks={
            **{name: size.seeds_of(name) for name in mapped},
            **dict.fromkeys(searched, size.search_seeds),
        },
        methods=tuple(METHODS),
        configuration={
            **dataclasses.asdict(size),
            "settings": {name: repr(setting) for name, setting in settings.items()},
        },
        run=lambda cell: run(settings[cell.network], cell.method, cell.seed, size),
        outcome=_outcome,
        columns=COLUMNS,
        draw=lambda found, into: _report(found, into, size),
    )
    return comparison.reproduce(folder, selection, say)


def _outcome(row: dict[str, Any]) -> str:
    if row["test_accuracy"] is None:
        return "diverged at every learning rate"
    return f"test accuracy {100 * row['test_accuracy']:.1f}% at learning rate {row['rate']:g}"


@functools.cache
def _data(name: str) -> Dataset:
    if name == "tiny-shakespeare":
        return data_sets.load(name, context=32)
    return data_sets.load(name)


@functools.cache
def _examples(name: str, count: int) -> tuple[Array, Array]:
    """The first training examples and their labels, on the device."""
    part = _data(name).train
    return jnp.asarray(part.inputs[:count]), jnp.asarray(part.labels[:count])


def batches(count: int, setting: Setting, seed: int) -> Array:
    """Which examples the batches hold, `(updates, batch size)`: whole orders one after the other.

    A function of the seed alone, so that all methods see the same.
    """
    needed = setting.updates * setting.batch_size
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(count) for _ in range(-(-needed // count))]
    return jnp.asarray(np.concatenate(orders)[:needed].reshape(setting.updates, -1))


class Course(NamedTuple):
    """What the updates reported, each `(updates,)`."""

    loss: Array
    unsettled_median: Array
    unsettled_max: Array
    strength: Array


@eqx.filter_jit
def train(
    network: Network,
    rule: LearningRule,
    optimizer: str,
    examples: tuple[Array, Array],
    chosen: Array,
    rates: Array,
    key: PRNGKeyArray,
) -> tuple[Network, Course]:
    """One update for each row of `chosen`, at the learning rate of the same place."""
    make = OPTIMIZERS[optimizer]
    state = rule.init_optimizer(make(1.0), network)
    arrays, rest = eqx.partition((network, state), eqx.is_array)
    inputs, labels = examples

    def update(arrays: Any, now: tuple[Array, Array, Array]) -> tuple[Any, Course]:
        batch, rate, number = now
        network, state = eqx.combine(arrays, rest)
        # The rate of every step is traced: no optimizer's own schedule.
        learner = Learner(rule, make(rate))
        step_key = jax.random.fold_in(key, number)
        network, state, report = learner.update(
            network, state, (inputs[batch], labels[batch]), step_key
        )
        seen = Course(*(getattr(report, name) for name in Course._fields))
        return eqx.filter((network, state), eqx.is_array), seen

    arrays, course = jax.lax.scan(update, arrays, (chosen, rates, jnp.arange(len(chosen))))
    trained: Network = eqx.combine(arrays, rest)[0]
    return trained, course


@eqx.filter_jit
def probe(
    network: Network, rule: LearningRule, inputs: Array, labels: Array, key: PRNGKeyArray
) -> tuple[Array, Array]:
    """Sensitivity of the output and cosine of the rule's update to backprop's, on one batch."""
    problem = Problem(network, inputs, labels, 1.0)
    keys = jax.random.split(key, _SIGNS)
    sensitivity = jnp.mean(jax.lax.map(lambda signs: mean_sensitivity(problem, signs), keys))
    return sensitivity, alignment(problem, rule, key).overall


class Trained(NamedTuple):
    """A network trained at one learning rate, and what validation says of it."""

    rate: float
    network: Network
    course: Course
    accuracy: float

    @property
    def finite(self) -> bool:
        """Whether neither training nor validation left the finite numbers."""
        return self.accuracy >= 0


def run(setting: Setting, method: str, seed: int, scale: Scale) -> dict[str, Any]:
    """Trains at every learning rate, chooses by validation accuracy, scores the test part once."""
    begun = time.perf_counter()
    data, rule = _data(setting.model.data), setting.rule(method)
    network = setting.model.network(jax.random.key(seed))
    count = min(scale.examples, len(data.train.labels))
    examples = _examples(setting.model.data, count)
    chosen = batches(count, setting, seed)
    validation = _first(data.validation, scale.validation)

    def trained(rate: float) -> Trained:
        schedule, key = setting.schedule(rate), jax.random.key(seed)
        after, course = train(network, rule, setting.optimizer, examples, chosen, schedule, key)
        loss, accuracy = score(after, validation)
        finite = math.isfinite(loss) and bool(jnp.isfinite(course.loss).all())
        return Trained(rate, after, course, accuracy if finite else -1.0)

    tried = [trained(rate) for rate in setting.rates]
    best = max(tried, key=lambda one: one.accuracy)
    row: dict[str, Any] = {
        "tried": {f"{one.rate:g}": one.accuracy if one.finite else None for one in tried},
        "test_accuracy": None,
    }
    if not best.finite:
        return row
    inputs, labels = (each[:_PROBED] for each in examples)
    first, last = (
        probe(each, rule, inputs, labels, jax.random.key(seed)) for each in (network, best.network)
    )
    test_loss, test_accuracy = score(best.network, _first(data.test, scale.test))
    row.update(
        test_accuracy=test_accuracy,
        test_loss=test_loss,
        validation_accuracy=best.accuracy,
        rate=best.rate,
        at_edge=float(len(tried) > 1 and best.rate in (setting.rates[0], setting.rates[-1])),
        sensitivity_first=float(first[0]),
        sensitivity_last=float(last[0]),
        cosine_first=float(first[1]),
        cosine_last=float(last[1]),
        seconds=time.perf_counter() - begun,
    )
    if method != "backprop":
        row.update(
            strength=float(jnp.median(best.course.strength)),
            unsettled=float(jnp.median(best.course.unsettled_median)),
            unsettled_largest=float(best.course.unsettled_max.max()),
        )
    return row


def _first(part: Part, count: int) -> Part:
    return Part(part.inputs[:count], part.labels[:count])


def _report(found: list[Group], folder: Path, scale: Scale) -> None:
    present = {group.network for group in found}
    mapped = [name for name in map_settings(scale) if name in present]
    searched = [name for name in search_settings() if name in present]
    write_text(folder / "differences.md", differences_table(found, mapped + searched))
    panels = {
        f"{depth} nodes": {f"width {w}": f"{depth} nodes, width {w}" for w in scale.widths}
        for depth in scale.depths
    }
    if mapped:
        draw_map(found, panels, folder / "map.png")
        draw_map(found, _other_panels(scale), folder / "other.png")
    if searched:
        draw_search(found, searched, folder / "search.png")


def _other_panels(scale: Scale) -> dict[str, dict[str, str]]:
    middle, narrow = _middle(scale)
    widths = [(f"width {w}", f"{middle} nodes, width {w}, categorical") for w in scale.widths]
    return {
        f"categorical, {middle} nodes": dict(widths),
        "residual CNN": {"CNN": "CNN"},
        "transformer": {"plain": "transformer", "layer norm": "transformer, layer norm"},
        f"{middle} nodes, width {narrow}": {
            "default solver": f"{middle} nodes, width {narrow}",
            "settled": f"{middle} nodes, width {narrow}, settled",
        },
    }


class Difference(NamedTuple):
    """Test accuracy of a method less that of backprop, in points, for every seed that has both."""

    network: str
    method: str
    points: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.points)

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; 0 for one."""
        return statistics.stdev(self.points) if len(self.points) > 1 else 0.0

    @property
    def ahead(self) -> int:
        """For how many seeds predictive coding is ahead."""
        return sum(point > 0 for point in self.points)


def differences(found: Sequence[Group], network: str) -> dict[str, Difference]:
    """By method, the difference to backprop on the same seeds; diverged runs are left out."""
    accuracies = {
        group.method: {
            row["seed"]: 100 * row["test_accuracy"]
            for row in group.rows
            if row["test_accuracy"] is not None
        }
        for group in found
        if group.network == network
    }
    reference = accuracies.pop("backprop", {})
    paired = {
        method: tuple(own[seed] - reference[seed] for seed in sorted(own.keys() & reference.keys()))
        for method, own in accuracies.items()
    }
    return {m: Difference(network, m, points) for m, points in paired.items() if points}


def chosen_method(found: Sequence[Group], network: str) -> str | None:
    """The substantial strength with the best mean validation accuracy; `None` if none was run."""
    means = {
        group.method: group.mean("validation_accuracy")
        for group in found
        if group.network == network
        and group.method in SUBSTANTIAL
        and group.values("validation_accuracy")
    }
    return max(means, key=lambda method: means[method]) if means else None


def differences_table(found: Sequence[Group], networks: Sequence[str]) -> str:
    """Predictive coding less backprop in points, mean and standard deviation over the seeds.

    The last columns are of the substantial strength that validation chose.
    """
    methods = [method for method in METHODS if method != "backprop"]
    lines = [
        "| setting | backprop, % | " + " | ".join(methods) + " | chosen of 0.3 and more | ahead |",
        "|---|---|" + "---|" * (len(methods) + 2),
    ]
    for network in networks:
        own = differences(found, network)
        base = [g for g in found if (g.network, g.method) == (network, "backprop")]
        cells = [f"{100 * base[0].mean('test_accuracy'):.1f}" if base else "-"]
        cells += [_signed(own.get(method)) for method in methods]
        chosen = chosen_method(found, network)
        best = own.get(chosen) if chosen else None
        cells += (
            [f"{chosen}: {_signed(best)}", f"{best.ahead} of {len(best.points)}"]
            if best
            else (["-", "-"])
        )
        lines.append(f"| {network} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _signed(difference: Difference | None) -> str:
    if difference is None:
        return "-"
    text = f"{difference.mean:+.1f}"
    return text if len(difference.points) == 1 else f"{text} ± {difference.deviation:.1f}"


_ROWS = (
    ("test_accuracy", "test accuracy, %", 100.0),
    ("cosine_last", "cosine to backprop", 1.0),
    ("stiffening", "sensitivity, last / first", 1.0),
)
_HELD = {name: t.strength for name, t in METHODS.items() if t and math.isfinite(t.strength)}


def _values(group: Group, key: str, scale: float) -> list[float]:
    if key == "stiffening":
        pairs = zip(
            group.values("sensitivity_last"), group.values("sensitivity_first"), strict=True
        )
        return [last / first for last, first in pairs]
    return [scale * value for value in group.values(key)]


def draw_map(found: Sequence[Group], panels: Mapping[str, Mapping[str, str]], path: Path) -> Path:
    """Accuracy, cosine and stiffening against the strength held, a column for each of `panels`.

    `panels` names the networks of each column and what to call them. Lines are means over the
    seeds, bars span them; backprop is a dashed line across, precision 1 a hollow diamond at the
    strength it had.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure, axes = new_figure(7.4, rows=len(_ROWS), columns=len(panels), sharex=True)
    by_name = {(group.network, group.method): group for group in found}
    colors: dict[str, str] = {}
    for column, (title, networks) in enumerate(panels.items()):
        own = axes[column :: len(panels)]
        set_title(own[0], title)
        own[0].title.set_size(9)
        for label, network in networks.items():
            color = colors.setdefault(label, COLORS[len(colors)])
            groups = {
                name: by_name[network, name] for name in METHODS if (network, name) in by_name
            }
            for axis, (key, _, scale) in zip(own, _ROWS, strict=True):
                _draw_network(axis, groups, functools.partial(_values, key=key, scale=scale), color)
        own[-1].set_xlabel("strength")
    log_axes("not run", *axes[-len(panels) :])
    for place, axis in enumerate(axes):
        row, column = divmod(place, len(panels))
        if column == 0:
            axis.set_ylabel(_ROWS[row][1])
        if has_lines(axis):
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        elif row < len(_ROWS) - 1:
            note(axis, "not run")
    keys = [legend_key(name, color=c, marker="o", markersize=4) for name, c in colors.items()]
    keys.append(legend_key("backprop", color="black", linestyle=DASHES[1], linewidth=1.0))
    keys.append(legend_key("precision 1, at its median strength", **_FIXED, color="black"))
    legend(figure, keys)
    return save(figure, path)


_FIXED = {"marker": "D", "linestyle": "none", "markerfacecolor": "none", "markersize": 6}


def _draw_network(
    axis: Any,
    groups: Mapping[str, Group],
    values: Callable[[Group], list[float]],
    color: str,
) -> None:
    """One network in one panel: strengths held, backprop across, precision 1 where it was."""
    held = [(s, values(groups[name])) for name, s in _HELD.items() if name in groups]
    held = [(strength, seen) for strength, seen in held if seen]
    for strength, seen in held:
        axis.plot([strength] * 2, [min(seen), max(seen)], color=color)
    if held:
        means = [statistics.fmean(seen) for _, seen in held]
        axis.plot([s for s, _ in held], means, color=color, marker="o", markersize=4)
    backprop = values(groups["backprop"]) if "backprop" in groups else []
    if backprop:
        level = statistics.fmean(backprop)
        axis.axhline(level, color=color, linestyle=DASHES[1], linewidth=1.0)
    fixed = groups.get("precision 1")
    if fixed and values(fixed):
        axis.plot(fixed.mean("strength"), statistics.fmean(values(fixed)), color=color, **_FIXED)


def draw_search(found: Sequence[Group], networks: Sequence[str], path: Path) -> Path:
    """Predictive coding less backprop in every setting of the search, by method.

    Markers are means over the seeds, bars their standard deviations.
    """
    methods = [method for method in METHODS if method != "backprop"]
    figure, (axes,) = new_figure(1.6 + 0.5 * len(networks))
    axes.axvline(0, color="black", linewidth=1.0)
    shown = []
    for place, method in enumerate(methods):
        offset = 0.13 * (place - (len(methods) - 1) / 2)
        style = {"color": COLORS[place], "marker": "PosD^v"[place], "markersize": 5}
        shown.append(legend_key(method, linestyle="none", **style))
        for row, network in enumerate(networks):
            difference = differences(found, network).get(method)
            if difference is not None:
                axes.errorbar(
                    difference.mean,
                    row + offset,
                    xerr=difference.deviation,
                    linestyle="none",
                    elinewidth=1.2,
                    **style,
                )
    axes.set_yticks(range(len(networks)), networks)
    axes.set_ylim(len(networks) - 0.4, -0.6)
    axes.set_xlabel("test accuracy, predictive coding less backprop, points")
    set_title(axes, "Settings of the search, learning rates chosen by validation")
    legend(figure, shown)
    return save(figure, path)
