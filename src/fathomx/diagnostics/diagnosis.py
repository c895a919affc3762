"""A solver followed through inference on one batch."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fathomx.checks import gate
from fathomx.diagnostics.alignment import Alignment
from fathomx.diagnostics.beside_backprop import BesideBackprop, beside_backprop
from fathomx.diagnostics.energy_balance import EnergyBalance, energy_balance
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.inference import GaussNewton, Solver, infer, trace
from fathomx.inference.relaxation import Relaxation
from fathomx.learning.predictive_coding import per_precision
from fathomx.problem.energies import weight_gradient
from fathomx.problem.problem import Problem

# Leaves the median example a few percent of the gradient at an output precision of 1, and 1e-4 or
# less at a strength of 0.1.
_REFERENCE = GaussNewton(iterations=8, cg_iterations=10)


@gate
class Diagnosis(eqx.Module):
    """What `diagnose` found on one batch.

    **Fields**

    * `energy`: `(steps + 1, nodes)`, mean over the batch, before the first and after every step.
    * `relaxed`: the `Relaxation` that the solver reached, and `equilibrium`, that of the reference.
    * `error`: `(nodes,)`, root mean square of the errors of `relaxed`, over batch and units.
    * `activity`: root mean square of the hidden activities, one number.
    * `update`: the weight update of `Equilibrium` at `relaxed` beside backprop's; NaN where a free
      root or a feedback leaves no backprop to compare with.
    * `balance`: of the energies of `relaxed`, and `equilibrium_balance`, of the reference.

    **Attributes**: `alignment`, that of `update`.
    """

    energy: Float[Array, "steps nodes"]
    relaxed: Relaxation
    equilibrium: Relaxation
    error: Float[Array, " nodes"]
    activity: Float[Array, ""]
    update: BesideBackprop
    balance: EnergyBalance
    equilibrium_balance: EnergyBalance

    @property
    def alignment(self) -> Alignment:
        return self.update.alignment


@gate
def diagnose(problem: Problem, solver: Solver, reference: Solver = _REFERENCE) -> Diagnosis:
    """Follows the energy through inference, and compares where it ends with near equilibrium.

    Batch normalization takes the statistics of this batch. `reference` relaxes the same problem as
    far as it can, by default with eight iterations of `GaussNewton`; `equilibrium.unsettled` says
    how far it came.

    ```python
    found = fx.diagnose(problem, fx.StateDescent())
    found.balance.imbalance, found.equilibrium_balance.imbalance
    ```
    """
    problem = eqx.filter_jit(Problem.with_batch_statistics)(problem)
    # Each compiled by itself: in one program, rounding would differ from `trace` called directly.
    relaxed, energies = trace(problem, solver)
    equilibrium = infer(problem, reference)
    found: Diagnosis = _summary(problem, relaxed, energies, equilibrium)
    return found


@eqx.filter_jit
def _summary(
    problem: Problem, relaxed: Relaxation, energies: Array, equilibrium: Relaxation
) -> Diagnosis:
    network = problem.network
    hidden = [relaxed.activities[name] for name in problem.free]
    squares = jnp.stack([jnp.sum(activity**2) for activity in hidden]).sum()
    activity = jnp.sqrt(squares / sum(activity.size for activity in hidden))
    gradient = per_precision(problem, weight_gradient(problem, relaxed.activities, relaxed.errors))
    return Diagnosis(
        energy=energies.mean(axis=-1),
        relaxed=relaxed,
        equilibrium=equilibrium,
        error=_root_mean_squares(network, relaxed.errors),
        activity=activity,
        update=beside_backprop(problem, gradient, jax.random.key(0)),
        balance=energy_balance(problem, relaxed.energy, activity),
        equilibrium_balance=energy_balance(problem, equilibrium.energy, activity),
    )


def _root_mean_squares(network: Network, entries: Entries) -> Float[Array, " nodes"]:
    rows = []
    for part in network.predictors():
        squares = part.rows(entries[part.name] ** 2) if part.name in entries else None
        rest = () if squares is None else tuple(range(1, squares.ndim))
        rows.append(jnp.zeros(part.depth) if squares is None else squares.mean(axis=rest))
    return jnp.sqrt(jnp.concatenate(rows))
