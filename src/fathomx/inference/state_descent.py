"""State descent: gradient descent on the activities, the textbook inference of PCNs."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import optax

from fathomx.inference.base import Solver, SolverState, beginning
from fathomx.problem import Evaluation, Linearization, Problem, evaluate, node_energies
from fathomx.vector_space import Entries, VectorSpace


class DescentState(SolverState):
    """Where a first-order solver stands: its coordinates and its optimizer's state."""

    coordinates: Entries
    optimizer: Any


class StateDescent(Solver):
    """Descends the energy in the activities: `z <- z - optimizer(dF/dz)`.

        dF/dz_l = pi_l e_l - sum_{c child of l} (d mu_c / d z_l)^T pi_c e_c

    All nodes move at once, each from its neighbors only. From the feedforward start the output
    error travels one node per step and arrives `d` nodes down scaled by `rate^d`, so deep networks
    need very many steps; `unsettled` tells.

    **Arguments**

    * `optimizer`: any `optax` optimizer; it is applied to every example by itself.
      `optax.sgd(0.4)` unless given.
    * `steps`: inference steps, at least 0; 100 unless given.

    Source: Rao and Ballard (1999); Whittington and Bogacz (2017). The objective is the sum over
    the batch, so an example relaxes alike at any batch size.
    """

    optimizer: optax.GradientTransformation = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def __init__(
        self, optimizer: optax.GradientTransformation | None = None, steps: int = 100
    ) -> None:
        self.optimizer = optax.sgd(0.4) if optimizer is None else optimizer
        self.steps = checked_count("steps", steps)

    @property
    def max_steps(self) -> int:
        return self.steps

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> DescentState:
        coordinates = here.activities
        optimizer = init_per_example(self.optimizer, problem.network.space, coordinates)
        return DescentState(
            **beginning(here, evaluations=0), coordinates=coordinates, optimizer=optimizer
        )

    def step(self, problem: Problem, state: DescentState) -> DescentState:
        def total(activities: Entries) -> Any:
            energies = node_energies(problem, activities).sum(axis=0)
            return energies.sum(), energies

        gradient, energies = jax.grad(total, has_aux=True)(state.coordinates)
        coordinates, optimizer = update_per_example(
            self.optimizer, problem.network.space, gradient, state.optimizer, state.coordinates
        )
        return DescentState(
            energy=energies,
            previous_energy=state.energy,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1,
            coordinates=coordinates,
            optimizer=optimizer,
        )

    def evaluation(self, problem: Problem, state: DescentState) -> Evaluation:
        return evaluate(problem, problem.errors_of(state.coordinates))


def init_per_example(
    optimizer: optax.GradientTransformation, space: VectorSpace, coordinates: Entries
) -> Any:
    """An optimizer's state for every example, stacked along a leading batch axis."""
    return jax.vmap(optimizer.init, in_axes=(space.axes(coordinates),))(coordinates)


def update_per_example(
    optimizer: optax.GradientTransformation,
    space: VectorSpace,
    gradient: Entries,
    state: Any,
    coordinates: Entries,
) -> tuple[Entries, Any]:
    """One step of the optimizer on every example by itself, norms and clipping included."""
    axes = space.axes(coordinates)

    def one(gradient: Entries, state: Any, coordinates: Entries) -> tuple[Entries, Any]:
        updates, state = optimizer.update(gradient, state, coordinates)
        moved: Entries = optax.apply_updates(coordinates, updates)
        return moved, state

    return jax.vmap(one, in_axes=(axes, 0, axes), out_axes=(axes, 0))(gradient, state, coordinates)


def checked_count(what: str, value: int, least: int = 0) -> int:
    """The value if it is an integer of at least `least`, else `ValueError`."""
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(f"{what} must be an integer of at least {least}, not {value!r}.")
    return int(value)


def checked_positive(what: str, value: float) -> float:
    """The value if it is positive and finite, else `ValueError`."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{what} must be a positive, finite number, not {value!r}.")
    return float(value)
