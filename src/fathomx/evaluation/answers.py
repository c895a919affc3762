"""What a network says of its output, given all else: fed forward, or inferred where it must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import NDArray

from fathomx.graph.clamp import Clamp
from fathomx.graph.network import Network
from fathomx.inference import GaussNewton, infer
from fathomx.learning.backprop import is_feedforward
from fathomx.problem.energies import predict
from fathomx.problem.problem import Problem
from fathomx.training.programs import run

AT_ONCE = 500
# Near equilibrium, as far as answers need it.
_SOLVER = GaussNewton(iterations=15, cg_iterations=10)


class Answer(NamedTuple):
    """What a network expects its output to be, `(n, *output_shape)`, and the largest of it.

    Of a `Categorical` output these are probabilities, of a `Bernoulli` one that each label holds,
    of a `Poisson` one rates; `chosen` is the place along the last axis, `(n, *output_shape[:-1])`.
    """

    expected: NDArray[np.floating]
    chosen: NDArray[np.integer]


def asked(problem: Problem) -> Mapping[str, Clamp]:
    """What a problem clamps beside its output, from which the output is to be told."""
    output = problem.network.output.name
    return {name: clamp for name, clamp in problem.clamps.items() if name != output}


def answer(network: Network, given: Mapping[str, Any]) -> Answer:
    """The answer of a network to values by name, at least one, each `(n, ...)`."""
    size = len(next(iter(given.values())))
    found = []
    for begin in range(0, size, AT_ONCE):
        taken = np.minimum(np.arange(begin, begin + min(AT_ONCE, size)), size - 1)
        batch = {name: jnp.asarray(np.asarray(each)[taken]) for name, each in given.items()}
        some = run(_answered, network, batch)
        found.append([np.asarray(each)[: size - begin] for each in some])
    expected, chosen = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Answer(expected, chosen)


def _answered(network: Network, batch: Mapping[str, Array]) -> tuple[Array, Array]:
    problem = Problem(network, batch) if _has_more_to_infer(network, batch) else None
    if problem is None or is_feedforward(problem):
        predicted = predict(network, batch)
        return jax.vmap(network.output.energy.expected)(predicted), jnp.argmax(predicted, axis=-1)
    found = infer(problem, _SOLVER).activities[network.output.name]
    return found, jnp.argmax(found, axis=-1)


def _has_more_to_infer(network: Network, batch: Mapping[str, Array]) -> bool:
    """Whether there is a feedback or a root that is not given: else there is nothing to infer."""
    return bool(network.feedbacks) or any(root.name not in batch for root in network.roots)


def probabilities(expected: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities over the last axis: those that are expected, or the nearest to be had of them.

    An output of squared error that learns one-hot vectors predicts probabilities, but is not bound
    to: what is negative becomes 0, and the rest is divided by its sum; where nothing is left, all
    classes are alike.
    """
    positive = np.maximum(np.asarray(expected, np.float64), 0)
    total = positive.sum(axis=-1, keepdims=True)
    alike = np.full(positive.shape, 1 / positive.shape[-1])
    found: NDArray[np.float64] = np.divide(positive, total, out=alike, where=total > 0)
    return found
