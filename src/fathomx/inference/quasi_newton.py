"""Quasi-Newton in error coordinates: equilibrium from gradients alone, without a rate."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fathomx.checks import Count, Positive, gate
from fathomx.graph.vector_space import Entries, VectorSpace, zeros_like
from fathomx.inference.base import Solver, SolverState, beginning
from fathomx.problem.evaluation import Evaluation, Linearization, evaluate, select
from fathomx.problem.problem import Problem

# A step is taken if the energy falls by this part of what its slope promises.
_ACCEPT = 1e-4
# Of a step that is not taken the next one is between these parts.
_SHORTEST, _LONGEST = 0.1, 0.5
# Once rounding hides what steps gain, shorter ones than this are noise.
_NOISE = 1e-2
# Where the slope along a step changes by less than this part of it, it says nothing of curvature.
_CURVED = 1e-2


class Changes(eqx.Module):
    """The last steps and what they changed, in slots that are used in turn.

    **Fields**: `steps` and `gradients`, with the slots as first axis; `products`, `(slots, batch)`,
    of the two: 0 where a slot holds nothing; `scale`, `(batch,)`, the length of a step per
    gradient.
    """

    steps: Entries
    gradients: Entries
    products: Float[Array, "slots batch"]
    scale: Float[Array, " batch"]

    @classmethod
    def none(cls, like: Entries, slots: int, scale: Array) -> Changes:
        """Slots that hold nothing."""
        empty = {
            name: jnp.zeros((slots, *array.shape), array.dtype) for name, array in like.items()
        }
        return cls(empty, empty, jnp.zeros((slots, *scale.shape), scale.dtype), scale)

    def with_step(
        self, problem: Problem, slot: Array, step: Entries, change: Entries, product: Array
    ) -> Changes:
        """With one more in place of the oldest; of an example whose product is 0, with nothing."""
        space, keeps = problem.network.space, product > 0
        bent = space.dot(change, problem.unweigh(change))
        return Changes(
            steps=_put(self.steps, slot, space.where(keeps, step, zeros_like(step))),
            gradients=_put(self.gradients, slot, space.where(keeps, change, zeros_like(change))),
            products=self.products.at[slot].set(product),
            scale=jnp.where(keeps, product / jnp.where(keeps, bent, 1), self.scale),
        )

    def downhill(self, problem: Problem, newest: Array, gradient: Entries) -> Entries:
        """Minus the gradient times the inverse Hessian that the changes suggest."""
        space, slots = problem.network.space, len(self.products)
        ones = jnp.ones_like(self.scale)
        shares: list[tuple[Array, Array, Array]] = []
        direction = space.scale(-ones, gradient)
        for age in range(slots):
            slot = (newest - age) % slots
            product = self.products[slot]
            inverse = jnp.where(product > 0, 1 / jnp.where(product > 0, product, 1), 0)
            share = inverse * space.dot(_get(self.steps, slot), direction)
            direction = space.add(direction, -share, _get(self.gradients, slot))
            shares.append((slot, inverse, share))
        direction = space.scale(self.scale, problem.unweigh(direction))
        for slot, inverse, share in reversed(shares):
            back = inverse * space.dot(_get(self.gradients, slot), direction)
            direction = space.add(direction, share - back, _get(self.steps, slot))
        return direction


class QuasiNewtonState(SolverState):
    """Where quasi-Newton stands, where it goes from there, and the changes that it has seen."""

    here: Evaluation
    direction: Entries
    length: Float[Array, " batch"]
    changes: Changes
    slot: Array
    reference: Float[Array, " batch"]
    done: Bool[Array, " batch"]


@gate
class QuasiNewton(Solver[QuasiNewtonState]):
    """Limited-memory BFGS on the errors, on every example by itself.

    Each step evaluates the energy and its gradient once, at `e + length * d` with

        d = -H dF/de,      H from the last few steps s and the changes y of the gradient over them:
        H <- (I - s y^T / s^T y) H (I - y s^T / s^T y) + s s^T / s^T y

    from `H = (s^T y / y^T Pi^-1 y) Pi^-1` on, and takes it if the energy falls enough. If not, the
    next try is shorter, by the parabola through what is known. The first step has the length of
    steepest descent on the linearized network, so that no rate is to be chosen, whatever the
    precisions are. Ends when `||dF/de|| <= tolerance * ||dF/de at e = 0||`.

    Nothing waits for the slowest example within a step, as conjugate gradients do, and no product
    with a Hessian is taken: a step costs one forward and one reverse pass, and reads a few times
    what it remembers.

    **Arguments**

    * `tolerance`: relative gradient norm, positive; 1e-6 unless given. Below 1e-4 use float64.
    * `max_iterations`: evaluations, at least 1; 200 unless given.
    * `memory`: steps that are remembered, at least 1; 2 unless given. Each is as large as two sets
      of activities.

    On networks with kinks (ReLU) it ends where no shorter step lowers the energy; `fx.Newton`
    rounds them off and comes lower.

    ```python
    relaxed = fx.infer(problem, fx.QuasiNewton(tolerance=1e-4))
    ```

    Source: Nocedal (1980); Nocedal and Wright (2006), algorithms 7.4 and 7.5. Ours is the use in
    error coordinates, where the Hessian is the identity plus low rank plus what second derivatives
    add; instead of a search for Wolfe's conditions, a change of the gradient that would make `H`
    indefinite is forgotten.
    """

    tolerance: float = eqx.field(static=True)
    max_iterations: int = eqx.field(static=True)
    memory: int = eqx.field(static=True)

    def __init__(
        self, tolerance: Positive = 1e-6, max_iterations: Count = 200, memory: Count = 2
    ) -> None:
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.memory = memory

    @property
    def max_steps(self) -> int:
        return self.max_iterations

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> QuasiNewtonState:
        space = problem.network.space
        origin = here if start.origin is None else start.origin
        downhill = problem.unweigh(here.gradient)
        slope = space.dot(here.gradient, downhill)
        pushed = start.push(downhill)
        bent = space.dot(pushed, problem.explained_curvature(here.explained, pushed))
        # Of the quadratic model `-t slope + t^2 / 2 (slope + bent)`, along minus `downhill`.
        scale = jnp.where(slope > 0, slope / jnp.where(slope > 0, slope + bent, 1), 1)
        return QuasiNewtonState(
            **beginning(here, 2),
            here=here,
            direction=space.scale(-scale, downhill),
            length=jnp.ones_like(scale),
            changes=Changes.none(here.gradient, self.memory, scale),
            slot=jnp.zeros((), int),
            reference=space.norm(origin.gradient),
            done=(slope == 0) | ~jnp.isfinite(here.energy),
        )

    def finished(self, problem: Problem, state: QuasiNewtonState) -> Bool[Array, " batch"]:
        return state.done

    def step(self, problem: Problem, state: QuasiNewtonState) -> QuasiNewtonState:
        space, here, idle = problem.network.space, state.here, state.done
        move = space.scale(state.length, state.direction)
        ones = jnp.ones_like(state.length)
        there = evaluate(problem, space.add(here.errors, ones, move))
        tried = _Tried.of(space, here, there, move)
        take = tried.falls & ~idle

        change = space.add(there.gradient, -ones, here.gradient)
        product = jnp.where(take & tried.curved, tried.end - tried.slope, 0)
        changes = state.changes.with_step(problem, state.slot, move, change, product)
        here = select(problem, take, there, here)
        onward = changes.downhill(problem, state.slot, here.gradient)
        # Rounding may spoil what follows from the changes: then plain descent.
        plain = space.scale(-changes.scale, problem.unweigh(here.gradient))
        onward = space.where(tried.slope < 0, onward, plain)
        settled = space.norm(here.gradient) <= self.tolerance * state.reference
        length = jnp.where(take | (tried.slope >= 0), 1, state.length * tried.shorter)
        vanishes = length <= jnp.where(tried.rounding, _NOISE, jnp.finfo(length.dtype).eps)
        return QuasiNewtonState(
            previous_energy=jnp.where(take, state.here.energy, state.previous_energy),
            steps=state.steps + ~idle,
            evaluations=state.evaluations + ~idle,
            here=here,
            direction=space.where(take | (tried.slope >= 0), onward, state.direction),
            length=jnp.where(idle, state.length, length),
            changes=changes,
            slot=(state.slot + 1) % self.memory,
            reference=state.reference,
            done=idle | settled | vanishes | ~jnp.isfinite(here.energy),
        )

    def evaluation(self, problem: Problem, state: QuasiNewtonState) -> Evaluation:
        return state.here


class _Tried(eqx.Module):
    """What became of a step.

    **Fields**, one per example: the `slope` of the energy along the step where it begins and at its
    `end`; `falls`, whether it is to be taken; `rounding`, whether energies cannot tell; `shorter`,
    what part of it to try next.
    """

    slope: Array
    end: Array
    falls: Array
    rounding: Array
    shorter: Array

    @classmethod
    def of(cls, space: VectorSpace, here: Evaluation, there: Evaluation, move: Entries) -> _Tried:
        slope, end = space.dot(here.gradient, move), space.dot(there.gradient, move)
        risen = there.energy - here.energy
        noise = 10 * jnp.finfo(risen.dtype).eps * jnp.abs(here.energy)
        # Near equilibrium the energy drowns in rounding; the slope along the step does not.
        rounding = (jnp.abs(risen) <= noise) & (jnp.abs(slope) <= noise)
        falls = jnp.where(rounding, jnp.abs(end) < jnp.abs(slope), risen <= _ACCEPT * slope)
        best = jnp.where(rounding, slope / (slope - end), -slope / (2 * (risen - slope)))
        shorter = jnp.where(jnp.isfinite(best), jnp.clip(best, _SHORTEST, _LONGEST), _SHORTEST)
        falls &= (slope < 0) & jnp.isfinite(there.energy)
        return cls(slope, end, falls, rounding, shorter)

    @property
    def curved(self) -> Array:
        """Whether the slope has become less steep by enough to tell the curvature."""
        return self.end - self.slope >= -_CURVED * self.slope


def _put(slots: Entries, slot: Array, entries: Entries) -> Entries:
    return {name: array.at[slot].set(entries[name]) for name, array in slots.items()}


def _get(slots: Entries, slot: Array) -> Entries:
    return {name: array[slot] for name, array in slots.items()}
