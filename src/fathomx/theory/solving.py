"""Linear systems in the activities, and values that must be finite."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from fathomx.graph.vector_space import Entries, zeros_like
from fathomx.problem.problem import Problem

_MOST_ITERATIONS = 1000
_Carry = tuple[Entries, Entries, Entries, Array, Array, Array, Array]


def conjugate_gradients(
    problem: Problem, product: Callable[[Entries], Entries], right: Entries
) -> tuple[Entries, Bool[Array, " batch"]]:
    """Solves `product(solution) = right` for every example, preconditioned by the precisions.

    To rounding, or until an example meets a direction that is not curved upwards; the second result
    is false there.
    """
    space = problem.network.space
    rounding = jnp.finfo(problem.network.dtype).eps

    def going(carry: _Carry) -> Array:
        *_, active, _, count = carry
        return jnp.any(active) & (count < _MOST_ITERATIONS)

    def iterate(carry: _Carry) -> _Carry:
        solution, residual, search, size, active, upwards, count = carry
        bent = product(search)
        curvature = space.dot(search, bent)
        upwards = upwards & (~active | (curvature > 0))
        active = active & upwards
        length = jnp.where(active, size / jnp.where(active, curvature, 1), 0)
        solution = space.add(solution, length, search)
        residual = space.add(residual, -length, bent)
        scaled = problem.unweigh(residual)
        renewed = space.dot(residual, scaled)
        search = space.add(scaled, renewed / jnp.where(size > 0, size, 1), search)
        return solution, residual, search, renewed, active & (renewed > least), upwards, count + 1

    scaled = problem.unweigh(right)
    size = space.dot(right, scaled)
    least = rounding**2 * size
    everywhere = jnp.ones(size.shape, bool)
    begun = (zeros_like(right), right, scaled, size, size > 0, everywhere, jnp.asarray(0))
    ended = jax.lax.while_loop(going, iterate, begun)
    return ended[0], ended[5]


def check_finite(what: str, values: Array) -> None:
    """Raises `ValueError` for values that are NaN or infinite; not looked at when traced."""
    if isinstance(values, jax.core.Tracer) or np.isfinite(np.asarray(values)).all():
        return
    raise ValueError(
        f"{what} is not finite: the weights are too large, or the output precision too extreme, "
        f"for {values.dtype}; scale them down, or compute in float64."
    )
