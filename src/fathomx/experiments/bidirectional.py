"""Can one network classify and generate, and is it better where images are seen in part?

Oliviers et al. (2025), arXiv 2505.23415: bidirectional predictive coding classifies as well as a
discriminative network and generates as well as a generative one. Here at several ratios of the
precisions of its two directions, beside backprop on its bottom-up half and beside a purely
generative network on its top-down half.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx.drawing.gallery import draw_gallery
from fathomx.experiments.generative import upper_half
from fathomx.experiments.grid import Cell, Column, Comparison, Group, Say, Selection, chosen_scale
from fathomx.experiments.imaging import (
    Pixels,
    as_bytes,
    classes,
    classifier,
    from_bytes,
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
from fathomx.records.pictures import PictureRow

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


SCALES = {"laptop": Scale("laptop", {"mnist": (0, 1, 2)})}

COLUMNS = (
    Column("accuracy", "test accuracy, %", ".2f", 100.0),
    Column("short_accuracy", "after 300 updates, %", ".2f", 100.0),
    Column("half_accuracy", "lower half hidden, %", ".2f", 100.0),
    Column("half_later", "the same, precisions (1e-2, 1), %", ".2f", 100.0),
    Column("recognized", "images recognized, top-down, %", ".0f", 100.0),
    Column("recognized_relaxed", "relaxed, %", ".0f", 100.0),
    Column("recognized_later", "relaxed, precisions (1e-2, 1), %", ".0f", 100.0),
    Column("short_recognized", "top-down after 300 updates, %", ".0f", 100.0),
    Column("seconds", "training and judging, s", ".0f"),
)


def reproduce(scale: str, folder: Path, selection: Selection, say: Say) -> Path:
    """Runs what is missing of the comparison, then writes tables and figures.

    `results.csv`, `results.md`, and for every data set `imagined-DATA.png` and
    `completed-DATA.png`. Raises `ValueError` for an unknown scale, data set or method.
    """
    size = chosen_scale(scale, SCALES)
    return Comparison(
        networks=size.seeds,
        methods=METHODS,
        configuration=dataclasses.asdict(size),
        run=lambda cell: run(cell, size),
        outcome=lambda row: (
            f"accuracy {100 * row['accuracy']:.2f}%, half hidden {100 * row['half_accuracy']:.2f}%"
        ),
        columns=COLUMNS,
        draw=_draw,
    ).reproduce(folder, selection, say)


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """One network, and what it makes of test images, of their halves and of labels."""
    parts = pixels(cell.network)
    train = parts["train"]
    whole = order(len(train.images), scale.batch, scale.epochs, cell.seed)
    epochs = -(-scale.short * scale.short_batch // len(train.images))
    some = order(len(train.images), scale.short_batch, epochs, cell.seed, scale.short)
    begun = time.perf_counter()
    found = judged(cell, scale, whole, parts)
    seconds = time.perf_counter() - begun
    short = judged(cell, scale, some, parts)
    keep = ("accuracy", "recognized")
    return {**found, **{f"short_{name}": short[name] for name in keep}, "seconds": seconds}


def judged(
    cell: Cell, scale: Scale, chosen: np.ndarray, parts: dict[str, Pixels]
) -> dict[str, Any]:
    """The network of a method after the updates that are chosen, and how it is judged."""
    learn = {"backprop": by_backprop, "generative": by_labels}.get(cell.method, by_both)
    return learn(cell, scale, chosen, parts)


def _learned(
    learner: Learner, network: Network, names: tuple[str, str], train: Pixels, chosen: np.ndarray,
    seed: int,
) -> Network:  # fmt: skip
    """The network, trained on images and labels under these names."""

    def batches(rows: np.ndarray) -> dict[str, Array]:
        labels = jax.nn.one_hot(train.labels[rows], 10)
        return dict(zip(names, (jnp.asarray(train.images[rows]), labels), strict=True))

    return trained(learner, network, batches, chosen, seed)[0]


@eqx.filter_jit
def _labels(network: Network, images: Array, seen: Array | None = None) -> tuple[Array, Array]:
    """The classes that are inferred, and the images as they are completed."""
    given = images if seen is None else Clamp(images, seen)
    relaxed = infer(Problem(network, {INPUT: given}), SOLVER if seen is None else LONG)
    label = relaxed.activities[network.output.name].argmax(axis=-1)
    return label, relaxed.activities[INPUT]


@eqx.filter_jit
def _imagined(network: Network) -> tuple[Array, Array, Array]:
    """An image of every class: of the top-down pass, after inference, and how settled it is."""
    problem = Problem(network, {network.output.name: jnp.eye(10)})
    start = top_down(problem)
    relaxed = infer(problem, LONG, at=start)
    return start[INPUT], relaxed.activities[INPUT], relaxed.unsettled


def by_both(
    cell: Cell, scale: Scale, chosen: np.ndarray, parts: dict[str, Pixels]
) -> dict[str, Any]:
    """A bidirectional network at one ratio of precisions."""
    train, test = parts["train"], parts["test"]
    network = bidirectional(
        train.images.shape[1],
        10,
        width=scale.width,
        depth=scale.depth,
        precisions=(1.0, RATIOS[cell.method]),
        key=jax.random.key(cell.seed),
    )
    rule = Equilibrium(GaussNewton(1, 4), output_precision=scale.output_precision)
    learner = Learner(rule, cosine_adam(scale.rate, len(chosen)))
    network = _learned(learner, network, (INPUT, "output"), train, chosen, cell.seed)
    later = with_precisions(network, LATER)
    judge, few = classifier(cell.network), test.first(scale.parts)
    seen = jnp.asarray(upper_half(test))
    found, _ = in_parts(lambda x: _labels(network, x), test.images)
    halves, _ = in_parts(lambda x: _labels(network, x, seen), few.images)
    halves_later, completed = in_parts(lambda x: _labels(later, x, seen), few.images)
    start, relaxed, unsettled = map(np.asarray, _imagined(network))
    _, relaxed_later, unsettled_later = map(np.asarray, _imagined(later))
    return {
        "accuracy": np.mean(found == test.labels),
        "half_accuracy": np.mean(halves == few.labels),
        "half_later": np.mean(halves_later == few.labels),
        "recognized": recognized(judge, start),
        "recognized_relaxed": recognized(judge, relaxed),
        "recognized_later": recognized(judge, relaxed_later),
        "unsettled": float(unsettled.max()),
        "unsettled_later": float(unsettled_later.max()),
        "pictures": {
            "top-down": as_bytes(start),
            "relaxed": as_bytes(relaxed),
            "ratio turned": as_bytes(relaxed_later),
            "completed": as_bytes(completed[:_SHOWN]),
        },
    }


def recognized(judge: Network, images: np.ndarray) -> float:
    """How many images of the classes 0, 1, 2 ... a classifier sees as such."""
    return float(np.mean(classes(judge, np.clip(images, 0, 1)) == np.arange(len(images))))


def by_backprop(
    cell: Cell, scale: Scale, chosen: np.ndarray, parts: dict[str, Pixels]
) -> dict[str, Any]:
    """The bottom-up half alone; what is hidden is filled with the mean training image, or zero.

    Of the two the better one is reported.
    """
    train, test = parts["train"], parts["test"]
    network = mlp(
        train.images.shape[1],
        10,
        width=scale.width,
        depth=scale.depth,
        bias=True,
        key=jax.random.key(cell.seed),
        output=Categorical(),
    )
    learner = Learner(Backprop(), cosine_adam(scale.rate, len(chosen)))
    network = _learned(learner, network, (INPUT, "output"), train, chosen, cell.seed)
    classify = eqx.filter_jit(lambda x: predict(network, x).argmax(axis=-1))
    few, seen = test.first(scale.parts), upper_half(test)
    fills = {"mean": train.images.mean(axis=0), "zero": np.zeros(len(seen), np.float32)}
    halves = {
        name: float(np.mean(in_parts(classify, np.where(seen, few.images, fill)) == few.labels))
        for name, fill in fills.items()
    }
    return {
        "accuracy": np.mean(in_parts(classify, test.images) == test.labels),
        "half_accuracy": max(halves.values()),
        **{f"half_{name}": value for name, value in halves.items()},
        "recognized": None,
        "pictures": {},
    }


def by_labels(
    cell: Cell, scale: Scale, chosen: np.ndarray, parts: dict[str, Pixels]
) -> dict[str, Any]:
    """The top-down half alone: a decoder from labels, which classifies by inferring its root."""
    train, test = parts["train"], parts["test"]
    network = decoder(
        10,
        train.images.shape[1],
        width=scale.width,
        depth=scale.depth,
        key=jax.random.key(cell.seed),
    )
    rule = Equilibrium(GaussNewton(1, 4), output_precision=1.0)
    learner = Learner(rule, cosine_adam(scale.rate, len(chosen)))
    network = _learned(learner, network, ("output", "latent"), train, chosen, cell.seed)
    few, seen = test.first(scale.parts), jnp.asarray(upper_half(test))

    def inferred(solver: GaussNewton, seen: Array | None) -> Callable[[Array], tuple[Array, Array]]:
        @eqx.filter_jit
        def labels(images: Array) -> tuple[Array, Array]:
            given = images if seen is None else Clamp(images, seen)
            relaxed = infer(Problem(network, {"output": given}), solver)
            return relaxed.activities["latent"].argmax(axis=-1), relaxed.activities["output"]

        return labels

    found, _ = in_parts(inferred(SOLVER, None), test.images)
    halves, completed = in_parts(inferred(LONG, seen), few.images)
    images = np.asarray(predict(network, {"latent": jnp.eye(10)}))
    return {
        "accuracy": np.mean(found == test.labels),
        "half_accuracy": np.mean(halves == few.labels),
        "recognized": recognized(classifier(cell.network), images),
        "pictures": {"top-down": as_bytes(images), "completed": as_bytes(completed[:_SHOWN])},
    }


def _draw(groups: list[Group], folder: Path) -> None:
    for name in dict.fromkeys(group.network for group in groups):
        own = [g for g in groups if g.network == name and g.rows[0]["pictures"]]
        if not own:
            continue
        test = pixels(name)["test"].first(_SHOWN)
        images = test.images.reshape(-1, *test.shape)
        given = np.where(upper_half(test).reshape(test.shape), images, 0.5)
        names, rows = tuple(map(str, range(_SHOWN))), []
        completed = [PictureRow("image", images), PictureRow("given", given)]
        for group in own:
            pictures = dict(group.rows[0]["pictures"])
            last = from_bytes(pictures.pop("completed"), test.shape)
            completed.append(PictureRow(group.method, last))
            for kind, rowed in pictures.items():
                title = f"{group.method}\n{kind}"
                rows.append(PictureRow(title, from_bytes(rowed, test.shape), names))
        draw_gallery(rows, folder / f"imagined-{name}.png")
        draw_gallery(completed, folder / f"completed-{name}.png")
