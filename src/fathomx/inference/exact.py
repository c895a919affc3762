"""The closed-form equilibrium of networks that are linear in their activities."""

from __future__ import annotations

import jax

from fathomx.inference.base import Solver, SolverState, beginning
from fathomx.problem.evaluation import Evaluation, Linearization, evaluate
from fathomx.problem.problem import Problem
from fathomx.problem.rescaling import check_linear, rescaling_matrix


class ExactState(SolverState):
    """The evaluation at the equilibrium."""

    here: Evaluation


class Exact(Solver):
    """The equilibrium in closed form, for networks linear in their activities, Gaussian output.

        e* = Pi^-1 J^T S^-1 (y - mu_L),     S = I / lambda + J Pi^-1 J^T

    with the feedforward prediction `mu_L` and `J` the derivative of the output in the hidden
    errors. `S` is built column by column, for one example, since `J` is the same for
    all (`fathomx.rescaling`). The oracle that other solvers are tested against.

    Raises `ValueError` for a network that is not linear in its activities, or whose output energy
    is not Gaussian.

    Source: Innocenti et al. (2024), arXiv 2408.11979, with precisions and any linear graph.
    """

    @property
    def max_steps(self) -> int:
        return 1

    @property
    def steps_in_init(self) -> int:
        return 1

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> ExactState:
        check_linear(problem.network, "Exact", "use Newton(tolerance=1e-6) for its equilibrium")
        rescaling = rescaling_matrix(problem)
        size = rescaling.shape[0]
        residual = (problem.target - here.prediction).reshape(problem.batch, size)
        solved = jax.scipy.linalg.solve(rescaling, residual.T, assume_a="sym").T
        errors = problem.unweigh(start.pull(solved.reshape(problem.target.shape)))
        there = evaluate(problem, errors)
        begun = beginning(here, evaluations=1)
        begun["steps"] = begun["steps"] + 1
        return ExactState(**begun, here=there)

    def step(self, problem: Problem, state: ExactState) -> ExactState:
        return state

    def evaluation(self, problem: Problem, state: ExactState) -> Evaluation:
        return state.here
