"""State descent: gradient descent on the activities, the textbook inference of PCNs."""

from __future__ import annotations

from typing import Any

import jax
import optax

from fathomx.inference.base import beginning
from fathomx.inference.descent import Descent, DescentState
from fathomx.problem import Evaluation, Linearization, Problem, evaluate, node_energies
from fathomx.vector_space import Entries


class StateDescent(Descent):
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

    def __init__(
        self, optimizer: optax.GradientTransformation | None = None, steps: int = 100
    ) -> None:
        super().__init__(optax.sgd(0.4) if optimizer is None else optimizer, steps)

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> DescentState:
        return DescentState(
            **beginning(here, evaluations=0),
            coordinates=here.activities,
            optimizer=self.init_optimizer(problem, here.activities),
        )

    def step(self, problem: Problem, state: DescentState) -> DescentState:
        def total(activities: Entries) -> Any:
            energies = node_energies(problem, activities).sum(axis=0)
            return energies.sum(), energies

        gradient, energies = jax.grad(total, has_aux=True)(state.coordinates)
        coordinates, optimizer = self.descend(problem, state, gradient)
        return DescentState(
            previous_energy=energies,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1,
            coordinates=coordinates,
            optimizer=optimizer,
        )

    def evaluation(self, problem: Problem, state: DescentState) -> Evaluation:
        return evaluate(problem, problem.errors_of(state.coordinates))
