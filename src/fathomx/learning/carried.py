"""What an update takes over from those before it, instead of measuring it again."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Sensitivity(eqx.Module):
    """A running mean of `mean_sensitivity`, measured in some updates only.

        s <- (s + measured) / 2        in the updates 0, 1, 2, 4, 8, ... and every so many-th

    and at first what is measured: while weights move fast it is measured often.

    **Fields**: `value`; `count` of updates so far.
    """

    value: Float[Array, ""]
    count: Int[Array, ""]

    @classmethod
    def unknown(cls, dtype: Any) -> Sensitivity:
        """Before the first update."""
        return cls(jnp.zeros((), dtype), jnp.zeros((), jnp.int32))

    def due(self, every: int) -> Bool[Array, ""]:
        """Whether the next update measures it."""
        of_two = self.count & (self.count - 1) == 0
        return of_two & (self.count < every) | (self.count % every == 0)

    def averaged(self, measured: Float[Array, ""]) -> Float[Array, ""]:
        """The value in an update that measures it."""
        return jnp.where(self.count == 0, measured, (self.value + measured) / 2)

    def after(self, used: Float[Array, ""], every: int) -> Sensitivity:
        """What the next update takes over from one that used this value."""
        value = jnp.where(self.due(every), used, self.value)
        return Sensitivity(value.astype(self.value.dtype), self.count + 1)


class Carrying(eqx.Module):
    """An optimizer's state, and what else an update takes over.

    **Fields**: `optimizer_state`, Optax's; `sensitivity`.
    """

    optimizer_state: Any
    sensitivity: Sensitivity
