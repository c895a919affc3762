"""The entries of a network: what predicts an activity from those of its parents.

A network is a list of entries, and every entry has the same methods, so that nothing above needs to
know whether it deals with a root, a node or a stack. Of one entry `activity` is `(batch, ...)` for
a root or a node and `(depth, batch, ...)` for a stack; `sources` are what its parents show it, and
`end` is what it shows to its children: all of a node, the last block of a stack.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from fathomx import checks
from fathomx.checks import Count, DType, Name, Shape, gate
from fathomx.graph.chain import Chain, Child
from fathomx.graph.clamp import Clamp
from fathomx.graph.energy import Energy, Gaussian
from fathomx.graph.predictor import (
    Chained,
    Predictor,
    as_names,
    broadcasts,
    check_callable,
    checked_depth,
    first_block,
    traced_shape,
)
from fathomx.graph.statistics import holds_statistics, with_fields

# How a derivative goes from an entry back to its sources.
Back = Callable[["Derivative"], tuple[Array, list[Array]]]


class Derivative(NamedTuple):
    """What reaches an entry in a reverse pass.

    **Fields**

    * `end`: the derivative in what its children see, `None` if none of them has one.
    * `every`: that in its whole activity, from feedbacks; `None` if there are none.
    * `prediction`: that in its prediction, from the energy of what is observed, or `None`.
    * `clamp`: the entry's clamp, through which nothing passes; `None` if it is free.
    """

    end: Array | None = None
    every: Array | None = None
    prediction: Array | None = None
    clamp: Clamp | None = None

    @property
    def empty(self) -> bool:
        """Whether no derivative reaches the entry."""
        whole = self.clamp is not None and self.clamp.whole
        return self.prediction is None and (whole or (self.end is None and self.every is None))

    def parts(self, reached: Array) -> tuple[Array, Array]:
        """The derivatives in the prediction and in the error, from that in the activity."""
        if self.clamp is None:
            return reached, reached
        prediction = jnp.zeros_like(reached) if self.prediction is None else self.prediction
        known = self.clamp.known(reached)
        return jnp.where(known, prediction, reached), jnp.where(known, 0, reached)


@gate
class Entry(Predictor):
    """A row of a network with an activity of its own, which it predicts from its parents'."""

    @property
    def is_root(self) -> bool:
        """Whether it has no parents, so that its prediction is its prior."""
        return False

    @abc.abstractmethod
    def pull(self, sources: list[Any], own: ArrayLike | None) -> tuple[Array, Back]:
        """The prediction, and how derivatives go back.

        The function takes what reaches the entry and returns the derivative in its errors and in
        its sources.
        """

    @abc.abstractmethod
    def unroll(
        self, sources: list[Any], error: Array | None, clamp: Clamp | None
    ) -> tuple[Array, Array, Array | None]:
        """The activity from the sources, the errors and what is clamped.

        What the children see of it, all of it, and the prediction where something is clamped.
        """

    def end(self, activity: Array) -> Array:
        """What the children see of an activity."""
        return activity

    def shown(self, activities: Mapping[str, Any]) -> Array | None:
        """What the children see, from activities by name; `None` is noise that was not drawn."""
        if self.name not in activities:
            raise ValueError(
                f"there is no activity of {self.name!r}, which others read; give it by its name."
            )
        return self.end(checks.array(f"the activity of {self.name!r}", activities[self.name]))

    def read_clamp(self, clamp: Clamp) -> Clamp:
        """A clamp with its value as the entry holds it, before shapes are checked."""
        return clamp

    def add_to_end(self, activity: Array, more: Array) -> Array:
        """The activity with something added to what the children see."""
        return activity + more

    def with_child(
        self, compute: Child, whole: Any, gradient: Array, activity: Array
    ) -> tuple[Array, Array]:
        """A gradient with that of a child's energy, `compute(end, whole)`, and that energy."""
        to_end, energy = compute(self.end(activity), whole)
        return self.add_to_end(gradient, to_end), energy


@gate
class _Single(Entry):
    """What roots and nodes have in common: one prediction by one function."""

    def predict(self, sources: list[Any], own: ArrayLike | None) -> Array:
        predicted: Array = jax.vmap(self.learned_function())(*sources)
        return predicted

    def pull(self, sources: list[Any], own: ArrayLike | None) -> tuple[Array, Back]:
        predicted, pull = jax.vjp(jax.vmap(self.learned_function()), *sources)

        def back(reaching: Derivative) -> tuple[Array, list[Any]]:
            reached = _sum(reaching.end, reaching.every, predicted)
            to_prediction, to_error = reaching.parts(reached)
            return to_error, list(pull(to_prediction))

        return predicted, back

    def unroll(
        self, sources: list[Any], error: Array | None, clamp: Clamp | None
    ) -> tuple[Array, Array, Array | None]:
        activity = predicted = self.predict(sources, None)
        if error is not None:
            activity = predicted + error
        if clamp is None:
            return activity, activity, None
        activity = clamp.meet(activity)
        return activity, activity, predicted


@gate
class Node(_Single):
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

    def __init__(
        self,
        name: Name,
        function: Callable[..., Array],
        parents: str | Sequence[str] = (),
        energy: Energy | None = None,
    ) -> None:
        check_callable(f"node {name!r}", function)
        if holds_statistics(function) and not hasattr(function, "with_batch_statistics"):
            raise TypeError(
                f"node {name!r}: its function {type(function).__name__} holds normalization "
                "statistics, but has no method with_batch_statistics(*sources) that returns it "
                "with the statistics of a batch; add one that calls that of its BatchNorm."
            )
        self.name = name
        self.function = function
        self.parents = as_names(parents)
        self._set_energy(Gaussian() if energy is None else energy)

    def learned_function(self) -> Any:
        return self.function

    def with_function(self, function: Any) -> Node:
        changed: Node = eqx.tree_at(lambda e: e.function, self, function, is_leaf=_is_none)
        return changed

    def infer_shape(self, sources: list[Any]) -> tuple[tuple[int, ...], Any]:
        predicted = traced_shape(self.name, self.function, sources)
        return predicted.shape, predicted


def _learned_mean(mean: Any) -> Array | None:
    """A prior mean that is an array, which learns; `None` for a number."""
    if not isinstance(mean, list | tuple | np.ndarray | jax.Array):
        return None
    found = checks.array("mean", mean).astype(jnp.result_type(float))
    if not checks.is_traced(found) and not np.isfinite(np.asarray(found)).all():
        raise ValueError("mean holds values that are NaN or infinite; give finite ones.")
    return found


@gate
class Root(_Single):
    """An entry without parents: an input where it is clamped, a latent cause where it is not.

        F = (pi / 2) ||z - mean||^2        for what of it is free

    What is clamped of a root is given, not explained: it adds no energy.

    **Arguments**

    * `name`: unique in the network.
    * `shape`: of one example, without the batch.
    * `dtype`: type of its activity; by default that of the network's weights. Integers (tokens)
      have no prior and must be clamped.
    * `mean`: prior mean, a number, or an array that learns and broadcasts to `shape`.
    * `energy`: its precision is that of the prior; `Gaussian()` unless given, a small precision for
      a flat prior. `None` for a pure input, which has no prior, must be clamped and is not counted
      among the nodes.
    * `vocabulary`: number of different tokens, if it holds tokens; others are refused.

    Raises `ValueError` for shapes that are not positive integers, and for other energies.

    ```python
    fx.Network([fx.Root("cause", (32,)), fx.Node("image", decoder)])
    ```

    Source: Rao and Ballard (1999); Whittington and Bogacz (2017).
    """

    mean: Array | None
    name: str = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    constant_mean: float = eqx.field(static=True)
    vocabulary: int | None = eqx.field(static=True)
    has_prior: bool = eqx.field(static=True)

    def __init__(
        self,
        name: Name,
        shape: Shape,
        dtype: DType | None = None,
        mean: Any = 0.0,
        energy: Energy | None = Gaussian(),  # noqa: B008
        vocabulary: Count | None = None,
    ) -> None:
        self.name = name
        self.parents = ()
        kind = dtype
        integers = kind is not None and not jnp.issubdtype(kind, jnp.inexact)
        self.has_prior = energy is not None and not integers
        energy = energy if self.has_prior else Gaussian()
        if not isinstance(energy, Gaussian):
            raise ValueError(
                f"root {name!r} has the energy {energy}; the prior of a root is Gaussian, such as "
                "fx.Gaussian(1.0), or None for an input that is always clamped."
            )
        learned = _learned_mean(mean)
        inner = tuple(shape)
        if learned is not None and not broadcasts(learned.shape, inner):
            raise ValueError(
                f"root {name!r}: its mean has the shape {learned.shape}, which does not fit "
                f"{inner}; give a number, or an array of that shape."
            )
        self.mean = learned
        self.constant_mean = 0.0 if learned is not None else float(checks.number("mean", mean))
        self.shape, self.dtype = inner, kind
        self.vocabulary = vocabulary
        self._set_energy(energy)

    def learned_function(self) -> Any:
        """The prior mean in the shape of an example; its argument tells the type of weights."""

        def prior(nothing: Array) -> Array:
            mean = jnp.asarray(self.constant_mean if self.mean is None else self.mean)
            kind = nothing.dtype if self.dtype is None else self.dtype
            return jnp.broadcast_to(mean, self.shape).astype(kind)

        return prior

    def with_function(self, function: Any) -> Root:
        raise TypeError(f"root {self.name!r} has a prior mean, and no function to replace.")

    @property
    def depth(self) -> int:
        """1, or 0 for an input without a prior."""
        return int(self.has_prior)

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.name,) if self.has_prior else ()

    @property
    def is_root(self) -> bool:
        return True

    def rows(self, values: Array) -> Array:
        return values[None] if self.depth else jnp.zeros((0, *values.shape), values.dtype)

    def infer_shape(self, sources: list[Any]) -> tuple[tuple[int, ...], Any]:
        kind = sources[0].dtype if self.dtype is None else self.dtype
        return self.shape, jax.ShapeDtypeStruct(self.shape, kind)


@gate
class Stack(Chained, Entry):
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
    _depth: int = eqx.field(static=True)
    # How its blocks are computed: all on every device, unless a mesh divides them.
    chain: Chain = eqx.field(static=True, repr=False)

    def __init__(
        self,
        name: Name,
        block: Callable[[Array], Array],
        parents: str | Sequence[str] = (),
        energy: Energy | None = None,
    ) -> None:
        if holds_statistics(block):
            raise ValueError(
                f"stack {name!r}: its blocks hold the statistics of a batch normalization, which a "
                "stack cannot take; use single nodes, GroupNorm or no normalization."
            )
        self._depth = checked_depth(f"stack {name!r}", block)
        self.chain = Chain()
        self.name = name
        self.block = block
        self.parents = as_names(parents)
        self._set_energy(Gaussian() if energy is None else energy)

    def learned_function(self) -> Any:
        return self.block

    def with_function(self, function: Any) -> Stack:
        changed: Stack = eqx.tree_at(lambda e: e.block, self, function, is_leaf=_is_none)
        return changed

    def computed(self, chain: Chain) -> Stack:
        """The same, its blocks computed in another way."""
        return with_fields(self, chain=chain)

    def end(self, activity: Array) -> Array:
        return self.chain.last(activity)

    def add_to_end(self, activity: Array, more: Array) -> Array:
        return self.chain.add_to_last(activity, more)

    def with_child(
        self, compute: Child, whole: Any, gradient: Array, activity: Array
    ) -> tuple[Array, Array]:
        return self.chain.with_child(compute, whole, gradient, activity)

    def read(self, source: Array, own: ArrayLike) -> Array:
        """What the blocks see: the source, then the activity of each block before."""
        return self.chain.shifted(source, jnp.asarray(own))

    def predict(self, sources: list[Any], own: ArrayLike | None) -> Array:
        assert own is not None
        return self.chain.predicted(self.block, self.read(sources[0], own))

    def pull(self, sources: list[Any], own: ArrayLike | None) -> tuple[Array, Back]:
        assert own is not None
        blocks = self.chain.linearized(self.block, self.read(sources[0], own))

        def block_back(reached: Array, row: Any, own: Any) -> tuple[Array, Array]:
            kept, every, prediction, mask = own
            if every is not None:
                reached = reached + every
            clamp = None if prediction is None else Clamp(None, mask)
            found = Derivative(prediction=prediction, clamp=clamp)
            to_prediction, to_error = found.parts(reached)
            return blocks.back(row, kept, to_prediction), to_error

        def back(reaching: Derivative) -> tuple[Array, list[Any]]:
            end = reaching.end
            if end is None:
                end = jnp.zeros(blocks.predicted.shape[1:], blocks.predicted.dtype)
            mask = None if reaching.clamp is None else reaching.clamp.mask
            layers = (blocks.own, reaching.every, reaching.prediction, mask)
            first, every = self.chain.scanned(block_back, end, blocks.rows, layers, reverse=True)
            return every, [first]

        return blocks.predicted, back

    def unroll(
        self, sources: list[Any], error: Array | None, clamp: Clamp | None
    ) -> tuple[Array, Array, Array | None]:
        if clamp is not None and clamp.whole:
            value = clamp.value
            return self.end(value), value, self.predict(sources, value)
        arrays, rest = eqx.partition(self.block, eqx.is_array)

        def one(activity: Array, block: Any, own: Any) -> tuple[Array, tuple[Array, Array | None]]:
            error, clamp = own
            activity = predicted = self.chain.applied(eqx.combine(block, rest), activity)
            if error is not None:
                activity = predicted + error
            if clamp is None:
                return activity, (activity, None)
            activity = clamp.meet(activity)
            return activity, (activity, predicted)

        last, (every, predicted) = self.chain.scanned(one, sources[0], arrays, (error, clamp))
        return last, every, predicted

    def infer_shape(self, sources: list[Any]) -> tuple[tuple[int, ...], Any]:
        predicted = traced_shape(self.name, lambda source: first_block(self.block)(source), sources)
        if predicted.shape != sources[0].shape:
            raise ValueError(
                f"stack {self.name!r}: a block must keep the shape of its input, but maps "
                f"{sources[0].shape} to {predicted.shape}; use single nodes where the "
                "shape changes."
            )
        return (self.depth, *predicted.shape), predicted


def _sum(end: Array | None, every: Array | None, like: Array) -> Array:
    if end is None:
        return jnp.zeros_like(like) if every is None else every
    return end if every is None else end + every


def _is_none(part: object) -> bool:
    return part is None
