"""What the convolutional models share: sizes, node functions, and how their layers are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks.names import unknown
from fathomx.graph.statistics import with_batch_statistics
from fathomx.layers.activations import Activation, activation_function, linear
from fathomx.layers.convolution import Convolution, average_pool, max_pool
from fathomx.layers.joins import add
from fathomx.layers.normalization import BatchNorm, GroupNorm, Normalization
from fathomx.layers.parameterization import Parameterization, Role, Standard
from fathomx.layers.scaled import Affine, Linear

Channels = tuple[int, int]
Layer = TypeVar("Layer", Linear, Convolution)


class Convolved(eqx.Module):
    """`pool(norm(a W * phi(sum of the parents)))`: a convolution with all that belongs to it."""

    convolution: Convolution | Affine
    activation: Callable[[Array], Array]
    normalization: Callable[[Array], Array]
    pool: Callable[[Array], Array]

    def __call__(self, *activities: Array) -> Array:
        return self.pool(self.normalization(self._convolved(*activities)))

    def with_batch_statistics(self, *sources: Array) -> Convolved:
        """The node function with the statistics of batches of its parents' activities."""
        taken = with_batch_statistics(self.normalization, jax.vmap(self._convolved)(*sources))
        function: Convolved = eqx.tree_at(lambda node: node.normalization, self, taken)
        return function

    def _convolved(self, *activities: Array) -> Array:
        return self.convolution(self.activation(add(*activities)))


class Joined(eqx.Module):
    """`branch(z_inner) + shortcut(z_skipped)`: the end of a residual block."""

    branch: Convolved
    shortcut: Callable[..., Array]

    def __call__(self, inner: Array, skipped: Array) -> Array:
        return add(self.branch(inner), self.shortcut(skipped))

    def with_batch_statistics(self, inner: Array, skipped: Array) -> Joined:
        """The node function with the statistics of batches of its parents' activities."""
        return Joined(
            with_batch_statistics(self.branch, inner),
            with_batch_statistics(self.shortcut, skipped),
        )


class Head(eqx.Module):
    """`a W reduce(phi(sum of the parents))`: a linear map of an image made one vector."""

    linear: Linear | Affine
    activation: Callable[[Array], Array]
    reduce: Callable[[Array], Array]

    def __call__(self, *activities: Array) -> Array:
        return self.linear(self.reduce(self.activation(add(*activities))))


def global_average(activity: Array) -> Array:
    """The mean of every channel: `(height, width, channels)` to `(channels,)`."""
    return activity.mean(axis=(0, 1))


def max_halved(activity: Array) -> Array:
    """`max_pool` that takes odd sizes, too: halved upwards, the last pixels by themselves."""
    return max_pool(_even(activity))


def average_halved(activity: Array) -> Array:
    """`average_pool` that takes odd sizes, too: halved upwards, the last pixels by themselves."""
    return average_pool(_even(activity))


def _even(activity: Array) -> Array:
    """An image of even height and width, where they are odd by its last pixels again."""
    height, width, _ = activity.shape
    if not (height % 2 or width % 2):
        # Padding by nothing costs a quarter of a training step: it keeps loops apart.
        return activity
    return jnp.pad(activity, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def group_norm(channels: int, learning_rate_scale: float) -> GroupNorm:
    """At most 32 groups, of at least two channels each: alone at one pixel, one would be zero."""
    most = min(32, max(1, channels // 2))
    groups = max(g for g in range(1, most + 1) if channels % g == 0)
    return GroupNorm(channels, groups, learning_rate_scale)


NORMALIZATIONS: dict[str | None, Callable[[int, float], Normalization] | None] = {
    None: None,
    "batch": BatchNorm,
    "group": group_norm,
}


class Sizes:
    """Depth, channels, classes and image size of a convolutional network, checked."""

    def __init__(
        self,
        depth: int,
        depths: Collection[int],
        width: float,
        classes: int,
        image_shape: Sequence[int],
    ) -> None:
        if depth not in depths:
            raise ValueError(
                f"depth must be one of {', '.join(map(str, depths))}, the ones that this "
                f"architecture is defined for, not {depth!r}."
            )
        if not (math.isfinite(width) and width > 0):
            raise ValueError(
                f"width multiplies all numbers of channels and must be a positive, finite number, "
                f"not {width!r}."
            )
        if classes < 1:
            raise ValueError(f"classes must be at least 1, not {classes!r}.")
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(
                f"image_shape must be (height, width, channels), for example (32, 32, 3), not "
                f"{tuple(image_shape)}."
            )
        self.depth, self.width, self.classes = depth, width, classes
        self.image_shape = tuple(image_shape)

    def channels(self, at_width_one: int) -> int:
        """A number of channels times the width, rounded, at least 1."""
        return max(1, round(at_width_one * self.width))


class Layers:
    """Makes the node functions of a convolutional network, all in the same manner."""

    def __init__(
        self,
        sizes: Sizes,
        activation: Activation,
        normalization: str | None,
        bias: bool,
        parameterization: Parameterization | None,
    ) -> None:
        if normalization not in NORMALIZATIONS:
            raise ValueError(unknown("normalization", normalization, NORMALIZATIONS))
        if parameterization is None:
            parameterization = Standard(gain=math.sqrt(2))
        if not isinstance(parameterization, Parameterization):
            raise TypeError(
                f"parameterization must be a Parameterization such as fx.MuPC(), not "
                f"{parameterization!r}."
            )
        self.sizes = sizes
        self.activation = activation_function(activation)
        self.normalization = NORMALIZATIONS[normalization]
        self.bias = bias
        self.parameterization = parameterization

    @property
    def width(self) -> int:
        """What a parameterization takes for the width: the channels of the first stage."""
        return self.sizes.channels(64)

    def convolved(
        self,
        role: Role,
        channels: Channels,
        key: PRNGKeyArray,
        *,
        kernel: int = 3,
        stride: int = 1,
        pool: Callable[[Array], Array] = linear,
    ) -> Convolved:
        """A convolution of activities (of the image as it is)."""
        activation = linear if role is Role.INPUT else self.activation
        convolution = self._convolution(role, channels, kernel, key, stride)
        return Convolved(convolution, activation, self._normalized(channels[1]), pool)

    def shortcut(self, channels: Channels, key: PRNGKeyArray, stride: int) -> Convolved:
        """A 1x1 convolution without activation, for a skip along which the shape changes."""
        convolution = self._convolution(Role.HIDDEN, channels, 1, key, stride)
        return Convolved(convolution, linear, self._normalized(channels[1]), linear)

    def _normalized(self, channels: int) -> Callable[[Array], Array]:
        if self.normalization is None:
            return linear
        return self.parameterization.normalization(
            self.normalization, channels, self.width, self.sizes.depth
        )

    def head(
        self,
        role: Role,
        sizes: Channels,
        key: PRNGKeyArray,
        reduce: Callable[[Array], Array] = jnp.ravel,
    ) -> Head:
        """A linear map of the activities as one vector."""
        map = self.parameterization.linear(role, sizes, self.width, self.sizes.depth, key)
        return Head(self._with_bias(map, sizes[1]), self.activation, reduce)

    def _convolution(
        self, role: Role, channels: Channels, kernel: int, key: PRNGKeyArray, stride: int
    ) -> Convolution | Affine:
        convolution = self.parameterization.convolution(
            role, channels, kernel, self.width, self.sizes.depth, key, stride=stride
        )
        return self._with_bias(convolution, channels[1])

    def _with_bias(self, layer: Layer, size: int) -> Layer | Affine:
        if not self.bias:
            return layer
        return self.parameterization.affine(layer, size, self.width, self.sizes.depth)
