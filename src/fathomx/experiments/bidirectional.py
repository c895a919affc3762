"""Can one network classify and generate, and is it better where images are seen in part?

Oliviers et al. (2025), arXiv 2505.23415: bidirectional predictive coding classifies as well as a
discriminative network and generates as well as a generative one. Here at several ratios of the
precisions of its two directions, beside backprop on its bottom-up half and beside a purely
generative network on its top-down half.
"""

from __future__ import annotations

import abc
import dataclasses
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx.drawing.gallery import draw_gallery
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group
from fathomx.experiments.imaging import (
    Pixels,
    classes,
    classifier,
    in_parts,
    order,
    pixels,
    trained,
)
from fathomx.graph.clamp import Clamp
from fathomx.graph.energy import Categorical
from fathomx.graph.network import INPUT, Network
from fathomx.inference import GaussNewton, infer
from fathomx.learning import Backprop, Equilibrium, Learner
from fathomx.learning.learner import cosine_adam
from fathomx.models import bidirectional, decoder, mlp, with_precisions
from fathomx.problem.energies import predict
from fathomx.problem.problem import Problem
from fathomx.problem.starts import top_down
from fathomx.records.pictures import PictureRow, as_bytes, from_bytes

# Precision of the top-down predictions, where those bottom-up have 1.
RATIOS = {"equal": 1.0, "top-down 1e-2": 1e-2, "top-down 1e-3": 1e-3, "top-down 1e-5": 1e-5}
METHODS = (*RATIOS, "backprop", "generative")
# For images that are imagined or seen in part: here what is seen from above counts more.
LATER = (1e-2, 1.0)
SOLVER, LONG = GaussNewton(6, 10), GaussNewton(20, 20)
_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is, and what was chosen on validation images.

    **Fields**: `seeds` by data set; `epochs`, `batch` and `rate` of Adam; `short`, a number of
    updates after which a run of its own is judged, with batches of `short_batch`; `width` and
    `depth`; `output_precision` of training; `parts`, how many test images are shown in part.
    """

    name: str
    seeds: dict[str, tuple[int, ...]]
    epochs: int = 3
    batch: int = 64
    rate: float = 3e-3
    short: int = 300
    short_batch: int = 256
    width: int = 512
    depth: int = 3
    output_precision: float = 0.1
    parts: int = 1000


SCALES = {"laptop": Scale("laptop", {"mnist": (0,)})}

COLUMNS = (
    Column("accuracy", "test accuracy, %", ".2f", 100.0),
    Column("short_accuracy", "after 300 updates, %", ".2f", 100.0),
    Column("half_accuracy", "lower half hidden, %", ".2f", 100.0),
    Column("half_later", "the same, precisions (1e-2, 1), %", ".2f", 100.0),
    Column("recognized", "images recognized, top-down, %", ".0f", 100.0),
    Column("recognized_relaxed", "relaxed, %", ".0f", 100.0),
    Column("recognized_later", "relaxed, precisions (1e-2, 1), %", ".0f", 100.0),
    Column("short_recognized", "top-down after 300 updates, %", ".0f", 100.0),
    Column("seconds", "training, s", ".0f"),
)


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """One network, and what it makes of test images, of their halves and of labels."""
    parts = pixels(cell.network)
    trial = _TRIALS.get(cell.method, Both)(cell, scale, parts, classifier(cell.network))
    size = len(parts["train"].images)
    epochs = -(-scale.short * scale.short_batch // size)
    begun = time.perf_counter()
    network = trial.learned(order(size, scale.batch, scale.epochs, cell.seed))
    seconds = time.perf_counter() - begun
    some = order(size, scale.short_batch, epochs, cell.seed, scale.short)
    short = trial.judged(trial.learned(some))
    return {
        **trial.judged(network),
        **trial.judged_further(network),
        **{f"short_{name}": value for name, value in short.items()},
        "seconds": seconds,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Trial(abc.ABC):
    """How a method builds and trains its network, and how that is judged.

    **Fields**: `cell` and `scale`; `parts` of the data; `judge`, an independent classifier.
    """

    cell: Cell
    scale: Scale
    parts: dict[str, Pixels]
    judge: Network

    @abc.abstractmethod
    def learned(self, chosen: np.ndarray) -> Network:
        """The network after the updates that are chosen."""

    @abc.abstractmethod
    def judged(self, network: Network) -> dict[str, Any]:
        """How many test images it classifies, and how many of its images are recognized."""

    @abc.abstractmethod
    def judged_further(self, network: Network) -> dict[str, Any]:
        """What it makes of halves, and its pictures."""

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.parts["train"].labels.max()) + 1

    @property
    def sizes(self) -> dict[str, Any]:
        """Of hidden layers, and the key of the weights."""
        return {
            "width": self.scale.width,
            "depth": self.scale.depth,
            "key": jax.random.key(self.cell.seed),
        }

    def trained(
        self, rule: Any, network: Network, names: tuple[str, str], chosen: np.ndarray
    ) -> Network:
        """The network, trained on images and labels under these names."""
        train = self.parts["train"]

        def batches(rows: np.ndarray) -> dict[str, Array]:
            labels = jax.nn.one_hot(train.labels[rows], self.classes)
            return dict(zip(names, (jnp.asarray(train.images[rows]), labels), strict=True))

        learner = Learner(rule, cosine_adam(self.scale.rate, len(chosen)))
        return trained(learner, network, batches, chosen, self.cell.seed)[0]

    def few(self) -> tuple[Pixels, np.ndarray]:
        """The test images that are shown in part, and which of their pixels are seen."""
        few = self.parts["test"].first(self.scale.parts)
        return few, few.upper_half


@eqx.filter_jit
def _inferred(
    network: Network, names: tuple[str, str], solver: GaussNewton, images: Array, seen: Array | None
) -> tuple[Array, Array]:
    """The classes that are inferred, and the images as they are completed."""
    image, label = names
    given = images if seen is None else Clamp(images, seen)
    activities = infer(Problem(network, {image: given}), solver).activities
    return activities[label].argmax(axis=-1), activities[image]


def _accuracy(
    network: Network, names: tuple[str, str], given: Pixels, seen: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Of images, or of a part of their pixels, how many are classified, and the first completed."""
    mask = None if seen is None else jnp.asarray(seen)
    solver = SOLVER if seen is None else LONG
    found, completed = in_parts(lambda x: _inferred(network, names, solver, x, mask), given.images)
    return float(np.mean(found == given.labels)), completed[:_SHOWN]


def _of_labels(network: Network, classes: int) -> Problem:
    """Every class, as a label alone."""
    return Problem(network, {network.output.name: jnp.eye(classes)})


@eqx.filter_jit
def _imagined(network: Network, classes: int) -> tuple[Array, Array, Array]:
    """An image of every class: of the top-down pass, after inference, and how settled it is."""
    problem = _of_labels(network, classes)
    start = top_down(problem)
    relaxed = infer(problem, LONG, at=start)
    return start[INPUT], relaxed.activities[INPUT], relaxed.unsettled


def recognized(judge: Network, images: np.ndarray) -> float:
    """How many images of the classes 0, 1, 2 ... a classifier sees as such."""
    return float(np.mean(classes(judge, np.clip(images, 0, 1)) == np.arange(len(images))))


class Both(Trial):
    """A bidirectional network at one ratio of precisions."""

    names = (INPUT, "output")

    def learned(self, chosen: np.ndarray) -> Network:
        size = self.parts["train"].images.shape[1]
        precisions = (1.0, RATIOS[self.cell.method])
        network = bidirectional(size, self.classes, precisions=precisions, **self.sizes)
        rule = Equilibrium(GaussNewton(1, 4), output_precision=self.scale.output_precision)
        return self.trained(rule, network, self.names, chosen)

    def judged(self, network: Network) -> dict[str, Any]:
        start = np.asarray(top_down(_of_labels(network, self.classes))[INPUT])
        return {
            "accuracy": _accuracy(network, self.names, self.parts["test"])[0],
            "recognized": recognized(self.judge, start),
        }

    def judged_further(self, network: Network) -> dict[str, Any]:
        later, (few, seen) = with_precisions(network, LATER), self.few()
        halves, _ = _accuracy(network, self.names, few, seen)
        halves_later, completed = _accuracy(later, self.names, few, seen)
        start, relaxed, unsettled = map(np.asarray, _imagined(network, self.classes))
        _, relaxed_later, unsettled_later = map(np.asarray, _imagined(later, self.classes))
        return {
            "half_accuracy": halves,
            "half_later": halves_later,
            "recognized_relaxed": recognized(self.judge, relaxed),
            "recognized_later": recognized(self.judge, relaxed_later),
            "unsettled": float(unsettled.max()),
            "unsettled_later": float(unsettled_later.max()),
            "pictures": {
                "top-down": as_bytes(start),
                "relaxed": as_bytes(relaxed),
                "ratio turned": as_bytes(relaxed_later),
                "completed": as_bytes(completed),
            },
        }


class BottomUp(Trial):
    """The bottom-up half alone, trained by backprop.

    What is hidden is filled with the mean training image, or with zero; the better is reported.
    """

    def learned(self, chosen: np.ndarray) -> Network:
        size = self.parts["train"].images.shape[1]
        network = mlp(size, self.classes, bias=True, output=Categorical(), **self.sizes)
        return self.trained(Backprop(), network, (INPUT, "output"), chosen)

    def judged(self, network: Network) -> dict[str, Any]:
        test = self.parts["test"]
        return {"accuracy": _classified(network, test.images, test.labels), "recognized": None}

    def judged_further(self, network: Network) -> dict[str, Any]:
        few, seen = self.few()
        fills = {"mean": self.parts["train"].images.mean(axis=0), "zero": np.float32(0)}
        halves = {
            f"half_{name}": _classified(network, np.where(seen, few.images, fill), few.labels)
            for name, fill in fills.items()
        }
        return {"half_accuracy": max(halves.values()), **halves, "pictures": {}}


def _classified(network: Network, images: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(classes(network, images) == labels))


class TopDown(Trial):
    """The top-down half alone: a decoder from labels, which classifies by inferring its root."""

    names = ("output", "latent")

    def learned(self, chosen: np.ndarray) -> Network:
        network = decoder(self.classes, self.parts["train"].images.shape[1], **self.sizes)
        rule = Equilibrium(GaussNewton(1, 4), output_precision=1.0)
        return self.trained(rule, network, self.names, chosen)

    def judged(self, network: Network) -> dict[str, Any]:
        images = self._images(network)
        return {
            "accuracy": _accuracy(network, self.names, self.parts["test"])[0],
            "recognized": recognized(self.judge, images),
        }

    def judged_further(self, network: Network) -> dict[str, Any]:
        halves, completed = _accuracy(network, self.names, *self.few())
        pictures = {"top-down": self._images(network), "completed": completed}
        return {
            "half_accuracy": halves,
            "pictures": {name: as_bytes(images) for name, images in pictures.items()},
        }

    def _images(self, network: Network) -> np.ndarray:
        return np.asarray(predict(network, {"latent": jnp.eye(self.classes)}))


_TRIALS: dict[str, type[Trial]] = {"backprop": BottomUp, "generative": TopDown}


def draw_imagined(found: list[Group], path: Path) -> None:
    """An image of every class, as each method imagines it."""
    shape = pixels(found[0].network)["test"].shape
    names = tuple(map(str, range(_SHOWN)))
    rows = [
        PictureRow(f"{group.method}\n{kind}", from_bytes(rowed, shape), names)
        for group in found
        for kind, rowed in group.rows[0]["pictures"].items()
        if kind != "completed"
    ]
    if rows:
        draw_gallery(rows, path)


def draw_completed(found: list[Group], path: Path) -> None:
    """Images of which the upper half is given, as each method completes them."""
    test = pixels(found[0].network)["test"].first(_SHOWN)
    images = test.images.reshape(-1, *test.shape)
    given = np.where(test.upper_half.reshape(test.shape), images, 0.5)
    rows = [
        PictureRow(group.method, from_bytes(group.rows[0]["pictures"]["completed"], test.shape))
        for group in found
        if group.rows[0]["pictures"]
    ]
    if rows:
        draw_gallery([PictureRow("image", images), PictureRow("given", given), *rows], path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: scale.seeds,
    methods=METHODS,
    run=run,
    outcome=said("accuracy {accuracy:.2%}, half hidden {half_accuracy:.2%}"),
    columns=COLUMNS,
    figures={"imagined-{network}.png": draw_imagined, "completed-{network}.png": draw_completed},
)

reproduce = EXPERIMENT.reproduce
