"""Residual convolutional networks of identical blocks, at any depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import gate
from fathomx.graph.energy import Energy
from fathomx.graph.entries import Node, Stack
from fathomx.graph.network import Network
from fathomx.layers.activations import Activation, linear
from fathomx.layers.convolution import average_pool
from fathomx.layers.parameterization import Parameterization, Role, Standard
from fathomx.models._convolutional import Convolved, Layers, Sizes, global_average

_STAGES = 3


class ResidualBlock(eqx.Module):
    """`p + a W * phi(p)` with `p = pool(z)`: a convolution beside an identity skip."""

    branch: Convolved
    pool: Callable[[Array], Array]

    def __call__(self, activity: Array) -> Array:
        pooled = self.pool(activity)
        return pooled + self.branch(pooled)


@gate
def residual_cnn(
    blocks: int = 3,
    *,
    width: int = 32,
    classes: int = 10,
    image_shape: Sequence[int] = (32, 32, 3),
    activation: Activation = "gelu",
    bias: bool = False,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """A residual convolutional network of three stages of `blocks` blocks, of any depth.

        mu_1 = a_1 W_1 * x
        mu_l = p + a_l W_l * phi(p),    p = z_{l-1}, or pool(z_{l-1}) where stage 2 or 3 begins
        mu_L = a_L W_L mean(phi(z_{L-1}))

    with 3x3 convolutions `*`, 2x2 average pooling and the mean over all positions. All
    `L = 3 * blocks + 2` nodes have one weight layer each, and all blocks have `width` channels:
    `stem`, then in every stage its first block, the node `stage1.first`, and the others, one
    `Stack` named `stage1.rest` (none with one block), then `output`. More blocks take no longer
    to compile.

    With `activation="linear"` the network is linear in its activities: `fx.Exact` and
    `fx.theory.rescaling` know its equilibrium in closed form.

    **Arguments**

    * `blocks`: blocks per stage, at least 1.
    * `width`: channels of the stem and of every block.
    * `classes`: size of the output.
    * `image_shape`: `(height, width, channels)`; height and width are multiples of 4.
    * `activation`: a name of `fathomx.layers.ACTIVATIONS` (`"linear"` too) or a function.
    * `bias`: whether every convolution and the linear map add a bias for each of their channels or
      units, zero at first.
    * `parameterization`: `Standard()` unless given, under which activities grow from block to
      block; `MuPC()` keeps their size at any depth. It is told `width` and the depth `L`; the
      blocks' convolutions are the residual branches.
    * `key`: a PRNG key. `output`: the output node's energy, `Gaussian()` unless given.

    Raises `ValueError` for sizes below 1, images that cannot be halved twice and unknown
    activations, `TypeError` for a parameterization that is none.

    ```python
    network = fx.models.residual_cnn(9, width=16, activation="tanh", parameterization=fx.MuPC(),
                                     key=jax.random.key(0))
    ```

    Source: residual convolutional networks with the depth scaling of the branches, Innocenti et
    al. (2026), arXiv 2602.07697; the activation before the convolution, He et al. (2016), arXiv
    1603.05027. The stages and the places of the pooling are our choice.
    """
    for name, value in (("blocks", blocks), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}.")
    depth = _STAGES * blocks + 2
    # `Sizes` measures widths in multiples of 64 channels.
    sizes = Sizes(depth, (depth,), width / 64, classes, image_shape)
    parts = 2 ** (_STAGES - 1)
    if any(size % parts for size in sizes.image_shape[:2]):
        raise ValueError(
            f"residual_cnn halves the image {_STAGES - 1} times, but image_shape "
            f"{sizes.image_shape} cannot be halved that often; pad, crop or resize the images so "
            f"that height and width are multiples of {parts}."
        )
    parameterization = Standard() if parameterization is None else parameterization
    layers = Layers(sizes, activation, None, bias, parameterization)

    def block(key: PRNGKeyArray, pool: Callable[[Array], Array] = linear) -> ResidualBlock:
        return ResidualBlock(layers.convolved(Role.RESIDUAL, (width, width), key), pool)

    stem_key, blocks_key, output_key = jax.random.split(key, 3)
    keys = jax.random.split(blocks_key, (_STAGES, blocks))
    stem = layers.convolved(Role.INPUT, (sizes.image_shape[2], width), stem_key)
    nodes: list[Node | Stack] = [Node("stem", stem)]
    for stage in range(_STAGES):
        name = f"stage{stage + 1}"
        nodes.append(
            Node(f"{name}.first", block(keys[stage, 0], linear if stage == 0 else average_pool))
        )
        if blocks > 1:
            nodes.append(Stack(f"{name}.rest", eqx.filter_vmap(block)(keys[stage, 1:])))
    head = layers.head(Role.OUTPUT, (width, classes), output_key, global_average)
    nodes.append(Node("output", head, energy=output))
    return Network(nodes, sizes.image_shape)
