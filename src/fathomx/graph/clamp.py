"""What an entry is clamped to, whole or in part."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from fathomx import checks
from fathomx.checks import example, gate


@example("fx.Clamp(x, mask)")
@gate
class Clamp(eqx.Module):
    """Values that an entry is held at, and where.

    **Fields**

    * `value`: the activity of an entry, `(batch, ...)`; of a stack `(depth, batch, ...)`.
    * `mask`: true where the value is known; any shape that broadcasts to that of the value, such
      as that of one example. What is not known is inferred, and its value is not looked at.
      `None` (the default) clamps all of it.

    ```python
    fx.Problem(network, {"image": fx.Clamp(x, mask=seen)})
    ```
    """

    value: Any
    mask: Any = None

    @classmethod
    def observed(cls, value: Any) -> Clamp:
        """Clamps what is not NaN: NaN stands for what is missing.

        Outside of `jax.jit`, values without a NaN are clamped whole.

        ```python
        fx.Problem(network, {"image": fx.Clamp.observed(measured)})
        ```
        """
        array = checks.array("the value of a clamp", value)
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            return cls(array)
        known = ~jnp.isnan(array)
        traced = isinstance(known, jax.core.Tracer)
        return cls(array) if not traced and bool(np.asarray(known).all()) else cls(array, known)

    @property
    def whole(self) -> bool:
        """Whether all of the entry is clamped."""
        return self.mask is None

    def meet(self, free: Array) -> Array:
        """The activity: the clamped value where it is known, `free` elsewhere."""
        return self.value if self.mask is None else jnp.where(self.mask, self.value, free)

    def known(self, like: Array) -> Bool[Array, "..."]:
        """The mask as an array of the shape of an activity."""
        return jnp.ones(like.shape, bool) if self.mask is None else self.mask


def clamps_of(given: Any) -> dict[str, Clamp]:
    """Arrays and clamps by name, all as clamps."""
    return {k: v if isinstance(v, Clamp) else Clamp(v) for k, v in given.items()}
