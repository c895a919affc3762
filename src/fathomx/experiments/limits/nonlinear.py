"""The nonlinear families: networks that have to be relaxed, each with its examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array

from fathomx.experiments.examples import drawn, loaded
from fathomx.experiments.limits.embeddings import embedding_scale, expected_motion, with_embeddings
from fathomx.experiments.limits.scales import Scale
from fathomx.graph.network import Network
from fathomx.layers.parameterization import MuPC, Parameterization
from fathomx.models import residual_cnn, residual_mlp, transformer
from fathomx.problem.problem import Problem

_HEADS = 4


@dataclasses.dataclass(frozen=True)
class Nonlinear:
    """A network of a family, its width, and how it is parameterized."""

    family: str
    width: int
    parameterization: Parameterization

    @property
    def embedding(self) -> float:
        """The standard deviation of its embeddings, if it has any."""
        return embedding_scale(self.parameterization)


def nonlinear_networks(scale: Scale) -> dict[str, Nonlinear]:
    """The networks that have to be relaxed, by name."""
    families = {
        "tanh MLP": scale.mlp_widths,
        "residual CNN": scale.cnn_widths,
        "transformer": scale.transformer_widths,
    }
    published = {
        f"{family}, width {width}": Nonlinear(family, width, MuPC())
        for family, widths in families.items()
        for width in widths
    }
    return published | embedding_networks(scale)


def embedding_networks(scale: Scale) -> dict[str, Nonlinear]:
    """The transformers under muPC with embeddings of other standard deviations, by name."""
    return {
        f"transformer, width {width}, embedding std {deviation:g}": Nonlinear(
            "transformer", width, with_embeddings(deviation)
        )
        for width in scale.embedding_widths
        for deviation in scale.embeddings
    }


def posed(network: Nonlinear, seed: int, scale: Scale) -> Problem:
    """A family's network with its initial weights, and the examples it relaxes."""
    family = FAMILIES[network.family]
    x, y = family.examples(scale, seed)
    return Problem(family.build(network, scale, jax.random.key(seed)), x, y, 1.0)


def expected(network: Nonlinear, seed: int, scale: Scale) -> dict[str, float]:
    """What is expected of the gradient, over the weights, where something is."""
    return FAMILIES[network.family].expected(network, scale, seed)


def _tanh_mlp(network: Nonlinear, scale: Scale, key: Array) -> Network:
    images = loaded("cifar10").flat()
    return residual_mlp(
        images.input_shape[0],
        images.classes,
        width=network.width,
        depth=scale.mlp_nodes,
        activation="tanh",
        parameterization=network.parameterization,
        key=key,
    )


def _residual_cnn(network: Nonlinear, scale: Scale, key: Array) -> Network:
    images = loaded("cifar10").images()
    return residual_cnn(
        scale.cnn_blocks,
        width=network.width,
        classes=images.classes,
        image_shape=images.input_shape,
        activation="tanh",
        parameterization=network.parameterization,
        key=key,
    )


def _transformer(network: Nonlinear, scale: Scale, key: Array) -> Network:
    return transformer(
        loaded("tiny-shakespeare", scale.context).classes,
        scale.context,
        width=network.width,
        depth=scale.transformer_blocks,
        heads=_HEADS,
        parameterization=network.parameterization,
        key=key,
    )


def _windows(scale: Scale, seed: int) -> tuple[Any, Any]:
    return drawn(loaded("tiny-shakespeare", scale.context), scale.windows, seed)


def _expected_motion(network: Nonlinear, scale: Scale, seed: int) -> dict[str, float]:
    tokens, labels = _windows(scale, seed)
    return expected_motion(
        tokens,
        labels,
        vocabulary=loaded("tiny-shakespeare", scale.context).classes,
        width=network.width,
        blocks=scale.transformer_blocks,
        deviation=network.embedding,
    )


@dataclasses.dataclass(frozen=True)
class Family:
    """How the networks of a family are built, their examples, and what is expected of them."""

    build: Callable[[Nonlinear, Scale, Array], Network]
    examples: Callable[[Scale, int], tuple[Any, Any]]
    expected: Callable[[Nonlinear, Scale, int], dict[str, float]] = lambda *_: {}


FAMILIES = {
    "tanh MLP": Family(
        _tanh_mlp, lambda scale, seed: drawn(loaded("cifar10").flat(), scale.images, seed)
    ),
    "residual CNN": Family(
        _residual_cnn, lambda scale, seed: drawn(loaded("cifar10").images(), scale.cnn_images, seed)
    ),
    "transformer": Family(_transformer, _windows, _expected_motion),
}
