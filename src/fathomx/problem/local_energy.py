"""The energy of one entry from its own activity and those of its parents: what locality rests on.

Both derivatives of a predictive coding network are local sums of derivatives of these energies: in
the activities (inference) and in the weights (learning). Taken entry by entry, nothing needs to be
computed for entries that the signal has not reached.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fathomx.graph.arrival import NEVER, arrivals, by_entry
from fathomx.graph.entries import Node, Stack, entry_prediction
from fathomx.graph.network import INPUT
from fathomx.graph.vector_space import Entries, zeros_like
from fathomx.problem.problem import Problem

# A stack's reached part is computed rounded up to this many parts of its depth.
_PARTS = 4

# Derivatives in the parents but the input, in the own activity, and the energy per example.
_Local = tuple[Entries, Array, Array]
# Gradient of a stack's blocks, that of the block before from its own energy, energy per example.
_Carry = tuple[Array, Array, Array]


def entry_energies(
    problem: Problem,
    entry: Node | Stack,
    sources: list[Array],
    activity: Array,
    prediction: Array | None = None,
) -> Float[Array, "rows batch"]:
    """Energy of every node of an entry and every example.

    `activity` is the entry's own; that of the output is the problem's target. `prediction` is
    computed unless given.
    """
    predicted = entry_prediction(entry, sources, activity) if prediction is None else prediction
    if entry.name == problem.network.output.name:
        return problem.output_energy(predicted)[None]
    squares = 0.5 * entry.energy.precision * (activity - predicted) ** 2
    if isinstance(entry, Stack):
        return squares.sum(axis=tuple(range(2, squares.ndim)))
    return squares.sum(axis=tuple(range(1, squares.ndim)))[None]


def constant_predictions(problem: Problem) -> Entries:
    """The predictions that inference cannot change: of nodes that see nothing but the input."""
    network = problem.network
    return {
        entry.name: entry_prediction(entry, network.sources(entry, {}, problem.input), None)
        for entry in network.nodes[:-1]
        if isinstance(entry, Node) and set(network.parents[entry.name]) == {INPUT}
    }


def activity_gradient(
    problem: Problem,
    activities: Entries,
    constant: Entries,
    weights: Float[Array, " nodes"],
    step: Array,
) -> tuple[Entries, Float[Array, " batch"]]:
    """Gradient of `sum_l w_l F_l` in the hidden activities, and the energy `F` without weights.

    In step `step` of state descent from the feedforward pass the energies of nodes with a later
    arrival are zero, and so are their derivatives: they are not computed. `constant` holds the
    `constant_predictions` of the problem.

    A stack on a processor is computed block by block, from the first that is reached: small
    products in order are as fast there as many at once, and keep to the cache. On an accelerator
    its reached part, rounded up to quarters of the depth, is computed at once.
    """
    network = problem.network
    when = by_entry(network, arrivals(network))
    gradient = zeros_like(activities)
    energy = jnp.zeros(problem.batch, network.dtype)
    begin = 0
    for entry in network.nodes:
        end = begin + entry.depth
        sources = network.sources(entry, activities, problem.input)
        own = problem.target if entry is network.output else activities[entry.name]
        part = _Part(
            problem,
            entry,
            network.parents[entry.name],
            when[entry.name],
            weights[begin:end],
            step,
            constant.get(entry.name),
        )
        to_sources, to_own, energies = part.gradient(sources, own)
        begin = end
        energy = energy + energies
        if entry is not network.output:
            gradient[entry.name] = gradient[entry.name] + to_own
        for parent, pulled in to_sources.items():
            stacked = gradient[parent].ndim > pulled.ndim
            gradient[parent] = (
                gradient[parent].at[-1].add(pulled) if stacked else gradient[parent] + pulled
            )
    return gradient, energy


class _Part(NamedTuple):
    """An entry, or the tail of a stack, in one step of inference."""

    problem: Problem
    entry: Node | Stack
    parents: tuple[str, ...]
    when: np.ndarray
    weights: Array
    step: Array
    prediction: Array | None

    def gradient(self, sources: list[Array], own: Array) -> _Local:
        """The derivatives, computed only where the signal has arrived."""
        if isinstance(self.entry, Node):
            return self._at_once(sources, own)
        if jax.default_backend() == "cpu":
            return self._by_block(sources, own)
        found: _Local = jax.lax.platform_dependent(
            sources, own, cpu=self._by_block, default=self._at_once
        )
        return found

    def _by_block(self, sources: list[Array], own: Array) -> _Local:
        stack = self.entry
        assert isinstance(stack, Stack)
        arrays, rest = eqx.partition(stack.block, eqx.is_array)

        def block(row: int | Array, source: Array) -> tuple[Array, Array, Array]:
            function = eqx.combine(jax.tree.map(lambda a: a[row], arrays), rest)
            node = Node(stack.name, function, stack.parents, stack.energy)

            def total(source: Array, own: Array) -> tuple[Array, Array]:
                energies = entry_energies(self.problem, node, [source], own)[0]
                return self.weights[row] * energies.sum(), energies

            grad = jax.grad(total, argnums=(0, 1), has_aux=True)
            (to_source, to_own), energy = grad(source, own[row])
            return to_source, to_own, energy

        def body(row: Array, carry: _Carry) -> _Carry:
            gradient, before, energy = carry
            to_source, to_own, more = block(row, own[row - 1])
            return gradient.at[row - 1].set(before + to_source), to_own, energy + more

        none = jnp.zeros_like(own[0]), jnp.zeros(self.problem.batch, own.dtype)
        counted = jnp.asarray(self.when) <= self.step
        first = jnp.where(counted.any(), jnp.argmax(counted), stack.depth)
        to_source, to_own, energy = jax.lax.cond(
            first == 0, lambda: block(0, sources[0]), lambda: (jnp.zeros_like(sources[0]), *none)
        )
        gradient, to_own, energy = jax.lax.fori_loop(
            jnp.maximum(first, 1), stack.depth, body, (jnp.zeros_like(own), to_own, energy)
        )
        to_sources = {} if self.parents == (INPUT,) else {self.parents[0]: to_source}
        return to_sources, gradient.at[-1].set(to_own), energy

    def _at_once(self, sources: list[Array], own: Array) -> _Local:
        depth = self.entry.depth
        parts = min(_PARTS, depth)
        starts = [round(depth * (parts - i) / parts) for i in range(parts + 1)]
        # The first row reached, for every step until the last arrival.
        last = max((int(when) for when in self.when if when != NEVER), default=0)
        steps = np.arange(last + 1)
        reached = self.when[None] <= steps[:, None]
        first = np.where(reached.any(1), reached.argmax(1), depth)
        branches = [next(i for i, start in enumerate(starts) if start <= f) for f in first]
        branch = jnp.asarray(branches)[jnp.minimum(self.step, len(steps) - 1)]

        def from_row(start: int) -> Callable[[list[Array], Array], _Local]:
            if start == 0:
                return self._everywhere
            return partial(self._nowhere if start == depth else self._tail, start)

        found: _Local = jax.lax.switch(branch, [from_row(s) for s in starts], sources, own)
        return found

    def _everywhere(self, sources: list[Array], own: Array) -> _Local:
        counted = jnp.asarray(self.when) <= self.step
        weights = jnp.where(counted, self.weights, 0)
        constant = {p: s for p, s in zip(self.parents, sources, strict=True) if p == INPUT}
        moving = {p: s for p, s in zip(self.parents, sources, strict=True) if p != INPUT}

        def total(moving: Entries, own: Array) -> tuple[Array, Array]:
            known = {**constant, **moving}
            given = [known[parent] for parent in self.parents]
            energies = entry_energies(self.problem, self.entry, given, own, self.prediction)
            weighted = weights.astype(energies.dtype)[:, None] * energies
            return weighted.sum(), jnp.where(counted[:, None], energies, 0).sum(axis=0)

        (to_sources, to_own), energy = jax.grad(total, argnums=(0, 1), has_aux=True)(moving, own)
        return to_sources, to_own, energy

    def _nowhere(self, start: int, sources: list[Array], own: Array) -> _Local:
        pairs = zip(self.parents, sources, strict=True)
        to_sources = {p: jnp.zeros_like(s) for p, s in pairs if p != INPUT}
        energy = jnp.zeros(self.problem.batch, self.problem.network.dtype)
        return to_sources, jnp.zeros_like(own), energy

    def _tail(self, start: int, sources: list[Array], own: Array) -> _Local:
        assert isinstance(self.entry, Stack)
        blocks = jax.tree.map(lambda a: a[start:] if eqx.is_array(a) else a, self.entry.block)
        tail = self._replace(
            entry=eqx.tree_at(lambda stack: stack.block, self.entry, blocks),
            parents=("before",),
            when=self.when[start:],
            weights=self.weights[start:],
        )
        pulled, to_tail, energy = tail._everywhere([own[start - 1]], own[start:])
        to_sources, to_own, _ = self._nowhere(start, sources, own)
        to_own = to_own.at[start:].set(to_tail).at[start - 1].add(pulled["before"])
        return to_sources, to_own, energy
