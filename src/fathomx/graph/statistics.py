"""What of a network learns, and what is measured: weights and statistics."""

from __future__ import annotations

from typing import Any, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from fathomx.checks import gate

Tree = TypeVar("Tree")
Part = TypeVar("Part", bound=eqx.Module)


@gate
class Statistics(eqx.Module):
    """Mean and variance that a normalization divides out: arrays of a network that do not learn.

    They are measured, not trained: `weights` and `split` leave them out of the weights.

    **Fields**: `mean` and `variance`, both `(channels,)`.
    """

    mean: Float[Array, " channels"]
    variance: Float[Array, " channels"]


@gate
class Freezable(eqx.Module):
    """A part of a network that `fx.freeze` can keep from learning, statistics included.

    **Fields**: `frozen`, false unless set.
    """

    frozen: bool = eqx.field(static=True, default=False, kw_only=True)

    def freeze(self: Part) -> Part:
        """The same part, which does not learn."""
        return with_fields(self, frozen=True)


def with_fields(module: Part, **changed: Any) -> Part:
    """A module with some of its fields changed, static ones too, past its constructor."""
    copy: Part = object.__new__(type(module))
    # What an instance does not hold is left to its class: a tree is what its instances hold.
    for name, value in {**vars(module), **changed}.items():
        object.__setattr__(copy, name, value)
    return copy


@gate
def split(tree: Tree) -> tuple[Tree, Tree]:
    """The weights of a network (or any part of it) and the rest; `equinox.combine` joins them.

    Weights are the floating-point arrays outside of `Statistics` and of entries that `fx.freeze`
    has frozen. Both results have the shape of the tree, with `None` where the other one has
    something.

    ```python
    weights, rest = split(network)
    ```
    """
    learns = jax.tree.map(
        lambda part: not _is_constant(part) and eqx.is_inexact_array(part),
        tree,
        is_leaf=_is_constant,
    )
    learned, rest = eqx.partition(tree, learns)
    return learned, rest


@gate
def weights(tree: Tree) -> Tree:
    """The floating-point arrays that learn; everything else, `Statistics` too, is `None`.

    ```python
    optimizer_state = optimizer.init(weights(network))
    ```
    """
    return split(tree)[0]


def parameter_count(tree: Any) -> int:
    """Number of trained numbers in a network or in a part of it."""
    return sum(leaf.size for leaf in jax.tree.leaves(weights(tree)))


def holds_statistics(tree: Any) -> bool:
    """Whether there are `Statistics` that move in a network or in a part of it."""
    parts = jax.tree.leaves(tree, is_leaf=_is_constant)
    return any(map(is_statistics, parts))


def with_batch_statistics(function: Tree, *sources: Array) -> Tree:
    """A node function whose statistics are those of a batch of its sources.

    `sources` are the activities of the parents, `(batch, ...)`. A function without `Statistics` is
    returned as it is; one that holds them says how to take them in a method
    `with_batch_statistics(*sources)` that returns the function with others.

    ```python
    block = with_batch_statistics(block, activities)
    ```
    """
    if not holds_statistics(function):
        return function
    taken: Tree = function.with_batch_statistics(*sources)  # type: ignore[attr-defined]
    return taken


def is_statistics(part: object) -> bool:
    """Whether a part of a tree is `Statistics`."""
    return isinstance(part, Statistics)


def _is_constant(part: object) -> bool:
    return is_statistics(part) or (isinstance(part, Freezable) and part.frozen)
