"""What first-order solvers share: any optax optimizer, applied to every example by itself."""

from __future__ import annotations

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fathomx.checks import CountOrZero, Optimizer, Positive, gate, warn
from fathomx.graph.arrival import NEVER
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.inference.base import Solver, SolverState
from fathomx.inference.schedule import Schedule, Uniform
from fathomx.problem.evaluation import Linearization
from fathomx.problem.problem import Problem


class DescentState(SolverState):
    """Where a first-order solver stands: coordinates, optimizer's state, steps taken by all."""

    coordinates: Entries
    optimizer: Any
    count: Int[Array, ""]
    # Whether inference started away from the feedforward pass, so that all nodes have errors.
    everywhere: bool = eqx.field(static=True)


State = TypeVar("State", bound=DescentState)


@gate
class Descent(Solver[State]):
    """A solver that takes a number of steps of an optimizer.

    **Fields**: `optimizer`, any `optax` optimizer, or a number, the rate of plain gradient descent;
    `steps`, at least 0, and `schedule`, weights of
    nodes and steps. Norms, clipping and adaptive rates are those of one example, so examples never
    interact. `precision` is the former name of `schedule`.
    """

    optimizer: optax.GradientTransformation = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    schedule: Schedule

    def __init__(
        self,
        optimizer: Optimizer | Positive,
        steps: CountOrZero,
        schedule: Schedule | None = None,
        precision: Schedule | None = None,
    ) -> None:
        if precision is not None:
            warn(
                "precision= is now schedule=: what weighs errors over the steps of inference.",
                DeprecationWarning,
            )
            schedule = precision
        self.optimizer = optax.sgd(optimizer) if isinstance(optimizer, int | float) else optimizer
        self.steps = steps
        self.schedule = Uniform() if schedule is None else schedule

    @property
    def max_steps(self) -> int:
        return self.steps

    def check(self, problem: Problem) -> None:
        """Raises `ValueError` if the steps are too few for the schedule."""
        self.check_arrivals(self.arrivals(problem))

    def check_arrivals(self, arrivals: tuple[int, ...]) -> None:
        """`check`, for nodes that errors reach in these steps."""
        self.schedule.check([when for when in arrivals if when != NEVER], self.steps)

    def usual_arrivals(self, network: Network) -> tuple[int, ...]:
        """The steps in which errors reach nodes with inputs and output clamped."""
        return (0,) * len(network.labels)

    def begin(self, problem: Problem, coordinates: Entries, start: Linearization) -> dict[str, Any]:
        """The fields of a state before the first step; checks that the schedule fits."""
        self.check(problem)
        axes = problem.network.space.axes(coordinates)
        return {
            "coordinates": coordinates,
            # For every example, stacked along a leading batch axis.
            "optimizer": jax.vmap(self.optimizer.init, in_axes=(axes,))(coordinates),
            "count": jnp.zeros((), jnp.int32),
            "everywhere": start.origin is not None,
        }

    def weights(self, problem: Problem, state: State) -> Float[Array, " nodes"]:
        """The schedule's weight of every node in the next step."""
        network = problem.network
        arrivals = jnp.asarray(self.arrivals(problem))
        arrivals = jnp.zeros_like(arrivals) if state.everywhere else arrivals
        weights = self.schedule.weights(arrivals, state.count)
        return jnp.broadcast_to(weights, (len(network.labels),)).astype(network.dtype)

    def descend(self, problem: Problem, state: State, gradient: Entries) -> tuple[Entries, Any]:
        """The coordinates and the optimizer's state after one step along the gradient."""
        axes = problem.network.space.axes(gradient)

        def one(gradient: Entries, state: Any, coordinates: Entries) -> tuple[Entries, Any]:
            updates, state = self.optimizer.update(gradient, state, coordinates)
            moved: Entries = optax.apply_updates(coordinates, updates)
            return moved, state

        return jax.vmap(one, in_axes=(axes, 0, axes), out_axes=(axes, 0))(
            gradient, state.optimizer, state.coordinates
        )
