"""Predify: the published dynamics of feedbacks around a pretrained network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from fathomx import checks
from fathomx.checks import CountOrZero, gate
from fathomx.graph.vector_space import Entries
from fathomx.inference.base import Solver, SolverState, beginning
from fathomx.problem.evaluation import Evaluation, Linearization, evaluate_at
from fathomx.problem.problem import Problem


class PredifyState(SolverState):
    """The activities of the free entries."""

    activities: Entries


class Rates(eqx.Module):
    """Numbers by entry, as arrays, so that one compiled program serves all of them.

    **Fields**: `names`, of entries, or `None` for all that are not named; `values`, one for each.
    """

    values: tuple[Array, ...]
    names: tuple[str | None, ...] = eqx.field(static=True)

    def of(self, name: str | None, missing: float) -> Array | float:
        """The number of an entry, `missing` if there is none."""
        by_name = dict(zip(self.names, self.values, strict=True))
        return by_name.get(name, by_name.get(None, missing))


@gate
class Predify(Solver[PredifyState]):
    """The published dynamics of a feedforward network with feedbacks, from the input up.

        z_n <- b f_n(z_{n-1}) + l g_{n+1}(z_{n+1}) + (1 - b - l) z_n
               - a d/dz_n mean((z_{n-1} - g_n(z_n))^2)

    with the new activity of the parents in `f_n` and the old ones elsewhere; the mean is over the
    units of one example. `b`, `l` and `a` are `forward`, `feedback` and `correction`. A node that
    no feedback predicts has `l = 0`, one that no feedback reads `a = 0`. It is not the descent of
    an energy: what a node's own prediction misses does not flow back to its parents. For that, use
    any other solver on the same network.

    **Arguments**

    * `forward`, `feedback`, `correction`: numbers, or numbers by entry (0, and 1 of `forward`, of
      those not named). `forward` and `feedback` are not negative and sum to at most 1.
    * `steps`: at least 0.

    Raises `ValueError` for rates out of range, for a network without feedbacks and for free stacks,
    which `fx.wrap` does not make if it is given names.

    ```python
    problem = fx.Problem(network, {"input": noisy})
    relaxed = fx.infer(problem, fx.Predify(0.8, 0.1, 0.01, steps=10))
    ```

    Source: Choksi et al. (2021), arXiv 2106.02749.
    """

    forward: Rates
    feedback: Rates
    correction: Rates
    steps: int = eqx.field(static=True)

    def __init__(
        self,
        forward: float | Mapping[str, float],
        feedback: float | Mapping[str, float],
        correction: float | Mapping[str, float],
        steps: CountOrZero,
    ) -> None:
        self.forward = _rates("forward", forward, most=1.0)
        self.feedback = _rates("feedback", feedback, most=1.0)
        # A correction of 0 everywhere costs no pullback.
        self.correction = _rates("correction", {} if correction == 0 else correction, most=None)
        self.steps = steps
        for name in {*self.forward.names, *self.feedback.names}:
            total = float(self.forward.of(name, 1.0)) + float(self.feedback.of(name, 0.0))
            if total > 1 + 1e-6:
                raise ValueError(
                    f"forward and feedback sum to {total:g}, but what is left of 1 is the part of "
                    "the activity that stays, and must not be negative; give smaller ones."
                )

    @property
    def max_steps(self) -> int:
        return self.steps

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> PredifyState:
        network = problem.network
        if not network.feedbacks:
            raise ValueError(
                "Predify needs a network with feedbacks; fx.models.with_feedbacks adds one to "
                "every node, or give feedbacks= to fx.wrap."
            )
        stacks = [name for name in problem.free if network.entry(name).batch_axis]
        if stacks:
            raise ValueError(
                f"Predify goes node by node, and {stacks[0]!r} is a stack; build the network of "
                "single nodes, as fx.wrap does if it is given names."
            )
        for rates in (self.forward, self.feedback, self.correction):
            for name in rates.names:
                if name is not None:
                    network.entry(name)
        return PredifyState(**beginning(here), activities=here.activities)

    def step(self, problem: Problem, state: PredifyState) -> PredifyState:
        network, known = problem.network, problem.inferred(state.activities)
        told, corrections = self._from_feedbacks(problem, known)
        now = dict(known)
        for entry in network.bound():
            name = entry.name
            if name not in problem.free:
                continue
            forward = self.forward.of(name, 1.0)
            feedback = self.feedback.of(name, 0.0) if name in told else 0.0
            sources = network.sources(entry, now, batch=problem.batch)
            moved = forward * entry.predict(sources, None) + (1 - forward - feedback) * known[name]
            if name in told:
                moved = moved + feedback * told[name]
            if self.correction.names and name in corrections:
                moved = moved - self.correction.of(name, 0.0) * corrections[name]
            now[name] = moved
        met = problem.inferred({name: now[name] for name in problem.free})
        return PredifyState(
            previous_energy=state.previous_energy,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1,
            activities={name: met[name] for name in problem.free},
        )

    def evaluation(self, problem: Problem, state: PredifyState) -> Evaluation:
        return evaluate_at(problem, state.activities)

    def activities(self, problem: Problem, state: PredifyState) -> Entries:
        return state.activities

    def _from_feedbacks(self, problem: Problem, known: Entries) -> tuple[Entries, Entries]:
        """What feedbacks predict, their mean where there are several, and the corrections."""
        network = problem.network
        predicted, pull = jax.vjp(network.feedback_predictions, known)
        missed: Entries = {}
        told: dict[str, list[Array]] = {}
        for feedback in network.feedbacks:
            found = predicted[feedback.name]
            units = found.size // problem.batch
            missed[feedback.name] = -2 * (network.target(feedback, known) - found) / units
            told.setdefault(feedback.of, []).append(found)
        corrections: Entries = pull(missed)[0]
        means = {name: jnp.mean(jnp.stack(rows), axis=0) for name, rows in told.items()}
        return means, corrections


def _rates(what: str, given: Any, most: float | None) -> Rates:
    named = dict(given) if isinstance(given, Mapping) else {None: given}
    values = []
    for name, value in named.items():
        told = what if name is None else f"{what} of {name!r}"
        values.append(jnp.asarray(float(checks.number(told, value, least=0, most=most))))
    return Rates(tuple(values), tuple(named))
