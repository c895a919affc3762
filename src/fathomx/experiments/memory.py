"""How many images does a predictive coding network remember, and in which order?

Salvatori et al. (2021), arXiv 2109.08063: a generative network that has learned a set of images
recalls them from a part or from noise, better than an autoencoder and a modern Hopfield network.
Here over the number of images, beside the best Hopfield network of any inverse temperature and the
nearest stored image, which is hard to beat. Sequences are recalled image by image, as in Tang et
al. (2023), doi 10.1371/journal.pcbi.1010719.
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
from jaxtyping import Array

from fathomx.drawing.gallery import draw_gallery
from fathomx.drawing.style import COLORS, new_figure, save
from fathomx.experiments.frame import Experiment
from fathomx.experiments.grid import Cell, Column, Group, Row
from fathomx.experiments.imaging import (
    Pixels,
    in_parts,
    order,
    pixels,
    squared_error,
    trained,
)
from fathomx.graph.clamp import Clamp
from fathomx.graph.energy import Gaussian
from fathomx.graph.entries import Node, Root
from fathomx.graph.network import Network
from fathomx.inference import GaussNewton, infer
from fathomx.layers.parameterization import Role, Standard
from fathomx.layers.scaled import Affine, Bias, Linear
from fathomx.learning import Backprop, Equilibrium, Learner
from fathomx.learning.learner import cosine_adam
from fathomx.models import mlp
from fathomx.problem.energies import predict
from fathomx.problem.problem import Problem
from fathomx.records.pictures import PictureRow, as_bytes, from_bytes

METHODS = ("PC", "autoencoder", "Hopfield", "nearest")
IN_ORDER = "mnist in order"
# From those that average everything to those that take the nearest.
TEMPERATURES = tuple(float(beta) for beta in np.geomspace(0.01, 100, 9))
_RETRIEVALS = 5
_FILLS = 10
_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is.

    **Fields**: numbers of `images` by data set; `latents`; `updates` of Adam, with `batch` and
    `rate`; `precision` of pixels; standard deviation of the `noise`;
    `recalled`, the mean squared error below which an image is recalled; images of a `sequence`,
    hidden units and updates of the network that learns it; `seeds`.
    """

    name: str
    images: Mapping[str, tuple[int, ...]]
    latents: int = 256
    updates: int = 600
    batch: int = 128
    rate: float = 1e-2
    precision: float = 1e4
    noise: float = 0.2
    recalled: float = 0.005
    sequence: int = 50
    units: int = 256
    sequence_updates: int = 1000
    seeds: tuple[int, ...] = (0,)


SCALES = {
    "laptop": Scale("laptop", {"cifar10": (64, 128, 256, 512, 1024), "mnist": (64, 256, 1024)})
}

COLUMNS = (
    Column("half_recalled", "recalled from the upper half, %", ".1f", 100.0),
    Column("half_error", "error of hidden pixels", ".5f"),
    Column("noise_recalled", "recalled from noise, %", ".1f", 100.0),
    Column("noise_error", "error", ".5f"),
    Column("in_order", "recalled in order", ".0f"),
    Column("temperature", "best inverse temperature, half", ".3g"),
    Column("energy", "energy of the stored images", ".3g"),
    Column("seconds", "learning, s", ".0f"),
)


def networks(scale: Scale) -> dict[str, tuple[int, ...]]:
    """Every number of images of every data set, and the sequence."""
    names = [f"{data}, {n} images" for data, counts in scale.images.items() for n in counts]
    return dict.fromkeys([*names, f"{IN_ORDER}, {scale.sequence} images"], scale.seeds)


def applies(cell: Cell) -> bool:
    """Whether this method is for this network: sequences are recalled by two of them."""
    return not cell.network.startswith(IN_ORDER) or cell.method in ("PC", "Hopfield")


def outcome(row: Row) -> str:
    """What is said of a row."""
    if row.get("in_order") is not None:
        return f"{row['in_order']} recalled in order"
    half, noise = (100 * row[f"{name}_recalled"] for name in ("half", "noise"))
    return f"{half:.1f}% recalled from half, {noise:.1f}% from noise"


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """A set of images stored in one way, and how many of them are recalled."""
    data, count = cell.network.split(", ")
    number = int(count.split()[0])
    stored = pixels(data.split()[0])["train"].first(number)
    if data == IN_ORDER:
        return in_order(cell, scale, stored)
    begun = time.perf_counter()
    recall = {
        "PC": by_inference,
        "autoencoder": by_autoencoder,
        "Hopfield": by_retrieval,
        "nearest": by_neighbor,
    }[cell.method](cell.seed, scale, stored)
    seconds = time.perf_counter() - begun
    seen = stored.upper_half
    rng = np.random.default_rng((cell.seed, number))
    noisy = stored.images + scale.noise * rng.normal(size=stored.images.shape)
    half, of_half = recall(stored.images, seen)
    denoised, _ = recall(noisy.astype(np.float32), None)
    errors = {
        "half": squared_error(half, stored.images, ~seen),
        "noise": squared_error(denoised, stored.images),
    }
    shown = slice(0, _SHOWN)
    return {
        **{f"{name}_recalled": np.mean(error < scale.recalled) for name, error in errors.items()},
        **{f"{name}_error": error.mean() for name, error in errors.items()},
        **of_half,
        "seconds": seconds,
        "pictures": {
            "noisy": as_bytes(noisy[shown]),
            "half": as_bytes(half[shown]),
            "noise": as_bytes(denoised[shown]),
        },
    }


# What recalls images from those given and what is seen of them (all of them if it is `None`).
Recall = Callable[[np.ndarray, np.ndarray | None], tuple[np.ndarray, dict[str, Any]]]


def memory(stored: Pixels, latents: int, precision: float, seed: int) -> Network:
    """A latent root that predicts images by one affine map; its bias is their mean."""
    size = stored.images.shape[1]
    mapped: Linear = Standard(0.3).linear(
        Role.OUTPUT, (latents, size), latents, 2, jax.random.key(seed)
    )
    affine = Affine(mapped, Bias(jnp.asarray(stored.images.mean(axis=0))))
    return Network([Root("latent", (latents,)), Node("output", affine, energy=Gaussian(precision))])


def _some(updates: int, count: int, batch: int, seed: int) -> np.ndarray:
    """Which images each of so many updates sees."""
    return order(count, batch, -(-updates // (count // batch)), seed, updates)


def by_inference(seed: int, scale: Scale, stored: Pixels) -> Recall:
    """A generative network, learned by predictive coding; what is not seen is inferred."""
    network = memory(stored, scale.latents, scale.precision, seed)
    count = len(stored.images)
    batch = min(scale.batch, count)
    chosen = _some(scale.updates, count, batch, seed)
    learner = Learner(
        Equilibrium(GaussNewton(1, 15), output_precision=1.0),
        cosine_adam(scale.rate, len(chosen)),
        pose=lambda network, images: Problem(network, {"output": images}),
    )
    network, reports = trained(
        learner, network, lambda rows: jnp.asarray(stored.images[rows]), chosen, seed
    )
    energy = float(reports.energy[-1].sum())

    @eqx.filter_jit
    def relaxed(images: Array, seen: Array) -> tuple[Array, Array]:
        problem = Problem(network, {"output": Clamp(images, seen)})
        found = infer(problem, GaussNewton(10, 20))
        return predict(network, {"latent": found.activities["latent"]}), found.unsettled

    def recall(images: np.ndarray, seen: np.ndarray | None) -> tuple[np.ndarray, dict[str, Any]]:
        known = jnp.ones(images.shape[1], bool) if seen is None else jnp.asarray(seen)
        found, unsettled = in_parts(lambda x: relaxed(x, known), images, 128)
        return found, {"energy": energy, "unsettled": float(unsettled.max())}

    return recall


def by_autoencoder(seed: int, scale: Scale, stored: Pixels) -> Recall:
    """An autoencoder with as many latents, by backprop, applied until it changes little.

    What is hidden is filled with the mean of the stored images at first, then with what it says.
    """
    size = stored.images.shape[1]
    network = mlp(
        size, size, width=scale.latents, depth=2, activation="linear", bias=True,
        key=jax.random.key(seed),
    )  # fmt: skip
    count = len(stored.images)
    chosen = _some(5 * scale.updates, count, min(scale.batch, count), seed)
    mean = stored.images.mean(axis=0)

    def batches(rows: np.ndarray) -> tuple[Array, Array]:
        images = jnp.asarray(stored.images[rows] - mean)
        return images, images

    learner = Learner(Backprop(), cosine_adam(scale.rate / 10, len(chosen)))
    network, _ = trained(learner, network, batches, chosen, seed)
    apply = eqx.filter_jit(lambda x: predict(network, x))

    def recall(images: np.ndarray, seen: np.ndarray | None) -> tuple[np.ndarray, dict[str, Any]]:
        known = np.ones(size, bool) if seen is None else seen
        now = np.where(known, images, mean).astype(np.float32)
        for _ in range(1 if seen is None else _FILLS):
            found = in_parts(apply, now - mean) + mean
            now = np.where(known, images, found).astype(np.float32)
        return found, {}

    return recall


def by_retrieval(seed: int, scale: Scale, stored: Pixels) -> Recall:
    """Modern Hopfield retrieval, `q <- softmax(-beta/2 ||q - x_i||^2) X` over what is seen.

    At the inverse temperature `beta` that recalls most; among equal ones, with the least error.
    Source: Ramsauer et al. (2021), arXiv 2008.02217; with distances for images of unlike length.
    """

    def recall(images: np.ndarray, seen: np.ndarray | None) -> tuple[np.ndarray, dict[str, Any]]:
        where = slice(None) if seen is None else ~seen
        tried = []
        for beta in TEMPERATURES:
            found = retrieved(images, stored.images, seen, beta)
            missed = ((found - stored.images) ** 2)[:, where].mean(axis=1)
            tried.append((-np.mean(missed < scale.recalled), missed.mean(), beta, found))
        best = min(tried, key=lambda each: each[:2])
        return best[3], {"temperature": best[2]}

    return recall


def retrieved(
    images: np.ndarray, stored: np.ndarray, seen: np.ndarray | None, beta: float
) -> np.ndarray:
    """Images after some steps of retrieval; what is seen stays as it was given."""
    known = np.ones(stored.shape[1], bool) if seen is None else seen
    now, found = images, images
    for step in range(_RETRIEVALS):
        # What is hidden is not compared before it has been retrieved once.
        compared = known if step == 0 else np.ones_like(known)
        a, b = now[:, compared], stored[:, compared]
        apart = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
        scores = -0.5 * beta * (apart - apart.min(axis=1, keepdims=True))
        weights = np.exp(scores)
        found = weights / weights.sum(axis=1, keepdims=True) @ stored
        now = found if seen is None else np.where(known, images, found)
    return found


def by_neighbor(seed: int, scale: Scale, stored: Pixels) -> Recall:
    """The stored image that is nearest in what is seen."""

    def recall(images: np.ndarray, seen: np.ndarray | None) -> tuple[np.ndarray, dict[str, Any]]:
        known = slice(None) if seen is None else seen
        a, b = images[:, known], stored.images[:, known]
        apart = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
        return stored.images[apart.argmin(axis=1)], {}

    return recall


def in_order(cell: Cell, scale: Scale, stored: Pixels) -> dict[str, Any]:
    """A sequence of images, recalled one after another from the first alone."""
    begun = time.perf_counter()
    images = stored.images
    if cell.method == "PC":
        step = _learned_steps(cell.seed, scale, images)
    else:

        def step(now: np.ndarray) -> np.ndarray:
            following = np.roll(images, -1, axis=0)
            apart = ((now - images) ** 2).sum(axis=1)
            weights = np.exp(-0.5 * max(TEMPERATURES) * (apart - apart.min()))
            return (weights / weights.sum() @ following)[None]

    seconds = time.perf_counter() - begun
    found = [images[:1]]
    for _ in images[1:]:
        found.append(step(found[-1]))
    recalled = np.concatenate(found)
    apart = ((recalled[:, None] - images) ** 2).mean(axis=2)
    places = np.arange(len(images))
    right = (apart.argmin(axis=1) == places) & (apart[places, places] < scale.recalled)
    return {
        "in_order": int(right.sum()),
        "half_error": None,
        "seconds": seconds,
        "pictures": {"sequence": as_bytes(recalled)},
    }


def _learned_steps(seed: int, scale: Scale, images: np.ndarray) -> Callable[[np.ndarray], Any]:
    """A network that predicts each image from the one before, learned by predictive coding."""
    size = images.shape[1]
    network = mlp(
        size, size, width=scale.units, depth=2, activation="tanh", bias=True,
        key=jax.random.key(seed),
    )  # fmt: skip
    updates = scale.sequence_updates
    learner = Learner(
        Equilibrium(GaussNewton(1, 4), output_precision=1.0), cosine_adam(3e-3, updates)
    )
    pairs = np.tile(np.arange(len(images) - 1), (updates, 1))

    def batches(rows: np.ndarray) -> tuple[Array, Array]:
        return jnp.asarray(images[rows]), jnp.asarray(images[rows + 1])

    network, _ = trained(learner, network, batches, pairs, seed)
    return lambda now: np.asarray(predict(network, now))


def draw_sequence(found: list[Group], path: Path) -> None:
    """The images of the sequence as they are recalled."""
    for group in found:
        if group.network.startswith(IN_ORDER) and group.method == "PC":
            pictures = from_bytes(group.rows[0]["pictures"]["sequence"], (28, 28))
            rows = [
                PictureRow("recalled" if not begin else "", pictures[begin : begin + _SHOWN])
                for begin in range(0, len(pictures), _SHOWN)
            ]
            draw_gallery(rows, path)


def draw_capacity(found: list[Group], path: Path) -> None:
    """How many images are recalled, over the number of those that are stored."""
    groups = [group for group in found if group.values("half_recalled")]
    if not groups:
        return
    names = list(dict.fromkeys(g.network.split(", ")[0] for g in groups))
    kinds = {"half_recalled": "from the upper half", "noise_recalled": "from noise"}
    figure, panels = new_figure(2.8 * len(names), rows=len(names), columns=2, sharey=True)
    for place, (name, (key, kind)) in enumerate((n, k) for n in names for k in kinds.items()):
        axes = panels[place]
        for index, method in enumerate(METHODS):
            own = [g for g in groups if g.network.startswith(f"{name}, ") and g.method == method]
            counts = [int(g.network.split(", ")[1].split()[0]) for g in own]
            axes.semilogx(
                counts, [100 * g.mean(key) for g in own], "o-" if index == 0 else "s--",
                color=COLORS[index], markersize=4, label=method, base=2,
            )  # fmt: skip
        axes.set_title(f"{name}, {kind}", fontsize=9)
        axes.set_ylim(-4, 104)
        axes.set_xlabel("stored images")
        if not place % 2:
            axes.set_ylabel("recalled, %")
    panels[0].legend(fontsize=7, frameon=False, loc="center left")
    save(figure, path)


def draw_recalled(data: str, found: list[Group], path: Path) -> None:
    """Stored images as each method recalls them, of 256."""
    groups = [group for group in found if group.network == f"{data}, 256 images"]
    if not groups:
        return
    stored = pixels(data)["train"].first(_SHOWN)
    shape, images = stored.shape, stored.images.reshape(-1, *stored.shape)
    given = np.where(stored.upper_half.reshape(shape), images, 0.5)
    rows = [PictureRow("stored", images), PictureRow("given", given)]
    rows += [PictureRow(g.method, from_bytes(g.rows[0]["pictures"]["half"], shape)) for g in groups]
    rows.append(PictureRow("given", from_bytes(groups[0].rows[0]["pictures"]["noisy"], shape)))
    rows += [
        PictureRow(g.method, from_bytes(g.rows[0]["pictures"]["noise"], shape)) for g in groups
    ]
    draw_gallery(rows, path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=networks,
    methods=METHODS,
    applies=applies,
    run=run,
    outcome=outcome,
    columns=COLUMNS,
    figures={
        "capacity.png": draw_capacity,
        "recalled-cifar10.png": functools.partial(draw_recalled, "cifar10"),
        "recalled-mnist.png": functools.partial(draw_recalled, "mnist"),
        "sequence.png": draw_sequence,
    },
)

reproduce = EXPERIMENT.reproduce
