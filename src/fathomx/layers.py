"""Linear layers that carry their own scaling, and activation functions by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Linear(eqx.Module):
    """`multiplier * weight @ activity`, for one example.

    **Fields**

    * `weight`: `(out_size, in_size)`.
    * `multiplier`: fixed forward scale, written by the parameterization.
    * `learning_rate_scale`: what the parameterization asks the learning rate of this weight to be
      multiplied with under Adam; see `fx.scale_learning_rates`.
    """

    weight: Float[Array, "..."]
    multiplier: float = eqx.field(static=True, default=1.0)
    learning_rate_scale: float = eqx.field(static=True, default=1.0)

    def __call__(self, activity: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        return self.multiplier * (self.weight @ activity)


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


def _smooth_relu(temperature: Array) -> Callable[[Array], Array]:
    return lambda x: temperature * jax.nn.softplus(x / temperature)


def _smooth_leaky_relu(temperature: Array) -> Callable[[Array], Array]:
    relu = _smooth_relu(temperature)
    return lambda x: 0.01 * x + 0.99 * relu(x)


# Smooth families that tend to a piecewise-linear activation as the temperature tends to 0.
SMOOTHED: dict[Callable[[Array], Array], Callable[[Array], Callable[[Array], Array]]] = {
    jax.nn.relu: _smooth_relu,
    jax.nn.leaky_relu: _smooth_leaky_relu,
}


def activation_function(activation: str | Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The function for a name of `ACTIVATIONS`; a function is returned as it is.

    Raises `ValueError` for an unknown name, with the nearest valid one.
    """
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(unknown("activation", activation, ACTIVATIONS))
    return ACTIVATIONS[activation]


def unknown(kind: str, given: object, valid: object) -> str:
    """The sentence for an unknown option: what was given, the nearest valid one, all valid ones."""
    names = [str(name) for name in valid]  # type: ignore[attr-defined]
    near = difflib.get_close_matches(str(given).lower(), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {str(given)!r}.{hint} Choose from: {', '.join(names)}."
