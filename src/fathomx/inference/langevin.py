"""Langevin dynamics: samples of the activities instead of their most probable value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from fathomx import checks
from fathomx.checks import Count, CountOrZero, NotNegative, Positive, gate
from fathomx.graph.statistics import with_fields
from fathomx.graph.vector_space import Entries
from fathomx.inference.base import Solver, SolverState, beginning
from fathomx.problem.evaluation import Evaluation, Linearization, evaluate
from fathomx.problem.problem import Problem


class LangevinState(SolverState):
    """Where the chain of every example stands, how many steps it took, and the roots of `M`."""

    here: Evaluation
    count: Int[Array, ""]
    roots: dict[str, Array]


@gate
class Langevin(Solver[LangevinState]):
    """Draws the free activities from their posterior, instead of finding its mode.

        e <- e - rate M dF/de + sqrt(2 rate T M) xi,        xi ~ N(0, I)

    a chain for every example whose distribution tends to `exp(-F / T)`, but for the length of its
    steps: of a quadratic energy with Hessian `H` (and `M = I`) to the covariance
    `T (H - rate H^2 / 2)^-1` instead of `T H^-1`. Errors and activities have unit determinant
    between them, so that samples of the one are samples of the other. Stable only while the rate
    times the largest eigenvalue of `M H` stays below 2.

    `fx.infer` returns the last sample, `fx.trace` all of them
    (`observe=lambda problem, here: here.activities`), `fx.average` a mean over those after the
    burn-in. Rules such as `fx.Equilibrium` learn from the mean of the gradient over these: then
    they ascend the likelihood of what is observed, and not the energy of the most probable
    activities alone. With nothing clamped (`fx.Problem(network, {}, batch=n)`) they are samples of
    the model. The certificate of a relaxation is that of its last sample, which is not meant to be
    settled.

    **Arguments**

    * `rate`: length of a step, positive.
    * `steps`: of the chain, at least 1.
    * `burn_in`: steps that are not counted, fewer than `steps`; 0 unless given.
    * `temperature`: `T`, at least 0; 1 unless given, 0 is error descent.
    * `preconditioner`: `M` by entry, positive: a number, an array that broadcasts to one activity,
      or, of a vector, a symmetric positive matrix. Entries that are not named have 1.

    `infer` needs a `key`; every example draws its own numbers, so that a chain is alike at any
    batch size.

    Raises `ValueError` for a burn-in as long as the chain, and for preconditioners that are not
    positive, or of entries that are not free.

    ```python
    relaxed, mean = fx.average(
        problem,
        fx.Langevin(1e-2, steps=1000, burn_in=200),
        lambda problem, here: here.activities["cause"],
        key=jax.random.key(0),
    )
    ```

    Source: Oliviers et al. (2024), doi 10.1371/journal.pcbi.1012532, in activities; Zahid et al.
    (2023), arXiv 2311.13664, with a preconditioner.
    """

    rate: float = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    burn_in: int = eqx.field(static=True)
    temperature: float = eqx.field(static=True)
    preconditioner: dict[str, Array]
    key: PRNGKeyArray | None

    def __init__(
        self,
        rate: Positive,
        steps: Count,
        burn_in: CountOrZero = 0,
        temperature: NotNegative = 1.0,
        preconditioner: Mapping[str, Any] | None = None,
    ) -> None:
        if burn_in >= steps:
            raise ValueError(
                f"burn_in is {burn_in}, but the chain has {steps} steps; give a longer chain, of "
                "which some samples are left."
            )
        self.rate, self.steps, self.burn_in = float(rate), steps, burn_in
        self.temperature = float(temperature)
        self.preconditioner = {
            name: _positive(name, value) for name, value in (preconditioner or {}).items()
        }
        self.key = None

    @property
    def needs_key(self) -> bool:
        return self.temperature > 0

    def with_key(self, key: PRNGKeyArray) -> Langevin:
        return with_fields(self, key=key)

    @property
    def max_steps(self) -> int:
        return self.steps

    @property
    def kept(self) -> int:
        return self.steps - self.burn_in

    def init(self, problem: Problem, start: Linearization, here: Evaluation) -> LangevinState:
        for name, matrix in self.preconditioner.items():
            self._check_entry(problem, name, matrix)
        shapes = problem.network.shapes
        # Once, and not in every step.
        roots = {
            name: jnp.linalg.cholesky(m) if _is_matrix(m, shapes[name]) else jnp.sqrt(m)
            for name, m in self.preconditioner.items()
        }
        return LangevinState(**beginning(here), here=here, count=jnp.asarray(0), roots=roots)

    def step(self, problem: Problem, state: LangevinState) -> LangevinState:
        here = state.here
        moved = {
            name: here.errors[name]
            - self.rate * _times(problem, self.preconditioner, name, gradient)
            for name, gradient in here.gradient.items()
        }
        if self.key is not None and self.temperature > 0:
            key = jax.random.fold_in(self.key, state.count)
            noise = {
                name: _times(problem, state.roots, name, drawn)
                for name, drawn in self._noise(problem, key).items()
            }
            size = (2 * self.rate * self.temperature) ** 0.5
            moved = {name: moved[name] + size * noise[name] for name in moved}
        there = evaluate(problem, problem.free_errors(moved))
        return LangevinState(
            previous_energy=here.energy,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1,
            here=there,
            count=state.count + 1,
            roots=state.roots,
        )

    def evaluation(self, problem: Problem, state: LangevinState) -> Evaluation:
        return state.here

    def _noise(self, problem: Problem, key: PRNGKeyArray) -> Entries:
        """`xi`, from a key of its own for every entry and example."""
        network, noise = problem.network, {}
        for place, name in enumerate(problem.free):
            own, axis = jax.random.fold_in(key, place), network.entry(name).batch_axis

            def drawn(example: Array, own: Any = own, shape: Any = network.shapes[name]) -> Array:
                return jax.random.normal(jax.random.fold_in(own, example), shape, network.dtype)

            noise[name] = jax.vmap(drawn, out_axes=axis)(jnp.arange(problem.batch))
        return noise

    def _check_entry(self, problem: Problem, name: str, matrix: Array) -> None:
        if name not in problem.free:
            raise ValueError(
                f"preconditioner names {name!r}, which is not free here; free are "
                f"{', '.join(map(repr, problem.free))}."
            )
        shape = problem.network.shapes[name]
        if _is_matrix(matrix, shape):
            return
        try:
            fits = jnp.broadcast_shapes(matrix.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"the preconditioner of {name!r} has the shape {matrix.shape}, which does not fit "
                f"one activity of it, {shape}; give a number, an array of that shape, or a matrix "
                "where the activity is a vector."
            )


def _times(problem: Problem, given: dict[str, Array], name: str, vector: Array) -> Array:
    """A matrix or a factor for an entry times a vector; the vector where there is none."""
    if name not in given:
        return vector
    found, shape = given[name].astype(vector.dtype), problem.network.shapes[name]
    if _is_matrix(found, shape):
        # Of every example: symmetric matrices and their lower roots alike.
        return vector @ found.T
    return vector * problem.network.entry(name).aligned(jnp.broadcast_to(found, shape), shape)


def _is_matrix(found: Array, shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 and found.shape == (*shape, *shape) and shape != (1,)


def _positive(name: str, value: Any) -> Array:
    """A preconditioner that is positive; of matrices the eigenvalues are."""
    found = checks.array(f"the preconditioner of {name!r}", value).astype(jnp.result_type(float))
    if checks.is_traced(found):
        return found
    plain = np.asarray(found, np.float64)
    square = plain.ndim == 2 and plain.shape[0] == plain.shape[1]
    finite = bool(plain.size) and bool(np.isfinite(plain).all())
    positive = finite and bool((plain > 0).all())
    if finite and square and np.allclose(plain, plain.T):
        positive = positive or bool(np.linalg.eigvalsh(plain).min() > 0)
    if not positive:
        raise ValueError(
            f"the preconditioner of {name!r} must be positive and finite (a matrix symmetric, with "
            "positive eigenvalues); give for example the inverse of a precision."
        )
    return found
