"""Standard predictive coding: relax the activities, then learn from the errors left over."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.inference import GaussNewton, Solver, infer
from fathomx.learning.base import LearningRule, StepReport, feedforward_scores
from fathomx.network import Network
from fathomx.problem import Linearization, Problem, weight_gradient
from fathomx.strength import HoldStrength, mean_sensitivity

DEFAULT_STRENGTH = 0.1


class Equilibrium(LearningRule):
    """Updates the weights by `-dF/dtheta / lambda` at the relaxed activities.

    Node `l` uses only its own error and its parents' activities. The gradient is divided by the
    output precision, so that learning rates keep their meaning whatever the precision; as lambda
    tends to 0 it becomes backprop's gradient.

    **Fields**

    * `solver`: any `Solver`; `GaussNewton()` unless given.
    * `output_precision`: a `HoldStrength`, which chooses the precision of every batch, or a fixed
      positive number; `HoldStrength(0.1)` unless given. The output node's own precision is the one
      that `Problem` uses outside of training.

    ```python
    rule = fx.Equilibrium(fx.GaussNewton(), output_precision=fx.HoldStrength(0.3))
    ```

    Source: Whittington and Bogacz (2017); holding the strength is ours.
    """

    solver: Solver
    output_precision: HoldStrength | float = eqx.field(static=True)

    def __init__(
        self,
        solver: Solver | None = None,
        output_precision: HoldStrength | float | None = None,
    ) -> None:
        if solver is not None and not isinstance(solver, Solver):
            raise TypeError(f"solver must be a Solver such as fx.GaussNewton(), not {solver!r}.")
        self.solver = GaussNewton() if solver is None else solver
        if output_precision is None:
            output_precision = HoldStrength(DEFAULT_STRENGTH)
        if not isinstance(output_precision, HoldStrength) and not (
            math.isfinite(output_precision) and output_precision > 0
        ):
            raise ValueError(
                f"output_precision must be a positive, finite number or fx.HoldStrength, not "
                f"{output_precision!r}."
            )
        self.output_precision = output_precision

    def choose(
        self, problem: Problem, key: PRNGKeyArray, start: Linearization | None = None
    ) -> tuple[Problem, Array]:
        """The problem at this rule's output precision for the batch, and its strength."""
        sensitivity = mean_sensitivity(problem, key, start)
        if isinstance(self.output_precision, HoldStrength):
            precision = self.output_precision.output_precision(sensitivity)
        else:
            precision = jnp.asarray(self.output_precision, sensitivity.dtype)
        return problem.with_output_precision(precision), sensitivity * precision

    def gradient(self, problem: Problem, key: PRNGKeyArray) -> tuple[Network, StepReport]:
        start = Linearization(problem, problem.network.zeros(problem.batch))
        problem, strength = self.choose(problem, key, start)
        precision = problem.output_precision
        relaxed = infer(problem, self.solver, start=start)
        gradient = weight_gradient(problem, relaxed.activities, relaxed.errors)
        scaled: Network = jax.tree.map(lambda g: g / precision.astype(g.dtype), gradient)
        loss, accuracy = feedforward_scores(problem, start.prediction)
        return scaled, StepReport(
            loss=loss,
            accuracy=accuracy,
            unsettled_median=jnp.median(relaxed.unsettled),
            unsettled_max=jnp.max(relaxed.unsettled),
            strength=strength,
            output_precision=precision,
            energy=relaxed.energy,
        )
