"""`Clamped`: which entries of a network hold a value, and what that makes of the others."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from fathomx import checks
from fathomx.checks import gate, shown
from fathomx.graph.arrival import arrivals, first_moves
from fathomx.graph.clamp import Clamp
from fathomx.graph.entries import Entry
from fathomx.graph.network import Network
from fathomx.graph.statistics import with_fields
from fathomx.problem.checks import check_roots, check_weights

Posed = TypeVar("Posed", bound="Clamped")


@gate
class Clamped(eqx.Module):
    """A network with values for some of its entries.

    Free are the entries that are inferred, in whole or in part; observed those that are clamped and
    have a prediction; given those that are clamped whole; explained is what the free entries have
    to explain, the observed entries and the feedbacks.

    **Fields**: `network`; `clamps`, an `fx.Clamp` by name; `weights`, how much each example counts
    in means over the batch, `None` where all count alike.
    """

    network: Network
    clamps: dict[str, Clamp]
    weights: Array | None
    _batch: int = eqx.field(static=True)

    @property
    def batch(self) -> int:
        """Number of examples."""
        for name, clamp in self.clamps.items():
            return int(clamp.value.shape[self.network.entry(name).batch_axis])
        return self._batch

    @property
    def input(self) -> Array:
        """The value of the first root; `AttributeError` if it is not clamped."""
        return self._value(self.network.roots[0])

    @property
    def target(self) -> Array:
        """The value of the output; `AttributeError` if it is not clamped."""
        return self._value(self.network.output)

    @property
    def positions(self) -> int:
        """How many predictions the output of an example holds: its tokens, or 1 for a vector."""
        return math.prod(self.network.output_shape[:-1])

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the entries that are inferred, in whole or in part."""
        return tuple(
            entry.name
            for entry in self.network.entries
            if entry.depth and entry.energy_is_gaussian and not self._whole(entry)
        )

    @property
    def observed(self) -> tuple[str, ...]:
        """Names of the entries that are clamped, in whole or in part, and have a prediction."""
        entries = self.network.entries
        return tuple(e.name for e in entries if e.name in self.clamps and not e.is_root)

    @property
    def explained(self) -> tuple[str, ...]:
        """Names of what the free entries have to explain: observed entries and feedbacks."""
        return (*self.observed, *(feedback.name for feedback in self.network.feedbacks))

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the entries that are clamped whole."""
        return tuple(entry.name for entry in self.network.entries if self._whole(entry))

    @property
    def arrivals(self) -> tuple[int, ...]:
        """`fx.arrivals` of this network with what is clamped here."""
        return arrivals(self.network, self.given, self.observed)

    @property
    def first_moves(self) -> tuple[int, ...]:
        """The step of state descent in which each node first moves."""
        return first_moves(self.network, self.given, self.observed)

    def with_network(self: Posed, network: Network) -> Posed:
        """The same problem with other weights."""
        changed: Posed = eqx.tree_at(lambda problem: problem.network, self, network)
        return changed

    def with_weights(self: Posed, weights: Any) -> Posed:
        """The same problem whose examples count in proportion to their weights.

            mean over the batch of v  =  sum_i w_i v_i / sum_i w_i

        A weight multiplies an example's part of the weights' gradient, of the energies and losses
        that are reported and of the strength that a rule holds; not its inference, since the minima
        of `w F` are those of `F`. So an example of weight 2 counts as if it were there twice, one
        of weight 0 as if it were not there. The statistics of batch normalization are those of all
        examples alike, and `fx.theory` knows no weights.

        **Arguments**: `weights`, `(batch,)`, at least 0 (looked at outside of `jax.jit`). Where all
        are 0, nothing is learned.

        Raises `ValueError` for another shape, negative and infinite weights.

        ```python
        problem = fx.Problem(network, x, y).with_weights(jnp.where(y == 3, 5.0, 1.0))
        ```
        """
        found = checks.array("weights", weights)
        if found.shape != (self.batch,):
            raise ValueError(
                f"weights have the shape {found.shape}, but the problem has {self.batch} examples; "
                "give one number for each."
            )
        if not checks.is_traced(found):
            check_weights(np.asarray(found))
        return with_fields(self, weights=found.astype(self.network.dtype))

    @property
    def shares(self) -> Float[Array, " batch"]:
        """The part that each example has in a mean over the batch; they sum to 1."""
        if self.weights is None:
            return jnp.full(self.batch, 1 / self.batch, self.network.dtype)
        total = self.weights.sum()
        return jnp.where(total > 0, self.weights / jnp.where(total > 0, total, 1), 0)

    def mean(self, values: Float[Array, "*rest batch"]) -> Float[Array, "*rest"]:
        """The mean over the batch, the last axis, each example by its weight."""
        if self.weights is None:
            return values.mean(axis=-1)
        return (values * self.shares.astype(values.dtype)).sum(axis=-1)

    def shared(self, values: Array, axis: int = 0) -> Array:
        """Each example's part of the mean over the batch, whose axis is `axis`."""
        if self.weights is None:
            return values / self.batch
        sides = [1] * values.ndim
        sides[axis] = self.batch
        return values * self.shares.astype(values.dtype).reshape(sides)

    def with_noise(self: Posed, key: PRNGKeyArray) -> Posed:
        """The same problem with keys for nodes that need noise, another for every example.

        `fx.Noise` that is clamped keeps its keys. A network without noise stays as it is.

        ```python
        relaxed = fx.infer(problem.with_noise(jax.random.key(0)), fx.GaussNewton())
        ```
        """
        drawn = self.network.drawn_noise(key, self.batch, self.clamps)
        return with_fields(self, clamps={**self.clamps, **drawn}) if drawn else self

    def examples(self: Posed, index: slice | np.ndarray | list[int]) -> Posed:
        """The same problem with some of its examples; `ValueError` where there are none."""
        try:
            chosen = np.arange(self.batch)[index]
            count = len(chosen) if chosen.ndim == 1 else 0
        except IndexError:
            count = 0
        if not count:
            raise ValueError(
                f"index {shown(index)} takes none of {self.batch} examples, or others; give "
                f"positions from 0 to {self.batch - 1}."
            )
        clamps = {}
        for name, clamp in self.clamps.items():
            axis = self.network.entry(name).batch_axis
            some = (slice(None),) * axis + (index,)
            mask = None if clamp.mask is None else clamp.mask[some]
            clamps[name] = Clamp(clamp.value[some], mask)
        weights = None if self.weights is None else self.weights[index]
        return with_fields(self, clamps=clamps, weights=weights, _batch=count)

    @property
    def clamp_axes(self) -> dict[str, Clamp]:
        """The batch axis of every array of `clamps`, as `jax.vmap` wants it."""
        axes = {name: self.network.entry(name).batch_axis for name in self.clamps}
        return {
            name: Clamp(axes[name], None if clamp.mask is None else axes[name])
            for name, clamp in self.clamps.items()
        }

    def alone(self: Posed, clamps: dict[str, Clamp]) -> Posed:
        """The problem of one example, from its clamps without the axis of the batch."""
        axes = self.clamp_axes
        one = jax.tree.map(lambda a, axis: jnp.expand_dims(a, axis), clamps, axes)
        return with_fields(self, clamps=one, weights=None, _batch=1)

    def with_batch_statistics(self: Posed) -> Posed:
        """The same problem on a network whose batch statistics are those of this input.

        They are taken at the feedforward pass and are constants from then on: inference does not
        move them, and examples do not interact. A network without batch normalization stays as it
        is; see `Network.with_batch_statistics` for the errors.

        ```python
        relaxed = fx.infer(problem.with_batch_statistics(), fx.GaussNewton())
        ```
        """
        network = self.network.with_batch_statistics(self.clamps, self.batch)
        return self if network is self.network else self.with_network(network)

    def is_read(self, name: str) -> bool:
        """Whether an entry has children, or is read or predicted by a feedback."""
        network = self.network
        counted = (*network.entries, *network.feedbacks)
        read = {parent for part in counted for parent in network.parents[part.name]}
        return name in read | {feedback.of for feedback in network.feedbacks}

    def _value(self, entry: Entry) -> Array:
        if entry.name not in self.clamps:
            raise AttributeError(f"{entry.name!r} is not clamped in this problem.")
        value: Array = self.clamps[entry.name].value
        return value

    def _whole(self, entry: Entry) -> bool:
        return entry.name in self.clamps and self.clamps[entry.name].whole

    def _check(self) -> None:
        network = self.network
        check_roots(network, self.clamps)
        for entry in network.entries:
            whole = self._whole(entry)
            if not entry.energy_is_gaussian and not whole and self.is_read(entry.name):
                raise ValueError(
                    f"{entry.name!r} has the energy {entry.energy} and is free, but others read "
                    "it; hidden nodes need a Gaussian energy, only what is clamped or read by "
                    "nobody may have another."
                )
        if not self.free:
            raise ValueError(
                "everything is clamped, so that nothing is left to infer; leave at least one "
                "hidden entry free."
            )
        if self.clamps and not self.explained:
            names = ", ".join(map(repr, self.clamps))
            raise ValueError(
                f"only {names} is clamped, which nothing predicts, so that there is nothing to "
                "explain; clamp an entry with a prediction as well, or use fx.predict."
            )
