"""Decoder-only transformers over tokens: every block is a node."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fathomx.checks import gate
from fathomx.checks.names import unknown
from fathomx.graph.energy import Categorical
from fathomx.graph.entries import Node, Stack
from fathomx.graph.network import Network
from fathomx.layers.activations import Activation, activation_function, linear
from fathomx.layers.normalization import LayerNorm, Normalization
from fathomx.layers.parameterization import Parameterization, Role, Standard
from fathomx.layers.scaled import Affine, Embedding, Linear

NORMALIZATIONS: dict[str | None, Callable[[int, float], Normalization] | None] = {
    None: None,
    "layer": LayerNorm,
}
_EXPANSION = 4


class Embedded(eqx.Module):
    """`token vector + position vector`, for every position."""

    tokens: Embedding
    positions: Embedding

    def __call__(self, tokens: Int[Array, " context"]) -> Float[Array, "context width"]:
        return self.tokens(tokens) + self.positions(jnp.arange(len(tokens)))


class Attention(eqx.Module):
    """Causal self-attention: every position mixes the values at itself and before.

    sum_s softmax_s(scale * q_t . k_s) v_s,   s <= t,   in every head; then a linear map
    """

    query: Linear | Affine
    key: Linear | Affine
    value: Linear | Affine
    output: Linear | Affine
    heads: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __call__(self, activity: Float[Array, "context width"]) -> Float[Array, "context width"]:
        context, width = activity.shape
        query, key, value = (
            jax.vmap(map)(activity).reshape(context, self.heads, width // self.heads)
            for map in (self.query, self.key, self.value)
        )
        logits = self.scale * jnp.einsum("thd,shd->hts", query, key)
        seen = jnp.tril(jnp.ones((context, context), bool))
        attended = jax.nn.softmax(jnp.where(seen, logits, -jnp.inf), axis=-1)
        mixed = jnp.einsum("hts,shd->thd", attended, value)
        return jax.vmap(self.output)(mixed.reshape(context, width))


class FeedForward(eqx.Module):
    """`W_2 phi(W_1 z)` at every position, four times as wide inside."""

    expand: Linear | Affine
    contract: Linear | Affine
    activation: Callable[[Array], Array]

    def __call__(self, activity: Float[Array, "context width"]) -> Float[Array, "context width"]:
        return jax.vmap(self.contract)(self.activation(jax.vmap(self.expand)(activity)))


class Block(eqx.Module):
    """`h = z + a attention(norm(z))`, then `h + a feed_forward(norm(h))`."""

    attention: Attention
    feed_forward: FeedForward
    before_attention: Callable[[Array], Array]
    before_feed_forward: Callable[[Array], Array]
    branch: float = eqx.field(static=True)

    def __call__(self, activity: Float[Array, "context width"]) -> Float[Array, "context width"]:
        mixed = activity + self.branch * self.attention(self.before_attention(activity))
        return mixed + self.branch * self.feed_forward(self.before_feed_forward(mixed))


class Logits(eqx.Module):
    """`a W norm(z)` at every position."""

    linear: Linear | Affine
    normalization: Callable[[Array], Array]

    def __call__(
        self, activity: Float[Array, "context width"]
    ) -> Float[Array, "context vocabulary"]:
        return jax.vmap(self.linear)(self.normalization(activity))


@gate
def transformer(
    vocabulary: int,
    context: int,
    *,
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    activation: Activation = "gelu",
    normalization: str | None = None,
    bias: bool = False,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
) -> Network:
    """A decoder-only transformer that predicts, at every position, the next token.

        mu_0 = token + position vectors
        h    = z_{l-1} + a attention(norm(z_{l-1})),   mu_l = h + a feed_forward(norm(h))
        mu_L = logits: a_L W_L norm(z_{L-1})

    The nodes are `embedding`, one `Stack` of `blocks` and `output`, whose energy is `Categorical`
    at every position. The input is integer tokens `(batch, context)`, a target integer labels of
    the same shape; a prediction, `(batch, context, vocabulary)`, at a position depends on the
    tokens up to there alone. Activities are `(context, width)`. There are no biases but those of
    the normalization, unless `bias` says so.

    **Arguments**

    * `vocabulary`, `context`: number of different tokens, and of tokens in a window.
    * `width`: size of the vectors, which `heads` divide. `depth`: number of blocks.
    * `activation`: of the feed-forward branch, a name of `fathomx.layers.ACTIVATIONS` or a
      function.
    * `normalization`: `None` or `"layer"`, at the beginning of every branch and before the logits.
    * `bias`: whether all linear maps add a bias, zero at first.
    * `parameterization`: `Standard()` unless given. `MuPC()` scales branches by `1 / depth`, the
      logits of attention by `1 / size of a head`, the output by `1 / width`, and draws embeddings
      with standard deviation 0.02.
    * `key`: a PRNG key.

    Raises `ValueError` for sizes below 1, a vocabulary below 2, a width that the heads do not
    divide, unknown names, and a parameterization that does not know the roles of a transformer.

    ```python
    text = fx.data.load("tiny-shakespeare")
    network = fx.models.transformer(text.classes, 64, parameterization=fx.MuPC(),
                                    normalization="layer", key=jax.random.key(0))
    ```

    Source: Vaswani et al. (2017), with the normalization moved as in Radford et al. (2019); as a
    predictive coding network, Innocenti et al. (2026), arXiv 2602.07697.
    """
    _check_sizes(vocabulary, context, width, depth, heads)
    if normalization not in NORMALIZATIONS:
        raise ValueError(unknown("normalization", normalization, NORMALIZATIONS))
    make = NORMALIZATIONS[normalization]
    scales = Standard() if parameterization is None else parameterization
    if not isinstance(scales, Parameterization):
        raise TypeError(
            f"parameterization must be a Parameterization such as fx.MuPC(), not {scales!r}."
        )
    phi = activation_function(activation)
    logit_scale = scales.multiplier(Role.ATTENTION, width // heads, width, depth)
    branch_scale = scales.multiplier(Role.BRANCH, 1, width, depth)
    token_key, position_key, block_key, output_key = jax.random.split(key, 4)

    def normalized() -> Callable[[Array], Array]:
        return linear if make is None else scales.normalization(make, width, width, depth)

    def biased(map: Linear, size: int) -> Linear | Affine:
        return scales.affine(map, size, width, depth) if bias else map

    @eqx.filter_vmap
    def blocks(key: PRNGKeyArray) -> Block:
        keys = jax.random.split(key, 6)

        def hidden(index: int, in_size: int, out_size: int) -> Linear | Affine:
            sizes = (in_size, out_size)
            return biased(scales.linear(Role.HIDDEN, sizes, width, depth, keys[index]), out_size)

        query, key_map, value, mix = (hidden(index, width, width) for index in range(4))
        inner = _EXPANSION * width
        return Block(
            Attention(query, key_map, value, mix, heads, logit_scale),
            FeedForward(hidden(4, width, inner), hidden(5, inner, width), phi),
            normalized(),
            normalized(),
            branch_scale,
        )

    embedded = Embedded(
        scales.embedding(vocabulary, 2, width, depth, token_key),
        scales.embedding(context, 2, width, depth, position_key),
    )
    head = scales.linear(Role.OUTPUT, (width, vocabulary), width, depth, output_key)
    logits = Logits(biased(head, vocabulary), normalized())
    return Network(
        [
            Node("embedding", embedded),
            Stack("blocks", blocks(jax.random.split(block_key, depth))),
            Node("output", logits, energy=Categorical()),
        ],
        input_shape=(context,),
        input_dtype=jnp.int32,
        vocabulary=vocabulary,
    )


def _check_sizes(vocabulary: int, context: int, width: int, depth: int, heads: int) -> None:
    sizes = {"context": context, "width": width, "depth": depth, "heads": heads}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}.")
    if vocabulary < 2:
        raise ValueError(f"vocabulary must be at least 2 tokens, not {vocabulary}.")
    if width % heads:
        raise ValueError(
            f"{heads} heads cannot divide a width of {width} into equal parts; choose a number of "
            "heads that divides the width."
        )
