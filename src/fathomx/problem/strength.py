"""Strength: how far predictive coding goes beyond backprop, as one dimensionless number."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fathomx.checks import Count, Positive, example, gate
from fathomx.graph.vector_space import Entries
from fathomx.problem.evaluation import Linearization
from fathomx.problem.problem import Problem

_LARGEST_PRECISION = 1e6


@gate
def strength(
    problem: Problem, key: PRNGKeyArray, *, start: Linearization | None = None
) -> Float[Array, ""]:
    """Output precision times the mean eigenvalue of `J Pi^-1 J^T`, mean over the batch.

        strength = lambda tr(J Pi^-1 J^T) / d_o,     J = d o / d e at the feedforward pass

    with the predictions `o` of all that is observed and their number `d_o`.

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
    """The strength at output precision 1: `tr(J Pi^-1 J^T) / d_o`, mean over the batch.

    With several observed entries, or precisions of their own, `J` is scaled by their roots.
    """
    if start is None:
        start = Linearization.at_start(problem)
    observed = _Observed(problem, start)
    pulled = start.pull(observed.scaled(observed.signs(key)))
    squares = problem.network.space.dot(pulled, problem.unweigh(pulled))
    return problem.mean(squares) / observed.size


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
        start = Linearization.at_start(problem)
    space, observed = problem.network.space, _Observed(problem, start)

    def normalized(vector: Entries) -> Entries:
        size = jnp.sqrt(space.dot(vector, vector))
        return space.scale(1 / jnp.where(size > 0, size, 1), vector)

    def iterate(_: Any, carry: tuple[Entries, Array]) -> tuple[Entries, Array]:
        vector, _ = carry
        pulled = start.pull(observed.scaled(vector))
        image = observed.seen(start.push(problem.unweigh(pulled)))
        return normalized(image), space.dot(vector, image)

    begun = normalized(observed.signs(key))
    nothing = jnp.zeros(problem.batch, problem.network.dtype)
    _, values = jax.lax.fori_loop(0, iterations, iterate, (begun, nothing))
    return jnp.max(values)


class _Observed:
    """Vectors over what is observed, in units in which its precision is the output precision."""

    def __init__(self, problem: Problem, start: Linearization) -> None:
        self.explained = start.explained
        self.observed = problem.observed
        network = problem.network
        self.roots = {}
        for name in self.observed:
            factor = problem.observed_energy_of(network.entry(name), 1.0).factor
            self.roots[name] = 1.0 if _is_one(factor) else jnp.sqrt(factor)
        if not self.observed:
            raise ValueError(
                "strength compares what is observed with what it moves, but nothing that has a "
                "prediction is clamped in this problem; give the rule a number, as in "
                "output_precision=1.0."
            )
        counts = [
            jnp.maximum(jnp.sum(problem.clamps[name].mask), 1) / problem.batch
            if problem.clamps[name].mask is not None
            else math.prod(network.shapes[name])
            for name in self.observed
        ]
        self.size = sum(counts[1:], start=counts[0])

    def signs(self, key: PRNGKeyArray) -> Entries:
        """A random sign for every unit that is observed; 0 elsewhere."""
        signs = {}
        for index, name in enumerate(self.observed):
            like = self.explained[name]
            own = key if index == 0 else jax.random.fold_in(key, index)
            signs[name] = jax.random.rademacher(own, like.shape, like.dtype)
        return signs

    def scaled(self, vector: Entries) -> Entries:
        """A vector over all that is explained, from one over what is observed."""
        zeros = {k: jnp.zeros_like(v) for k, v in self.explained.items() if k not in vector}
        return zeros | self.seen(vector)

    def seen(self, vector: Entries) -> Entries:
        """The part over what is observed, times the roots of its precisions."""
        return {
            name: vector[name] if _is_one(root) else root * vector[name]
            for name, root in self.roots.items()
        }


def _is_one(value: Any) -> bool:
    return isinstance(value, float) and value == 1


@example("fx.HoldStrength(0.1)")
@gate
class HoldStrength(eqx.Module):
    """Chooses the output precision of every batch so that the strength is `strength`.

    With a fixed output precision, a deep narrow network lowers its energy by growing stiffer
    (larger `J`) instead of more accurate, until it unlearns; holding the strength takes that way
    out. The precision stays at most 1e6, which matters only if the output does not depend on the
    hidden nodes at all.

    What a network's sensitivity is changes slowly beside the scatter of its estimate from one
    batch. Updates of weights therefore measure it in every so many-th of them, a reverse pass, and
    in between take the one that they carry in the optimizer's state (`Sensitivity`). A gradient by
    itself (`rule.gradient`), and updates whose state is that of the optimizer alone, measure every
    time.

    **Fields**

    * `strength`: positive and finite.
    * `every`: updates from one measurement to the next; 16 unless given, 1 is every update.

    Raises `ValueError` otherwise.

    ```python
    fx.Equilibrium(fx.GaussNewton(), output_precision=fx.HoldStrength(0.1))
    fx.Equilibrium(output_precision=fx.HoldStrength(0.1, every=1))       # as in 0.1
    ```
    """

    strength: Positive = eqx.field(static=True, converter=float)
    every: Count = eqx.field(static=True, default=16)

    def output_precision(self, sensitivity: Float[Array, ""]) -> Float[Array, ""]:
        """The precision at which a network with this mean sensitivity has the strength held."""
        return jnp.minimum(
            self.strength / jnp.maximum(sensitivity, jnp.finfo(sensitivity.dtype).tiny),
            _LARGEST_PRECISION,
        )
