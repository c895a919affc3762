"""The networks of the comparison: ours, and in the form of the released code."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from fathomx.experiments.deeper_pcns.methods import Method
from fathomx.graph.entries import Node
from fathomx.graph.network import Network
from fathomx.layers.activations import ACTIVATIONS
from fathomx.layers.parameterization import Standard
from fathomx.layers.scaled import Affine
from fathomx.models import resnet, vgg


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network of the comparison.

    **Fields**: `depth`; `build(depth, **options, key=)`; `skips`: whether there are any, which take
    auxiliary neurons; `published`: whether it is that of the released code, which has methods and
    a learning rate of its own.
    """

    depth: int
    build: Callable[..., Network]
    skips: bool = False
    published: bool = False

    @property
    def steps(self) -> int:
        """Inference steps of state descent: three more than nodes, as published for ResNet-10."""
        return self.depth + 3

    def network(self, width: float, method: Method, seed: int) -> Network:
        """The network for a method, with weights drawn from the seed, `1 / sqrt(fan_in)`."""
        options: dict[str, Any] = {
            "width": width,
            "normalization": method.normalization,
            "parameterization": Standard(),
        }
        if self.skips:
            options["auxiliary"] = method.auxiliary is not None
            options["activity_rate"] = method.auxiliary or 1.0
        return self.build(self.depth, **options, key=jax.random.key(seed))


class _Activated(eqx.Module):
    """A node function with the activation at its end, where others begin with one."""

    function: Callable[..., Any]

    def __call__(self, *activities: Any) -> Any:
        return ACTIVATIONS["gelu"](self.function(*activities))


def released_vgg(depth: int, *, key: PRNGKeyArray, **options: Any) -> Network:
    """A VGG as in the code of Qi et al.: activations at the end of nodes, biases, small weights.

        mu_l = phi(pool(W_l * z_{l-1} + b_l)),    W_l, b_l ~ Uniform(+-1 / sqrt(fan_in))

    so that weights have the standard deviation `0.577 / sqrt(fan_in)`; the last node has no
    activation. Differs from the released code in that pooling comes before the activation (the
    same for one that rises everywhere, nearly the same for GELU), and in what `vgg` chooses.
    """
    plain = vgg(depth, activation="linear", bias=True, key=key, **options)
    *hidden, output = (node for node in plain.entries if isinstance(node, Node))
    nodes = [Node(node.name, _Activated(node.function)) for node in hidden]
    whole = Network([*nodes, output], plain.input_shape)
    keys = iter(jax.random.split(key, depth))

    def redrawn(part: Any) -> Any:
        return _uniform(part, next(keys)) if isinstance(part, Affine) else part

    network: Network = jax.tree.map(redrawn, whole, is_leaf=lambda part: isinstance(part, Affine))
    return network


def _uniform(layer: Affine, key: PRNGKeyArray) -> Affine:
    (weight, bias), structure = jax.tree.flatten(layer)
    # Kernels are (height, width, in, out), matrices (out, in).
    most = 1 / math.sqrt(math.prod(weight.shape[:-1]) if weight.ndim == 4 else weight.shape[1])
    drawn = [
        jax.random.uniform(own, array.shape, minval=-most, maxval=most)
        for own, array in zip(jax.random.split(key), (weight, bias), strict=True)
    ]
    redrawn: Affine = jax.tree.unflatten(structure, drawn)
    return redrawn


NETWORKS = {
    "VGG-5": Architecture(5, vgg),
    "VGG-7": Architecture(7, vgg),
    "VGG-10": Architecture(10, vgg),
    "ResNet-10": Architecture(10, resnet, skips=True),
    "ResNet-18": Architecture(18, resnet, skips=True),
    "VGG-5 as released": Architecture(5, released_vgg, published=True),
    "VGG-7 as released": Architecture(7, released_vgg, published=True),
    "VGG-10 as released": Architecture(10, released_vgg, published=True),
}
