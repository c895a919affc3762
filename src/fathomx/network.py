"""A predictive coding network: a directed acyclic graph of nodes and stacks of identical blocks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from fathomx.energy import Energy, Gaussian
from fathomx.vector_space import Entries, VectorSpace

INPUT = "input"


class Node(eqx.Module):
    """One node of the graph: it predicts its own activity from its parents' activities.

    **Fields**

    * `name`: unique in the network, not `"input"`.
    * `function`: an Equinox module or function `f(*parent_activities) -> prediction` for **one
      example**; the network vectorizes it over the batch.
    * `parents`: names of the parents, `"input"` for the network's input. Empty: the entry before.
    * `energy`: how activity and prediction are compared; `Gaussian()` unless given.

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

    Raises `ValueError` if the arrays do not share their leading axis.
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
    _input_dtype: Any = eqx.field(static=True)
    _parents: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)
    _shapes: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)

    def __init__(
        self,
        nodes: Sequence[Node | Stack],
        input_shape: Sequence[int],
        input_dtype: Any = None,
    ) -> None:
        self.nodes = tuple(nodes)
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
        weights = jax.tree.leaves(eqx.filter(self.nodes, eqx.is_inexact_array))
        return jnp.result_type(*weights) if weights else jnp.result_type(float)

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
            sources = self._sources(entry, activities, input)
            if isinstance(entry, Stack):
                chain = jnp.concatenate([sources[0][None], activities[entry.name][:-1]])
                predicted[entry.name] = eqx.filter_vmap(_apply_to_batch)(entry.block, chain)
            else:
                predicted[entry.name] = jax.vmap(entry.function)(*sources)
        return predicted

    def unroll(self, errors: Entries | None, input: Array) -> Entries:
        """Activities `z_l = f_l(z_parents(l)) + e_l` from errors, in topological order.

        The output entry holds its prediction. `errors=None` is the feedforward pass.
        """
        activities: Entries = {}
        for entry in self.nodes:
            sources = self._sources(entry, activities, input)
            error = None if errors is None else errors.get(entry.name)
            if isinstance(entry, Stack):
                activities[entry.name] = _scan_blocks(entry.block, sources[0], error)
            else:
                prediction = jax.vmap(entry.function)(*sources)
                activities[entry.name] = prediction if error is None else prediction + error
        return activities

    def _sources(self, entry: Node | Stack, activities: Entries, input: Array) -> list[Array]:
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


def _apply_to_batch(block: Callable[[Array], Array], activity: Array) -> Array:
    return jax.vmap(block)(activity)


def _first_block(block: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, block)


def _scan_blocks(block: Any, source: Array, errors: Array | None) -> Array:
    arrays, rest = eqx.partition(block, eqx.is_array)

    def one(activity: Array, layer: tuple[Any, Array | None]) -> tuple[Array, Array]:
        weights, error = layer
        activity = _apply_to_batch(eqx.combine(weights, rest), activity)
        if error is not None:
            activity = activity + error
        return activity, activity

    return jax.lax.scan(one, source, (arrays, errors))[1]
