"""The energy at equilibrium as a function of the weights: what predictive coding descends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from fathomx.checks import Count, gate
from fathomx.graph.network import Network
from fathomx.graph.vector_space import Entries
from fathomx.inference import Newton, Solver, infer
from fathomx.inference.relaxation import Relaxation
from fathomx.problem.problem import Problem
from fathomx.problem.rescaling import (
    CHUNK,
    ExplainedVectors,
    check_linear,
    clamped_whole,
    forces,
    has_closed_form,
    rescaling_matrix,
)
from fathomx.theory.solving import check_finite, conjugate_gradients


@gate
class Equilibrated(eqx.Module):
    """The equilibrated energy of a network on some data.

    **Fields**

    * `energy`: F*, mean over the examples.
    * `energies`: `(batch,)`, of every example.
    * `explained`: predictions of what is observed and discrepancies of feedbacks, by name, at the
      feedforward pass.
    * `rescaling`: S, `(units, units)`; `None` where there is no closed form, or something is
      clamped in part, so that it differs between examples.
    * `relaxation`: the equilibrium found, with its certificate; `None` in closed form.
    """

    energy: Float[Array, ""]
    energies: Float[Array, " batch"]
    explained: Entries
    rescaling: Float[Array, "outputs outputs"] | None
    relaxation: Relaxation | None
    _output: str = eqx.field(static=True)

    @property
    def prediction(self) -> Array:
        """The feedforward prediction of the output, `(batch, *output_shape)`, if it is observed."""
        return self.explained[self._output]

    def describe(self) -> str:
        """The energy, and how it is known."""
        if self.relaxation is None:
            return f"equilibrated energy {float(self.energy):.6g}, in closed form"
        return (
            f"equilibrated energy {float(self.energy):.6g}, relaxed: {self.relaxation.describe()}"
        )


@gate
def equilibrated_energy(
    network: Network | Problem,
    x: Any = None,
    y: Any = None,
    *,
    output_precision: Any = None,
    solver: Solver | None = None,
    chunk: Count = CHUNK,
) -> Equilibrated:
    """The energy F at the equilibrium of the activities, a function of the weights alone.

        F*(theta) = min_z F(z, theta) = 1/2 mean_i (y_i - mu_i)^T S^-1 (y_i - mu_i)

    with the feedforward prediction `mu` of what is observed (and the discrepancies of feedbacks,
    whose `y` is zero) and the rescaling matrix `S` (`rescaling`). The closed form holds for every
    network that is linear in its activities where what is observed has a Gaussian energy: chains,
    skips, convolutions, average pooling, any parameterization and any precisions, latent roots,
    masks. Without one the activities are relaxed, and the result carries the certificate.

    Differentiable in the weights, twice. In closed form through `S`. After relaxation by one Newton
    step from the equilibrium, whose Hessian is held constant: it leaves the value, and by the
    implicit function theorem gives F* the gradient and the Hessian

        d2F*/dtheta2 = F_theta,theta - F_theta,e F_e,e^-1 F_e,theta

    at the weights where it was relaxed, exact as far as inference is settled.

    **Arguments**

    * `network`, `x`, `y`: as for `fx.Problem`; `x` may hold clamps by name. Or a problem alone.
    * `output_precision`: lambda; by default that of the output node's energy.
    * `solver`: for networks without a closed form; `Newton` to 1e-9 (1e-4 in float32) unless given.
      One that is given is used on every network.
    * `chunk`: columns of `S` computed at a time; more take more memory.

    Raises `ValueError` as `fx.Problem` does, and where `S` or the energy is not finite.

    ```python
    fx.theory.equilibrated_energy(network, x, y).energy
    jax.grad(lambda w: fx.theory.equilibrated_energy(eqx.combine(w, rest), x, y).energy)(weights)
    ```

    Source: Innocenti et al. (2024), arXiv 2408.11979, there for linear chains. Ours: precisions,
    graphs, and nonlinear networks by the implicit function theorem.
    """
    problem = _problem(network, x, y, output_precision)
    output = problem.network.output.name
    if solver is None and has_closed_form(problem):
        matrix, explained, energies = _closed_form(problem, chunk)
        if matrix is not None:
            check_finite("the rescaling matrix", matrix)
        check_finite("the equilibrated energy", energies)
        return Equilibrated(energies.mean(), energies, explained, matrix, None, output)
    relaxed = infer(problem, relaxing_solver(problem.network) if solver is None else solver)
    energies = energy_around(problem, relaxed.errors)
    check_finite("the equilibrated energy", energies)
    explained = problem.feedforward()
    return Equilibrated(energies.mean(), energies, explained, None, relaxed, output)


def _problem(network: Network | Problem, x: Any, y: Any, output_precision: Any) -> Problem:
    if isinstance(network, Network):
        return Problem(network, x, y, output_precision)
    if x is not None or y is not None:
        raise ValueError("a problem holds its values already; give it alone, without x and y.")
    return network if output_precision is None else network.with_output_precision(output_precision)


@gate
def rescaling(
    network: Network | Problem, *, output_precision: Any = None, chunk: Count = CHUNK
) -> Float[Array, "outputs outputs"]:
    """The matrix by which the equilibrated energy rescales the loss.

        S = I / lambda + J Pi^-1 J^T = I / lambda + sum_l P_l P_l^T / pi_l

    with `P_l` the map from node `l`'s error to the output (the product of the weights above it, in
    a chain). `(outputs, outputs)`, the outputs flattened. Of a problem, over all that is explained
    in it, one after another in the order of `problem.explained`, with the precisions of each in
    place of `lambda`. `chunk` columns are computed at a time.

    Raises `ValueError` for a network that is not linear in its activities, one whose output is not
    Gaussian, for a problem with something clamped in part, and where the matrix is not finite.

    ```python
    jnp.linalg.eigvalsh(fx.theory.rescaling(network))
    ```

    Source: Innocenti et al. (2024), arXiv 2408.11979.
    """
    x = y = None
    if isinstance(network, Network):
        x = jnp.zeros((1, *network.input_shape), network.input_dtype)
        # The feedforward expectation of nothing: zeros, or even odds of an energy of distributions.
        y = network.output.energy.expected(jnp.zeros((1, *network.output_shape)))
    problem = _problem(network, x, y, output_precision)
    check_linear(problem, "The rescaling matrix", "use equilibrated_energy, which relaxes it")
    matrix: Array = eqx.filter_jit(rescaling_matrix)(problem, chunk)
    check_finite("the rescaling matrix", matrix)
    return matrix


@gate
def relaxing_solver(network: Network) -> Newton:
    """Newton to the tolerance that the type of the weights allows."""
    return Newton(tolerance=1e-9 if network.dtype == jnp.float64 else 1e-4)


@eqx.filter_jit
def energy_around(problem: Problem, errors: Entries) -> Float[Array, " batch"]:
    """F* of every example around weights whose equilibrium is at these errors.

    The errors are taken as constants and moved by the Newton step of the problem's own weights,
    which is zero at the equilibrium; see `equilibrated_energy` for what that is good for.
    """
    fixed, rest = eqx.partition(problem, eqx.is_array)
    still: Problem = eqx.combine(jax.lax.stop_gradient(fixed), rest)
    errors = jax.lax.stop_gradient(problem.free_errors(errors))
    gradient = jax.grad(lambda e: problem.total(e).sum())(errors)
    _, product = jax.linearize(jax.grad(lambda e: still.total(e).sum()), errors)

    # As one vector: the gradient in a free leaf does not depend on the weights at all.
    flat, entries = ravel_pytree(gradient)

    def solve(product: Callable[[Array], Array], right: Array) -> Array:
        solved = conjugate_gradients(
            still, lambda v: entries(product(ravel_pytree(v)[0])), entries(right)
        )
        return ravel_pytree(solved[0])[0]

    found = jax.lax.custom_linear_solve(
        lambda v: ravel_pytree(product(entries(v)))[0], flat, solve, symmetric=True
    )
    step = entries(found)
    return problem.total({name: errors[name] - step[name] for name in errors})


@eqx.filter_jit
def _closed_form(problem: Problem, chunk: int) -> tuple[Array | None, Entries, Array]:
    explained, constant = problem.feedforward(), problem.constant_energy()
    if not clamped_whole(problem):
        solved, misfit = forces(problem, explained, chunk)
        return None, explained, 0.5 * jnp.sum(misfit * solved, axis=1) + constant
    matrix = rescaling_matrix(problem, chunk)
    misfit = ExplainedVectors(problem).misfit(explained)
    solved = jax.scipy.linalg.solve(matrix, misfit.T, assume_a="pos").T
    return matrix, explained, 0.5 * jnp.sum(misfit * solved, axis=1) + constant
