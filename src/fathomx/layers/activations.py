"""Activation functions by name."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fathomx.checks import gate
from fathomx.checks.names import unknown

Activation = str | Callable[[Array], Array]


@gate
def linear(x: Array) -> Array:
    """The identity."""
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": linear,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
}


@gate
def activation_function(activation: Activation) -> Callable[[Array], Array]:
    """The function for a name of `ACTIVATIONS`; a function is returned as it is.

    Raises `ValueError` for an unknown name, with the nearest valid one.
    """
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(unknown("activation", activation, ACTIVATIONS))
    return ACTIVATIONS[activation]
