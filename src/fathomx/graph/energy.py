"""Energies: how much an activity disagrees with its prediction.

An energy belongs to an entry. What is inferred has a `Gaussian` energy; what is clamped may have
`Gaussian` (squared error) or `Categorical` (cross-entropy), which makes its energy the loss and its
precision the output precision of the predictive coding literature.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fathomx import checks
from fathomx.checks import example, gate

# How far probabilities may sum from 1: those of half precision are rounded.
_SUM_OFF = 5e-3


@example("fx.Gaussian()")
@gate
class Energy(eqx.Module):
    """Energy of one entry, `precision * unit(target, prediction)`.

    **Fields**

    * `precision`: a positive, finite float; it scales the energy and is not trained.

    An energy of your own is a subclass with `unit`. Where it is a sum of terms that a mask may
    select (`fx.Clamp(value, mask)`), it defines `terms` as well.

    Raises `ValueError` for a precision that is not positive and finite.
    """

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
        gradient: Array = jax.grad(self.unit, argnums=1)(target, prediction)
        return -gradient

    def expected(self, prediction: Float[Array, "..."]) -> Array:
        """The activity that a prediction stands for, of an entry that is not clamped."""
        return prediction


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


@gate
class Categorical(Energy):
    """Cross-entropy of a target distribution with the softmax of the predicted logits.

    `-precision * sum_k target_k log softmax(prediction)_k` over the last axis, summed over the
    others (one distribution per position). Computed with log-sum-exp, so logits of any size stay
    finite. The target holds probabilities; `Problem` turns integer labels into them.
    """

    def unit(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        return -jnp.sum(target * jax.nn.log_softmax(prediction, axis=-1))

    def terms(self, target: Array, prediction: Array) -> Array:
        return -jnp.sum(target * jax.nn.log_softmax(prediction, axis=-1), axis=-1, keepdims=True)

    def expected(self, prediction: Float[Array, "..."]) -> Array:
        return jax.nn.softmax(prediction, axis=-1)

    def unfit(self, target: Array) -> str | None:
        values = np.asarray(target, np.float64)
        sums = values.sum(axis=-1)
        if (values >= 0).all() and np.allclose(sums, 1, atol=_SUM_OFF):
            return None
        return (
            f"probabilities over the last axis, but holds {values.min():.3g} and sums to "
            f"{sums.flat[np.abs(sums - 1).argmax()]:.3g}; give integer labels, or divide by the sum"
        )


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
