"""Augmented Lagrangians: activities as constraints, whose multipliers become backprop's errors."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from fathomx.checks import Count, NotNegative, Positive, gate
from fathomx.checks.names import unknown
from fathomx.graph.vector_space import Entries
from fathomx.inference.base import Solver, SolverState, beginning
from fathomx.inference.gauss_newton import GaussNewton
from fathomx.problem.evaluation import Evaluation, Linearization, evaluate, evaluate_at
from fathomx.problem.problem import Problem

_BEFORE, _AFTER = "before", "after"


class MultiplierState(SolverState):
    """The multipliers of the free entries over their precisions."""

    shifts: Entries


State = TypeVar("State", bound=MultiplierState)


class Multipliers(Solver[State]):
    """What augmented Lagrangians share: steps of the multipliers, and what weights learn from.

    **Fields**: `budget`, steps of inference, at least 1; `dual_rate`, `alpha`, at least 0;
    `credit`, `"before"` or `"after"`: of the last step of the multipliers.
    """

    budget: eqx.AbstractVar[int]
    dual_rate: eqx.AbstractVar[float]
    credit: eqx.AbstractVar[str]

    @property
    def max_steps(self) -> int:
        return self.budget

    def _followed(self, problem: Problem, state: State, errors: Entries) -> Entries:
        """The shifts after a step of the multipliers, `m <- m + alpha c`.

        None before the first step of inference: errors that it starts from are no result of one.
        """
        rate = jnp.where(state.steps > 0, self.dual_rate, 0.0)
        return problem.network.space.add(state.shifts, rate, problem.unweigh(errors))

    def _credited(self, problem: Problem, state: State, here: Evaluation) -> Evaluation:
        """The Lagrangian where activities stand, with the multipliers that weights learn from."""
        after = self.credit == _AFTER
        shifts = self._followed(problem, state, here.errors) if after else state.shifts
        return shifted(problem, here, shifts)


def shifted(problem: Problem, here: Evaluation, shifts: Entries) -> Evaluation:
    """The evaluation of `explained + sum pi/2 ||e + s||^2` at `e`, with `e + s` as its errors."""
    errors = {name: here.errors[name] + shifts[name] for name in shifts}
    weighed = problem.weigh(shifts)
    return dataclasses.replace(
        here,
        errors=errors,
        energy=here.energy + problem.free_energy(errors) - problem.free_energy(here.errors),
        gradient={name: here.gradient[name] + weighed[name] for name in shifts},
    )


class AugmentedLagrangianState(MultiplierState):
    """The activities of the free entries."""

    activities: Entries


@gate
class AugmentedLagrangian(Multipliers[AugmentedLagrangianState]):
    """State descent on an augmented Lagrangian (PC-ALM): nodes are constraints with multipliers.

        L(z, m) = explained(z) + sum_v pi_v/2 ||c_v + m_v / pi_v||^2,    c_v = z_v - mu_v

    From the feedforward pass and `m = 0`, `budget` times: `inner_steps` of `z <- z - rate dL/dz`,
    then `m_v <- m_v + alpha c_v`. Weights learn from the shifted errors `pi_v c_v + m_v`, which are
    what `relaxation.errors` holds (over the precision); the activities are those reached. Where the
    constraints hold, `c = 0`, they are backprop's errors: the multipliers lead from predictive
    coding to backprop, and the reported cosine says how far. `relaxation.energy` and its
    certificate are those of `L`, with its multipliers as they are.

    **Arguments**

    * `rate`: of state descent, positive; stable below 2 over the largest eigenvalue of the energy's
      Hessian in activities (`fx.theory.StateHessian`), and one over it is usual.
    * `budget`: how often, at least 1.
    * `inner_steps`: of descent between two steps of the multipliers; 1 unless given.
    * `dual_rate`: `alpha`, at least 0; 1 unless given, 0 is state descent.
    * `credit`: `"before"` unless given: the multipliers before the last of their steps; `"after"`:
      after it.

    Raises `ValueError` for another `credit`.

    ```python
    rule = fx.Equilibrium(fx.AugmentedLagrangian(0.2, budget=64), output_precision=1.0)
    ```

    Source: Seely and Gould (2026), arXiv 2605.31022.
    """

    rate: float = eqx.field(static=True)
    budget: int = eqx.field(static=True)
    inner_steps: int = eqx.field(static=True)
    dual_rate: float = eqx.field(static=True)
    credit: str = eqx.field(static=True)

    def __init__(
        self,
        rate: Positive,
        budget: Count,
        inner_steps: Count = 1,
        dual_rate: NotNegative = 1.0,
        credit: str = _BEFORE,
    ) -> None:
        self.rate, self.budget, self.inner_steps = float(rate), budget, inner_steps
        self.dual_rate, self.credit = float(dual_rate), _known(credit)

    def init(
        self, problem: Problem, start: Linearization, here: Evaluation
    ) -> AugmentedLagrangianState:
        return AugmentedLagrangianState(
            **beginning(here, evaluations=0),
            shifts=problem.zeros(),
            activities=here.activities,
        )

    def step(self, problem: Problem, state: AugmentedLagrangianState) -> AugmentedLagrangianState:
        activities, shifts, energy = state.activities, state.shifts, state.previous_energy
        for index in range(self.inner_steps):
            errors, pull = jax.vjp(problem.errors_of, activities)
            if index == 0:
                # Here, where the errors are known anyway, and not at the end of the step before.
                shifts = self._followed(problem, state, errors)
            forces = {name: errors[name] + shifts[name] for name in shifts}
            found, slope = self._explained(problem, activities)
            pulled = pull(problem.weigh(forces))[0]
            energy = found + problem.free_energy(forces)
            activities = {
                name: activities[name] - self.rate * (pulled[name] + slope[name])
                for name in activities
            }
        return AugmentedLagrangianState(
            previous_energy=energy,
            steps=state.steps + 1,
            evaluations=state.evaluations + self.inner_steps,
            shifts=shifts,
            activities=activities,
        )

    def _explained(self, problem: Problem, activities: Entries) -> tuple[Array, Entries]:
        """The energy of what is explained, and its gradient in the activities."""
        explained, pull = jax.vjp(problem.explained_at, activities)
        energy = problem.explained_energy(explained)
        return energy, pull(problem.explained_gradient(explained))[0]

    def evaluation(self, problem: Problem, state: AugmentedLagrangianState) -> Evaluation:
        return self._credited(problem, state, evaluate_at(problem, state.activities))

    def activities(self, problem: Problem, state: AugmentedLagrangianState) -> Entries:
        return state.activities


class AugmentedGaussNewtonState(MultiplierState):
    """The evaluation of the energy where the errors stand, without multipliers."""

    here: Evaluation


@gate
class AugmentedGaussNewton(Multipliers[AugmentedGaussNewtonState]):
    """The augmented Lagrangian in error coordinates, with Gauss-Newton inside.

        L(e, m) = explained(e) + sum_v pi_v/2 ||e_v + m_v / pi_v||^2

    Every step is an iteration of Gauss-Newton on `L`, then `m_v <- m_v + alpha e_v`. On a linear
    network with exact iterations, what of backprop's errors is missing along an eigenvector of
    `J^T G J / pi` with the eigenvalue `h` is `(h / (1 + h))^k` after `k` steps: one is predictive
    coding, and at a strength of 0.1 the second leaves less than a hundredth. Everything else is
    as in `AugmentedLagrangian`.

    **Arguments**

    * `solver`: a `GaussNewton`; its `iterations` are taken in every step.
    * `budget`: steps, at least 1; 2 unless given.
    * `dual_rate`, `credit`: as in `AugmentedLagrangian`.

    Raises `ValueError` for another `credit`, and for a solver without iterations.

    ```python
    rule = fx.Equilibrium(fx.AugmentedGaussNewton(fx.GaussNewton(1, 4), budget=2))
    ```

    Ours, after Seely and Gould (2026), arXiv 2605.31022, in the coordinates of Goemaere et al.
    (2025), arXiv 2505.20137.
    """

    solver: GaussNewton
    budget: int = eqx.field(static=True)
    dual_rate: float = eqx.field(static=True)
    credit: str = eqx.field(static=True)

    def __init__(
        self,
        solver: GaussNewton,
        budget: Count = 2,
        dual_rate: NotNegative = 1.0,
        credit: str = _BEFORE,
    ) -> None:
        if not solver.iterations:
            raise ValueError(
                "the GaussNewton inside has no iterations, so that nothing would move; give at "
                "least one, as in fx.GaussNewton(1, 2)."
            )
        self.solver, self.budget = solver, budget
        self.dual_rate, self.credit = float(dual_rate), _known(credit)

    def init(
        self, problem: Problem, start: Linearization, here: Evaluation
    ) -> AugmentedGaussNewtonState:
        return AugmentedGaussNewtonState(**beginning(here), shifts=problem.zeros(), here=here)

    def step(self, problem: Problem, state: AugmentedGaussNewtonState) -> AugmentedGaussNewtonState:
        space, shifts = problem.network.space, self._followed(problem, state, state.here.errors)
        ones = jnp.ones_like(state.here.energy)

        def unshifted(errors: Entries) -> Entries:
            return space.add(errors, -ones, shifts)

        def lagrangian(problem: Problem, errors: Entries) -> Evaluation:
            return shifted(problem, evaluate(problem, unshifted(errors)), shifts)

        here, evaluations = shifted(problem, state.here, shifts), state.evaluations
        energy = here.energy
        for _ in range(self.solver.iterations):
            linearized = Linearization(problem, unshifted(here.errors))
            image = linearized.push(here.errors)
            energy = here.energy
            here, more = self.solver.iterate(problem, here, linearized, image, lagrangian)
            evaluations = evaluations + more
        # What is left of the Lagrangian's gradient without its multipliers is the energy's.
        none = {name: -shift for name, shift in shifts.items()}
        return AugmentedGaussNewtonState(
            previous_energy=energy,
            steps=state.steps + 1,
            evaluations=evaluations,
            shifts=shifts,
            here=shifted(problem, here, none),
        )

    def evaluation(self, problem: Problem, state: AugmentedGaussNewtonState) -> Evaluation:
        return self._credited(problem, state, state.here)


def _known(credit: str) -> str:
    if credit not in (_BEFORE, _AFTER):
        raise ValueError(unknown("credit", credit, (_BEFORE, _AFTER)))
    return credit
