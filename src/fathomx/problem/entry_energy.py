"""The energy of one entry or feedback, with what a problem multiplies it by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fathomx.graph.energy import Energy

Factor = float | Array


class EntryEnergy(eqx.Module):
    """What a prediction costs, for every node of an entry and every example.

        sum_i factor_i * term_i(target, prediction) - logarithm_i

    **Fields**

    * `energy`: whose terms are summed.
    * `factor`: a number for all terms, or one for every unit, as an array that multiplies an
      activity; 0 where a unit does not count.
    * `logarithm`: half the logarithm of a learned precision, weighed alike; `None` without one.
    * `stacked`: whether activities have an axis of nodes in front.
    """

    energy: Energy
    factor: Factor
    logarithm: Array | None
    stacked: bool = eqx.field(static=True)

    @property
    def uniform(self) -> bool:
        """Whether all terms count alike."""
        return jnp.ndim(self.factor) == 0

    def __call__(self, target: Array, prediction: Array) -> Float[Array, "rows batch"]:
        if not self.stacked:
            target, prediction = target[None], prediction[None]
        if self.uniform and self.logarithm is None:
            units: Array = jax.vmap(jax.vmap(self.energy.number))(target, prediction)
            return self._times(units)
        terms = self.energy.terms(target, prediction)
        assert terms is not None
        # A node's factors lack the axis of nodes, which broadcasting adds in front.
        weighed = self._times(terms)
        if self.logarithm is not None:
            weighed = weighed - self.logarithm
        return weighed.sum(axis=tuple(range(2, weighed.ndim)))

    def error(self, target: Array, prediction: Array) -> Array:
        """Minus the gradient in the prediction at factor 1, as an activity."""
        error = jax.vmap(self.energy.error)
        return (jax.vmap(error) if self.stacked else error)(target, prediction)

    def curvature(self, target: Array, prediction: Array, change: Array) -> Array:
        """The curvature in the prediction at factor 1 times a change of it, as an activity."""
        curvature = jax.vmap(self.energy.curvature)
        return (jax.vmap(curvature) if self.stacked else curvature)(target, prediction, change)

    def weighed(self, error: Array) -> Array:
        """The error times the factor: minus the gradient in the prediction."""
        return self._times(error)

    def _times(self, values: Array) -> Array:
        if isinstance(self.factor, float):
            return values if self.factor == 1 else self.factor * values
        factor = self.factor
        # Where a term is a distribution, its units have one factor.
        if factor.ndim and values.shape[-1] == 1:
            factor = factor[..., :1]
        return factor * values

    def part(self, rows: slice) -> EntryEnergy:
        """Of some of the nodes of a stack."""

        return self._mapped(lambda array: array[rows] if array.shape[0] > 1 else array)

    def node(self, row: int | Array) -> EntryEnergy:
        """Of one node of a stack, as that of an entry with one node."""

        own = self._mapped(lambda array: array[0 if array.shape[0] == 1 else row])
        return dataclasses.replace(own, stacked=False)

    def _mapped(self, cut: Callable[[Array], Array]) -> EntryEnergy:
        """What is given for every node, cut."""
        factor = self.factor
        return dataclasses.replace(
            self,
            factor=factor if isinstance(factor, float) or not factor.ndim else cut(factor),
            logarithm=None if self.logarithm is None else cut(self.logarithm),
        )
