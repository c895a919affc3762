"""The energy and its gradient at a point, and the network linearized there."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fathomx.graph.entries import entry_pull
from fathomx.graph.network import INPUT
from fathomx.graph.vector_space import Entries
from fathomx.problem.problem import Problem


class Evaluation(eqx.Module):
    """The energy and its gradient at given hidden errors.

    **Fields**: `errors`, `activities` (hidden), `prediction` of the output, `energy` `(batch,)`
    and `gradient` `dF/de` (hidden).
    """

    errors: Entries
    activities: Entries
    prediction: Array
    energy: Float[Array, " batch"]
    gradient: Entries


def evaluate(problem: Problem, errors: Entries) -> Evaluation:
    """Energy, activities and `dF/de = Pi e + J^T dE_out/dmu` by one reverse pass."""
    prediction, pull, activities = jax.vjp(problem.predict, errors, has_aux=True)
    return _evaluation(problem, errors, prediction, activities, lambda g: pull(g)[0])


def _evaluation(
    problem: Problem,
    errors: Entries,
    prediction: Array,
    activities: Entries,
    pull: Callable[[Array], Entries],
) -> Evaluation:
    pulled = pull(problem.output_gradient(prediction))
    weighed = problem.weigh(errors)
    return Evaluation(
        errors=errors,
        activities=activities,
        prediction=prediction,
        energy=problem.hidden_energy(errors) + problem.output_energy(prediction),
        gradient={name: weighed[name] + pulled[name] for name in errors},
    )


def evaluate_at(problem: Problem, activities: Entries) -> Evaluation:
    """`evaluate` at the errors of these activities: all predictions at once, one reverse pass.

    The activities are those given, not unrolled from the errors again.
    """
    network = problem.network
    predicted: Entries = {}
    pulls: dict[str, Callable[[Array], tuple[Array, list[Array]]]] = {}
    for entry in network.nodes:
        sources = network.sources(entry, activities, problem.input)
        predicted[entry.name], pulls[entry.name] = entry_pull(
            entry, sources, activities.get(entry.name)
        )
    output = network.output.name
    prediction = predicted.pop(output)

    def pull(cotangent: Array) -> Entries:
        reached, pulled = {output: cotangent}, {}
        for entry in reversed(network.nodes):
            name = entry.name
            if name not in reached:
                pulled[name] = jnp.zeros_like(activities[name])
                continue
            pulled[name], to_sources = pulls[name](reached[name])
            for parent, add in zip(network.parents[name], to_sources, strict=True):
                if parent != INPUT:
                    reached[parent] = reached[parent] + add if parent in reached else add
        return pulled

    errors = {name: activities[name] - predicted[name] for name in network.hidden}
    return _evaluation(problem, errors, prediction, problem.hidden(activities), pull)


def select(
    problem: Problem, mask: Bool[Array, " batch"], a: Evaluation, b: Evaluation
) -> Evaluation:
    """`a` for the examples where `mask` holds, `b` for the others."""
    where = problem.network.space.where
    shaped = mask.reshape(-1, *[1] * (a.prediction.ndim - 1))
    return Evaluation(
        errors=where(mask, a.errors, b.errors),
        activities=where(mask, a.activities, b.activities),
        prediction=jnp.where(shaped, a.prediction, b.prediction),
        energy=jnp.where(mask, a.energy, b.energy),
        gradient=where(mask, a.gradient, b.gradient),
    )


class Linearization:
    """The network linearized at given hidden errors: `prediction(e + d) ~ prediction + J d`.

    `push(d)` is `J d`, `pull(v)` is `J^T v`; each costs one pass and reuses what the linearization
    stored. It does not depend on the target or on the output precision. It lives within one trace
    and is not a pytree.
    """

    def __init__(self, problem: Problem, errors: Entries) -> None:
        self.errors = errors
        self.prediction, push, self.activities = jax.linearize(
            problem.predict, errors, has_aux=True
        )
        self.push: Callable[[Entries], Array] = push
        transposed = jax.linear_transpose(push, errors)
        self.pull: Callable[[Array], Entries] = lambda cotangent: transposed(cotangent)[0]

    def evaluation(self, problem: Problem) -> Evaluation:
        """Energy and gradient here; one reverse pass."""
        return _evaluation(problem, self.errors, self.prediction, self.activities, self.pull)
