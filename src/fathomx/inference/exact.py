"""The closed-form equilibrium of networks that are linear in their activities."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from fathomx.energy import Gaussian
from fathomx.inference.base import Solver, SolverState, beginning
from fathomx.problem import Evaluation, Linearization, Problem, evaluate
from fathomx.structure import is_linear


class ExactState(SolverState):
    """The evaluation at the equilibrium."""

    here: Evaluation


class Exact(Solver):
    """The equilibrium in closed form, for networks linear in their activities, Gaussian output.

        e* = Pi^-1 J^T S^-1 (y - mu_L),     S = I / lambda + J Pi^-1 J^T

    with the feedforward prediction `mu_L` and `J` the derivative of the output in the hidden
    errors. `S` is built by one reverse pass per output, for one example, since `J` is the same for
    all. The oracle that other solvers are tested against.

    Raises `ValueError` for a network that is not linear in its activities, or whose output energy
    is not Gaussian.

    Source: Innocenti et al. (2024), arXiv 2408.11979, with precisions and any linear graph.
    """

    @property
    def max_steps(self) -> int:
        return 1

    @property
    def steps_in_init(self) -> int:
        return 1

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> ExactState:
        network = problem.network
        if not is_linear(network):
            raise ValueError(
                "Exact needs a network that is linear in its activities, and this one is not; use "
                "Newton(tolerance=1e-6) for its equilibrium, or build it with activation='linear'."
            )
        if not isinstance(network.output.energy, Gaussian):
            raise ValueError(
                f"Exact needs a Gaussian output, not {network.output.energy}; use Newton."
            )
        # Not a new `Problem`, whose precision must be positive: the away phase of equilibrium
        # propagation has a negative one.
        single = eqx.tree_at(
            lambda p: (p.input, p.target), problem, (problem.input[:1], problem.target[:1])
        )
        linearized = Linearization(single, network.zeros(1))
        size = problem.target[0].size
        basis = jnp.eye(size, dtype=network.dtype).reshape(size, 1, *network.output_shape)

        def column(vector: jax.Array) -> jax.Array:
            return linearized.push(single.unweigh(linearized.pull(vector))).reshape(size)

        rescaling = jax.vmap(column, out_axes=1)(basis)
        rescaling = rescaling + jnp.eye(size, dtype=network.dtype) / problem.output_precision
        residual = (problem.target - here.prediction).reshape(problem.batch, size)
        solved = jax.scipy.linalg.solve(rescaling, residual.T, assume_a="sym").T
        errors = problem.unweigh(start.pull(solved.reshape(problem.target.shape)))
        there = evaluate(problem, errors)
        begun = beginning(here, evaluations=1)
        begun["steps"] = begun["steps"] + 1
        return ExactState(**begun, here=there)

    def step(self, problem: Problem, state: ExactState) -> ExactState:
        return state

    def evaluation(self, problem: Problem, state: ExactState) -> Evaluation:
        return state.here
