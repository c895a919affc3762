"""How far an update is from backprop's, and how far weights have moved."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fathomx.checks import gate, shown
from fathomx.graph.network import Network
from fathomx.graph.statistics import weights
from fathomx.learning import Backprop, LearningRule
from fathomx.problem.problem import Problem

_QUARTERS = 4


@gate
class Alignment(eqx.Module):
    """How far an update is from backprop's on the same batch.

    **Fields**

    * `cosine`: `(nodes,)`, of each node's weights; 1 is backprop's direction. NaN for a node
      without weights or with a zero update.
    * `ratio`: `(nodes,)`, length of the update over that of backprop's.
    * `overall`: cosine over all weights together.

    **Attributes**: `quarters`, `(4,)`, the mean cosine of the nodes in each quarter of the depth,
    from the input up. One cosine over all weights is that of the nodes with the longest updates; in
    deep networks that are not relaxed far enough, these are next to the output, and the quarter
    next to the input can be anywhere. A node without an update, where backprop has one, counts as
    0; one where backprop has none, as without weights, does not count. NaN where there are fewer
    than four nodes.
    """

    cosine: Float[Array, " nodes"]
    ratio: Float[Array, " nodes"]
    overall: Float[Array, ""]

    @property
    def quarters(self) -> Float[Array, " 4"]:
        known = jnp.isfinite(self.ratio)
        if len(known) < _QUARTERS:
            return jnp.full(_QUARTERS, jnp.nan, self.cosine.dtype)
        values = jnp.where(known, jnp.nan_to_num(self.cosine), 0)
        parts = zip(
            jnp.array_split(values, _QUARTERS), jnp.array_split(known, _QUARTERS), strict=True
        )
        return jnp.stack([value.sum() / there.sum() for value, there in parts])

    @classmethod
    def unknown(cls, network: Network) -> Alignment:
        """Where there is no backprop to compare with: NaN everywhere."""
        nothing = jnp.full(len(network.labels), jnp.nan, network.dtype)
        return cls(nothing, nothing, jnp.full((), jnp.nan, network.dtype))


@gate
def alignment(problem: Problem, rule: LearningRule, key: PRNGKeyArray) -> Alignment:
    """Compares a rule's weight update with backprop's on one batch.

    ```python
    fx.alignment(problem, fx.Equilibrium(), jax.random.key(0)).overall
    ```
    """
    return compare_to_backprop(problem, rule.gradient(problem, key)[0], key)


@gate
def compare_to_backprop(problem: Problem, gradient: Network, key: PRNGKeyArray) -> Alignment:
    """The alignment of a gradient that was computed already on this batch."""
    return compare(gradient, Backprop().gradient(problem, key)[0])


def compare(gradient: Network, told: Network) -> Alignment:
    """The alignment of a gradient with that of backprop, `told`; `ValueError` if not alike."""
    check_alike(told, gradient)
    ours, our_size = unit_size(weights(gradient))
    theirs, their_size = unit_size(told)
    between = node_dot(ours, theirs)
    own, other = node_dot(ours, ours), node_dot(theirs, theirs)
    return Alignment(
        cosine=between / jnp.sqrt(own) / jnp.sqrt(other),
        ratio=jnp.sqrt(own / other) * (our_size / their_size),
        overall=between.sum() / jnp.sqrt(own.sum()) / jnp.sqrt(other.sum()),
    )


@gate
def node_dot(a: Network, b: Network) -> Float[Array, " nodes"]:
    """Inner product of two gradients, node by node; `ValueError` if they are not alike."""
    check_alike(a, b)
    rows = []
    for one, other in zip(a.predictors(), b.predictors(), strict=True):
        pairs = zip(jax.tree.leaves(weights(one)), jax.tree.leaves(weights(other)), strict=True)
        products = [one.rows(u * v) for u, v in pairs]
        parts = [jnp.sum(p, axis=tuple(range(1, p.ndim))) for p in products]
        rows.append(sum(parts[1:], start=parts[0]) if parts else jnp.zeros(one.depth))
    return jnp.concatenate(rows)


@gate
def weight_change(before: Network, after: Network) -> Float[Array, " nodes"]:
    """How far the weights of every node have moved, relative to what they were.

        ||W_after - W_before|| / ||W_before||

    over all weights of a node. Deep networks can score well while most of their nodes stand still:
    a node far below the median does not learn. NaN for a node without weights, infinite for one
    whose weights were all zero.

    ```python
    moved = fx.weight_change(network, result.network)
    print(moved.min() / jnp.median(moved))
    ```
    """
    check_alike(before, after)
    change = jax.tree.map(jnp.subtract, weights(after), weights(before))
    return jnp.sqrt(node_dot(change, change) / node_dot(before, before))


def check_alike(one: Network, other: Network) -> None:
    """Raises `ValueError` unless two networks have weights of the same shapes in the same nodes."""
    shapes = [[leaf.shape for leaf in jax.tree.leaves(weights(each))] for each in (one, other)]
    for what, held in (("nodes", [list(one.labels), list(other.labels)]), ("weights", shapes)):
        if held[0] != held[1]:
            raise ValueError(
                f"the networks are not alike: one has the {what} {shown(held[0])}, the other "
                f"{shown(held[1])}; give two states of one network."
            )


def lengths(gradient: Network) -> Float[Array, " nodes"]:
    """The length of a gradient, node by node, however small."""
    scaled, size = unit_size(gradient)
    return jnp.sqrt(node_dot(scaled, scaled)) * size


def unit_size(gradient: Network) -> tuple[Network, Array]:
    """The gradient with its largest entry scaled to 1, lest the squares of small ones vanish."""
    leaves = jax.tree.leaves(gradient)
    if not leaves:
        return gradient, jnp.ones(())
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))
    size = jnp.where(largest > 0, largest, 1)
    scaled: Network = jax.tree.map(lambda leaf: leaf / size, gradient)
    return scaled, size
