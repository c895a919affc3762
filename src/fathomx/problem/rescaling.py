"""The rescaling matrix of networks that are linear in their activities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fathomx.graph.smoothness import is_linear
from fathomx.graph.vector_space import Entries
from fathomx.problem.evaluation import Linearization
from fathomx.problem.problem import Problem

CHUNK = 16


def clamped_whole(problem: Problem) -> bool:
    """Whether nothing is clamped in part, so that all examples have the same derivatives."""
    return all(clamp.whole for clamp in problem.clamps.values())


def has_closed_form(problem: Problem) -> bool:
    """Whether the equilibrium has one: linear in the activities, all that is observed Gaussian."""
    return is_linear(problem.network) and not _other_energies(problem)


def check_linear(problem: Problem, what: str, instead: str) -> None:
    """Raises `ValueError` unless a closed form exists.

    `what` begins the sentence and `instead` ends it: what to use where there is none.
    """
    if not is_linear(problem.network):
        raise ValueError(
            f"{what} needs a network that is linear in its activities, and this one is not; "
            f"{instead}, or build it with activation='linear'."
        )
    for energy in _other_energies(problem):
        raise ValueError(f"{what} needs a Gaussian output, not {energy}; {instead}.")


def _other_energies(problem: Problem) -> list[object]:
    entries = [problem.network.entry(name) for name in problem.observed]
    return [entry.energy for entry in entries if not entry.energy_is_gaussian]


class ExplainedVectors:
    """What is explained as vectors: all of one example after one another.

    Units that are not observed count as 0 in `precisions`.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        network = problem.network
        self.axes = {part.name: part.batch_axis for part in network.predictors()}
        self.names = problem.explained
        self.shapes = {name: network.shapes[name] for name in self.names}

    def flat(self, entries: Entries) -> Float[Array, "batch units"]:
        """Entries as one vector for every example."""
        rows = [jnp.moveaxis(entries[name], self.axes[name], 0) for name in self.names]
        return jnp.concatenate([row.reshape(row.shape[0], -1) for row in rows], axis=1)

    def entries(self, vectors: Float[Array, "batch units"]) -> Entries:
        """Entries from one vector for every example."""
        sizes = [int(np.prod(self.shapes[name])) for name in self.names]
        parts = jnp.split(vectors, np.cumsum(sizes)[:-1], axis=1)
        return {
            name: jnp.moveaxis(part.reshape(part.shape[0], *self.shapes[name]), 0, self.axes[name])
            for name, part in zip(self.names, parts, strict=True)
        }

    def precisions(self) -> Float[Array, "batch units"]:
        """The curvature of the energy of every unit: a diagonal, for Gaussian energies."""
        problem = self.problem
        batch = problem.batch
        ones = self.entries(jnp.ones((batch, sum(map(_size, self.shapes.values())))))
        part = problem.network.predictor
        return self.flat(
            {name: problem.observed_energy_of(part(name)).weighed(ones[name]) for name in ones}
        )

    def misfit(self, explained: Entries) -> Float[Array, "batch units"]:
        """The values of what is observed minus predictions; minus the discrepancies."""
        problem = self.problem
        part = problem.network.predictor
        pairs = {name: problem.compared(part(name), explained) for name in self.names}
        feedbacks = {feedback.name for feedback in problem.network.feedbacks}
        return self.flat(
            {n: -target if n in feedbacks else target - mu for n, (target, mu) in pairs.items()}
        )


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def response_matrix(problem: Problem, chunk: int = CHUNK) -> Float[Array, "batch units units"]:
    """`J Pi^-1 J^T`: how what is explained responds to forces on itself.

    `J` is the derivative of what is explained in the errors, the same for all examples of a network
    that is linear in its activities, unless something is clamped in part that others read: the
    first axis is 1 where nothing is. Column by column: one reverse and one forward pass for every
    unit, `chunk` of them at a time, so that memory is that of `chunk` passes. Differentiable in the
    weights; its derivative computes the passes again instead of keeping them.
    """
    if all(clamp.whole or not problem.is_read(name) for name, clamp in problem.clamps.items()):
        problem = problem.examples(slice(0, 1))
    vectors = ExplainedVectors(problem)
    linearized = Linearization.at_start(problem)
    size = sum(map(_size, vectors.shapes.values()))
    identity = jnp.eye(size, dtype=problem.network.dtype)

    @jax.checkpoint
    def column(vector: Array) -> Array:
        cotangent = vectors.entries(jnp.broadcast_to(vector, (problem.batch, size)))
        return vectors.flat(linearized.push(problem.unweigh(linearized.pull(cotangent))))

    columns: Array = jax.lax.map(column, identity, batch_size=min(chunk, size))
    return jnp.moveaxis(columns, 0, 2)


def rescaling_matrix(problem: Problem, chunk: int = CHUNK) -> Float[Array, "units units"]:
    """`S = G^-1 + J Pi^-1 J^T`, the covariance of what is explained around its prediction.

    `G` holds the precisions: the output precision, and those of feedbacks. Where nothing is clamped
    in part it is the same for all examples.

    Raises `ValueError` for problems with something clamped in part.

    Source: Innocenti et al. (2024), arXiv 2408.11979, with precisions and any linear graph.
    """
    if not clamped_whole(problem):
        raise ValueError(
            "the rescaling matrix is one matrix for all examples where entries are clamped whole, "
            "but something is clamped in part here; use fx.theory.equilibrated_energy."
        )
    response = response_matrix(problem, chunk)[0]
    return response + jnp.diag(1 / ExplainedVectors(problem).precisions()[0])


def forces(
    problem: Problem, explained: Entries, chunk: int = CHUNK
) -> tuple[Float[Array, "batch units"], Float[Array, "batch units"]]:
    """`S^-1 r` and `r`, with the misfit `r` of what is explained at the feedforward pass.

    Where something is clamped in part, as `(I + G J Pi^-1 J^T)^-1 G r`.
    """
    vectors = ExplainedVectors(problem)
    misfit = vectors.misfit(explained)
    if clamped_whole(problem):
        rescaling = rescaling_matrix(problem, chunk)
        return jax.scipy.linalg.solve(rescaling, misfit.T, assume_a="sym").T, misfit
    precisions = vectors.precisions()
    # Not the matrix itself, whose entries are infinite where a unit is not observed.
    matrix = precisions[:, :, None] * response_matrix(problem, chunk)
    matrix = matrix + jnp.eye(misfit.shape[1], dtype=misfit.dtype)
    return jnp.linalg.solve(matrix, (precisions * misfit)[..., None])[..., 0], misfit


def equilibrium_errors(problem: Problem, start: Linearization) -> Entries:
    """`Pi^-1 J^T S^-1 r`, the errors at equilibrium, from the feedforward pass."""
    vectors = ExplainedVectors(problem)
    if not vectors.names:
        return start.errors
    solved, _ = forces(problem, start.explained)
    return problem.unweigh(start.pull(vectors.entries(solved)))
