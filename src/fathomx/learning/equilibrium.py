"""Standard predictive coding: relax the activities, then learn from the errors left over."""

from __future__ import annotations

import jax
from jaxtyping import PRNGKeyArray

from fathomx.checks import gate
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
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
        seen = report(problem, start, relaxed, strength, self.certify)
        return per_precision(problem, gradient), seen

    def _learned(
        self, problem: Problem, start: Linearization, key: PRNGKeyArray
    ) -> tuple[Relaxation, Network]:
        """The relaxation, and the gradient in the weights at what stands for its result."""
        key = jax.random.fold_in(key, _CHAIN)
        if self.solver.kept == 1:
            relaxed = infer(problem, self.solver, start=start, key=key, certify=self.certify)
            return relaxed, self._taught(problem, start, relaxed.activities, relaxed.errors)

        def gradient_at(problem: Problem, here: Evaluation) -> Network:
            errors = problem.joined_errors(here.errors, here.explained)
            return self._taught(problem, start, here.activities, errors)

        return average(
            problem, self.solver, gradient_at, start=start, key=key, certify=self.certify
        )

    def _taught(
        self, problem: Problem, start: Linearization, activities: Entries, errors: Entries
    ) -> Network:
        """The gradient in the weights that these errors teach."""
        return weight_gradient(problem, activities, errors)


@gate
class EquilibriumErrors(Equilibrium):
    """Learns from the errors at equilibrium and from its parents' activities before inference.

        theta_l <- theta_l + rate * (d f_l(z_parents(0)) / d theta_l)^T pi_l e_l / lambda

    At equilibrium the energy of an output error `d` is `lambda d^T (I + lambda S)^-1 d / 2`, with
    `S = J J^T` the sensitivity of the output to the nodes: it falls when the error does, and when
    `S` grows. `fx.Equilibrium` follows both ways. The second comes from the displacement of the
    activities that weights see, which this rule leaves out: on a network that is linear in its
    activities its update is backprop's, sent from the output error `(I + lambda S)^-1 d` that
    equilibrium leaves. Deep convolutional networks, which `fx.Equilibrium` makes more and more
    sensitive until they no longer learn, learn by it (`experiments/deeper_pcns`).

    A node needs its parents' feedforward activities, as in `fx.ForwardUpdate`, whose targets are
    the relaxed activities, however far they have moved with their parents; here the errors are
    those of the equilibrium. A free root is at its prior mean before inference, for every example:
    what is predicted from it alone hardly learns, and `fx.Equilibrium` is the rule for it.

    **Fields**: `solver` and `output_precision`, as in `PredictiveCoding`.

    ```python
    rule = fx.EquilibriumErrors(fx.GaussNewton(), output_precision=fx.HoldStrength(0.1))
    ```

    Ours. Errors at equilibrium: Whittington and Bogacz (2017); weights that see feedforward
    activities: the forward update of Qi et al. (2025), arXiv 2506.23800.
    """

    def _taught(
        self, problem: Problem, start: Linearization, activities: Entries, errors: Entries
    ) -> Network:
        return weight_gradient(problem, start.activities, errors, activities)
