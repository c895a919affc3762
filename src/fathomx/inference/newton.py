"""Newton's method in error coordinates: equilibrium to any tolerance."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fathomx.checks import Count, Positive, gate
from fathomx.graph.smoothness import has_smoothed_form, smoothed
from fathomx.graph.vector_space import Entries, zeros_like
from fathomx.inference.base import Solver, SolverState, advanced, beginning
from fathomx.inference.quasi_newton import QuasiNewton
from fathomx.problem.evaluation import Evaluation, Linearization, evaluate, select
from fathomx.problem.problem import Problem

_TEMPERATURES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
_STAGE_TOLERANCE, _STAGE_STEPS = 1e-2, 60
# How far quasi-Newton goes before, and how long.
_BEGIN, _BEGIN_STEPS = 1e-6, 100
_ACCEPT = 1e-4
_EXPAND, _SHRINK = 0.75, 0.25


class NewtonState(SolverState):
    """The evaluation where Newton stands, its trust radius and whether it is done."""

    here: Evaluation
    radius: Float[Array, " batch"]
    reference: Float[Array, " batch"]
    done: Bool[Array, " batch"]


@gate
class Newton(Solver[NewtonState]):
    """Trust-region Newton with truncated conjugate gradients, on every example by itself.

    Each iteration minimizes the quadratic model `g^T d + 1/2 d^T H d` of the energy, `H` the full
    Hessian in error coordinates, within `d^T Pi d <= radius^2`, by conjugate gradients that stop
    at the boundary, at negative curvature, or when the residual has fallen far enough for
    superlinear convergence. A step is taken if the energy falls; the radius follows the ratio of
    actual to predicted decrease. Ends when `||dF/de|| <= tolerance * ||dF/de at e = 0||`.

    It begins where at most 100 steps of `fx.QuasiNewton` lead, to a relative gradient norm of 1e-6
    or to the tolerance: they cost less, above all where curvature is negative. Products with the
    Hessian are for what these leave.

    **Arguments**

    * `tolerance`: relative gradient norm, positive; 1e-6 unless given. Below 1e-4 use float64.
    * `max_iterations`: at least 1; 100 unless given. At each temperature of the smoothed energy
      (below) at most 60 of them are taken before.
    * `cg_iterations`: at most so many Hessian-vector products in one iteration; 200 unless given.

    On networks with kinks (ReLU) the minima sit on kinks, where no gradient vanishes and Newton's
    method alone stops early. There the activations are first rounded off, `relu(x) ~ T log(1 +
    exp(x / T))`, and the energy is followed down a falling temperature T (0.3 to 0.001, in units of
    the activities); the last iterations are on the network itself and end when the trust region has
    collapsed. The tolerance then need not be reached, and `relaxation.describe()` says so.

    Source: Steihaug (1983); Nocedal and Wright (2006), algorithms 4.1 and 7.2, in the metric of the
    hidden precisions. Ours is the use in error coordinates, where the Hessian is the identity plus
    low rank plus the network's second derivatives,
    and the continuation in the temperature.
    """

    tolerance: float = eqx.field(static=True)
    max_iterations: int = eqx.field(static=True)
    cg_iterations: int = eqx.field(static=True)

    def __init__(
        self, tolerance: Positive = 1e-6, max_iterations: Count = 100, cg_iterations: Count = 200
    ) -> None:
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.cg_iterations = cg_iterations

    @property
    def max_steps(self) -> int:
        return self.max_iterations

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> NewtonState:
        origin = here if start.origin is None else start.origin
        reference = problem.network.space.norm(origin.gradient)
        if has_smoothed_form(problem.network):
            return self._continued(problem, self._begin(problem, here, reference, beginning(here)))
        most = min(_BEGIN_STEPS, self.max_iterations)
        first = QuasiNewton(max(self.tolerance, _BEGIN), most)
        near = advanced(problem, first, first.init(problem, start, here), most)
        common = {
            "previous_energy": near.previous_energy,
            "steps": near.steps,
            "evaluations": near.evaluations,
        }
        begun = self._begin(problem, near.here, reference, common)
        settled = problem.network.space.norm(near.here.gradient) <= self.tolerance * reference
        return dataclasses.replace(begun, done=begun.done | settled)

    def _begin(
        self, problem: Problem, here: Evaluation, reference: Array, common: dict[str, Array]
    ) -> NewtonState:
        scaled = problem.unweigh(here.gradient)
        return NewtonState(
            **common,
            here=here,
            radius=jnp.sqrt(problem.network.space.dot(here.gradient, scaled)),
            reference=reference,
            done=(problem.network.space.norm(here.gradient) == 0) | ~jnp.isfinite(here.energy),
        )

    def _continued(self, problem: Problem, state: NewtonState) -> NewtonState:
        """Follows the minimum of the smoothed energy to the smallest temperature."""
        steps = min(_STAGE_STEPS, self.max_iterations)
        stage = Newton(_STAGE_TOLERANCE, steps, self.cg_iterations)

        def moved(problem: Problem, state: NewtonState) -> NewtonState:
            here = evaluate(problem, state.here.errors)
            common = {
                "previous_energy": state.here.energy,
                "steps": state.steps,
                "evaluations": state.evaluations + 1,
            }
            return self._begin(problem, here, state.reference, common)

        def descend(state: NewtonState, temperature: Array) -> tuple[NewtonState, None]:
            smooth = problem.with_network(smoothed(problem.network, temperature))

            return advanced(smooth, stage, moved(smooth, state), steps), None

        temperatures = jnp.asarray(_TEMPERATURES, problem.network.dtype)
        followed, _ = jax.lax.scan(descend, state, temperatures)
        there = moved(problem, followed)
        # A path that ends higher than it began is not taken.
        better = there.here.energy <= state.here.energy
        here = select(problem, better, there.here, state.here)
        return NewtonState(
            previous_energy=state.here.energy,
            steps=there.steps,
            evaluations=there.evaluations,
            here=here,
            radius=jnp.where(better, there.radius, state.radius),
            reference=state.reference,
            done=jnp.where(better, there.done, state.done),
        )

    def finished(self, problem: Problem, state: NewtonState) -> Bool[Array, " batch"]:
        return state.done

    def step(self, problem: Problem, state: NewtonState) -> NewtonState:
        space = problem.network.space
        here, idle = state.here, state.done
        direction, decrease, at_boundary, products = _steihaug(problem, state, self)
        ones = jnp.ones_like(here.energy)
        there = evaluate(problem, space.add(here.errors, ones, direction))

        fallen = here.energy - there.energy
        # Near equilibrium the decrease drowns in rounding; then trust the model.
        noise = 10 * jnp.finfo(fallen.dtype).eps * jnp.abs(here.energy)
        rounding = (jnp.abs(fallen) <= noise) & (decrease <= noise)
        ratio = jnp.where(rounding, 1, fallen / jnp.where(decrease > 0, decrease, 1))
        ratio = jnp.where(jnp.isfinite(there.energy), ratio, -1)
        take = (ratio > _ACCEPT) & ~idle

        length = jnp.sqrt(space.dot(problem.weigh(direction), direction))
        radius = jnp.where(ratio < _SHRINK, length / 4, state.radius)
        radius = jnp.where((ratio > _EXPAND) & at_boundary, 2 * state.radius, radius)
        here = select(problem, take, there, here)
        settled = space.norm(here.gradient) <= self.tolerance * state.reference
        scale = jnp.sqrt(space.dot(problem.weigh(here.errors), here.errors))
        collapsed = radius <= jnp.finfo(radius.dtype).eps * (scale + state.reference)
        # Once rounding hides all progress and the gradient stops falling, more steps are noise.
        stalled = rounding & (space.norm(there.gradient) >= 0.5 * space.norm(state.here.gradient))
        return NewtonState(
            previous_energy=jnp.where(take, state.here.energy, state.previous_energy),
            steps=state.steps + ~idle,
            evaluations=state.evaluations + jnp.where(idle, 0, products + 1),
            here=here,
            radius=jnp.where(idle, state.radius, radius),
            reference=state.reference,
            done=idle | settled | collapsed | stalled | ~jnp.isfinite(here.energy),
        )

    def evaluation(self, problem: Problem, state: NewtonState) -> Evaluation:
        return state.here


class _Search(eqx.Module):
    """State of the truncated conjugate gradients of one iteration."""

    solution: Entries
    residual: Entries
    search: Entries
    product: Array
    active: Array
    at_boundary: Array
    products: Array


def _steihaug(
    problem: Problem, state: NewtonState, options: Newton
) -> tuple[Entries, Array, Array, Array]:
    """Approximate minimizer of the model in the trust region.

    Returns the step, the decrease the model predicts, whether it ends at the boundary, and how
    many Hessian-vector products each example needed.
    """
    space = problem.network.space
    gradient = state.here.gradient
    total_gradient = jax.grad(lambda errors: problem.total(errors).sum())
    _, hessian_product = jax.linearize(total_gradient, state.here.errors)

    start_norm = space.norm(gradient)
    relative = start_norm / jnp.where(state.reference > 0, state.reference, 1)
    # Superlinear convergence, but no more accuracy than the tolerance can use.
    target = jnp.maximum(
        jnp.minimum(0.5, jnp.sqrt(relative)), 0.5 * options.tolerance / jnp.maximum(relative, 1e-30)
    )

    def going(inner: tuple[_Search, Array]) -> Any:
        search, count = inner
        return jnp.any(search.active) & (count < options.cg_iterations)

    def advance(inner: tuple[_Search, Array]) -> tuple[_Search, Array]:
        now, count = inner
        bent = hessian_product(now.search)
        curvature = space.dot(now.search, bent)
        negative = curvature <= 0
        length = now.product / jnp.where(negative, 1, curvature)
        trial = space.add(now.solution, length, now.search)
        outside = space.dot(problem.weigh(trial), trial) >= state.radius**2
        leaves = negative | outside | ~jnp.isfinite(curvature)
        length = jnp.where(leaves, _to_boundary(problem, now, state.radius), length)
        length = jnp.where(now.active, length, 0)
        solution = space.add(now.solution, length, now.search)
        residual = space.add(now.residual, length, bent)
        scaled = problem.unweigh(residual)
        product = space.dot(residual, scaled)
        ratio = product / jnp.where(now.product > 0, now.product, 1)
        minus = -jnp.ones_like(ratio)
        search = space.add(space.scale(minus, scaled), ratio, now.search)
        done = leaves | (space.norm(residual) <= target * start_norm)
        return (
            _Search(
                solution=solution,
                residual=residual,
                search=space.where(now.active, search, now.search),
                product=jnp.where(now.active, product, now.product),
                active=now.active & ~done,
                at_boundary=now.at_boundary | (now.active & leaves),
                products=now.products + now.active,
            ),
            count + 1,
        )

    scaled = problem.unweigh(gradient)
    none = jnp.zeros(start_norm.shape, bool)
    begun = _Search(
        solution=zeros_like(gradient),
        residual=gradient,
        search=space.scale(-jnp.ones_like(start_norm), scaled),
        product=space.dot(gradient, scaled),
        active=~state.done,
        at_boundary=none,
        products=jnp.zeros(start_norm.shape, int),
    )
    found, _ = jax.lax.while_loop(going, advance, (begun, jnp.asarray(0)))
    # With r = g + H d the model g^T d + 1/2 d^T H d is 1/2 d^T (g + r).
    decrease = -0.5 * (
        space.dot(found.solution, gradient) + space.dot(found.solution, found.residual)
    )
    return found.solution, decrease, found.at_boundary, found.products


def _to_boundary(problem: Problem, now: _Search, radius: Array) -> Array:
    """The positive `t` with `||solution + t search||_Pi = radius`."""
    space = problem.network.space
    weighed = problem.weigh(now.search)
    a = space.dot(weighed, now.search)
    b = space.dot(weighed, now.solution)
    c = space.dot(problem.weigh(now.solution), now.solution) - radius**2
    root = jnp.sqrt(jnp.maximum(b**2 - a * c, 0))
    # The form without cancellation for either sign of b.
    safe = jnp.where(b > 0, b + root, 1)
    return jnp.where(b > 0, -c / safe, (root - b) / jnp.where(a > 0, a, 1))
