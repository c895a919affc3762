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
    network: Network,
    tokens: Any,
    length: Count,
    key: PRNGKeyArray,
    temperature: int | float = 1.0,
    *,
    top_k: Count | None = None,
    top_p: int | float | None = None,
) -> Int[Array, "..."]:
    """Continues tokens by `length` more, each drawn from the feedforward prediction of the next.

        next ~ softmax(logits at the last token / temperature)

    With `top_k` or `top_p` only the likeliest tokens are drawn from, in proportion to these
    probabilities: the `top_k` first ones, and of them the fewest first ones that together have at
    least `top_p` of what these have. Of equally likely tokens the lower one comes first.

    The network sees a window of the last tokens, as many as its context holds. Its prediction at a
    position must not depend on later tokens, as that of `fx.models.transformer` does not: a window
    that is not full yet is filled up behind its end.

    **Arguments**

    * `network`: takes integer tokens `(context,)` and predicts logits `(context, vocabulary)`.
    * `tokens`: what to continue, at least one; `(n,)`, or `(batch, n)` for several at once.
    * `length`: number of tokens to add, at least 1. One program is compiled for each.
    * `key`: a PRNG key.
    * `temperature`: not negative; small prefers likely tokens, and 0 takes the most likely one.
    * `top_k`: at least 1; more than the vocabulary has is all of it. `top_p`: above 0, at most 1.
      All tokens are drawn from where they are `None`.

    Returns the new tokens alone, `(length,)` or `(batch, length)`.

    Raises `ValueError` for tokens outside of the vocabulary and for other networks.

    ```python
    new = fx.generate(network, text.encode("ROMEO:"), 200, jax.random.key(0), temperature=0.8)
    print(text.decode(new))
    safe = fx.generate(network, text.encode("ROMEO:"), 200, jax.random.key(0), top_k=20, top_p=0.9)
    ```

    Source: `top_p` is nucleus sampling, A. Holtzman, J. Buys, L. Du, M. Forbes, Y. Choi, "The
    Curious Case of Neural Text Degeneration", ICLR 2020; `top_k`, A. Fan, M. Lewis, Y. Dauphin,
    "Hierarchical Neural Story Generation", ACL 2018.
    """
    context = _context(network)
    if length < 1:
        raise ValueError(f"length must be at least 1, not {length}.")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature must be a finite number, 0 or more, not {temperature!r}.")
    if top_p is not None:
        checks.number("top_p", top_p, above=0, most=1)
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
        _Truncation.of(top_k, top_p, network.output_shape[-1]),
    )
    return drawn[0] if given.ndim == 1 else drawn


class _Truncation(eqx.Module):
    """Leaves the likeliest tokens: how many, and how much of the probability that these have."""

    count: Array
    part: Array

    @classmethod
    def of(
        cls, top_k: int | None, top_p: int | float | None, vocabulary: int
    ) -> _Truncation | None:
        """`None` where nothing is left out, which needs no sorting."""
        if top_k is None and top_p is None:
            return None
        count = vocabulary if top_k is None else min(top_k, vocabulary)
        # A sum of rounded probabilities may reach 1 before its end.
        part = math.inf if top_p is None or top_p == 1 else top_p
        return cls(jnp.asarray(count), jnp.asarray(part, jnp.float32))

    def __call__(self, logits: Array) -> Array:
        """The logits of the tokens that stay, and of others minus infinity."""
        order = jnp.argsort(-logits, axis=-1, stable=True)
        ranked = jnp.take_along_axis(logits, order, axis=-1).astype(jnp.float32)
        first = jnp.arange(logits.shape[-1]) < self.count
        likely = jax.nn.softmax(jnp.where(first, ranked, -jnp.inf), axis=-1)
        # A token stays where those before it do not suffice yet, the first one always.
        before = jnp.roll(jnp.cumsum(likely, axis=-1), 1, axis=-1).at[..., 0].set(0)
        stays = first & (before < self.part)
        back = jnp.argsort(order, axis=-1)
        return jnp.where(jnp.take_along_axis(stays, back, axis=-1), logits, -jnp.inf)


@eqx.filter_jit
def _continued(
    network: Network,
    window: Array,
    count: Array,
    length: Count,
    key: PRNGKeyArray,
    temperature: Array,
    truncation: _Truncation | None,
) -> Array:
    """The next tokens of a window whose first `count` places are taken."""
    context = window.shape[1]

    def one(carry: tuple[Array, Array], key: PRNGKeyArray) -> tuple[tuple[Array, Array], Array]:
        window, count = carry
        logits = predict(network, window)[:, count - 1]
        greedy = temperature == 0
        scaled = logits / jnp.where(greedy, 1, temperature)
        kept = scaled if truncation is None else truncation(scaled)
        sampled = jax.random.categorical(key, kept)
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
