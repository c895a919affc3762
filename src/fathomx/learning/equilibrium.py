"""Standard predictive coding: relax the activities, then learn from the errors left over."""

from __future__ import annotations

from jaxtyping import PRNGKeyArray

from fathomx.checks import gate
from fathomx.graph.network import Network
from fathomx.inference import infer
from fathomx.learning.base import StepReport
from fathomx.learning.predictive_coding import PredictiveCoding, per_precision, report
from fathomx.problem.energies import weight_gradient
from fathomx.problem.problem import Problem


@gate
class Equilibrium(PredictiveCoding):
    """Updates the weights by `-dF/dtheta / lambda` at the relaxed activities.

    Node `l` uses only its own error and its parents' activities. The gradient is divided by the
    output precision, so that learning rates keep their meaning whatever the precision; as lambda
    tends to 0 it becomes backprop's gradient (but for batch normalization, whose statistics are
    frozen here and live in backprop).

    **Fields**: `solver` and `output_precision`, as in `PredictiveCoding`.

    ```python
    rule = fx.Equilibrium(fx.GaussNewton(), output_precision=fx.HoldStrength(0.3))
    ```

    Source: Whittington and Bogacz (2017); holding the strength is ours.
    """

    def gradient(self, problem: Problem, key: PRNGKeyArray) -> tuple[Network, StepReport]:
        problem, start, strength = self.prepare(problem, key)
        relaxed = infer(problem, self.solver, start=start)
        gradient = weight_gradient(problem, relaxed.activities, relaxed.errors)
        return per_precision(problem, gradient), report(problem, start, relaxed, strength)
