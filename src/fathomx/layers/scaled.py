"""Layers of one weight that carry their own scaling."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fathomx.checks import Function, NotNegative, gate, is_traced


@gate
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
    learning_rate_scale: NotNegative = eqx.field(static=True, default=1.0)
    _axes: ClassVar[int | None] = None

    def __check_init__(self) -> None:
        weight = self.weight
        if not weight.size or (self._axes is not None and weight.ndim != self._axes):
            raise ValueError(
                f"the weight of {type(self).__name__} has {self._axes or 'some'} axes of sizes of "
                f"at least 1, not the shape {weight.shape}."
            )
        if not is_traced(weight) and not np.isfinite(np.asarray(weight, np.float64)).all():
            raise ValueError(
                f"the weight of {type(self).__name__} holds values that are NaN or infinite; give "
                "finite ones."
            )


@gate
class Linear(ScaledWeight):
    """`multiplier * weight @ activity`, for one example.

    **Fields**: those of `ScaledWeight`, with a `weight` of shape `(out_size, in_size)`.
    """

    _axes: ClassVar[int | None] = 2

    def __call__(self, activity: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        _check_fits(self, activity, self.weight.shape[1:])
        # `weight @ activity` is the same, but over a batch its result comes out transposed.
        return self.multiplier * jnp.inner(activity, self.weight)


@gate
class Bias(ScaledWeight):
    """`activity + multiplier * weight`: a number for every unit, for one example.

    **Fields**: those of `ScaledWeight`, with a `weight` of the shape of the activity, or of its
    last axis.
    """

    def __call__(self, activity: Float[Array, "..."]) -> Float[Array, "..."]:
        _check_fits(self, activity, self.weight.shape)
        return activity + self.multiplier * self.weight


@gate
class Affine(eqx.Module):
    """`map(activity) + bias`: a layer of one weight with a number for every unit of its output.

    **Fields**: `map`, a `Linear` or a `Convolution`, whose outputs are the last axis; `bias`.
    """

    map: Function
    bias: Bias

    def __call__(self, activity: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.bias(self.map(activity))


@gate
class Embedding(ScaledWeight):
    """`multiplier * weight[tokens]`: the vectors of integers, for one example.

    A token that has no vector (negative, or too large) gets NaN, since nothing else shows in
    compiled code.

    **Fields**: those of `ScaledWeight`, with a `weight` of shape `(count, size)`.
    """

    _axes: ClassVar[int | None] = 2

    def __call__(self, tokens: Int[Array, "..."]) -> Float[Array, "... size"]:
        count = self.weight.shape[0]
        # Negative indices would count from the end.
        tokens = jnp.where(tokens < 0, count, tokens)
        return self.multiplier * self.weight.at[tokens].get(mode="fill", fill_value=jnp.nan)


def _check_fits(layer: ScaledWeight, activity: Array, last: tuple[int, ...]) -> None:
    """Raises `ValueError` for an activity whose last axes are not those that a layer takes."""
    if activity.shape[max(activity.ndim - len(last), 0) :] != last:
        raise ValueError(
            f"{type(layer).__name__} takes activities whose shape ends with {last}, not "
            f"{activity.shape}; build the layer for this size."
        )
