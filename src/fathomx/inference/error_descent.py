"""Error descent: gradient descent on the errors, from which the activities are unrolled."""

from __future__ import annotations

import equinox as eqx
import optax

from fathomx.inference.base import Solver, beginning
from fathomx.inference.state_descent import (
    DescentState,
    checked_count,
    init_per_example,
    update_per_example,
)
from fathomx.problem import Evaluation, Linearization, Problem, evaluate


class ErrorDescentState(DescentState):
    """A descent state with the evaluation at its errors."""

    here: Evaluation


class ErrorDescent(Solver):
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

    optimizer: optax.GradientTransformation = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def __init__(
        self, optimizer: optax.GradientTransformation | None = None, steps: int = 5
    ) -> None:
        self.optimizer = optax.sgd(0.2) if optimizer is None else optimizer
        self.steps = checked_count("steps", steps)

    @property
    def max_steps(self) -> int:
        return self.steps

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> ErrorDescentState:
        optimizer = init_per_example(self.optimizer, problem.network.space, here.errors)
        return ErrorDescentState(
            **beginning(here), coordinates=here.errors, optimizer=optimizer, here=here
        )

    def step(self, problem: Problem, state: ErrorDescentState) -> ErrorDescentState:
        errors, optimizer = update_per_example(
            self.optimizer,
            problem.network.space,
            state.here.gradient,
            state.optimizer,
            state.coordinates,
        )
        here = evaluate(problem, errors)
        return ErrorDescentState(
            energy=here.energy,
            previous_energy=state.energy,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1,
            coordinates=errors,
            optimizer=optimizer,
            here=here,
        )

    def evaluation(self, problem: Problem, state: ErrorDescentState) -> Evaluation:
        return state.here
