"""The nonlinear families: networks that have to be relaxed, each with its examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array

from fathomx.experiments.examples import drawn, loaded
from fathomx.experiments.limits.scales import Scale
from fathomx.graph.network import Network
from fathomx.layers.parameterization import MuPC
from fathomx.models import residual_cnn, residual_mlp, transformer
from fathomx.problem.problem import Problem

_HEADS = 4


@dataclasses.dataclass(frozen=True)
class Nonlinear:
    """A network of a family, and its width."""

    family: str
    width: int


def nonlinear_networks(scale: Scale) -> dict[str, Nonlinear]:
    """The networks that have to be relaxed, by name."""
    families = {
        "tanh MLP": scale.mlp_widths,
        "residual CNN": scale.cnn_widths,
        "transformer": scale.transformer_widths,
    }
    return {
        f"{family}, width {width}": Nonlinear(family, width)
        for family, widths in families.items()
        for width in widths
    }


def posed(network: Nonlinear, seed: int, scale: Scale) -> Problem:
    """A family's network with its initial weights, and the examples it relaxes."""
    build, examples = FAMILIES[network.family]
    x, y = examples(scale, seed)
    return Problem(build(network.width, scale, jax.random.key(seed)), x, y, 1.0)


def _tanh_mlp(width: int, scale: Scale, key: Array) -> Network:
    images = loaded("cifar10").flat()
    return residual_mlp(
        images.input_shape[0],
        images.classes,
        width=width,
        depth=scale.mlp_nodes,
        activation="tanh",
        parameterization=MuPC(),
        key=key,
    )


def _residual_cnn(width: int, scale: Scale, key: Array) -> Network:
    images = loaded("cifar10").images()
    return residual_cnn(
        scale.cnn_blocks,
        width=width,
        classes=images.classes,
        image_shape=images.input_shape,
        activation="tanh",
        parameterization=MuPC(),
        key=key,
    )


def _transformer(width: int, scale: Scale, key: Array) -> Network:
    return transformer(
        loaded("tiny-shakespeare", scale.context).classes,
        scale.context,
        width=width,
        depth=scale.transformer_blocks,
        heads=_HEADS,
        parameterization=MuPC(),
        key=key,
    )


FAMILIES: dict[str, tuple[Callable[..., Network], Callable[..., tuple[Any, Any]]]] = {
    "tanh MLP": (
        _tanh_mlp,
        lambda scale, seed: drawn(loaded("cifar10").flat(), scale.images, seed),
    ),
    "residual CNN": (
        _residual_cnn,
        lambda scale, seed: drawn(loaded("cifar10").images(), scale.cnn_images, seed),
    ),
    "transformer": (
        _transformer,
        lambda scale, seed: drawn(loaded("tiny-shakespeare", scale.context), scale.windows, seed),
    ),
}
