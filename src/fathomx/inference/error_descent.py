"""Error descent: gradient descent on the errors, from which the activities are unrolled."""

from __future__ import annotations

import optax

from fathomx.inference.base import beginning
from fathomx.inference.descent import Descent, DescentState
from fathomx.problem import Evaluation, Linearization, Problem, evaluate


class ErrorDescentState(DescentState):
    """A descent state with the evaluation at its errors."""

    here: Evaluation


class ErrorDescent(Descent):
    """Descends the energy in the errors: `e <- e - optimizer(dF/de)`, `z_l = f_l(z) + e_l`.

    One reverse pass reaches every node, at any depth. Stable only while the rate times the top
    eigenvalue of the Hessian in error coordinates stays below 2. The first step from `e = 0` is
    backprop with rescaled gradients: with few, short steps the weight update is close to that of
    backprop, and the reported cosine says how close.

    **Arguments**

    * `optimizer`: any `optax` optimizer, applied to every example by itself; `optax.sgd(0.2)`
      unless given.
    * `steps`: inference steps, at least 0; 5 unless given.

    Source: Goemaere et al. (2025), arXiv 2505.20137.
    """

    def __init__(
        self, optimizer: optax.GradientTransformation | None = None, steps: int = 5
    ) -> None:
        super().__init__(optax.sgd(0.2) if optimizer is None else optimizer, steps)

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> ErrorDescentState:
        return ErrorDescentState(
            **beginning(here),
            coordinates=here.errors,
            optimizer=self.init_optimizer(problem, here.errors),
            here=here,
        )

    def step(self, problem: Problem, state: ErrorDescentState) -> ErrorDescentState:
        errors, optimizer = self.descend(problem, state, state.here.gradient)
        here = evaluate(problem, errors)
        return ErrorDescentState(
            previous_energy=state.here.energy,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1,
            coordinates=errors,
            optimizer=optimizer,
            here=here,
        )

    def evaluation(self, problem: Problem, state: ErrorDescentState) -> Evaluation:
        return state.here
