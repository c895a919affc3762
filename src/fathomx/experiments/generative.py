"""Do predictive coding decoders explain, complete and generate as well as autoencoders?

One decoder (latent root, two hidden layers of 256, images of 784 pixels), learned in four ways with
the same number of updates: by predictive coding at the most probable activities and from Langevin
samples, as an autoencoder and as a variational autoencoder by backprop.
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

from fathomx.drawing.gallery import draw_gallery
from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.grid import Cell, Column, Group
from fathomx.experiments.imaging import (
    Moments,
    Pixels,
    classifier,
    frechet,
    in_parts,
    nearest,
    order,
    pixels,
    squared_error,
    trained,
)
from fathomx.graph.clamp import Clamp
from fathomx.graph.energy import Gaussian
from fathomx.graph.network import Network
from fathomx.inference import GaussNewton, Langevin, average, infer
from fathomx.learning import Backprop, Equilibrium, Learner
from fathomx.learning.learner import cosine_adam
from fathomx.models import decoder, mlp, with_encoder
from fathomx.problem.energies import predict
from fathomx.problem.problem import Problem
from fathomx.records.pictures import PictureRow, as_bytes, from_bytes

METHODS = ("PC, mode", "PC, Langevin", "autoencoder", "VAE")
# Near equilibrium, for images that are judged.
SOLVER = GaussNewton(iterations=20, cg_iterations=10)
_SHOWN, _SAMPLES_SHOWN = 10, 20
_FITTED_FROM = 3000


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the comparison is, and what was chosen on validation images.

    **Fields**: `seeds` by data set; `epochs` and `batch`; `latents` and `width`; `precision` of
    pixels and `inner` of hidden nodes; `rate`, `decay` of learning at the mode, `chain_rate` of
    learning from a chain of `steps` of length `step`; `encoder_rate` of autoencoders; `judged` test
    images, `drawn` samples, steps of the `long` chain that a posterior mean is taken over.
    """

    name: str
    seeds: dict[str, tuple[int, ...]]
    epochs: int = 5
    batch: int = 64
    latents: int = 32
    width: int = 256
    precision: float = 10.0
    inner: float = 1000.0
    rate: float = 3e-3
    decay: float = 2.0
    chain_rate: float = 1e-3
    step: float = 0.01
    steps: int = 20
    encoder_rate: float = 5e-3
    judged: int = 2000
    drawn: int = 5000
    long: int = 1000


SCALES = {"laptop": Scale("laptop", {"mnist": (0, 1, 2), "fashion-mnist": (0,)})}

COLUMNS = (
    Column("reconstruction", "reconstruction error", ".5f"),
    Column("completion", "completion of the lower half", ".4f"),
    Column("completion_over_mean", "of the mean image's", ".3f"),
    Column("completion_averaged", "posterior mean", ".4f"),
    Column("frechet_prior", "Frechet distance, prior", ".1f"),
    Column("frechet_fitted", "fitted latents", ".1f"),
    Column("copied", "distance to the nearest training image, of a test image's", ".2f"),
    Column("latent_size", "size of latents", ".2f"),
    Column("seconds", "training, s", ".0f"),
)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a method learned, as functions of images and latents.

    **Fields**: `decode`, latents to images; `encode`, images to latents; `complete`, images and
    what is seen of them to images; `averaged`, the same by a posterior mean, where there is one.
    """

    decode: Callable[[Array], Array]
    encode: Callable[[Array], Array]
    complete: Callable[[Array], Array]
    averaged: Callable[[Array], Array] | None = None


def run(cell: Cell, scale: Scale) -> dict[str, Any]:
    """One decoder learned in one way, and how it is judged on test images."""
    parts = pixels(cell.network)
    train, test = parts["train"], parts["test"].first(scale.judged)
    hidden = ~train.upper_half
    begun = time.perf_counter()
    found = learned(cell, scale, train)
    seconds = time.perf_counter() - begun
    reconstructed = in_parts(lambda x: found.decode(found.encode(x)), test.images)
    completed = in_parts(found.complete, test.images)
    completion = squared_error(completed, test.images, hidden).mean()
    average_image = train.images.mean(axis=0)
    baseline = squared_error(np.broadcast_to(average_image, test.images.shape), test.images, hidden)
    averaged = None
    if found.averaged is not None:
        some = test.images[: scale.judged // 4]
        means = in_parts(found.averaged, some)
        averaged = squared_error(means, some, hidden).mean()
    latents = in_parts(found.encode, train.images[:_FITTED_FROM])
    rng = np.random.default_rng(cell.seed)
    samples = {
        "prior": rng.normal(size=(scale.drawn, scale.latents)),
        "fitted": rng.multivariate_normal(latents.mean(axis=0), np.cov(latents.T), scale.drawn),
    }
    drawn = {
        name: np.clip(in_parts(found.decode, z.astype(np.float32)), 0, 1)
        for name, z in samples.items()
    }
    judge = classifier(cell.network)
    real = Moments.of(judge, parts["test"].images)
    places, distance = nearest(drawn["prior"][: _SHOWN * 20], train.images)
    _, usual = nearest(test.images[: _SHOWN * 20], train.images)
    return {
        "reconstruction": squared_error(reconstructed, test.images).mean(),
        "completion": completion,
        "completion_over_mean": completion / baseline.mean(),
        "completion_averaged": averaged,
        **{
            f"frechet_{name}": frechet(real, Moments.of(judge, images))
            for name, images in drawn.items()
        },
        "copied": distance.mean() / usual.mean(),
        "latent_size": float(np.sqrt((latents**2).mean())),
        "seconds": seconds,
        "pictures": {
            "reconstructed": as_bytes(reconstructed[:_SHOWN]),
            "completed": as_bytes(completed[:_SHOWN]),
            "samples": as_bytes(drawn["prior"][:_SAMPLES_SHOWN]),
            "nearest": as_bytes(train.images[places[:_SHOWN]]),
        },
    }


def learned(cell: Cell, scale: Scale, train: Pixels) -> Found:
    """What a method makes of the training images."""
    chosen = order(len(train.images), scale.batch, scale.epochs, cell.seed)
    if cell.method.startswith("PC"):
        return by_inference(cell, scale, train, chosen)
    if cell.method == "autoencoder":
        return by_autoencoder(cell.seed, scale, train, chosen)
    return by_variational(cell.seed, scale, train, chosen)


def by_inference(cell: Cell, scale: Scale, train: Pixels, chosen: np.ndarray) -> Found:
    """A decoder learned by predictive coding, at the mode or from samples."""
    size = train.images.shape[1]
    own, other = jax.random.split(jax.random.key(cell.seed))
    network = decoder(
        scale.latents,
        size,
        width=scale.width,
        precision=scale.inner,
        key=own,
        output=Gaussian(scale.precision),
    )
    network = with_encoder(network, width=scale.width, key=other)
    # Hidden nodes have a Hessian of at least their precision.
    easy = {name: 0.5 / scale.step / scale.inner for name in ("first", "hidden")}
    sampler = Langevin(scale.step, scale.steps, scale.steps // 4, preconditioner=easy)
    samples = cell.method == "PC, Langevin"
    rule = Equilibrium(sampler if samples else GaussNewton(2, 6), output_precision=1.0)
    optimizer = (
        cosine_adam(scale.chain_rate, len(chosen))
        if samples
        else cosine_adam(scale.rate, len(chosen), scale.decay)
    )
    learner = Learner(rule, optimizer, pose=_observing)
    network, _ = trained(
        learner, network, lambda rows: jnp.asarray(train.images[rows]), chosen, cell.seed
    )
    seen = jnp.asarray(train.upper_half)
    long = Langevin(scale.step / 2, scale.long, scale.long // 4, preconditioner=easy)
    key = jax.random.key(cell.seed)
    return Found(
        functools.partial(_decoded, network),
        functools.partial(_explained, network),
        lambda x: _decoded(network, _explained_part(network, x, seen)),
        (lambda x: _averaged(network, long, x, seen, key)) if samples else None,
    )


def _observing(network: Network, images: Array) -> Problem:
    return Problem(network, {network.output.name: images})


@eqx.filter_jit
def _decoded(network: Network, latents: Array) -> Array:
    return predict(network, {"latent": latents})


@eqx.filter_jit
def _explained(network: Network, images: Array) -> Array:
    return infer(_observing(network, images), SOLVER).activities["latent"]


@eqx.filter_jit
def _explained_part(network: Network, images: Array, seen: Array) -> Array:
    problem = Problem(network, {network.output.name: Clamp(images, seen)})
    return infer(problem, SOLVER).activities["latent"]


@eqx.filter_jit
def _averaged(network: Network, solver: Langevin, images: Array, seen: Array, key: Array) -> Array:
    """The mean of what the decoder predicts over samples of the latent."""
    problem = Problem(network, {network.output.name: Clamp(images, seen)})
    start = {"latent": infer(problem, SOLVER).activities["latent"]}

    def observe(problem: Problem, here: Any) -> Array:
        return predict(problem.network, {"latent": here.activities["latent"]})

    found: Array = average(problem, solver, observe, at=start, key=key)[1]
    return found


def by_autoencoder(seed: int, scale: Scale, train: Pixels, chosen: np.ndarray) -> Found:
    """The decoder behind an encoder that is its mirror image, by backprop.

    What is hidden of an image is filled with the mean of the training images before it is encoded.
    """
    size, width = train.images.shape[1], scale.width
    network = mlp(
        size,
        size,
        width=[width, width, scale.latents, width, width],
        activation=["gelu", "gelu", "linear", "gelu", "gelu"],
        bias=True,
        key=jax.random.key(seed),
    )
    learner = Learner(Backprop(), cosine_adam(scale.encoder_rate, len(chosen)))

    def batches(rows: np.ndarray) -> tuple[Array, Array]:
        images = jnp.asarray(train.images[rows])
        return images, images

    network, _ = trained(learner, network, batches, chosen, seed)
    *_, code = [entry.name for entry in network.entries[:4]]
    decode, encode = _halves(network, code)
    return Found(decode, encode, _filled(lambda x: decode(encode(x)), train))


def _filled(whole: Callable[[Array], Array], train: Pixels) -> Callable[[Array], Array]:
    """Completion by a map of whole images, with the mean image where nothing is seen."""
    seen, mean = jnp.asarray(train.upper_half), jnp.asarray(train.images.mean(axis=0))
    return lambda x: whole(jnp.where(seen, x, mean))


def _halves(
    network: Network, code: str
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """From the code to the image, and from the image to the code."""
    entries = list(network.entries)
    place = [entry.name for entry in entries].index(code)

    @eqx.filter_jit
    def encode(network: Network, images: Array) -> Array:
        return network.unroll(None, images)[code]

    @eqx.filter_jit
    def decode(network: Network, codes: Array) -> Array:
        for entry in network.entries[place + 1 :]:
            codes = entry.predict([codes], None)
        return codes

    return functools.partial(decode, network), functools.partial(encode, network)


class Variational(eqx.Module):
    """An encoder to mean and logarithm of the deviation of latents, and a decoder."""

    encoder: Network
    decoder: Network

    def code(self, images: Array) -> tuple[Array, Array]:
        """Mean and logarithm of the standard deviation."""
        mean, logarithm = jnp.split(predict(self.encoder, images), 2, axis=-1)
        return mean, logarithm

    def bound(self, images: Array, precision: float, key: Array) -> Array:
        """Minus the variational bound, up to a constant, mean over the images.

            precision/2 ||x - f(m + s xi)||^2 + 1/2 sum(m^2 + s^2 - 2 log s - 1)

        Source: Kingma and Welling (2013), arXiv 1312.6114.
        """
        mean, logarithm = self.code(images)
        latents = mean + jnp.exp(logarithm) * jax.random.normal(key, mean.shape)
        missed = predict(self.decoder, {"latent": latents}) - images
        apart = mean**2 + jnp.exp(2 * logarithm) - 2 * logarithm - 1
        return 0.5 * jnp.mean(precision * jnp.sum(missed**2, -1) + jnp.sum(apart, -1))


def by_variational(seed: int, scale: Scale, train: Pixels, chosen: np.ndarray) -> Found:
    """The decoder learned by the variational bound, at the same precision of pixels."""
    size, width = train.images.shape[1], scale.width
    own, other = jax.random.split(jax.random.key(seed))
    model = Variational(
        mlp(size, 2 * scale.latents, width=[width, width], bias=True, key=own),
        decoder(scale.latents, size, width=width, key=other),
    )
    optimizer = cosine_adam(scale.chain_rate, len(chosen))
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def some(model: Variational, state: Any, batches: Array, keys: Array) -> tuple[Any, Any]:
        arrays, rest = eqx.partition(model, eqx.is_inexact_array)

        def one(now: tuple[Any, Any], given: tuple[Array, Array]) -> tuple[Any, None]:
            arrays, state = now
            images, key = given
            slope = jax.grad(lambda a: eqx.combine(a, rest).bound(images, scale.precision, key))(
                arrays
            )
            updates, state = optimizer.update(slope, state, arrays)
            return (optax.apply_updates(arrays, updates), state), None

        (arrays, state), _ = jax.lax.scan(one, (arrays, state), (batches, keys))
        return eqx.combine(arrays, rest), state

    keys = jax.random.split(jax.random.key(seed), len(chosen))
    for begin in range(0, len(chosen), 128):
        rows = chosen[begin : begin + 128]
        model, state = some(
            model, state, jnp.asarray(train.images[rows]), keys[begin : begin + 128]
        )
    encode = eqx.filter_jit(lambda model, x: model.code(x)[0])
    decode = functools.partial(_decoded, model.decoder)
    own_encode = functools.partial(encode, model)
    return Found(decode, own_encode, _filled(lambda x: decode(own_encode(x)), train))


def _shown(group: Group, what: str) -> np.ndarray:
    return from_bytes(group.rows[0]["pictures"][what], pixels(group.network)["test"].shape)


def draw_reconstructions(found: list[Group], path: Path) -> None:
    """Test images, and what each method makes of them."""
    test = pixels(found[0].network)["test"].first(_SHOWN)
    rows = [PictureRow("image", test.images.reshape(-1, *test.shape))]
    rows += [PictureRow(group.method, _shown(group, "reconstructed")) for group in found]
    draw_gallery(rows, path)


def draw_completions(found: list[Group], path: Path) -> None:
    """Images of which the upper half is given, as each method completes them."""
    test = pixels(found[0].network)["test"].first(_SHOWN)
    images = test.images.reshape(-1, *test.shape)
    given = np.where(test.upper_half.reshape(test.shape), images, 0.5)
    rows = [PictureRow("image", images), PictureRow("given", given)]
    rows += [PictureRow(group.method, _shown(group, "completed")) for group in found]
    draw_gallery(rows, path)


def draw_samples(found: list[Group], path: Path) -> None:
    """Samples of each method, the training images nearest to the first of them between."""
    rows = []
    for group in found:
        samples = _shown(group, "samples")
        rows += [
            PictureRow(group.method, samples[:_SHOWN]),
            PictureRow("nearest", _shown(group, "nearest")),
            PictureRow("", samples[_SHOWN:]),
        ]
    draw_gallery(rows, path)


EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: scale.seeds,
    methods=METHODS,
    run=run,
    outcome=said(
        "reconstruction {reconstruction:.5f}, completion {completion:.4f}, "
        "Frechet {frechet_prior:.1f}"
    ),
    columns=COLUMNS,
    figures={
        "reconstructions-{network}.png": draw_reconstructions,
        "completions-{network}.png": draw_completions,
        "samples-{network}.png": draw_samples,
    },
)

reproduce = EXPERIMENT.reproduce
