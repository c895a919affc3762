"""The energy and its gradient at a point, and the network linearized there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fathomx.graph.entries import Back, Derivative
from fathomx.graph.vector_space import Entries
from fathomx.problem.problem import Problem


class Evaluation(eqx.Module):
    """The energy and its gradient at given errors.

    **Fields**: `errors` and `activities` of the free entries, `explained` (predictions of what is
    observed, discrepancies of feedbacks, by name), `energy` `(batch,)` and `gradient` `dF/de`,
    empty where nobody needs it (`unrolled`).
    """

    errors: Entries
    activities: Entries
    explained: Entries
    energy: Float[Array, " batch"]
    gradient: Entries

    @classmethod
    def of_energies(cls, problem: Problem, errors: Entries, explained: Entries) -> Evaluation:
        """What energies need, without activities and gradient."""
        return cls(errors, {}, explained, jnp.zeros(problem.batch), {})


def evaluate(problem: Problem, errors: Entries, weights: Entries | None = None) -> Evaluation:
    """Energy, activities and `dF/de = Pi e + J^T dE/do` by one reverse pass.

    `weights`, by name, multiply the energies of entries and feedbacks in the gradient: those of a
    schedule.
    """
    explained, pull, activities = jax.vjp(problem.explain, errors, has_aux=True)
    return _evaluation(problem, errors, explained, activities, lambda g: pull(g)[0], weights)


def unrolled(problem: Problem, errors: Entries) -> Evaluation:
    """Energy and activities by one forward pass; no gradient."""
    explained, activities = problem.explain(errors)
    return _point(problem, errors, explained, activities)


def _point(
    problem: Problem, errors: Entries, explained: Entries, activities: Entries
) -> Evaluation:
    """An evaluation without its gradient."""
    return Evaluation(
        errors=errors,
        activities=activities,
        explained=explained,
        energy=problem.free_energy(errors) + problem.explained_energy(explained),
        gradient={},
    )


def _evaluation(
    problem: Problem,
    errors: Entries,
    explained: Entries,
    activities: Entries,
    pull: Callable[[Entries], Entries],
    weights: Entries | None = None,
) -> Evaluation:
    point = _point(problem, errors, explained, activities)
    gradient = _gradient(problem, errors, explained, pull, weights)
    return dataclasses.replace(point, gradient=gradient)


def _gradient(
    problem: Problem,
    errors: Entries,
    explained: Entries,
    pull: Callable[[Entries], Entries],
    weights: Entries | None = None,
) -> Entries:
    """`w Pi e + J^T w dE/do`."""
    slope, own = problem.explained_gradient(explained), problem.weigh(errors)
    if weights is not None:
        slope, own = ({name: weights[name] * a[name] for name in a} for a in (slope, own))
    pulled = pull(slope)
    return {name: own[name] + pulled[name] for name in own}


def evaluate_at(
    problem: Problem, activities: Entries, weights: Entries | None = None
) -> Evaluation:
    """`evaluate` at the errors of these activities: all predictions at once, one reverse pass.

    The activities are those given, not unrolled from the errors again.
    """
    known = problem.inferred(activities)
    predicted, explained, pull = _pulled(problem, known)
    errors = problem.errors_from(known, predicted)
    return _evaluation(problem, errors, explained, problem.select(activities), pull, weights)


def gradient_at(problem: Problem, here: Evaluation) -> Entries:
    """`dF/de` where an evaluation was left without it: one reverse pass, and no forward pass."""
    _, _, pull = _pulled(problem, problem.inferred(here.activities))
    return _gradient(problem, here.errors, here.explained, pull)


def with_gradient(problem: Problem, here: Evaluation) -> Evaluation:
    """An evaluation with the gradient that it was left without."""
    return dataclasses.replace(here, gradient=gradient_at(problem, here))


def _pulled(
    problem: Problem, known: Entries
) -> tuple[Entries, Entries, Callable[[Entries], Entries]]:
    """Predictions from activities, what is explained of them, and `J^T` there."""
    network = problem.network
    predicted: Entries = {}
    pulls: dict[str, Back] = {}
    for entry in network.bound():
        if entry.name in problem.free or entry.name in problem.observed:
            sources = network.sources(entry, known, batch=problem.batch)
            own = known.get(entry.name)
            predicted[entry.name], pulls[entry.name] = entry.pull(sources, own)
    explained = {name: predicted[name] for name in problem.observed}
    from_feedbacks: Callable[[Entries], tuple[Entries]] | None = None
    if network.feedbacks:
        found, from_feedbacks = jax.vjp(network.discrepancies, known)
        explained |= found

    def pull(cotangents: Entries) -> Entries:
        every: Entries = {}
        if from_feedbacks is not None:
            every = from_feedbacks({f.name: cotangents[f.name] for f in network.feedbacks})[0]
        ends: Entries = {}
        pulled: Entries = {}
        for entry in reversed(network.entries):
            name = entry.name
            if name not in pulls:
                continue
            reaching = Derivative(
                ends.get(name), every.get(name), cotangents.get(name), problem.clamps.get(name)
            )
            if reaching.empty:
                pulled[name] = jnp.zeros_like(known[name])
                continue
            to_error, to_sources = pulls[name](reaching)
            pulled[name] = to_error
            for parent, add in zip(network.parents[name], to_sources, strict=False):
                if parent in pulls:
                    ends[parent] = ends[parent] + add if parent in ends else add
        return {name: pulled[name] for name in problem.free}

    return predicted, explained, pull


def select(
    problem: Problem, mask: Bool[Array, " batch"], a: Evaluation, b: Evaluation
) -> Evaluation:
    """`a` for the examples where `mask` holds, `b` for the others."""
    where = problem.network.space.where
    return Evaluation(
        errors=where(mask, a.errors, b.errors),
        activities=where(mask, a.activities, b.activities),
        explained=where(mask, a.explained, b.explained),
        energy=jnp.where(mask, a.energy, b.energy),
        gradient=where(mask, a.gradient, b.gradient),
    )


class Linearization:
    """The network linearized at given errors: `explained(e + d) ~ explained + J d`.

    `push(d)` is `J d`, `pull(v)` is `J^T v`; each costs one pass and reuses what the linearization
    stored. `origin` is the evaluation at `e = 0` where inference starts elsewhere. It lives within
    one trace and is not a pytree; but for `origin`, it does not depend on the values of what is
    observed or on the output precision.
    """

    def __init__(self, problem: Problem, errors: Entries, origin: Evaluation | None = None) -> None:
        self.errors = errors
        self.origin = origin
        self.explained, push, self.activities = jax.linearize(problem.explain, errors, has_aux=True)
        self.push: Callable[[Entries], Entries] = push
        transposed = jax.linear_transpose(push, errors)
        self.pull: Callable[[Entries], Entries] = lambda cotangent: transposed(cotangent)[0]

    @classmethod
    def at_start(cls, problem: Problem) -> Linearization:
        """At the feedforward pass, `e = 0`."""
        return cls(problem, problem.zeros())

    def evaluation(self, problem: Problem, weights: Entries | None = None) -> Evaluation:
        """Energy and gradient here, as by `evaluate`; one reverse pass."""
        return _evaluation(
            problem, self.errors, self.explained, self.activities, self.pull, weights
        )
