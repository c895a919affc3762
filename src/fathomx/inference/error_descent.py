"""Error descent: gradient descent on the errors, from which the activities are unrolled."""

from __future__ import annotations

import dataclasses

import jax
import optax

from fathomx.checks import CountOrZero, Optimizer, Positive, gate
from fathomx.graph.arrival import entry_weights
from fathomx.graph.vector_space import Entries
from fathomx.inference.base import beginning
from fathomx.inference.descent import Descent, DescentState
from fathomx.inference.schedule import Schedule, Uniform
from fathomx.problem.evaluation import (
    Evaluation,
    Linearization,
    evaluate_at,
    gradient_at,
    unrolled,
    with_gradient,
)
from fathomx.problem.problem import Problem


class ErrorDescentState(DescentState):
    """A descent state with the evaluation at its errors, and the gradient where it began.

    The evaluation has no gradient: the next step needs it, and the last one has none after it.
    """

    here: Evaluation
    first: Entries


@gate
class ErrorDescent(Descent[ErrorDescentState]):
    """Descends the energy in the errors: `e <- e - optimizer(dF/de)`, `z_l = f_l(z) + e_l`.

    One reverse pass reaches every node, at any depth. Stable only while the rate times the top
    eigenvalue of the Hessian in error coordinates stays below 2. The first step from `e = 0` is
    backprop with rescaled gradients: with few, short steps the weight update is close to that of
    backprop, and the reported cosine says how close.

    **Arguments**

    * `optimizer`: any `optax` optimizer, applied to every example by itself, or a number: the rate
      of plain gradient descent; `optax.sgd(0.2)` unless given.
    * `steps`: inference steps, at least 0; 5 unless given.
    * `schedule`: weights `w_l(t)` that multiply `pi_l` in step `t`; `fx.Uniform()` unless given.
      The signal reaches every node in step 0.

    Source: Goemaere et al. (2025), arXiv 2505.20137.
    """

    def __init__(
        self,
        optimizer: Optimizer | Positive | None = None,
        steps: CountOrZero = 5,
        schedule: Schedule | None = None,
        precision: Schedule | None = None,
    ) -> None:
        optimizer = optax.sgd(0.2) if optimizer is None else optimizer
        super().__init__(optimizer, steps, schedule, precision)

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> ErrorDescentState:
        begun = self.begin(problem, here.errors, start)
        point = dataclasses.replace(here, gradient={})
        return ErrorDescentState(**beginning(here), **begun, here=point, first=here.gradient)

    def step(self, problem: Problem, state: ErrorDescentState) -> ErrorDescentState:
        errors, optimizer = self.descend(problem, state, self._gradient(problem, state))
        here = unrolled(problem, errors)
        return ErrorDescentState(
            previous_energy=state.here.energy,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1,
            coordinates=errors,
            optimizer=optimizer,
            count=state.count + 1,
            everywhere=state.everywhere,
            here=here,
            first=state.first,
        )

    def _gradient(self, problem: Problem, state: ErrorDescentState) -> Entries:
        """The gradient `w Pi e + J^T w g` of the scheduled energy."""
        if not isinstance(self.schedule, Uniform):
            weights = entry_weights(problem.network, self.weights(problem, state))
            return gradient_at(problem, state.here, weights)
        known: Entries = jax.lax.cond(
            state.count == 0,
            lambda: state.first,
            lambda: gradient_at(problem, state.here),
        )
        return known

    def evaluation(self, problem: Problem, state: ErrorDescentState) -> Evaluation:
        return with_gradient(problem, state.here)

    def point(self, problem: Problem, state: ErrorDescentState) -> Evaluation:
        return state.here

    def with_weights_changed(self, problem: Problem, state: ErrorDescentState) -> ErrorDescentState:
        here = evaluate_at(problem, state.here.activities)
        point = dataclasses.replace(here, gradient={})
        return dataclasses.replace(state, coordinates=here.errors, here=point)
