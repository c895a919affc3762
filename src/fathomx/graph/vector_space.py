"""Per-example linear algebra on the activities or errors of a whole batch.

Entries are dictionaries from node name to array. A node's array is `(batch, ...)`, a stack's is
`(depth, batch, ...)`: the depth axis leads because it is scanned, vectorized and sharded. Every
scalar of an algorithm (an inner product, a step length, an accept mask) is a `(batch,)` array, so
that examples never interact.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Entries = dict[str, Array]


class VectorSpace(eqx.Module):
    """Inner products, scaling and selection for each example of a batch.

    **Fields**: `batch_axes`, the position of the batch axis of every entry.

    ```python
    space = network.space
    space.dot(errors, errors)          # (batch,) squared norms
    ```
    """

    batch_axes: tuple[tuple[str, int], ...] = eqx.field(static=True)

    def _spread(self, name: str, per_example: Array, like: Array) -> Array:
        axis = dict(self.batch_axes)[name]
        shape = [1] * like.ndim
        shape[axis] = per_example.shape[0]
        return per_example.reshape(shape)

    def dot(self, a: Entries, b: Entries) -> Float[Array, "*batch"]:
        """`sum_i a_i b_i` over everything but the batch; 0 of no entries."""
        axes = dict(self.batch_axes)
        parts = []
        for name in a:
            rest = tuple(axis for axis in range(a[name].ndim) if axis != axes[name])
            parts.append(jnp.sum(a[name] * b[name], axis=rest))
        if not parts:
            return jnp.zeros(())
        return sum(parts[1:], start=parts[0])

    def norm(self, a: Entries) -> Float[Array, "*batch"]:
        """Euclidean norm of every example; squares neither overflow nor vanish."""
        axes = dict(self.batch_axes)
        sizes = []
        for name in a:
            rest = tuple(axis for axis in range(a[name].ndim) if axis != axes[name])
            sizes.append(jnp.max(jnp.abs(a[name]), axis=rest))
        if not sizes:
            return jnp.zeros(())
        largest = jnp.max(jnp.stack(sizes), axis=0)
        unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
        scaled = self.scale(1 / unit, a)
        return unit * jnp.sqrt(self.dot(scaled, scaled))

    def add(self, a: Entries, scale: Float[Array, " batch"], b: Entries) -> Entries:
        """`a + scale * b` with one scale per example."""
        return {k: a[k] + self._spread(k, scale.astype(a[k].dtype), a[k]) * b[k] for k in a}

    def scale(self, scale: Float[Array, " batch"], a: Entries) -> Entries:
        """`scale * a` with one scale per example."""
        return {k: self._spread(k, scale.astype(a[k].dtype), a[k]) * a[k] for k in a}

    def where(self, mask: Bool[Array, " batch"], a: Entries, b: Entries) -> Entries:
        """`a` for the examples where `mask` holds, `b` for the others."""
        return {k: jnp.where(self._spread(k, mask, a[k]), a[k], b[k]) for k in a}

    def axes(self, entries: Entries) -> dict[str, int]:
        """The batch axis of every entry, as `jax.vmap` wants it."""
        return {name: dict(self.batch_axes)[name] for name in entries}

    def one(self, entries: Entries) -> Entries:
        """Gives the entries of a single example a batch axis of length 1."""
        return {k: jnp.expand_dims(v, dict(self.batch_axes)[k]) for k, v in entries.items()}

    def only(self, entries: Entries) -> Entries:
        """Takes the batch axis of length 1 away again."""
        return {k: jnp.squeeze(v, dict(self.batch_axes)[k]) for k, v in entries.items()}


def zeros_like(entries: Entries) -> Entries:
    """Entries of zeros with the same shapes and types."""
    return jax.tree.map(jnp.zeros_like, entries)
