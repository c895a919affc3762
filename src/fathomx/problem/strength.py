"""Strength: how far predictive coding goes beyond backprop, as one dimensionless number."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fathomx.problem.evaluation import Linearization
from fathomx.problem.problem import Problem

_LARGEST_PRECISION = 1e6


def strength(
    problem: Problem, key: PRNGKeyArray, *, start: Linearization | None = None
) -> Float[Array, ""]:
    """Output precision times the mean eigenvalue of `J Pi^-1 J^T`, mean over the batch.

        strength = lambda tr(J Pi^-1 J^T) / d_y,     J = d mu_L / d e at the feedforward pass

    Near 0, inference moves the activities little and the weight update is backprop's; large, the
    output error is absorbed by the hidden layers before it teaches the last ones. The trace is
    estimated by one reverse pass with a random sign vector for every example, drawn with `key`.

    `start`, a `Linearization` at `e = 0`, saves computing it again.

    ```python
    fx.strength(problem, jax.random.key(0))
    ```

    Ours; the trace estimate is Hutchinson's (1989).
    """
    return problem.output_precision * mean_sensitivity(problem, key, start)


def mean_sensitivity(
    problem: Problem, key: PRNGKeyArray, start: Linearization | None = None
) -> Float[Array, ""]:
    """The strength at output precision 1: `tr(J Pi^-1 J^T) / d_y`, mean over the batch."""
    if start is None:
        start = Linearization(problem, problem.network.zeros(problem.batch))
    shape = start.prediction.shape
    signs = jax.random.rademacher(key, shape, start.prediction.dtype)
    pulled = start.pull(signs)
    squares = problem.network.space.dot(pulled, problem.unweigh(pulled))
    return jnp.mean(squares) / math.prod(shape[1:])


def largest_sensitivity(
    problem: Problem,
    key: PRNGKeyArray,
    start: Linearization | None = None,
    iterations: int = 20,
) -> Float[Array, ""]:
    """The largest eigenvalue of `J Pi^-1 J^T` at the feedforward pass, largest of the batch.

    By power iteration from random signs drawn with `key`, each a reverse and a forward pass; an
    estimate from below, which `iterations` (at least 1) improve.
    """
    if start is None:
        start = Linearization(problem, problem.network.zeros(problem.batch))
    shape = start.prediction.shape
    rest = tuple(range(1, len(shape)))

    def normalized(vector: Array) -> Array:
        size = jnp.sqrt(jnp.sum(vector**2, axis=rest, keepdims=True))
        return vector / jnp.where(size > 0, size, 1)

    def iterate(_: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        vector, _ = carry
        image = start.push(problem.unweigh(start.pull(vector)))
        return normalized(image), jnp.sum(vector * image, axis=rest)

    begun = normalized(jax.random.rademacher(key, shape, start.prediction.dtype))
    _, values = jax.lax.fori_loop(0, iterations, iterate, (begun, jnp.zeros(shape[0], begun.dtype)))
    return jnp.max(values)


class HoldStrength(eqx.Module):
    """Chooses the output precision of every batch so that the strength is `strength`.

    With a fixed output precision, a deep narrow network lowers its energy by growing stiffer
    (larger `J`) instead of more accurate, until it unlearns; holding the strength takes that way
    out. The precision stays at most 1e6, which matters only if the output does not depend on the
    hidden nodes at all.

    **Fields**: `strength`, positive and finite. Raises `ValueError` otherwise.

    ```python
    fx.Equilibrium(fx.GaussNewton(), output_precision=fx.HoldStrength(0.1))
    ```
    """

    strength: float = eqx.field(static=True, converter=float)

    def __check_init__(self) -> None:
        if not (math.isfinite(self.strength) and self.strength > 0):
            raise ValueError(
                f"strength must be a positive, finite number, not {self.strength!r}; 0.1 is close "
                "to backprop and trains at any depth, 1 is strong."
            )

    def output_precision(self, sensitivity: Float[Array, ""]) -> Float[Array, ""]:
        """The precision at which a network with this mean sensitivity has the strength held."""
        return jnp.minimum(
            self.strength / jnp.maximum(sensitivity, jnp.finfo(sensitivity.dtype).tiny),
            _LARGEST_PRECISION,
        )
