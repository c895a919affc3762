"""What the experiments on images share: pixels, features, distances between sets, training."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fathomx import data as data_sets
from fathomx.drawing.canvas import Canvas, seen_part
from fathomx.graph.energy import Categorical
from fathomx.graph.network import Network
from fathomx.layers.convolution import Convolution
from fathomx.layers.scaled import Linear
from fathomx.learning import Backprop, Learner
from fathomx.learning.learner import cosine_adam
from fathomx.models import wrap

AT_ONCE = 500
_STEPS = 128
_CLASSIFIER_RATE, _CLASSIFIER_BATCH, _CLASSIFIER_EPOCHS = 2e-3, 100, 3
_FEATURES = "features"
# A classifier is not the one whose features or verdicts depend on the run's own seed.
_CLASSIFIER_SEED = 12_345


@dataclasses.dataclass(frozen=True, eq=False)
class Pixels:
    """Images with values in 0..1 as vectors, and their labels, of one part of a data set.

    **Fields**: `images`, `(n, values)`; `labels`, `(n,)`; `shape` of an image.
    """

    images: np.ndarray
    labels: np.ndarray
    shape: tuple[int, ...]

    def first(self, count: int) -> Pixels:
        """The first of them."""
        return dataclasses.replace(self, images=self.images[:count], labels=self.labels[:count])

    @property
    def upper_half(self) -> np.ndarray:
        """Which values of an image lie in its upper half."""
        return seen_part("upper", 0.5, self.shape, 0).reshape(-1)


@functools.lru_cache(maxsize=2)
def pixels(name: str) -> dict[str, Pixels]:
    """The parts of a data set of images, by title, with values in 0..1.

    The inverse of how `fx.data.load` standardizes them: every channel from its least to its
    largest value in the training part.
    """
    data = data_sets.load(name).flat()
    canvas = Canvas.of(data.train.inputs, data.image_shape)

    def part(title: str) -> Pixels:
        inputs, labels = getattr(data, title)
        images = canvas(inputs).reshape(len(inputs), -1).astype(np.float32)
        return Pixels(images, np.asarray(labels), canvas.shape)

    return {title: part(title) for title in ("train", "validation", "test")}


def order(size: int, batch: int, epochs: int, seed: int, most: int | None = None) -> np.ndarray:
    """Which examples each update sees, `(updates, batch)`: every epoch in a new order."""
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(size)[: size // batch * batch].reshape(-1, batch) for _ in range(epochs)
    ]
    return np.concatenate(rows)[:most]


Batches = Callable[[np.ndarray], Any]


def trained(
    learner: Learner, network: Network, batches: Batches, chosen: np.ndarray, seed: int
) -> tuple[Network, Any]:
    """The network after one update for each row of `chosen`, and the last reports.

    `batches(rows)` gives the data of some updates, as arrays with an axis of updates in front.
    """
    state, updates = learner.begin(network), eqx.filter_jit(learner.updates)
    keys = jax.random.split(jax.random.key(seed), len(chosen))
    reports = None
    for begin in range(0, len(chosen), _STEPS):
        rows = chosen[begin : begin + _STEPS]
        some = keys[begin : begin + _STEPS]
        network, state, reports = updates(network, state, batches(rows), some)
    return network, reports


def in_parts(function: Callable[[Array], Any], images: np.ndarray, at_once: int = AT_ONCE) -> Any:
    """A function of images over many of them, a part at a time; its arrays joined."""
    parts = [
        jax.tree.map(np.asarray, function(jnp.asarray(images[begin : begin + at_once])))
        for begin in range(0, len(images), at_once)
    ]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def squared_error(found: Any, images: Any, where: np.ndarray | None = None) -> np.ndarray:
    """The mean squared error of every image, over some of its values."""
    missed = (np.asarray(found, np.float64) - np.asarray(images, np.float64)) ** 2
    return missed.mean(axis=1) if where is None else missed[:, where].mean(axis=1)


@functools.lru_cache(maxsize=2)
def classifier(name: str) -> Network:
    """A small convolutional network trained on a data set by backprop: the independent judge.

    Its node before the last has 64 features. Images are those of `pixels`.
    """
    train = pixels(name)["train"]
    height, width = train.shape[:2]
    channels = train.shape[2] if len(train.shape) == 3 else 1
    classes = int(train.labels.max()) + 1
    keys = jax.random.split(jax.random.key(_CLASSIFIER_SEED), 4)
    small = math.ceil(height / 4) * math.ceil(width / 4) * 32
    network = wrap(
        [
            _Shaped((height, width, channels)),
            Convolution(he(keys[0], (3, 3, channels, 16)), stride=2),
            jax.nn.relu,
            Convolution(he(keys[1], (3, 3, 16, 32)), stride=2),
            jax.nn.relu,
            jnp.ravel,
            Linear(he(keys[2], (64, small), small)),
            jax.nn.relu,
            Linear(he(keys[3], (classes, 64), 64)),
        ],
        (train.images.shape[1],),
        ["first", "second", _FEATURES, "output"],
        output=Categorical(),
    )
    chosen = order(len(train.images), _CLASSIFIER_BATCH, _CLASSIFIER_EPOCHS, _CLASSIFIER_SEED)
    learner = Learner(Backprop(), cosine_adam(_CLASSIFIER_RATE, len(chosen)))
    return trained(
        learner,
        network,
        lambda rows: (jnp.asarray(train.images[rows]), jnp.asarray(train.labels[rows])),
        chosen,
        _CLASSIFIER_SEED,
    )[0]


class _Shaped(eqx.Module):
    """A vector as an image."""

    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, values: Array) -> Array:
        return values.reshape(self.shape)


def he(key: Any, shape: tuple[int, ...], fan_in: int | None = None) -> Array:
    """Weights of variance `2 / fan_in`, of a convolution unless that is given.

    Source: He et al. (2015), arXiv 1502.01852.
    """
    fan_in = math.prod(shape[:-1]) if fan_in is None else fan_in
    return math.sqrt(2 / fan_in) * jax.random.normal(key, shape)


@eqx.filter_jit
def _features(network: Network, images: Array) -> Array:
    return jax.nn.relu(network.unroll(None, images)[_FEATURES])


@eqx.filter_jit
def _classes(network: Network, images: Array) -> Array:
    return jnp.argmax(network.unroll(None, images)[network.output.name], axis=-1)


def classes(network: Network, images: np.ndarray) -> np.ndarray:
    """The class that a classifier sees in each image."""
    found: np.ndarray = in_parts(lambda part: _classes(network, part), images)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of the features of a set of images."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, network: Network, images: np.ndarray) -> Moments:
        """Those in the features of a classifier."""
        found = in_parts(lambda part: _features(network, part), images).astype(np.float64)
        return cls(found.mean(axis=0), np.cov(found.T))


def frechet(a: Moments, b: Moments) -> float:
    """The Frechet distance of two Gaussians.

        ||m_a - m_b||^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)

    Source: Heusel et al. (2017), arXiv 1706.08500, there in the features of another classifier.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ b.covariance @ root)
    apart = float(np.sum((a.mean - b.mean) ** 2))
    traces = float(np.trace(a.covariance) + np.trace(b.covariance))
    return apart + traces - 2 * float(np.sqrt(np.maximum(shared, 0)).sum())


def nearest(
    images: Float[np.ndarray, "n values"], train: Float[np.ndarray, "m values"]
) -> tuple[np.ndarray, np.ndarray]:
    """Of every image the training image nearest to it, and its mean squared distance."""
    squares = (train**2).sum(axis=1)
    found = [
        squares - 2 * part @ train.T + (part**2).sum(axis=1)[:, None]
        for part in np.array_split(images, max(1, len(images) // 100))
    ]
    distances = np.concatenate(found)
    places = distances.argmin(axis=1)
    return places, distances.min(axis=1) / images.shape[1]
