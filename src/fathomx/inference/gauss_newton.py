"""Gauss-Newton in error coordinates: near equilibrium in one iteration, at any depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fathomx import checks
from fathomx.checks import Count, CountOrZero, gate
from fathomx.graph.smoothness import has_curvature
from fathomx.graph.vector_space import Entries, VectorSpace, zeros_like
from fathomx.inference.base import (
    Solver,
    SolverState,
    beginning,
)
from fathomx.problem.evaluation import (
    Evaluation,
    Linearization,
    evaluate_at,
    unrolled,
    with_gradient,
)
from fathomx.problem.problem import Problem

_HALVINGS = 12
Evaluated = Callable[[Problem, Entries], Evaluation]


class GaussNewtonState(SolverState):
    """The evaluation where Gauss-Newton stands, without its gradient."""

    here: Evaluation


@gate
class GaussNewton(Solver[GaussNewtonState]):
    """Linearizes the network and solves for all errors at once by conjugate gradients.

    With `J = do / de`, the derivative of all that is explained in the errors, and `G` the curvature
    of its energy in `o` (the Hessian; of `fx.Laplace`, which has none, that of a parabola above
    it), each iteration solves

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

    Warns where an energy of your own has no curvature (`fx.Energy.curvature`).

    Ours. The system is the damped Gauss-Newton method (Nocedal and Wright, 2006, section 10.3) for
    the error-coordinate energy of Goemaere et al. (2025), arXiv 2505.20137; the safeguard is
    backtracking along the step instead of Levenberg-Marquardt damping, because it costs no second
    solve.
    """

    iterations: int = eqx.field(static=True)
    cg_iterations: int = eqx.field(static=True)

    def __init__(self, iterations: CountOrZero = 1, cg_iterations: Count = 2) -> None:
        self.iterations = iterations
        self.cg_iterations = cg_iterations

    @property
    def max_steps(self) -> int:
        return self.iterations

    @property
    def steps_in_init(self) -> int:
        return min(self.iterations, 1)

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> GaussNewtonState:
        _check_curvature(problem)
        state = GaussNewtonState(**beginning(here), here=_point(here))
        if self.iterations == 0:
            return state
        at_zero = start.origin is None
        image = zeros_like(start.explained) if at_zero else start.push(here.errors)
        return self._iterate(problem, state, here, start, image)

    def step(self, problem: Problem, state: GaussNewtonState) -> GaussNewtonState:
        linearized = Linearization(problem, state.here.errors)
        here = linearized.evaluation(problem)
        return self._iterate(problem, state, here, linearized, linearized.push(here.errors))

    def evaluation(self, problem: Problem, state: GaussNewtonState) -> Evaluation:
        return with_gradient(problem, state.here)

    def point(self, problem: Problem, state: GaussNewtonState) -> Evaluation:
        return state.here

    def resumed(
        self, problem: Problem, state: GaussNewtonState, activities: Entries
    ) -> GaussNewtonState:
        here = evaluate_at(problem, activities)
        return dataclasses.replace(state, here=_point(here))

    def _iterate(
        self,
        problem: Problem,
        state: GaussNewtonState,
        here: Evaluation,
        linearized: Linearization,
        image: Entries,
    ) -> GaussNewtonState:
        """One iteration from `here`; `image` is `J e`."""
        there, evaluations = self.iterate(problem, here, linearized, image, unrolled)
        moved = there.energy < here.energy
        return GaussNewtonState(
            previous_energy=jnp.where(moved, here.energy, state.previous_energy),
            steps=state.steps + 1,
            evaluations=state.evaluations + evaluations,
            here=there,
        )

    def iterate(
        self,
        problem: Problem,
        here: Evaluation,
        linearized: Linearization,
        image: Entries,
        evaluated: Evaluated,
    ) -> tuple[Evaluation, Array]:
        """Where one iteration leads, and what it evaluates; `image` is `J e`.

        `evaluated` is the energy that is lowered: that of the problem, or one of shifted errors.
        Of where it leads no gradient is needed.
        """
        direction = self._solve(problem, here, linearized, image)
        ones = jnp.ones_like(here.energy)
        errors = problem.network.space.add(here.errors, ones, direction)
        full = evaluated(problem, errors)
        there, tries = _backtrack(problem, here, direction, full, evaluated)
        return there, self.cg_iterations + tries

    def _solve(
        self, problem: Problem, here: Evaluation, linearized: Linearization, image: Entries
    ) -> Entries:
        """Preconditioned conjugate gradients on the Gauss-Newton system, from zero.

        All vectors have the form `a e + Pi^-1 J^T s` with a number `a` and an `s` of the size of
        what is explained. Their inner products follow from `a`, `s` and their images under `J`, so
        that only the direction and the solution are ever formed in the space of errors.
        """
        space = problem.network.space
        inner = _Inner(space, space.dot(problem.weigh(here.errors), here.errors), image)

        def curvature(pushed: Entries) -> Entries:
            return problem.explained_curvature(here.explained, pushed)

        def after(search: _Vector, product: Array, residual: _Vector) -> tuple[Array, _Vector]:
            """The step length along a direction, and the residual after the step."""
            ones = jnp.ones_like(search.along)
            bent = space.add(search.forces, ones, curvature(search.image))
            applied = _Vector(search.along, bent, search.image)
            length = _ratio(product, inner(applied, search))
            return length, residual.plus(space, -length, applied)

        def iterate(_: Any, carry: tuple[Entries, Entries, _Vector, _Vector, Array]) -> Any:
            solution, direction, search, residual, product = carry
            length, residual = after(search, product, residual)
            solution = space.add(solution, length, direction)
            pulled = problem.unweigh(linearized.pull(residual.forces))
            scaled = space.add(pulled, residual.along, here.errors)
            residual = dataclasses.replace(residual, image=linearized.push(scaled))
            renewed = inner(residual, residual)
            again = _ratio(renewed, product)
            direction = space.add(scaled, again, direction)
            search = residual.plus(space, again, search)
            return solution, direction, search, residual, renewed

        downhill = space.scale(-jnp.ones_like(here.energy), problem.unweigh(here.gradient))
        residual = _Vector(
            -jnp.ones_like(here.energy),
            space.scale(-jnp.ones_like(here.energy), problem.explained_gradient(here.explained)),
            linearized.push(downhill),
        )
        begun = (zeros_like(downhill), downhill, residual, residual, inner(residual, residual))
        solution, direction, search, residual, product = jax.lax.fori_loop(
            0, self.cg_iterations - 1, iterate, begun
        )
        length, _ = after(search, product, residual)
        return space.add(solution, length, direction)


def _point(here: Evaluation) -> Evaluation:
    """An evaluation without its gradient."""
    return dataclasses.replace(here, gradient={})


class _Vector(eqx.Module):
    """The vector `a e + Pi^-1 J^T s`: `along` is `a`, `forces` is `s`, `image` is `J` times it."""

    along: Float[Array, " batch"]
    forces: Entries
    image: Entries

    def plus(self, space: VectorSpace, scale: Array, other: _Vector) -> _Vector:
        """`self + scale * other`."""
        return _Vector(
            self.along + scale * other.along,
            space.add(self.forces, scale, other.forces),
            space.add(self.image, scale, other.image),
        )


class _Inner(eqx.Module):
    """The inner product `u^T Pi v` of two vectors, from `e^T Pi e` and `J e`."""

    space: VectorSpace
    size: Float[Array, " batch"]
    image: Entries

    def __call__(self, u: _Vector, v: _Vector) -> Float[Array, " batch"]:
        along_v = v.along * self.size + self.space.dot(self.image, v.forces)
        return u.along * along_v + self.space.dot(u.forces, v.image)


def _check_curvature(problem: Problem) -> None:
    """Warns where there is nothing to solve with: every iteration is then a gradient step."""
    for name in problem.explained:
        if not has_curvature(problem.network, name):
            energy = type(problem.network.predictor(name).energy).__name__
            checks.warn(
                f"the energy {energy} of {name!r} has no curvature, so that Gauss-Newton takes "
                "plain gradient steps; define its curvature(target, prediction, change), as "
                "fx.Laplace does, or use fx.StateDescent or fx.ErrorDescent."
            )


def _ratio(above: Array, below: Array) -> Array:
    """`above / below`, and 0 where both vanish because the residual already does."""
    safe = jnp.where(below > 0, below, 1)
    return jnp.where(below > 0, above / safe, 0)


def _backtrack(
    problem: Problem, here: Evaluation, direction: Entries, full: Evaluation, evaluated: Evaluated
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
        return jnp.any(rises(there)) & (halvings <= _HALVINGS)

    def halve(carry: tuple[Array, Evaluation, Array, Array]) -> Any:
        length, there, tries, halvings = carry
        bad = rises(there)
        length = jnp.where(bad, jnp.where(halvings < _HALVINGS, length / 2, 0), length)
        moved = space.add(here.errors, length, direction)
        # A direction that is not finite must not spoil the point to go back to.
        there = evaluated(problem, space.where(length > 0, moved, here.errors))
        return length, there, tries + bad, halvings + 1

    ones = jnp.ones_like(here.energy)
    carry = (ones, full, jnp.ones(here.energy.shape, int), jnp.asarray(0))
    _, there, tries, _ = jax.lax.while_loop(going, halve, carry)
    return there, tries
