"""`Noise`: a key for nodes that are random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fathomx.checks import Name, gate
from fathomx.graph.clamp import Clamp
from fathomx.graph.entries import Root


@gate
class Noise(Root):
    """An input that shows a PRNG key to its children, another one for every example.

    A node that needs noise (dropout, sampling) names it among its parents and receives a key, raw
    key data as all of `jax.random` takes it, or `None` where no noise was drawn: a prediction
    without noise. Noise is given, so that one problem has one energy however often a node is
    computed, and examples do not interact.

    `problem.with_noise(key)` draws it; `fx.Learner`, and with it `fx.fit`, does so for every batch,
    while scores, `fx.predict` and probes are without noise. It may also be clamped by name, to
    `jax.random.split(key, batch)`.

    **Arguments**: `name`, unique in the network.

    ```python
    class Dropped(eqx.Module):
        linear: eqx.nn.Linear
        dropout: eqx.nn.Dropout

        def __call__(self, activity, key):
            return self.dropout(self.linear(activity), key=key, inference=key is None)

    fx.Network([fx.Noise("noise"), fx.Node("hidden", first, parents="input"),
                fx.Node("output", Dropped(...), parents=("hidden", "noise"))], input_shape=(784,))
    ```
    """

    def __init__(self, name: Name) -> None:
        super().__init__(name, _raw(jax.random.key(0)).shape, jnp.uint32, energy=None)

    def read_clamp(self, clamp: Clamp) -> Clamp:
        keys = _raw(jnp.asarray(clamp.value))
        fits = jnp.issubdtype(keys.dtype, jnp.integer) and keys.shape[1:] == self.shape
        if clamp.mask is not None or not fits:
            found = f"values of type {keys.dtype} and shape {keys.shape}"
            raise ValueError(
                f"{self.name!r} is noise, but is clamped with "
                f"{found if clamp.mask is None else 'a mask'}; clamp it to one key for every "
                "example, jax.random.split(key, batch), or leave it to problem.with_noise(key)."
            )
        return Clamp(keys)

    def drawn(self, key: Array, batch: int) -> Clamp:
        """One key for every example."""
        return Clamp(_raw(jax.random.split(key, batch)))

    def unroll(
        self, sources: list[Any], error: Array | None, clamp: Clamp | None
    ) -> tuple[Any, Any, Array | None]:
        keys = None if clamp is None else clamp.value
        return keys, keys, None

    def shown(self, activities: Mapping[str, Any]) -> Array | None:
        return activities.get(self.name)


def _raw(keys: Array) -> Array:
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    data: Array = jax.random.key_data(keys) if typed else keys
    return data
