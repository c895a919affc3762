"""Energies: how much a node's activity disagrees with its prediction.

An energy belongs to a node. Hidden nodes use `Gaussian`; the output node may use `Gaussian`
(squared error) or `Categorical` (cross-entropy), which makes its energy the loss and its
precision the output precision of the predictive coding literature.
"""

from __future__ import annotations

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Energy(eqx.Module):
    """Energy of one node, `precision * unit(target, prediction)`.

    **Fields**

    * `precision`: a positive, finite float; it scales the energy and is not trained.

    Raises `ValueError` for a precision that is not positive and finite.
    """

    precision: float = eqx.field(static=True, default=1.0, converter=float)

    def __check_init__(self) -> None:
        if not (math.isfinite(self.precision) and self.precision > 0):
            raise ValueError(
                f"{type(self).__name__}(precision={self.precision!r}): a precision must be a "
                "positive, finite number; give for example precision=1.0."
            )

    @abc.abstractmethod
    def unit(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        """The energy of one example at precision 1: a scalar."""

    def error(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        """Minus the gradient of `unit` in the prediction, shaped like the prediction.

        For `Gaussian` this is `target - prediction`, for `Categorical`
        `target - softmax(prediction)`.
        """
        gradient: Array = jax.grad(self.unit, argnums=1)(target, prediction)
        return -gradient


class Gaussian(Energy):
    """Squared error, `(precision / 2) * ||target - prediction||^2`.

    ```python
    fx.Gaussian(precision=0.1)
    ```

    Source: Rao and Ballard (1999); Whittington and Bogacz (2017), with a scalar precision.
    """

    def unit(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        return 0.5 * jnp.sum((target - prediction) ** 2)


class Categorical(Energy):
    """Cross-entropy of a target distribution with the softmax of the predicted logits.

    `-precision * sum_k target_k log softmax(prediction)_k` over the last axis, summed over the
    others (one distribution per position). Computed with log-sum-exp, so logits of any size stay
    finite. The target holds probabilities; `Problem` turns integer labels into them.
    """

    def unit(self, target: Float[Array, "..."], prediction: Float[Array, "..."]) -> Array:
        return -jnp.sum(target * jax.nn.log_softmax(prediction, axis=-1))
