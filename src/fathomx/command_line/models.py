"""The networks that a job can build, by name: what each reads, its sizes and its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fathomx.command_line.imagery import (
    SOLVER,
    Imagery,
    OfLabels,
    OfLatents,
    latents,
    pictured,
)
from fathomx.data import TASKS, Dataset
from fathomx.graph.energy import Bernoulli, Gaussian
from fathomx.graph.network import INPUT, Network
from fathomx.inference import infer
from fathomx.learning import Pose
from fathomx.models import (
    bidirectional,
    decoder,
    mlp,
    residual_cnn,
    residual_mlp,
    resnet,
    transformer,
    vgg,
    with_encoder,
)
from fathomx.problem.problem import Problem
from fathomx.training.scores import Scores


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a model reads: the view of a data set, and how that says which sizes to build.

    `tasks`: those of the data that it reads.
    """

    view: Callable[[Any], Any]
    sizes: Callable[[Any], dict[str, Any]]
    data: str = "digits"
    tasks: tuple[str, ...] = TASKS[:1]


def _vector_sizes(data: Dataset) -> dict[str, Any]:
    """Of classes, or of named targets with the energy that suits them."""
    if not data.named:
        return {"in_size": data.input_shape[0], "out_size": data.classes}
    arrays = data.arrays("train")
    energy = Bernoulli() if arrays["output"].dtype == bool else Gaussian()
    sizes = {"in_size": arrays["input"].shape[1], "out_size": arrays["output"].shape[1]}
    return {**sizes, "output": energy}


VECTORS = Reading(lambda data: data if data.named else data.flat(), _vector_sizes, tasks=TASKS)
IMAGES = Reading(
    lambda data: data.images(),
    lambda data: {"classes": data.classes, "image_shape": data.input_shape},
)
VECTORS_ALONE = Reading(Dataset.flat, lambda data: {"shape": data.input_shape[0]})
IMAGES_ALONE = Reading(Dataset.images, lambda data: {"shape": data.input_shape})
VECTORS_BOTH = Reading(
    Dataset.flat, lambda data: {"in_shape": data.input_shape[0], "classes": data.classes}
)
IMAGES_BOTH = Reading(
    Dataset.images, lambda data: {"in_shape": data.input_shape, "classes": data.classes}
)
TOKENS = Reading(
    lambda data: data,
    lambda data: {"vocabulary": data.classes, "context": data.input_shape[0]},
    data="tiny-shakespeare",
)


def _residual_cnn(depth: int, **choices: Any) -> Network:
    """A residual convolutional network of three stages of equal depth."""
    blocks, rest = divmod(depth - 2, 3)
    if rest or blocks < 1:
        raise ValueError(
            f"residual-cnn has three stages of equal size between two layers, so depth must be 5, "
            f"8, 11 or another 3 * blocks + 2, not {depth}."
        )
    return residual_cnn(blocks, **choices)


# How exactly a decoder must be explained by its latent, relative to a prior of 1.
_HIDDEN_PRECISION = 1000.0
# Of the top-down predictions, where those bottom-up have 1.
_TOP_DOWN_PRECISION = 1e-5


def _decoder(shape: Any, key: jax.Array, latents: int, bias: bool, **choices: Any) -> Network:
    """Generates images from latents that it infers, with an encoder to start from."""
    own, other = jax.random.split(key)
    network = decoder(latents, shape, precision=_HIDDEN_PRECISION, key=own, **choices)
    same = {name: choices[name] for name in ("width", "activation", "parameterization")}
    return with_encoder(network, depth=choices["depth"], key=other, **same)


def _bidirectional(in_shape: Any, classes: int, bias: bool, **choices: Any) -> Network:
    """Predicts labels from images and images from labels, by the same activities."""
    return bidirectional(in_shape, classes, precisions=(1.0, _TOP_DOWN_PRECISION), **choices)


def _observing(network: Network, batch: Any) -> Problem:
    """Images alone: what explains them is inferred."""
    return Problem(network, {network.output.name: batch["input"]})


def _both_ends(network: Network, batch: Any) -> Problem:
    return Problem(network, {INPUT: batch["input"], network.output.name: batch["target"]})


def _reconstruction(network: Network, batch: Any) -> dict[str, Array]:
    """The mean squared error of what the decoder predicts from the latent that it inferred."""
    missed = pictured(network, latents(network, batch["input"])) - batch["input"]
    return {"reconstruction_error": jnp.mean(missed.reshape(len(missed), -1) ** 2, axis=1)}


def _classification(network: Network, batch: Any) -> dict[str, Array]:
    """How often the label that is inferred from the image is its label, and by how much it errs."""
    relaxed = infer(Problem(network, {INPUT: batch["input"]}), SOLVER)
    found = relaxed.activities[network.output.name]
    target = jax.nn.one_hot(batch["target"], found.shape[-1])
    return {
        "loss": 0.5 * jnp.sum((found - target) ** 2, axis=-1),
        "accuracy": (found.argmax(axis=-1) == batch["target"]).astype(found.dtype),
    }


@dataclasses.dataclass(frozen=True)
class Generative:
    """What is different about models that generate.

    * `pose`: how a batch of images and labels becomes a problem; `scores`: what they are judged by.
    * `imagery`: how they show what they learned.
    * `output_precision`: of training, unless told otherwise; of standardized pixels.
    * `decay`: of weights, relative to the learning rate. At the mode of the latents nothing else
      keeps a decoder's weights from growing while its latents shrink.
    """

    pose: Pose
    scores: Scores
    imagery: Imagery
    output_precision: float
    decay: float = 0.0


_DECODING = Generative(_observing, _reconstruction, OfLatents(), 1.0, 2.0)
_BOTH_WAYS = Generative(_both_ends, _classification, OfLabels(), 0.1)


@dataclasses.dataclass(frozen=True)
class Model:
    """A network that a job can build.

    * `make`: its function in `fathomx.models`. `reading`: what it takes as input.
    * `depth`, `width`, `parameterization`: what a job takes unless told otherwise. An integer
      `width` counts units, one with a fraction multiplies channels.
    * `steps`: iterations of Gauss-Newton. `generative`: of models that make images.
    """

    make: Callable[..., Network]
    reading: Reading
    depth: int
    width: int | float
    parameterization: str
    steps: int = 1
    generative: Generative | None = None


MODELS: dict[str, Model] = {
    "residual-mlp": Model(residual_mlp, VECTORS, 64, 128, "mupc"),
    "mlp": Model(mlp, VECTORS, 64, 128, "mupc"),
    "vgg": Model(vgg, IMAGES, 10, 1.0, "he"),
    "resnet": Model(resnet, IMAGES, 10, 1.0, "he"),
    "residual-cnn": Model(_residual_cnn, IMAGES, 11, 32, "mupc"),
    # Attention bends what one linearization takes for straight.
    "transformer": Model(transformer, TOKENS, 4, 128, "mupc", steps=2),
    "decoder": Model(_decoder, VECTORS_ALONE, 3, 256, "standard", 2, _DECODING),
    "decoder-cnn": Model(_decoder, IMAGES_ALONE, 3, 32, "standard", 2, _DECODING),
    "bidirectional": Model(_bidirectional, VECTORS_BOTH, 3, 256, "standard", 1, _BOTH_WAYS),
    "bidirectional-cnn": Model(_bidirectional, IMAGES_BOTH, 4, 32, "standard", 1, _BOTH_WAYS),
}
