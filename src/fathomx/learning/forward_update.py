"""The forward update: relaxed activities as targets for feedforward predictions."""

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
class ForwardUpdate(PredictiveCoding):
    """Learns to predict each node's relaxed activity from its parents' feedforward activities.

        sum_l (pi_l / 2) ||z_l(T) - f_l(z_parents(0); theta_l)||^2 + lambda E_out(y, f_L(z(0)))

    descended in the weights and divided by the output precision `lambda`. In deep networks the
    predictions from activities that are displaced already drift away from what a feedforward pass
    will compute; this takes the drift out.

    **Fields**: `solver` and `output_precision`, as in `PredictiveCoding`.

    ```python
    rule = fx.ForwardUpdate(fx.StateDescent(optax.sgd(0.5), 12, fx.Spiking()), output_precision=1.0)
    ```

    Source: Qi et al. (2025), arXiv 2506.23800. The schedule of the solver does not weigh the
    update; a node's own precision (1 unless it was built otherwise) does.
    """

    def gradient(self, problem: Problem, key: PRNGKeyArray) -> tuple[Network, StepReport]:
        problem, start, strength = self.prepare(problem, key)
        relaxed = infer(problem, self.solver, start=start, certify=self.certify)
        network = problem.network
        reached = {name: relaxed.activities[name] - start.activities[name] for name in problem.free}
        errors = problem.joined_errors(reached, start.explained)
        if network.feedbacks:
            # The target is the relaxed activity, the prediction that of the feedforward pass.
            forward = problem.complete(start.activities)
            for feedback in network.feedbacks:
                target = network.target(feedback, relaxed.activities)
                moved = target - network.target(feedback, forward)
                errors[feedback.name] = start.explained[feedback.name] + moved
        gradient = weight_gradient(problem, start.activities, errors, relaxed.activities)
        seen = report(problem, start, relaxed, strength, self.certify)
        return per_precision(problem, gradient), seen
