"""When errors reach a node, if activities move one step at a time."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Array, Shaped

from fathomx.checks import gate
from fathomx.graph.network import Network

# The arrival of a node that nothing connects with what is observed: later than any step.
NEVER = 2**30


@gate
def arrivals(
    network: Network,
    clamped: Collection[str] | None = None,
    observed: Collection[str] | None = None,
) -> tuple[int, ...]:
    """The step of state descent at which each node's energy first differs from zero.

    In the order of `network.labels`. Activities start at the feedforward pass, where only what is
    observed has an error, and feedbacks have one: these have 0. In every step a node moves if it or
    one of its children has an error; afterwards the nodes that moved have errors, and so have their
    children. In a chain of `L` nodes whose output is observed, node `l` is reached in step `L - l`.
    Along skip connections the signal travels faster. A node that is never reached, because nothing
    connects it with an error, has `fathomx.graph.arrival.NEVER`, which is later than any step.

    **Arguments**: `network`; `clamped`, the names of entries that do not move, pure inputs and the
    output unless given; `observed`, the names of entries with something clamped and a prediction,
    the output unless given. `problem.arrivals` knows them of a problem.

    ```python
    fx.arrivals(fx.models.mlp(4, 2, depth=3, key=jax.random.key(0)))   # (2, 1, 0)
    ```
    """
    for name in (*(clamped or ()), *(observed or ())):
        network.entry(name)
    graph = _Graph(network, clamped, observed)
    arrival = np.full(graph.count, NEVER)
    arrival[list(graph.wrong)] = 0
    for step in range(graph.count):
        wrong = set(np.flatnonzero(arrival <= step).tolist())
        moved = graph.moved(wrong)
        for node, read in enumerate(graph.reads):
            if node in moved or not moved.isdisjoint(read):
                arrival[node] = min(arrival[node], step + 1)
    return tuple(arrival.tolist())


def first_moves(
    network: Network,
    clamped: Collection[str] | None = None,
    observed: Collection[str] | None = None,
) -> tuple[int, ...]:
    """The step of state descent in which each node first moves; that of what is clamped alike.

    A node moves with the first error of its own or of a child: in a chain one step before its own
    energy differs from zero. Arguments as for `arrivals`.
    """
    arrival = arrivals(network, clamped, observed)
    moves = list(arrival)
    for node, read in enumerate(_Graph(network, clamped, observed).reads):
        for other in read:
            moves[other] = min(moves[other], arrival[node])
    return tuple(moves)


def by_entry(network: Network, values: tuple[int, ...]) -> dict[str, np.ndarray]:
    """One value per node, cut into one vector per entry and feedback."""
    parts = list(network.predictors())
    cuts = np.cumsum([part.depth for part in parts])[:-1]
    names = [part.name for part in parts]
    return dict(zip(names, np.split(np.asarray(values), cuts), strict=True))


def entry_weights(network: Network, weights: Shaped[Array, " nodes"]) -> dict[str, Array]:
    """One weight (or truth value) per node as arrays that multiply an activity.

    A scalar for a node, `(depth, 1, ...)` for a stack.
    """
    spread: dict[str, Array] = {}
    begin = 0
    for part in network.predictors():
        if not part.depth:
            continue
        own = weights[begin : begin + part.depth]
        begin += part.depth
        # Between the depth of a stack and the rest of the shape stands the batch.
        spread[part.name] = part.spread(own, len(network.shapes[part.name]) + 1)
    return spread


class _Graph:
    """The nodes as positions: what each energy reads, which have errors, which do not move."""

    def __init__(
        self,
        network: Network,
        clamped: Collection[str] | None,
        observed: Collection[str] | None,
    ) -> None:
        output = network.output.name
        inputs = {root.name for root in network.roots if not root.depth}
        clamped = {*inputs, output} if clamped is None else clamped
        observed = {output} if observed is None else observed
        self.reads: list[tuple[int, ...]] = []
        self.fixed: set[int] = set()
        self.wrong: set[int] = set()
        places: dict[str, list[int]] = {}
        for entry in network.entries:
            above = _ends(places, network.parents[entry.name])
            places[entry.name] = []
            for block in range(entry.depth):
                place = len(self.reads)
                self.reads.append(above if block == 0 else (place - 1,))
                places[entry.name].append(place)
            self.fixed |= set(places[entry.name]) if entry.name in clamped else set()
            self.wrong |= set(places[entry.name]) if entry.name in observed else set()
        self.movable = len(self.reads)
        for feedback in network.feedbacks:
            of, parents = places[feedback.of], network.parents[feedback.name]
            for block in range(feedback.depth):
                self.wrong.add(len(self.reads))
                if feedback.batch_axis:
                    self.reads.append((*self.reads[of[block]], of[block]))
                else:
                    self.reads.append((*of[-1:], *_ends(places, parents)))

    @property
    def count(self) -> int:
        return len(self.reads)

    def moved(self, wrong: set[int]) -> set[int]:
        """The nodes that move when these have errors."""
        read = {other for node in wrong for other in self.reads[node]}
        return {node for node in wrong | read if node < self.movable} - self.fixed


def _ends(places: dict[str, list[int]], names: tuple[str, ...]) -> tuple[int, ...]:
    """The last nodes of some entries; pure inputs have none."""
    return tuple(places[name][-1] for name in names if places[name])
