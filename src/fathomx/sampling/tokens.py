"""Sampling a continuation of tokens from a network that predicts the next one."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from fathomx import checks
from fathomx.checks import Count, gate
from fathomx.graph.network import Network
from fathomx.problem.checks import check_tokens
from fathomx.problem.energies import predict


@gate
def generate(
    network: Network, tokens: Any, length: Count, key: PRNGKeyArray, temperature: int | float = 1.0
) -> Int[Array, "..."]:
    """Continues tokens by `length` more, each drawn from the feedforward prediction of the next.

        next ~ softmax(logits at the last token / temperature)

    The network sees a window of the last tokens, as many as its context holds. Its prediction at a
    position must not depend on later tokens, as that of `fx.models.transformer` does not: a window
    that is not full yet is filled up behind its end.

    **Arguments**

    * `network`: takes integer tokens `(context,)` and predicts logits `(context, vocabulary)`.
    * `tokens`: what to continue, at least one; `(n,)`, or `(batch, n)` for several at once.
    * `length`: number of tokens to add, at least 1. One program is compiled for each.
    * `key`: a PRNG key.
    * `temperature`: not negative; small prefers likely tokens, and 0 takes the most likely one.

    Returns the new tokens alone, `(length,)` or `(batch, length)`.

    Raises `ValueError` for tokens outside of the vocabulary and for other networks.

    ```python
    new = fx.generate(network, text.encode("ROMEO:"), 200, jax.random.key(0), temperature=0.8)
    print(text.decode(new))
    ```
    """
    context = _context(network)
    if length < 1:
        raise ValueError(f"length must be at least 1, not {length}.")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature must be a finite number, 0 or more, not {temperature!r}.")
    given = checks.values("tokens", tokens)
    _check_shape(given)
    check_tokens(given, network.output_shape[-1])
    batch = given[None] if given.ndim == 1 else given
    last = batch[:, -context:]
    window = np.zeros((len(batch), context), np.int32)
    window[:, : last.shape[1]] = last
    drawn = _continued(
        network,
        jnp.asarray(window),
        jnp.asarray(last.shape[1]),
        length,
        key,
        jnp.asarray(temperature, network.dtype),
    )
    return drawn[0] if given.ndim == 1 else drawn


@eqx.filter_jit
def _continued(
    network: Network,
    window: Array,
    count: Array,
    length: Count,
    key: PRNGKeyArray,
    temperature: Array,
) -> Array:
    """The next tokens of a window whose first `count` places are taken."""
    context = window.shape[1]

    def one(carry: tuple[Array, Array], key: PRNGKeyArray) -> tuple[tuple[Array, Array], Array]:
        window, count = carry
        logits = predict(network, window)[:, count - 1]
        greedy = temperature == 0
        sampled = jax.random.categorical(key, logits / jnp.where(greedy, 1, temperature))
        token = jnp.where(greedy, jnp.argmax(logits, axis=-1), sampled).astype(window.dtype)
        full = count == context
        window = jnp.where(full, jnp.roll(window, -1, axis=1), window)
        place = jnp.where(full, context - 1, count)
        return (window.at[:, place].set(token), jnp.minimum(count + 1, context)), token

    return jax.lax.scan(one, (window, count), jax.random.split(key, length))[1].T


def _context(network: Network) -> int:
    shape, output = network.input_shape, network.output_shape
    integers = jnp.issubdtype(network.input_dtype, jnp.integer)
    if not (integers and len(shape) == 1 and len(output) == 2 and output[0] == shape[0]):
        raise ValueError(
            f"the network takes {network.input_dtype} inputs of shape {shape} and predicts "
            f"{output}, but generate needs integer tokens (context,) and logits (context, "
            "vocabulary); use a network of tokens such as fx.models.transformer."
        )
    return shape[0]


def _check_shape(tokens: np.ndarray) -> None:
    if tokens.ndim not in (1, 2) or tokens.size == 0:
        raise ValueError(
            f"tokens have shape {tokens.shape}; give at least one token, (n,) or (batch, n)."
        )
