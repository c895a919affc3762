"""The networks that a job can build, by name: what each reads, its sizes and its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from fathomx.data import Dataset
from fathomx.graph.network import Network
from fathomx.models import mlp, residual_cnn, residual_mlp, resnet, transformer, vgg


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a model reads: the view of a data set, and how that says which sizes to build."""

    view: Callable[[Dataset], Dataset]
    sizes: Callable[[Dataset], dict[str, Any]]
    data: str = "digits"


VECTORS = Reading(
    Dataset.flat, lambda data: {"in_size": data.input_shape[0], "out_size": data.classes}
)
IMAGES = Reading(
    Dataset.images, lambda data: {"classes": data.classes, "image_shape": data.input_shape}
)
TOKENS = Reading(
    lambda data: data,
    lambda data: {"vocabulary": data.classes, "context": data.input_shape[0]},
    data="tiny-shakespeare",
)


def _residual_cnn(depth: int, **choices: Any) -> Network:
    blocks, rest = divmod(depth - 2, 3)
    if rest or blocks < 1:
        raise ValueError(
            f"residual-cnn has three stages of equal size between two layers, so depth must be 5, "
            f"8, 11 or another 3 * blocks + 2, not {depth}."
        )
    return residual_cnn(blocks, **choices)


@dataclasses.dataclass(frozen=True)
class Model:
    """A network that a job can build.

    * `make`: its function in `fathomx.models`. `reading`: what it takes as input.
    * `depth`, `width`, `parameterization`: what a job takes unless told otherwise. An integer
      `width` counts units, one with a fraction multiplies channels.
    * `options`: the fields of `Job` that only some models have, with their defaults.
    * `steps`: iterations of Gauss-Newton.
    """

    make: Callable[..., Network]
    reading: Reading
    depth: int
    width: int | float
    parameterization: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = 1


MODELS: dict[str, Model] = {
    "residual-mlp": Model(residual_mlp, VECTORS, 64, 128, "mupc"),
    "mlp": Model(mlp, VECTORS, 64, 128, "mupc"),
    "vgg": Model(vgg, IMAGES, 10, 1.0, "he", {"normalization": "none"}),
    "resnet": Model(resnet, IMAGES, 10, 1.0, "he", {"normalization": "none", "auxiliary": True}),
    "residual-cnn": Model(_residual_cnn, IMAGES, 11, 32, "mupc"),
    "transformer": Model(
        transformer,
        TOKENS,
        4,
        128,
        "mupc",
        {"normalization": "none", "heads": 4, "context": 64},
        # Attention bends what one linearization takes for straight.
        steps=2,
    ),
}
