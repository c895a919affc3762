"""Checks of optimizers, which are pairs of functions rather than objects of one class."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from fathomx.checks.shown import shown


def optimizer(name: str, value: Any) -> optax.GradientTransformation:
    """An optax optimizer, built and not only named, that needs no more than gradients and weights.

    ```python
    optimizer("optimizer", optax.adam)
    # TypeError: optimizer must be an optax optimizer such as optax.adam(1e-2), not the function
    # adam; call it with its rate.
    ```
    """
    if not isinstance(value, optax.GradientTransformation):
        call = "; call it with its rate" if inspect.isroutine(value) else ""
        raise TypeError(
            f"{name} must be an optax optimizer such as optax.adam(1e-2), not {shown(value)}{call}."
        )
    return value


def gradient_optimizer(name: str, value: Any) -> optax.GradientTransformation:
    """An optimizer that needs no more than gradients and weights, unlike a line search."""
    found = optimizer(name, value)
    toy = {"weight": jnp.zeros(1)}
    try:
        jax.eval_shape(lambda w: found.update(w, found.init(w), w), toy)
    except TypeError as error:
        if "required keyword-only argument" in str(error):
            missing = str(error).partition(": ")[2]
            raise TypeError(
                f"{name} needs {missing} in every update, which learning from local errors does "
                "not have; give an optimizer of gradients alone, such as optax.adam(1e-2)."
            ) from None
    except Exception:
        # Made for weights of a certain form, which these are not.
        return found
    return found


Optimizer = Annotated[optax.GradientTransformation, gradient_optimizer]
