"""Backprop on the same network, the baseline of every comparison."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from fathomx.checks import gate
from fathomx.graph.chain import Chain, Collecting
from fathomx.graph.entries import Stack
from fathomx.graph.network import Network
from fathomx.graph.numbers import offloads
from fathomx.graph.statistics import split
from fathomx.graph.vector_space import Entries
from fathomx.learning.base import LearningRule, StepReport, feedforward_scores
from fathomx.problem.energies import evaluated_energies
from fathomx.problem.evaluation import Evaluation
from fathomx.problem.problem import Problem


@gate
class Backprop(LearningRule):
    """The gradient of the loss at the feedforward pass.

        d/dtheta mean_i sum_observed E_v(y_i, mu_v(x_i))

    with the energies of what is observed at output precision 1, by reverse-mode differentiation.
    Batch normalization is live: the derivative passes through the statistics.

    Raises `ValueError` for a problem with a free root or a network with a feedback, whose energy
    the feedforward pass alone does not minimize.

    ```python
    result = fx.fit(network, data, fx.Backprop(), optimizer=optax.adam(1e-2, eps=1e-12))
    ```
    """

    def gradient(self, problem: Problem, key: PRNGKeyArray) -> tuple[Network, StepReport]:
        check_feedforward(problem)
        weights, rest = split(problem.network)

        def loss(weights: Network) -> tuple[Array, Entries]:
            whole = _collecting(eqx.combine(weights, rest))
            there = problem.with_network(whole.with_batch_statistics(problem.clamps))
            explained, _ = there.explain({})
            return there.mean(there.loss(explained)), explained

        (value, explained), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
        shown, accuracy = feedforward_scores(problem, explained)
        nothing = jnp.full_like(value, jnp.nan)
        found = Evaluation.of_energies(problem, {}, explained)
        energy = problem.mean(evaluated_energies(problem.with_output_precision(1.0), found))
        return gradient, StepReport(
            loss=shown,
            accuracy=accuracy,
            unsettled_median=nothing,
            unsettled_max=nothing,
            strength=nothing,
            output_precision=nothing,
            energy=energy,
        )


def _collecting(network: Network) -> Network:
    """The network whose stacks take the derivative in their weights of all blocks at once.

    Stacks that a mesh divides among devices, or that keep what they see on the host, stay as they
    are.
    """
    whole = {
        stack.name: stack.computed(Collecting())
        for stack in network.entries
        if isinstance(stack, Stack) and stack.chain == Chain() and not offloads(stack.block)
    }
    return network.with_predictors(whole)


def is_feedforward(problem: Problem) -> bool:
    """Whether the feedforward pass minimizes the energy without what is observed."""
    return not problem.network.feedbacks and not _free_roots(problem)


def check_feedforward(problem: Problem) -> None:
    """Raises `ValueError` where the feedforward pass has no gradient of the loss to offer."""
    if is_feedforward(problem):
        return
    free = _free_roots(problem)
    names = [feedback.name for feedback in problem.network.feedbacks]
    what = f"a free root, {free[0]!r}" if free else f"a feedback, {names[0]!r}"
    raise ValueError(
        f"Backprop differentiates a feedforward pass, but this problem has {what}; train it with a "
        "rule that infers, such as fx.Equilibrium()."
    )


def _free_roots(problem: Problem) -> list[str]:
    return [root.name for root in problem.network.roots if root.name in problem.free]
