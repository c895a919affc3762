"""The energy of every node, and its gradient in the weights."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fathomx.checks import gate
from fathomx.graph.network import Network
from fathomx.graph.statistics import split, weights
from fathomx.graph.vector_space import Entries
from fathomx.problem.checks import check_activities, check_clamps, check_errors, check_roots
from fathomx.problem.evaluation import Evaluation
from fathomx.problem.problem import Problem


def evaluated_energies(problem: Problem, here: Evaluation) -> Float[Array, "nodes batch"]:
    """Energy of every node for every example, at an evaluated point."""
    rows = []
    for part in problem.network.predictors():
        name, row = part.name, None
        if name in here.errors:
            error = here.errors[name]
            row = problem.free_energy_of(part)(error, jnp.zeros_like(error))
        if name in here.explained:
            observed = problem.observed_energy_of(part)(*problem.compared(part, here.explained))
            row = observed if row is None else row + observed
        if row is None:
            row = jnp.zeros((part.depth, problem.batch), problem.network.dtype)
        rows.append(row)
    return jnp.concatenate(rows)


def node_energies(problem: Problem, activities: Entries) -> Float[Array, "nodes batch"]:
    """Energy of every node for every example, from the activities of the free entries."""
    explained, errors = problem.explained_at(activities), problem.errors_of(activities)
    return evaluated_energies(problem, Evaluation.of_energies(problem, errors, explained))


@gate
def energy(problem: Problem, activities: Entries) -> Float[Array, " nodes"]:
    """Energy of every node and feedback, mean over the batch; its sum is the energy F.

        F_v = (pi_v / 2) ||z_v - mu_v||^2  where free,   lambda pi_v E_v(value_v, mu_v)  where
        observed,   F_f = (pi_f / 2) ||z_of - g_f||^2

    in the order of `network.labels`. `activities` needs the free entries; others are ignored, since
    the problem clamps them.

    ```python
    fx.energy(problem, relaxed.activities).sum()
    ```
    """
    return problem.mean(node_energies(problem, check_activities(problem, activities)))


@gate
def weight_gradient(
    problem: Problem,
    activities: Entries,
    errors: Entries | None = None,
    found: Entries | None = None,
) -> Network:
    """`dF/dtheta` at fixed activities, mean over the batch: a pytree like the network's arrays.

    Local: an entry contributes `-(d mu_v / d theta_v)^T pi_v e_v`, from its own error and its
    parents' activities, and a feedback likewise. By the envelope theorem this is the gradient of
    the equilibrated energy when the activities are at equilibrium. Everything but the weights is
    `None`. Precisions and prior means that learn are among the weights.

    `errors`, if given (`relaxation.errors`), saves the computation of the predictions. `found` are
    the activities that amortized predictions (`fx.Amortized`) learn, if not these.

    Source: Whittington and Bogacz (2017), for any node function.
    """
    activities = check_activities(problem, activities)
    learned, rest = split(problem.network)
    errors = problem.all_errors(activities) if errors is None else check_errors(problem, errors)
    known = problem.complete(activities)
    inferred = known if found is None else problem.complete(check_activities(problem, found))

    def predictions(learned: Network) -> tuple[Entries, Array]:
        there = problem.with_network(eqx.combine(learned, rest))
        own = _precision_energy(there, errors) + _amortized_energy(there, inferred)
        return _learning_predictions(there, known), own

    (predicted, _), pull = jax.vjp(predictions, learned)
    part = problem.network.predictor
    cotangents = {
        name: -problem.shared(
            problem.energy_of(part(name)).weighed(errors[name]), part(name).batch_axis
        )
        for name in predicted
    }
    one = jnp.ones((), problem.network.dtype)
    gradient: Network = pull((cotangents, one))[0]
    return gradient


def _learning_predictions(problem: Problem, activities: Entries) -> Entries:
    """The predictions with an error: of free and observed entries, and of feedbacks."""
    network = problem.network
    predicted = network.predictions(activities)
    wanted = {*problem.free, *problem.observed}
    kept = {name: value for name, value in predicted.items() if name in wanted}
    return kept | network.feedback_predictions(activities)


def _precision_energy(problem: Problem, errors: Entries) -> Array:
    """The energy of the entries whose precision learns, at fixed errors; mean over the batch."""
    total = jnp.zeros((), problem.network.dtype)
    for part in problem.network.predictors():
        if part.name in errors and jax.tree.leaves(weights(part.energy)):
            fixed = jax.lax.stop_gradient(errors[part.name])
            rows = problem.energy_of(part)(fixed, jnp.zeros_like(fixed))
            total = total + problem.shared(rows, axis=1).sum()
    return total


def _amortized_energy(problem: Problem, activities: Entries) -> Array:
    """`1/2 ||z_of - g||^2` of all amortized predictions at fixed activities, a batch's mean."""
    network = problem.network
    total = jnp.zeros((), network.dtype)
    for part in network.amortized:
        predicted = part.predict(network.sources(part, activities))
        missed = jax.lax.stop_gradient(activities[part.of]) - predicted
        total = total + 0.5 * problem.shared(missed**2, part.batch_axis).sum()
    return total


@gate
def predict(network: Network, input: Any) -> Array:
    """The feedforward prediction of the output node, `(batch, *network.output_shape)`.

    `input` is the value of the first root, or values by name; roots that are not given are at their
    prior mean. Logits if the output is `Categorical`. Raises `ValueError` if a value does not fit,
    and for a root without a prior that is not given.

    ```python
    fx.predict(network, x)
    fx.predict(network, {"before": z, "control": u})
    ```
    """
    clamps = check_clamps(network, network.clamped(input))
    check_roots(network, clamps)
    return network.unroll(None, clamps)[network.output.name]
