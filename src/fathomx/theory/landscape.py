"""The landscape of the loss and of the equilibrated energy over the weights: are saddles strict?"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Num, PRNGKeyArray

from fathomx.checks import Bytes, Count, CountOrZero, OfOne, Positive, example, gate
from fathomx.graph.network import Network
from fathomx.graph.statistics import split
from fathomx.graph.vector_space import Entries
from fathomx.inference import Solver, infer
from fathomx.learning.backprop import check_feedforward
from fathomx.problem.problem import Problem
from fathomx.problem.rescaling import has_closed_form
from fathomx.theory.equilibrated_energy import (
    energy_around,
    equilibrated_energy,
    relaxing_solver,
)

Function = Callable[[Network], Array]
DENSE_UP_TO = 2000
MOST_BYTES = 2 * 2**30
TOLERANCE = 1e-6
_PROBES, _LANCZOS_STEPS = 8, 80
_ROWS = 64
_BASIS = 40
_RESOLUTION = 1e-3


@example("fx.theory.Loss(x, y)")
@gate
class Objective(eqx.Module):
    """A scalar function of a network's weights, on fixed data: a landscape.

    **Fields**: `x` and `y`, as `fx.Problem` takes them (`x` may hold clamps by name, without `y`);
    `output_precision`, by default that of the output node's energy.
    """

    x: Any
    y: Any = None
    output_precision: Any = None

    def problem(self, network: Network) -> Problem:
        """The data posed to a network."""
        return Problem(network, self.x, self.y, self.output_precision)

    @abc.abstractmethod
    def __call__(self, network: Network) -> Float[Array, ""]:
        """The value, mean over the examples."""

    def around(self, network: Network) -> Function:
        """A function with the same value, gradient and Hessian at this network."""
        return self


@gate
class Loss(Objective):
    """The output energy of the feedforward pass: what backprop descends.

        L(theta) = lambda mean_i E_out(y_i, mu_i)

    ```python
    fx.theory.Loss(x, y)(network)
    ```
    """

    def __call__(self, network: Network) -> Float[Array, ""]:
        problem = self.problem(network)
        check_feedforward(problem)
        return problem.explained_energy(problem.feedforward()).mean()


@gate
class EquilibratedEnergy(Objective):
    """The energy at equilibrium: what predictive coding descends. See `equilibrated_energy`.

    **Fields**: those of every `Objective`, and `solver` for networks without a closed form.

    ```python
    fx.theory.spectrum(fx.theory.EquilibratedEnergy(x, y), network).verdict
    ```
    """

    solver: Solver | None = None

    def __call__(self, network: Network) -> Float[Array, ""]:
        return equilibrated_energy(self.problem(network), solver=self.solver).energy

    def around(self, network: Network) -> Function:
        """Relaxes once, here; around the equilibrium the energy is known to second order."""
        problem = self.problem(network)
        if self.solver is None and has_closed_form(problem):
            return self
        errors = infer(problem, self.solver or relaxing_solver(network)).errors
        return _Relaxed(problem, errors)


class _Relaxed(eqx.Module):
    """The equilibrated energy around the weights whose equilibrium is at these errors."""

    problem: Problem
    errors: Entries

    def __call__(self, network: Network) -> Float[Array, ""]:
        return energy_around(self.problem.with_network(network), self.errors).mean()


@gate
def gradient(objective: Objective, network: Network) -> Float[Array, " weights"]:
    """The gradient in all weights, as one vector in the order of `jax.flatten_util.ravel_pytree`.

    ```python
    jnp.linalg.norm(fx.theory.gradient(fx.theory.Loss(x, y), network))
    ```
    """
    slope: Array = _value_and_gradient(objective.around(network), network)[1]
    return slope


@gate
def hessian(
    objective: Objective, network: Network, *, most_bytes: Bytes = MOST_BYTES
) -> Float[Array, "weights weights"]:
    """The Hessian in all weights, `(weights, weights)`, by one Hessian-vector product per weight.

    Raises `ValueError` if the matrix alone would take more than `most_bytes`, and if it is not
    finite.

    ```python
    jnp.linalg.eigvalsh(fx.theory.hessian(fx.theory.Loss(x, y), network))
    ```
    """
    flat = _vector(network)
    size, bytes_each = flat.size, flat.dtype.itemsize
    if size**2 * bytes_each > most_bytes:
        raise ValueError(
            f"the Hessian of {size:,} weights takes {size**2 * bytes_each / 2**30:.1f} GiB, more "
            f"than the {most_bytes / 2**30:.1f} GiB allowed; use spectrum, which needs products "
            "with vectors only, or raise most_bytes."
        )
    matrix = _hessian(objective.around(network), network)
    _checked(matrix)
    return matrix


@gate
def hessian_product(objective: Objective, network: Network) -> tuple[Callable[[Array], Array], int]:
    """A compiled `v -> H v` for flat vectors, and their length: for any matrix-free method.

    Inference, where it is needed, has run already; a product costs about two gradients, and for
    networks without a closed form a solve with the Hessian of the activities.
    """
    return _products(objective.around(network), network), _vector(network).size


@gate
class Spectrum(eqx.Module):
    """What the Hessian says about a point of a landscape.

    **Fields**

    * `value`, `gradient_norm`: of the objective at the point.
    * `size`: number of weights.
    * `smallest`, `largest`: extreme eigenvalues.
    * `negative_count`, `negative_mass`: number of eigenvalues below `-threshold`, and minus their
      sum; estimates if `eigenvalues` is `None`.
    * `threshold`: `tolerance * scale`, but at least `0.001 * scale` for the estimates, which cannot
      tell smaller eigenvalues from zero.
    * `eigenvalues`: all, ascending, if the Hessian was small enough to be built, else `None`.
    * `direction`: unit eigenvector of the smallest eigenvalue, flat.
    * `tolerance`: what counts as zero, relative to `scale`.
    """

    value: float
    gradient_norm: float
    size: int
    smallest: float
    largest: float
    negative_count: float
    negative_mass: float
    threshold: float
    eigenvalues: np.ndarray | None
    direction: np.ndarray
    tolerance: float

    @property
    def scale(self) -> float:
        """What eigenvalues and gradients are compared with: the largest eigenvalue in size, or the
        value of the objective where that is larger."""
        return max(abs(self.smallest), abs(self.largest), abs(self.value))

    @property
    def verdict(self) -> str:
        """`"not critical"`, `"strict"` or `"non-strict"`.

        Critical if the gradient's norm is at most `tolerance * scale`. Then strict if the smallest
        eigenvalue is below `-tolerance * scale`: gradient descent leaves along its eigenvector.
        Else no direction is seen at second order: a minimum, or a saddle that is not strict.
        """
        if self.gradient_norm > self.tolerance * self.scale:
            return "not critical"
        return "strict" if self.smallest < -self.tolerance * self.scale else "non-strict"


@gate
def spectrum(
    objective: Objective,
    network: Network,
    *,
    tolerance: float = TOLERANCE,
    dense_up_to: CountOrZero = DENSE_UP_TO,
    key: PRNGKeyArray | None = None,
) -> Spectrum:
    """Eigenvalues of the Hessian of a landscape at a network, and the verdict about a saddle.

    Up to `dense_up_to` weights the Hessian is built and decomposed. Above, Lanczos iterations on
    products with vectors give the extreme eigenvalues (`scipy.sparse.linalg.eigsh`, to rounding),
    and stochastic quadrature an estimate of how many are negative and of their sum; `key` draws its
    probes (`jax.random.key(0)` unless given).

    Raises `ValueError` for products that are not finite, and for a `tolerance` out of 0..1.

    ```python
    found = fx.theory.spectrum(fx.theory.EquilibratedEnergy(x, y), fx.theory.origin(network))
    found.smallest, found.verdict
    ```

    Source of the quadrature: Ubaru, Chen and Saad (2017), with full reorthogonalization.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie between 0 and 1, not {tolerance!r}.")
    function, flat = objective.around(network), _vector(network)
    value, slope = _value_and_gradient(function, network)
    if flat.size <= dense_up_to:
        values, vectors = np.linalg.eigh(_checked(_hessian(function, network)))
        weights, resolution = np.ones(flat.size), tolerance
        ends = (float(values[0]), float(values[-1]))
        direction = vectors[:, 0]
    else:
        product = _products(function, network)
        key = jax.random.key(0) if key is None else key
        ends, direction = extreme_eigenvalues(product, flat, key)
        values, weights = _quadrature(product, flat, key)
        resolution = max(tolerance, _RESOLUTION)
    threshold = resolution * max(*map(abs, ends), abs(float(value)))
    negative = values < -threshold
    return Spectrum(
        value=float(value),
        gradient_norm=float(jnp.linalg.norm(slope)),
        size=flat.size,
        tolerance=tolerance,
        smallest=ends[0],
        largest=ends[1],
        negative_count=float(weights[negative].sum()),
        negative_mass=float(-(weights * values)[negative].sum()),
        threshold=threshold,
        eigenvalues=values if flat.size <= dense_up_to else None,
        direction=direction,
    )


@gate
class Plane(eqx.Module):
    """Values of a landscape over a plane through a network.

    **Fields**: `first` and `second`, `(points,)`, the coordinates along the two directions, and
    `values`, `(points, points)`, indexed `[second, first]` as a picture is.
    """

    first: np.ndarray
    second: np.ndarray
    values: np.ndarray


@gate
def plane(
    objective: Objective,
    network: Network,
    directions: tuple[Array, Array],
    *,
    radius: Positive = 1.0,
    points: Count = 41,
) -> Plane:
    """The objective at `theta + a d_1 + b d_2` for `a` and `b` from `-radius` to `radius`.

    `directions` are two flat vectors in the order of `gradient`, taken as they are: eigenvectors,
    coordinate axes or anything else. Networks without a closed form are relaxed at every point.

    Raises `ValueError` for directions of another length, and fewer than two points.

    ```python
    fx.theory.plane(fx.theory.Loss(x, y), origin, (steepest, other), radius=0.5)
    ```
    """
    flat = _vector(network)
    if points < 2:
        raise ValueError(f"a plane needs at least 2 points along a direction, not {points}.")
    axes = [jnp.asarray(direction, flat.dtype) for direction in directions]
    if any(axis.shape != flat.shape for axis in axes):
        raise ValueError(
            f"the directions have shapes {', '.join(str(a.shape) for a in axes)}, but the network "
            f"has {flat.size} weights: give two vectors of shape {flat.shape}."
        )
    if not all(np.isfinite(axis).all() for axis in axes):
        raise ValueError("the directions hold values that are NaN or infinite; give finite ones.")
    ticks = jnp.linspace(-radius, radius, points, dtype=flat.dtype)

    values = _values(objective, network, (axes[0], axes[1]), ticks)
    return Plane(np.asarray(ticks), np.asarray(ticks), np.asarray(values))


_NOT_FINITE = (
    "the Hessian is not finite here: the weights are too large for their type, or the network has "
    "no second derivative at this point; scale the weights down, or compute in float64."
)


# The compiled functions take the objective and the network as arguments, not as constants, so that
# another saddle or another seed of the same network does not compile again.
def _vector(network: Network) -> Array:
    return ravel_pytree(split(network)[0])[0]


def _of_vector(function: Function, network: Network) -> Callable[[Array], Array]:
    learned, rest = split(network)
    unflatten = ravel_pytree(learned)[1]
    return lambda vector: function(eqx.combine(unflatten(vector), rest))


@eqx.filter_jit
def _value_and_gradient(function: Function, network: Network) -> tuple[Array, Array]:
    return jax.value_and_grad(_of_vector(function, network))(_vector(network))


@eqx.filter_jit
def _product(function: Function, network: Network, vector: Array) -> Array:
    slope = jax.grad(_of_vector(function, network))
    bent: Array = jax.jvp(slope, (_vector(network),), (vector,))[1]
    return bent


def _products(function: Function, network: Network) -> Callable[[Array], Array]:
    return lambda vector: _product(function, network, vector)


@eqx.filter_jit
def _hessian(function: Function, network: Network) -> Array:
    flat = _vector(network)
    _, product = jax.linearize(jax.grad(_of_vector(function, network)), flat)
    matrix = jax.lax.map(product, jnp.eye(flat.size, dtype=flat.dtype), batch_size=_ROWS)
    return 0.5 * (matrix + matrix.T)


@eqx.filter_jit
def _values(function: Function, network: Network, axes: tuple[Array, Array], ticks: Array) -> Array:
    value, flat = _of_vector(function, network), _vector(network)

    def row(b: Array) -> Array:
        return jax.lax.map(lambda a: value(flat + a * axes[0] + b * axes[1]), ticks)

    return jax.lax.map(row, ticks)


def _checked(matrix: Array) -> np.ndarray:
    found = np.asarray(matrix)
    if not np.isfinite(found).all():
        raise ValueError(_NOT_FINITE)
    return found


def extreme_eigenvalues(
    product: Callable[[Array], Array], flat: Array, key: PRNGKeyArray
) -> tuple[tuple[float, float], np.ndarray]:
    """Smallest and largest eigenvalue, and the eigenvector of the smallest."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    start = np.asarray(jax.random.normal(key, flat.shape, flat.dtype))
    image = np.asarray(product(jnp.asarray(start)))
    if not np.isfinite(image).all():
        raise ValueError(_NOT_FINITE)
    if not np.any(image):
        # No vector that Lanczos iterations could start from: the Hessian is zero.
        return (0.0, 0.0), start / np.linalg.norm(start)
    operator = LinearOperator(
        (flat.size, flat.size),
        matvec=lambda vector: np.asarray(product(jnp.asarray(vector.ravel(), flat.dtype))),
        dtype=flat.dtype,
    )
    size = min(_BASIS, flat.size)
    low, vectors = eigsh(operator, k=1, which="SA", v0=start, ncv=size)
    high, _ = eigsh(operator, k=1, which="LA", v0=start, ncv=size)
    return (float(low[0]), float(high[0])), vectors[:, 0]


def _quadrature(
    product: Callable[[Array], Array], flat: Array, key: PRNGKeyArray
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a quadrature for the spectrum: weights sum to the number of weights.

    The mean over random sign vectors of the Gauss quadrature that Lanczos iterations from each of
    them define.
    """
    values, weights = [], []
    for probe in jax.random.split(key, _PROBES):
        signs = jax.random.rademacher(probe, flat.shape, flat.dtype)
        diagonal, beside = lanczos(product, signs, min(_LANCZOS_STEPS, flat.size))
        ritz, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        values.append(ritz)
        weights.append(vectors[0] ** 2 * flat.size / _PROBES)
    return np.concatenate(values), np.concatenate(weights)


@gate
def lanczos(
    product: OfOne, start: Num[Array, "..."], steps: Count
) -> tuple[np.ndarray, np.ndarray]:
    """The tridiagonal matrix of a symmetric operator on the Krylov space of a vector.

    Its diagonal, `(k,)`, and what stands beside it, `(k - 1,)`, with `k` at most `steps`: fewer
    where the space ends. Every new vector is made orthogonal to all before it, twice, so that no
    eigenvalue appears that is not there.

    Source: Golub and Van Loan (2013), section 10.3.
    """
    start = start.astype(jnp.result_type(start, float))
    basis = [np.asarray(start) / np.linalg.norm(np.asarray(start))]
    diagonal, beside = [], []
    while True:
        bent = np.asarray(_product_of(product, jnp.asarray(basis[-1], start.dtype)))
        if not np.isfinite(bent).all():
            raise ValueError(_NOT_FINITE)
        diagonal.append(float(basis[-1] @ bent))
        if len(diagonal) == steps:
            break
        before = np.linalg.norm(bent)
        known = np.stack(basis)
        for _ in range(2):
            bent = bent - known.T @ (known @ bent)
        left = float(np.linalg.norm(bent))
        if not left > 100 * np.finfo(bent.dtype).eps * before:
            break
        beside.append(left)
        basis.append(bent / left)
    return np.asarray(diagonal), np.asarray(beside)


def _product_of(product: Callable[[Array], Array], vector: Array) -> Array:
    """The product with a vector; `ValueError` if the vector is none, or of another size."""
    refused = f"start must be a vector of the operator's size, not of shape {vector.shape}."
    if vector.ndim != 1:
        raise ValueError(refused)
    try:
        image = product(vector)
    except TypeError:
        raise ValueError(refused) from None
    if jnp.shape(image) != vector.shape:
        raise ValueError(refused)
    return image
