"""Plain convolutional networks of the VGG family."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import gate
from fathomx.checks.names import unknown
from fathomx.graph.energy import Energy
from fathomx.graph.entries import Node
from fathomx.graph.network import Network
from fathomx.layers.activations import Activation, linear
from fathomx.layers.parameterization import Parameterization, Role
from fathomx.models._convolutional import (
    Layers,
    Sizes,
    average_halved,
    global_average,
    max_halved,
)

# Convolutions in every stage, and linear layers after them, by depth.
_LAYOUTS = {
    5: ((1, 1, 1, 1), 1),
    7: ((1, 1, 2, 2), 1),
    9: ((2, 2, 2, 2), 1),
    10: ((2, 2, 2, 3), 1),
    11: ((1, 1, 2, 2, 2), 3),
    13: ((2, 2, 2, 2, 2), 3),
    15: ((2, 2, 2, 3, 3), 3),
    19: ((2, 2, 4, 4, 4), 3),
}
_CHANNELS = (64, 128, 256, 512, 512)
_POOLS = {"max": max_halved, "average": average_halved}
_HEADS = ("flat", "average")
# Pixels of the larger side of images up to which the last one is flattened.
_FLAT = 64


@gate
def vgg(
    depth: int,
    *,
    width: float = 1.0,
    classes: int = 10,
    image_shape: Sequence[int] = (32, 32, 3),
    activation: Activation = "gelu",
    normalization: str | None = None,
    pool: str = "max",
    head: str | None = None,
    bias: bool = False,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """A plain convolutional network with `depth` weight layers, each a node.

        mu_1 = pool(norm(a_1 W_1 * x)),    mu_l = pool(norm(a_l W_l * phi(z_{l-1})))

    with 3x3 convolutions `*` in four or five stages of 64, 128, 256, 512 and 512 channels, then
    linear layers `mu_l = a_l W_l phi(z_{l-1})` on the flattened image, or on the means of its
    channels. A convolution's normalization and, at the end of a stage, the 2x2 pooling belong to
    its node: `stage1.conv1`, ..., then `linear1`, `linear2` where there are any, and `output`.

    | depth | convolutions per stage | linear layers |
    |---|---|---|
    | 5, 7 | 1 1 1 1, 1 1 2 2 | 1 |
    | 9, 10 | 2 2 2 2, 2 2 2 3 | 1 |
    | 11, 13 | 1 1 2 2 2, 2 2 2 2 2 | 3 |
    | 15, 19 | 2 2 2 3 3, 2 2 4 4 4 | 3 |

    **Arguments**

    * `depth`: one of the table's.
    * `width`: multiplies the channels of every stage and the 512 units of the hidden linear layers
      (rounded, at least 1).
    * `classes`: size of the output.
    * `image_shape`: `(height, width, channels)`; height and width are halved after every stage.
      Images of 32 to 224 pixels are what the depths are made for.
    * `activation`: a name of `fathomx.layers.ACTIVATIONS` or a function.
    * `normalization`: of every convolution: `None`, `"batch"` (see
      `Network.with_batch_statistics`) or `"group"` (at most 32 groups, of two or more channels).
    * `bias`: whether every convolution and linear map adds a bias for each of its channels or
      units, zero at first; without, as by default, see `mlp`.
    * `pool`: `"max"` or `"average"`. With `"max"` the energy has kinks.
    * `head`: what the first linear layer sees of the last image: all of it, `"flat"`, which needs
      height and width that can be halved after every stage; or `"average"`, the mean of every
      channel, at any size that is not below 1 after the stages (an odd one is halved upwards), so
      that the number of weights does not depend on the size. Unless given `"flat"` up to 64 pixels
      and `"average"` above.
    * `parameterization`: `Standard(gain=sqrt(2))` unless given, with the same gain at the first
      layer, which has no activation before it. It is told the first stage's channels as the width.
    * `key`: a PRNG key. `output`: the output node's energy, `Gaussian()` unless given.

    Raises `ValueError` for unknown depths and options, sizes that are not positive and images that
    cannot be halved as often as there are stages.

    ```python
    network = fx.models.vgg(5, width=0.25, normalization="group", key=jax.random.key(0))
    ```

    Source: Simonyan and Zisserman (2015); the depths are those of Qi et al. (2025), arXiv
    2506.23800, who name them without their layout: the table is our choice.
    """
    sizes = Sizes(depth, _LAYOUTS, width, classes, image_shape)
    layers = Layers(sizes, activation, normalization, bias, parameterization)
    if pool not in _POOLS:
        raise ValueError(unknown("pool", pool, _POOLS))
    stages, linears = _LAYOUTS[depth]
    height, breadth, channels = sizes.image_shape
    parts = 2 ** len(stages)
    if head is None:
        head = "flat" if max(height, breadth) <= _FLAT else "average"
    if head not in _HEADS:
        raise ValueError(unknown("head", head, _HEADS))
    if min(height, breadth) < parts or (head == "flat" and (height % parts or breadth % parts)):
        otherwise = "" if head == "average" else f", or leave the rest to head={_HEADS[1]!r}"
        raise ValueError(
            f"VGG-{depth} halves the image {len(stages)} times, but image_shape "
            f"{sizes.image_shape} cannot be halved that often; pad, crop or resize the images so "
            f"that height and width are multiples of {parts}{otherwise}."
        )
    keys = iter(jax.random.split(key, depth))
    nodes = []
    role = Role.INPUT
    for stage, count in enumerate(stages):
        for index in range(count):
            wide = sizes.channels(_CHANNELS[stage])
            convolved = layers.convolved(
                role,
                (channels, wide),
                next(keys),
                pool=_POOLS[pool] if index == count - 1 else linear,
            )
            nodes.append(Node(f"stage{stage + 1}.conv{index + 1}", convolved))
            channels, role = wide, Role.HIDDEN
    size = channels if head == "average" else (height // parts) * (breadth // parts) * channels
    reduce: Callable[[Array], Array] = global_average if head == "average" else jnp.ravel
    for index in range(linears - 1):
        wide = sizes.channels(512)
        function = layers.head(Role.HIDDEN, (size, wide), next(keys), reduce)
        nodes.append(Node(f"linear{index + 1}", function))
        size, reduce = wide, jnp.ravel
    last = layers.head(Role.OUTPUT, (size, classes), next(keys), reduce)
    nodes.append(Node("output", last, energy=output))
    return Network(nodes, sizes.image_shape)
