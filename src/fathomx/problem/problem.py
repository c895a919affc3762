"""`Problem`: what is clamped."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.problem.checks import _check_precision, _check_target, check_input


class Problem(eqx.Module):
    """A network with its input and its output clamped: the energy that inference minimizes.

        F(z) = sum_{l<L} (pi_l / 2) ||z_l - mu_l||^2  +  lambda * E_out(y, mu_L)

    per example; the hidden activities `z_l` are free. Examples never interact, so the objective of
    inference is the sum over the batch.

    **Arguments**

    * `network`: a `Network`.
    * `input`: `(batch, *network.input_shape)`.
    * `target`: `(batch, *network.output_shape)`, or integer labels `(batch, *output_shape[:-1])`
      that are turned into one-hot vectors (where the output has at least two entries).
    * `output_precision`: lambda; by default that of the output node's energy. May be traced.

    Inputs and targets take the type of the network's weights.

    Raises `ValueError` for shapes that do not fit, labels out of range and values that are not
    finite (the values are only looked at outside of `jax.jit`).

    ```python
    problem = fx.Problem(network, input=x, target=y)
    relaxed = fx.infer(problem, fx.GaussNewton())
    ```
    """

    network: Network
    input: Array
    target: Array
    output_precision: Float[Array, ""]

    def __init__(
        self,
        network: Network,
        input: Any,
        target: Any,
        output_precision: Any = None,
    ) -> None:
        self.network = network
        self.input = check_input(network, input)
        self.target = _check_target(network, target, self.input.shape[0])
        precision = (
            network.output.energy.precision if output_precision is None else output_precision
        )
        self.output_precision = _check_precision(precision, network)

    @property
    def batch(self) -> int:
        """Number of examples."""
        return int(self.input.shape[0])

    @property
    def positions(self) -> int:
        """How many predictions the output of an example holds: its tokens, or 1 for a vector."""
        return math.prod(self.target.shape[1:-1])

    def with_output_precision(self, output_precision: Any) -> Problem:
        """The same problem with another output precision."""
        checked = _check_precision(output_precision, self.network)
        return eqx.tree_at(lambda problem: problem.output_precision, self, checked)

    def with_batch_statistics(self) -> Problem:
        """The same problem on a network whose batch statistics are those of this input.

        They are taken at the feedforward pass and are constants from then on: inference does not
        move them, and examples do not interact. A network without batch normalization stays as it
        is; see `Network.with_batch_statistics` for the errors.

        ```python
        relaxed = fx.infer(problem.with_batch_statistics(), fx.GaussNewton())
        ```
        """
        network = self.network.with_batch_statistics(self.input)
        if network is self.network:
            return self
        taken: Problem = eqx.tree_at(lambda problem: problem.network, self, network)
        return taken

    def output_energy(self, prediction: Array) -> Float[Array, " batch"]:
        """`lambda * E_out(y, prediction)` of every example."""
        return self.output_precision * self.loss(prediction)

    def loss(self, prediction: Array) -> Float[Array, " batch"]:
        """The output energy of every example at precision 1: the loss of backprop."""
        unit: Array = jax.vmap(self.network.output.energy.unit)(self.target, prediction)
        return unit

    def output_gradient(self, prediction: Array) -> Array:
        """Gradient of `output_energy` in the prediction."""
        error = jax.vmap(self.network.output.energy.error)(self.target, prediction)
        return -self.output_precision * error

    def hidden_energy(self, errors: Entries) -> Float[Array, " batch"]:
        """`sum_l (pi_l / 2) ||e_l||^2` over the hidden nodes, for every example."""
        return 0.5 * self.network.space.dot(self.weigh(errors), errors)

    def weigh(self, errors: Entries) -> Entries:
        """`Pi e`: every hidden entry times its precision."""
        return {k: errors[k] * pi if pi != 1 else errors[k] for k, pi in self._precisions()}

    def unweigh(self, errors: Entries) -> Entries:
        """`Pi^-1 e`: every hidden entry divided by its precision."""
        return {k: errors[k] / pi if pi != 1 else errors[k] for k, pi in self._precisions()}

    def _precisions(self) -> list[tuple[str, float]]:
        return [(entry.name, entry.energy.precision) for entry in self.network.nodes[:-1]]

    def total(self, errors: Entries) -> Float[Array, " batch"]:
        """The energy F of every example as a function of the hidden errors."""
        prediction = self.network.unroll(errors, self.input)[self.network.output.name]
        return self.hidden_energy(errors) + self.output_energy(prediction)

    def predict(self, errors: Entries) -> tuple[Array, Entries]:
        """Prediction of the output and the hidden activities, from the hidden errors."""
        activities = self.network.unroll(errors, self.input)
        prediction = activities.pop(self.network.output.name)
        return prediction, activities

    def hidden(self, entries: Entries) -> Entries:
        """The entries of the hidden nodes alone."""
        return {name: entries[name] for name in self.network.hidden}

    def errors_of(self, activities: Entries) -> Entries:
        """Hidden errors `z_l - mu_l` from hidden activities."""
        predicted = self.network.predictions(activities, self.input)
        return {name: activities[name] - predicted[name] for name in self.network.hidden}
