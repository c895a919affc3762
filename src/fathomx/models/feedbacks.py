"""Feedbacks for networks that have none: one for every node, of what it reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import gate
from fathomx.graph.energy import Gaussian
from fathomx.graph.entries import Entry
from fathomx.graph.feedback import Feedback
from fathomx.graph.network import Network
from fathomx.layers.activations import Activation, activation_function
from fathomx.layers.parameterization import Parameterization, Role, Standard
from fathomx.layers.scaled import Affine

_KERNEL = 3


class TopDown(eqx.Module):
    """`a W phi(z) + b` in the shape of what is predicted, of an image enlarged before."""

    map: Callable[[Array], Array]
    activation: Callable[[Array], Array]
    enlarged: int = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, activity: Array) -> Array:
        active = self.activation(activity)
        if not self.enlarged:
            return self.map(active.reshape(-1)).reshape(self.shape)
        for axis in (0, 1):
            active = jnp.repeat(active, self.enlarged, axis)
        return self.map(active)


@gate
def with_feedbacks(
    network: Network,
    *,
    names: Collection[str] | None = None,
    activation: Activation = "linear",
    energy: Gaussian | None = None,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
) -> Network:
    """A network with a feedback for each of its nodes, that predicts what the node reads.

        g(z) = a W phi(z) + b

    Images that are smaller than what they were made from are enlarged to it, pixel by pixel, and
    convolved (3x3); all else is a dense layer. The feedbacks are named `from_NAME`; of several
    parents the first is predicted. The network's own weights and predictions stay as they are.

    Only the feedbacks learn if a network is trained without inference on its input alone: at the
    feedforward pass no entry has an error, so that what is left is `||z - g||^2`, as in the
    example.

    **Arguments**

    * `network`: trained or not, of single nodes, such as `fx.wrap` returns if it is given names.
    * `names`: of the nodes that predict; unless given all but the output.
    * `activation`: `phi`, a name or a function; linear unless given.
    * `energy`: of every feedback, `Gaussian()` unless given.
    * `parameterization` (`Standard()` unless given), `key`: of the new weights.

    Raises `ValueError` for stacks, for nodes that read nothing and for networks that have feedbacks
    of these names.

    ```python
    network = fx.models.with_feedbacks(trained, key=jax.random.key(0))
    rule = fx.Equilibrium(fx.GaussNewton(0), output_precision=1.0)
    result = fx.fit(network, images, rule)                    # images: {"input": x}
    relaxed = fx.infer(fx.Problem(network, {"input": x}), fx.Predify(0.8, 0.1, 0.01, 10))
    ```

    Source: Choksi et al. (2021), arXiv 2106.02749.
    """
    parameterization = Standard() if parameterization is None else parameterization
    usual = [e.name for e in network.entries[:-1] if not e.is_root]
    chosen = usual if names is None else list(names)
    phi = activation_function(activation)
    made: list[Feedback] = []
    for name, own in zip(chosen, jax.random.split(key, max(1, len(chosen))), strict=False):
        entry = network.entry(name)
        of = _read(network, entry)
        small, large = network.shapes[name], network.shapes[of]
        mapped = _map(parameterization, small, large, network.depth, own)
        function = TopDown(mapped, phi, _ratio(small, large), large)
        made.append(Feedback(f"from_{name}", of, function, name, energy))
    return network.with_feedbacks(made)


def _read(network: Network, entry: Entry) -> str:
    """The name of what a node reads and a feedback can predict."""
    if entry.is_root:
        raise ValueError(f"root {entry.name!r} reads nothing that a feedback could predict.")
    of = network.parents[entry.name][0]
    for each in (entry, network.entry(of)):
        if each.batch_axis:
            raise ValueError(
                f"{each.name!r} is a stack; give fx.Feedback by hand, whose blocks belong to its "
                "blocks, or build the network of single nodes (fx.wrap with names)."
            )
    return of


def _map(
    layers: Parameterization, small: tuple[int, ...], large: tuple[int, ...], depth: int, key: Any
) -> Affine:
    """From an activity, enlarged if both are images, to what it was made from."""
    if _ratio(small, large):
        sizes = small[-1], large[-1]
        mapped: Any = layers.convolution(Role.HIDDEN, sizes, _KERNEL, sizes[0], depth, key)
    else:
        sizes = math.prod(small), math.prod(large)
        mapped = layers.linear(Role.HIDDEN, sizes, sizes[0], depth, key)
    return layers.affine(mapped, sizes[1], sizes[0], depth)


def _ratio(small: tuple[int, ...], large: tuple[int, ...]) -> int:
    """How many times larger an image is than another; 0 if they are not images of one kind."""
    if len(small) != 3 or len(large) != 3:
        return 0
    ratio = large[0] // small[0]
    return ratio if ratio and large[:2] == (ratio * small[0], ratio * small[1]) else 0
