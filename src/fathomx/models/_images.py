"""What decoders of images and bidirectional networks on images share: halves and doubles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from fathomx.graph.energy import Energy
from fathomx.graph.entries import Entry, Node, Stack
from fathomx.layers.activations import Activation, activation_function, linear
from fathomx.layers.convolution import Convolution, TransposedConvolution
from fathomx.layers.parameterization import Parameterization, Role, Standard
from fathomx.layers.scaled import Affine, Linear
from fathomx.models.mlp import Dense, Residual

# Between the outermost layers an image is a quarter as high and as wide.
_REDUCED = 4
_KERNEL = 3
# Even, so that a doubled image has no checkerboard.
_DOUBLING = 4


class Spread(eqx.Module):
    """`a W phi(z) + b` as an image: a dense layer whose result has the shape of one."""

    dense: Dense
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, activity: Array) -> Array:
        return self.dense(activity).reshape(self.shape)


class Joined(eqx.Module):
    """`a W phi(z) + b` of an image as one vector."""

    dense: Dense

    def __call__(self, activity: Array) -> Array:
        return self.dense(activity.reshape(-1))


class ImageMaker:
    """The layers of a network between a vector and an image, from one to the other or back.

    `first` (or `last`) is dense and deals with an image of a quarter of the size and `2 * width`
    channels; then there are `depth - 3` convolutions that keep it, one that has `width` channels
    and half the size, and one that has all of it.
    """

    def __init__(
        self,
        size: int,
        shape: Sequence[int],
        width: int,
        depth: int,
        activation: Activation,
        bias: bool,
        parameterization: Parameterization | None,
    ) -> None:
        height, wide, self.channels = shape
        if height % _REDUCED or wide % _REDUCED:
            raise ValueError(
                f"images are halved twice, so that height and width must be multiples of "
                f"{_REDUCED}, not {tuple(shape)}; pad them, or give the number of their values for "
                "a network of vectors."
            )
        if depth < 3:
            raise ValueError(
                f"depth counts weight layers and must be at least 3 for images, which are halved "
                f"twice, not {depth}."
            )
        self.size, self.shape, self.width, self.depth = size, tuple(shape), width, depth
        self.small = (height // _REDUCED, wide // _REDUCED, 2 * width)
        self.activation = activation_function(activation)
        self.bias = bias
        self.parameterization = Standard() if parameterization is None else parameterization

    def down(self, output: Energy | None, key: PRNGKeyArray) -> list[Entry]:
        """The entries from an image to a vector."""
        keys = jax.random.split(key, 4)
        return [
            Node("first", self.halving(Role.INPUT, (self.channels, self.width), linear, keys[0])),
            Node("second", self.halving(Role.HIDDEN, self._wider, self.activation, keys[1])),
            *self._hidden(keys[2], residual=False),
            Node("output", self.joined(keys[3]), energy=output),
        ]

    def up(self, output: Energy | None, key: PRNGKeyArray, *, residual: bool) -> list[Entry]:
        """The entries from a vector to an image."""
        keys = jax.random.split(key, 4)
        narrower = (2 * self.width, self.width)
        last = self.doubling(Role.OUTPUT, (self.width, self.channels), self.activation, keys[3])
        return [
            Node("first", self.spread(Role.INPUT, linear, keys[0])),
            *self._hidden(keys[1], residual=residual),
            Node("half", self.doubling(Role.HIDDEN, narrower, self.activation, keys[2])),
            Node("output", last, energy=output),
        ]

    @property
    def _wider(self) -> tuple[int, int]:
        return self.width, 2 * self.width

    def _hidden(self, key: PRNGKeyArray, *, residual: bool) -> list[Entry]:
        if self.depth == 3:
            return []
        role = Role.RESIDUAL if residual else Role.HIDDEN

        @eqx.filter_vmap
        def hidden(key: PRNGKeyArray) -> Callable[[Array], Array]:
            kept = self.kept(role, key)
            return Residual(kept) if residual else kept

        return [Stack("hidden", hidden(jax.random.split(key, self.depth - 3)))]

    def kept(self, role: Role, key: PRNGKeyArray) -> Dense:
        """A convolution that keeps the shape of the small image."""
        channels = (2 * self.width, 2 * self.width)
        convolution = self.parameterization.convolution(
            role, channels, _KERNEL, self.width, self.depth, key
        )
        return Dense(self._with_bias(convolution, channels[1]), self.activation)

    def halving(
        self,
        role: Role,
        channels: tuple[int, int],
        activation: Callable[[Array], Array],
        key: PRNGKeyArray,
    ) -> Dense:
        """A convolution to half the size."""
        convolution = self.parameterization.convolution(
            role, channels, _KERNEL, self.width, self.depth, key, stride=2
        )
        return Dense(self._with_bias(convolution, channels[1]), activation)

    def doubling(
        self,
        role: Role,
        channels: tuple[int, int],
        activation: Callable[[Array], Array],
        key: PRNGKeyArray,
    ) -> Dense:
        """A transposed convolution to twice the size."""
        convolution = self.parameterization.transposed_convolution(
            role, channels, _DOUBLING, self.width, self.depth, key
        )
        return Dense(self._with_bias(convolution, channels[1]), activation)

    def spread(self, role: Role, activation: Callable[[Array], Array], key: PRNGKeyArray) -> Spread:
        """A dense layer from the vector to the small image."""
        values = math.prod(self.small)
        return Spread(self._dense(role, (self.size, values), activation, key), self.small)

    def joined(self, key: PRNGKeyArray) -> Joined:
        """A dense layer from the small image to the vector."""
        sizes = (math.prod(self.small), self.size)
        return Joined(self._dense(Role.OUTPUT, sizes, self.activation, key))

    def _dense(
        self,
        role: Role,
        sizes: tuple[int, int],
        activation: Callable[[Array], Array],
        key: PRNGKeyArray,
    ) -> Dense:
        mapped = self.parameterization.linear(role, sizes, self.width, self.depth, key)
        return Dense(self._with_bias(mapped, sizes[1]), activation)

    def _with_bias(
        self, layer: Linear | Convolution | TransposedConvolution, size: int
    ) -> Linear | Convolution | TransposedConvolution | Affine:
        if not self.bias:
            return layer
        return self.parameterization.affine(layer, size, self.width, self.depth)


def is_image(what: str, shape: Sequence[int]) -> bool:
    """Whether a shape is that of an image; `ValueError` unless it is one or that of a vector."""
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ValueError(
            f"{what} must be (size,) of vectors or (height, width, channels) of images, all at "
            f"least 1, not {tuple(shape)}."
        )
    return len(shape) == 3
