"""What first-order solvers share: any optax optimizer, applied to every example by itself."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fathomx.graph.arrival import NEVER
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.inference.base import Solver, SolverState, checked_count
from fathomx.inference.schedule import Precision, Uniform
from fathomx.problem.problem import Problem


class DescentState(SolverState):
    """Where a first-order solver stands: coordinates, optimizer's state, steps taken by all."""

    coordinates: Entries
    optimizer: Any
    count: Int[Array, ""]


class Descent(Solver):
    """A solver that takes a number of steps of an optimizer.

    **Fields**: `optimizer`, any `optax` optimizer, `steps`, at least 0, and `precision`, a schedule
    of weights over nodes and steps. Norms, clipping and adaptive rates are those of one example, so
    examples never interact.
    """

    optimizer: optax.GradientTransformation = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    precision: Precision

    def __init__(
        self,
        optimizer: optax.GradientTransformation,
        steps: int,
        precision: Precision | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.steps = checked_count("steps", steps)
        self.precision = Uniform() if precision is None else precision
        if not isinstance(self.precision, Precision):
            raise TypeError(
                f"precision must be a schedule such as fx.Uniform() or fx.Spiking(), not "
                f"{precision!r}; the precision of a node is a field of its energy."
            )

    @property
    def max_steps(self) -> int:
        return self.steps

    def check(self, network: Network) -> None:
        """Raises `ValueError` if the steps are too few for the precision schedule."""
        reached = [when for when in self.arrivals(network) if when != NEVER]
        self.precision.check(reached, self.steps)

    def begin(self, problem: Problem, coordinates: Entries) -> dict[str, Any]:
        """The fields of a state before the first step; checks that the schedule fits."""
        self.check(problem.network)
        axes = problem.network.space.axes(coordinates)
        return {
            "coordinates": coordinates,
            # For every example, stacked along a leading batch axis.
            "optimizer": jax.vmap(self.optimizer.init, in_axes=(axes,))(coordinates),
            "count": jnp.zeros((), jnp.int32),
        }

    def weights(self, problem: Problem, step: Int[Array, ""]) -> Float[Array, " nodes"]:
        """The schedule's weight of every node in a step."""
        network = problem.network
        weights = self.precision.weights(jnp.asarray(self.arrivals(network)), step)
        return jnp.broadcast_to(weights, (network.depth,)).astype(network.dtype)

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
