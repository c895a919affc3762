"""Gauss-Newton in error coordinates: near equilibrium in one iteration, at any depth."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from fathomx.inference.base import (
    Solver,
    SolverState,
    beginning,
    checked_count,
    evaluate_again,
)
from fathomx.problem import Evaluation, Linearization, Problem, evaluate, select
from fathomx.vector_space import Entries, zeros_like

_HALVINGS = 12


class GaussNewtonState(SolverState):
    """The evaluation where Gauss-Newton stands."""

    here: Evaluation


class GaussNewton(Solver):
    """Linearizes the network and solves for all errors at once by conjugate gradients.

    With `J = d mu_L / d e` and `G` the Hessian of the output energy in `mu_L`, each iteration
    solves

        (Pi + J^T G J) d = -(Pi e + J^T g)

    and moves to `e + d`. `J^T G J` has at most the rank of the output, so conjugate gradients
    converge in a few iterations, each a forward and a reverse pass of the linearized network; any
    number of them gives a descent direction. On a network linear in its activities with Gaussian
    output, one iteration run to convergence is the exact equilibrium.

    An example whose energy does not fall takes half the step, again and again (at most 12 times,
    then it stays where it is), so the energy never rises.

    **Arguments**

    * `iterations`: linearizations, at least 0; 0 returns the feedforward state. 1 unless given.
    * `cg_iterations`: at most so many conjugate gradient iterations in each; 2 unless given.

    Ours. The system is the damped Gauss-Newton method (Nocedal and Wright, 2006, section 10.3) for
    the error-coordinate energy of Goemaere et al. (2025), arXiv 2505.20137; the safeguard is
    backtracking along the step instead of Levenberg-Marquardt damping, because it costs no second
    solve.
    """

    iterations: int = eqx.field(static=True)
    cg_iterations: int = eqx.field(static=True)

    def __init__(self, iterations: int = 1, cg_iterations: int = 2) -> None:
        self.iterations = checked_count("iterations", iterations)
        self.cg_iterations = checked_count("cg_iterations", cg_iterations, least=1)

    @property
    def max_steps(self) -> int:
        return self.iterations

    @property
    def steps_in_init(self) -> int:
        return min(self.iterations, 1)

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> GaussNewtonState:
        state = GaussNewtonState(**beginning(here), here=here)
        return self._iterate(problem, state, start) if self.iterations else state

    def step(self, problem: Problem, state: GaussNewtonState) -> GaussNewtonState:
        return self._iterate(problem, state, Linearization(problem, state.here.errors))

    def evaluation(self, problem: Problem, state: GaussNewtonState) -> Evaluation:
        return state.here

    def with_weights_changed(self, problem: Problem, state: GaussNewtonState) -> GaussNewtonState:
        here = evaluate_again(problem, state.here.activities)
        return dataclasses.replace(state, here=here)

    def _iterate(
        self, problem: Problem, state: GaussNewtonState, linearized: Linearization
    ) -> GaussNewtonState:
        here = state.here
        direction = self._solve(problem, here, linearized)
        ones = jnp.ones_like(here.energy)
        errors = problem.network.space.add(here.errors, ones, direction)
        there, tries = backtrack(problem, here, direction, evaluate(problem, errors))
        moved = there.energy < here.energy
        return GaussNewtonState(
            previous_energy=jnp.where(moved, here.energy, state.previous_energy),
            steps=state.steps + 1,
            evaluations=state.evaluations + self.cg_iterations + tries,
            here=there,
        )

    def _solve(self, problem: Problem, here: Evaluation, linearized: Linearization) -> Entries:
        """Preconditioned conjugate gradients on the Gauss-Newton system, from zero."""
        space = problem.network.space

        def curvature(pushed: Array) -> Array:
            hessian_product: Array = jax.jvp(
                problem.output_gradient, (here.prediction,), (pushed,)
            )[1]
            return hessian_product

        def apply(search: Entries) -> Entries:
            pulled = linearized.pull(curvature(linearized.push(search)))
            weighed = problem.weigh(search)
            return {name: weighed[name] + pulled[name] for name in search}

        residual = space.scale(-jnp.ones_like(here.energy), here.gradient)
        scaled = problem.unweigh(residual)

        def iterate(_: Any, carry: tuple[Entries, Entries, Entries, Array]) -> Any:
            solution, residual, search, product = carry
            applied = apply(search)
            length = _ratio(product, space.dot(search, applied))
            solution = space.add(solution, length, search)
            residual = space.add(residual, -length, applied)
            scaled = problem.unweigh(residual)
            renewed = space.dot(residual, scaled)
            search = space.add(scaled, _ratio(renewed, product), search)
            return solution, residual, search, renewed

        begun = (zeros_like(residual), residual, scaled, space.dot(residual, scaled))
        solution, _, search, product = jax.lax.fori_loop(0, self.cg_iterations - 1, iterate, begun)
        # The last step length needs no pull: p^T A p = p^T Pi p + (J p)^T G (J p).
        pushed = linearized.push(search)
        bent = space.dot(problem.weigh(search), search)
        bent = bent + jnp.sum(pushed * curvature(pushed), axis=tuple(range(1, pushed.ndim)))
        return space.add(solution, _ratio(product, bent), search)


def _ratio(above: Array, below: Array) -> Array:
    """`above / below`, and 0 where both vanish because the residual already does."""
    safe = jnp.where(below > 0, below, 1)
    return jnp.where(below > 0, above / safe, 0)


def backtrack(
    problem: Problem, here: Evaluation, direction: Entries, full: Evaluation
) -> tuple[Evaluation, Array]:
    """Halves the step of every example until its energy falls; returns where, and evaluations.

    An example without a better point along the direction after 12 halvings stays where it is.
    """
    space = problem.network.space

    def rises(there: Evaluation) -> Bool[Array, " batch"]:
        # Not `there > here`: a comparison with NaN must count as a rise.
        return ~(there.energy <= here.energy)

    def going(carry: tuple[Array, Evaluation, Array, Array]) -> Any:
        _, there, _, halvings = carry
        return jnp.any(rises(there)) & (halvings < _HALVINGS)

    def halve(carry: tuple[Array, Evaluation, Array, Array]) -> Any:
        length, there, tries, halvings = carry
        bad = rises(there)
        length = jnp.where(bad, length / 2, length)
        there = evaluate(problem, space.add(here.errors, length, direction))
        return length, there, tries + bad, halvings + 1

    ones = jnp.ones_like(here.energy)
    carry = (ones, full, jnp.ones(here.energy.shape, int), jnp.asarray(0))
    _, there, tries, _ = jax.lax.while_loop(going, halve, carry)
    return select(problem, rises(there), here, there), tries
