"""Layers that carry their own scaling, normalization, pooling, activations by name."""

from __future__ import annotations

import abc
import difflib
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fathomx.convolution import convolve
from fathomx.network import Statistics

Activation = str | Callable[[Array], Array]

_EPSILON = 1e-5


class ScaledWeight(eqx.Module):
    """A layer of one weight and its scaling, written by the parameterization.

    **Fields**

    * `weight`: the array that learns.
    * `multiplier`: fixed forward scale.
    * `learning_rate_scale`: what the parameterization asks the learning rate of this weight to be
      multiplied with under Adam; see `fx.scale_learning_rates`.
    """

    weight: Float[Array, "..."]
    multiplier: float = eqx.field(static=True, default=1.0)
    learning_rate_scale: float = eqx.field(static=True, default=1.0)


class Linear(ScaledWeight):
    """`multiplier * weight @ activity`, for one example.

    **Fields**: those of `ScaledWeight`, with a `weight` of shape `(out_size, in_size)`.
    """

    def __call__(self, activity: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        # `weight @ activity` is the same, but over a batch its result comes out transposed.
        return self.multiplier * jnp.inner(activity, self.weight)


class Convolution(ScaledWeight):
    """`multiplier * (weight * activity)`: a two-dimensional convolution, for one example.

        (height, width, in_channels) -> (ceil(height / stride), ceil(width / stride), out_channels)

    Zeros are padded around the image so that with an odd kernel the output at `(i, j)` sees the
    input around `(stride * i, stride * j)`, the pixel that a 1x1 convolution of the same stride
    sees there (XLA's own "same" padding is off by one with stride 2). No bias.

    **Fields**: those of `ScaledWeight`, with a `weight` of shape
    `(kernel, kernel, in_channels, out_channels)`, and `stride`, 1 or 2.

    Raises `ValueError` for other strides and for activities of another shape.

    ```python
    layer = Convolution(weight, stride=2)
    layer(image)
    ```
    """

    stride: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        if self.stride not in (1, 2):
            raise ValueError(f"the stride of a convolution must be 1 or 2, not {self.stride!r}.")

    def __call__(self, activity: Array) -> Array:
        channels = self.weight.shape[2]
        if activity.ndim != 3 or activity.shape[-1] != channels:
            raise ValueError(
                f"a convolution with a weight of shape {self.weight.shape} takes activities "
                f"(height, width, {channels}), not {activity.shape}."
            )
        convolved = convolve(activity[None], self.weight, self.stride)
        return self.multiplier * convolved[0]


class Embedding(ScaledWeight):
    """`multiplier * weight[tokens]`: the vectors of integers, for one example.

    A token that has no vector (negative, or too large) gets NaN, since nothing else shows in
    compiled code.

    **Fields**: those of `ScaledWeight`, with a `weight` of shape `(count, size)`.
    """

    def __call__(self, tokens: Int[Array, "..."]) -> Float[Array, "... size"]:
        count = self.weight.shape[0]
        # Negative indices would count from the end.
        tokens = jnp.where(tokens < 0, count, tokens)
        return self.multiplier * self.weight.at[tokens].get(mode="fill", fill_value=jnp.nan)


class Normalization(eqx.Module):
    """What a normalization learns: a scale and an offset for every channel, 1 and 0 at first.

    **Arguments**: `channels`, at least 1, or `ValueError` is raised; `learning_rate_scale`, as of a
    `ScaledWeight`.
    """

    scale: Float[Array, " channels"]
    offset: Float[Array, " channels"]
    learning_rate_scale: float = eqx.field(static=True)

    def __init__(self, channels: int, learning_rate_scale: float = 1.0) -> None:
        if channels < 1:
            raise ValueError(f"{type(self).__name__} needs at least one channel, not {channels}.")
        self.scale, self.offset = jnp.ones(channels), jnp.zeros(channels)
        self.learning_rate_scale = learning_rate_scale

    @abc.abstractmethod
    def __call__(self, activity: Array) -> Array:
        """The normalized activity of one example, of the same shape."""


class LayerNorm(Normalization):
    """Normalizes every position of one example over its channels.

        scale * (z - mean) / sqrt(variance + 1e-5) + offset

    Mean and variance run over the last axis alone; `scale` and `offset` are one per channel and
    learn. Activities are `(..., channels)`.

    **Arguments**: those of `Normalization`.

    ```python
    LayerNorm(128)
    ```

    Source: Ba et al. (2016).
    """

    def __init__(self, channels: int, learning_rate_scale: float = 1.0) -> None:
        super().__init__(channels, learning_rate_scale)

    def __call__(self, activity: Array) -> Array:
        _check_channels("LayerNorm", activity, self.scale)
        centered = activity - activity.mean(axis=-1, keepdims=True)
        variance = (centered**2).mean(axis=-1, keepdims=True)
        return self.scale * (centered * jax.lax.rsqrt(variance + _EPSILON)) + self.offset


class GroupNorm(Normalization):
    """Normalizes groups of channels of one example by their own mean and variance.

        scale * (z - mean) / sqrt(variance + 1e-5) + offset

    Mean and variance run over all positions and the channels of a group; `scale` and `offset` are
    one per channel and learn. Activities are `(..., channels)`; examples never interact.

    **Arguments**: `channels`, `groups`, which must divide them, or `ValueError` is raised, and
    `learning_rate_scale`.

    ```python
    GroupNorm(64, groups=32)
    ```

    Source: Wu and He (2018).
    """

    groups: int = eqx.field(static=True)

    def __init__(self, channels: int, groups: int, learning_rate_scale: float = 1.0) -> None:
        if groups < 1 or channels < 1 or channels % groups:
            raise ValueError(
                f"GroupNorm cannot divide {channels} channels into {groups} groups of one size; "
                "choose a number of groups that divides the channels."
            )
        super().__init__(channels, learning_rate_scale)
        self.groups = groups

    def __call__(self, activity: Array) -> Array:
        _check_channels("GroupNorm", activity, self.scale)
        grouped = activity.reshape(-1, self.groups, activity.shape[-1] // self.groups)
        centered = grouped - grouped.mean(axis=(0, 2), keepdims=True)
        variance = (centered**2).mean(axis=(0, 2), keepdims=True)
        normalized = (centered * jax.lax.rsqrt(variance + _EPSILON)).reshape(activity.shape)
        return self.scale * normalized + self.offset


class BatchNorm(Normalization):
    """Normalizes every channel by stored statistics of a batch: affine, for one example.

        scale * (z - mean) / sqrt(variance + 1e-5) + offset

    `mean` and `variance` are always the stored ones, so that examples never interact; at first
    they are 0 and 1. `with_batch_statistics` returns the layer with those of a batch, over examples
    and positions, which is what `Network.with_batch_statistics` uses. `scale` and `offset` are one
    per channel and learn; the statistics do not (`fathomx.network.weights`).

    **Arguments**: those of `Normalization`; channels are the last axis of the activities.

    ```python
    layer = BatchNorm(64).with_batch_statistics(activities)
    ```

    Source: Ioffe and Szegedy (2015); where they tell training from evaluation, here statistics are
    an explicit part of the network.
    """

    statistics: Statistics

    def __init__(self, channels: int, learning_rate_scale: float = 1.0) -> None:
        super().__init__(channels, learning_rate_scale)
        self.statistics = Statistics(jnp.zeros(channels), jnp.ones(channels))

    def __call__(self, activity: Array) -> Array:
        _check_channels("BatchNorm", activity, self.scale)
        # Statistics may be kept in a higher precision than the weights.
        mean = self.statistics.mean.astype(self.scale.dtype)
        variance = self.statistics.variance.astype(self.scale.dtype)
        unit = jax.lax.rsqrt(variance + _EPSILON)
        return (activity - mean) * (self.scale * unit) + self.offset

    def with_batch_statistics(self, activities: Array) -> BatchNorm:
        """The layer with the statistics of a batch of its activities `(batch, ..., channels)`."""
        _check_channels("BatchNorm", activities, self.scale)
        everything = tuple(range(activities.ndim - 1))
        taken = Statistics(activities.mean(axis=everything), activities.var(axis=everything))
        layer: BatchNorm = eqx.tree_at(lambda layer: layer.statistics, self, taken)
        return layer


def _check_channels(layer: str, activity: Array, scale: Array) -> None:
    if activity.shape[-1:] != scale.shape:
        raise ValueError(
            f"a {layer} of {scale.size} channels takes activities (..., {scale.size}), not "
            f"{activity.shape}."
        )


def add(*activities: Array) -> Array:
    """The sum of the parents' activities, which must have one shape: nothing is broadcast.

    As the function of a node it joins a skip with the path it bypasses. Raises `ValueError` for
    unlike shapes.

    ```python
    fx.Node("join", fathomx.layers.add, parents=("branch", "skip"))
    ```
    """
    shapes = [activity.shape for activity in activities]
    if len(set(shapes)) != 1:
        raise ValueError(
            f"activities of unlike shapes {', '.join(map(str, shapes))} cannot be added; bring "
            "them to one shape first, as a 1x1 convolution on the skip does."
        )
    return sum(activities[1:], start=activities[0])


def max_pool(activity: Array) -> Array:
    """The largest of every 2x2 pixels: `(height, width, channels)`, both even, to half of each."""
    return _quarters(activity).max(axis=(1, 3))


def average_pool(activity: Array) -> Array:
    """The mean of every 2x2 pixels: `(height, width, channels)`, both even, to half of each."""
    return _quarters(activity).mean(axis=(1, 3))


# Blocks of pixels by reshaping: several times faster on CPU than a reduction over windows.
def _quarters(activity: Array) -> Array:
    height, width, channels = activity.shape
    if height % 2 or width % 2:
        raise ValueError(f"2x2 pooling takes even heights and widths, not {activity.shape}.")
    return activity.reshape(height // 2, 2, width // 2, 2, channels)


def linear(x: Array) -> Array:
    """The identity."""
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": linear,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
}


def _smooth_relu(temperature: Array) -> Callable[[Array], Array]:
    return lambda x: temperature * jax.nn.softplus(x / temperature)


def _smooth_leaky_relu(temperature: Array) -> Callable[[Array], Array]:
    relu = _smooth_relu(temperature)
    return lambda x: 0.01 * x + 0.99 * relu(x)


# Smooth families that tend to a piecewise-linear activation as the temperature tends to 0.
SMOOTHED: dict[Callable[[Array], Array], Callable[[Array], Callable[[Array], Array]]] = {
    jax.nn.relu: _smooth_relu,
    jax.nn.leaky_relu: _smooth_leaky_relu,
}


def activation_function(activation: Activation) -> Callable[[Array], Array]:
    """The function for a name of `ACTIVATIONS`; a function is returned as it is.

    Raises `ValueError` for an unknown name, with the nearest valid one.
    """
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(unknown("activation", activation, ACTIVATIONS))
    return ACTIVATIONS[activation]


def unknown(kind: str, given: object, valid: object) -> str:
    """The sentence for an unknown option: what was given, the nearest valid one, all valid ones."""
    names = [str(name) for name in valid]  # type: ignore[attr-defined]
    near = difflib.get_close_matches(str(given).lower(), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {str(given)!r}.{hint} Choose from: {', '.join(names)}."
