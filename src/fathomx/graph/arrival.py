"""When the output's error reaches a node, if activities move one step at a time."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from fathomx.graph.entries import Stack
from fathomx.graph.network import INPUT, Network

# The arrival of a node that nothing connects with the output: later than any step.
NEVER = 2**30


def arrivals(network: Network) -> tuple[int, ...]:
    """The step of state descent at which each node's energy first differs from zero.

    In the order of `network.labels`, from 0 for the output. Activities start at the feedforward
    pass, where only the output has an error. In every step a node moves if it or one of its
    children has an error; afterwards the nodes that moved have errors, and so have their children.
    In a chain of `L` nodes, node `l` is reached in step `L - l`. Along skip connections the signal
    travels faster. A node that is never reached, because nothing connects it with the output, has
    `fathomx.arrival.NEVER`, which is later than any step.

    ```python
    fx.arrivals(fx.models.mlp(4, 2, depth=3, key=jax.random.key(0)))   # (2, 1, 0)
    ```
    """
    parents = _node_parents(network)
    count = len(parents)
    arrival = [NEVER] * count
    arrival[-1] = 0
    moved: set[int] = set()
    for step in range(count):
        wrong = {node for node in range(count) if arrival[node] <= step}
        sources = {parent for node in wrong for parent in parents[node]}
        moved = (wrong | sources) - {count - 1}
        for node in range(count):
            if node in moved or not moved.isdisjoint(parents[node]):
                arrival[node] = min(arrival[node], step + 1)
    return tuple(arrival)


def first_moves(network: Network) -> tuple[int, ...]:
    """The step of state descent in which each node first moves; the output's counts alike.

    A node moves with the first error of its own or of a child: in a chain one step before its own
    energy differs from zero.
    """
    arrival = arrivals(network)
    moves = list(arrival)
    for node, parents in enumerate(_node_parents(network)):
        for parent in parents:
            moves[parent] = min(moves[parent], arrival[node])
    return tuple(moves)


def by_entry(network: Network, values: tuple[int, ...]) -> dict[str, np.ndarray]:
    """One value per node, cut into one vector per entry."""
    cuts = np.cumsum([entry.depth for entry in network.nodes])[:-1]
    names = [entry.name for entry in network.nodes]
    return dict(zip(names, np.split(np.asarray(values), cuts), strict=True))


def entry_weights(network: Network, weights: Shaped[Array, " nodes"]) -> dict[str, Array]:
    """One weight (or truth value) per node as arrays that multiply an entry's activities.

    A scalar for a node, `(depth, 1, ...)` for a stack.
    """
    spread: dict[str, Array] = {}
    begin = 0
    for entry in network.nodes:
        part = weights[begin : begin + entry.depth]
        begin += entry.depth
        if isinstance(entry, Stack):
            # Between the depth and the rest of the shape stands the batch.
            spread[entry.name] = part.reshape(-1, *[1] * len(network.shapes[entry.name]))
        else:
            spread[entry.name] = jnp.squeeze(part, 0)
    return spread


def _node_parents(network: Network) -> list[tuple[int, ...]]:
    """The parents of every node as positions, without the input; a stack is a chain of blocks."""
    last: dict[str, int] = {}
    parents: list[tuple[int, ...]] = []
    for entry in network.nodes:
        above = tuple(last[name] for name in network.parents[entry.name] if name != INPUT)
        for block in range(entry.depth):
            parents.append(above if block == 0 else (len(parents) - 1,))
        last[entry.name] = len(parents) - 1
    return parents
