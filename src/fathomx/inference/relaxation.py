"""`Relaxation`: what came out of inference."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fathomx.checks import NotNegative, example, gate
from fathomx.graph.smoothness import has_kinks
from fathomx.graph.vector_space import Entries
from fathomx.problem.energies import evaluated_energies
from fathomx.problem.evaluation import Evaluation
from fathomx.problem.problem import Problem


@example("fx.infer(problem, solver)")
@gate
class Relaxation(eqx.Module):
    """What inference returns.

    **Fields**

    * `activities`: of all entries by name, `(batch, ...)` for a node, `(depth, batch, ...)` for a
      stack: inferred where they are free, the clamped values where they are not, both in an entry
      that is clamped in part. A free leaf of another energy holds what its prediction stands
      for: probabilities if it is `Categorical` or `Bernoulli`, rates if it is `Poisson`.
    * `errors`: alike; `z_v - mu_v` where free, minus the derivative of the energy at precision 1
      in the prediction where observed (`y - mu` if it is Gaussian); of feedbacks, the discrepancy.
    * `energy`: `(nodes,)`, in the order of `network.labels`, mean over the batch.
    * `unsettled`: `(batch,)`, the certificate: `||dF/de|| / ||dF/de at e = 0||` in error
      coordinates. 1 is the feedforward state, 0 is equilibrium, NaN was not asked for.
    * `decrease`: `(batch,)`, the energy that the last step which moved the example gained, relative
      to what all steps gained; 1 where no step was taken or the energy rose.
    * `steps`: `(batch,)`, inference steps taken.
    * `evaluations`: `(batch,)`, gradients and Hessian-vector products computed.
    * `kinks`: whether the derivative of the network, or of the energy of what is observed, jumps.
      Then `unsettled` does not need to vanish at a minimum, and `decrease` is the number to look
      at.
    """

    activities: Entries
    errors: Entries
    energy: Float[Array, " nodes"]
    unsettled: Float[Array, " batch"]
    decrease: Float[Array, " batch"]
    steps: Int[Array, " batch"]
    evaluations: Int[Array, " batch"]
    kinks: bool = eqx.field(static=True)

    def settled(self, tolerance: NotNegative = 1e-3) -> Bool[Array, " batch"]:
        """Which examples are at equilibrium to within `tolerance`.

        By the relative gradient norm where the network is smooth; where it has kinks, also by the
        relative energy decrease of the last step.
        """
        settled = self.unsettled <= tolerance
        return settled | (self.decrease <= tolerance) if self.kinks else settled

    def describe(self) -> str:
        """The certificate in words."""
        text = (
            f"energy {float(self.energy.sum()):.6g}; relative gradient norm: median "
            f"{float(jnp.median(self.unsettled)):.2g}, largest {float(self.unsettled.max()):.2g}"
        )
        if self.kinks:
            text += (
                "; there are kinks (ReLU, Laplace or alike), at which minima keep a gradient: "
                "judge by the energy decrease of the last step, largest "
                f"{float(self.decrease.max()):.2g}"
            )
        return text


class Progress(eqx.Module):
    """What a solver reports besides the point it ended at."""

    decrease: Array
    steps: Array
    evaluations: Array


def certificate(problem: Problem, here: Evaluation, start: Evaluation) -> Float[Array, " batch"]:
    """`||dF/de|| / ||dF/de at e = 0||` for every example; `start` is the feedforward pass."""
    space = problem.network.space
    norm, reference = space.norm(here.gradient), space.norm(start.gradient)
    # Without a gradient to begin with, what is left is rounding or it is a departure.
    rounding = jnp.finfo(norm.dtype).eps * space.norm(here.activities)
    departed = jnp.where(norm <= rounding, 0, jnp.inf).astype(norm.dtype)
    # What is not a number, such as the energy of a label that is none, stays so.
    begun = (reference > 0) | jnp.isnan(reference)
    return jnp.where(begun, norm / jnp.where(begun, reference, 1), departed)


def relaxation(
    problem: Problem, here: Evaluation, unsettled: Array, progress: Progress
) -> Relaxation:
    """Builds the `Relaxation` at a point, of which no gradient is needed."""
    return Relaxation(
        activities=problem.complete(here.activities),
        errors=problem.joined_errors(here.errors, here.explained),
        energy=problem.mean(evaluated_energies(problem, here)),
        unsettled=unsettled,
        decrease=progress.decrease,
        steps=progress.steps,
        evaluations=progress.evaluations,
        kinks=has_kinks(problem.network, problem.observed),
    )
