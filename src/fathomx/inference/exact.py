"""The closed-form equilibrium of networks that are linear in their activities."""

from __future__ import annotations

from fathomx.checks import gate
from fathomx.inference.base import Solver, SolverState, beginning
from fathomx.problem.evaluation import Evaluation, Linearization, evaluate
from fathomx.problem.problem import Problem
from fathomx.problem.rescaling import check_linear, equilibrium_errors


class ExactState(SolverState):
    """The evaluation at the equilibrium."""

    here: Evaluation


@gate
class Exact(Solver[ExactState]):
    """The equilibrium in closed form, for networks linear in their activities, Gaussian energies.

        e* = Pi^-1 J^T S^-1 (y - o),     S = G^-1 + J Pi^-1 J^T

    with what is explained at the feedforward pass, `o`, its values `y` (zero for discrepancies of
    feedbacks) and precisions `G`, and `J` the derivative of `o` in the errors. `S` is built column
    by column, for one example, since `J` is the same for all, or for each example where something
    is clamped in part. The oracle that other solvers are tested against.

    Raises `ValueError` for a network that is not linear in its activities, or where something with
    another energy is observed.

    Source: Innocenti et al. (2024), arXiv 2408.11979, with precisions and any linear graph.
    """

    @property
    def max_steps(self) -> int:
        return 1

    @property
    def steps_in_init(self) -> int:
        return 1

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> ExactState:
        check_linear(problem, "Exact", "use Newton(tolerance=1e-6) for its equilibrium")
        # The closed form holds from the feedforward pass, wherever inference starts.
        start = start if start.origin is None else Linearization.at_start(problem)
        there = evaluate(problem, equilibrium_errors(problem, start))
        begun = beginning(here, evaluations=1)
        begun["steps"] = begun["steps"] + 1
        return ExactState(**begun, here=there)

    def step(self, problem: Problem, state: ExactState) -> ExactState:
        return state

    def evaluation(self, problem: Problem, state: ExactState) -> Evaluation:
        return state.here
