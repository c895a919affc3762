"""Residual convolutional networks, with skips as edges or with auxiliary nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import gate
from fathomx.checks.names import unknown
from fathomx.graph.energy import Energy, Gaussian
from fathomx.graph.entries import Node
from fathomx.graph.network import Network
from fathomx.layers.activations import Activation, linear
from fathomx.layers.joins import add
from fathomx.layers.parameterization import Parameterization, Role
from fathomx.models._convolutional import (
    Convolved,
    Joined,
    Layers,
    Sizes,
    average_halved,
    global_average,
)

# Blocks in every stage, by depth.
_BLOCKS = {10: 1, 18: 2}
_CHANNELS = (64, 128, 256, 512)
_HALVINGS = len(_CHANNELS) - 1
# Kernel, stride and pooling of the first convolution, and how often it halves the image.
_STEMS: dict[str, tuple[int, int, Callable[[Array], Array], int]] = {
    "small": (3, 1, linear, 0),
    "large": (7, 2, average_halved, 2),
}
# Pixels of the shorter side of images up to which the stem is small.
_SMALL = 64


@gate
def resnet(
    depth: int,
    *,
    width: float = 1.0,
    auxiliary: bool = True,
    activity_rate: float = 0.5,
    classes: int = 10,
    image_shape: Sequence[int] = (32, 32, 3),
    activation: Activation = "gelu",
    normalization: str | None = None,
    stem: str | None = None,
    bias: bool = False,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """A residual network of two-layer blocks, in one of two forms with the same feedforward pass.

    A convolution of the image (`stem`), four stages of 64, 128, 256 and 512 channels with one
    (`depth` 10) or two blocks (18) each, and a linear readout of the channels' means (`output`).
    The image is halved by stride 2 in the first block of stages 2 to 4. With the block's input `p`

        a = norm(a_1 W_1 * phi(p)),    b = norm(a_2 W_2 * phi(a)) + shortcut(p)

    where the shortcut is the identity, or a normalized 1x1 convolution where the shape changes.

    * `auxiliary=False`: two nodes per block, `stage1.block1.conv1` (`a`) and `.conv2` (`b`), which
      has the skip as an edge from `p`. In state descent the error then travels faster along the
      skips than through the blocks.
    * `auxiliary=True`: `b` is the branch alone, and the skip has two nodes of its own, so that
      the error takes as many steps along either path: `.skip1`, beside `a`, is the shortcut, and
      `.skip2`, beside `b`, repeats it. What follows takes both `.conv2` and `.skip2` as its
      parents and acts on their sum. Identities have the precision `1 / activity_rate`: a step of
      that length passes the whole error on. Convolutions have precision 1. The energy has more
      terms than without, so the two forms relax to different activities.

    **Arguments**

    * `depth`: 10 or 18, the nodes that are not auxiliary.
    * `width`: multiplies the channels of every stage (rounded, at least 1).
    * `auxiliary`: which of the two forms.
    * `activity_rate`: the length of the first step along a new gradient in the state descent that
      is to relax the network: of `optax.sgd` its rate, with Nesterov momentum
      `rate * (1 + momentum)`. If it is too small, every auxiliary node amplifies the error.
    * `image_shape`: `(height, width, channels)`, at least 8 pixels high and wide (32 with a large
      stem); an odd size is halved upwards.
    * `stem`: the convolution of the image, `"small"`, 3x3 at every pixel, or `"large"`, as for
      ImageNet: 7x7 with stride 2, then the means of 2x2 pixels, so that the stages work on a
      quarter of the height and width. (The source takes maxima of 3x3; means keep the energy
      smooth.) Unless given `"small"` up to 64 pixels and `"large"` above.
    * `parameterization`: `Standard(gain=sqrt(2))` unless given, for every weight. It is told the
      first stage's channels as the width. The second convolution of a block is the residual
      branch's weight; the first, the stem and the shortcuts are not.
    * The others as in `vgg`.

    Raises `ValueError` for unknown depths and options, sizes that are not positive, a rate that is
    not positive and images that are too small.

    ```python
    network = fx.models.resnet(10, width=0.25, normalization="batch", key=jax.random.key(0))
    ```

    Source: He et al. (2016), with the activation before the convolution; auxiliary nodes: Qi et
    al. (2025), arXiv 2506.23800.
    """
    sizes = Sizes(depth, _BLOCKS, width, classes, image_shape)
    layers = Layers(sizes, activation, normalization, bias, parameterization)
    if not (math.isfinite(activity_rate) and activity_rate > 0):
        raise ValueError(
            f"activity_rate must be a positive, finite number, the rate of the state descent that "
            f"is to relax the network, not {activity_rate!r}."
        )
    shorter = min(sizes.image_shape[:2])
    if stem is None:
        stem = "small" if shorter <= _SMALL else "large"
    if stem not in _STEMS:
        raise ValueError(unknown("stem", stem, _STEMS))
    kernel, stride, pool, first_halvings = _STEMS[stem]
    halvings = _HALVINGS + first_halvings
    if shorter < 2**halvings:
        raise ValueError(
            f"ResNet-{depth} halves the image {halvings} times, but image_shape "
            f"{sizes.image_shape} cannot be halved that often; pad or resize the images to at "
            f"least {2**halvings} x {2**halvings} pixels."
        )
    stem_key, blocks_key, output_key = jax.random.split(key, 3)
    keys = iter(jax.random.split(blocks_key, len(_CHANNELS) * _BLOCKS[depth]))
    channels = sizes.channels(_CHANNELS[0])
    function = layers.convolved(
        Role.INPUT,
        (sizes.image_shape[2], channels),
        stem_key,
        kernel=kernel,
        stride=stride,
        pool=pool,
    )
    nodes = [Node("stem", function)]
    sources: tuple[str, ...] = ("stem",)
    for stage, at_width_one in enumerate(_CHANNELS):
        for index in range(_BLOCKS[depth]):
            wide = sizes.channels(at_width_one)
            stride = 2 if stage > 0 and index == 0 else 1
            name = f"stage{stage + 1}.block{index + 1}"
            block = _Block.make(layers, name, (channels, wide), stride, next(keys))
            if auxiliary:
                added, sources = block.with_auxiliary_nodes(sources, activity_rate)
            else:
                added, sources = block.with_edge(sources)
            nodes += added
            channels = wide
    head = layers.head(Role.OUTPUT, (channels, classes), output_key, global_average)
    nodes.append(Node("output", head, parents=sources, energy=output))
    return Network(nodes, sizes.image_shape)


@dataclass(frozen=True)
class _Block:
    """The functions of a residual block, to be joined to the graph in one of two forms.

    `sources` are the nodes whose sum is the input of the block. Both forms return their nodes, and
    the names of those whose sum is the output of the block.
    """

    name: str
    first: Convolved
    second: Convolved
    shortcut: Callable[..., Array]

    @classmethod
    def make(
        cls, layers: Layers, name: str, channels: tuple[int, int], stride: int, key: PRNGKeyArray
    ) -> _Block:
        keys = jax.random.split(key, 3)
        narrow, wide = channels
        changes = stride > 1 or narrow != wide
        return cls(
            name,
            layers.convolved(Role.HIDDEN, channels, keys[0], stride=stride),
            layers.convolved(Role.RESIDUAL, (wide, wide), keys[1]),
            layers.shortcut(channels, keys[2], stride) if changes else add,
        )

    def with_edge(self, sources: tuple[str, ...]) -> tuple[list[Node], tuple[str, ...]]:
        inner, last = f"{self.name}.conv1", f"{self.name}.conv2"
        nodes = [
            Node(inner, self.first, parents=sources),
            Node(last, Joined(self.second, self.shortcut), parents=(inner, *sources)),
        ]
        return nodes, (last,)

    def with_auxiliary_nodes(
        self, sources: tuple[str, ...], activity_rate: float
    ) -> tuple[list[Node], tuple[str, ...]]:
        inner, last = f"{self.name}.conv1", f"{self.name}.conv2"
        beside, end = f"{self.name}.skip1", f"{self.name}.skip2"
        passing = Gaussian(precision=1 / activity_rate)
        energy = passing if self.shortcut is add else Gaussian()
        nodes = [
            Node(inner, self.first, parents=sources),
            Node(beside, self.shortcut, parents=sources, energy=energy),
            Node(last, self.second, parents=(inner,)),
            Node(end, add, parents=(beside,), energy=passing),
        ]
        return nodes, (last, end)
