"""State descent: gradient descent on the activities, the textbook inference of PCNs."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import optax

from fathomx.checks import CountOrZero, Optimizer, Positive, gate
from fathomx.graph.arrival import arrivals, entry_weights
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.inference.base import beginning
from fathomx.inference.descent import Descent, DescentState
from fathomx.inference.schedule import Schedule
from fathomx.problem.evaluation import Evaluation, Linearization, evaluate_at
from fathomx.problem.local_energy import activity_gradient, constant_predictions
from fathomx.problem.problem import Problem


class StateDescentState(DescentState):
    """A descent state, with the predictions that inference cannot change."""

    constant: Entries


@gate
class StateDescent(Descent[StateDescentState]):
    """Descends the energy in the activities: `z <- z - optimizer(dF/dz)`.

        dF/dz_l = pi_l e_l - sum_{c child of l} (d mu_c / d z_l)^T pi_c e_c

    All nodes move at once, each from its neighbors only. From the feedforward start the output
    error travels one node per step and arrives `d` nodes down scaled by `rate^d`, so deep networks
    need very many steps; `unsettled` tells. `fx.Spiking` and `fx.Decaying` let nodes move when
    the error arrives, and hardly afterwards. Nodes that the error has not reached
    (`fx.arrivals`) are not computed and do not move, whatever the optimizer.

    **Arguments**

    * `optimizer`: any `optax` optimizer, applied to every example by itself, or a number: the rate
      of plain gradient descent.
      `optax.sgd(0.4)` unless given.
    * `steps`: inference steps, at least 0; 100 unless given.
    * `schedule`: weights `w_l(t)` that multiply `pi_l` in step `t`; `fx.Uniform()` unless given.

    Raises `ValueError` at inference if the steps are too few for the schedule.

    Source: Rao and Ballard (1999); Whittington and Bogacz (2017); the schedules Qi et al. (2025),
    arXiv 2506.23800. The objective is the sum over the batch, so an example relaxes alike at any
    batch size.
    """

    def __init__(
        self,
        optimizer: Optimizer | Positive | None = None,
        steps: CountOrZero = 100,
        schedule: Schedule | None = None,
        precision: Schedule | None = None,
    ) -> None:
        optimizer = optax.sgd(0.4) if optimizer is None else optimizer
        super().__init__(optimizer, steps, schedule, precision)

    def arrivals(self, problem: Problem) -> tuple[int, ...]:
        return problem.arrivals

    def usual_arrivals(self, network: Network) -> tuple[int, ...]:
        return arrivals(network)

    @property
    def reads_gradient(self) -> bool:
        return False

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> StateDescentState:
        return StateDescentState(
            **beginning(here, evaluations=0),
            **self.begin(problem, here.activities, start),
            constant=constant_predictions(problem),
        )

    def step(self, problem: Problem, state: StateDescentState) -> StateDescentState:
        weights = self.weights(problem, state)
        gradient, energy = activity_gradient(
            problem, state.coordinates, state.constant, weights, state.count, state.everywhere
        )
        coordinates, optimizer = self.descend(problem, state, gradient)
        if not state.everywhere:
            first = jnp.asarray(problem.first_moves)
            reached = entry_weights(problem.network, first <= state.count)
            coordinates = {
                name: jnp.where(reached[name], coordinates[name], old)
                for name, old in state.coordinates.items()
            }
        return StateDescentState(
            previous_energy=energy,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1,
            coordinates=coordinates,
            optimizer=optimizer,
            count=state.count + 1,
            everywhere=state.everywhere,
            constant=state.constant,
        )

    def evaluation(self, problem: Problem, state: StateDescentState) -> Evaluation:
        return evaluate_at(problem, state.coordinates)

    def activities(self, problem: Problem, state: StateDescentState) -> Entries:
        return state.coordinates

    def resumed(
        self, problem: Problem, state: StateDescentState, activities: Entries
    ) -> StateDescentState:
        return dataclasses.replace(
            state, coordinates=activities, constant=constant_predictions(problem)
        )
