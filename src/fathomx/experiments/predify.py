"""Do feedbacks around a network that was trained without them help it to see through noise?

Choksi et al. (2021), arXiv 2106.02749: with feedbacks that learned to reconstruct, and predictive
coding dynamics on top, networks trained for nothing but classes see more in noisy images, over the
first time steps. Here on CIFAR-10, with feedbacks as published and with feedbacks that learned to
predict the activities of an image from those of its noisy copy, each with the published dynamics
and with inference of the energy that the same feedbacks define.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx import data as data_sets
from fathomx.data import CropAndFlip
from fathomx.drawing.canvas import Canvas
from fathomx.drawing.gallery import draw_gallery
from fathomx.drawing.style import COLORS, DASHES, new_figure, save
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group
from fathomx.experiments.imaging import he, in_parts, order, trained
from fathomx.graph.energy import Categorical, Gaussian
from fathomx.graph.entries import Node, Root
from fathomx.graph.feedback import Feedback
from fathomx.graph.network import INPUT, Network
from fathomx.inference import GaussNewton, Predify, Solver, infer, trace
from fathomx.layers import Bias
from fathomx.layers.convolution import Convolution, max_pool
from fathomx.layers.scaled import Affine, Linear
from fathomx.learning import Backprop, Equilibrium, Learner
from fathomx.learning.learner import cosine_adam
from fathomx.models import with_feedbacks, wrap
from fathomx.problem.energies import predict
from fathomx.problem.evaluation import Evaluation
from fathomx.problem.problem import Problem
from fathomx.records.pictures import PictureRow, as_bytes, from_bytes

CLEAN, DENOISING = "clean", "denoising"
PUBLISHED, ENERGY = "published", "energy"
METHODS = (f"{DENOISING}, {PUBLISHED}", f"{DENOISING}, {ENERGY}", f"{CLEAN}, {PUBLISHED}")
_SHOWN = 8


# Hashed as the one that it is: what is trained is kept by it.
@dataclasses.dataclass(frozen=True, eq=False)
class Scale:
    """How large the comparison is.

    **Fields**: `seeds` by data set; `channels` of the convolutions; `epochs`, `feedback_epochs`,
    `batch` and the rates of Adam, of the network and of its feedbacks; `most_noise`, standard
    deviation of the noise that denoising feedbacks learn from, in those of a pixel; `lost`, what
    noise costs the feedforward pass where it is judged, in parts of 1; `spared`, what clean
    validation images may lose by the rates that are chosen, with its standard error; `steps` of
    inference at most; `searched` validation images that rates are chosen on; `judged` test images.
    """

    name: str
    seeds: dict[str, tuple[int, ...]]
    channels: tuple[int, ...] = (32, 64, 128, 256)
    epochs: int = 4
    feedback_epochs: int = 1
    batch: int = 100
    rate: float = 2e-3
    feedback_rate: float = 3e-3
    most_noise: float = 0.6
    lost: float = 0.2
    spared: float = 0.005
    steps: int = 3
    searched: int = 5000
    judged: int = 5000


SCALES = {"laptop": Scale("laptop", {"cifar10": (0, 1)})}

COLUMNS = (
    Column("noise", "noise, standard deviations of a pixel", ".3f"),
    Column("feedforward_clean", "feedforward, clean, %", ".2f", 100.0),
    Column("clean", "with feedbacks, clean, %", ".2f", 100.0),
    Column("feedforward_noisy", "feedforward, noisy, %", ".2f", 100.0),
    Column("noisy", "with feedbacks, noisy, %", ".2f", 100.0),
    Column("gain", "points gained under noise", ".2f", 100.0),
    Column("step", "at step", ".0f"),
    Column("change", "points gained on clean images", ".2f", 100.0),
    Column("unsettled", "unsettled", ".3f"),
    Column("seconds", "choosing rates, s", ".0f"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """Images, the same images with noise, and their labels."""

    images: np.ndarray
    noisy: np.ndarray
    labels: np.ndarray

    def recognized(self, network: Network, solver: Solver) -> tuple[np.ndarray, np.ndarray]:
        """Which clean and noisy images are recognized, at every step `(images, steps + 1)`."""

        def right(images: np.ndarray) -> np.ndarray:
            found: np.ndarray = in_parts(lambda x: _seen_classes(network, solver, x), images)
            return found == self.labels[:, None]

        return right(self.images), right(self.noisy)


@eqx.filter_jit
def _seen_classes(network: Network, solver: Solver, images: Array) -> Array:
    """The class of every image, at the start and after every step."""

    def labels(problem: Problem, here: Evaluation) -> Array:
        return problem.complete(here.activities)[network.output.name].argmax(axis=-1)

    return trace(Problem(network, {INPUT: images}), solver, labels)[1].T


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """What the feedbacks and the dynamics of a method change, at rates chosen before."""
    kind, how = cell.method.split(", ")
    network = _with_feedbacks_learned(cell.network, cell.seed, kind, scale)
    level = _noise_level(cell.network, cell.seed, scale)
    data = _images(cell.network)
    validation = _with_noise(data.validation, level, cell.seed, scale.searched)
    begun = time.perf_counter()
    rates, at = chosen_rates(network, DYNAMICS[how], validation, scale)
    seconds = time.perf_counter() - begun
    test = _with_noise(data.test, level, cell.seed + 1, scale.judged)
    posed, solver = DYNAMICS[how].posed(network, rates, scale.steps)
    clean, noisy = (found.mean(axis=0) for found in test.recognized(posed, solver))
    few, canvas = jnp.asarray(test.noisy[:_SHOWN]), Canvas.of(data.train.inputs, data.image_shape)
    chosen, until = DYNAMICS[how].posed(network, rates, at)
    relaxed = infer(Problem(chosen, {INPUT: few}), until)
    back = network.feedbacks[0]
    before = network.unroll(None, few)[back.parents[0]]
    after = relaxed.activities[back.parents[0]]
    return {
        "noise": level,
        "rates": rates,
        "feedforward_clean": clean[0],
        "step": at,
        "clean": clean[at],
        "feedforward_noisy": noisy[0],
        "noisy": noisy[at],
        "gain": noisy[at] - noisy[0],
        "change": clean[at] - clean[0],
        "over_time": {"clean": clean.tolist(), "noisy": noisy.tolist()},
        "unsettled": None if how == PUBLISHED else float(relaxed.unsettled.mean()),
        "seconds": seconds,
        "pictures": {
            name: as_bytes(canvas(values))
            for name, values in {
                "image": test.images[:_SHOWN],
                "noisy": few,
                "from the first node": jax.vmap(back.function)(before),
                "after inference": jax.vmap(back.function)(after),
            }.items()
        },
    }


# What is trained


class Stage(eqx.Module):
    """`pool(W * phi(z) + b)`: a convolution, and the image halved or not."""

    map: Affine
    activation: Callable[[Array], Array]
    pool: Callable[[Array], Array]

    def __call__(self, activity: Array) -> Array:
        return self.pool(self.map(self.activation(activity)))


def convolutional(shape: tuple[int, ...], classes: int, channels: tuple[int, ...], key: Any) -> Any:
    """A network of convolutions, one linear map at the end.

    All convolutions but the last halve the image: the last has more activities than it reads, so
    that little of what it read is lost on the way back.
    """
    keys = jax.random.split(key, len(channels) + 1)
    sizes = (shape[-1], *channels)
    layers: list[Any] = []
    for index, (own, made) in enumerate(zip(keys, channels, strict=False)):
        weight = he(own, (3, 3, sizes[index], made))
        activation = jax.nn.relu if index else _unchanged
        pool = max_pool if index < len(channels) - 1 else _unchanged
        layers.append(Stage(Affine(Convolution(weight), Bias(jnp.zeros(made))), activation, pool))
    size = math.prod(side >> len(channels) - 1 for side in shape[:2]) * channels[-1]
    last = Affine(Linear(he(keys[-1], (classes, size), size)), Bias(jnp.zeros(classes)))
    names = [f"stage{index + 1}" for index in range(len(channels))]
    layers += [jax.nn.relu, jnp.ravel, last]
    return wrap(layers, shape, [*names, "output"], output=Categorical())


def _unchanged(activity: Array) -> Array:
    return activity


@functools.lru_cache(maxsize=1)
def _images(name: str) -> Any:
    return data_sets.load(name).images()


@functools.lru_cache(maxsize=1)
def _trained(name: str, seed: int, scale: Scale) -> Network:
    """The network, trained by backprop on images that are shifted and mirrored."""
    train, classes = _images(name).train, _images(name).classes
    rng = np.random.default_rng(seed)
    change = jax.jit(jax.vmap(CropAndFlip(train.inputs.shape[1] // 8)))
    network = convolutional(train.inputs.shape[1:], classes, scale.channels, jax.random.key(seed))
    chosen = order(len(train.inputs), scale.batch, scale.epochs, seed)

    def batches(rows: np.ndarray) -> tuple[Array, Array]:
        keys = jax.random.split(jax.random.key(rng.integers(2**31)), len(rows))
        return change(jnp.asarray(train.inputs[rows]), keys), jnp.asarray(train.labels[rows])

    learner = Learner(Backprop(), cosine_adam(scale.rate, len(chosen)))
    return trained(learner, network, batches, chosen, seed)[0]


@functools.lru_cache(maxsize=2)
def _with_feedbacks_learned(name: str, seed: int, kind: str, scale: Scale) -> Network:
    """The trained network with feedbacks, which alone learn, from images without labels.

    At the feedforward pass no entry has an error, so that without inference on images alone only
    the feedbacks have something to learn.
    """
    images = _images(name).train.inputs
    network = with_feedbacks(_trained(name, seed, scale), key=jax.random.key(seed + 1000))
    rng = np.random.default_rng(seed)
    chosen = order(len(images), scale.batch, scale.feedback_epochs, seed)

    def clean(rows: np.ndarray) -> dict[str, Array]:
        return {INPUT: jnp.asarray(images[rows])}

    def noisy(rows: np.ndarray) -> dict[str, Array]:
        # More often little noise than much, and so that images without any stay as they are.
        level = scale.most_noise * rng.random(rows.shape + (1,) * (images.ndim - 1)) ** 2
        added = level * rng.normal(size=(*rows.shape, *images.shape[1:]))
        return {INPUT: jnp.asarray(images[rows] + added, jnp.float32), _CLEAN: images[rows]}

    given, batches = (twins(network), noisy) if kind == DENOISING else (network, clean)
    rule = Equilibrium(GaussNewton(0), output_precision=1.0)
    learner = Learner(rule, cosine_adam(scale.feedback_rate, len(chosen)))
    learned, _ = trained(learner, given, batches, chosen, seed)
    functions = {feedback.name: feedback.function for feedback in learned.feedbacks}
    return network.with_predictors(
        {f.name: f.with_function(functions[f.name]) for f in network.feedbacks}
    )


_CLEAN = "clean"


def twins(network: Network) -> Network:
    """The network beside itself, with the same weights, on a clean copy of its input.

    Its feedbacks predict, from the nodes that see the input, the nodes that see the clean one.
    """
    own = [entry for entry in network.entries if not entry.is_root]
    named = {INPUT: _CLEAN} | {entry.name: f"{_CLEAN} {entry.name}" for entry in own[:-1]}

    def copied(entry: Any, names: Mapping[str, str]) -> Node:
        parents = [names.get(name, name) for name in network.parents[entry.name]]
        return Node(names.get(entry.name, entry.name), entry.function, parents, energy=entry.energy)

    return Network(
        [
            *network.roots,
            Root(_CLEAN, network.input_shape, energy=None),
            *[copied(entry, named) for entry in own[:-1]],
            *[copied(entry, {}) for entry in own],
        ],
        feedbacks=[
            Feedback(f.name, named[f.of], f.function, f.parents, f.energy)
            for f in network.feedbacks
        ],
        share={named[entry.name]: entry.name for entry in own[:-1]},
    )


# What is chosen

Rates = Mapping[str, float]
_CORRECTION = "correction"


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """Inference with feedbacks at rates that have a name, all of which may be 0.

    **Fields**: `names`, of the rates that a network has; `values`, tried for each of them in turn;
    `posed`, the network and the solver at some rates, with so many steps.
    """

    names: Callable[[Network], list[str]]
    values: tuple[float, ...]
    posed: Callable[[Network, Rates, int], tuple[Network, Solver]]


def _published(network: Network, rates: Rates, steps: int) -> tuple[Network, Solver]:
    """A part of every activity from above, and steps of correction in parts of a whole one."""
    told = {f.of: rates[f.name] for f in network.feedbacks if f.of != INPUT}
    correction: Any = 0.0
    if rates[_CORRECTION]:
        # The gradient of a mean over units is as many times smaller as there are.
        units = {f.parents[0]: math.prod(network.shapes[f.of]) for f in network.feedbacks}
        correction = {name: rates[_CORRECTION] * size / 2 for name, size in units.items()}
    forward = {name: 1 - value for name, value in told.items()}
    return network, Predify(forward, told, correction, steps)


def _energetic(network: Network, rates: Rates, steps: int) -> tuple[Network, Solver]:
    """The two highest feedbacks with precisions of their own; those of the nodes are 1."""
    # An array, so that one compiled program serves all.
    changed = {
        f.name: f.with_energy(Gaussian(jnp.asarray(max(rates.get(f.name, 0.0), _NONE))))
        for f in network.feedbacks
    }
    return network.with_predictors(changed), GaussNewton(min(steps, 2), 2)


_NONE = 1e-6
DYNAMICS = {
    PUBLISHED: Dynamics(
        lambda network: [*_from_the_top(network)[:-1], _CORRECTION],
        (0.1, 0.2, 0.3, 0.4),
        _published,
    ),
    ENERGY: Dynamics(lambda network: _from_the_top(network)[:2], (0.03, 0.1, 0.3), _energetic),
}


def _from_the_top(network: Network) -> list[str]:
    return [feedback.name for feedback in reversed(network.feedbacks)]


def chosen_rates(
    network: Network, dynamics: Dynamics, validation: Seen, scale: Scale
) -> tuple[dict[str, float], int]:
    """The rates and the step at which most noisy validation images are recognized.

    Clean ones may lose hardly anything, the standard error of the loss included: the best of many
    rates is one that was lucky, too. One rate after another from 0 up, for as long as clean images
    are spared at any step.
    """
    best = dict.fromkeys(dynamics.names(network), 0.0)
    most, at = 0.0, 0
    for name in best:
        for value in dynamics.values if at else (0.0, *dynamics.values):
            tried = {**best, name: value}
            clean, noisy = validation.recognized(*dynamics.posed(network, tried, scale.steps))
            lost = clean[:, :1].astype(float) - clean[:, 1:]
            spread = lost.std(axis=0) / math.sqrt(len(lost))
            spared = lost.mean(axis=0) + spread <= scale.spared
            found = np.where(spared, noisy[:, 1:].mean(axis=0), 0)
            if not spared.any():
                break
            if found.max() > most:
                best, most, at = tried, found.max(), int(found.argmax()) + 1
    return best, at


def _with_noise(part: Any, level: float, seed: int, count: int) -> Seen:
    """The first images of a part, with Gaussian noise."""
    images = part.inputs[:count]
    noise = np.random.default_rng(seed).normal(size=images.shape)
    return Seen(images, (images + level * noise).astype(np.float32), part.labels[:count])


@functools.lru_cache(maxsize=1)
def _noise_level(name: str, seed: int, scale: Scale) -> float:
    """The standard deviation that costs the feedforward pass so much of validation images."""
    network, part = _trained(name, seed, scale), _images(name).validation
    classify = eqx.filter_jit(lambda x: predict(network, x).argmax(axis=-1))

    def accuracy(level: float) -> float:
        seen = _with_noise(part, level, seed, scale.searched)
        return float(np.mean(in_parts(classify, seen.noisy) == seen.labels))

    least, begin, end = accuracy(0.0) - scale.lost, 0.0, 2.0
    for _ in range(8):
        level = (begin + end) / 2
        begin, end = (level, end) if accuracy(level) > least else (begin, level)
    return (begin + end) / 2


# What is drawn


def draw_gains(groups: list[Group], path: Path) -> None:
    """Points gained on the feedforward pass, step by step; a thin line for every seed."""
    figure, panels = new_figure(3.6, columns=2)
    for axes, kind, title in zip(
        panels, ("noisy", "clean"), ("under noise", "on clean images"), strict=True
    ):
        for index, group in enumerate(groups):
            rows = np.array([row["over_time"][kind] for row in group.rows])
            gained = 100 * (rows - rows[:, :1])
            color = COLORS[METHODS.index(group.method) % len(COLORS)]
            axes.plot(gained.T, color=color, linewidth=0.5, alpha=0.4)
            axes.plot(
                gained.mean(axis=0), color=color, linestyle=DASHES[index % 2], label=group.method
            )
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_xticks(range(max(len(row["over_time"][kind]) for g in groups for row in g.rows)))
        axes.set_xlabel("step")
        axes.set_title(title, fontsize=10)
    panels[0].set_ylabel("points gained on the feedforward pass")
    panels[0].legend(fontsize=7, frameon=False)
    save(figure, path)


def _lines(method: str) -> str:
    return method.replace(", ", ",\n")


def draw_seen(groups: list[Group], path: Path) -> None:
    """Noisy images as the first node's feedback tells them, before and after inference."""
    shape = tuple(_images(groups[0].network).image_shape)
    pictures = groups[0].rows[0]["pictures"]
    rows = [PictureRow(title, from_bytes(pictures[title], shape)) for title in ("image", "noisy")]
    for group in groups:
        pictures = group.rows[0]["pictures"]
        for title, told in (("from the first node", "before"), ("after inference", "after")):
            shown = from_bytes(pictures[title], shape)
            rows.append(PictureRow(f"{_lines(group.method)}\n{told}", shown))
    draw_gallery(rows, path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: scale.seeds,
    methods=METHODS,
    run=run,
    outcome=said(
        "noisy {feedforward_noisy:.2%} to {noisy:.2%}, clean {feedforward_clean:.2%} to {clean:.2%}"
    ),
    columns=COLUMNS,
    figures={"accuracy.png": draw_gains, "seen-{network}.png": draw_seen},
)

reproduce = EXPERIMENT.reproduce
