"""Networks from layers that exist already: Equinox modules and functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fathomx.checks import DType, gate
from fathomx.graph.energy import Energy
from fathomx.graph.entries import Entry, Node, Stack
from fathomx.graph.feedback import Feedback
from fathomx.graph.network import Network

_TOLERANCE = 1e-4


class Chain(eqx.Module):
    """Layers one after another, as the function of one node.

    **Fields**: `layers`, called in order, each on what the one before returned.
    """

    layers: tuple[Callable[[Array], Array], ...]

    def __call__(self, activity: Array) -> Array:
        for layer in self.layers:
            activity = layer(activity)
        return activity


@gate
def wrap(
    layers: Any,
    input_shape: Sequence[int],
    names: Sequence[str] | None = None,
    *,
    input_dtype: DType | None = None,
    output: Energy | None = None,
    feedbacks: Sequence[Feedback] = (),
) -> Network:
    """A network from layers that exist already, trained or not: a node for each that has weights.

    Functions and layers without weights (activations, pooling, reshaping) belong to the node of the
    next layer with weights, at the end to the last node. Neighbors of the same structure that keep
    the shape of their input become one `Stack`, so that depth costs nothing to compile.

    **Arguments**

    * `layers`: a list of callables for one example, an `eqx.nn.Sequential`, or an `eqx.nn.MLP`.
    * `input_shape`: of one example.
    * `names`: one for each node, which are then not joined to stacks; `layer1`, `layer2` and so on,
      `output` for the last, unless given.
    * `input_dtype`: as for `fx.Network`.
    * `output`: energy of the last node; `Gaussian()` unless given.
    * `feedbacks`: as for `fx.Network`; `fx.models.with_feedbacks` makes one for every node.

    Raises `TypeError` for what holds no layers and for layers that need a key or a state, and
    `ValueError` for fewer than two layers with weights, unlike numbers of names, and where the
    network would predict something else than the layers do (compared on a random input).

    ```python
    model = eqx.nn.MLP(784, 10, width_size=64, depth=8, key=jax.random.key(0))
    network = fx.wrap(model, (784,), output=fx.Categorical())
    ```
    """
    whole, parts = _layers(layers)
    _check_separate(parts)
    groups = _grouped(parts)
    if len(groups) < 2:
        raise ValueError(
            f"a network needs at least two layers with weights, and there are {len(groups)}; pass "
            "all layers, one after another."
        )
    if names is not None and len(names) != len(groups):
        raise ValueError(
            f"there are {len(names)} names, but {len(groups)} nodes; give one name for each layer "
            "with weights."
        )
    kind = jnp.result_type(float) if input_dtype is None else input_dtype
    seen = jax.ShapeDtypeStruct(tuple(input_shape), kind)
    entries = _entries(groups, names, seen, output)
    network = Network(entries, input_shape, input_dtype, feedbacks=feedbacks)
    _check_same(network, whole)
    return network


def _layers(given: Any) -> tuple[Callable[[Array], Array], list[Any]]:
    """What is called as a whole, and its layers."""
    if isinstance(given, eqx.nn.MLP):
        if jax.tree.leaves(eqx.filter((given.activation, given.final_activation), eqx.is_array)):
            raise TypeError(
                "the activations of this eqx.nn.MLP hold arrays; pass a list of its layers and "
                "activations instead."
            )
        parts: list[Any] = []
        for layer in given.layers[:-1]:
            parts += [layer, given.activation]
        return given, [*parts, given.layers[-1], given.final_activation]
    if isinstance(given, eqx.nn.Sequential):
        parts = list(given.layers)
        whole: Any = Chain(tuple(parts))
    elif isinstance(given, Sequence) and not isinstance(given, str):
        parts = list(given)
        for part in parts:
            if not callable(part):
                raise TypeError(f"layers must be callable, and {type(part).__name__} is not.")
        whole = Chain(tuple(parts))
    else:
        raise TypeError(
            "fx.wrap takes a list of layers, an eqx.nn.Sequential or an eqx.nn.MLP, not "
            f"{type(given).__name__}; for other modules write nodes: fx.Node(name, module)."
        )
    return whole, _flat(parts)


def _flat(parts: list[Any]) -> list[Any]:
    """Layers one by one, checked."""
    flat: list[Any] = []
    for part in parts:
        if isinstance(part, eqx.nn.Sequential):
            flat += _flat(list(part.layers))
        elif isinstance(part, eqx.nn.StatefulLayer) and part.is_stateful():
            raise TypeError(
                f"{type(part).__name__} keeps a state, which a node has no place for; use "
                "fathomx.layers.BatchNorm, or a normalization without a state."
            )
        elif isinstance(part, eqx.nn.Dropout) and not part.inference and part.p > 0:
            raise TypeError(
                "Dropout needs a key, which a wrapped layer does not get; give "
                "eqx.nn.inference_mode(layers) to predict without it, or write a node that reads "
                "an fx.Noise."
            )
        else:
            flat.append(part)
    return flat


def _grouped(parts: list[Any]) -> list[tuple[Any, ...]]:
    """Layers by node: up to and with the next one that has weights."""
    groups: list[tuple[Any, ...]] = []
    waiting: tuple[Any, ...] = ()
    for part in parts:
        waiting = (*waiting, part)
        if jax.tree.leaves(eqx.filter(part, eqx.is_inexact_array)):
            groups.append(waiting)
            waiting = ()
    if waiting and groups:
        groups[-1] += waiting
    return groups


def _entries(
    groups: list[tuple[Any, ...]],
    names: Sequence[str] | None,
    seen: jax.ShapeDtypeStruct,
    output: Energy | None,
) -> list[Entry]:
    functions = [group[0] if len(group) == 1 else Chain(group) for group in groups]
    if names is not None:
        last = len(names) - 1
        pairs = list(enumerate(zip(names, functions, strict=True)))
        return [Node(n, f, energy=output if i == last else None) for i, (n, f) in pairs]
    entries: list[Entry] = []
    run: list[Any] = []
    keeps = _keep_shapes(functions, seen)
    # The output is a node of its own.
    for index, function in enumerate(functions[:-1]):
        kept = keeps[index] and keeps[index - 1]
        alike = run and kept and eqx.tree_equal(_form(run[-1]), _form(function))
        if not alike and run:
            entries.append(_joined(run, index - len(run)))
            run = []
        run.append(function)
    if run:
        entries.append(_joined(run, len(functions) - 1 - len(run)))
    return [*entries, Node("output", functions[-1], energy=output)]


def _joined(run: list[Any], begin: int) -> Entry:
    name = f"layer{begin + 1}"
    if len(run) == 1:
        return Node(name, run[0])
    arrays = [eqx.filter(function, eqx.is_array) for function in run]
    rest = eqx.filter(run[0], eqx.is_array, inverse=True)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
    return Stack(f"{name}to{begin + len(run)}", eqx.combine(stacked, rest))


def _keep_shapes(functions: list[Any], seen: Any) -> list[bool]:
    """Which functions return the shape that they are given."""
    keeps = []
    for function in functions:
        try:
            found = eqx.filter_eval_shape(function, seen)
        except (TypeError, ValueError):
            # The network says what does not fit.
            return [False] * len(functions)
        keeps.append(getattr(found, "shape", None) == seen.shape)
        seen = found
    return keeps


def _check_separate(parts: list[Any]) -> None:
    seen: set[int] = set()
    for part in parts:
        own = {id(leaf) for leaf in jax.tree.leaves(eqx.filter(part, eqx.is_inexact_array))}
        if own & seen:
            raise ValueError(
                f"two of the layers hold the same array (a {type(part).__name__}), which would "
                "become two sets of weights; write nodes, and give share= to fx.Network."
            )
        seen |= own


def _form(function: Any) -> Any:
    """A function with the shapes and types of its arrays in their place."""
    return jax.tree.map(
        lambda leaf: (leaf.shape, str(leaf.dtype)) if eqx.is_array(leaf) else leaf, function
    )


def _check_same(network: Network, whole: Callable[[Array], Array]) -> None:
    shape, kind = network.input_shape, network.input_dtype
    rng = np.random.default_rng(0)
    if jnp.issubdtype(kind, jnp.inexact):
        x = jnp.asarray(rng.normal(size=(2, *shape)), kind)
    else:
        x = jnp.zeros((2, *shape), kind)
    found = np.asarray(network.unroll(None, x)[network.output.name], np.float64)
    expected = np.asarray(jax.vmap(whole)(x), np.float64)
    scale = np.abs(expected).max(initial=1e-12)
    if found.shape != expected.shape or np.abs(found - expected).max() > _TOLERANCE * scale:
        raise ValueError(
            "the network would not predict what the layers do; pass layers that are applied one "
            "after another, and write others as nodes."
        )
