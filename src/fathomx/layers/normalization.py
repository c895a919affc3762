"""Normalizations of channels."""

from __future__ import annotations

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fathomx.checks import NotNegative, gate
from fathomx.graph.statistics import Statistics

_EPSILON = 1e-5


class Normalization(eqx.Module):
    """What a normalization learns: a scale and an offset for every channel, 1 and 0 at first.

    **Arguments**: `channels`, at least 1, or `ValueError` is raised; `learning_rate_scale`, as of a
    `ScaledWeight`.
    """

    scale: Float[Array, " channels"]
    offset: Float[Array, " channels"]
    learning_rate_scale: NotNegative = eqx.field(static=True)

    def __init__(self, channels: int, learning_rate_scale: NotNegative = 1.0) -> None:
        if channels < 1:
            raise ValueError(f"{type(self).__name__} needs at least one channel, not {channels}.")
        self.scale, self.offset = jnp.ones(channels), jnp.zeros(channels)
        self.learning_rate_scale = learning_rate_scale

    @abc.abstractmethod
    def __call__(self, activity: Array) -> Array:
        """The normalized activity of one example, of the same shape."""


@gate
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

    def __init__(self, channels: int, learning_rate_scale: NotNegative = 1.0) -> None:
        super().__init__(channels, learning_rate_scale)

    def __call__(self, activity: Array) -> Array:
        _check_channels("LayerNorm", activity, self.scale)
        centered = activity - activity.mean(axis=-1, keepdims=True)
        variance = (centered**2).mean(axis=-1, keepdims=True)
        return self.scale * (centered * jax.lax.rsqrt(variance + _EPSILON)) + self.offset


@gate
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

    def __init__(self, channels: int, groups: int, learning_rate_scale: NotNegative = 1.0) -> None:
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


@gate
class BatchNorm(Normalization):
    """Normalizes every channel by stored statistics of a batch: affine, for one example.

        scale * (z - mean) / sqrt(variance + 1e-5) + offset

    `mean` and `variance` are always the stored ones, so that examples never interact; at first
    they are 0 and 1. `with_batch_statistics` returns the layer with those of a batch, over examples
    and positions, which is what `Network.with_batch_statistics` uses. `scale` and `offset` are one
    per channel and learn; the statistics do not (`fx.weights`).

    **Arguments**: those of `Normalization`; channels are the last axis of the activities.

    ```python
    layer = BatchNorm(64).with_batch_statistics(activities)
    ```

    Source: Ioffe and Szegedy (2015); where they tell training from evaluation, here statistics are
    an explicit part of the network.
    """

    statistics: Statistics

    def __init__(self, channels: int, learning_rate_scale: NotNegative = 1.0) -> None:
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
