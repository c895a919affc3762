"""The energy of every node, and its gradient in the weights."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fathomx.graph.entries import Stack
from fathomx.graph.network import Network
from fathomx.graph.statistics import split
from fathomx.graph.vector_space import Entries
from fathomx.problem.checks import check_input
from fathomx.problem.evaluation import Evaluation
from fathomx.problem.problem import Problem


def evaluated_energies(problem: Problem, here: Evaluation) -> Float[Array, "nodes batch"]:
    """Energy of every node for every example, at an evaluated point."""
    return _stack_energies(problem, here.errors, here.prediction)


def node_energies(problem: Problem, activities: Entries) -> Float[Array, "nodes batch"]:
    """Energy of every node for every example, from the hidden activities."""
    predicted = problem.network.predictions(activities, problem.input)
    errors = {name: activities[name] - predicted[name] for name in problem.network.hidden}
    return _stack_energies(problem, errors, predicted[problem.network.output.name])


def energy(problem: Problem, activities: Entries) -> Float[Array, " nodes"]:
    """Energy of every node, mean over the batch; its sum is the energy F.

        F_l = (pi_l / 2) ||z_l - mu_l||^2,   F_L = lambda E_out(y, mu_L)

    `activities` needs the hidden entries; the output's is ignored, since the problem clamps it.

    ```python
    fx.energy(problem, relaxed.activities).sum()
    ```
    """
    return node_energies(problem, activities).mean(axis=1)


def weight_gradient(
    problem: Problem, activities: Entries, errors: Entries | None = None
) -> Network:
    """`dF/dtheta` at fixed activities, mean over the batch: a pytree like the network's arrays.

    Local: node `l` contributes `-(d mu_l / d theta_l)^T pi_l e_l`, from its own error and its
    parents' activities. By the envelope theorem this is the gradient of the equilibrated energy
    when the activities are at equilibrium. Everything but the weights is `None`.

    `errors`, if given (`relaxation.errors`), saves the computation of the predictions.

    Source: Whittington and Bogacz (2017), for any node function.
    """
    network = problem.network
    weights, rest = split(network)

    def predictions(weights: Network) -> Entries:
        whole: Network = eqx.combine(weights, rest)
        return whole.predictions(activities, problem.input)

    predicted, pull = jax.vjp(predictions, weights)
    output = network.output
    if errors is None:
        errors = {name: activities[name] - predicted[name] for name in network.hidden}
        errors[output.name] = jax.vmap(output.energy.error)(problem.target, predicted[output.name])
    cotangents = {k: -v / problem.batch for k, v in problem.weigh(errors).items()}
    cotangents[output.name] = -problem.output_precision * errors[output.name] / problem.batch
    gradient: Network = pull(cotangents)[0]
    return gradient


def _stack_energies(problem: Problem, errors: Entries, prediction: Array) -> Array:
    rows = []
    for entry in problem.network.nodes[:-1]:
        squares = 0.5 * entry.energy.precision * errors[entry.name] ** 2
        if isinstance(entry, Stack):
            rows.append(squares.sum(axis=tuple(range(2, squares.ndim))))
        else:
            rows.append(squares.sum(axis=tuple(range(1, squares.ndim)))[None])
    rows.append(problem.output_energy(prediction)[None])
    return jnp.concatenate(rows)


def predict(network: Network, input: Any) -> Array:
    """The feedforward prediction of the output node, `(batch, *network.output_shape)`.

    Logits if the output is `Categorical`. Raises `ValueError` if the input does not fit.
    """
    return network.unroll(None, check_input(network, input))[network.output.name]
