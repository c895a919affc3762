"""Feedbacks: further predictions of entries that have their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from fathomx.checks import Name, gate
from fathomx.graph.energy import Energy, Gaussian
from fathomx.graph.entries import Entry, Stack
from fathomx.graph.predictor import (
    Chained,
    Predictor,
    apply_blocks,
    as_names,
    check_callable,
    checked_depth,
    first_block,
    traced_shape,
)
from fathomx.graph.statistics import holds_statistics


@gate
class Feedback(Predictor):
    """A further prediction of an entry, from any entries, later ones included.

        F_f = (pi_f / 2) ||z_of - g(z_parents)||^2

    Top-down predictions on a bottom-up network, lateral and recurrent edges. It adds an energy and
    no activity: its error is the discrepancy `z_of - g(z_parents)`. Of a `Stack`, what children see
    of it (its last block) is predicted.

    Without `parents`, of a `Stack`: one feedback block for each of its blocks, which predicts from
    the block's activity what the block reads, so that the program does not grow with depth. The
    arrays of `function` then have the stack's depth as their leading axis.

    **Fields**

    * `name`: unique in the network.
    * `of`: name of the entry that is predicted.
    * `function`: `g(*parent_activities) -> prediction` for one example.
    * `parents`: names of entries; of a stack may be empty.
    * `energy`: `Gaussian()` unless given; its precision says how much the feedback counts. The
      output precision of a problem does not multiply it.

    Raises `TypeError` and `ValueError` for functions and energies that do not fit, when it is built
    or when the network is.

    ```python
    fx.Network([...], feedbacks=[fx.Feedback("back", "hidden", top_down, parents=("output",))])
    ```

    Source: Rao and Ballard (1999); bidirectional: Oliviers et al. (2025), arXiv 2505.23415; graphs
    with any edges: Salvatori et al. (2022), arXiv 2201.13180. Ours: on stacks at any depth.
    """

    function: Callable[..., Array]
    name: str = eqx.field(static=True)
    of: str = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        name: Name,
        of: str,
        function: Callable[..., Array],
        parents: str | Sequence[str] = (),
        energy: Energy | None = None,
    ) -> None:
        check_callable(f"feedback {name!r}", function)
        if holds_statistics(function):
            raise ValueError(
                f"feedback {name!r}: its function holds the statistics of a batch normalization, "
                "which are taken on the way forward; use GroupNorm or no normalization."
            )
        self.name, self.of = name, of
        self.function = function
        self.parents = as_names(parents)
        self._set_energy(Gaussian() if energy is None else energy)
        if not isinstance(self.energy, Gaussian):
            raise ValueError(
                f"feedback {name!r} has the energy {energy}; a feedback's is Gaussian, since it "
                "compares two activities."
            )

    def learned_function(self) -> Any:
        return self.function

    def with_function(self, function: Any) -> Feedback:
        changed: Feedback = eqx.tree_at(
            lambda e: e.function, self, function, is_leaf=lambda part: part is None
        )
        return changed

    def bound(self, entries: Mapping[str, Entry]) -> Feedback:
        """The feedback as the network needs it, once it knows what is predicted."""
        of = entries[self.of]
        if self.parents:
            return self
        if isinstance(of, Stack):
            return ChainFeedback(self, of)
        raise ValueError(
            f"feedback {self.name!r} needs the parents that it predicts {self.of!r} from; only the "
            "feedback of a Stack may leave them out."
        )

    def target(self, of: Entry, sources: list[Any], activity: Array) -> Array:
        """What is predicted, from the activity of `of` and from what that entry reads."""
        return of.end(activity)

    def sources(self, ends: list[Array], activity: Array) -> list[Array]:
        """What the feedback predicts from: what its parents show, or the blocks' activities."""
        return ends

    def predict(self, sources: list[Any], own: Any = None) -> Array:
        predicted: Array = jax.vmap(self.function)(*sources)
        return predicted

    def infer_shape(self, sources: list[Any]) -> tuple[tuple[int, ...], Any]:
        predicted = traced_shape(self.name, self.function, sources)
        return predicted.shape, predicted


@gate
class Amortized(Feedback):
    """A prediction of an entry that inference starts from, and that learns what inference found.

        start:  z_of = g(z_parents),        learning:  1/2 ||z_of - g(z_parents)||^2 at the end

    It adds no energy: what is inferred is as without it, only sooner. `fx.infer` begins at what the
    amortized predictions say, one after another, where all that they read is clamped or predicted
    by another; `at=` goes before them. Entries that none predicts start at their own prediction.

    **Fields**: `name`, `of`, `function` and `parents`, as for `Feedback`. `of` is a root or a node.

    Raises `ValueError` for a stack, and as `Feedback` does.

    ```python
    fx.Network(
        [fx.Root("cause", (2,)), fx.Node("image", decoder)],
        feedbacks=[fx.Amortized("encoder", "cause", encoder, "image")],
    )
    ```

    Source: hybrid predictive coding, Tscshantz et al. (2023), doi 10.1371/journal.pcbi.1011280.
    """

    def __init__(
        self,
        name: Name,
        of: str,
        function: Callable[..., Array],
        parents: str | Sequence[str],
    ) -> None:
        super().__init__(name, of, function, parents)

    @property
    def depth(self) -> int:
        """0: it has no energy to report."""
        return 0

    @property
    def labels(self) -> tuple[str, ...]:
        return ()

    def rows(self, values: Array) -> Array:
        return jnp.zeros((0, *values.shape), values.dtype)

    def bound(self, entries: Mapping[str, Entry]) -> Feedback:
        for name in (self.of, *self.parents):
            if entries[name].batch_axis:
                raise ValueError(
                    f"amortized {self.name!r} is about the stack {name!r}; it predicts roots and "
                    "nodes, from roots and nodes."
                )
        return self


class ChainFeedback(Chained, Feedback):
    """The feedback of a stack, block by block."""

    _depth: int = eqx.field(static=True)

    def __init__(self, feedback: Feedback, of: Stack) -> None:
        self._depth = checked_depth(f"feedback {feedback.name!r}", feedback.function)
        self.name, self.of, self.parents = feedback.name, feedback.of, (feedback.of,)
        self.function = feedback.function
        self._set_energy(feedback.energy)
        if self.depth != of.depth:
            raise ValueError(
                f"feedback {self.name!r} has {self.depth} blocks, but the stack {of.name!r} has "
                f"{of.depth}; give one feedback block for each."
            )

    def bound(self, entries: Mapping[str, Entry]) -> Feedback:
        return self

    def target(self, of: Entry, sources: list[Any], activity: Array) -> Array:
        assert isinstance(of, Stack)
        return of.read(sources[0], activity)

    def sources(self, ends: list[Array], activity: Array) -> list[Array]:
        return [activity]

    def predict(self, sources: list[Any], own: Any = None) -> Array:
        return apply_blocks(self.function, sources[0])

    def backwards(self, end: Array) -> tuple[Array, Array]:
        """What the first block reads and all activities, from the last one: block after block."""
        arrays, rest = eqx.partition(self.function, eqx.is_array)

        def one(activity: Array, block: Any) -> tuple[Array, Array]:
            read: Array = jax.vmap(eqx.combine(block, rest))(activity)
            return read, activity

        return jax.lax.scan(one, end, arrays, reverse=True)

    def infer_shape(self, sources: list[Any]) -> tuple[tuple[int, ...], Any]:
        predicted = traced_shape(self.name, first_block(self.function), sources)
        return (self.depth, *predicted.shape), predicted
