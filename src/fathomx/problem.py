"""`Problem`: what is clamped. `Relaxation`: what came out of inference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fathomx.network import INPUT, Network, Node, Stack, entry_pull, split
from fathomx.structure import has_kinks
from fathomx.vector_space import Entries


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


class Evaluation(eqx.Module):
    """The energy and its gradient at given hidden errors.

    **Fields**: `errors`, `activities` (hidden), `prediction` of the output, `energy` `(batch,)`
    and `gradient` `dF/de` (hidden).
    """

    errors: Entries
    activities: Entries
    prediction: Array
    energy: Float[Array, " batch"]
    gradient: Entries


def evaluate(problem: Problem, errors: Entries) -> Evaluation:
    """Energy, activities and `dF/de = Pi e + J^T dE_out/dmu` by one reverse pass."""
    prediction, pull, activities = jax.vjp(problem.predict, errors, has_aux=True)
    return _evaluation(problem, errors, prediction, activities, lambda g: pull(g)[0])


def _evaluation(
    problem: Problem,
    errors: Entries,
    prediction: Array,
    activities: Entries,
    pull: Callable[[Array], Entries],
) -> Evaluation:
    pulled = pull(problem.output_gradient(prediction))
    weighed = problem.weigh(errors)
    return Evaluation(
        errors=errors,
        activities=activities,
        prediction=prediction,
        energy=problem.hidden_energy(errors) + problem.output_energy(prediction),
        gradient={name: weighed[name] + pulled[name] for name in errors},
    )


def evaluate_at(problem: Problem, activities: Entries) -> Evaluation:
    """`evaluate` at the errors of these activities: all predictions at once, one reverse pass.

    The activities are those given, not unrolled from the errors again.
    """
    network = problem.network
    predicted: Entries = {}
    pulls: dict[str, Callable[[Array], tuple[Array, list[Array]]]] = {}
    for entry in network.nodes:
        sources = network.sources(entry, activities, problem.input)
        predicted[entry.name], pulls[entry.name] = entry_pull(
            entry, sources, activities.get(entry.name)
        )
    output = network.output.name
    prediction = predicted.pop(output)

    def pull(cotangent: Array) -> Entries:
        reached, pulled = {output: cotangent}, {}
        for entry in reversed(network.nodes):
            name = entry.name
            if name not in reached:
                pulled[name] = jnp.zeros_like(activities[name])
                continue
            pulled[name], to_sources = pulls[name](reached[name])
            for parent, add in zip(network.parents[name], to_sources, strict=True):
                if parent != INPUT:
                    reached[parent] = reached[parent] + add if parent in reached else add
        return pulled

    errors = {name: activities[name] - predicted[name] for name in network.hidden}
    return _evaluation(problem, errors, prediction, problem.hidden(activities), pull)


def select(
    problem: Problem, mask: Bool[Array, " batch"], a: Evaluation, b: Evaluation
) -> Evaluation:
    """`a` for the examples where `mask` holds, `b` for the others."""
    where = problem.network.space.where
    shaped = mask.reshape(-1, *[1] * (a.prediction.ndim - 1))
    return Evaluation(
        errors=where(mask, a.errors, b.errors),
        activities=where(mask, a.activities, b.activities),
        prediction=jnp.where(shaped, a.prediction, b.prediction),
        energy=jnp.where(mask, a.energy, b.energy),
        gradient=where(mask, a.gradient, b.gradient),
    )


class Linearization:
    """The network linearized at given hidden errors: `prediction(e + d) ~ prediction + J d`.

    `push(d)` is `J d`, `pull(v)` is `J^T v`; each costs one pass and reuses what the linearization
    stored. It does not depend on the target or on the output precision. It lives within one trace
    and is not a pytree.
    """

    def __init__(self, problem: Problem, errors: Entries) -> None:
        self.errors = errors
        self.prediction, push, self.activities = jax.linearize(
            problem.predict, errors, has_aux=True
        )
        self.push: Callable[[Entries], Array] = push
        transposed = jax.linear_transpose(push, errors)
        self.pull: Callable[[Array], Entries] = lambda cotangent: transposed(cotangent)[0]

    def evaluation(self, problem: Problem) -> Evaluation:
        """Energy and gradient here; one reverse pass."""
        return _evaluation(problem, self.errors, self.prediction, self.activities, self.pull)


class Relaxation(eqx.Module):
    """What inference returns.

    **Fields**

    * `activities`: by entry, `(batch, ...)` for a node, `(depth, batch, ...)` for a stack; the
      output entry is the target, to which it is clamped.
    * `errors`: alike; `z_l - mu_l` for hidden nodes, minus the derivative of the output energy at
      precision 1 for the output (`y - mu` if it is Gaussian).
    * `energy`: `(nodes,)`, mean over the batch.
    * `unsettled`: `(batch,)`, the certificate: `||dF/de|| / ||dF/de at e = 0||` in error
      coordinates. 1 is the feedforward state, 0 is equilibrium.
    * `decrease`: `(batch,)`, the energy that the last step which moved the example gained, relative
      to what all steps gained; 1 where no step was taken or the energy rose.
    * `steps`: `(batch,)`, inference steps taken.
    * `evaluations`: `(batch,)`, gradients and Hessian-vector products computed.
    * `kinks`: whether the network's derivative jumps. Then `unsettled` does not need to vanish at
      a minimum, and `decrease` is the number to look at.
    """

    activities: Entries
    errors: Entries
    energy: Float[Array, " nodes"]
    unsettled: Float[Array, " batch"]
    decrease: Float[Array, " batch"]
    steps: Int[Array, " batch"]
    evaluations: Int[Array, " batch"]
    kinks: bool = eqx.field(static=True)

    def settled(self, tolerance: float = 1e-3) -> Bool[Array, " batch"]:
        """Which examples are at equilibrium to within `tolerance`.

        By the relative gradient norm where the network is smooth; where it has kinks, also by the
        relative energy decrease of the last step.
        """
        settled = self.unsettled <= tolerance
        return settled | (self.decrease <= tolerance) if self.kinks else settled

    def describe(self) -> str:
        """The certificate in words."""
        text = (
            f"energy {float(self.energy.sum()):.6g}; relative gradient norm: median "
            f"{float(jnp.median(self.unsettled)):.2g}, largest {float(self.unsettled.max()):.2g}"
        )
        if self.kinks:
            text += (
                f"; the network has kinks (ReLU or alike), at which minima keep a gradient: judge "
                f"by the energy decrease of the last step, largest {float(self.decrease.max()):.2g}"
            )
        return text


class Progress(eqx.Module):
    """What a solver reports besides the point it ended at."""

    decrease: Array
    steps: Array
    evaluations: Array


def relaxation(
    problem: Problem, here: Evaluation, start: Evaluation, progress: Progress
) -> Relaxation:
    """Builds the `Relaxation` at an evaluated point; `start` is the feedforward pass."""
    output, space = problem.network.output, problem.network.space
    error = jax.vmap(output.energy.error)(problem.target, here.prediction)
    norm, reference = space.norm(here.gradient), space.norm(start.gradient)
    # Without a gradient to begin with, what is left is rounding or it is a departure.
    rounding = jnp.finfo(norm.dtype).eps * space.norm(here.activities)
    departed = jnp.where(norm <= rounding, 0, jnp.inf).astype(norm.dtype)
    begun = reference > 0
    return Relaxation(
        activities={**here.activities, output.name: problem.target},
        errors={**here.errors, output.name: error},
        energy=evaluated_energies(problem, here).mean(axis=1),
        unsettled=jnp.where(begun, norm / jnp.where(begun, reference, 1), departed),
        decrease=progress.decrease,
        steps=progress.steps,
        evaluations=progress.evaluations,
        kinks=has_kinks(problem.network),
    )


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


def predict(network: Network, input: Any) -> Array:
    """The feedforward prediction of the output node, `(batch, *network.output_shape)`.

    Logits if the output is `Categorical`. Raises `ValueError` if the input does not fit.
    """
    return network.unroll(None, check_input(network, input))[network.output.name]


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


def check_input(network: Network, input: Any) -> Array:
    """The input as an array of the network's input type; `ValueError` if it does not fit."""
    array = jnp.asarray(input)
    if array.ndim == 0 or array.shape[1:] != network.input_shape:
        raise ValueError(
            f"the input has shape {array.shape}, but the network's input takes "
            f"{('batch', *network.input_shape)}: a batch of examples of shape "
            f"{network.input_shape}. Reshape the input, or build the network for this size."
        )
    _check_batch(array)
    if network.vocabulary is not None:
        check_tokens(array, network.vocabulary)
    array = array.astype(network.input_dtype)
    _check_values("input", array, "the input")
    return array


def check_tokens(tokens: Array | np.ndarray, vocabulary: int) -> None:
    """Raises `ValueError` for what are not integers from 0 to below the vocabulary's size."""
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"tokens must be integers, not {tokens.dtype}; encode the text first.")
    if isinstance(tokens, jax.core.Tracer):
        return
    values = np.asarray(tokens)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= vocabulary:
        raise ValueError(
            f"tokens run from {low} to {high}, but the network's vocabulary has those from 0 to "
            f"{vocabulary - 1}; encode the text with the vocabulary that the network was built for."
        )


def _check_batch(array: Array) -> None:
    if array.shape[0] == 0:
        raise ValueError("the batch is empty; give at least one example.")


def _check_target(network: Network, target: Any, batch: int) -> Array:
    output: Node = network.output
    shape = network.output_shape
    array = jnp.asarray(target)
    # A single output is a regression, whose integers are values.
    labels = bool(shape) and shape[-1] > 1 and array.shape[1:] == shape[:-1]
    if jnp.issubdtype(array.dtype, jnp.integer) and labels:
        if not isinstance(array, jax.core.Tracer) and array.size:
            values = np.asarray(array)
            low, high = int(values.min()), int(values.max())
            if low < 0 or high >= shape[-1]:
                raise ValueError(
                    f"target labels run from {low} to {high}, but node {output.name!r} has "
                    f"{shape[-1]} outputs: labels must lie in 0..{shape[-1] - 1}."
                )
        array = jax.nn.one_hot(array, shape[-1], dtype=network.dtype)
    if array.ndim == 0 or array.shape[1:] != shape or array.shape[0] != batch:
        raise ValueError(
            f"the target has shape {array.shape}, but node {output.name!r} predicts "
            f"{(batch, *shape)}; give one target per example, or integer labels of shape "
            f"{(batch, *shape[:-1])}."
        )
    array = array.astype(network.dtype)
    _check_values("target", array, f"node {output.name!r}")
    return array


def _check_precision(precision: Any, network: Network) -> Array:
    array = jnp.asarray(precision, network.dtype)
    if array.ndim:
        raise ValueError(
            f"output_precision has shape {array.shape}, but must be one number for the output node."
        )
    _check_values("output_precision", array, "the output node")
    if not isinstance(array, jax.core.Tracer) and not float(array) > 0:
        raise ValueError(f"output_precision must be positive, not {float(array)}.")
    return array


def _check_values(what: str, array: Array, where: str) -> None:
    if isinstance(array, jax.core.Tracer) or not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    finite = np.isfinite(np.asarray(array, dtype=np.float64))
    if not finite.all():
        raise ValueError(
            f"{what} of {where} holds {int((~finite).sum())} values that are NaN or infinite; "
            "remove or replace them."
        )
