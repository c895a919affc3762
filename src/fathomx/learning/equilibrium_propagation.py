"""Equilibrium propagation: learn from the difference of two nudged equilibria."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import gate
from fathomx.graph.network import Network
from fathomx.inference import GaussNewton, Solver, infer
from fathomx.learning.base import StepReport
from fathomx.learning.predictive_coding import DEFAULT_STRENGTH, PredictiveCoding, report
from fathomx.problem.energies import weight_gradient
from fathomx.problem.problem import Problem
from fathomx.problem.strength import HoldStrength, largest_sensitivity

# The strength that two nudges hold unless another is given.
_SMALL = 0.01


@gate
class EquilibriumPropagation(PredictiveCoding):
    """Learns from equilibria whose output is nudged towards the target and away from it.

        F_beta = sum_l (pi_l / 2) ||e_l||^2 + beta C(mu_L, y)
        centered:   (dF_beta/dtheta at z*_beta - dF_-beta/dtheta at z*_-beta) / (2 beta)
        one-sided:  dF_beta/dtheta at z*_beta / beta

    The second equilibrium of the one-sided form is the feedforward pass, where all derivatives
    vanish, so that it equals `Equilibrium` at the output precision `beta`. As `beta` tends to 0
    both become backprop's gradient, the one-sided form with an error in proportion to `beta`, the
    centered one with `beta^2`. On a network that is linear in its activities they are the gradients
    of

        centered:   d^T (I - beta^2 S^2)^-1 d / 2
        one-sided:  d^T (I + beta S)^-1 d / 2

    with `d` the error of the output and `S = J Pi^-1 J^T` its sensitivity to the nodes. So there is
    a way to lower the loss without lowering the error: the one-sided form is rewarded for a network
    that is more sensitive, the centered one for one that is less. That is little in a step, but
    adds up over a training: at a strength of 0.1 a VGG of 10 nodes became 300 times less sensitive
    in ten epochs than one trained by backprop (`experiments/deeper_pcns`). With the square of the
    nudge it vanishes, and so the centered form holds a small strength unless told otherwise.

    Of precisions that learn (`fx.Gaussian(precision=array)`) the derivative at the feedforward pass
    is that of their logarithm, which the one-sided form divides by `beta` and the centered one
    subtracts: learn precisions with `Equilibrium`.

    With a squared error the energy of the negative nudge is bounded below only while
    `beta lambda_max(J Pi^-1 J^T) < 1`; `stability` measures it, and `fx.fit` reports it after every
    epoch as `nudge_stability`. (Cross-entropy and absolute error grow only linearly and are
    always bounded; that of `fx.Poisson` grows exponentially and its negative nudge never is: use
    the one-sided form.) With batch normalization the statistics are frozen, while backprop
    differentiates through them, so there a difference to backprop remains.

    **Fields**

    * `solver`: any `Solver`; `GaussNewton()` unless given.
    * `beta`: a positive number, or a `HoldStrength` that chooses it for every batch;
      `HoldStrength(0.01)` unless given, `HoldStrength(0.1)` in the one-sided form.
    * `centered`: two nudged relaxations, or a single one.

    ```python
    rule = fx.EquilibriumPropagation(fx.GaussNewton(), beta=0.01)
    ```

    Source: Scellier and Bengio (2017), arXiv 1602.05179; centered: Laborieux et al. (2021); on
    predictive coding networks Pinchetti et al. (2024), arXiv 2407.01163. The two losses and the
    choice of the nudge are ours.
    """

    centered: bool = eqx.field(static=True, default=True)

    def __init__(
        self,
        solver: Solver | None = None,
        beta: HoldStrength | float | None = None,
        centered: bool = True,
    ) -> None:
        self.solver = GaussNewton() if solver is None else solver
        beta = HoldStrength(_SMALL if centered else DEFAULT_STRENGTH) if beta is None else beta
        if not isinstance(beta, HoldStrength) and not (math.isfinite(beta) and beta > 0):
            raise ValueError(
                f"beta must be a positive, finite number or fx.HoldStrength, not {beta!r}."
            )
        self.output_precision = beta
        self.centered = centered
        self.certify, self.carried = True, None

    @property
    def beta(self) -> HoldStrength | float:
        """The size of the nudge, which takes the place of the output precision."""
        return self.output_precision

    def gradient(self, problem: Problem, key: PRNGKeyArray) -> tuple[Network, StepReport]:
        problem, start, strength = self.prepare(problem, key)
        beta = problem.output_precision

        def nudged(problem: Problem) -> tuple[Network, StepReport]:
            relaxed = infer(problem, self.solver, start=start, certify=self.certify)
            gradient = weight_gradient(problem, relaxed.activities, relaxed.errors)
            return gradient, report(problem, start, relaxed, strength, self.certify)

        towards, seen = nudged(problem)
        span, gradient = beta, towards
        if self.centered:
            # Not through `with_output_precision`: a precision is positive, a nudge need not be.
            away, other = nudged(eqx.tree_at(lambda p: p.output_precision, problem, -beta))
            span, gradient = 2 * beta, jax.tree.map(jnp.subtract, towards, away)
            seen = eqx.tree_at(
                lambda r: (r.unsettled_median, r.unsettled_max),
                seen,
                (
                    jnp.maximum(seen.unsettled_median, other.unsettled_median),
                    jnp.maximum(seen.unsettled_max, other.unsettled_max),
                ),
            )
        divided: Network = jax.tree.map(lambda g: g / span.astype(g.dtype), gradient)
        return divided, seen

    def stability(self, problem: Problem, key: PRNGKeyArray) -> Array:
        """`beta lambda_max(J Pi^-1 J^T)`, largest of the batch; the negative nudge needs below 1.

        ```python
        fx.EquilibriumPropagation(beta=0.1).stability(problem, jax.random.key(0))
        ```
        """
        problem, start, _ = self.prepare(problem, key)
        return problem.output_precision * largest_sensitivity(problem, key, start)

    def probe(self, problem: Problem, key: PRNGKeyArray) -> dict[str, Array]:
        observed = [problem.network.entry(name) for name in problem.observed]
        bounded = not any(entry.energy_is_gaussian for entry in observed)
        if not self.centered or bounded:
            return {}
        return {"nudge_stability": self.stability(problem, key)}
