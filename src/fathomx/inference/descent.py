"""What first-order solvers share: any optax optimizer, applied to every example by itself."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import optax

from fathomx.inference.base import Solver, SolverState, checked_count
from fathomx.problem import Problem
from fathomx.vector_space import Entries


class DescentState(SolverState):
    """Where a first-order solver stands: its coordinates and its optimizer's state."""

    coordinates: Entries
    optimizer: Any


class Descent(Solver):
    """A solver that takes a number of steps of an optimizer.

    **Fields**: `optimizer`, any `optax` optimizer, and `steps`, at least 0. Norms, clipping and
    adaptive rates are those of one example, so examples never interact.
    """

    optimizer: optax.GradientTransformation = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def __init__(self, optimizer: optax.GradientTransformation, steps: int) -> None:
        self.optimizer = optimizer
        self.steps = checked_count("steps", steps)

    @property
    def max_steps(self) -> int:
        return self.steps

    def init_optimizer(self, problem: Problem, coordinates: Entries) -> Any:
        """The optimizer's state for every example, stacked along a leading batch axis."""
        axes = problem.network.space.axes(coordinates)
        return jax.vmap(self.optimizer.init, in_axes=(axes,))(coordinates)

    def descend(
        self, problem: Problem, state: DescentState, gradient: Entries
    ) -> tuple[Entries, Any]:
        """The coordinates and the optimizer's state after one step along the gradient."""
        axes = problem.network.space.axes(gradient)

        def one(gradient: Entries, state: Any, coordinates: Entries) -> tuple[Entries, Any]:
            updates, state = self.optimizer.update(gradient, state, coordinates)
            moved: Entries = optax.apply_updates(coordinates, updates)
            return moved, state

        return jax.vmap(one, in_axes=(axes, 0, axes), out_axes=(axes, 0))(
            gradient, state.optimizer, state.coordinates
        )
