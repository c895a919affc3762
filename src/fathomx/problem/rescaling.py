"""The rescaling matrix of networks that are linear in their activities."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fathomx.graph.energy import Gaussian
from fathomx.graph.network import Network
from fathomx.graph.smoothness import is_linear
from fathomx.problem.evaluation import Linearization
from fathomx.problem.problem import Problem

CHUNK = 16


def check_linear(network: Network, what: str, instead: str) -> None:
    """Raises `ValueError` unless a closed form exists: linear in the activities, Gaussian output.

    `what` begins the sentence and `instead` ends it: what to use where there is none.
    """
    if not is_linear(network):
        raise ValueError(
            f"{what} needs a network that is linear in its activities, and this one is not; "
            f"{instead}, or build it with activation='linear'."
        )
    if not isinstance(network.output.energy, Gaussian):
        raise ValueError(f"{what} needs a Gaussian output, not {network.output.energy}; {instead}.")


def rescaling_matrix(problem: Problem, chunk: int = CHUNK) -> Float[Array, "outputs outputs"]:
    """`S = I / lambda + J Pi^-1 J^T`, the covariance of the output around its prediction.

    `J` is the derivative of the output in the hidden errors, the same for all examples of a network
    that is linear in its activities. Column by column: one reverse and one forward pass of a single
    example for every output, `chunk` of them at a time, so that memory is that of `chunk` passes.
    Differentiable in the weights; its derivative computes the passes again instead of keeping them.

    Source: Innocenti et al. (2024), arXiv 2408.11979, with precisions and any linear graph.
    """
    network = problem.network
    # Not a new `Problem`, whose precision must be positive: the away phase of equilibrium
    # propagation has a negative one.
    single = eqx.tree_at(
        lambda p: (p.input, p.target), problem, (problem.input[:1], problem.target[:1])
    )
    linearized = Linearization(single, network.zeros(1))
    size = problem.target[0].size
    identity = jnp.eye(size, dtype=network.dtype)

    @jax.checkpoint
    def column(vector: Array) -> Array:
        cotangent = vector.reshape(1, *network.output_shape)
        return linearized.push(single.unweigh(linearized.pull(cotangent))).reshape(size)

    columns: Array = jax.lax.map(column, identity, batch_size=min(chunk, size))
    return columns.T + identity / problem.output_precision
