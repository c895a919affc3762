"""Inference as a trust-region step: the quadratic model around the feedforward pass, tested."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from fathomx.checks import gate
from fathomx.graph.energy import Gaussian
from fathomx.graph.network import Network
from fathomx.graph.statistics import split
from fathomx.graph.vector_space import Entries, VectorSpace, zeros_like
from fathomx.inference import Solver, infer
from fathomx.inference.relaxation import Relaxation
from fathomx.learning.backprop import is_feedforward
from fathomx.problem.energies import weight_gradient
from fathomx.problem.problem import Problem
from fathomx.theory.equilibrated_energy import relaxing_solver
from fathomx.theory.solving import check_finite, conjugate_gradients


@gate
class Displacement(eqx.Module):
    """How far the hidden nodes are from the feedforward pass; every entry `(batch, ...)`.

    **Fields**: `errors`, in error coordinates, which are zero at the feedforward pass, and
    `activities`, what the errors do to the activities: `unroll(errors) - unroll(0)`.
    """

    errors: Entries
    activities: Entries


@gate
class TrustRegion(eqx.Module):
    """The displacement that the quadratic model predicts beside the one that inference finds.

    **Fields**

    * `predicted`: `Displacement`, the minimizer of the model. Where there is none (`bounded`), the
      point at which conjugate gradients stopped, downhill in the model or zero.
    * `relaxed`: `Displacement`, the equilibrium found.
    * `relaxation`: the `Relaxation` that found it, with its certificate.
    * `bounded`: `(batch,)`, whether the model has a minimizer.
    * `unsolved`: `(batch,)`, the certificate of the prediction: the norm of the model's gradient
      there relative to the feedforward pass.
    * `difference`: `(batch,)`, `||predicted - relaxed|| / ||relaxed||` of the errors; 0 where
      neither moves, infinite where the relaxed one alone does not.
    * `cosine`: `(batch,)`, of the two; 0 where one of them is zero.
    * `overall_difference`, `overall_cosine`: the same of all examples whose model is bounded, taken
      as one vector; infinite and 0 where no model is.
    * `cosine_to_backprop`: of the weight gradient at equilibrium with that of the loss; NaN where
      there is a free root or a feedback, and so no backprop.
    * `cosine_to_trust_region`: of the weight gradient at equilibrium with the one at the predicted
      activities, both of the examples whose model is bounded; 0 if none is.
    """

    predicted: Displacement
    relaxed: Displacement
    relaxation: Relaxation
    bounded: Bool[Array, " batch"]
    unsolved: Float[Array, " batch"]
    difference: Float[Array, " batch"]
    cosine: Float[Array, " batch"]
    overall_difference: Float[Array, ""]
    overall_cosine: Float[Array, ""]
    cosine_to_backprop: Float[Array, ""]
    cosine_to_trust_region: Float[Array, ""]

    def describe(self) -> str:
        """The comparison in words."""
        return (
            f"model bounded for {int(self.bounded.sum())} of {self.bounded.size} examples; there "
            f"the displacement differs by {float(self.overall_difference):.2g} (cosine "
            f"{float(self.overall_cosine):.4f}); weight update: cosine "
            f"{float(self.cosine_to_trust_region):.4f} to the trust region's, "
            f"{float(self.cosine_to_backprop):.4f} to backprop's; {self.relaxation.describe()}"
        )


@gate
def trust_region(problem: Problem, solver: Solver | None = None) -> TrustRegion:
    """Compares the equilibrium with a trust-region step from the feedforward pass.

        e* ~ argmin_e  g^T e + 1/2 e^T (Pi + H) e  =  -(Pi + H)^-1 g

    for every example, with `g` and `H` the gradient and the whole Hessian of the output energy
    `lambda E_out` in the hidden errors at `e = 0`: `lambda E_out` to second order, and a penalty
    for moving, in the metric of the hidden precisions `Pi`. On networks linear in their activities
    with a Gaussian output the model is the energy itself.

    As `Pi` outweighs `lambda`, the displacement becomes the gradient step `-Pi^-1 g`, the weight
    update backprop's, and the relative difference between model and equilibrium falls like
    `lambda^2` (the remainder is of third order in a displacement of order `lambda`). As `Pi`
    weakens, the displacement turns to a second-order step. Only their ratio matters: vary it by
    `problem.with_output_precision` in a loop, which compiles once, or `with_hidden_precision`.

    In nonlinear networks `Pi + H` is indefinite when `lambda` is large: then the model has no
    minimizer, `bounded` is false, and nothing is predicted. It is judged by the directions of
    conjugate gradients; one that curves downwards but has no part in `g` remains unseen.

    **Arguments**

    * `problem`: its network is taken as it is; with batch normalization pass
      `problem.with_batch_statistics()`. Backprop's gradient holds the statistics constant, too.
    * `solver`: relaxes the activities; `Newton` to 1e-9 (1e-4 in float32) unless given.

    Raises `ValueError` where the gradient at the feedforward pass is not finite. May be compiled.
    In float32 small displacements of the activities (not of the errors) drown in rounding.

    ```python
    for precision in (0.01, 0.1, 1.0):
        found = fx.theory.trust_region(problem.with_output_precision(precision))
        print(precision, found.overall_difference, found.cosine_to_backprop)
    ```

    Source: Innocenti et al. (2023), arXiv 2305.18188. Ours: error coordinates, in which the metric
    is `Pi` alone, and measuring the remainder. The second-order step itself, without `Pi`, is not
    offered: `H` is singular and, in nonlinear networks, indefinite; in general there is none.
    """
    relaxed = infer(problem, relaxing_solver(problem.network) if solver is None else solver)
    size, found = _compare(problem, relaxed)
    check_finite("the gradient at the feedforward pass", size)
    return found


@gate
def with_hidden_precision(network: Network, precision: float) -> Network:
    """The network with this precision on every hidden node, in place of their own.

    `precision` is positive and finite, or `ValueError` is raised. Static: every precision compiles
    anew, whereas `problem.with_output_precision` does not.

    ```python
    network = fx.theory.with_hidden_precision(network, 10.0)
    ```
    """
    energy = Gaussian(precision)
    changed = {
        entry.name: entry.with_energy(energy)
        for entry in network.entries[:-1]
        if entry.depth and entry.energy_is_gaussian
    }
    return network.with_predictors(changed)


@eqx.filter_jit
def _compare(problem: Problem, relaxed: Relaxation) -> tuple[Array, TrustRegion]:
    """The comparison, after the norm of every example's gradient at the feedforward pass."""
    space = problem.network.space
    still = problem.zeros()
    gradient, product = jax.linearize(jax.grad(lambda e: problem.total(e).sum()), still)

    size = space.norm(gradient)
    minus = -jnp.ones_like(size)
    # At unit length, lest the squares of small gradients vanish.
    direction = space.scale(minus / jnp.where(size > 0, size, 1), gradient)
    step, bounded = conjugate_gradients(problem, product, direction)
    unsolved = space.norm(space.add(product(step), minus, direction))

    errors, settled = space.scale(size, step), problem.free_errors(relaxed.errors)
    apart = space.norm(space.add(errors, minus, settled))
    length, settled_length = space.norm(errors), space.norm(settled)
    cosine = space.dot(_unit(space, errors), _unit(space, settled))

    def kept(per_example: Array) -> Array:
        return jnp.where(bounded, per_example, 0)

    overall = _ratio(_length(kept(apart)), _length(kept(settled_length)))
    shares = _direction(kept(length)) * _direction(kept(settled_length))

    explained, activities = problem.explain(errors)
    predicted_errors = problem.joined_errors(errors, explained)
    feedforward = problem.explain({})[1]

    def displacement(errors: Entries, activities: Entries) -> Displacement:
        return Displacement(errors, {name: activities[name] - feedforward[name] for name in errors})

    def bounded_gradient(activities: Entries, errors: Entries) -> Network:
        # An example without errors has no part in the gradient.
        errors = space.where(bounded, errors, zeros_like(errors))
        return weight_gradient(problem, activities, errors)

    ours = weight_gradient(problem, relaxed.activities, relaxed.errors)
    return size, TrustRegion(
        predicted=displacement(errors, activities),
        relaxed=displacement(settled, relaxed.activities),
        relaxation=relaxed,
        bounded=bounded,
        unsolved=unsolved,
        difference=_ratio(apart, settled_length),
        cosine=cosine,
        overall_difference=jnp.where(bounded.any(), overall, jnp.inf),
        overall_cosine=jnp.sum(cosine * shares),
        cosine_to_backprop=_cosine_to_loss(problem, ours),
        cosine_to_trust_region=_cosine(
            bounded_gradient(relaxed.activities, relaxed.errors),
            bounded_gradient(activities, predicted_errors),
        ),
    )


def _cosine_to_loss(problem: Problem, gradient: Network) -> Float[Array, ""]:
    """The cosine with backprop's gradient; statistics of a batch normalization are constants."""
    if not is_feedforward(problem):
        return jnp.full((), jnp.nan, problem.network.dtype)
    learned, rest = split(problem.network)

    def loss(learned: Network) -> Array:
        there = problem.with_network(eqx.combine(learned, rest))
        return there.loss(there.feedforward()).mean()

    return _cosine(gradient, jax.grad(loss)(learned))


def _unit(space: VectorSpace, entries: Entries) -> Entries:
    """The entries at length 1 for every example, zero where they are."""
    size = space.norm(entries)
    return space.scale(1 / jnp.where(size > 0, size, 1), entries)


def _length(vector: Array) -> Array:
    """The Euclidean norm; squares of small entries do not vanish."""
    largest = jnp.max(jnp.abs(vector))
    return largest * jnp.linalg.norm(vector / jnp.where(largest > 0, largest, 1))


def _direction(vector: Array) -> Array:
    length = _length(vector)
    return vector / jnp.where(length > 0, length, 1)


def _cosine(a: Network, b: Network) -> Float[Array, ""]:
    return _direction(ravel_pytree(a)[0]) @ _direction(ravel_pytree(b)[0])


def _ratio(above: Array, below: Array) -> Array:
    """`above / below`; where below is zero, 0 if above is and infinite if not."""
    missing = jnp.where(above > 0, jnp.inf, 0)
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), missing)
