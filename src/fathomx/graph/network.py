"""A predictive coding network: a directed acyclic graph of entries."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from fathomx.graph.energy import Gaussian
from fathomx.graph.entries import Node, Stack, _activity, _first_block, entry_prediction
from fathomx.graph.statistics import (
    _is_statistics,
    holds_statistics,
    weights,
    with_batch_statistics,
)
from fathomx.graph.vector_space import Entries, VectorSpace

INPUT = "input"


class Network(eqx.Module):
    """A network of `Node`s and `Stack`s in topological order; the last node is the output.

    Node `l` has an activity `z_l`, a prediction `mu_l = f_l(z_parents(l))` and an error
    `e_l = z_l - mu_l`. The network knows how to compute predictions from activities
    (`predictions`, all nodes at once) and activities from errors (`unroll`, in order); energies,
    inference and learning are built on these two.

    **Arguments**

    * `nodes`: the entries in an order in which parents come first.
    * `input_shape`: shape of one input, without the batch.
    * `input_dtype`: type of the input; by default that of the weights. Integers (tokens) stay.
    * `vocabulary`: number of different tokens, if the input is tokens; others are refused.

    **Attributes**: `depth` (number of nodes), `labels` (their names), `shapes` (of one example's
    activity, by entry), `hidden` (names of all entries but the output).

    Raises `ValueError` for repeated or unknown names, for a graph that is not in topological order
    and for shapes that do not fit, naming the node.

    ```python
    network = fx.Network([fx.Node("hidden", f), fx.Node("output", g)], input_shape=(784,))
    ```
    """

    nodes: tuple[Node | Stack, ...]
    input_shape: tuple[int, ...] = eqx.field(static=True)
    vocabulary: int | None = eqx.field(static=True)
    _input_dtype: Any = eqx.field(static=True)
    _parents: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)
    _shapes: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)

    def __init__(
        self,
        nodes: Sequence[Node | Stack],
        input_shape: Sequence[int],
        input_dtype: Any = None,
        vocabulary: int | None = None,
    ) -> None:
        self.nodes = tuple(nodes)
        self.vocabulary = vocabulary
        self.input_shape = tuple(int(size) for size in input_shape)
        self._parents = tuple(_resolve_parents(self.nodes).items())
        self._input_dtype = None if input_dtype is None else jnp.dtype(input_dtype)
        self._shapes = tuple(self._infer_shapes().items())

    @property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """Names of every entry's parents."""
        return dict(self._parents)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one example's activity by entry; a stack's begins with its depth."""
        return dict(self._shapes)

    @property
    def dtype(self) -> Any:
        """The floating-point type that activities, errors and energies follow: the weights'."""
        learned = jax.tree.leaves(weights(self.nodes))
        return jnp.result_type(*learned) if learned else jnp.result_type(float)

    @property
    def input_dtype(self) -> Any:
        """The type that inputs are cast to."""
        return self.dtype if self._input_dtype is None else self._input_dtype

    @property
    def depth(self) -> int:
        """Number of nodes, the input not counted."""
        return sum(entry.depth for entry in self.nodes)

    @property
    def output(self) -> Node:
        """The last node, whose activity is clamped to the target."""
        last = self.nodes[-1]
        assert isinstance(last, Node)
        return last

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names of the entries that are free to relax."""
        return tuple(entry.name for entry in self.nodes[:-1])

    @property
    def labels(self) -> tuple[str, ...]:
        """One name per node, in the order in which energies are reported."""
        names: list[str] = []
        for entry in self.nodes:
            if isinstance(entry, Stack):
                names += [f"{entry.name}[{i}]" for i in range(entry.depth)]
            else:
                names.append(entry.name)
        return tuple(names)

    @property
    def space(self) -> VectorSpace:
        """Per-example linear algebra on this network's activities and errors."""
        return VectorSpace(tuple((e.name, int(isinstance(e, Stack))) for e in self.nodes))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one prediction of the output node."""
        return self.shapes[self.output.name]

    def zeros(self, batch: int) -> Entries:
        """Errors of the feedforward pass: zero for every hidden node and example."""
        zeros: Entries = {}
        for entry in self.nodes[:-1]:
            shape = self.shapes[entry.name]
            lead = (*shape[:1], batch, *shape[1:]) if isinstance(entry, Stack) else (batch, *shape)
            zeros[entry.name] = jnp.zeros(lead, self.dtype)
        return zeros

    def predictions(self, activities: Entries, input: Array) -> Entries:
        """`mu_l = f_l(z_parents(l))` of every node from the activities of its parents.

        `activities` needs the hidden entries; nodes do not wait for one another.
        """
        predicted: Entries = {}
        for entry in self.nodes:
            sources = self.sources(entry, activities, input)
            predicted[entry.name] = entry_prediction(entry, sources, activities.get(entry.name))
        return predicted

    def unroll(self, errors: Entries | None, input: Array) -> Entries:
        """Activities `z_l = f_l(z_parents(l)) + e_l` from errors, in topological order.

        The output entry holds its prediction. `errors=None` is the feedforward pass.
        """
        activities: Entries = {}
        # A child reads the end of a stack's scan, not a slice of all its activities, whose
        # derivative would be zeros of the size of the stack.
        ends = {INPUT: input}
        for entry in self.nodes:
            sources = [ends[parent] for parent in self.parents[entry.name]]
            error = None if errors is None else errors.get(entry.name)
            ends[entry.name], activities[entry.name] = _activity(entry, sources, error)
        return activities

    def with_batch_statistics(self, input: Array) -> Network:
        """The network that normalizes by the statistics of this batch's feedforward pass.

        `input` is `(batch, *input_shape)`, of at least two examples. Node by node, in order: the
        statistics of a node come from parents that are normalized already. The result is an
        ordinary network with constants in place of the batch, so that its examples do not
        interact; taken before inference, the statistics are frozen while activities relax.
        Differentiable in the weights: taken inside of a loss, the gradient is that of live batch
        normalization. A network without `Statistics` is returned as it is, at no cost.

        Raises `ValueError` for a batch of one example.

        ```python
        frozen = network.with_batch_statistics(x)
        ```

        Source: Ioffe and Szegedy (2015); freezing during inference: Qi et al. (2025), arXiv
        2506.23800.
        """
        holding = [entry for entry in self.nodes if holds_statistics(entry)]
        if not holding:
            return self
        if input.shape[0] < 2:
            raise ValueError(
                f"node {holding[0].name!r} normalizes by statistics of the batch, but the batch "
                'has one example; use a larger batch, normalization="group" or no normalization.'
            )
        nodes: list[Node | Stack] = []
        activities: Entries = {}
        for entry in self.nodes:
            sources = self.sources(entry, activities, input)
            if isinstance(entry, Node):
                taken = with_batch_statistics(entry.function, *sources)
                entry = Node(entry.name, taken, entry.parents, entry.energy)
            nodes.append(entry)
            activities[entry.name] = _activity(entry, sources, None)[1]
        return self._with_nodes(tuple(nodes))

    def moved_statistics(self, batch: Network, momentum: float = 0.1) -> Network:
        """The network with its statistics moved towards those of `batch`: running averages.

            stored <- (1 - momentum) * stored + momentum * batch

        for means and variances; the weights stay. `batch` is this network
        `with_batch_statistics`, and `momentum` lies in 0..1, or `ValueError` is raised. No
        derivative passes through the averages. A network without `Statistics` is returned as it
        is.

        ```python
        network = network.moved_statistics(network.with_batch_statistics(x))
        ```

        Source: Ioffe and Szegedy (2015). The variance that is averaged is that of the batch
        itself, without their factor `n / (n - 1)`.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"momentum is the part of the new statistics in the running average and must lie "
                f"in 0..1, not {momentum!r}; 0.1 is usual."
            )
        if not holds_statistics(self):
            return self

        def move(stored: Any, taken: Any) -> Any:
            if not _is_statistics(stored):
                return stored
            return jax.tree.map(
                lambda old, new: (1 - momentum) * old + momentum * jax.lax.stop_gradient(new),
                stored,
                taken,
            )

        return self._with_nodes(jax.tree.map(move, self.nodes, batch.nodes, is_leaf=_is_statistics))

    def _with_nodes(self, nodes: tuple[Node | Stack, ...]) -> Network:
        replaced: Network = eqx.tree_at(lambda network: network.nodes, self, nodes)
        return replaced

    def sources(self, entry: Node | Stack, activities: Entries, input: Array) -> list[Array]:
        """The activities of an entry's parents; of a stack, that of its last block."""
        stacks = {e.name for e in self.nodes if isinstance(e, Stack)}
        return [
            input
            if parent == INPUT
            else (activities[parent][-1] if parent in stacks else activities[parent])
            for parent in self.parents[entry.name]
        ]

    def _infer_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        outputs = {INPUT: jax.ShapeDtypeStruct(self.input_shape, self.input_dtype)}
        for entry in self.nodes:
            sources = [outputs[parent] for parent in self.parents[entry.name]]
            given = ", ".join(f"{p}: {outputs[p].shape}" for p in self.parents[entry.name])
            function = entry.function if isinstance(entry, Node) else _first_block(entry.block)
            try:
                predicted = eqx.filter_eval_shape(function, *sources)
            except (TypeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise ValueError(
                    f"node {entry.name!r} cannot be applied to its parents' shapes ({given}): "
                    f"{reason} Check the sizes of this node and of its parents."
                ) from error
            if not isinstance(predicted, jax.ShapeDtypeStruct):
                raise ValueError(f"node {entry.name!r} must return one array, not {predicted}.")
            if isinstance(entry, Stack):
                if predicted.shape != sources[0].shape:
                    raise ValueError(
                        f"stack {entry.name!r}: a block must keep the shape of its input, but maps "
                        f"{sources[0].shape} to {predicted.shape}; use single nodes where the "
                        "shape changes."
                    )
                shapes[entry.name] = (entry.depth, *predicted.shape)
            else:
                shapes[entry.name] = predicted.shape
            outputs[entry.name] = predicted
        return shapes


def _resolve_parents(nodes: tuple[Node | Stack, ...]) -> dict[str, tuple[str, ...]]:
    for entry in nodes:
        if not isinstance(entry, Node | Stack):
            raise TypeError(f"entries must be Node or Stack, not {type(entry).__name__}.")
    if len(nodes) < 2:
        raise ValueError("a network needs at least two nodes: a hidden one and the output.")
    if not isinstance(nodes[-1], Node):
        raise ValueError("the last entry is the output and must be a Node, not a Stack.")
    known = [INPUT]
    parents: dict[str, tuple[str, ...]] = {}
    for entry in nodes:
        if entry.name in known:
            raise ValueError(f"node name {entry.name!r} is used twice or reserved; rename one.")
        resolved = entry.parents or (known[-1],)
        for parent in resolved:
            if parent not in known:
                near = difflib.get_close_matches(parent, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"node {entry.name!r} names the parent {parent!r}, which does not come before "
                    f"it; parents must precede their children.{hint}"
                )
        if isinstance(entry, Stack) and len(resolved) != 1:
            raise ValueError(f"stack {entry.name!r} needs exactly one parent, not {resolved}.")
        if entry is not nodes[-1] and not isinstance(entry.energy, Gaussian):
            raise ValueError(
                f"hidden node {entry.name!r} has the energy {entry.energy}; hidden nodes need a "
                "Gaussian energy, only the output may have another."
            )
        parents[entry.name] = tuple(resolved)
        known.append(entry.name)
    return parents
