"""Backprop on the same network, the baseline of every comparison."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.graph.network import Network
from fathomx.graph.statistics import split
from fathomx.learning.base import LearningRule, StepReport, feedforward_scores
from fathomx.problem.problem import Problem


class Backprop(LearningRule):
    """The gradient of the loss at the feedforward pass.

        d/dtheta mean_i E_out(y_i, mu_L(x_i))

    with the output energy at precision 1, by reverse-mode differentiation. Batch normalization is
    live: the derivative passes through the statistics.

    ```python
    result = fx.fit(network, data, fx.Backprop(), optimizer=optax.adam(1e-2, eps=1e-12))
    ```
    """

    def gradient(self, problem: Problem, key: PRNGKeyArray) -> tuple[Network, StepReport]:
        weights, rest = split(problem.network)

        def loss(weights: Network) -> tuple[Array, Array]:
            whole: Network = eqx.combine(weights, rest)
            network = whole.with_batch_statistics(problem.input)
            prediction = network.unroll(None, problem.input)[network.output.name]
            return problem.loss(prediction).mean(), prediction

        (value, prediction), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
        shown, accuracy = feedforward_scores(problem, prediction)
        nothing = jnp.full_like(value, jnp.nan)
        energy = jnp.zeros(problem.network.depth, value.dtype).at[-1].set(value)
        return gradient, StepReport(
            loss=shown,
            accuracy=accuracy,
            unsettled_median=nothing,
            unsettled_max=nothing,
            strength=nothing,
            output_precision=nothing,
            energy=energy,
        )
