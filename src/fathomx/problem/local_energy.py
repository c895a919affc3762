"""The energy of one entry from its own activity and those of its parents: what locality rests on.

Both derivatives of a predictive coding network are local sums of derivatives of these energies: in
the activities (inference) and in the weights (learning). Taken entry by entry, nothing needs to be
computed for entries that the signal has not reached.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fathomx.graph.arrival import NEVER, by_entry
from fathomx.graph.chain import Chain, Local
from fathomx.graph.entries import Entry, Stack
from fathomx.graph.feedback import Feedback
from fathomx.graph.vector_space import Entries, zeros_like
from fathomx.problem.entry_energy import EntryEnergy
from fathomx.problem.problem import Problem

# A stack's reached part is computed rounded up to this many parts of its depth.
_PARTS = 4

# Derivatives in the parents that move, in the own activity, and the energy per example.
_Local = tuple[list[Array], Array, Array]
# Gradient of a stack's blocks, that of the block before from its own energy, energy per example.
_Carry = tuple[Array, Array, Array]


def constant_predictions(problem: Problem) -> Entries:
    """The predictions that inference cannot change: of nodes whose parents are all given."""
    network, given = problem.network, {*problem.given}
    known = {name: problem.clamps[name].value for name in given}
    return {
        entry.name: entry.predict(network.sources(entry, known, batch=problem.batch), None)
        for entry in network.bound()
        if entry.name in problem.free
        and not entry.batch_axis
        and {*network.parents[entry.name]} <= given
    }


def activity_gradient(
    problem: Problem,
    activities: Entries,
    constant: Entries,
    weights: Float[Array, " nodes"],
    step: Array,
    everywhere: bool = False,
) -> tuple[Entries, Float[Array, " batch"]]:
    """Gradient of `sum_l w_l F_l` in the free activities, and the energy `F` without weights.

    In step `step` of state descent from the feedforward pass the energies of nodes with a later
    arrival are zero, and so are their derivatives: they are not computed. From another start
    (`everywhere`) all are. `constant` holds the `constant_predictions` of the problem.

    A stack on a processor is computed block by block, from the first that is reached: small
    products in order are as fast there as many at once, and keep to the cache. On an accelerator
    its reached part, rounded up to quarters of the depth, is computed at once.
    """
    network = problem.network
    arrival = (0,) * len(network.labels) if everywhere else problem.arrivals
    when = by_entry(network, arrival)
    known = problem.inferred(activities)
    gradient = zeros_like(activities)
    energy = jnp.zeros(problem.batch, network.dtype)
    counted = {*problem.free, *problem.observed}
    begin = 0

    def add(name: str, more: Array) -> None:
        if name in gradient:
            gradient[name] = network.entry(name).add_to_end(gradient[name], more)

    for entry in network.bound():
        end = begin + entry.depth
        if entry.name in counted:
            part = _Part(
                problem.energy_of(entry),
                entry,
                tuple(name in gradient for name in network.parents[entry.name]),
                when[entry.name],
                weights[begin:end],
                step,
                constant.get(entry.name),
            )
            parents = network.parents[entry.name]
            if len(parents) == 1 and part.moving[0] and part.holds_still(gradient):
                (name,) = parents
                gradient[name], energies = network.entry(name).with_child(
                    *part.of_parent(known[entry.name]), gradient[name], known[name]
                )
            else:
                sources = network.sources(entry, known, batch=problem.batch)
                to_sources, to_own, energies = part.gradient(sources, known[entry.name])
                if entry.name in gradient:
                    gradient[entry.name] = gradient[entry.name] + to_own
                for parent, pulled in zip(parents, to_sources, strict=False):
                    add(parent, pulled)
            energy = energy + energies
        begin = end
    for feedback in network.feedbacks:
        end = begin + feedback.depth
        more, energies = _feedback_gradient(problem, feedback, known, weights[begin:end])
        gradient = {name: gradient[name] + more[name] for name in gradient}
        energy = energy + energies
        begin = end
    held = {n: c.mask for n, c in problem.clamps.items() if n in gradient}
    return {
        name: jnp.where(held[name], 0, array) if name in held else array
        for name, array in gradient.items()
    }, energy


def _feedback_gradient(
    problem: Problem, feedback: Feedback, known: Entries, weights: Float[Array, " rows"]
) -> tuple[Entries, Float[Array, " batch"]]:
    """Derivatives of a feedback's energy in the free activities, and the energy per example."""
    network, own = problem.network, problem.energy_of(feedback)

    def total(free: Entries) -> tuple[Array, Array]:
        every = known | free
        predicted = feedback.predict(network.feedback_sources(feedback, every))
        rows = own(network.target(feedback, every), predicted)
        return jnp.sum(weights[:, None].astype(rows.dtype) * rows), rows.sum(axis=0)

    found: tuple[Entries, Array] = jax.grad(total, has_aux=True)(problem.select(known))
    return found


class _Part(NamedTuple):
    """An entry, or the tail of a stack, in one step of inference."""

    energy: EntryEnergy
    entry: Entry
    moving: tuple[bool, ...]
    when: np.ndarray
    weights: Array
    step: Array
    prediction: Array | None

    def gradient(self, sources: list[Any], own: Array) -> _Local:
        """The derivatives, computed only where the signal has arrived."""
        entry = self.entry
        if not isinstance(entry, Stack):
            return self._at_once(sources, own)
        parts = entry.learned_function(), self.when, self.weights, self.energy
        rows, rest = entry.per_node(parts)
        whole, rest = eqx.partition(rest, eqx.is_array)
        function = entry.with_function

        def compute(first: Array, own: Array, rows: Any, whole: Any) -> Local:
            block, when, weights, energy = eqx.combine(rows, whole[0], rest)
            part = self._replace(
                entry=function(block).computed(entry.chain.within),
                energy=energy,
                moving=(True,),
                when=when,
                weights=weights,
                step=whole[1],
            )
            pulled, to_own, energies = part._alone(entry.chain.within, [first], own)
            return pulled[0], to_own, energies

        pulled, to_own, energies = entry.chain.locally(
            compute, sources[0], own, rows, (whole, self.step)
        )
        return [pulled], to_own, energies

    def holds_still(self, gradient: Entries) -> bool:
        """Whether it is a node that does not move: what its energy pulls at is its parents."""
        return self.entry.name not in gradient and not self.entry.batch_axis

    def of_parent(self, own: Array) -> tuple[Callable[[Array, Any], tuple[Array, Array]], Any]:
        """The derivative in a lone parent and the energy, as a function, and what it needs."""
        arrays, rest = eqx.partition((self, own), eqx.is_array)

        def compute(source: Array, arrays: Any) -> tuple[Array, Array]:
            part, own = eqx.combine(arrays, rest)
            (pulled,), _, energies = part.gradient([source], own)
            return pulled, energies

        return compute, arrays

    def _alone(self, chain: Chain, sources: list[Any], own: Array) -> _Local:
        """The derivatives of a stack whose rows are all here."""
        by_block = partial(self._by_block, chain)
        if jax.default_backend() == "cpu" or chain.in_order:
            return by_block(sources, own)
        found: _Local = jax.lax.platform_dependent(
            sources, own, cpu=by_block, default=self._at_once
        )
        return found

    def _by_block(self, chain: Chain, sources: list[Any], own: Array) -> _Local:
        depth = len(own)
        arrays, rest = eqx.partition(self.entry.learned_function(), eqx.is_array)

        def block(row: int | Array, source: Array) -> tuple[Array, Array, Array]:
            function = eqx.combine(jax.tree.map(lambda a: a[row], arrays), rest)
            energy = self.energy.node(row)

            def total(source: Array, own: Array) -> tuple[Array, Array]:
                energies = energy(own, chain.applied(function, source))[0]
                return self.weights[row] * energies.sum(), energies

            grad = jax.grad(total, argnums=(0, 1), has_aux=True)
            (to_source, to_own), energies = grad(source, own[row])
            return to_source, to_own, energies

        def body(row: Array, carry: _Carry) -> _Carry:
            gradient, before, energy = carry
            to_source, to_own, more = block(row, own[row - 1])
            return gradient.at[row - 1].set(before + to_source), to_own, energy + more

        none = jnp.zeros_like(own[0]), jnp.zeros(own.shape[1], own.dtype)
        counted = jnp.asarray(self.when) <= self.step
        first = jnp.where(counted.any(), jnp.argmax(counted), depth)
        to_source, to_own, energy = jax.lax.cond(
            first == 0, lambda: block(0, sources[0]), lambda: (jnp.zeros_like(sources[0]), *none)
        )
        gradient, to_own, energy = jax.lax.fori_loop(
            jnp.maximum(first, 1), depth, body, (jnp.zeros_like(own), to_own, energy)
        )
        pulled = to_source if self.moving[0] else jnp.zeros((), own.dtype)
        return [pulled], gradient.at[-1].set(to_own), energy

    def _at_once(self, sources: list[Any], own: Array) -> _Local:
        if not isinstance(self.when, np.ndarray):
            # The rows of one device among several: which these are is not known here.
            return self._everywhere(sources, own)
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

    def _everywhere(self, sources: list[Any], own: Array) -> _Local:
        counted = jnp.asarray(self.when) <= self.step
        weights = jnp.where(counted, self.weights, 0)
        moving = [s for s, moves in zip(sources, self.moving, strict=False) if moves]

        def total(moving: list[Array], own: Array) -> tuple[Array, Array]:
            found = iter(moving)
            moves = [*self.moving, *[False] * (len(sources) - len(self.moving))]
            given = [next(found) if m else s for s, m in zip(sources, moves, strict=True)]
            known = self.prediction
            predicted = self.entry.predict(given, own) if known is None else known
            energies = self.energy(own, predicted)
            weighted = weights.astype(energies.dtype)[:, None] * energies
            return weighted.sum(), jnp.where(counted[:, None], energies, 0).sum(axis=0)

        (pulled, to_own), energy = jax.grad(total, argnums=(0, 1), has_aux=True)(moving, own)
        found = iter(pulled)
        to_sources = [next(found) if moves else jnp.zeros((), own.dtype) for moves in self.moving]
        return to_sources, to_own, energy

    def _nowhere(self, start: int, sources: list[Any], own: Array) -> _Local:
        none = jnp.zeros((), own.dtype)
        pairs = zip(sources, self.moving, strict=False)
        to_sources = [jnp.zeros_like(s) if moves else none for s, moves in pairs]
        batch = own.shape[self.entry.batch_axis]
        return to_sources, jnp.zeros_like(own), jnp.zeros(batch, own.dtype)

    def _tail(self, start: int, sources: list[Any], own: Array) -> _Local:
        function = self.entry.learned_function()
        blocks = jax.tree.map(lambda a: a[start:] if eqx.is_array(a) else a, function)
        tail = self._replace(
            entry=self.entry.with_function(blocks),
            energy=self.energy.part(slice(start, None)),
            moving=(True,),
            when=self.when[start:],
            weights=self.weights[start:],
        )
        pulled, to_tail, energy = tail._everywhere([own[start - 1]], own[start:])
        to_sources, to_own, _ = self._nowhere(start, sources, own)
        to_own = to_own.at[start:].set(to_tail).at[start - 1].add(pulled[0])
        return to_sources, to_own, energy
