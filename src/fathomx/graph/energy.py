"""Energies: how much an activity disagrees with its prediction.

An energy belongs to an entry. What is inferred has a `Gaussian` energy; what is clamped may have
any: `Gaussian` (squared error), `Categorical` (cross-entropy of classes), `Bernoulli` (of several
labels at once), `Poisson` (counts), `Laplace` (absolute error), which makes its energy the loss and
its precision the output precision of the predictive coding literature.
"""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from fathomx import checks
from fathomx.checks import example, gate

# How far probabilities may sum from 1: those of half precision are rounded.
_SUM_OFF = 5e-3
# Of the mean absolute error of an example: errors below it bend as much as one of this size.
_LEAST_ERROR = 1e-2


@example("fx.Gaussian()")
@gate
class Energy(eqx.Module):
    """Energy of one entry, `precision * unit(target, prediction)`.

    **Fields**

    * `precision`: a positive, finite float; it scales the energy and is not trained.

    An energy of your own is a subclass with `unit`. Where it is a sum of terms that a mask may
    select (`fx.Clamp(value, mask)`), it defines `terms` as well; where its Hessian vanishes,
    `curvature`, without which Gauss-Newton has nothing to solve with; where `fx.sample` shall draw
    from it, `draw`. `takes_labels` says whether integer labels become one-hot vectors, `targets`
    what the targets are (`fx.Metric.suits`), and `judged_by` names the metric that predictions are
    judged by unless told otherwise; where labels become one-hot vectors, that is the accuracy.

    Raises `ValueError` for a precision that is not positive and finite.
    """

    takes_labels: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = ("values",)
    judged_by: ClassVar[str] = "rmse"

    precision: float = eqx.field(static=True, default=1.0, converter=float)

    @property
    def log_precision(self) -> Array | None:
        """The logarithm of a precision that learns, which only `Gaussian` has."""
        return None

    def __check_init__(self) -> None:
        if not (math.isfinite(self.precision) and self.precision > 0):
            raise ValueError(
                f"{type(self).__name__}(precision={self.precision!r}): a precision must be a "
                "positive, finite number; give for example precision=1.0."
            )

    @abc.abstractmethod
    def unit(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        """The energy of one example at precision 1: a scalar."""

    def number(self, target: Array, prediction: Array) -> Array:
        """What `unit` returns; raises `TypeError` if that is not one number."""
        found = self.unit(target, prediction)
        if jnp.shape(found):
            raise TypeError(
                f"unit of {type(self).__name__} returns an array of shape {jnp.shape(found)}, "
                "where the energy of an example is one number; return the sum, jnp.sum(...)."
            )
        return found

    def terms(self, target: Array, prediction: Array) -> Array | None:
        """What `unit` is the sum of, one term per unit or per position; `None` if undivided."""
        return None

    def unfit(self, target: Array) -> str | None:
        """What targets must be instead of what is given, and what to do; `None` if they fit."""
        return None

    def error(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        """Minus the gradient of `unit` in the prediction, shaped like the prediction.

        For `Gaussian` this is `target - prediction`, for `Categorical`
        `target - softmax(prediction)`.
        """
        gradient: Array = jax.grad(self.number, argnums=1)(target, prediction)
        return -gradient

    def curvature(
        self,
        target: Float[Array, "..."],
        prediction: Float[Array, "..."],
        change: Float[Array, "..."],
    ) -> Array:
        """The curvature of `unit` in the prediction times a change of it: how the error falls.

        Gauss-Newton solves with it. The Hessian, unless an energy has none: then that of a parabola
        which touches the energy at the prediction and lies above it elsewhere. It must be symmetric
        and have no negative eigenvalues.
        """
        falls: Array = jax.jvp(lambda at: self.error(target, at), (prediction,), (change,))[1]
        return -falls

    def smoothed(self, temperature: Float[Array, ""]) -> Energy:
        """The energy with its kinks rounded off, within `temperature` of it per unit.

        Itself, if it has none. `Newton` follows it down a falling temperature.
        """
        return self

    def expected(self, prediction: Float[Array, "..."]) -> Array:
        """The activity that a prediction stands for, of an entry that is not clamped."""
        return prediction

    def draw(self, key: PRNGKeyArray, prediction: Float[Array, "..."]) -> Array | None:
        """A sample of the activity, given its prediction; `None` if it is not known how to draw."""
        return None


@gate
class Gaussian(Energy):
    """Squared error, `(precision / 2) * ||target - prediction||^2`.

    **Fields**: `precision`, a positive number, or an array that learns with the weights,

        sum_i (pi_i / 2) (target_i - prediction_i)^2 - 1/2 log pi_i,    pi = exp(log_precision)

    so that `1 / pi` tends to the mean squared error at equilibrium. An array has the shape of the
    entry's activity, or one that broadcasts to it, such as `()` for one precision of all units; of
    a `Stack`, whose first axis is its depth, `(depth,)` is one for each block. The logarithm counts
    for every unit that is clamped or has to explain something, not for leaves that are free.

    Raises `ValueError` for precisions that are not positive and finite.

    ```python
    fx.Gaussian(precision=0.1)                  # fixed
    fx.Gaussian(precision=jnp.ones(784))        # learns, one for every pixel
    ```

    Source: Rao and Ballard (1999); Whittington and Bogacz (2017), with a scalar precision. Learned
    precisions: Friston (2005); Bogacz (2017).
    """

    learned: Float[Array, "..."] | None = None

    def __init__(self, precision: Any = 1.0) -> None:
        array = isinstance(precision, list | tuple | np.ndarray | jax.Array)
        self.learned = jnp.log(_checked(precision)) if array else None
        self.precision = 1.0 if array else float(checks.number("precision", precision, above=0))

    @property
    def log_precision(self) -> Array | None:
        """The logarithm of a precision that learns; `None` if it is a number."""
        return self.learned

    def unit(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        return 0.5 * jnp.sum((target - prediction) ** 2)

    def terms(self, target: Array, prediction: Array) -> Array:
        return 0.5 * (target - prediction) ** 2

    def draw(self, key: PRNGKeyArray, prediction: Float[Array, "..."]) -> Array:
        precision = self.precision if self.learned is None else jnp.exp(self.learned)
        noise = jax.random.normal(key, prediction.shape, prediction.dtype)
        return prediction + noise / jnp.sqrt(precision)


@gate
class Categorical(Energy):
    """Cross-entropy of a target distribution with the softmax of the predicted logits.

    `-precision * sum_k target_k log softmax(prediction)_k` over the last axis, summed over the
    others (one distribution per position). Computed with log-sum-exp, so logits of any size stay
    finite. The target holds probabilities; `Problem` turns integer labels into them.
    """

    targets: ClassVar[tuple[str, ...]] = ("classes", "distributions")
    judged_by: ClassVar[str] = "accuracy"

    def unit(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        return -jnp.sum(target * jax.nn.log_softmax(prediction, axis=-1))

    def terms(self, target: Array, prediction: Array) -> Array:
        return -jnp.sum(target * jax.nn.log_softmax(prediction, axis=-1), axis=-1, keepdims=True)

    def expected(self, prediction: Float[Array, "..."]) -> Array:
        return jax.nn.softmax(prediction, axis=-1)

    def draw(self, key: PRNGKeyArray, prediction: Float[Array, "..."]) -> Array:
        chosen = jax.random.categorical(key, prediction)
        return jax.nn.one_hot(chosen, prediction.shape[-1], dtype=prediction.dtype)

    def unfit(self, target: Array) -> str | None:
        values = np.asarray(target, np.float64)
        sums = values.sum(axis=-1)
        if (values >= 0).all() and np.allclose(sums, 1, atol=_SUM_OFF):
            return None
        return (
            f"probabilities over the last axis, but holds {values.min():.3g} and sums to "
            f"{sums.flat[np.abs(sums - 1).argmax()]:.3g}; give integer labels, or divide by the sum"
        )


class _OfUnits(Energy):
    """An energy that is a sum over units."""

    @abc.abstractmethod
    def terms(self, target: Array, prediction: Array) -> Array:
        """One term for every unit."""

    def unit(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        return jnp.sum(self.terms(target, prediction))


@gate
class Bernoulli(_OfUnits):
    """Cross-entropy of labels that hold or do not, each by itself: several may hold at once.

        precision * sum_i [target_i log(1 + exp(-a_i)) + (1 - target_i) log(1 + exp(a_i))]

    with logits `a` as the prediction, whose probabilities are `sigmoid(a)`. A target is 1 where its
    label holds and 0 where it does not, or a probability. The error is `target - sigmoid(a)`, the
    curvature `sigmoid(a) (1 - sigmoid(a))`. Where a target is 0 or 1 the energy falls towards zero
    as the logit goes to its side; elsewhere it is least, the entropy of the target, where the
    probability is the target. Logits of any size stay finite.

    A problem raises `ValueError` for targets outside of 0 to 1. Integer labels of one class each
    become one-hot vectors.

    ```python
    network = fx.models.mlp(64, 5, width=32, depth=3, output=fx.Bernoulli(), key=key)
    problem = fx.Problem(network, x, tags)           # (batch, 5), of 0 and 1
    probabilities = network.output.energy.expected(fx.predict(network, x))
    ```

    Source: McCullagh and Nelder (1989), chapter 4, with the logit as link.
    """

    targets: ClassVar[tuple[str, ...]] = ("labels",)
    judged_by: ClassVar[str] = "label-accuracy"

    def terms(self, target: Array, prediction: Array) -> Array:
        holds, fails = jax.nn.softplus(-prediction), jax.nn.softplus(prediction)
        return target * holds + (1 - target) * fails

    def expected(self, prediction: Float[Array, "..."]) -> Array:
        return jax.nn.sigmoid(prediction)

    def draw(self, key: PRNGKeyArray, prediction: Float[Array, "..."]) -> Array:
        return jax.random.bernoulli(key, self.expected(prediction)).astype(prediction.dtype)

    def unfit(self, target: Array) -> str | None:
        values = np.asarray(target, np.float64)
        if ((values >= 0) & (values <= 1)).all():
            return None
        return (
            f"probabilities from 0 to 1, but holds values from {values.min():.3g} to "
            f"{values.max():.3g}; give 1 where a label holds and 0 where it does not"
        )


@gate
class Poisson(_OfUnits):
    """Counts, whose expected values are the exponentials of the prediction.

        precision * sum_i [exp(a_i) - target_i a_i + target_i log target_i - target_i]

    with log-rates `a` as the prediction: minus the logarithm of the Poisson distribution, up to a
    constant that is chosen so that the energy is zero where the rate `exp(a)` is the target, half
    the deviance. The error is `target - exp(a)`, the curvature the rate itself. A target of 0 has
    the energy `exp(a)`, which falls towards zero. Log-rates above 88 overflow in float32; center
    or divide inputs so that rates begin near 1.

    The strength (`fx.strength`) does not see that large rates are stiff: at rates of 100, an
    output precision that holds it at 0.1 pulls a hundred times as hard.

    A problem raises `ValueError` for negative targets; they need not be integers.

    ```python
    network = fx.models.mlp(8, 1, width=32, depth=3, output=fx.Poisson(), key=key)
    problem = fx.Problem(network, x, counts)         # (batch, 1)
    rates = network.output.energy.expected(fx.predict(network, x))
    ```

    Source: McCullagh and Nelder (1989), chapter 6, with the logarithm as link.
    """

    takes_labels: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ("counts",)
    judged_by: ClassVar[str] = "deviance"

    def terms(self, target: Array, prediction: Array) -> Array:
        logarithm = jnp.log(jnp.where(target > 0, target, 1))
        return jnp.exp(prediction) - target - target * (prediction - logarithm)

    def expected(self, prediction: Float[Array, "..."]) -> Array:
        return jnp.exp(prediction)

    def draw(self, key: PRNGKeyArray, prediction: Float[Array, "..."]) -> Array:
        return jax.random.poisson(key, self.expected(prediction)).astype(prediction.dtype)

    def unfit(self, target: Array) -> str | None:
        values = np.asarray(target, np.float64)
        if (values >= 0).all():
            return None
        return (
            f"counts of at least 0, but holds {values.min():.3g}; correct what is negative, or use "
            "fx.Gaussian() or fx.Laplace() for values of either sign"
        )


@gate
class Laplace(_OfUnits):
    """Absolute error, which single wild targets do not dominate.

        precision * sum_i |target_i - prediction_i|

    The error is the sign of `target - prediction`, 0 where they are equal. There the energy has a
    kink: at a minimum some predictions meet their targets, and the gradient need not vanish, which
    a relaxation says (`kinks`).

    The Hessian vanishes, so Gauss-Newton would have nothing to solve with. `curvature` is that of
    the parabola `(r^2 / c + c) / 2` with `c = |target - prediction|`, which touches the absolute
    error and lies above it: every iteration is one of iteratively reweighted least squares, and
    needs more conjugate gradients than others do, since the weights `1 / c` of units differ.
    Departing from the source, `c` is at least a hundredth of the example's mean absolute error, so
    that weights stay finite. `Newton` follows `sqrt(r^2 + T^2) - T` down a falling temperature.

    ```python
    network = fx.models.mlp(8, 2, width=32, depth=3, output=fx.Laplace(), key=key)
    relaxed = fx.infer(fx.Problem(network, x, y), fx.GaussNewton(10, 10))
    ```

    Source: Schlossmacher (1973), doi 10.1080/01621459.1973.10481434; as majorization, Hunter and
    Lange (2004), doi 10.1198/0003130042836.
    """

    takes_labels: ClassVar[bool] = False
    judged_by: ClassVar[str] = "mae"

    def terms(self, target: Array, prediction: Array) -> Array:
        return jnp.abs(target - prediction)

    def error(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        # At the kink, where JAX takes the derivative of one side.
        return jnp.sign(target - prediction)

    def curvature(
        self,
        target: Float[Array, "..."],
        prediction: Float[Array, "..."],
        change: Float[Array, "..."],
    ) -> Array:
        errors = jnp.abs(target - prediction)
        least = jnp.maximum(_LEAST_ERROR * errors.mean(), jnp.finfo(errors.dtype).eps)
        return change / jnp.maximum(errors, least)

    def smoothed(self, temperature: Float[Array, ""]) -> Energy:
        return _Rounded(self.precision, temperature=temperature)

    def draw(self, key: PRNGKeyArray, prediction: Float[Array, "..."]) -> Array:
        noise = jax.random.laplace(key, prediction.shape, prediction.dtype)
        return prediction + noise / self.precision


class _Rounded(_OfUnits):
    """The absolute error with its kink rounded off."""

    temperature: Float[Array, ""] = eqx.field(kw_only=True)

    def terms(self, target: Array, prediction: Array) -> Array:
        return jnp.hypot(target - prediction, self.temperature) - self.temperature


def _checked(precision: Any) -> Array:
    array = checks.array("precision", precision).astype(jnp.result_type(float))
    traced = isinstance(array, jax.core.Tracer)
    fits = traced or bool((np.isfinite(np.asarray(array)) & (np.asarray(array) > 0)).all())
    if not array.size or not fits:
        raise ValueError(
            f"Gaussian(precision=...): an array of precisions must hold positive, finite numbers, "
            f"not {np.asarray(precision)!r}; give for example jnp.ones(10)."
        )
    return array
