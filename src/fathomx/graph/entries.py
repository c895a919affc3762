"""The entries of a network: what predicts an activity from those of its parents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from fathomx.graph.energy import Energy, Gaussian
from fathomx.graph.statistics import holds_statistics


class Node(eqx.Module):
    """One node of the graph: it predicts its own activity from its parents' activities.

    **Fields**

    * `name`: unique in the network, not `"input"`.
    * `function`: an Equinox module or function `f(*parent_activities) -> prediction` for **one
      example**; the network vectorizes it over the batch.
    * `parents`: names of the parents, `"input"` for the network's input. Empty: the entry before.
    * `energy`: how activity and prediction are compared; `Gaussian()` unless given.

    A function that normalizes by statistics of the batch holds them as `Statistics` and offers a
    method `with_batch_statistics(*batches_of_parent_activities)` that returns the function with
    those of a batch, as `fathomx.layers.BatchNorm` does. Raises `TypeError` if it is missing.

    ```python
    fx.Node("output", linear, energy=fx.Categorical())
    ```
    """

    function: Callable[..., Array]
    name: str = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    energy: Energy

    def __init__(
        self,
        name: str,
        function: Callable[..., Array],
        parents: Sequence[str] = (),
        energy: Energy | None = None,
    ) -> None:
        if holds_statistics(function) and not hasattr(function, "with_batch_statistics"):
            raise TypeError(
                f"node {name!r}: its function {type(function).__name__} holds normalization "
                "statistics, but has no method with_batch_statistics(*sources) that returns it "
                "with the statistics of a batch; add one that calls that of its BatchNorm."
            )
        self.name = name
        self.function = function
        self.parents = tuple(parents)
        self.energy = Gaussian() if energy is None else energy

    @property
    def depth(self) -> int:
        """Number of nodes: 1."""
        return 1


class Stack(eqx.Module):
    """A chain of identical blocks, each one a node of the network.

    The blocks' arrays carry a leading depth axis, so that the network scans over them to unroll
    and vectorizes over them to predict: the program does not grow with depth.

    **Fields**

    * `name`: unique in the network. Its nodes are reported as `name[0]`, `name[1]`, ...
    * `block`: a module whose arrays all have a leading axis of one length, the depth, as
      `equinox.filter_vmap` makes them; called as `block(activity) -> prediction` for one example
      and one layer. A block keeps the shape of its input.
    * `parents`: the one parent of the first block. Empty: the entry before.
    * `energy`: shared by all blocks.

    Raises `ValueError` if the arrays do not share their leading axis, and for blocks with
    `Statistics`: a stack predicts all its blocks at once, but statistics are taken in order.
    """

    block: Callable[[Array], Array]
    name: str = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    energy: Energy

    def __init__(
        self,
        name: str,
        block: Callable[[Array], Array],
        parents: Sequence[str] = (),
        energy: Energy | None = None,
    ) -> None:
        if holds_statistics(block):
            raise ValueError(
                f"stack {name!r}: its blocks hold the statistics of a batch normalization, which a "
                "stack cannot take; use single nodes, GroupNorm or no normalization."
            )
        lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(eqx.filter(block, eqx.is_array))}
        if len(lengths) != 1 or lengths == {()}:
            raise ValueError(
                f"stack {name!r}: the arrays of its blocks must share one leading depth axis, but "
                f"their leading axes are {sorted(lengths)}; build the blocks with "
                "equinox.filter_vmap over one key per block."
            )
        self.name = name
        self.block = block
        self.parents = tuple(parents)
        self.energy = Gaussian() if energy is None else energy

    @property
    def depth(self) -> int:
        """Number of nodes."""
        leaves = jax.tree.leaves(eqx.filter(self.block, eqx.is_array))
        return int(leaves[0].shape[0])


def entry_prediction(entry: Node | Stack, sources: list[Array], own: ArrayLike | None) -> Array:
    """Prediction of an entry from its parents' activities and, of a stack, from its own."""
    if isinstance(entry, Stack):
        assert own is not None
        stacked: Array = eqx.filter_vmap(_apply_to_batch)(entry.block, _chain(sources[0], own))
        return stacked
    predicted: Array = jax.vmap(entry.function)(*sources)
    return predicted


def entry_pull(
    entry: Node | Stack, sources: list[Array], own: ArrayLike | None
) -> tuple[Array, Callable[[Array], tuple[Array, list[Array]]]]:
    """An entry's prediction, and how a derivative goes from its last node back to its sources.

    The function takes the derivative in the entry's activity (of a stack, its last block's) and
    returns the derivative in every activity of the entry, and in the sources.
    """
    if isinstance(entry, Node):
        predicted, pull = jax.vjp(jax.vmap(entry.function), *sources)
        return predicted, lambda reached: (reached, list(pull(reached)))

    def linearized(block: Callable[[Array], Array], activity: Array) -> tuple[Array, Any]:
        result: tuple[Array, Any] = jax.vjp(lambda z: _apply_to_batch(block, z), activity)
        return result

    assert own is not None
    stacked, pulls = eqx.filter_vmap(linearized)(entry.block, _chain(sources[0], own))
    arrays, rest = eqx.partition(pulls, eqx.is_array)

    def back(reached: Array, layer: Any) -> tuple[Array, Array]:
        return eqx.combine(layer, rest)(reached)[0], reached

    def pull_stack(reached: Array) -> tuple[Array, list[Array]]:
        first, every = jax.lax.scan(back, reached, arrays, reverse=True)
        return every, [first]

    return stacked, pull_stack


def _chain(source: Array, own: ArrayLike) -> Array:
    """What the blocks of a stack see: its source, then the activity of each block before."""
    return jnp.concatenate([source[None], jnp.asarray(own)[:-1]])


def _activity(
    entry: Node | Stack, sources: list[Array], error: Array | None
) -> tuple[Array, Array]:
    """Prediction from the parents, plus the error: of a stack, one block after the other.

    The activity that the children see (of a stack, the last block's), and the whole entry's.
    """
    if isinstance(entry, Stack):
        return _scan_blocks(entry.block, sources[0], error)
    activity: Array = jax.vmap(entry.function)(*sources)
    if error is not None:
        activity = activity + error
    return activity, activity


def _apply_to_batch(block: Callable[[Array], Array], activity: Array) -> Array:
    return jax.vmap(block)(activity)


def _first_block(block: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, block)


def _scan_blocks(block: Any, source: Array, errors: Array | None) -> tuple[Array, Array]:
    arrays, rest = eqx.partition(block, eqx.is_array)

    def one(activity: Array, layer: tuple[Any, Array | None]) -> tuple[Array, Array]:
        own, error = layer
        activity = _apply_to_batch(eqx.combine(own, rest), activity)
        if error is not None:
            activity = activity + error
        return activity, activity

    last, every = jax.lax.scan(one, source, (arrays, errors))
    return last, every
