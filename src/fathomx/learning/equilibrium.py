"""Standard predictive coding: relax the activities, then learn from the errors left over."""

from __future__ import annotations

import jax
from jaxtyping import PRNGKeyArray

from fathomx.checks import gate
from fathomx.graph.network import Network
from fathomx.inference import average, infer
from fathomx.inference.relaxation import Relaxation
from fathomx.learning.base import StepReport
from fathomx.learning.predictive_coding import PredictiveCoding, per_precision, report
from fathomx.problem.energies import weight_gradient
from fathomx.problem.evaluation import Evaluation, Linearization
from fathomx.problem.problem import Problem

# Keeps the random numbers of inference apart from those of the strength.
_CHAIN = 2


@gate
class Equilibrium(PredictiveCoding):
    """Updates the weights by `-dF/dtheta / lambda` at the relaxed activities.

    With a solver that samples (`fx.Langevin`) it is the mean over the samples after the burn-in:
    then what ascends is the likelihood of what is observed.

    Node `l` uses only its own error and its parents' activities. The gradient is divided by the
    output precision, so that learning rates keep their meaning whatever the precision; as lambda
    tends to 0 it becomes backprop's gradient (but for batch normalization, whose statistics are
    frozen here and live in backprop).

    **Fields**: `solver` and `output_precision`, as in `PredictiveCoding`.

    ```python
    rule = fx.Equilibrium(fx.GaussNewton(), output_precision=fx.HoldStrength(0.3))
    ```

    Source: Whittington and Bogacz (2017); from samples, Oliviers et al. (2024), doi
    10.1371/journal.pcbi.1012532; holding the strength is ours.
    """

    def gradient(self, problem: Problem, key: PRNGKeyArray) -> tuple[Network, StepReport]:
        problem, start, strength = self.prepare(problem, key)
        relaxed, gradient = self._learned(problem, start, key)
        return per_precision(problem, gradient), report(problem, start, relaxed, strength)

    def _learned(
        self, problem: Problem, start: Linearization, key: PRNGKeyArray
    ) -> tuple[Relaxation, Network]:
        """The relaxation, and the gradient in the weights at what stands for its result."""
        key = jax.random.fold_in(key, _CHAIN)
        if self.solver.kept == 1:
            relaxed = infer(problem, self.solver, start=start, key=key, certify=self.certify)
            return relaxed, weight_gradient(problem, relaxed.activities, relaxed.errors)
        return average(
            problem, self.solver, _gradient_at, start=start, key=key, certify=self.certify
        )


def _gradient_at(problem: Problem, here: Evaluation) -> Network:
    errors = problem.joined_errors(here.errors, here.explained)
    return weight_gradient(problem, here.activities, errors)
