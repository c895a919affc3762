"""How hard inference is: the Hessian of the energy in the activities, and in the errors."""

from __future__ import annotations

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from fathomx.checks import Bytes, Count, CountOrZero, Positive, gate
from fathomx.checks.names import unknown
from fathomx.graph.vector_space import Entries
from fathomx.problem.energies import node_energies
from fathomx.problem.problem import Problem
from fathomx.theory.landscape import DENSE_UP_TO, MOST_BYTES, extreme_eigenvalues, lanczos

# Rows of the Hessian computed at a time.
_ROWS = 64
_MOST_STEPS = 1e9
_FIRST_PRODUCTS, _MOST_PRODUCTS = 64, 1024
# Predicted steps are refined until twice the products change them by less.
_AGREEMENT = 0.005


@gate
class Extremes(eqx.Module):
    """The ends of a Hessian's spectrum, and what they say about gradient descent.

    **Fields**: `smallest` and `largest`, the extreme eigenvalues.

    ```python
    found = fx.theory.StateHessian(problem).extremes()
    fx.StateDescent(optax.sgd(found.best_step))
    ```
    """

    smallest: float
    largest: float

    @property
    def condition_number(self) -> float:
        """`largest / smallest`, at least 1; infinite unless all eigenvalues are positive."""
        return self.largest / self.smallest if self.smallest > 0 else math.inf

    @property
    def stable_step(self) -> float:
        """`2 / largest`: gradient descent diverges at higher rates. Infinite without curvature."""
        return 2 / self.largest if self.largest > 0 else math.inf

    @property
    def best_step(self) -> float:
        """`2 / (smallest + largest)`, the fixed rate that is fastest in the worst case.

        The gradient then falls by at least `(kappa - 1) / (kappa + 1)` in every step, with the
        condition number `kappa`. NaN unless all eigenvalues are positive: no rate converges then.
        """
        return 2 / (self.smallest + self.largest) if self.smallest > 0 else math.nan

    def nesterov(self) -> optax.GradientTransformation:
        """Gradient descent with the momentum of Nesterov that suits the spectrum.

            rate 1 / largest,    momentum (sqrt(kappa) - 1) / (sqrt(kappa) + 1)

        The gradient then falls by at least about `1 - 1 / sqrt(kappa)` in every step, with the
        condition number `kappa`, where plain descent falls by `1 - 2 / kappa`: in deep networks
        the number of steps grows like the square root of what it did.

        Raises `ValueError` unless all eigenvalues are positive.

        ```python
        found = fx.theory.StateHessian(problem).extremes()
        fx.infer(problem, fx.StateDescent(found.nesterov(), steps=500))
        ```

        Source: Nesterov (2004), "Introductory Lectures on Convex Optimization", section 2.2.
        """
        if self.smallest <= 0:
            raise ValueError(
                f"the smallest eigenvalue is {self.smallest:.3g}, so that no momentum is best; "
                "take the Hessian at equilibrium, or give optax.sgd a rate of your own."
            )
        root = math.sqrt(self.condition_number)
        return optax.sgd(1 / self.largest, momentum=(root - 1) / (root + 1), nesterov=True)


@gate
class ActivityHessian(eqx.Module):
    """The Hessian of the energy of one example in the coordinates that inference moves.

    `StateHessian` takes it in the hidden activities, `ErrorHessian` in the hidden errors. It says
    how large a step of gradient descent may be, and how many steps equilibrium takes.

    **Arguments**

    * `problem`: an `fx.Problem` with a batch of one. Where the network is linear in its activities
      and the output Gaussian, the Hessian is the same at all points and for all examples.
    * `at`: hidden activities, such as `relaxed.activities` of one example, whichever the
      coordinates; by default those of the feedforward pass.

    Vectors and matrices run over the hidden nodes in the order of `network.labels`, the activities
    of each node flattened. Entries are as in an `fx.Relaxation`, with a batch axis of length 1.

    Raises `ValueError` for a batch of several examples, and activities that do not fit.
    """

    problem: Problem
    at: Entries
    # Positions of what is free in entries that are clamped in part.
    _places: dict[str, Array]

    def __init__(self, problem: Problem, at: Entries | None = None) -> None:
        if problem.batch != 1:
            raise ValueError(
                f"every example has its own Hessian, but the problem has {problem.batch} examples; "
                "take one of them, as in fx.Problem(network, x[:1], y[:1])."
            )
        self.problem = problem
        self._places = {
            name: jnp.flatnonzero(~problem.clamps[name].mask.ravel())
            for name in problem.free
            if name in problem.clamps
        }
        activities = _feedforward(problem) if at is None else _checked(problem, "activities", at)
        self.at = self.coordinates(activities)

    @abc.abstractmethod
    def coordinates(self, activities: Entries) -> Entries:
        """The point with these hidden activities, in the coordinates of this Hessian."""

    @abc.abstractmethod
    def energy(self, coordinates: Entries) -> Float[Array, ""]:
        """The energy F at a point given in the coordinates of this Hessian."""

    @abc.abstractmethod
    def in_errors(self, gradient: Entries) -> Entries:
        """`dF/de` from the gradient in the coordinates of this Hessian."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the nodes that are free, the blocks of the Hessian."""
        entries = map(self.problem.network.entry, self.problem.free)
        return tuple(label for entry in entries for label in entry.labels)

    @property
    def size(self) -> int:
        """Number of activities that are free."""
        shapes = self.problem.network.shapes
        places = self._places
        return sum(
            places[n].size if n in places else math.prod(shapes[n]) for n in self.problem.free
        )

    def product(self, entries: Entries) -> Entries:
        """`H v` for hidden entries `v`, at about the cost of two gradients.

        Raises `ValueError` for entries that do not fit.

        ```python
        hessian.product(relaxed.errors)
        ```
        """
        checked = _checked(self.problem, "entries", entries)
        return self._entries(_product(self, self._vector(checked)))

    def dense(self, *, most_bytes: Bytes = MOST_BYTES) -> Float[Array, "size size"]:
        """The whole matrix, by one product per activity.

        Raises `ValueError` if it alone would take more than `most_bytes`, and if it is not finite.

        ```python
        jnp.linalg.eigvalsh(fx.theory.ErrorHessian(problem).dense())
        ```
        """
        rows = self._rows(0, self.size, most_bytes)
        return 0.5 * (rows + rows.T)

    def block(
        self, row: str, column: str, *, most_bytes: Bytes = MOST_BYTES
    ) -> Float[Array, "rows columns"]:
        """The second derivatives in one node's activities (rows) and another's (columns).

        By one product per activity of the node `column`. Raises `ValueError` for names that are not
        in `labels`, if the products would take more than `most_bytes`, and if they are not finite.

        ```python
        hessian.block("hidden[1]", "hidden[0]")
        ```
        """
        for label in (row, column):
            if label not in self.labels:
                raise ValueError(unknown("hidden node", label, self.labels))
        units = self._units()
        begins = dict(zip(self.labels, np.cumsum([0, *units]).tolist(), strict=False))
        widths = dict(zip(self.labels, units, strict=True))
        rows = self._rows(begins[column], widths[column], most_bytes)
        return rows[:, begins[row] : begins[row] + widths[row]].T

    def extremes(
        self,
        *,
        dense_up_to: CountOrZero = DENSE_UP_TO,
        products: Count | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Extremes:
        """The smallest and the largest eigenvalue, and with them the rates of gradient descent.

        Up to `dense_up_to` activities the Hessian is built and decomposed. Above, Lanczos
        iterations on products with vectors (`scipy.sparse.linalg.eigsh`, to rounding) begin at a
        random vector that `key` draws (`jax.random.key(0)` unless given). Either way eigenvalues
        are exact up to the rounding of the largest: condition numbers beyond that of the network's
        type, 1e7 in float32, are not to be trusted.

        Large networks with large condition numbers take thousands of products that way. With a
        number of `products`, at least 2, the extremes are those in the Krylov space of so many: the
        largest is approached from below, the smallest from above. Of 65,024 activities at a
        condition number of 5e4, 256 products give the largest to 1e-5, the smallest to about 30%.

        Raises `ValueError` for a Hessian that is not finite, and for fewer than two products.

        ```python
        fx.theory.StateHessian(problem).extremes().condition_number
        ```
        """
        if products is not None and products < 2:
            raise ValueError(f"products must be at least 2, for two ends, not {products}.")
        if self.size <= dense_up_to:
            values = np.linalg.eigvalsh(np.asarray(self.dense()))
            return Extremes(float(values[0]), float(values[-1]))
        key = jax.random.key(0) if key is None else key
        if products is not None:
            start = jax.random.normal(key, (self.size,), self.problem.network.dtype)
            diagonal, beside = lanczos(lambda vector: _product(self, vector), start, products)
            values = np.linalg.eigvalsh(_tridiagonal(diagonal, beside))
            return Extremes(float(values[0]), float(values[-1]))
        (smallest, largest), _ = extreme_eigenvalues(
            lambda vector: _product(self, vector), self._vector(self.at), key
        )
        return Extremes(smallest, largest)

    def predicted_steps(
        self,
        rate: Positive,
        tolerance: float = 1e-3,
        *,
        dense_up_to: CountOrZero = DENSE_UP_TO,
        most_products: Count = _MOST_PRODUCTS,
    ) -> float:
        """Steps of gradient descent from the feedforward pass until `unsettled <= tolerance`.

            g_t = (I - rate H)^t g_0,    unsettled = ||dF/de at step t|| / ||dF/de at step 0||

        of `fx.StateDescent(optax.sgd(rate), steps)` or `fx.ErrorDescent(...)`, whichever descends
        in these coordinates. The tolerance is that of the certificate, which is measured in error
        coordinates for every solver, so that the steps of solvers can be compared. In state
        coordinates `dF/de = (dz/de)^T g_t`; its norm may rise before it falls.

        A whole number: exact where the gradient falls steadily, else within 2% of the first step
        that qualifies. Infinite where the descent diverges (`rate` of `stable_step` or above, or a
        negative eigenvalue), and for more than 1e9 steps. Rounding, which ends every descent
        somewhere, is not predicted.

        Lanczos iterations from `g_0` follow the gradient with far fewer products than steps. Where
        the first 64 do not settle it, a Hessian of up to `dense_up_to` activities is built and
        decomposed; for larger ones the iterations are doubled until the prediction changes by less
        than 0.5%, up to `most_products` in the last round.

        On networks linear in their activities with a Gaussian output this is the descent itself. On
        others the Hessian changes on the way, and it is an estimate; take it at the equilibrium.

        Raises `ValueError` for a rate that is not positive, a tolerance out of 0..1, a Hessian that
        is not finite, and where `most_products` are not enough.

        ```python
        hessian = fx.theory.StateHessian(problem)
        hessian.predicted_steps(hessian.extremes().best_step, tolerance=1e-3)
        ```
        """
        if not 0 < tolerance < 1:
            raise ValueError(f"tolerance must lie between 0 and 1, not {tolerance!r}.")
        gradient = _start_gradient(self)
        if not np.any(np.asarray(gradient)):
            return 0.0
        before, products = math.nan, min(_FIRST_PRODUCTS, most_products)
        while True:
            course = _Course.projected(self, gradient, products)
            steps = course.steps(rate, tolerance)
            # As many iterations as steps represent the gradient exactly.
            known = steps < products or products > len(course.curvatures)
            if known or math.isinf(steps) or abs(steps - before) <= _AGREEMENT * steps:
                return steps
            if self.size <= dense_up_to:
                return _Course.decomposed(self, gradient).steps(rate, tolerance)
            if products == most_products:
                raise ValueError(
                    f"{products} Lanczos iterations do not settle the number of steps (about "
                    f"{steps:.0f}, probably more); raise most_products, or the tolerance."
                )
            before, products = steps, min(2 * products, most_products)

    def _rows(self, begin: int, count: int, most_bytes: int) -> Array:
        taken = count * self.size * jnp.dtype(self.problem.network.dtype).itemsize
        if taken > most_bytes:
            raise ValueError(
                f"{count:,} columns of the Hessian of {self.size:,} activities take "
                f"{taken / 2**30:.1f} GiB, more than the {most_bytes / 2**30:.1f} GiB allowed; use "
                "product or extremes, which need products with vectors only, or raise most_bytes."
            )
        rows: Array = _unit_products(self, jnp.asarray(begin), count)
        if not np.isfinite(np.asarray(rows)).all():
            raise ValueError(
                "the Hessian of the activities is not finite here: the weights or activities are "
                "too large for their type; scale the weights down, or compute in float64."
            )
        return rows

    def _vector(self, entries: Entries) -> Float[Array, " size"]:
        def free(name: str) -> Array:
            flat = entries[name].ravel()
            return flat[self._places[name]] if name in self._places else flat

        return jnp.concatenate([free(name) for name in self.problem.free])

    def _entries(self, vector: Float[Array, " size"]) -> Entries:
        like, found, begin = self.problem.zeros(), {}, 0
        for name in self.problem.free:
            places = self._places.get(name)
            size = like[name].size if places is None else places.size
            part = vector[begin : begin + size]
            if places is not None:
                part = jnp.zeros(like[name].size, part.dtype).at[places].set(part)
            found[name] = part.reshape(like[name].shape)
            begin += size
        return found

    def _units(self) -> list[int]:
        """Number of free activities of every node."""
        network, units = self.problem.network, []
        for name in self.problem.free:
            entry = network.entry(name)
            whole = entry.units(network.shapes[name])
            if name not in self._places:
                units += whole
                continue
            nodes = np.asarray(self._places[name]) // whole[0]
            units += np.bincount(nodes, minlength=entry.depth).tolist()
        return units


@gate
class StateHessian(ActivityHessian):
    """The Hessian `d2F/dz2` in the hidden activities: what state descent meets.

    Nodes interact with parents, children and co-parents alone. In a linear chain it is
    block-tridiagonal, with the weights `W_l` and at the output `pi_L = lambda`,

        H_l,l = pi_l I + pi_{l+1} W_{l+1}^T W_{l+1},    H_{l+1},l = -pi_{l+1} W_{l+1}

    and its condition number grows with depth. Arguments and errors: see `ActivityHessian`.

    ```python
    hessian = fx.theory.StateHessian(problem)
    hessian.extremes().condition_number, hessian.block("hidden[1]", "hidden[0]")
    ```

    Source: Innocenti et al. (2025), arXiv 2505.13124, there for linear chains and skips. Ours: by
    differentiation of the energy, so for any network, precision and point.
    """

    def coordinates(self, activities: Entries) -> Entries:
        return activities

    def energy(self, coordinates: Entries) -> Float[Array, ""]:
        return node_energies(self.problem, coordinates).sum()

    def in_errors(self, gradient: Entries) -> Entries:
        """`dF/de = (dz/de)^T dF/dz`, by one reverse pass."""
        errors = self.problem.errors_of(self.at)
        _, pull = jax.vjp(lambda e: self.problem.explain(e)[1], errors)
        pulled: Entries = pull(gradient)[0]
        return pulled


@gate
class ErrorHessian(ActivityHessian):
    """The Hessian `d2F/de2` in the hidden errors: what error descent meets.

        H = Pi + J^T G J + second derivatives of the prediction

    with the precisions `Pi` of the hidden nodes, the derivative `J` of the output's prediction in
    the errors and the Hessian `G` of the output's energy, `lambda I` if it is Gaussian. In a
    network linear in its activities the second derivatives vanish, and with equal precisions `pi`
    all eigenvalues are `pi` but as many as there are outputs, at any depth. It is that in
    activities in other coordinates, `(dz/de)^T H_z (dz/de)`, at equilibrium and on linear
    networks everywhere. Arguments and errors: see `ActivityHessian`.

    ```python
    fx.theory.ErrorHessian(problem).extremes().stable_step
    ```

    Source: the coordinates are those of Goemaere et al. (2025), arXiv 2505.20137; ours: the Hessian
    itself, by differentiation of the energy.
    """

    def coordinates(self, activities: Entries) -> Entries:
        return _errors_of(self.problem, activities)

    def energy(self, coordinates: Entries) -> Float[Array, ""]:
        return self.problem.total(coordinates).sum()

    def in_errors(self, gradient: Entries) -> Entries:
        return gradient


class _Course(eqx.Module):
    """The gradient's way down: `||dF/de||` is the norm of `parts @ (1 - rate curvatures)^t`."""

    curvatures: np.ndarray
    parts: np.ndarray

    @classmethod
    def decomposed(cls, hessian: ActivityHessian, gradient: Array) -> _Course:
        """The whole course, from all eigenvectors."""
        values, vectors = np.linalg.eigh(np.asarray(hessian.dense()))
        components = np.asarray(gradient) @ vectors
        return cls.of(hessian, values, (vectors * components).T)

    @classmethod
    def projected(cls, hessian: ActivityHessian, gradient: Array, products: int) -> _Course:
        """The course within the Krylov space of the start's gradient."""
        basis = []

        def product(vector: Array) -> Array:
            # Lanczos iterations multiply every vector of their basis once, in its order.
            basis.append(np.asarray(vector))
            bent: Array = _product(hessian, vector)
            return bent

        diagonal, beside = lanczos(product, gradient, min(products, hessian.size))
        values, vectors = np.linalg.eigh(_tridiagonal(diagonal, beside))
        return cls.of(hessian, values, (vectors * vectors[0]).T @ np.stack(basis))

    @classmethod
    def of(cls, hessian: ActivityHessian, values: np.ndarray, modes: np.ndarray) -> _Course:
        """`modes` are the start's gradient cut into one row for each curvature."""
        rows = jnp.asarray(modes, hessian.problem.network.dtype)
        images = np.asarray(_in_errors(hessian, rows), np.float64)
        # The norms that combinations of the rows have, in as few numbers as there are rows.
        return cls(values.astype(np.float64), np.asarray(np.linalg.qr(images.T, mode="r")))

    def steps(self, rate: Positive, tolerance: float) -> float:
        """The fewest steps after which the norm is at most `tolerance` times that at the start."""
        factors = 1 - rate * self.curvatures
        if np.abs(factors).max() >= 1:
            return math.inf
        aim = tolerance * self._norms(factors, np.zeros(1))[0]
        # The norm may rise before it falls: look closely first, bisect between two looks after.
        count = math.ceil(math.log(_MOST_STEPS, 1.02))
        looks = np.unique(np.round(1.02 ** np.arange(count + 1)))
        reached = np.flatnonzero(self._norms(factors, looks) <= aim)
        if not reached.size:
            return math.inf
        first = int(reached[0])
        low, high = (float(looks[first - 1]) if first else 0.0), float(looks[first])
        while high - low > 1:
            middle = (low + high) // 2
            if self._norms(factors, np.asarray([middle]))[0] <= aim:
                high = middle
            else:
                low = middle
        return high

    def _norms(self, factors: np.ndarray, steps: np.ndarray) -> np.ndarray:
        norms: np.ndarray = np.linalg.norm(self.parts @ factors[:, None] ** steps, axis=0)
        return norms


def _tridiagonal(diagonal: np.ndarray, beside: np.ndarray) -> np.ndarray:
    return np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)


@eqx.filter_jit
def _feedforward(problem: Problem) -> Entries:
    return problem.explain({})[1]


@eqx.filter_jit
def _errors_of(problem: Problem, activities: Entries) -> Entries:
    return problem.errors_of(activities)


@eqx.filter_jit
def _product(hessian: ActivityHessian, vector: Array) -> Array:
    tangent = hessian._entries(vector)
    return hessian._vector(jax.jvp(jax.grad(hessian.energy), (hessian.at,), (tangent,))[1])


@eqx.filter_jit
def _unit_products(hessian: ActivityHessian, begin: Array, count: int) -> Array:
    """The products with `count` unit vectors from the position `begin` on, as rows."""
    _, push = jax.linearize(jax.grad(hessian.energy), hessian.at)

    def row(position: Array) -> Array:
        unit = jnp.zeros(hessian.size, hessian.problem.network.dtype).at[position].set(1)
        return hessian._vector(push(hessian._entries(unit)))

    rows: Array = jax.lax.map(row, begin + jnp.arange(count), batch_size=min(_ROWS, count))
    return rows


@eqx.filter_jit
def _start_gradient(hessian: ActivityHessian) -> Array:
    start = hessian.coordinates(_feedforward(hessian.problem))
    return hessian._vector(jax.grad(hessian.energy)(start))


@eqx.filter_jit
def _in_errors(hessian: ActivityHessian, rows: Array) -> Array:
    def row(vector: Array) -> Array:
        return hessian._vector(hessian.in_errors(hessian._entries(vector)))

    pulled: Array = jax.lax.map(row, rows, batch_size=min(_ROWS, rows.shape[0]))
    return pulled


def _checked(problem: Problem, what: str, entries: Any) -> Entries:
    """The free entries alone, in the type of the network; `ValueError` if they do not fit."""
    checked: Entries = {}
    for name, like in problem.zeros().items():
        given = jnp.shape(entries[name]) if name in entries else "nothing"
        if given != like.shape:
            raise ValueError(
                f"the {what} hold {given} for {name!r}, but one example takes {like.shape}; give "
                "entries as in the activities of a relaxation with a batch of one."
            )
        checked[name] = jnp.asarray(entries[name], like.dtype)
    return checked
