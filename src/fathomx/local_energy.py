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

from fathomx.arrival import NEVER, arrivals, by_entry
from fathomx.network import INPUT, Node, Stack, entry_prediction
from fathomx.problem import Problem
from fathomx.vector_space import Entries, zeros_like

# A stack's reached part is computed rounded up to this many parts of its depth.
_PARTS = 4

# Derivatives in the parents but the input, in the own activity, and the energy per example.
_Local = tuple[Entries, Array, Array]


def entry_energies(
    problem: Problem, entry: Node | Stack, sources: list[Array], activity: Array
) -> Float[Array, "rows batch"]:
    """Energy of every node of an entry and every example.

    `activity` is the entry's own; that of the output is the problem's target.
    """
    predicted = entry_prediction(entry, sources, activity)
    if entry.name == problem.network.output.name:
        return problem.output_energy(predicted)[None]
    squares = 0.5 * entry.energy.precision * (activity - predicted) ** 2
    if isinstance(entry, Stack):
        return squares.sum(axis=tuple(range(2, squares.ndim)))
    return squares.sum(axis=tuple(range(1, squares.ndim)))[None]


def activity_gradient(
    problem: Problem, activities: Entries, weights: Float[Array, " nodes"], step: Array
) -> tuple[Entries, Float[Array, " batch"]]:
    """Gradient of `sum_l w_l F_l` in the hidden activities, and the energy `F` without weights.

    In step `step` of state descent from the feedforward pass the energies of nodes with a later
    arrival are zero, and so are their derivatives: they are not computed. (A stack is computed from
    the first node reached, rounded down to quarters of its depth.)
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

    def gradient(self, sources: list[Array], own: Array) -> _Local:
        """The derivatives, computed only where the signal has arrived."""
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
            energies = entry_energies(self.problem, self.entry, given, own)
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
