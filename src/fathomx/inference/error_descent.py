"""Error descent: gradient descent on the errors, from which the activities are unrolled."""

from __future__ import annotations

import dataclasses

import optax

from fathomx.checks import CountOrZero, Optimizer, Positive, gate
from fathomx.graph.arrival import entry_weights
from fathomx.graph.vector_space import Entries
from fathomx.inference.base import beginning
from fathomx.inference.descent import Descent, DescentState
from fathomx.inference.schedule import Schedule, Uniform
from fathomx.problem.evaluation import Evaluation, Linearization, evaluate, evaluate_at, unrolled
from fathomx.problem.problem import Problem


class ErrorDescentState(DescentState):
    """A descent state whose coordinates are errors, at which nothing is evaluated yet.

    The next step does it, since its reverse pass then has what the forward pass found, and after
    the last step a forward pass is enough. `gradient` is that of the next step where it is known
    before, and `previous_energy` then that of the point; else it is empty.
    """

    gradient: Entries


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

    @property
    def steps_in_init(self) -> int:
        return min(self.steps, 1)

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> ErrorDescentState:
        begun = self.begin(problem, here.errors, start)
        state = ErrorDescentState(**beginning(here), **begun, gradient={})
        if self.steps == 0:
            return state
        weights = self._weights(problem, state)
        here = here if weights is None else start.evaluation(problem, weights)
        return self.step(problem, dataclasses.replace(state, gradient=here.gradient))

    def step(self, problem: Problem, state: ErrorDescentState) -> ErrorDescentState:
        if state.gradient:
            energy, gradient = state.previous_energy, state.gradient
        else:
            here = evaluate(problem, state.coordinates, self._weights(problem, state))
            energy, gradient = here.energy, here.gradient
        errors, optimizer = self.descend(problem, state, gradient)
        return ErrorDescentState(
            previous_energy=energy,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1,
            coordinates=errors,
            optimizer=optimizer,
            count=state.count + 1,
            everywhere=state.everywhere,
            gradient={},
        )

    def _weights(self, problem: Problem, state: ErrorDescentState) -> Entries | None:
        """What the energies of entries are multiplied by in the next step; `None` for 1."""
        if isinstance(self.schedule, Uniform):
            return None
        return entry_weights(problem.network, self.weights(problem, state))

    def evaluation(self, problem: Problem, state: ErrorDescentState) -> Evaluation:
        return evaluate(problem, state.coordinates)

    def point(self, problem: Problem, state: ErrorDescentState) -> Evaluation:
        return unrolled(problem, state.coordinates)

    def resumed(
        self, problem: Problem, state: ErrorDescentState, activities: Entries
    ) -> ErrorDescentState:
        here = evaluate_at(problem, activities, self._weights(problem, state))
        return dataclasses.replace(
            state,
            previous_energy=here.energy,
            coordinates=here.errors,
            gradient=here.gradient,
        )
